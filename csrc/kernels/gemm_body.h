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
#include "kernels/gemm_tile_body.h"

#include "kernels/gemm_pack_body.h"

/* rows of B that fit into the buffer of a panel */
#define GEMM_KC ((ptrdiff_t)(FNN_GEMM_PACK_BYTES / (GEMM_NV * LANES * sizeof(REAL))))

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
            FN(tile_b) B = {panel, brs, last < LANES ? kb - (LANES - last + brs - 1) / brs : kb, last};
            const int far = brs > GEMM_NV * LANES && kb * brs * (ptrdiff_t)sizeof(REAL) > FNN_GEMM_PACK_BYTES;
            const int split = nv == 1 && brs % LANES; /* loads that cross lines, and few products for each */
            if (bcs != 1 || ((far || split) && m > 2 * GEMM_MR2)) {
                B = (FN(tile_b)){pack, (ptrdiff_t)nv * LANES, kb, last};
                FN(gemm_pack)(kb, cols, B.ld, panel, brs, bcs, pack);
            }
#define GEMM_CASE_(NV)                                                          \
    if (transpose_a)                                                            \
        FN(gemm_panel##NV##_transposed)(m, kb, ab, at, &B, &here, c + jc, ldc); \
    else                                                                        \
        FN(gemm_panel##NV)(m, kb, ab, at, &B, &here, c + jc, ldc);              \
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
    REAL transposed[FN(few_outputs) * WIDE];
    for (ptrdiff_t jc = 0; jc < m; jc += WIDE) {
        const ptrdiff_t cols = m - jc < WIDE ? m - jc : WIDE;
        FN(gemm)(n, cols, k, delta, 0, 1, x + jc, m, 1, NULL, 0, pack, transposed, WIDE);
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const int width = n - i < LANES ? (int)(n - i) : LANES;
            for (ptrdiff_t j = 0; j < cols; j += LANES) {
                REAL *to = c + (jc + j) * n + i;
                VEC block[LANES];
#pragma GCC unroll 16
                for (int t = 0; t < LANES; t++)
                    block[t] = t < width ? FN(v_load)(transposed + (i + t) * WIDE + j) : FN(v_zero)();
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

/* Rows of the tiles of a panel that is `nv` vectors wide, but for the last ones. */
FNN_INLINE ptrdiff_t FN(gemm_tile_rows)(int nv)
{
#if GEMM_NV == 4
    if (nv > 2)
        return nv == 4 ? GEMM_MR : GEMM_MR3;
#endif
    return nv == 2 ? GEMM_MR2 : GEMM_MR1;
}

#include "kernels/gemm_sparse_body.h"

#undef GEMM_NV
#undef GEMM_WIDEST
#undef GEMM_MOST_ROWS
#undef GEMM_MR
#undef GEMM_MR3
#undef GEMM_MR2
#undef GEMM_MR1
#undef GEMM_KC
#undef GEMM_PANEL
#undef GEMM_PANEL_
#undef GEMM_ROWS_
