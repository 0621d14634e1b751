/* Batch norm over the columns of a matrix and layer norm over its rows: statistics, forward and backward.
 *
 * Batch norm (Ioffe & Szegedy 2015), per column, for N rows:
 *     μ = mean z,   σ² = mean (z − μ)²,   θ = (σ² + ε)^{-1/2},   û = (z − μ) θ,   out = γ û + β
 *     ∂β = Σ δ,   ∂γ = Σ δ û,   ∂z = γ θ (δ − mean δ − û mean(û δ))
 * in stages, so that the rows can be split into shards whose statistics, and whose sums, are combined in between:
 *     moments | combine, inverse_std | normalise          backward_sums | sum over shards, divide by N | backward_apply
 * batch_norm_forward and batch_norm_backward are all of them for a batch that is one shard.
 *
 * Layer norm (Ba, Kiros & Hinton 2016) has the same formulas for the statistics of a row, with γ inside the means:
 *     ∂z = θ (γ δ − mean(γ δ) − û mean(û γ δ)),   means over the row
 *
 * Columns run innermost.
 */
#if REAL_F32
#define SQRT_ sqrtf
#else
#define SQRT_ sqrt
#endif

#define NORM_COLS 512 /* columns at a time: their accumulators live on the stack and stay in the first-level cache */
#define NORM_HEAD 16  /* rows whose mean is the shift */
#define NORM_BLOCK 32 /* rows that are summed on their own */

/* Columns from `start` on that a kernel that only reads takes at once. The first few alone where long rows of x
 * do not start on a cache line, as in NumPy's arrays: no vector of the others then lies in two lines. */
FNN_INLINE ptrdiff_t FN(panel)(const REAL *x, ptrdiff_t start, ptrdiff_t cols)
{
    const ptrdiff_t left = cols - start, off = (ptrdiff_t)((uintptr_t)(x + start) % FNN_ALIGN / sizeof(REAL));
    const ptrdiff_t width =
        start == 0 && off && 2 * cols >= NORM_COLS ? FNN_ALIGN / (ptrdiff_t)sizeof(REAL) - off : NORM_COLS;
    return left < width ? left : width;
}

/* Sums of d = z − s and of d², with the shift s the mean of the first rows: m2 = Σ d² − (Σ d)² / N loses at most
 * the factor 1 + (s − μ)² / σ², which is not above N / NORM_HEAD for any data, and near 1 for rows in random order. s
 * itself is the first row plus a mean of differences from it, so that a constant column has variance 0 exactly. */
void FN(batch_norm_moments)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict z, REAL *restrict mean,
                            REAL *restrict m2)
{
    if (rows == 0) {
        for (ptrdiff_t j = 0; j < cols; j++)
            mean[j] = m2[j] = 0;
        return;
    }
    const ptrdiff_t head = rows < NORM_HEAD ? rows : NORM_HEAD;
    const REAL per_head = 1 / (REAL)head, per_row = 1 / (REAL)rows;
    REAL shift[NORM_COLS], sum[NORM_COLS], square[NORM_COLS];
    for (ptrdiff_t start = 0, n; start < cols; start += n) {
        n = FN(panel)(z, start, cols);
        const REAL *first = z + start;
        for (ptrdiff_t j = 0; j < n; j++)
            shift[j] = sum[j] = square[j] = 0;
        for (ptrdiff_t i = 1; i < head; i++)
            for (ptrdiff_t j = 0; j < n; j++)
                shift[j] += first[i * cols + j] - first[j];
        for (ptrdiff_t j = 0; j < n; j++)
            shift[j] = FMA(shift[j], per_head, first[j]);
        ptrdiff_t i = 0;
        for (; i + 4 <= rows; i += 4) {
            const REAL *r = first + i * cols;
            for (ptrdiff_t j = 0; j < n; j++) {
                REAL s = shift[j];
                REAL d0 = r[j] - s, d1 = r[cols + j] - s, d2 = r[2 * cols + j] - s, d3 = r[3 * cols + j] - s;
                sum[j] += (d0 + d1) + (d2 + d3);
                square[j] += FMA(d0, d0, d1 * d1) + FMA(d2, d2, d3 * d3);
            }
        }
        for (; i < rows; i++)
            for (ptrdiff_t j = 0; j < n; j++) {
                REAL d = first[i * cols + j] - shift[j];
                sum[j] += d;
                square[j] += d * d;
            }
        for (ptrdiff_t j = 0; j < n; j++) {
            REAL step = sum[j] * per_row, q = square[j] - sum[j] * step;
            mean[start + j] = shift[j] + step;
            m2[start + j] = q < 0 ? 0 : q; /* a NaN passes through */
        }
    }
}

