/* C = init + op(A) op(B), for the shapes of a training step.
 *
 * One register tile of MR x (NV * LANES) elements of C is held while k runs: a row of B is NV vectors, an element of A
 * is broadcast. A is a table of pointers to its rows, so that rows picked at random from a data set need no copy,
 * nor does Aᵀ: a tile touches one or two cache lines of A per k either way. B is copied into contiguous panels (padded
 * with zeros to whole vectors) where it is transposed, and where its rows are far apart and read often; a panel of KC
 * rows stays in the first-level cache. Where its last vector is partial and it is not copied, what is loaded besides
 * are the first elements of the rows after, but not behind its end. The sum over k has one order whatever m is split
 * into: a row of C does not depend on the other rows of the call.
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
#define GEMM_WIDEST (2 * GEMM_NV) /* of a tile two rows high, in zeros_body.h */
#define GEMM_KC ((ptrdiff_t)(FNN_GEMM_PACK_BYTES / (GEMM_NV * LANES * sizeof(REAL))))

/* What C starts from, and what is done to it at the end. */
typedef struct {
    const REAL *bias; /* of the panel; NULL: 0 */
    int accumulate;   /* starts from C itself */
    int rectify;      /* C = relu(C), or, with a gate, 0 wherever that is not above 0 */
    const REAL *gate; /* with as many columns as C, and rows `gate_row` apart */
    ptrdiff_t gate_row;
    int filled; /* the last vector is stored whole; with a gate its elements beyond C's columns are 0 */
    REAL *sums; /* grows by the sums of C's columns at the end, unless NULL */
} FN(ends);

FNN_INLINE FN(ends) FN(ends_at)(const FN(ends) * ends, ptrdiff_t row)
{
    FN(ends) at = *ends;
    if (at.gate)
        at.gate += row * at.gate_row;
    return at;
}

/* apart: of the tile's columns of a, where a is transposed. Rows of B before `whole` may be read on past their last
 * element. listed: of op(A)'s columns and B's rows, only the k in `list`; B's last vector then need not be filled up.
 * Rows of a data set come from memory, each from a place of its own: those of the next tile are asked for in time.
 * Listed, that is `next_at` elements of each, else as many as there are k. */
FNN_INLINE void FN(gemm_tile)(const int mr, const int nv, const int transpose, const int listed, ptrdiff_t apart,
                              ptrdiff_t k, const int32_t *restrict list, const REAL *const *restrict a, ptrdiff_t at,
                              const REAL *const *next, ptrdiff_t next_at, const REAL *restrict b, ptrdiff_t ldb,
                              ptrdiff_t whole, const FN(ends) ends, REAL *restrict c, ptrdiff_t ldc, int last)
{
    const REAL *row_of_a[12];
    if (!transpose) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
            row_of_a[i] = a[i] + at;
    }
    VEC acc[12][GEMM_WIDEST];
    if (ends.accumulate) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                acc[i][j] = j == nv - 1 && last < LANES ? FN(v_load_n)(c + i * ldc + j * LANES, last)
                                                        : FN(v_load)(c + i * ldc + j * LANES);
        }
    } else {
        VEC start[GEMM_WIDEST];
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            start[j] = !ends.bias                    ? FN(v_zero)()
                       : j == nv - 1 && last < LANES ? FN(v_load_n)(ends.bias + j * LANES, last)
                                                     : FN(v_load)(ends.bias + j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                acc[i][j] = start[j];
        }
    }
    for (ptrdiff_t q = 0; q < k; q++) {
        enum { LINE = 64 / (int)sizeof(REAL) };
        const ptrdiff_t p = listed ? list[q] : q;
        if (!listed && !transpose && nv == GEMM_NV && q % LINE == 0)
#pragma GCC unroll 12
            for (int i = 0; i < mr; i++)
                FNN_PREFETCH(next[i] + next_at + q);
        if (listed && !transpose && q / mr * LINE < next_at)
            FNN_PREFETCH(next[q % mr] + at + q / mr * LINE);
        VEC row[GEMM_WIDEST];
        const REAL *column_of_a = transpose ? a[p] + at : NULL;
        const REAL *row_of_b = listed ? b + p * ldb : b;
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            row[j] =
                j == nv - 1 && p >= whole ? FN(v_load_n)(row_of_b + j * LANES, last) : FN(v_load)(row_of_b + j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
            VEC x = FN(v_set1)(transpose ? column_of_a[i * apart] : row_of_a[i][p]);
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                acc[i][j] = FN(v_fma)(x, row[j], acc[i][j]);
        }
        if (!listed)
            b += ldb;
    }
    if (ends.rectify) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++) {
                VEC gate = acc[i][j];
                if (ends.gate)
                    gate = j == nv - 1 && last < LANES ? FN(v_load_n)(ends.gate + i * ends.gate_row + j * LANES, last)
                                                       : FN(v_load)(ends.gate + i * ends.gate_row + j * LANES);
                acc[i][j] = ends.gate ? FN(v_where_positive)(gate, acc[i][j]) : FN(v_relu)(gate);
            }
        }
        if (ends.sums) {
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++) {
                VEC sum = acc[0][j];
#pragma GCC unroll 12
                for (int i = 1; i < mr; i++)
                    sum = sum + acc[i][j];
                if (j == nv - 1 && last < LANES)
                    FN(v_store_n)(ends.sums + j * LANES, sum + FN(v_load_n)(ends.sums + j * LANES, last), last);
                else
                    FN(v_store)(ends.sums + j * LANES, sum + FN(v_load)(ends.sums + j * LANES));
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++) {
            if (j == nv - 1 && last < LANES && !ends.filled)
                FN(v_store_n)(c + i * ldc + j * LANES, acc[i][j], last);
            else
                FN(v_store)(c + i * ldc + j * LANES, acc[i][j]);
        }
    }
}

