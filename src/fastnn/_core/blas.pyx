"""SciPy's BLAS behind row-major signatures; the only file that cimports SciPy.

BLAS is column-major and not const-correct: a row-major C = A B is the column-major Cᵀ = Bᵀ Aᵀ, so the operands swap
places, and const is cast away here and nowhere else.
"""
from scipy.linalg.cython_blas cimport dgemm, sgemm

include "blas_int.pxi"

ctypedef fused real:
    float
    double


cdef void product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *a, ptrdiff_t ars, ptrdiff_t acs, const real *b,
                  ptrdiff_t brs, ptrdiff_t bcs, int accumulate, real *c, ptrdiff_t ldc) noexcept nogil:
    cdef blas_int rows = <blas_int>m, cols = <blas_int>n, inner = <blas_int>k, ld_c = <blas_int>ldc
    cdef bint a_rows = acs == 1, b_rows = bcs == 1
    cdef blas_int ld_a = <blas_int>(max(ars, k) if a_rows else max(acs, m))
    cdef blas_int ld_b = <blas_int>(max(brs, n) if b_rows else max(bcs, k))
    cdef char *op_a = b'N' if a_rows else b'T'
    cdef char *op_b = b'N' if b_rows else b'T'
    cdef real one = 1, beta = 1 if accumulate else 0
    if real is float:
        sgemm(op_b, op_a, &cols, &rows, &inner, &one, <float *>b, &ld_b, <float *>a, &ld_a, &beta, c, &ld_c)
    else:
        dgemm(op_b, op_a, &cols, &rows, &inner, &one, <double *>b, &ld_b, <double *>a, &ld_a, &beta, c, &ld_c)


cdef void product_f32(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t ars, ptrdiff_t acs,
                      const void *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, void *c,
                      ptrdiff_t ldc) noexcept nogil:
    product(m, n, k, <const float *>a, ars, acs, <const float *>b, brs, bcs, accumulate, <float *>c, ldc)


cdef void product_f64(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t ars, ptrdiff_t acs,
                      const void *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, void *c,
                      ptrdiff_t ldc) noexcept nogil:
    product(m, n, k, <const double *>a, ars, acs, <const double *>b, brs, bcs, accumulate, <double *>c, ldc)