/* n ← n + m;  μ ← μ + (ν − μ) m / n;  M2 ← M2 + M2' + (ν − μ)² m (n − m) / n   (Chan, Golub & LeVeque 1979) */
void FN(batch_norm_combine)(ptrdiff_t cols, int n_shards, const ptrdiff_t *counts, const REAL *const *means,
                            const REAL *const *m2s, REAL *mean, REAL *variance)
{
    double mu[NORM_COLS], q[NORM_COLS];
    for (ptrdiff_t start = 0; start < cols; start += NORM_COLS) {
        const ptrdiff_t width = cols - start < NORM_COLS ? cols - start : NORM_COLS;
        double n = 0;
        for (ptrdiff_t j = 0; j < width; j++)
            mu[j] = q[j] = 0;
        for (int s = 0; s < n_shards; s++) {
            if (counts[s] == 0)
                continue;
            const double before = n, m = (double)counts[s];
            n += m;
            const double share = m / n, weight = before * share;
            const REAL *nu = means[s] + start, *r = m2s[s] + start;
            for (ptrdiff_t j = 0; j < width; j++) {
                double d = (double)nu[j] - mu[j];
                mu[j] += d * share;
                q[j] += (double)r[j] + d * d * weight;
            }
        }
        const double per_row = n > 0 ? 1 / n : 0;
        for (ptrdiff_t j = 0; j < width; j++) {
            mean[start + j] = (REAL)mu[j];
            variance[start + j] = (REAL)(q[j] * per_row);
        }
    }
}

void FN(inverse_std)(ptrdiff_t n, double epsilon, const REAL *variance, REAL *inv_std)
{
    const REAL eps = (REAL)epsilon;
    FNN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++)
        inv_std[i] = 1 / SQRT_(variance[i] + eps);
}

/* Row by row: several rows at a time would load a column's constants once for all of them, but they write to several
 * places at once, and that is no faster; nor are rows from the last to the first. */
void FN(batch_norm_normalise)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *mean, const REAL *inv_std,
                              const REAL *gamma, const REAL *beta, REAL *normalised, REAL *out)
{
    REAL mu[NORM_COLS], scale[NORM_COLS], b[NORM_COLS];
    for (ptrdiff_t start = 0; start < cols; start += NORM_COLS) {
        const ptrdiff_t n = cols - start < NORM_COLS ? cols - start : NORM_COLS;
        const REAL *s = inv_std + start, *g = gamma + start;
        for (ptrdiff_t j = 0; j < n; j++) { /* copies: aligned, and fewer */
            mu[j] = mean[start + j];
            scale[j] = g[j] * s[j];
            b[j] = beta[start + j];
        }
        for (ptrdiff_t at = start; at < rows * cols; at += cols) {
            const REAL *x = z + at;
            REAL *o = out + at;
            if (normalised) {
                REAL *u = normalised + at;
                FNN_INDEPENDENT
                for (ptrdiff_t j = 0; j < n; j++) {
                    REAL v = (x[j] - mu[j]) * s[j];
                    u[j] = v;
                    o[j] = FMA(v, g[j], b[j]);
                }
            } else {
                FNN_INDEPENDENT
                for (ptrdiff_t j = 0; j < n; j++)
                    o[j] = FMA(x[j] - mu[j], scale[j], b[j]);
            }
        }
    }
}

/* What bounds it, and the backward pass, is the traffic between the caches: û is not stored, but made again from z in
 * the backward pass, so that two arrays of the batch's size are touched here and three there, or one and two in place.
 * The backward pass applies from the last row to the first, which its sums have just read. Where the second-level cache
 * is too small, panels of columns and prefetches (temporal or not, of reads or of stores) do not help it. */
void FN(batch_norm_forward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *gamma, const REAL *beta,
                            double epsilon, REAL *mean, REAL *variance, REAL *inv_std, REAL *out)
{
    const REAL *const means[1] = {mean}, *const m2s[1] = {variance};
    FN(batch_norm_moments)(rows, cols, z, mean, variance);
    FN(batch_norm_combine)(cols, 1, &rows, means, m2s, mean, variance);
    FN(inverse_std)(cols, epsilon, variance, inv_std);
    FN(batch_norm_normalise)(rows, cols, z, mean, inv_std, gamma, beta, NULL, out);
}

