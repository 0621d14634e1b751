"""Row-major products by SciPy's BLAS; strides as in csrc's gemm, of each operand one of them is 1."""

cdef void product_f32(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t ars, ptrdiff_t acs,
                      const float *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, float *c,
                      ptrdiff_t ldc) noexcept nogil
cdef void product_f64(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const double *a, ptrdiff_t ars, ptrdiff_t acs,
                      const double *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, double *c,
                      ptrdiff_t ldc) noexcept nogil
