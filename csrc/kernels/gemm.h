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

/* Tiles into which zeros_turn and zeros_gradient cut k features: `height` features, `apart` from each other, are one
 * tile. The engine reserves what they write by the same number. */
static inline ptrdiff_t fnn_zeros_tiles(ptrdiff_t k, int height, int apart)
{
    const ptrdiff_t group = (ptrdiff_t)height * apart, rest = k % group;
    return k / group * apart + (rest < apart ? rest : apart);
}

#endif