/* Columns of a before its first cache line, where its rows are whole lines: taken on their own, they leave no vector of
 * the others in two lines. NumPy's arrays often start somewhere in a line. 0 of other arrays. */
FNN_INLINE int FN(head)(ptrdiff_t cols, const REAL *a)
{
    const uintptr_t off = (uintptr_t)a % FNN_ALIGN;
    if ((size_t)cols * sizeof(REAL) % FNN_ALIGN)
        return 0;
    return (int)((FNN_ALIGN - off) % FNN_ALIGN / sizeof(REAL)) % LANES;
}

#define NORM_ROWS 8                    /* rows at a time: what belongs to their columns is loaded once */
#define NORM_SPACE (NORM_COLS + LANES) /* for values of columns, placed so that whole vectors of them are aligned */
#define NORM_PAD(head) ((LANES - (head)) % LANES)

/* Calls STEP(j, n), with n <= LANES columns from j on, for all `width` columns: the head, whole vectors, and the rest.
 */
#define NORM_VECTORS(head, width, STEP)                     \
    do {                                                    \
        ptrdiff_t j_ = (head) < (width) ? (head) : (width); \
        if (j_)                                             \
            STEP(0, (int)j_);                               \
        for (; j_ + LANES <= (width); j_ += LANES)          \
            STEP(j_, LANES);                                \
        if (j_ < (width))                                   \
            STEP(j_, (int)((width) - j_));                  \
    } while (0)

FNN_INLINE VEC FN(v_get)(const REAL *p, int n) { return n == LANES ? FN(v_load)(p) : FN(v_load_n)(p, n); }
FNN_INLINE void FN(v_put)(REAL *p, VEC v, int n)
{
    if (n == LANES)
        FN(v_store)(p, v);
    else
        FN(v_store_n)(p, v, n);
}

FNN_INLINE void FN(backward_sums_step)(int rows, ptrdiff_t cols, const REAL *d, const REAL *x, const REAL *shift,
                                       REAL *sum, REAL *product, int n)
{
    const VEC m = FN(v_get)(shift, n);
    VEC s = FN(v_get)(sum, n), p = FN(v_get)(product, n);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const VEC delta = FN(v_get)(d + i * cols, n);
        s = s + delta;
        p = FN(v_fma)(delta, FN(v_get)(x + i * cols, n) - m, p);
    }
    FN(v_put)(sum, s, n);
    FN(v_put)(product, p, n);
}

/* The rows of a block are summed on their own first, so that a sum of many rows does not lose its last ones to
 * rounding. */
void FN(batch_norm_backward_sums)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict delta, const REAL *restrict z,
                                  const REAL *restrict mean, const REAL *restrict inv_std, REAL *restrict sum_delta,
                                  REAL *restrict sum_delta_normalised)
{
    _Alignas(FNN_ALIGN) REAL sums[NORM_SPACE], products[NORM_SPACE], shifts[NORM_SPACE];
    const int head = FN(head)(cols, delta);
    REAL *sum = sums + NORM_PAD(head), *product = products + NORM_PAD(head), *shift = shifts + NORM_PAD(head);
    for (ptrdiff_t j = 0; j < cols; j++)
        sum_delta[j] = sum_delta_normalised[j] = 0;
    for (ptrdiff_t start = 0; start < cols; start += NORM_COLS) {
        const ptrdiff_t width = cols - start < NORM_COLS ? cols - start : NORM_COLS;
        for (ptrdiff_t j = 0; j < width; j++)
            shift[j] = mean ? mean[start + j] : 0;
        for (ptrdiff_t i = 0; i < rows;) {
            const ptrdiff_t end = rows - i < NORM_BLOCK ? rows : i + NORM_BLOCK;
            for (ptrdiff_t j = 0; j < width; j++)
                sum[j] = product[j] = 0;
            while (i < end) {
                const REAL *d = delta + i * cols + start, *x = z + i * cols + start;
#define ALL_ROWS_(j, n) \
    FN(backward_sums_step)(NORM_ROWS, cols, d + (j), x + (j), shift + (j), sum + (j), product + (j), n)
#define ONE_ROW_(j, n) FN(backward_sums_step)(1, cols, d + (j), x + (j), shift + (j), sum + (j), product + (j), n)
                if (i + NORM_ROWS <= end) {
                    NORM_VECTORS(head, width, ALL_ROWS_);
                    i += NORM_ROWS;
                } else {
                    NORM_VECTORS(head, width, ONE_ROW_);
                    i++;
                }
#undef ALL_ROWS_
#undef ONE_ROW_
            }
            for (ptrdiff_t j = 0; j < width; j++) {
                sum_delta[start + j] += sum[j];
                sum_delta_normalised[start + j] += product[j];
            }
        }
    }
    if (mean)
        for (ptrdiff_t j = 0; j < cols; j++)
            sum_delta_normalised[j] *= inv_std[j];
}

