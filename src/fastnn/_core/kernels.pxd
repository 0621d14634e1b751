"""csrc's kernel tables, and the one that is in use."""
from libc.stdint cimport int64_t, uint64_t

cdef extern from "kernels/dispatch.h" nogil:
    enum: FNN_GEMM_PACK_BYTES

    ctypedef struct fnn_terms:
        double scale, l1, l2, factor, clip_value

    ctypedef struct fnn_block:
        ptrdiff_t rows, n_in, n_out, n_in2, n_out2
        int bias, bias2
        const void *x
        const void *x2
        const void *a
        ptrdiff_t a_sample, a_row, a_column
        const void *jacobian
        ptrdiff_t j_sample, j_row, j_column
        const void *delta
        double scale
        int one_layer, diagonal
        void *h
        ptrdiff_t ldh

    ctypedef struct fnn_pairs:
        ptrdiff_t pair, n_pairs, j0, j1

    ctypedef struct fnn_products:
        ptrdiff_t j, m0, m1

    enum: FNN_CURVATURE_COLUMNS, FNN_CURVATURE_PANEL

    ptrdiff_t fnn_triangle(ptrdiff_t n, ptrdiff_t j0, ptrdiff_t j1)
    size_t fnn_lines(size_t bytes)
    size_t fnn_curvature_workspace(ptrdiff_t height, ptrdiff_t width, size_t element)

    ctypedef struct fnn_kernels_f32:
        void (*exp)(ptrdiff_t, const float *, float *) noexcept nogil
        void (*log)(ptrdiff_t, const float *, float *) noexcept nogil
        void (*tanh)(ptrdiff_t, const float *, float *) noexcept nogil
        void (*activation_forward)(int, ptrdiff_t, const float *, float *) noexcept nogil
        void (*activation_backward)(int, ptrdiff_t, const float *, float *) noexcept nogil
        void (*activation_derivatives)(int, ptrdiff_t, const float *, float *, float *, float *) noexcept nogil
        void (*gemm)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const float **, ptrdiff_t, int, const float *, ptrdiff_t,
                     ptrdiff_t, const float *, int, float *, float *, ptrdiff_t) noexcept nogil
        void (*column_sums)(ptrdiff_t, ptrdiff_t, const float *, int, float *) noexcept nogil
        void (*softmax)(ptrdiff_t, ptrdiff_t, const float *, float *) noexcept nogil
        void (*log_softmax)(ptrdiff_t, ptrdiff_t, const float *, float *) noexcept nogil
        void (*softmax_vjp)(ptrdiff_t, ptrdiff_t, const float *, const float *, float *) noexcept nogil
        double (*cross_entropy)(ptrdiff_t, ptrdiff_t, const float *, const int64_t *, const float *, const float *,
                                double, double *, float *) noexcept nogil
        double (*binary_cross_entropy)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, double *,
                                       float *) noexcept nogil
        double (*squared_error)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*absolute_error)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*huber)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*poisson)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        void (*per_sample_outer)(ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const float *, const float *, int, float *,
                                 ptrdiff_t) noexcept nogil
        void (*per_sample_hessian_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const float *, const float *, int,
                                        float *, float *) noexcept nogil
        void (*loss_hessian)(ptrdiff_t, ptrdiff_t, int, const float *, const float *, int, float *) noexcept nogil
        void (*curvature_backward)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const float *, const float *, const float *,
                                   const float *, void *, float *) noexcept nogil
        void (*cross_backward)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const float *, const float *,
                               const float *, void *, float *) noexcept nogil
        void (*hessian_pairs)(const fnn_block *, const fnn_pairs *, void *) noexcept nogil
        void (*hessian_products)(const fnn_block *, const fnn_products *, void *) noexcept nogil
        void (*symmetrize)(ptrdiff_t, ptrdiff_t, ptrdiff_t, float *) noexcept nogil
        double (*gradient_norm2)(ptrdiff_t, const fnn_terms *, const float *, const float *) noexcept nogil
        void (*sgd_update)(ptrdiff_t, const fnn_terms *, double, double, int, const float *, float *, float *) noexcept nogil
        void (*adagrad_update)(ptrdiff_t, const fnn_terms *, double, double, const float *, float *, float *) noexcept nogil
        void (*nag_update)(ptrdiff_t, const fnn_terms *, double, double, const float *, float *, float *) noexcept nogil
        void (*rmsprop_update)(ptrdiff_t, const fnn_terms *, double, double, double, double, const float *, float *,
                               float *, float *, float *) noexcept nogil
        void (*adam_update)(ptrdiff_t, const fnn_terms *, double, double, double, double, double, double, double,
                            const float *, float *, float *, float *, float *) noexcept nogil
        void (*batch_norm_moments)(ptrdiff_t, ptrdiff_t, const float *, float *, float *) noexcept nogil
        void (*batch_norm_combine)(ptrdiff_t, int, const ptrdiff_t *, const float *const *, const float *const *, float *,
                                   float *) noexcept nogil
        void (*inverse_std)(ptrdiff_t, double, const float *, float *) noexcept nogil
        void (*batch_norm_normalise)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *,
                                     const float *, float *, float *) noexcept nogil
        void (*batch_norm_forward)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, double, float *, float *,
                                   float *, float *) noexcept nogil
        void (*batch_norm_backward_sums)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *, float *,
                                         float *) noexcept nogil
        void (*batch_norm_backward)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *,
                                    const float *, double, float *, float *, float *, float *) noexcept nogil
        void (*batch_norm_backward_apply)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *,
                                          const float *, const float *, const float *, float *) noexcept nogil
        int (*all_finite)(ptrdiff_t, const float *) noexcept nogil
        void (*scale_shift)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        void (*layer_norm_forward)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, double, float *, float *,
                                   float *) noexcept nogil
        void (*layer_norm_backward)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *, float *,
                                    float *, float *) noexcept nogil
        void (*dropout)(ptrdiff_t, ptrdiff_t, uint64_t, uint64_t, int, ptrdiff_t, double, const float *,
                        float *) noexcept nogil

    ctypedef struct fnn_kernels_f64:
        void (*exp)(ptrdiff_t, const double *, double *) noexcept nogil
        void (*log)(ptrdiff_t, const double *, double *) noexcept nogil
        void (*tanh)(ptrdiff_t, const double *, double *) noexcept nogil
        void (*activation_forward)(int, ptrdiff_t, const double *, double *) noexcept nogil
        void (*activation_backward)(int, ptrdiff_t, const double *, double *) noexcept nogil
        void (*activation_derivatives)(int, ptrdiff_t, const double *, double *, double *, double *) noexcept nogil
        void (*gemm)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const double **, ptrdiff_t, int, const double *, ptrdiff_t,
                     ptrdiff_t, const double *, int, double *, double *, ptrdiff_t) noexcept nogil
        void (*column_sums)(ptrdiff_t, ptrdiff_t, const double *, int, double *) noexcept nogil
        void (*softmax)(ptrdiff_t, ptrdiff_t, const double *, double *) noexcept nogil
        void (*log_softmax)(ptrdiff_t, ptrdiff_t, const double *, double *) noexcept nogil
        void (*softmax_vjp)(ptrdiff_t, ptrdiff_t, const double *, const double *, double *) noexcept nogil
        double (*cross_entropy)(ptrdiff_t, ptrdiff_t, const double *, const int64_t *, const double *, const double *,
                                double, double *, double *) noexcept nogil
        double (*binary_cross_entropy)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *,
                                       double *, double *) noexcept nogil
        double (*squared_error)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*absolute_error)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*huber)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*poisson)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        void (*per_sample_outer)(ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const double *, const double *, int, double *,
                                 ptrdiff_t) noexcept nogil
        void (*per_sample_hessian_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const double *, const double *, int,
                                        double *, double *) noexcept nogil
        void (*loss_hessian)(ptrdiff_t, ptrdiff_t, int, const double *, const double *, int, double *) noexcept nogil
        void (*curvature_backward)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const double *, const double *, const double *,
                                   const double *, void *, double *) noexcept nogil
        void (*cross_backward)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, int, const double *, const double *,
                               const double *, void *, double *) noexcept nogil
        void (*hessian_pairs)(const fnn_block *, const fnn_pairs *, void *) noexcept nogil
        void (*hessian_products)(const fnn_block *, const fnn_products *, void *) noexcept nogil
        void (*symmetrize)(ptrdiff_t, ptrdiff_t, ptrdiff_t, double *) noexcept nogil
        double (*gradient_norm2)(ptrdiff_t, const fnn_terms *, const double *, const double *) noexcept nogil
        void (*sgd_update)(ptrdiff_t, const fnn_terms *, double, double, int, const double *, double *, double *) noexcept nogil
        void (*adagrad_update)(ptrdiff_t, const fnn_terms *, double, double, const double *, double *, double *) noexcept nogil
        void (*nag_update)(ptrdiff_t, const fnn_terms *, double, double, const double *, double *, double *) noexcept nogil
        void (*rmsprop_update)(ptrdiff_t, const fnn_terms *, double, double, double, double, const double *, double *,
                               double *, double *, double *) noexcept nogil
        void (*adam_update)(ptrdiff_t, const fnn_terms *, double, double, double, double, double, double, double,
                            const double *, double *, double *, double *, double *) noexcept nogil
        void (*batch_norm_moments)(ptrdiff_t, ptrdiff_t, const double *, double *, double *) noexcept nogil
        void (*batch_norm_combine)(ptrdiff_t, int, const ptrdiff_t *, const double *const *, const double *const *, double *,
                                   double *) noexcept nogil
        void (*inverse_std)(ptrdiff_t, double, const double *, double *) noexcept nogil
        void (*batch_norm_normalise)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *,
                                     const double *, double *, double *) noexcept nogil
        void (*batch_norm_forward)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double, double *, double *,
                                   double *, double *) noexcept nogil
        void (*batch_norm_backward_sums)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *, double *,
                                         double *) noexcept nogil
        void (*batch_norm_backward)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *,
                                    const double *, double, double *, double *, double *, double *) noexcept nogil
        void (*batch_norm_backward_apply)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *,
                                          const double *, const double *, const double *, double *) noexcept nogil
        int (*all_finite)(ptrdiff_t, const double *) noexcept nogil
        void (*scale_shift)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        void (*layer_norm_forward)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double, double *, double *,
                                   double *) noexcept nogil
        void (*layer_norm_backward)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *, double *,
                                    double *, double *) noexcept nogil
        void (*dropout)(ptrdiff_t, ptrdiff_t, uint64_t, uint64_t, int, ptrdiff_t, double, const double *,
                        double *) noexcept nogil

    ctypedef struct fnn_kernels:
        const char *name
        fnn_kernels_f32 f32
        fnn_kernels_f64 f64

    const fnn_kernels *fnn_kernels_available(int i)


# The table in use: the best that the processor can run, or the one that FASTNN_SIMD names.
cdef const fnn_kernels *active() noexcept nogil
