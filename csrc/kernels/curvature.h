/* The block of a Hessian that belongs to one layer, or to two, as a sum over samples:
 *
 *     one layer     H[(k, j), (k', j')] += scale Σ_i x̃_i[k] x̃_i[k'] A_i[j, j']                        upper triangle
 *     two layers    H[(k, j), (m, o)]   += scale Σ_i x̃_i[k] ( A_i[j, o] x̃2_i[m] + J_i[j, m] δ_i[o] )
 *
 * All arithmetic is in gemm. Two ways lead there:
 *
 * - pairs (one layer): both factors are symmetric, so that only pairs k <= k' and j <= j' are needed, a quarter of all.
 *   The sum is one product, (pairs of x) × samples times samples × (pairs of A). The products x̃[k] x̃[k'] and the upper
 *   triangles of A are written out for FNN_CURVATURE_ROWS samples at a time, beside a panel of the result that stays in
 *   the second-level cache over all samples; in the end it is unfolded into H.
 * - products (two layers, and one layer with so few outputs that pairs of them would not fill a vector): for fixed j
 * the bracket is a matrix T, samples × (m, o), and X̃ᵀ T goes to rows (k, j) of H, where it lies, through gemm's stride.
 * The second term comes at no cost. For one layer J is absent, and what lies below the diagonal is left out.
 *
 * A part of either writes to a place of its own in H, and sums over the samples in their order, so that parts may run
 * on any worker.
 */
#ifndef FNN_CURVATURE_H
#define FNN_CURVATURE_H

#include "kernels/gemm.h"

#include <stddef.h>

#define FNN_CURVATURE_ROWS 128           /* samples at a time */
#define FNN_CURVATURE_COLUMNS (576 * 4)  /* bytes of a row of a panel, unless one row of A is longer */
#define FNN_CURVATURE_PANEL (512 * 1024) /* bytes of a panel of pairs: half a second-level cache */

/* Elements of float or double; strides count elements. */
typedef struct {
    ptrdiff_t rows, n_in, n_out, n_in2, n_out2;
    int bias, bias2;
    const void *x, *x2; /* (rows, n_in), (rows, n_in2) */
    const void *a;      /* (rows, n_out, n_out2) */
    ptrdiff_t a_sample, a_row, a_column;
    const void *jacobian; /* (rows, n_out, n_in2), NULL: none; if `diagonal`, (rows, n_out) */
    ptrdiff_t j_sample, j_row, j_column;
    const void *delta; /* (rows, n_out2) */
    double scale;
    int one_layer, diagonal;
    void *h; /* its corner */
    ptrdiff_t ldh;
} fnn_block;

/* Pairs (k, k') from the `pair`-th on, counted row by row, of the outputs j from j0 to j1 (and j' >= j). */
typedef struct {
    ptrdiff_t pair, n_pairs, j0, j1;
} fnn_pairs;

/* Output j; inputs m of the second layer from m0 to m1. */
typedef struct {
    ptrdiff_t j, m0, m1;
} fnn_products;

/* Elements of the upper triangle of rows j0 to j1 of an n x n matrix */
static inline ptrdiff_t fnn_triangle(ptrdiff_t n, ptrdiff_t j0, ptrdiff_t j1)
{
    return (j1 - j0) * n - (j0 + j1 - 1) * (j1 - j0) / 2;
}

/* Bytes rounded up to whole cache lines */
static inline size_t fnn_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Bytes of the workspace of a part: gemm's, pointers to rows of A, and three arrays: left and right factors of
 * FNN_CURVATURE_ROWS samples, `height` and `width` elements each, and a panel height x width. */
static inline size_t fnn_curvature_workspace(ptrdiff_t height, ptrdiff_t width, size_t element)
{
    const size_t h = fnn_lines((size_t)height * element) + 64, w = fnn_lines((size_t)width * element);
    return FNN_GEMM_PACK_BYTES + fnn_lines(FNN_CURVATURE_ROWS * sizeof(void *)) + FNN_CURVATURE_ROWS * (h + w) +
           (size_t)height * w + 4 * w + 256;
}

#endif