FNN_INLINE void FN(backward_apply_step)(int rows, ptrdiff_t cols, const REAL *d, const REAL *x, const REAL *shift,
                                        const REAL *slope, const REAL *scale, const REAL *mean, REAL *dz, int n)
{
    const VEC h = FN(v_get)(shift, n), l = FN(v_get)(slope, n), c = FN(v_get)(scale, n), m = FN(v_get)(mean, n);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const ptrdiff_t at = i * cols;
        FN(v_put)(dz + at, c * FN(v_fma)(h - FN(v_get)(x + at, n), l, FN(v_get)(d + at, n) - m), n);
    }
}

void FN(batch_norm_backward_apply)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *z, const REAL *mean,
                                   const REAL *gamma, const REAL *inv_std, const REAL *mean_delta,
                                   const REAL *mean_delta_normalised, REAL *dz)
{
    _Alignas(FNN_ALIGN) REAL constants[4][NORM_SPACE];
    const int head = FN(head)(cols, dz);
    REAL *shift = constants[0] + NORM_PAD(head), *slope = constants[1] + NORM_PAD(head);
    REAL *scale = constants[2] + NORM_PAD(head), *m = constants[3] + NORM_PAD(head);
    for (ptrdiff_t start = 0; start < cols; start += NORM_COLS) {
        const ptrdiff_t width = cols - start < NORM_COLS ? cols - start : NORM_COLS;
        for (ptrdiff_t j = 0; j < width; j++) {
            const REAL s = inv_std[start + j];
            shift[j] = mean ? mean[start + j] : 0;
            slope[j] = mean ? s * mean_delta_normalised[start + j] : mean_delta_normalised[start + j];
            scale[j] = gamma[start + j] * s;
            m[j] = mean_delta[start + j];
        }
        for (ptrdiff_t i = rows; i > 0;) {
            const int n_rows = i % NORM_ROWS ? 1 : NORM_ROWS;
            i -= n_rows;
            const REAL *d = delta + i * cols + start, *x = z + i * cols + start;
            REAL *r = dz + i * cols + start;
#define ALL_ROWS_(j, n)                                                                                        \
    FN(backward_apply_step)(NORM_ROWS, cols, d + (j), x + (j), shift + (j), slope + (j), scale + (j), m + (j), \
                            r + (j), n)
#define ONE_ROW_(j, n) \
    FN(backward_apply_step)(1, cols, d + (j), x + (j), shift + (j), slope + (j), scale + (j), m + (j), r + (j), n)
            if (n_rows == NORM_ROWS)
                NORM_VECTORS(head, width, ALL_ROWS_);
            else
                NORM_VECTORS(head, width, ONE_ROW_);
#undef ALL_ROWS_
#undef ONE_ROW_
        }
    }
}

#undef NORM_ROWS
#undef NORM_SPACE
#undef NORM_PAD
#undef NORM_VECTORS

void FN(batch_norm_backward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *z, const REAL *gamma,
                             const REAL *mean, const REAL *variance, double epsilon, REAL *scratch, REAL *dgamma,
                             REAL *dbeta, REAL *dz)
{
    const REAL per_row = 1 / (REAL)rows;
    REAL *inv_std = scratch, *mean_delta = scratch + cols, *mean_delta_normalised = mean_delta + cols;
    FN(inverse_std)(cols, epsilon, variance, inv_std);
    FN(batch_norm_backward_sums)(rows, cols, delta, z, mean, inv_std, dbeta, dgamma);
    for (ptrdiff_t j = 0; j < cols; j++) {
        mean_delta[j] = per_row * dbeta[j];
        mean_delta_normalised[j] = per_row * dgamma[j];
    }
    FN(batch_norm_backward_apply)(rows, cols, delta, z, mean, gamma, inv_std, mean_delta, mean_delta_normalised, dz);
}

