"""csrc's kernel tables, and the one that is in use."""
from libc.stdint cimport int64_t, uint64_t

cdef extern from "dispatch.h" nogil:
    enum: FNN_GEMM_PACK_BYTES

    ctypedef struct fnn_terms:
        double scale, l1, l2, factor, clip_value

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
        void (*softmax_jacobian)(ptrdiff_t, ptrdiff_t, const float *, float *) noexcept nogil
        void (*softmax_vjp)(ptrdiff_t, ptrdiff_t, const float *, const float *, float *) noexcept nogil
        double (*cross_entropy)(ptrdiff_t, ptrdiff_t, const float *, const int64_t *, const float *, const float *,
                                double, double *, float *) noexcept nogil
        double (*binary_cross_entropy)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, double *,
                                       float *) noexcept nogil
        double (*squared_error)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*absolute_error)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*huber)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
        double (*poisson)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, float *) noexcept nogil
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
                                   float *, float *, float *) noexcept nogil
        void (*batch_norm_backward_sums)(ptrdiff_t, ptrdiff_t, const float *, const float *, float *, float *) noexcept nogil
        void (*batch_norm_backward)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *,
                                    double, float *, float *, float *, float *) noexcept nogil
        void (*batch_norm_backward_apply)(ptrdiff_t, ptrdiff_t, const float *, const float *, const float *, const float *,
                                          const float *, const float *, float *) noexcept nogil
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
        void (*softmax_jacobian)(ptrdiff_t, ptrdiff_t, const double *, double *) noexcept nogil
        void (*softmax_vjp)(ptrdiff_t, ptrdiff_t, const double *, const double *, double *) noexcept nogil
        double (*cross_entropy)(ptrdiff_t, ptrdiff_t, const double *, const int64_t *, const double *, const double *,
                                double, double *, double *) noexcept nogil
        double (*binary_cross_entropy)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *,
                                       double *, double *) noexcept nogil
        double (*squared_error)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*absolute_error)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*huber)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
        double (*poisson)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, double *) noexcept nogil
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
                                   double *, double *, double *) noexcept nogil
        void (*batch_norm_backward_sums)(ptrdiff_t, ptrdiff_t, const double *, const double *, double *, double *) noexcept nogil
        void (*batch_norm_backward)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *,
                                    double, double *, double *, double *, double *) noexcept nogil
        void (*batch_norm_backward_apply)(ptrdiff_t, ptrdiff_t, const double *, const double *, const double *, const double *,
                                          const double *, const double *, double *) noexcept nogil
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
