/* C = init + op(A) op(B), for the shapes of a training step.
 *
 * One register tile of MR x (NV * LANES) elements of C is held while k runs: a row of B is NV vectors, an element of A
 * is broadcast. A is a table of pointers to its rows, so that rows picked at random from a data set need no copy,
 * nor does Aᵀ: a tile touches one or two cache lines of A per k either way. B is copied into contiguous panels (padded
 * with zeros to whole vectors) where it is transposed, where its last vector is partial, and where its rows are far
 * apart and read often; a panel of KC rows stays in the first-level cache. The sum over k has one order whatever m is
 * split into: a row of C does not depend on the other rows of the call.
 */
#define GEMM_NV FNN_GEMM_VECTORS
#if GEMM_NV == 4
#define GEMM_MR 6 /* 24 accumulators, 4 of B, 1 of A: 29 of 32 registers */
#define GEMM_MR3 8
#define GEMM_MR2 12
#define GEMM_MR1 12
#else
#define GEMM_MR2 6 /* 12 accumulators, 2 of B, 1 of A: 15 of 16 registers */
#define GEMM_MR1 6
#endif
#define GEMM_KC ((ptrdiff_t)(FNN_GEMM_PACK_BYTES / (GEMM_NV * LANES * sizeof(REAL))))

FNN_INLINE void FN(gemm_tile)(const int mr, const int nv, const int transpose, ptrdiff_t k,
                              const REAL *const *restrict a, ptrdiff_t at, const REAL *const *next, ptrdiff_t next_at,
                              const REAL *restrict b, ptrdiff_t ldb, const REAL *bias, int accumulate, REAL *restrict c,
                              ptrdiff_t ldc, int last)
{
    const REAL *row_of_a[12];
    if (!transpose) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
            row_of_a[i] = a[i] + at;
    }
    VEC acc[12][4];
    if (accumulate) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                acc[i][j] = j == nv - 1 && last < LANES ? FN(v_load_n)(c + i * ldc + j * LANES, last)
                                                        : FN(v_load)(c + i * ldc + j * LANES);
        }
    } else {
        VEC start[4];
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            start[j] = !bias                         ? FN(v_zero)()
                       : j == nv - 1 && last < LANES ? FN(v_load_n)(bias + j * LANES, last)
                                                     : FN(v_load)(bias + j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                acc[i][j] = start[j];
        }
    }
    for (ptrdiff_t p = 0; p < k; p++) {
        /* rows of a data set come from memory, each from a place of its own: ask for those of the next tile now */
        if (!transpose && nv == GEMM_NV && p % (64 / (ptrdiff_t)sizeof(REAL)) == 0)
#pragma GCC unroll 12
            for (int i = 0; i < mr; i++)
                FNN_PREFETCH(next[i] + next_at + p);
        VEC row[4];
        const REAL *column_of_a = transpose ? a[p] + at : NULL;
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            row[j] = FN(v_load)(b + j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
            VEC x = FN(v_set1)(transpose ? column_of_a[i] : row_of_a[i][p]);
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                acc[i][j] = FN(v_fma)(x, row[j], acc[i][j]);
        }
        b += ldb;
    }
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            if (j == nv - 1 && last < LANES)
                FN(v_store_n)(c + i * ldc + j * LANES, acc[i][j], last);
            else
                FN(v_store)(c + i * ldc + j * LANES, acc[i][j]);
        }
    }
}

/* All rows of one panel: NV vectors wide, the last of them `last` elements. `at`: the first column of a's rows, which
 * moves with the rows of C when a is transposed, while the table does not. After the last tile comes the first one, at
 * the next k. */
#define GEMM_ROWS_(MR, NV, T)                                                                                        \
    {                                                                                                                \
        const int more = m >= 2 * (MR);                                                                              \
        FN(gemm_tile)(MR, NV, T, k, a, at, more ? a + (MR) : first, more ? at : at + k, b, ldb, bias, accumulate, c, \
                      ldc, last);                                                                                    \
        m -= MR, a += T ? 0 : MR, at += T ? MR : 0, c += (MR) * ldc;                                                 \
    }
#define GEMM_PANEL_(NAME, NV, MR, T)                                                                                 \
    static void FN(NAME)(ptrdiff_t m, ptrdiff_t k, const REAL *const *a, ptrdiff_t at, const REAL *b, ptrdiff_t ldb, \
                         const REAL *bias, int accumulate, REAL *c, ptrdiff_t ldc, int last)                         \
    {                                                                                                                \
        const REAL *const *const first = a;                                                                          \
        while (m >= MR)                                                                                              \
            GEMM_ROWS_(MR, NV, T)                                                                                    \
        while (m >= 4)                                                                                               \
            GEMM_ROWS_(4, NV, T)                                                                                     \
        if (m >= 2)                                                                                                  \
            GEMM_ROWS_(2, NV, T)                                                                                     \
        if (m)                                                                                                       \
            GEMM_ROWS_(1, NV, T)                                                                                     \
    }
