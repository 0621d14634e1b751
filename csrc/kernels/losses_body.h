/* Losses with their derivative with respect to the network's output, fused: one read of z gives ℓ and δ.
 *
 *     cross_entropy         ℓ = Σ_j y_j (log Σ_k exp z_k − z_j)          δ = (Σ_j y_j) p − y
 *     binary_cross_entropy  ℓ = Σ_j max(z_j, 0) − z_j y_j + log(1 + exp(−|z_j|))      δ = σ(z) − y
 *     squared_error         ℓ = ½ Σ_j (z_j − y_j)²                       δ = z − y
 *     absolute_error        ℓ = Σ_j |z_j − y_j|                          δ = sign(z − y), 0 at 0
 *     huber                 ℓ = Σ_j c_j (z_j − y_j − ½ c_j)              δ = c = z − y clipped to ±1
 *     poisson               ℓ = Σ_j exp z_j − y_j z_j                    δ = exp z − y
 *
 * (softmax, sigmoid and exp are inside; y of both cross-entropies is smoothed, see `loss` in kernel_list.h). Sums over
 * rows accumulate in double. Both ℓ and δ carry the row's weight. The functions of a loss are <name> and, with q of
 * ∂²ℓ/∂z² = diag(q) or, where outputs are coupled, diag(q) − q qᵀ, <name>_curvature:
 *
 *     cross_entropy         q = p                           binary_cross_entropy  s (1 − s), s = σ(z)
 *     squared_error         1                               huber                 1 where |z − y| ≤ 1, else 0
 *     poisson               exp z                           absolute_error        0, where it is defined
 */

/* What a loss is given; see `loss` in kernel_list.h. */
typedef struct {
    ptrdiff_t rows, cols;
    const REAL *z;
    const int64_t *labels;
    const REAL *target, *weight;
    double smoothing;
    double *correct;
    REAL *delta;
} FN(loss_view);

/* Ties go to the first maximum: whether no column before y equals z[y]. */
FNN_INLINE int FN(first_at)(const REAL *z, ptrdiff_t y)
{
    for (ptrdiff_t j = 0; j < y; j++)
        if (z[j] == z[y])
            return 0;
    return 1;
}

/* Σ_j top − z_j: terms of one sign, summed in double, so that distant logits neither cancel nor overflow. */
FNN_INLINE double FN(row_depth)(ptrdiff_t cols, const REAL *z, REAL top)
{
    double part[8] = {0}, sum = 0;
    ptrdiff_t j = 0;
    for (; j + 8 <= cols; j += 8)
        for (int t = 0; t < 8; t++)
            part[t] += (double)top - (double)z[j + t];
    for (int t = 0; t < 8; t++)
        sum += part[t];
    for (; j < cols; j++)
        sum += (double)top - (double)z[j];
    return sum;
}

/* Columns up to which a block of rows is transposed, so that its maxima, exponentials and sums run over the rows. */
#define FEW_COLS FNN_LANE_CLASSES

/* e[j, i] = x[i, j], of rows BLOCK_ROWS apart; what lies beyond the last row, up to a whole vector, is 0. */
FNN_INLINE void FN(transpose_in)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, REAL *e)
{
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        for (ptrdiff_t j = 0; j < cols; j += LANES) {
            const int width = cols - j < LANES ? (int)(cols - j) : LANES;
            VEC block[LANES];
#pragma GCC unroll 16
            for (int t = 0; t < LANES; t++)
                block[t] = i + t < rows ? FN(v_load_n)(x + (i + t) * cols + j, width) : FN(v_zero)();
            FN(v_transpose)(block);
#pragma GCC unroll 16
            for (int t = 0; t < LANES; t++)
                if (t < width)
                    FN(v_store)(e + (j + t) * BLOCK_ROWS + i, block[t]);
        }
    }
}

/* x[i, j] = e[j, i]. */
FNN_INLINE void FN(transpose_out)(ptrdiff_t rows, ptrdiff_t cols, const REAL *e, REAL *x)
{
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        for (ptrdiff_t j = 0; j < cols; j += LANES) {
            const int width = cols - j < LANES ? (int)(cols - j) : LANES;
            VEC block[LANES];
#pragma GCC unroll 16
            for (int t = 0; t < LANES; t++)
                block[t] = t < width ? FN(v_load)(e + (j + t) * BLOCK_ROWS + i) : FN(v_zero)();
            FN(v_transpose)(block);
#pragma GCC unroll 16
            for (int t = 0; t < LANES; t++)
                if (i + t < rows)
                    FN(v_store_n)(x + (i + t) * cols + j, block[t], width);
        }
    }
}

