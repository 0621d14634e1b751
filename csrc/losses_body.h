/* Losses with their derivative with respect to the network's output, fused: one read of z gives ℓ and δ.
 *
 *     cross_entropy         ℓ = Σ_j y_j (log Σ_k exp z_k − z_j)          δ = (Σ_j y_j) p − y
 *     binary_cross_entropy  ℓ = Σ_j max(z_j, 0) − z_j y_j + log(1 + exp(−|z_j|))      δ = σ(z) − y
 *     squared_error         ℓ = ½ Σ_j (z_j − y_j)²                       δ = z − y
 *     absolute_error        ℓ = Σ_j |z_j − y_j|                          δ = sign(z − y), 0 at 0
 *     huber                 ℓ = Σ_j c_j (z_j − y_j − ½ c_j)              δ = c = z − y clipped to ±1
 *     poisson               ℓ = Σ_j exp z_j − y_j z_j                    δ = exp z − y
 *
 * (softmax, sigmoid and exp are inside). Sums over rows accumulate in double. Both ℓ and δ carry the row's weight.
 */

/* Of equal logits the first is the prediction: whether none before column y equals it. */
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

double FN(cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const int64_t *restrict labels,
                         const REAL *restrict target, const REAL *restrict weight, double smoothing, double *correct,
                         REAL *restrict delta)
{
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS], log_sum[BLOCK_ROWS];
    /* of a target, and of every class: y' = own y + share */
    const double own = 1 - smoothing, share = smoothing / (double)cols;
    const REAL own_r = (REAL)own, share_r = (REAL)share;
    double loss = 0;
    double hits = 0;
    for (ptrdiff_t r = 0; r < rows; r += BLOCK_ROWS) {
        ptrdiff_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        const REAL *zb = z + r * cols, *w = weight ? weight + r : NULL;
        REAL *d = delta + r * cols;
        FN(exp_shifted)(block, cols, zb, d, top, sum);
        for (ptrdiff_t i = 0; i < block; i++)
            log_sum[i] = FN(m_log)(sum[i]);
        if (labels) {
            for (ptrdiff_t i = 0; i < block; i++) {
                const REAL *zi = zb + i * cols;
                REAL *di = d + i * cols;
                ptrdiff_t y = (ptrdiff_t)labels[r + i];
                REAL wi = w ? w[i] : 1, inverse = wi / sum[i], spread = wi * share_r;
                double li = (double)log_sum[i] + own * ((double)top[i] - (double)zi[y]);
                if (smoothing != 0)
                    li += share * FN(row_depth)(cols, zi, top[i]);
                loss += (double)wi * li;
                for (ptrdiff_t j = 0; j < cols; j++)
                    di[j] = di[j] * inverse - spread;
                di[y] -= wi * own_r;
                hits += zi[y] >= top[i] && FN(first_at)(zi, y) ? (double)wi : 0;
            }
        } else {
            for (ptrdiff_t i = 0; i < block; i++) {
                const REAL *zi = zb + i * cols, *yi = target + (r + i) * cols;
                REAL *di = d + i * cols;
                REAL wi = w ? w[i] : 1, mass = own_r * FN(row_sum)(cols, yi) + (REAL)smoothing;
                REAL inverse = wi * mass / sum[i], kept = wi * own_r, spread = wi * share_r;
                double distance = 0, li = (double)mass * (double)log_sum[i];
                for (ptrdiff_t j = 0; j < cols; j++) /* a zero target takes no part, however far away its logit */
                    distance += yi[j] != 0 ? (double)yi[j] * ((double)top[i] - (double)zi[j]) : 0;
                li += own * distance;
                if (smoothing != 0)
                    li += share * FN(row_depth)(cols, zi, top[i]);
                loss += (double)wi * li;
                for (ptrdiff_t j = 0; j < cols; j++)
                    di[j] = inverse * di[j] - kept * yi[j] - spread;
                if (correct) {
                    ptrdiff_t best = 0;
                    for (ptrdiff_t j = 1; j < cols; j++)
                        best = yi[j] > yi[best] ? j : best;
                    hits += zi[best] >= top[i] && FN(first_at)(zi, best) ? (double)wi : 0;
                }
            }
        }
    }
    if (correct)
        *correct += hits;
    return loss;
}