#define GEMM_PANEL(NV, MR)                 \
    GEMM_PANEL_(gemm_panel##NV, NV, MR, 0) \
    GEMM_PANEL_(gemm_panel##NV##_transposed, NV, MR, 1)
#if GEMM_NV == 4
GEMM_PANEL(4, GEMM_MR)
GEMM_PANEL(3, GEMM_MR3)
#endif
GEMM_PANEL(2, GEMM_MR2)
GEMM_PANEL(1, GEMM_MR1)

/* panel (k, width) = B[:k, :cols], zero beyond cols */
static void FN(gemm_pack)(ptrdiff_t k, ptrdiff_t cols, ptrdiff_t width, const REAL *restrict b, ptrdiff_t brs,
                          ptrdiff_t bcs, REAL *restrict panel)
{
    if (bcs == 1) {
        for (ptrdiff_t p = 0; p < k; p++) {
            const REAL *src = b + p * brs;
            REAL *dst = panel + p * width;
            ptrdiff_t j = 0;
            for (; j + LANES <= cols; j += LANES)
                FN(v_store)(dst + j, FN(v_load)(src + j));
            if (j < cols)
                FN(v_store)(dst + j, FN(v_load_n)(src + j, (int)(cols - j)));
        }
        return;
    }
    /* brs == 1: columns of the panel are rows of b */
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        for (ptrdiff_t p = 0; p < k; p += LANES) {
            const int n = k - p < LANES ? (int)(k - p) : LANES;
            VEC block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                const REAL *src = b + (j + i) * bcs + p;
                block[i] = j + i >= cols ? FN(v_zero)() : n < LANES ? FN(v_load_n)(src, n) : FN(v_load)(src);
            }
            FN(v_transpose)(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                if (i < n)
                    FN(v_store)(panel + (p + i) * width + j, block[i]);
        }
    }
}

void FN(gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, ptrdiff_t a_column, int transpose_a,
              const REAL *b, ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate, REAL *pack, REAL *c,
              ptrdiff_t ldc)
{
    ptrdiff_t kc = 0;
    do { /* once for k = 0, which leaves the initial value */
        const ptrdiff_t kb = k - kc < GEMM_KC ? k - kc : GEMM_KC;
        const REAL *const *ab = transpose_a ? a + kc : a;
        const ptrdiff_t at = transpose_a ? a_column : a_column + kc;
        const int acc = accumulate || kc > 0;
        for (ptrdiff_t jc = 0; jc < n; jc += GEMM_NV * LANES) {
            const ptrdiff_t cols = n - jc < GEMM_NV * LANES ? n - jc : GEMM_NV * LANES;
            const int nv = (int)((cols + LANES - 1) / LANES), last = (int)(cols - (nv - 1) * LANES);
            const REAL *panel = b + kc * brs + jc * bcs, *start = bias ? bias + jc : NULL;
            ptrdiff_t ldb = brs;
            if (bcs != 1 || last < LANES || (brs > GEMM_NV * LANES && m > 2 * GEMM_MR2)) {
                ldb = (ptrdiff_t)nv * LANES;
                FN(gemm_pack)(kb, cols, ldb, panel, brs, bcs, pack);
                panel = pack;
            }
#define GEMM_CASE_(NV)                                                                             \
    if (transpose_a)                                                                               \
        FN(gemm_panel##NV##_transposed)(m, kb, ab, at, panel, ldb, start, acc, c + jc, ldc, last); \
    else                                                                                           \
        FN(gemm_panel##NV)(m, kb, ab, at, panel, ldb, start, acc, c + jc, ldc, last);              \
    break;
            switch (nv) {
#if GEMM_NV == 4
            case 4:
                GEMM_CASE_(4)
            case 3:
                GEMM_CASE_(3)
#endif
            case 2:
                GEMM_CASE_(2)
            default:
                GEMM_CASE_(1)
            }
#undef GEMM_CASE_
        }
        kc += kb;
    } while (kc < k);
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

#undef GEMM_NV
#undef GEMM_MR
#undef GEMM_MR3
#undef GEMM_MR2
#undef GEMM_MR1
#undef GEMM_KC
#undef GEMM_PANEL
#undef GEMM_PANEL_
#undef GEMM_ROWS_
#undef VEC
#undef LANES