/* e = exp(z − max), as exp_shifted, but by column; best: the first column that has the maximum. */
FNN_INLINE void FN(exp_columns)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *e, REAL *top, REAL *sum,
                                REAL *best)
{
    const ptrdiff_t n = (rows + LANES - 1) / LANES * LANES;
    FN(transpose_in)(rows, cols, z, e);
    for (ptrdiff_t i = 0; i < n; i++) {
        top[i] = e[i];
        best[i] = -1; /* of a NaN there is no best */
        sum[i] = 0;
    }
    for (ptrdiff_t j = 1; j < cols; j++) {
        const REAL *x = e + j * BLOCK_ROWS;
        for (ptrdiff_t i = 0; i < n; i++)
            top[i] = x[i] > top[i] ? x[i] : top[i];
    }
    for (ptrdiff_t j = cols - 1; j >= 0; j--) {
        const REAL *x = e + j * BLOCK_ROWS;
        for (ptrdiff_t i = 0; i < n; i++)
            best[i] = x[i] == top[i] ? (REAL)j : best[i];
    }
    for (ptrdiff_t j = 0; j < cols; j++) {
        REAL *x = e + j * BLOCK_ROWS;
        for (ptrdiff_t i = 0; i < n; i++) {
            x[i] = FN(m_exp)(x[i] - top[i]);
            sum[i] += x[i];
        }
    }
}

/* cross_entropy of up to BLOCK_ROWS rows with labels, by column. Returns Σ w ℓ and adds to the hits. */
FNN_INLINE double FN(cross_entropy_columns)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels,
                                            const REAL *weight, double own, double share, double *hits, REAL *delta)
{
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS], best[BLOCK_ROWS], e[FEW_COLS * BLOCK_ROWS];
    REAL w[BLOCK_ROWS], hit[BLOCK_ROWS];
    double depth[BLOCK_ROWS], loss[8] = {0}, right[8] = {0}, total = 0;
    FN(exp_columns)(rows, cols, z, e, top, sum, best);
    for (ptrdiff_t i = 0; i < rows; i++) {
        const ptrdiff_t y = (ptrdiff_t)labels[i];
        w[i] = weight ? weight[i] : 1;
        depth[i] = (double)top[i] - (double)z[i * cols + y];
        hit[i] = best[i] == (REAL)y ? w[i] : 0;
    }
    for (ptrdiff_t j = 0; j < cols; j++) {
        REAL *x = e + j * BLOCK_ROWS;
        for (ptrdiff_t i = 0; i < rows; i++)
            x[i] = x[i] * (w[i] / sum[i]) - w[i] * (REAL)share;
    }
    for (ptrdiff_t i = 0; i < rows; i++)
        e[labels[i] * BLOCK_ROWS + i] -= w[i] * (REAL)own;
    FN(transpose_out)(rows, cols, e, delta);
    for (ptrdiff_t i = 0; i < rows; i++)
        sum[i] = FN(m_log)(sum[i]);
    for (ptrdiff_t i = 0; i < rows; i += 8)
        for (ptrdiff_t t = 0; t < 8 && i + t < rows; t++) {
            loss[t] += (double)w[i + t] * ((double)sum[i + t] + own * depth[i + t]);
            right[t] += (double)hit[i + t];
        }
    for (int t = 0; t < 8; t++) {
        total += loss[t];
        *hits += right[t];
    }
    if (share != 0)
        for (ptrdiff_t i = 0; i < rows; i++)
            total += (double)w[i] * share * FN(row_depth)(cols, z + i * cols, top[i]);
    return total;
}

/* What cross_entropy knows of a block of up to BLOCK_ROWS rows: their first rows, weights (NULL: ones), maxima of z, Σ
 * exp (z − max) and its logarithm; y' = own y + share. */
typedef struct {
    ptrdiff_t rows, cols;
    const REAL *z, *weight;
    const REAL *top, *sum, *log_sum;
    double own, share;
    REAL *delta; /* exp(z − max), and δ in the end */
} FN(entropy_block);