void FN(scale_shift)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const REAL *scale, const REAL *shift, REAL *out)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            out[i * cols + j] = FMA(x[i * cols + j], scale[j], shift[j]);
    }
}

/* Σ_j (x_j − s)^power of a row, power 1 or 2, in sixteen partial sums: a fixed order that vectorises. */
FNN_INLINE REAL FN(shifted_sum)(int power, ptrdiff_t cols, const REAL *x, REAL s)
{
    REAL part[16] = {0}, total = 0;
    ptrdiff_t j = 0;
    for (; j + 16 <= cols; j += 16)
        for (int t = 0; t < 16; t++) {
            REAL d = x[j + t] - s;
            part[t] += power == 2 ? d * d : d;
        }
    for (; j < cols; j++) {
        REAL d = x[j] - s;
        total += power == 2 ? d * d : d;
    }
    for (int t = 0; t < 16; t++)
        total += part[t];
    return total;
}

/* A row whose squares overflow, in units of 2^96 (float64: 2^600). With no more than 2^31 columns its deviation is
 * above 2^48 (2^496) then, so that neither its squares nor those of the largest numbers leave the range. */
static void FN(layer_forward_huge)(ptrdiff_t cols, const REAL *row, const REAL *gamma, const REAL *beta, double epsilon,
                                   REAL *u, REAL *inv_std, REAL *o)
{
    const REAL unit = (REAL)(REAL_F32 ? 0x1p-96 : 0x1p-600), first = row[0] * unit, per_col = 1 / (REAL)cols;
    REAL sum = 0, squares = 0;
    for (ptrdiff_t j = 0; j < cols; j++)
        sum += row[j] * unit - first;
    const REAL mean = FMA(sum, per_col, first);
    for (ptrdiff_t j = 0; j < cols; j++) {
        const REAL d = row[j] * unit - mean;
        squares += d * d;
    }
    const REAL t = 1 / SQRT_(squares * per_col + (REAL)(epsilon * (double)unit * (double)unit));
    if (inv_std)
        *inv_std = t * unit;
    for (ptrdiff_t j = 0; j < cols; j++) {
        const REAL v = (row[j] * unit - mean) * t;
        if (u)
            u[j] = v;
        o[j] = FMA(v, gamma[j], beta[j]);
    }
}

/* Three passes over a row, which is in the cache from the first: the sum, shifted by the row's first element; the
 * squares about the mean; the result. */
void FN(layer_norm_forward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *gamma, const REAL *beta,
                            double epsilon, REAL *normalised, REAL *inv_std, REAL *out)
{
    const REAL eps = (REAL)epsilon, per_col = 1 / (REAL)cols;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *row = z + i * cols;
        REAL *u = normalised ? normalised + i * cols : NULL, *o = out + i * cols;
        REAL mean = FMA(FN(shifted_sum)(1, cols, row, row[0]), per_col, row[0]);
        const REAL squares = FN(shifted_sum)(2, cols, row, mean);
        if (!(squares <= REAL_MAX)) {
            FN(layer_forward_huge)(cols, row, gamma, beta, epsilon, u, inv_std ? inv_std + i : NULL, o);
            continue;
        }
        REAL t = 1 / SQRT_(squares * per_col + eps);
        if (inv_std)
            inv_std[i] = t;
        if (u) {
            FNN_INDEPENDENT
            for (ptrdiff_t j = 0; j < cols; j++) {
                REAL v = (row[j] - mean) * t;
                u[j] = v;
                o[j] = FMA(v, gamma[j], beta[j]);
            }
        } else {
            FNN_INDEPENDENT
            for (ptrdiff_t j = 0; j < cols; j++)
                o[j] = FMA((row[j] - mean) * t, gamma[j], beta[j]);
        }
    }
}

