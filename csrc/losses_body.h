/* Losses with their derivative with respect to the network's output, fused: one read of z gives ℓ and δ.
 *
 *     cross_entropy         ℓ = Σ_j y_j (log Σ_k exp z_k − z_j)          δ = (Σ_j y_j) p − y
 *     binary_cross_entropy  ℓ = Σ_j max(z_j, 0) − z_j y_j + log(1 + exp(−|z_j|))      δ = σ(z) − y
 *     squared_error         ℓ = ½ Σ_j (z_j − y_j)²                       δ = z − y
 *
 * (softmax and sigmoid are inside). Sums over rows accumulate in double. Both ℓ and δ carry the row's weight.
 */

/* Of equal logits the first is the prediction: whether none before column y equals it. */
FNN_INLINE int FN(first_at)(const REAL *z, ptrdiff_t y)
{
    for (ptrdiff_t j = 0; j < y; j++)
        if (z[j] == z[y])
            return 0;
    return 1;
}

double FN(cross_entropy)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const int64_t *restrict labels,
                         const REAL *restrict target, const REAL *restrict weight, double *correct,
                         REAL *restrict delta)
{
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS], log_sum[BLOCK_ROWS];
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
                REAL wi = w ? w[i] : 1, inverse = wi / sum[i];
                loss += (double)wi * ((double)log_sum[i] + ((double)top[i] - (double)zi[y]));
                for (ptrdiff_t j = 0; j < cols; j++)
                    di[j] *= inverse;
                di[y] -= wi;
                hits += zi[y] >= top[i] && FN(first_at)(zi, y) ? (double)wi : 0;
            }
        } else {
            for (ptrdiff_t i = 0; i < block; i++) {
                const REAL *zi = zb + i * cols, *yi = target + (r + i) * cols;
                REAL *di = d + i * cols;
                REAL wi = w ? w[i] : 1, mass = FN(row_sum)(cols, yi), inverse = wi * mass / sum[i];
                double li = (double)mass * (double)log_sum[i];
                for (ptrdiff_t j = 0; j < cols; j++) /* a zero target takes no part, however far away its logit */
                    li += yi[j] != 0 ? (double)yi[j] * ((double)top[i] - (double)zi[j]) : 0;
                loss += (double)wi * li;
                for (ptrdiff_t j = 0; j < cols; j++)
                    di[j] = inverse * di[j] - wi * yi[j];
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

double FN(squared_error)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, const REAL *restrict target,
                         const REAL *restrict weight, REAL *restrict delta)
{
    double loss = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *zi = z + i * cols, *yi = target + i * cols;
        REAL *di = delta + i * cols;
        REAL wi = weight ? weight[i] : 1;
        double li = 0;
        for (ptrdiff_t j = 0; j < cols; j++) {
            REAL difference = zi[j] - yi[j];
            li += (double)difference * (double)difference;
            di[j] = wi * difference;
        }
        loss += 0.5 * (double)wi * li;
    }
    return loss;
}
#undef BLOCK_ROWS