/* The block's rows with labels. Returns loss + Σ w ℓ, summed row by row, and adds to the hits. */
FNN_INLINE double FN(cross_entropy_labels)(const FN(entropy_block) b, const int64_t *labels, double loss, double *hits)
{
    const REAL own = (REAL)b.own, share = (REAL)b.share;
    for (ptrdiff_t i = 0; i < b.rows; i++) {
        const REAL *z = b.z + i * b.cols;
        REAL *d = b.delta + i * b.cols;
        const ptrdiff_t y = (ptrdiff_t)labels[i];
        const REAL w = b.weight ? b.weight[i] : 1, inverse = w / b.sum[i], spread = w * share;
        double li = (double)b.log_sum[i] + b.own * ((double)b.top[i] - (double)z[y]);
        if (b.share != 0)
            li += b.share * FN(row_depth)(b.cols, z, b.top[i]);
        loss += (double)w * li;
        for (ptrdiff_t j = 0; j < b.cols; j++)
            d[j] = d[j] * inverse - spread;
        d[y] -= w * own;
        *hits += z[y] >= b.top[i] && FN(first_at)(z, y) ? (double)w : 0;
    }
    return loss;
}

/* The same with rows of targets; hits are counted if `count`. */
FNN_INLINE double FN(cross_entropy_soft)(const FN(entropy_block) b, const REAL *target, double smoothing, int count,
                                         double loss, double *hits)
{
    const REAL own = (REAL)b.own, share = (REAL)b.share;
    for (ptrdiff_t i = 0; i < b.rows; i++) {
        const REAL *z = b.z + i * b.cols, *y = target + i * b.cols;
        REAL *d = b.delta + i * b.cols;
        const REAL w = b.weight ? b.weight[i] : 1, mass = own * FN(row_sum)(b.cols, y) + (REAL)smoothing;
        const REAL inverse = w * mass / b.sum[i], kept = w * own, spread = w * share;
        double distance = 0, li = (double)mass * (double)b.log_sum[i];
        for (ptrdiff_t j = 0; j < b.cols; j++) /* a zero target takes no part, however far away its logit */
            distance += y[j] != 0 ? (double)y[j] * ((double)b.top[i] - (double)z[j]) : 0;
        li += b.own * distance;
        if (b.share != 0)
            li += b.share * FN(row_depth)(b.cols, z, b.top[i]);
        loss += (double)w * li;
        for (ptrdiff_t j = 0; j < b.cols; j++)
            d[j] = inverse * d[j] - kept * y[j] - spread;
        if (count) {
            ptrdiff_t best = 0;
            for (ptrdiff_t j = 1; j < b.cols; j++)
                best = y[j] > y[best] ? j : best;
            *hits += z[best] >= b.top[i] && FN(first_at)(z, best) ? (double)w : 0;
        }
    }
    return loss;
}

static double FN(cross_entropy)(const FN(loss_view) * v)
{
    const ptrdiff_t rows = v->rows, cols = v->cols;
    const REAL *restrict z = v->z, *restrict target = v->target, *restrict weight = v->weight;
    REAL *restrict delta = v->delta;
    const int64_t *restrict labels = v->labels;
    const double smoothing = v->smoothing;
    double *correct = v->correct;
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS], log_sum[BLOCK_ROWS];
    const double own = 1 - smoothing, share = smoothing / (double)cols;
    double loss = 0, hits = 0;
    for (ptrdiff_t r = 0; r < rows; r += BLOCK_ROWS) {
        const ptrdiff_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        const REAL *zb = z + r * cols, *w = weight ? weight + r : NULL;
        REAL *d = delta + r * cols;
        if (labels && cols <= FEW_COLS) {
            loss += FN(cross_entropy_columns)(block, cols, zb, labels + r, w, own, share, &hits, d);
            continue;
        }
        FN(exp_shifted)(block, cols, zb, d, top, sum);
        for (ptrdiff_t i = 0; i < block; i++)
            log_sum[i] = FN(m_log)(sum[i]);
        const FN(entropy_block) b = {block, cols, zb, w, top, sum, log_sum, own, share, d};
        loss = labels ? FN(cross_entropy_labels)(b, labels + r, loss, &hits)
                      : FN(cross_entropy_soft)(b, target + r * cols, smoothing, correct != NULL, loss, &hits);
    }
    if (correct)
        *correct += hits;
    return loss;
}