/* Four rows, or one. First the two means of each row, then the result together with the columns' sums. */
FNN_INLINE void FN(layer_backward_rows)(int n, ptrdiff_t cols, const REAL *delta, const REAL *normalised,
                                        const REAL *gamma, const REAL *inv_std, REAL *dz, REAL *dgamma_acc,
                                        REAL *dbeta_acc)
{
    const REAL per_col = 1 / (REAL)cols;
    REAL a[4], b[4], t[4];
    for (int r = 0; r < n; r++) {
        const REAL *d = delta + r * cols, *u = normalised + r * cols;
        REAL pa[16] = {0}, pb[16] = {0}, sa = 0, sb = 0;
        ptrdiff_t j = 0;
        for (; j + 16 <= cols; j += 16)
            for (int k = 0; k < 16; k++) {
                REAL v = d[j + k] * gamma[j + k];
                pa[k] += v;
                pb[k] = FMA(v, u[j + k], pb[k]);
            }
        for (; j < cols; j++) {
            REAL v = d[j] * gamma[j];
            sa += v;
            sb += v * u[j];
        }
        for (int k = 0; k < 16; k++) {
            sa += pa[k];
            sb += pb[k];
        }
        a[r] = -sa * per_col;
        b[r] = -sb * per_col;
        t[r] = inv_std[r];
    }
    const ptrdiff_t k1 = cols, k2 = 2 * cols, k3 = 3 * cols;
    FNN_INDEPENDENT
    for (ptrdiff_t j = 0; j < cols; j++) {
        REAL g = gamma[j], d0 = delta[j], u0 = normalised[j];
        if (n == 4) {
            REAL d1 = delta[k1 + j], d2 = delta[k2 + j], d3 = delta[k3 + j];
            REAL u1 = normalised[k1 + j], u2 = normalised[k2 + j], u3 = normalised[k3 + j];
            dbeta_acc[j] += (d0 + d1) + (d2 + d3);
            dgamma_acc[j] += FMA(d0, u0, d1 * u1) + FMA(d2, u2, d3 * u3);
            dz[k1 + j] = t[1] * FMA(d1, g, FMA(u1, b[1], a[1]));
            dz[k2 + j] = t[2] * FMA(d2, g, FMA(u2, b[2], a[2]));
            dz[k3 + j] = t[3] * FMA(d3, g, FMA(u3, b[3], a[3]));
        } else {
            dbeta_acc[j] += d0;
            dgamma_acc[j] += d0 * u0;
        }
        dz[j] = t[0] * FMA(d0, g, FMA(u0, b[0], a[0]));
    }
}

void FN(layer_norm_backward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *normalised,
                             const REAL *gamma, const REAL *inv_std, REAL *dz, REAL *dgamma_acc, REAL *dbeta_acc)
{
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4)
        FN(layer_backward_rows)(4, cols, delta + i * cols, normalised + i * cols, gamma, inv_std + i, dz + i * cols,
                                dgamma_acc, dbeta_acc);
    for (; i < rows; i++)
        FN(layer_backward_rows)(1, cols, delta + i * cols, normalised + i * cols, gamma, inv_std + i, dz + i * cols,
                                dgamma_acc, dbeta_acc);
}

/* Second order. With r = δ − mean δ − û mean(û δ) and dots for tangents, of batch norm:
 *     û̇ = s (ż − mean ż − û mean(û ż)),   ṡ = −s² mean(û ż)
 *     ∂ż = s [(γ̇ − γ s mean(û ż)) r + γ (δ̇ − mean δ̇ − û̇ mean(û δ) − û mean(û̇ δ + û δ̇))]
 * and of layer norm, with ζ = γ δ, ζ̇ = γ̇ δ + γ δ̇, r = ζ − mean ζ − û mean(û ζ):
 *     ∂ż = s [−s mean(û ż) r + ζ̇ − mean ζ̇ − û̇ mean(û ζ) − û mean(û̇ ζ + û ζ̇)]
 */
void FN(batch_norm_tangent)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict tz, const REAL *restrict normalised,
                            const REAL *restrict inv_std, const REAL *restrict gamma, const REAL *restrict tgamma,
                            const REAL *restrict tbeta, const REAL *restrict mean, const REAL *restrict mean_product,
                            REAL *restrict tnormalised, REAL *restrict tout)
{
    for (ptrdiff_t at = 0; at < rows * cols; at += cols)
        for (ptrdiff_t j = 0; j < cols; j++) {
            const REAL u = normalised[at + j];
            const REAL v = inv_std[j] * FMA(-u, mean_product[j], tz[at + j] - mean[j]);
            tnormalised[at + j] = v;
            tout[at + j] = FMA(gamma[j], v, tgamma ? FMA(tgamma[j], u, tbeta[j]) : 0);
        }
}

