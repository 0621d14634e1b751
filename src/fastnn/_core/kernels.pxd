"""csrc's kernel tables, and the one that is in use."""
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "kernels/dispatch.h" nogil:
    enum: FNN_GEMM_PACK_BYTES

    ctypedef struct fnn_terms:
        double scale, l1, l2, factor, clip_value

    ctypedef struct fnn_numbers:
        double momentum, beta1, beta2, rho, epsilon, bias1, bias2
        int nesterov, epsilon_hat

    enum: FNN_MOMENTS, FNN_MOST_LANES, FNN_LANE_CLASSES

    ctypedef struct fnn_lane_step:
        int adam, nesterov, epsilon_hat
        double scale
        double *rate
        double *l2
        double *decay
        double *momentum
        double *beta1
        double *beta2
        double *epsilon
        double *bias1
        double *bias2

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
        pass

    ctypedef struct fnn_kernels_f64:
        pass

    ctypedef struct fnn_kernels:
        const char *name
        fnn_kernels_f32 f32
        fnn_kernels_f64 f64

    const fnn_kernels *fnn_kernels_available(int i)

# fnn_call_<name>: every kernel of kernel_list.h, with elements as void * (made by tools/kernel_bindings.py)
include "kernel_calls.pxi"


# The table in use: the best that the processor can run, or the one that FASTNN_SIMD names.
cdef const fnn_kernels *active() noexcept nogil

# The numbers of a rule by name; those that are not there are 0.
cdef fnn_numbers numbers_of(dict values) except *