double FN(binary_cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const REAL *restrict target,
                                const REAL *restrict weight, double *correct, REAL *restrict delta)
{
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
            REAL x = zf[j], e = FN(m_exp)(-FN(m_abs)(x)), inverse = 1 / (1 + e);
            term[j] = (x > 0 ? x : 0) - x * yf[j] + FN(m_log1p)(e);
            df[j] = (x >= 0 ? inverse : e * inverse) - yf[j];
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
#define DIFFERENCE_LOSS(name, SLOPE, TERM)                                                               \
    double FN(name)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const REAL *restrict target, \
                    const REAL *restrict weight, REAL *restrict delta)                                   \
    {                                                                                                    \
        double loss = 0;                                                                                 \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                           \
            const REAL *zi = z + i * cols, *yi = target + i * cols;                                      \
            REAL *di = delta + i * cols;                                                                 \
            REAL wi = weight ? weight[i] : 1;                                                            \
            double part[8] = {0}, li = 0;                                                                \
            ptrdiff_t j = 0;                                                                             \
            for (ptrdiff_t end = cols / 8 * 8; j < end;)                                                 \
                for (int t = 0; t < 8; t++, j++)                                                         \
                    DIFFERENCE_TERM_(part[t], SLOPE, TERM)                                               \
            for (; j < cols; j++)                                                                        \
                DIFFERENCE_TERM_(li, SLOPE, TERM)                                                        \
            for (int t = 0; t < 8; t++)                                                                  \
                li += part[t];                                                                           \
            loss += (double)wi * li;                                                                     \
        }                                                                                                \
        return loss;                                                                                     \
    }

DIFFERENCE_LOSS(squared_error, d, 0.5 * (double)d * (double)d)
DIFFERENCE_LOSS(absolute_error, (REAL)((d > 0) - (d < 0)), fabs((double)d))
DIFFERENCE_LOSS(huber, FN(m_at_most)(FN(m_at_least)(d, -1), 1), (double)slope *((double)d - 0.5 * (double)slope))
#undef DIFFERENCE_LOSS
#undef DIFFERENCE_TERM_

double FN(poisson)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const REAL *restrict target,
                   const REAL *restrict weight, REAL *restrict delta)
{
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

/*     cross_entropy         ∂²ℓ/∂z² = diag(p) − p pᵀ        binary_cross_entropy  diag(s (1 − s)), s = σ(z)
 *     squared_error         I                               huber                 diag(|z − y| < 1)
 *     poisson               diag(exp z)                     absolute_error        0, where it is defined
 */
void FN(loss_curvature)(int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const REAL *restrict target,
                        REAL *restrict q)
{
    const ptrdiff_t n = rows * cols;
    switch (kind) {
    case FNN_CROSS_ENTROPY:
        FN(softmax)(rows, cols, z, q);
        break;
    case FNN_BINARY_CROSS_ENTROPY:
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL e = FN(m_exp)(-FN(m_abs)(z[i])), w = 1 + e;
            q[i] = e / (w * w);
        }
        break;
    case FNN_HUBER:
        for (ptrdiff_t i = 0; i < n; i++)
            q[i] = FN(m_abs)(z[i] - target[i]) < 1 ? (REAL)1 : (REAL)0;
        break;
    case FNN_POISSON:
        for (ptrdiff_t i = 0; i < n; i++)
            q[i] = FN(m_exp)(z[i]);
        break;
    default:
        for (ptrdiff_t i = 0; i < n; i++)
            q[i] = kind == FNN_SQUARED_ERROR ? (REAL)1 : (REAL)0;
    }
}

void FN(loss_tangent)(int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *q, const REAL *weight, const REAL *v,
                      REAL *out)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *qi = q + i * cols, *vi = v + i * cols, w = weight ? weight[i] : 1;
        REAL *oi = out + i * cols, mean = 0;
        if (kind == FNN_CROSS_ENTROPY)
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
#undef BLOCK_ROWS