/* All rows of one panel: NV vectors wide, the last of them `last` elements. `at`: the first column of a's rows, which
 * moves with the rows of C when a is transposed, while the table does not. After the last tile comes the first one, at
 * the next k. */
#define GEMM_ROWS_(MR, NV, T)                                                                                      \
    {                                                                                                              \
        const int more = m >= 2 * (MR);                                                                            \
        FN(gemm_tile)(MR, NV, T, 0, 1, k, NULL, a, at, more ? a + (MR) : first, more ? at : at + k, b, ldb, whole, \
                      FN(ends_at)(ends, i), c + i * ldc, ldc, last);                                               \
        m -= MR, a += T ? 0 : MR, at += T ? MR : 0, i += MR;                                                       \
    }
#define GEMM_PANEL_(NAME, NV, MR, T)                                                                                 \
    static void FN(NAME)(ptrdiff_t m, ptrdiff_t k, const REAL *const *a, ptrdiff_t at, const REAL *b, ptrdiff_t ldb, \
                         ptrdiff_t whole, const FN(ends) * ends, REAL * c, ptrdiff_t ldc, int last)                  \
    {                                                                                                                \
        ptrdiff_t i = 0;                                                                                             \
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

/* Columns of the panel of b from column jc on: those that are left, shared out evenly among as few as hold them. */
FNN_INLINE ptrdiff_t FN(gemm_width)(ptrdiff_t n, ptrdiff_t jc, ptrdiff_t widest)
{
    const ptrdiff_t vectors = (n - jc + LANES - 1) / LANES, panels = (vectors + widest - 1) / widest;
    const ptrdiff_t width = (vectors + panels - 1) / panels * LANES;
    return n - jc < width ? n - jc : width;
}

static void FN(gemm_between)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, ptrdiff_t a_column,
                             int transpose_a, const REAL *b, ptrdiff_t brs, ptrdiff_t bcs, const FN(ends) * ends,
                             REAL *pack, REAL *c, ptrdiff_t ldc)
{
    ptrdiff_t kc = 0;
    do { /* once for k = 0, which leaves the initial value */
        const ptrdiff_t blocks = (k - kc + GEMM_KC - 1) / GEMM_KC,
                        kb = blocks > 1 ? (k - kc + blocks - 1) / blocks : k - kc;
        const REAL *const *ab = transpose_a ? a + kc : a;
        const ptrdiff_t at = transpose_a ? a_column : a_column + kc;
        for (ptrdiff_t jc = 0, cols; jc < n; jc += cols) {
            cols = FN(gemm_width)(n, jc, GEMM_NV);
            const int nv = (int)((cols + LANES - 1) / LANES), last = (int)(cols - (nv - 1) * LANES);
            const REAL *panel = b + kc * brs + jc * bcs;
            const FN(ends) here = {.bias = ends->bias ? ends->bias + jc : NULL,
                                   .accumulate = ends->accumulate || kc > 0,
                                   .rectify = ends->rectify && kc + kb == k,
                                   .gate = ends->gate ? ends->gate + jc : NULL,
                                   .gate_row = ends->gate_row,
                                   .filled = ends->gate && jc + nv * LANES <= ldc,
                                   .sums = ends->sums ? ends->sums + jc : NULL};
            ptrdiff_t ldb = brs, whole = last < LANES ? kb - (LANES - last + brs - 1) / brs : kb;
            const int far = brs > GEMM_NV * LANES && kb * brs * (ptrdiff_t)sizeof(REAL) > FNN_GEMM_PACK_BYTES;
            const int split = nv == 1 && brs % LANES; /* loads that cross lines, and few products for each */
            if (bcs != 1 || ((far || split) && m > 2 * GEMM_MR2)) {
                ldb = (ptrdiff_t)nv * LANES;
                whole = kb;
                FN(gemm_pack)(kb, cols, ldb, panel, brs, bcs, pack);
                panel = pack;
            }
#define GEMM_CASE_(NV)                                                                               \
    if (transpose_a)                                                                                 \
        FN(gemm_panel##NV##_transposed)(m, kb, ab, at, panel, ldb, whole, &here, c + jc, ldc, last); \
    else                                                                                             \
        FN(gemm_panel##NV)(m, kb, ab, at, panel, ldb, whole, &here, c + jc, ldc, last);              \
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

void FN(gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, ptrdiff_t a_column, int transpose_a,
              const REAL *b, ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate, REAL *pack, REAL *c,
              ptrdiff_t ldc)
{
    const FN(ends) ends = {.bias = bias, .accumulate = accumulate};
    FN(gemm_between)(m, n, k, a, a_column, transpose_a, b, brs, bcs, &ends, pack, c, ldc);
}

void FN(gemm_relu)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, int transpose_a, const REAL *b,
                   ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, const REAL *gate, REAL *pack, REAL *c, ptrdiff_t ldc,
                   REAL *sums)
{
    const FN(ends) ends = {.bias = bias, .rectify = 1, .gate = gate, .gate_row = n, .sums = sums};
    FN(gemm_between)(m, n, k, a, 0, transpose_a, b, brs, bcs, &ends, pack, c, ldc);
}

enum { FN(few_outputs) = 32 };

int FN(weight_gradient)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *x, const REAL *const *delta, int accumulate,
                        REAL *pack, REAL *c)
{
    enum { WIDE = GEMM_NV * LANES };
    if (n > FN(few_outputs) || 5 * n * ((m + LANES - 1) / LANES) > 4 * m * ((n + LANES - 1) / LANES))
        return 0;
    REAL turned[FN(few_outputs) * WIDE];
    for (ptrdiff_t jc = 0; jc < m; jc += WIDE) {
        const ptrdiff_t cols = m - jc < WIDE ? m - jc : WIDE;
        FN(gemm)(n, cols, k, delta, 0, 1, x + jc, m, 1, NULL, 0, pack, turned, WIDE);
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const int width = n - i < LANES ? (int)(n - i) : LANES;
            for (ptrdiff_t j = 0; j < cols; j += LANES) {
                REAL *to = c + (jc + j) * n + i;
                VEC block[LANES];
#pragma GCC unroll 16
                for (int t = 0; t < LANES; t++)
                    block[t] = t < width ? FN(v_load)(turned + (i + t) * WIDE + j) : FN(v_zero)();
                FN(v_transpose)(block);
#pragma GCC unroll 16
                for (int t = 0; t < LANES; t++) {
                    if (j + t >= cols)
                        break;
                    if (accumulate)
                        block[t] = block[t] + FN(v_load_n)(to + t * n, width);
                    FN(v_store_n)(to + t * n, block[t], width);
                }
            }
        }
    }
    return 1;
}

#include "kernels/zeros_body.h"

/* -- products over samples ---------------------------------------------------------------------------------------- */

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

/* out[j, i] = x[i, j] for a block of up to LANES rows, and of up to four columns or LANES. */
FNN_INLINE void FN(transpose_block)(const int most, int height, int width, const REAL *const *x, ptrdiff_t j,
                                    REAL *restrict out, ptrdiff_t ldo)
{
    VEC block[LANES];
#pragma GCC unroll 16
    for (int s = 0; s < LANES; s++)
        block[s] = s >= height ? FN(v_zero)() : width < LANES ? FN(v_load_n)(x[s] + j, width) : FN(v_load)(x[s] + j);
    if (most < LANES)
        FN(v_transpose4)(block);
    else
        FN(v_transpose)(block);
#pragma GCC unroll 16
    for (int t = 0; t < most; t++) {
        if (t >= width)
            break;
        if (height < LANES)
            FN(v_store_n)(out + t * ldo, block[t], height);
        else
            FN(v_store)(out + t * ldo, block[t]);
    }
}

void FN(transpose)(ptrdiff_t rows, ptrdiff_t cols, const REAL *const *x, REAL *restrict out)
{
    enum { FEW = LANES < 4 ? LANES : 4 };
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        const int height = rows - i < LANES ? (int)(rows - i) : LANES;
        for (ptrdiff_t j = 0; j < cols; j += LANES) {
            const int width = cols - j < LANES ? (int)(cols - j) : LANES;
            REAL *to = out + j * rows + i;
            if (width > FEW)
                FN(transpose_block)(LANES, height, width, x + i, j, to, rows);
            else if (height < LANES)
                FN(transpose_block)(FEW, height, width, x + i, j, to, rows);
            else
                FN(transpose_block)(FEW, LANES, width, x + i, j, to, rows);
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
#undef GEMM_NV
#undef GEMM_WIDEST
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