static double FN(binary_cross_entropy)(const FN(loss_view) * v)
{
    const ptrdiff_t rows = v->rows, cols = v->cols;
    const REAL *restrict z = v->z, *restrict target = v->target, *restrict weight = v->weight;
    REAL *restrict delta = v->delta;
    double *correct = v->correct;
    const REAL keep = (REAL)(1 - v->smoothing), half = (REAL)(v->smoothing / 2);
    enum { CHUNK = 256 };
    REAL term[CHUNK];
    double loss = 0, row_loss = 0;
    double hits = 0;
    ptrdiff_t row = 0, col = 0;
    int right = 1;
    /* flat chunks, so that a single output fills the vectors; the rows are told apart in the second loop */
    for (ptrdiff_t f = 0; f < rows * cols; f += CHUNK) {
        ptrdiff_t n = rows * cols - f < CHUNK ? rows * cols - f : CHUNK;
        const REAL *zf = z + f, *yf = target + f;
        REAL *df = delta + f;
        for (ptrdiff_t j = 0; j < n; j++) {
            REAL x = zf[j], e = FN(m_exp)(-FN(m_abs)(x)), inverse = 1 / (1 + e), y = keep * yf[j] + half;
            term[j] = (x > 0 ? x : 0) - x * y + FN(m_log1p)(e);
            df[j] = (x >= 0 ? inverse : e * inverse) - y;
        }
        for (ptrdiff_t j = 0; j < n; j++) {
            REAL wi = weight ? weight[row] : 1;
            row_loss += (double)term[j];
            df[j] *= wi;
            right &= (zf[j] > 0) == (yf[j] > (REAL)0.5);
            if (++col == cols) {
                loss += (double)wi * row_loss;
                hits += right ? (double)wi : 0;
                row++, col = 0, row_loss = 0, right = 1;
            }
        }
    }
    if (correct)
        *correct += hits;
    return loss;
}

/* ℓ = Σ_j TERM and δ = w SLOPE, of d = z_j − y_j. Eight partial sums: a fixed order that vectorises. */
#define DIFFERENCE_TERM_(SUM, SLOPE, TERM)     \
    {                                          \
        REAL d = zi[j] - yi[j], slope = SLOPE; \
        SUM += TERM;                           \
        di[j] = wi * slope;                    \
    }
#define DIFFERENCE_LOSS(name, SLOPE, TERM)                                                         \
    static double FN(name)(const FN(loss_view) * v)                                                \
    {                                                                                              \
        const ptrdiff_t rows = v->rows, cols = v->cols;                                            \
        const REAL *restrict z = v->z, *restrict target = v->target, *restrict weight = v->weight; \
        REAL *restrict delta = v->delta;                                                           \
        double loss = 0;                                                                           \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                     \
            const REAL *zi = z + i * cols, *yi = target + i * cols;                                \
            REAL *di = delta + i * cols;                                                           \
            REAL wi = weight ? weight[i] : 1;                                                      \
            double part[8] = {0}, li = 0;                                                          \
            ptrdiff_t j = 0;                                                                       \
            for (ptrdiff_t end = cols / 8 * 8; j < end;)                                           \
                for (int t = 0; t < 8; t++, j++)                                                   \
                    DIFFERENCE_TERM_(part[t], SLOPE, TERM)                                         \
            for (; j < cols; j++)                                                                  \
                DIFFERENCE_TERM_(li, SLOPE, TERM)                                                  \
            for (int t = 0; t < 8; t++)                                                            \
                li += part[t];                                                                     \
            loss += (double)wi * li;                                                               \
        }                                                                                          \
        return loss;                                                                               \
    }

DIFFERENCE_LOSS(squared_error, d, 0.5 * (double)d * (double)d)
DIFFERENCE_LOSS(absolute_error, (REAL)((d > 0) - (d < 0)), fabs((double)d))
DIFFERENCE_LOSS(huber, FN(m_at_most)(FN(m_at_least)(d, -1), 1), (double)slope *((double)d - 0.5 * (double)slope))
#undef DIFFERENCE_LOSS
#undef DIFFERENCE_TERM_

