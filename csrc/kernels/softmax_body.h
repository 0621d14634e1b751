/* softmax over the rows of a matrix: value, logarithm, Jacobian and vector-Jacobian product.
 *
 *     p_j = exp(z_j − m) / s,   m = max z,   s = Σ_j exp(z_j − m)
 *     log p_j = (z_j − m) − log s
 *     ∂p_i/∂z_j = p_i (δ_ij − p_j)
 *     (∂p/∂z)ᵀ v = p ⊙ (v − p·v)
 *
 * The maximum is subtracted from both numerator and denominator, so nothing overflows and s ≥ 1.
 */

FNN_INLINE REAL FN(row_max)(ptrdiff_t cols, const REAL *z)
{
    REAL top = z[0];
    ptrdiff_t j = 1;
    if (cols >= 32) { /* independent maxima: their comparisons overlap */
        REAL part[16];
        for (int t = 0; t < 16; t++)
            part[t] = z[t];
        for (j = 16; j + 16 <= cols; j += 16)
            for (int t = 0; t < 16; t++)
                part[t] = z[j + t] > part[t] ? z[j + t] : part[t];
        for (int t = 0; t < 16; t++)
            top = part[t] > top ? part[t] : top;
    }
    for (; j < cols; j++)
        top = z[j] > top ? z[j] : top;
    return top;
}

FNN_INLINE REAL FN(row_sum)(ptrdiff_t cols, const REAL *x)
{
    REAL sum = 0;
    ptrdiff_t j = 0;
    if (cols >= 32) {
        REAL part[16] = {0};
        for (; j + 16 <= cols; j += 16)
            for (int t = 0; t < 16; t++)
                part[t] += x[j + t];
        for (int t = 0; t < 16; t++)
            sum += part[t];
    }
    for (; j < cols; j++)
        sum += x[j];
    return sum;
}

FNN_INLINE REAL FN(row_dot)(ptrdiff_t cols, const REAL *x, const REAL *y)
{
    REAL sum = 0;
    ptrdiff_t j = 0;
    if (cols >= 32) {
        REAL part[16] = {0};
        for (; j + 16 <= cols; j += 16)
            for (int t = 0; t < 16; t++)
                part[t] += x[j + t] * y[j + t];
        for (int t = 0; t < 16; t++)
            sum += part[t];
    }
    for (; j < cols; j++)
        sum += x[j] * y[j];
    return sum;
}

/* e = exp(z − max) for a block of rows, whose maxima and sums of e are returned; one flat loop does the exponentials,
 * so that narrow rows fill the vectors too. */
FNN_INLINE void FN(exp_shifted)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, REAL *restrict e,
                                REAL *restrict top, REAL *restrict sum)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        REAL m = FN(row_max)(cols, z + i * cols);
        top[i] = m;
        for (ptrdiff_t j = 0; j < cols; j++)
            e[i * cols + j] = z[i * cols + j] - m;
    }
    for (ptrdiff_t i = 0; i < rows * cols; i++)
        e[i] = FN(m_exp)(e[i]);
    for (ptrdiff_t i = 0; i < rows; i++)
        sum[i] = FN(row_sum)(cols, e + i * cols);
}

#define BLOCK_ROWS 64 /* rows at a time: their maxima and sums live on the stack */

void FN(softmax)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *p)
{
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS];
    for (ptrdiff_t r = 0; r < rows; r += BLOCK_ROWS) {
        ptrdiff_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        REAL *e = p + r * cols;
        FN(exp_shifted)(block, cols, z + r * cols, e, top, sum);
        for (ptrdiff_t i = 0; i < block; i++) {
            REAL inverse = 1 / sum[i];
            for (ptrdiff_t j = 0; j < cols; j++)
                e[i * cols + j] *= inverse;
        }
    }
}

void FN(log_softmax)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *log_p)
{
    REAL top[BLOCK_ROWS], sum[BLOCK_ROWS];
    for (ptrdiff_t r = 0; r < rows; r += BLOCK_ROWS) {
        ptrdiff_t block = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        const REAL *zb = z + r * cols;
        REAL *out = log_p + r * cols;
        FN(exp_shifted)(block, cols, zb, out, top, sum);
        for (ptrdiff_t i = 0; i < block; i++)
            sum[i] = FN(m_log)(sum[i]);
        for (ptrdiff_t i = 0; i < block; i++)
            for (ptrdiff_t j = 0; j < cols; j++)
                out[i * cols + j] = (zb[i * cols + j] - top[i]) - sum[i];
    }
}

void FN(softmax_vjp)(ptrdiff_t rows, ptrdiff_t cols, const REAL *p, const REAL *v, REAL *dz)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *q = p + i * cols, *u = v + i * cols;
        REAL mean = FN(row_dot)(cols, q, u);
        for (ptrdiff_t j = 0; j < cols; j++)
            dz[i * cols + j] = q[j] * (u[j] - mean);
    }
}