void FN(batch_norm_tangent_sums)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict delta,
                                 const REAL *restrict tdelta, const REAL *restrict normalised,
                                 const REAL *restrict tnormalised, REAL *restrict sum, REAL *restrict sum_product)
{
    for (ptrdiff_t j = 0; j < cols; j++)
        sum[j] = sum_product[j] = 0;
    for (ptrdiff_t at = 0; at < rows * cols; at += cols)
        for (ptrdiff_t j = 0; j < cols; j++) {
            sum[j] += tdelta[at + j];
            sum_product[j] += FMA(normalised[at + j], tdelta[at + j], tnormalised[at + j] * delta[at + j]);
        }
}

void FN(batch_norm_tangent_backward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *tdelta,
                                     const REAL *normalised, const REAL *tnormalised, const REAL *inv_std,
                                     const REAL *gamma, const REAL *tgamma, const REAL *mean, const REAL *mean_product,
                                     const REAL *mean_tz, const REAL *mean_tdelta, const REAL *mean_tproduct, REAL *dz)
{
    for (ptrdiff_t at = 0; at < rows * cols; at += cols) {
        const REAL *d = delta + at, *td = tdelta + at, *u = normalised + at, *tu = tnormalised + at;
        REAL *o = dz + at;
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++) {
            const REAL r = FMA(-u[j], mean_product[j], d[j] - mean[j]);
            const REAL rest = FMA(-tu[j], mean_product[j], FMA(-u[j], mean_tproduct[j], td[j] - mean_tdelta[j]));
            const REAL scale = FMA(-gamma[j] * inv_std[j], mean_tz[j], tgamma ? tgamma[j] : 0);
            o[j] = inv_std[j] * FMA(scale, r, gamma[j] * rest);
        }
    }
}

void FN(layer_norm_tangent)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict tz, const REAL *restrict normalised,
                            const REAL *restrict inv_std, const REAL *restrict gamma, const REAL *restrict tgamma,
                            const REAL *restrict tbeta, REAL *restrict tnormalised, REAL *restrict mean_tz,
                            REAL *restrict tout)
{
    const REAL per_col = 1 / (REAL)cols;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *t = tz + i * cols, *u = normalised + i * cols;
        REAL sum = 0, product = 0;
        for (ptrdiff_t j = 0; j < cols; j++) {
            sum += t[j];
            product += t[j] * u[j];
        }
        sum *= per_col;
        product *= per_col;
        mean_tz[i] = product;
        for (ptrdiff_t j = 0; j < cols; j++) {
            const REAL v = inv_std[i] * (t[j] - sum - u[j] * product);
            tnormalised[i * cols + j] = v;
            tout[i * cols + j] = FMA(gamma[j], v, tgamma ? FMA(tgamma[j], u[j], tbeta[j]) : 0);
        }
    }
}

void FN(layer_norm_tangent_backward)(ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *tdelta,
                                     const REAL *normalised, const REAL *tnormalised, const REAL *inv_std,
                                     const REAL *gamma, const REAL *tgamma, const REAL *mean_tz, REAL *dz,
                                     REAL *restrict dgamma_acc, REAL *restrict dbeta_acc)
{
    const REAL per_col = 1 / (REAL)cols;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *d = delta + i * cols, *td = tdelta + i * cols, *u = normalised + i * cols;
        const REAL *tu = tnormalised + i * cols;
        REAL mean = 0, product = 0, tmean = 0, tproduct = 0;
        for (ptrdiff_t j = 0; j < cols; j++) {
            const REAL z = gamma[j] * d[j], t = FMA(gamma[j], td[j], tgamma ? tgamma[j] * d[j] : 0);
            mean += z;
            product += z * u[j];
            tmean += t;
            tproduct += FMA(u[j], t, tu[j] * z);
            dgamma_acc[j] += FMA(td[j], u[j], d[j] * tu[j]);
            dbeta_acc[j] += td[j];
        }
        mean *= per_col;
        product *= per_col;
        tmean *= per_col;
        tproduct *= per_col;
        const REAL s = inv_std[i], scale = -s * mean_tz[i];
        REAL *o = dz + i * cols;
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++) {
            const REAL r = FMA(gamma[j], d[j], -mean) - u[j] * product;
            const REAL t = FMA(gamma[j], td[j], tgamma ? tgamma[j] * d[j] : 0);
            o[j] = s * FMA(scale, r, t - tmean - tu[j] * product - u[j] * tproduct);
        }
    }
}

#undef SQRT_
#undef NORM_COLS
#undef NORM_HEAD
#undef NORM_BLOCK