static double FN(poisson)(const FN(loss_view) * v)
{
    const ptrdiff_t rows = v->rows, cols = v->cols;
    const REAL *restrict z = v->z, *restrict target = v->target, *restrict weight = v->weight;
    REAL *restrict delta = v->delta;
    enum { CHUNK = 256 };
    double loss = 0, row_loss = 0;
    ptrdiff_t row = 0, col = 0;
    for (ptrdiff_t f = 0; f < rows * cols; f += CHUNK) {
        ptrdiff_t n = rows * cols - f < CHUNK ? rows * cols - f : CHUNK;
        const REAL *zf = z + f, *yf = target + f;
        REAL *df = delta + f;
        for (ptrdiff_t j = 0; j < n; j++)
            df[j] = FN(m_exp)(zf[j]);
        for (ptrdiff_t j = 0; j < n; j++) {
            REAL wi = weight ? weight[row] : 1;
            row_loss += (double)df[j] - (double)yf[j] * (double)zf[j];
            df[j] = wi != 0 ? wi * (df[j] - yf[j]) : 0;
            if (++col == cols) {
                loss += wi != 0 ? (double)wi * row_loss : 0;
                row++, col = 0, row_loss = 0;
            }
        }
    }
    return loss;
}

static void FN(cross_entropy_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    FN(softmax)(v->rows, v->cols, v->z, q);
}

static void FN(binary_cross_entropy_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    const ptrdiff_t n = v->rows * v->cols;
    const REAL *restrict z = v->z;
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL e = FN(m_exp)(-FN(m_abs)(z[i])), w = 1 + e;
        q[i] = e / (w * w);
    }
}

static void FN(squared_error_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    const ptrdiff_t n = v->rows * v->cols;
    for (ptrdiff_t i = 0; i < n; i++)
        q[i] = 1;
}

static void FN(absolute_error_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    const ptrdiff_t n = v->rows * v->cols;
    for (ptrdiff_t i = 0; i < n; i++)
        q[i] = 0;
}

static void FN(huber_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    const ptrdiff_t n = v->rows * v->cols;
    const REAL *restrict z = v->z, *restrict target = v->target;
    for (ptrdiff_t i = 0; i < n; i++)
        q[i] = FN(m_abs)(z[i] - target[i]) <= 1 ? (REAL)1 : (REAL)0;
}

static void FN(poisson_curvature)(const FN(loss_view) * v, REAL *restrict q)
{
    const ptrdiff_t n = v->rows * v->cols;
    const REAL *restrict z = v->z;
    for (ptrdiff_t i = 0; i < n; i++)
        q[i] = FN(m_exp)(z[i]);
}

double FN(loss)(int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels, const REAL *target,
                const REAL *weight, double smoothing, double *correct, REAL *delta)
{
#define LOSS(CODE, name, elementwise, coupled) FN(name),
    static double (*const functions[])(const FN(loss_view) *) = {
#include "kernels/loss_list.h"
    };
#undef LOSS
    const FN(loss_view) v = {rows, cols, z, labels, target, weight, smoothing, correct, delta};
    return functions[kind](&v);
}

void FN(loss_curvature)(int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *target, REAL *q)
{
#define LOSS(CODE, name, elementwise, coupled) FN(name##_curvature),
    static void (*const functions[])(const FN(loss_view) *, REAL *) = {
#include "kernels/loss_list.h"
    };
#undef LOSS
    const FN(loss_view) v = {.rows = rows, .cols = cols, .z = z, .target = target};
    functions[kind](&v, q);
}

void FN(loss_tangent)(int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *q, const REAL *weight, const REAL *v,
                      REAL *out)
{
    const int coupled = fnn_loss_is_coupled(kind);
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *qi = q + i * cols, *vi = v + i * cols, w = weight ? weight[i] : 1;
        REAL *oi = out + i * cols, mean = 0;
        if (coupled)
            for (ptrdiff_t j = 0; j < cols; j++)
                mean += qi[j] * vi[j];
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            oi[j] = w * (qi[j] * (vi[j] - mean));
    }
}

void FN(outer_tangent)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *weight, const REAL *v, REAL *out)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *di = delta + i * cols, *vi = v + i * cols;
        REAL *oi = out + i * cols, dot = 0;
        for (ptrdiff_t j = 0; j < cols; j++)
            dot += di[j] * vi[j];
        if (weight)
            dot = weight[i] != 0 ? dot / weight[i] : 0;
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            oi[j] = di[j] * dot;
    }
}

#undef FEW_COLS
