#ifndef FNN_GEMM_H
#define FNN_GEMM_H

/* Size of the buffer that gemm packs panels of B into: a first-level cache holds it beside the rows of A. */
#ifndef FNN_GEMM_PACK_BYTES
#define FNN_GEMM_PACK_BYTES (48 * 1024)
#endif

#endif
