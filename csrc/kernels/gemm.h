#ifndef FNN_GEMM_H
#define FNN_GEMM_H

#include <stddef.h>

/* Size of the buffer that gemm packs panels of B into: a first-level cache holds it beside the rows of A. */
#ifndef FNN_GEMM_PACK_BYTES
#define FNN_GEMM_PACK_BYTES (48 * 1024)
#endif

/* The same of gemm_sparse_body.h, for panels that stay in a second-level cache. */
#define FNN_ZEROS_PACK_BYTES (256 * 1024)

/* Vectors that a register tile is wide. A product with no more columns, whole vectors of them, reads B where it lies.
 */
#if defined(__AVX512F__)
#define FNN_GEMM_VECTORS 4
#else
#define FNN_GEMM_VECTORS 2
#endif

/* Tiles into which zeros_transpose_lists and zeros_gradient cut k features: `height` features, `apart` from each other,
 * are one tile. The engine reserves what they write by the same number. */
static inline ptrdiff_t fnn_zeros_tiles(ptrdiff_t k, int height, int apart)
{
    const ptrdiff_t group = (ptrdiff_t)height * apart, rest = k % group;
    return k / group * apart + (rest < apart ? rest : apart);
}

/* Elements of `starts` that zeros_forward (tiles of `forward` rows) and then zeros_transpose_lists (tiles of `height`
 * features) write for k features of `rows` rows. zeros_transpose_lists takes blocks of FNN_ZEROS_LEAST_BLOCK rows or
 * more, one at least. */
#define FNN_ZEROS_LEAST_BLOCK 64
static inline ptrdiff_t fnn_zeros_starts(ptrdiff_t rows, ptrdiff_t k, int forward, int height, int apart)
{
    const ptrdiff_t blocks = rows > 0 ? (rows + FNN_ZEROS_LEAST_BLOCK - 1) / FNN_ZEROS_LEAST_BLOCK : 1;
    const ptrdiff_t ahead = (rows + forward - 1) / forward + 1, back = blocks * fnn_zeros_tiles(k, height, apart) + 1;
    return ahead > back ? ahead : back;
}

/* The same of `list`: at most every feature of each tile of rows, or every row of each tile of features; and
 * FNN_ZEROS_SPARE behind them, which whole vectors are stored over. */
#define FNN_ZEROS_SPARE 16
static inline ptrdiff_t fnn_zeros_listed(ptrdiff_t rows, ptrdiff_t k, int forward, int height, int apart)
{
    const ptrdiff_t ahead = (rows + forward - 1) / forward * k, back = fnn_zeros_tiles(k, height, apart) * rows;
    return (ahead > back ? ahead : back) + FNN_ZEROS_SPARE;
}

#endif
