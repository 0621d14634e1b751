/* Networks side by side: each lane of a vector has a network of its own. An array of one network is here one of
 * vectors, element by element; a lane goes through the operations of a network that trains alone, in their order, so
 * that it has its bits. Products with data that all networks share are gemm's, with their outputs next to each other.
 */

/* -- products: element (i, j) of C = start_j + Σ_p a(i, p) b(p, j), p in order, as gemm has it --------------------- */
#if defined(__AVX512F__)
#define LANE_M 4 /* 16 accumulators, 4 of b, 1 of a */
#else
#define LANE_M 2 /* 8, 4 and 1 of 16 registers */
#endif

/* Where operands lie: elements from one row of a or column of b to the next, and from one p to the next. */
typedef struct {
    ptrdiff_t k;
    const REAL *a;
    ptrdiff_t a_row, a_step;
    const REAL *b;
    ptrdiff_t b_column, b_step;
} FN(lane_factors);

FNN_INLINE void FN(lane_tile)(const int m, const int n, const FN(lane_factors) f, const REAL *bias, REAL *restrict c,
                              ptrdiff_t c_row)
{
    VEC acc[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
        const VEC start = bias ? FN(v_load)(bias + j * LANES) : FN(v_zero)();
#pragma GCC unroll 4
        for (int i = 0; i < m; i++)
            acc[i][j] = start;
    }
    const REAL *a = f.a, *b = f.b;
    for (ptrdiff_t p = 0; p < f.k; p++, a += f.a_step, b += f.b_step) {
        VEC column[4];
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            column[j] = FN(v_load)(b + j * f.b_column);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            const VEC row = FN(v_load)(a + i * f.a_row);
#pragma GCC unroll 4
            for (int j = 0; j < n; j++)
                acc[i][j] = FN(v_fma)(row, column[j], acc[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            FN(v_store)(c + i * c_row + j * LANES, acc[i][j]);
    }
}

#define LANE_COLUMNS_(M, N)                                                                          \
    {                                                                                                \
        FN(lane_factors) here = f;                                                                   \
        here.b += j * f.b_column;                                                                    \
        FN(lane_tile)(M, N, here, bias ? bias + j * LANES : NULL, c + j * LANES, n * LANES), j += N; \
    }
#define LANE_ROWS_(M)                                   \
    {                                                   \
        ptrdiff_t j = 0;                                \
        while (j + 4 <= n)                              \
            LANE_COLUMNS_(M, 4)                         \
        if (j + 2 <= n)                                 \
            LANE_COLUMNS_(M, 2)                         \
        if (j < n)                                      \
            LANE_COLUMNS_(M, 1)                         \
        m -= M, c += M * n * LANES, f.a += M * f.a_row; \
    }

void FN(lane_products)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, ptrdiff_t a_row, ptrdiff_t a_step,
                       const REAL *b, ptrdiff_t b_column, ptrdiff_t b_step, const REAL *bias, REAL *c)
{
    FN(lane_factors) f = {k, a, a_row * LANES, a_step * LANES, b, b_column * LANES, b_step * LANES};
    while (m >= LANE_M)
        LANE_ROWS_(LANE_M)
#if LANE_M > 2
    if (m >= 2)
        LANE_ROWS_(2)
#endif
    if (m)
        LANE_ROWS_(1)
}

FNN_INLINE VEC FN(lane_gated)(const REAL *gate, REAL *x, ptrdiff_t at)
{
    const VEC kept = FN(v_where_positive)(FN(v_load)(gate + at), FN(v_load)(x + at));
    FN(v_store)(x + at, kept);
    return kept;
}

/* What gemm_relu does behind a gate: by panels of columns, and in each by tiles of rows. */
void FN(lane_gate)(ptrdiff_t rows, ptrdiff_t cols, const REAL *gate, REAL *x, REAL *sums)
{
    for (ptrdiff_t jc = 0, width; jc < cols; jc += width) {
        width = FN(gemm_width)(cols, jc, FNN_GEMM_VECTORS);
        const ptrdiff_t highest = FN(gemm_tile_rows)((int)((width + LANES - 1) / LANES));
        for (ptrdiff_t i = 0, height; i < rows; i += height) {
            const ptrdiff_t left = rows - i;
            height = left >= highest ? highest : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            for (ptrdiff_t j = jc; j < jc + width; j++) {
                VEC sum = FN(lane_gated)(gate, x, (i * cols + j) * LANES);
                for (ptrdiff_t t = 1; t < height; t++)
                    sum = sum + FN(lane_gated)(gate, x, ((i + t) * cols + j) * LANES);
                if (sums)
                    FN(v_store)(sums + j * LANES, sum + FN(v_load)(sums + j * LANES));
            }
        }
    }
}

/* -- loss ---------------------------------------------------------------------------------------------------------- */

/* A row of cross_entropy_columns: δ, and what the row adds to the loss and to the hits. */
FNN_INLINE void FN(lane_entropy_row)(ptrdiff_t cols, const REAL *restrict z, ptrdiff_t y, double *restrict loss,
                                     double *restrict right, REAL *restrict delta)
{
    REAL top[LANES], sum[LANES], best[LANES], inverse[LANES];
    for (int l = 0; l < LANES; l++) {
        top[l] = z[l];
        best[l] = -1;
        sum[l] = 0;
    }
    for (ptrdiff_t j = 1; j < cols; j++)
        for (int l = 0; l < LANES; l++)
            top[l] = z[j * LANES + l] > top[l] ? z[j * LANES + l] : top[l];
    for (ptrdiff_t j = cols - 1; j >= 0; j--)
        for (int l = 0; l < LANES; l++)
            best[l] = z[j * LANES + l] == top[l] ? (REAL)j : best[l];
    for (ptrdiff_t j = 0; j < cols; j++)
        for (int l = 0; l < LANES; l++) {
            const REAL e = FN(m_exp)(z[j * LANES + l] - top[l]);
            delta[j * LANES + l] = e;
            sum[l] += e;
        }
    for (int l = 0; l < LANES; l++)
        inverse[l] = 1 / sum[l];
    for (ptrdiff_t j = 0; j < cols; j++)
        for (int l = 0; l < LANES; l++)
            delta[j * LANES + l] *= inverse[l];
    for (int l = 0; l < LANES; l++) {
        delta[y * LANES + l] -= 1;
        const double depth = (double)top[l] - (double)z[y * LANES + l];
        loss[l] += (double)FN(m_log)(sum[l]) + depth;
        right[l] += best[l] == (REAL)y ? 1.0 : 0.0;
    }
}

void FN(lane_cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels, double *loss,
                            double *correct, REAL *delta)
{
    for (ptrdiff_t r = 0; r < rows; r += BLOCK_ROWS) {
        const ptrdiff_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        double part[8][LANES] = {{0}}, right[LANES] = {0}, total[LANES] = {0};
        for (ptrdiff_t i = 0; i < block; i++) {
            const ptrdiff_t at = (r + i) * cols * LANES;
            FN(lane_entropy_row)(cols, z + at, (ptrdiff_t)labels[r + i], part[i % 8], right, delta + at);
        }
        for (int t = 0; t < 8; t++)
            for (int l = 0; l < LANES; l++)
                total[l] += part[t][l];
        for (int l = 0; l < LANES; l++) {
            loss[l] += total[l];
            correct[l] += right[l];
        }
    }
}

/* -- update rules, as in optim_body.h ------------------------------------------------------------------------------ */

void FN(lane_squares)(ptrdiff_t n, const REAL *theta, double *squares)
{
    enum { PARTS = 32 }; /* of penalty */
    double sq[PARTS][LANES] = {{0}};
    const ptrdiff_t whole = n / PARTS * PARTS;
    for (ptrdiff_t i = 0; i < whole; i++) {
        double *part = sq[i % PARTS];
        for (int l = 0; l < LANES; l++)
            part[l] += (double)theta[i * LANES + l] * (double)theta[i * LANES + l];
    }
    for (int l = 0; l < LANES; l++)
        squares[l] = 0;
    for (ptrdiff_t i = whole; i < n; i++)
        for (int l = 0; l < LANES; l++)
            squares[l] += (double)theta[i * LANES + l] * (double)theta[i * LANES + l];
    for (int j = 0; j < PARTS; j++)
        for (int l = 0; l < LANES; l++)
            squares[l] += sq[j][l];
}

/* The numbers of a step in the loops' type. */
typedef struct {
    REAL scale, eta[LANES], l2[LANES], has_l2[LANES], momentum[LANES];
    REAL root[LANES], b1[LANES], mix1[LANES], b2[LANES], mix2[LANES], eps[LANES], keep[LANES];
} FN(lane_constants);

FNN_INLINE FN(lane_constants) FN(lane_constants_of)(int adam, const fnn_lane_step *s, int penalised)
{
    FN(lane_constants) c;
    c.scale = (REAL)s->scale;
    for (int l = 0; l < LANES; l++) {
        c.eta[l] = (REAL)(adam ? s->rate[l] / s->bias1[l] : s->rate[l]);
        c.l2[l] = (REAL)s->l2[l];
        c.has_l2[l] = penalised && s->l2[l] != 0;
        c.momentum[l] = (REAL)s->momentum[l];
    }
    for (int l = 0; adam && l < LANES; l++) {
        const double epsilon = s->epsilon_hat ? s->epsilon[l] / sqrt(s->bias2[l]) : s->epsilon[l];
        c.root[l] = (REAL)(1 / sqrt(s->bias2[l]));
        c.b1[l] = (REAL)s->beta1[l];
        c.mix1[l] = (REAL)(1 - s->beta1[l]);
        c.b2[l] = (REAL)s->beta2[l];
        c.mix2[l] = (REAL)(1 - s->beta2[l]);
        c.eps[l] = FN(epsilon_of)(epsilon);
        c.keep[l] = (REAL)(1 - s->rate[l] * (penalised ? s->decay[l] : 0));
    }
    return c;
}

/* effective_gradient without terms, or with l2 alone */
FNN_INLINE REAL FN(lane_gradient)(const FN(lane_constants) *restrict c, int l, REAL theta, REAL g)
{
    g *= c->scale;
    return c->has_l2[l] != 0 ? g + c->l2[l] * theta : g;
}

static void FN(lane_sgd)(ptrdiff_t n, const FN(lane_constants) *restrict c, int nesterov, const REAL *restrict g,
                         REAL *restrict theta, REAL *restrict velocity)
{
    if (!velocity) {
        for (ptrdiff_t i = 0; i < n * LANES; i += LANES)
            for (int l = 0; l < LANES; l++)
                theta[i + l] = theta[i + l] - c->eta[l] * FN(lane_gradient)(c, l, theta[i + l], g[i + l]);
        return;
    }
    for (ptrdiff_t i = 0; i < n * LANES; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const REAL gr = FN(lane_gradient)(c, l, theta[i + l], g[i + l]);
            const REAL v = c->momentum[l] * velocity[i + l] - c->eta[l] * gr;
            velocity[i + l] = v;
            if (nesterov)
                theta[i + l] += c->momentum[l] * v - c->eta[l] * gr;
            else
                theta[i + l] = theta[i + l] + v;
        }
}

static void FN(lane_adam)(ptrdiff_t n, const FN(lane_constants) *restrict c, const REAL *restrict g,
                          REAL *restrict theta, REAL *restrict m, REAL *restrict v)
{
    for (ptrdiff_t i = 0; i < n * LANES; i += LANES) {
        REAL q[LANES], x[LANES];
        for (int l = 0; l < LANES; l++) {
            const REAL gr = FN(lane_gradient)(c, l, theta[i + l], g[i + l]);
            m[i + l] = c->b1[l] * m[i + l] + c->mix1[l] * gr;
            v[i + l] = c->b2[l] * v[i + l] + c->mix2[l] * (gr * gr);
            x[l] = c->eta[l] * m[i + l];
            q[l] = v[i + l];
        }
#if defined(__AVX512F__)
        FN(roots)(q);
#else
        for (int l = 0; l < LANES; l++)
            FN(roots)(q + l);
#endif
        const VEC divisor = FN(v_fma)(FN(v_load)(q), FN(v_load)(c->root), FN(v_load)(c->eps));
        FN(v_store)(theta + i, FN(v_load)(c->keep) * FN(v_load)(theta + i) - FN(v_load)(x) / divisor);
    }
}

void FN(lane_update)(const fnn_lane_step *step, int penalised, ptrdiff_t n, const REAL *g, REAL *theta, REAL *first,
                     REAL *second)
{
    const FN(lane_constants) c = FN(lane_constants_of)(step->adam, step, penalised);
    if (step->adam)
        FN(lane_adam)(n, &c, g, theta, first, second);
    else
        FN(lane_sgd)(n, &c, step->nesterov, g, theta, first);
}

#undef LANE_M
#undef LANE_COLUMNS_
#undef LANE_ROWS_
