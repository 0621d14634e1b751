"""Row-major products by SciPy's BLAS, of float and of double; strides as in csrc's gemm, of each operand one is 1."""

cdef void product_f32(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t ars, ptrdiff_t acs,
                      const void *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, void *c,
                      ptrdiff_t ldc) noexcept nogil
cdef void product_f64(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t ars, ptrdiff_t acs,
                      const void *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, void *c,
                      ptrdiff_t ldc) noexcept nogil
