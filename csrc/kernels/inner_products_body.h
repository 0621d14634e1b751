/* Products over samples, C = A Bᵀ: few rows, long ones; and sums over rows. */
#if defined(__AVX512F__)
#define INNER_M 4
#define INNER_N 4 /* 16 accumulators and 4 of the sums, 4 of b, 1 of a: 25 of 32 registers */
#else
#define INNER_M 2
#define INNER_N 4
#endif

/* Lane i of the vectors that follow each other at `sums` is the sum of the lanes of v[i]. */
FNN_INLINE void FN(lane_sums)(const int n, VEC *v, REAL *sums)
{
#pragma GCC unroll 16
    for (int i = 0; i < n; i += LANES) {
        VEC group[LANES];
#pragma GCC unroll 16
        for (int s = 0; s < LANES; s++)
            group[s] = i + s < n ? v[i + s] : FN(v_zero)();
        FN(v_sums)(group);
        FN(v_store)(sums + i, group[0]);
    }
}

/* One vector of samples, or the `left` ones that are left. */
FNN_INLINE void FN(inner_step)(const int m, const int with_sums, const int whole, int left, ptrdiff_t k, const REAL *a,
                               const REAL *const *y, ptrdiff_t p, VEC *acc, VEC *totals)
{
    VEC column[INNER_N];
#pragma GCC unroll 4
    for (int t = 0; t < INNER_N; t++) {
        column[t] = whole ? FN(v_load)(y[t] + p) : FN(v_load_n)(y[t] + p, left);
        if (with_sums)
            totals[t] += column[t];
    }
#pragma GCC unroll 4
    for (int s = 0; s < m; s++) {
        const VEC row = whole ? FN(v_load)(a + s * k + p) : FN(v_load_n)(a + s * k + p, left);
#pragma GCC unroll 4
        for (int t = 0; t < INNER_N; t++)
            acc[s * INNER_N + t] = FN(v_fma)(row, column[t], acc[s * INNER_N + t]);
    }
}

/* m rows of a by n <= INNER_N of b, in registers over all of k, and with them the sums of b's rows. Rows of b that are
 * not there are the first once more. */
FNN_INLINE void FN(inner_tile)(const int m, const int with_sums, ptrdiff_t n, ptrdiff_t k, const REAL *a, const REAL *b,
                               int accumulate, REAL *c, ptrdiff_t ldc, REAL *sums)
{
    VEC acc[INNER_M * INNER_N], totals[INNER_N];
    const REAL *y[INNER_N];
    REAL result[INNER_M * INNER_N + LANES], total[INNER_N + LANES];
#pragma GCC unroll 4
    for (int t = 0; t < INNER_N; t++) {
        y[t] = b + (t < n ? t : 0) * k;
        totals[t] = FN(v_zero)();
    }
#pragma GCC unroll 16
    for (int s = 0; s < m * INNER_N; s++)
        acc[s] = FN(v_zero)();
    ptrdiff_t p = 0;
    for (; p + LANES <= k; p += LANES)
        FN(inner_step)(m, with_sums, 1, LANES, k, a, y, p, acc, totals);
    if (p < k)
        FN(inner_step)(m, with_sums, 0, (int)(k - p), k, a, y, p, acc, totals);
    FN(lane_sums)(m * INNER_N, acc, result);
    if (with_sums)
        FN(lane_sums)(INNER_N, totals, total);
    for (ptrdiff_t t = 0; t < n; t++) {
#pragma GCC unroll 4
        for (int s = 0; s < m; s++)
            c[s * ldc + t] = accumulate ? c[s * ldc + t] + result[s * INNER_N + t] : result[s * INNER_N + t];
        if (with_sums)
            sums[t] = accumulate ? sums[t] + total[t] : total[t];
    }
}

void FN(inner_products)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, const REAL *b, int accumulate, REAL *c,
                        REAL *sums)
{
    for (ptrdiff_t i = 0; i < m; i += INNER_M) {
        for (ptrdiff_t j = 0; j < n; j += INNER_N) {
            const ptrdiff_t width = n - j < INNER_N ? n - j : INNER_N;
            const int with_sums = i == 0 && sums != NULL;
#define INNER_TILE_(M)                                                                                    \
    {                                                                                                     \
        if (with_sums)                                                                                    \
            FN(inner_tile)(M, 1, width, k, a + i * k, b + j * k, accumulate, c + i * n + j, n, sums + j); \
        else                                                                                              \
            FN(inner_tile)(M, 0, width, k, a + i * k, b + j * k, accumulate, c + i * n + j, n, NULL);     \
    }
            switch (m - i) {
#if INNER_M == 4
            case 3:
                INNER_TILE_(3)
                break;
            case 2:
                INNER_TILE_(2)
                break;
#endif
            case 1:
                INNER_TILE_(1)
                break;
            default:
                INNER_TILE_(INNER_M)
            }
#undef INNER_TILE_
        }
    }
}

void FN(column_sums)(ptrdiff_t rows, ptrdiff_t cols, const REAL *restrict x, int accumulate, REAL *restrict sums)
{
    if (!accumulate)
        for (ptrdiff_t j = 0; j < cols; j++)
            sums[j] = 0;
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const REAL *r = x + i * cols;
        for (ptrdiff_t j = 0; j < cols; j++)
            sums[j] += (r[j] + r[cols + j]) + (r[2 * cols + j] + r[3 * cols + j]);
    }
    for (; i < rows; i++)
        for (ptrdiff_t j = 0; j < cols; j++)
            sums[j] += x[i * cols + j];
}

#undef INNER_M
#undef INNER_N
