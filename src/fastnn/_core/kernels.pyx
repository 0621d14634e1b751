"""Entry points of csrc's kernels: flat contiguous arrays in, flat contiguous arrays out.

Shapes, dtypes and values have been checked by fastnn.kernels, the only caller; what would be unsafe to get wrong
(the element type, contiguity, read-only outputs) is refused by the typed arguments themselves.
"""
import os

import numpy as np

from ..plan import ACTIVATIONS

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport INT64_MAX, UINT32_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

ctypedef fused real:
    float
    double

cdef extern from "base/common.h" nogil:
    enum: FNN_ALIGN

ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}

cdef const fnn_kernels *table = NULL


cdef const fnn_kernels *active() noexcept nogil:
    return table


def available():
    """Names of the instruction sets that this build has and this processor can run, the plainest first."""
    names = []
    cdef int i = 0
    while fnn_kernels_available(i) != NULL:
        names.append(fnn_kernels_available(i).name.decode())
        i += 1
    return tuple(names)


def simd():
    """The instruction sets: {"active": name, "available": names}."""
    return {"active": table.name.decode(), "available": available()}


cdef int choose() except -1:
    global table
    names = available()
    wanted = os.environ.get("FASTNN_SIMD", "").strip().lower() or names[len(names) - 1]
    if wanted not in names:
        raise ImportError(f"FASTNN_SIMD: expected one of {', '.join(names)} on this machine, got {wanted!r}")
    table = fnn_kernels_available(names.index(wanted))
    return 0


choose()


# -- math and activations ---------------------------------------------------------------------------------------------

def exp(const real[::1] x, real[::1] y):
    with nogil:
        if real is float:
            table.f32.exp(x.shape[0], &x[0], &y[0])
        else:
            table.f64.exp(x.shape[0], &x[0], &y[0])


def log(const real[::1] x, real[::1] y):
    with nogil:
        if real is float:
            table.f32.log(x.shape[0], &x[0], &y[0])
        else:
            table.f64.log(x.shape[0], &x[0], &y[0])


def tanh(const real[::1] x, real[::1] y):
    with nogil:
        if real is float:
            table.f32.tanh(x.shape[0], &x[0], &y[0])
        else:
            table.f64.tanh(x.shape[0], &x[0], &y[0])


def activation_forward(int kind, const real[::1] z, real[::1] a):
    with nogil:
        if real is float:
            table.f32.activation_forward(kind, z.shape[0], &z[0], &a[0])
        else:
            table.f64.activation_forward(kind, z.shape[0], &z[0], &a[0])


def activation_backward(int kind, const real[::1] saved, real[::1] delta):
    with nogil:
        if real is float:
            table.f32.activation_backward(kind, saved.shape[0], &saved[0], &delta[0])
        else:
            table.f64.activation_backward(kind, saved.shape[0], &saved[0], &delta[0])


def activation_derivatives(int kind, const real[::1] z, real[::1] a, real[::1] d1, real[::1] d2):
    with nogil:
        if real is float:
            table.f32.activation_derivatives(kind, z.shape[0], &z[0], &a[0], &d1[0], &d2[0])
        else:
            table.f64.activation_derivatives(kind, z.shape[0], &z[0], &a[0], &d1[0], &d2[0])


# -- products ---------------------------------------------------------------------------------------------------------

def gemm(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real[::1] a, bint transpose_a, const real[::1] b,
         bint transpose_b, const real[::1] bias, real[::1] pack, real[::1] c):
    """c (m, n) = bias + op(a) op(b); an empty `bias` is none. `pack`: scratch of gemm_pack_bytes()."""
    cdef const real *start = &bias[0] if bias.shape[0] else NULL
    cdef Py_ssize_t brs = 1 if transpose_b else n, bcs = k if transpose_b else 1
    cdef Py_ssize_t i, rows = k if transpose_a else m, width = m if transpose_a else k
    cdef const real **row_of_a = <const real **>malloc(max(rows, <Py_ssize_t>1) * sizeof(real *))
    if row_of_a == NULL:
        raise MemoryError(f"table of {rows} rows")
    for i in range(rows):
        row_of_a[i] = &a[0] + i * width
    with nogil:
        if real is float:
            table.f32.gemm(m, n, k, row_of_a, 0, transpose_a, &b[0], brs, bcs, start, 0, &pack[0], &c[0], n)
        else:
            table.f64.gemm(m, n, k, row_of_a, 0, transpose_a, &b[0], brs, bcs, start, 0, &pack[0], &c[0], n)
    free(row_of_a)


def gemm_pack_bytes():
    return FNN_GEMM_PACK_BYTES


def column_sums(Py_ssize_t rows, const real[::1] x, real[::1] sums):
    with nogil:
        if real is float:
            table.f32.column_sums(rows, sums.shape[0], &x[0], 0, &sums[0])
        else:
            table.f64.column_sums(rows, sums.shape[0], &x[0], 0, &sums[0])


# -- softmax and losses -----------------------------------------------------------------------------------------------

def softmax(Py_ssize_t cols, const real[::1] z, real[::1] p):
    with nogil:
        if real is float:
            table.f32.softmax(z.shape[0] // cols, cols, &z[0], &p[0])
        else:
            table.f64.softmax(z.shape[0] // cols, cols, &z[0], &p[0])


def log_softmax(Py_ssize_t cols, const real[::1] z, real[::1] log_p):
    with nogil:
        if real is float:
            table.f32.log_softmax(z.shape[0] // cols, cols, &z[0], &log_p[0])
        else:
            table.f64.log_softmax(z.shape[0] // cols, cols, &z[0], &log_p[0])


def softmax_vjp(Py_ssize_t cols, const real[::1] p, const real[::1] v, real[::1] dz):
    with nogil:
        if real is float:
            table.f32.softmax_vjp(p.shape[0] // cols, cols, &p[0], &v[0], &dz[0])
        else:
            table.f64.softmax_vjp(p.shape[0] // cols, cols, &p[0], &v[0], &dz[0])


def cross_entropy(Py_ssize_t cols, const real[::1] z, const int64_t[::1] labels, const real[::1] target,
                  const real[::1] weight, double smoothing, real[::1] delta):
    """Σ w ℓ; labels or target is empty, and so is weight where there is none."""
    cdef const int64_t *y = &labels[0] if labels.shape[0] else NULL
    cdef const real *soft = &target[0] if target.shape[0] else NULL
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.cross_entropy(z.shape[0] // cols, cols, &z[0], y, soft, w, smoothing, NULL,
                                           &delta[0])
        else:
            loss = table.f64.cross_entropy(z.shape[0] // cols, cols, &z[0], y, soft, w, smoothing, NULL,
                                           &delta[0])
    return loss


def binary_cross_entropy(Py_ssize_t cols, const real[::1] z, const real[::1] target, const real[::1] weight,
                         real[::1] delta):
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.binary_cross_entropy(z.shape[0] // cols, cols, &z[0], &target[0], w, NULL, &delta[0])
        else:
            loss = table.f64.binary_cross_entropy(z.shape[0] // cols, cols, &z[0], &target[0], w, NULL, &delta[0])
    return loss


def squared_error(Py_ssize_t cols, const real[::1] z, const real[::1] target, const real[::1] weight,
                  real[::1] delta):
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.squared_error(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
        else:
            loss = table.f64.squared_error(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
    return loss


def absolute_error(Py_ssize_t cols, const real[::1] z, const real[::1] target, const real[::1] weight, real[::1] delta):
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.absolute_error(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
        else:
            loss = table.f64.absolute_error(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
    return loss


def huber(Py_ssize_t cols, const real[::1] z, const real[::1] target, const real[::1] weight, real[::1] delta):
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.huber(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
        else:
            loss = table.f64.huber(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
    return loss


def poisson(Py_ssize_t cols, const real[::1] z, const real[::1] target, const real[::1] weight, real[::1] delta):
    cdef const real *w = &weight[0] if weight.shape[0] else NULL
    cdef double loss
    with nogil:
        if real is float:
            loss = table.f32.poisson(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
        else:
            loss = table.f64.poisson(z.shape[0] // cols, cols, &z[0], &target[0], w, &delta[0])
    return loss


# -- update rules; terms = (scale, l1, l2, factor, clip_value) ---------------------------------------------------------

def gradient_norm2(const real[::1] theta, const real[::1] grad, tuple terms):
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    cdef double norm2
    with nogil:
        if real is float:
            norm2 = table.f32.gradient_norm2(theta.shape[0], &t, &theta[0], &grad[0])
        else:
            norm2 = table.f64.gradient_norm2(theta.shape[0], &t, &theta[0], &grad[0])
    return norm2


def sgd_update(real[::1] theta, const real[::1] grad, real[::1] velocity, double learning_rate, double momentum,
               bint nesterov, tuple terms):
    """An empty velocity is none."""
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    cdef real *v = &velocity[0] if velocity.shape[0] else NULL
    with nogil:
        if real is float:
            table.f32.sgd_update(theta.shape[0], &t, learning_rate, momentum, nesterov, &grad[0], &theta[0], v)
        else:
            table.f64.sgd_update(theta.shape[0], &t, learning_rate, momentum, nesterov, &grad[0], &theta[0], v)


# Steps of a recursion after which signals are looked for.
cdef enum:
    BETWEEN_SIGNALS = 1 << 22

# Where nag_momentum's last call ended: a step k and its t_k.
cdef long long nag_step = 1
cdef double nag_t = 1.0


def nag_momentum(long long step, double[::1] momenta):
    """Those of steps step, step + 1, ...; a call that goes on where the last one ended does not start from t_1."""
    global nag_step, nag_t
    cdef long long k = nag_step
    cdef double t = nag_t, after
    cdef Py_ssize_t i, end, done = 0
    if k > step:
        k, t = 1, 1.0
    while k < step:
        end = min(step, k + BETWEEN_SIGNALS)
        with nogil:
            while k < end:
                t = (1 + sqrt(1 + 4 * t * t)) / 2
                k += 1
        PyErr_CheckSignals()
    while done < momenta.shape[0]:
        end = min(momenta.shape[0], done + BETWEEN_SIGNALS)
        with nogil:
            for i in range(done, end):
                after = (1 + sqrt(1 + 4 * t * t)) / 2
                momenta[i] = (t - 1) / after
                t = after
        done = end
        PyErr_CheckSignals()
    nag_step, nag_t = min(step, INT64_MAX - done) + done, t


def nag_update(real[::1] theta, const real[::1] grad, real[::1] ahead, double learning_rate, double momentum,
               tuple terms):
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    with nogil:
        if real is float:
            table.f32.nag_update(theta.shape[0], &t, learning_rate, momentum, &grad[0], &theta[0], &ahead[0])
        else:
            table.f64.nag_update(theta.shape[0], &t, learning_rate, momentum, &grad[0], &theta[0], &ahead[0])


def adagrad_update(real[::1] theta, const real[::1] grad, real[::1] s, double learning_rate, double epsilon,
                   tuple terms):
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    with nogil:
        if real is float:
            table.f32.adagrad_update(theta.shape[0], &t, learning_rate, epsilon, &grad[0], &theta[0], &s[0])
        else:
            table.f64.adagrad_update(theta.shape[0], &t, learning_rate, epsilon, &grad[0], &theta[0], &s[0])


def rmsprop_update(real[::1] theta, const real[::1] grad, real[::1] s, real[::1] mean, real[::1] velocity,
                   double learning_rate, double rho, double epsilon, double momentum, tuple terms):
    """An empty mean or velocity is none."""
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    cdef real *m = &mean[0] if mean.shape[0] else NULL
    cdef real *v = &velocity[0] if velocity.shape[0] else NULL
    with nogil:
        if real is float:
            table.f32.rmsprop_update(theta.shape[0], &t, learning_rate, rho, epsilon, momentum, &grad[0], &theta[0],
                                     &s[0], m, v)
        else:
            table.f64.rmsprop_update(theta.shape[0], &t, learning_rate, rho, epsilon, momentum, &grad[0], &theta[0],
                                     &s[0], m, v)


def adam_update(real[::1] theta, const real[::1] grad, real[::1] m, real[::1] v, real[::1] v_max, long long step,
                double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
                bint epsilon_hat, tuple terms):
    """An empty v_max is none."""
    cdef fnn_terms t = fnn_terms(terms[0], terms[1], terms[2], terms[3], terms[4])
    cdef double bias1 = 1 - beta1 ** <double>step, bias2 = 1 - beta2 ** <double>step
    cdef real *top = &v_max[0] if v_max.shape[0] else NULL
    if epsilon_hat:
        epsilon /= sqrt(bias2)
    with nogil:
        if real is float:
            table.f32.adam_update(theta.shape[0], &t, bias1, bias2, learning_rate, beta1, beta2, epsilon,
                                  weight_decay, &grad[0], &theta[0], &m[0], &v[0], top)
        else:
            table.f64.adam_update(theta.shape[0], &t, bias1, bias2, learning_rate, beta1, beta2, epsilon,
                                  weight_decay, &grad[0], &theta[0], &m[0], &v[0], top)


# -- normalisation: (rows, cols) flat, vectors of cols; the stages of batch norm one by one -----------------------------

cdef enum:
    MAX_SHARDS = 64


def batch_norm_moments(const real[::1] z, real[::1] mean, real[::1] m2):
    cdef Py_ssize_t cols = mean.shape[0]
    with nogil:
        if real is float:
            table.f32.batch_norm_moments(z.shape[0] // cols, cols, &z[0], &mean[0], &m2[0])
        else:
            table.f64.batch_norm_moments(z.shape[0] // cols, cols, &z[0], &mean[0], &m2[0])


def batch_norm_combine(const ptrdiff_t[::1] counts, const real[:, ::1] means, const real[:, ::1] m2s, real[::1] mean,
                       real[::1] variance):
    """Row s of means and m2s is that of a shard of counts[s] rows."""
    cdef const real *mean_of[MAX_SHARDS]
    cdef const real *m2_of[MAX_SHARDS]
    cdef int s, n = <int>counts.shape[0]
    if n > MAX_SHARDS:
        raise ValueError(f"counts: expected at most {MAX_SHARDS} shards, got {n}")
    for s in range(n):
        mean_of[s] = &means[s, 0]
        m2_of[s] = &m2s[s, 0]
    with nogil:
        if real is float:
            table.f32.batch_norm_combine(mean.shape[0], n, &counts[0], mean_of, m2_of, &mean[0], &variance[0])
        else:
            table.f64.batch_norm_combine(mean.shape[0], n, &counts[0], mean_of, m2_of, &mean[0], &variance[0])


def batch_norm_normalise(const real[::1] z, const real[::1] mean, const real[::1] inv_std, const real[::1] gamma,
                         const real[::1] beta, real[::1] normalised, real[::1] out):
    """An empty `normalised` is not written."""
    cdef Py_ssize_t cols = mean.shape[0]
    cdef real *saved = &normalised[0] if normalised.shape[0] else NULL
    with nogil:
        if real is float:
            table.f32.batch_norm_normalise(z.shape[0] // cols, cols, &z[0], &mean[0], &inv_std[0], &gamma[0], &beta[0],
                                           saved, &out[0])
        else:
            table.f64.batch_norm_normalise(z.shape[0] // cols, cols, &z[0], &mean[0], &inv_std[0], &gamma[0], &beta[0],
                                           saved, &out[0])


def batch_norm_backward_sums(const real[::1] delta, const real[::1] z, const real[::1] mean, const real[::1] inv_std,
                             real[::1] sum_delta, real[::1] sum_delta_normalised):
    """With an empty `mean`, z is normalised."""
    cdef Py_ssize_t cols = sum_delta.shape[0]
    cdef const real *mu = &mean[0] if mean.shape[0] else NULL
    with nogil:
        if real is float:
            table.f32.batch_norm_backward_sums(delta.shape[0] // cols, cols, &delta[0], &z[0], mu, &inv_std[0],
                                               &sum_delta[0], &sum_delta_normalised[0])
        else:
            table.f64.batch_norm_backward_sums(delta.shape[0] // cols, cols, &delta[0], &z[0], mu, &inv_std[0],
                                               &sum_delta[0], &sum_delta_normalised[0])


def batch_norm_backward_apply(const real[::1] delta, const real[::1] z, const real[::1] mean, const real[::1] gamma,
                              const real[::1] inv_std, const real[::1] mean_delta,
                              const real[::1] mean_delta_normalised, real[::1] dz):
    """With an empty `mean`, z is normalised."""
    cdef Py_ssize_t cols = gamma.shape[0]
    cdef const real *mu = &mean[0] if mean.shape[0] else NULL
    with nogil:
        if real is float:
            table.f32.batch_norm_backward_apply(delta.shape[0] // cols, cols, &delta[0], &z[0], mu, &gamma[0],
                                                &inv_std[0], &mean_delta[0], &mean_delta_normalised[0], &dz[0])
        else:
            table.f64.batch_norm_backward_apply(delta.shape[0] // cols, cols, &delta[0], &z[0], mu, &gamma[0],
                                                &inv_std[0], &mean_delta[0], &mean_delta_normalised[0], &dz[0])


cdef object new_array = np.empty, view_array = np.ndarray
cdef object BYTE = np.dtype(np.uint8), SINGLE = np.dtype(np.float32), DOUBLE = np.dtype(np.float64)


cdef char matrix(object array, Py_ssize_t *rows, Py_ssize_t *cols, void **first, int more=0) except -1:
    """"f" or "d", shape and first element of a C-contiguous float matrix with elements; 0 of anything else."""
    cdef Py_buffer view
    cdef char kind = 0
    if type(array) is not view_array:
        return 0
    try:
        PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | more)
    except (BufferError, TypeError, ValueError):
        return 0
    if view.ndim == 2 and view.len and (view.format[0] == c'f' or view.format[0] == c'd') and view.format[1] == 0:
        kind = view.format[0]
        rows[0], cols[0], first[0] = view.shape[0], view.shape[1], view.buf
    PyBuffer_Release(&view)
    return kind


cdef void *vector(object array, char kind, Py_ssize_t length) except? NULL:
    """The first element of a C-contiguous array (length,) of the kind; NULL of anything else."""
    cdef Py_buffer view
    cdef void *first = NULL
    if type(array) is not view_array:
        return NULL
    try:
        PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (BufferError, TypeError, ValueError):
        return NULL
    if view.ndim == 1 and view.shape[0] == length and view.format[0] == kind and view.format[1] == 0:
        first = view.buf
    PyBuffer_Release(&view)
    return first


cdef object matrix_like(void *other, char kind, Py_ssize_t rows, Py_ssize_t cols, void **first):
    """A new matrix that starts as far from a cache line as `other`: aligned vectors of one are so of both."""
    cdef Py_buffer view
    raw = new_array(rows * cols * (4 if kind == c'f' else 8) + FNN_ALIGN, BYTE)
    PyObject_GetBuffer(raw, &view, PyBUF_C_CONTIGUOUS)
    cdef Py_ssize_t offset = (<Py_ssize_t>other - <Py_ssize_t>view.buf) & (FNN_ALIGN - 1)
    first[0] = <char *>view.buf + offset
    PyBuffer_Release(&view)
    return view_array((rows, cols), SINGLE if kind == c'f' else DOUBLE, raw, offset)


cdef object result_matrix(object out, void *like, char kind, Py_ssize_t rows, Py_ssize_t cols, void **first):
    """`out`, or a new matrix for None; None where the result does not fit into `out`."""
    cdef Py_ssize_t n, width
    if out is None:
        return matrix_like(like, kind, rows, cols, first)
    return out if matrix(out, &n, &width, first, PyBUF_WRITABLE) == kind and n == rows and width == cols else None


cdef bint overlap(void *a, Py_ssize_t a_bytes, void *b, Py_ssize_t b_bytes):
    """Whether two arrays have a byte in common."""
    return <char *>a < <char *>b + b_bytes and <char *>b < <char *>a + a_bytes


# The two that follow look at their arguments themselves and make their results, which typed arguments and Python would
# take as long for as the arithmetic of a small batch.

def batch_norm_forward(Z, gamma, beta, epsilon, into):
    """All stages for one shard: out, mean, variance. None, and nothing done, unless the arguments are
    contiguous arrays that fit each other and a float. The first is `into` unless that is None."""
    cdef Py_ssize_t rows, cols
    cdef void *z
    cdef void *out
    cdef char kind = matrix(Z, &rows, &cols, &z)
    if kind == 0 or type(epsilon) is not float or not 0.0 < <double>epsilon < INFINITY:
        return None
    cdef double eps = epsilon
    cdef void *scale = vector(gamma, kind, cols)
    cdef void *shift = vector(beta, kind, cols)
    if scale == NULL or shift == NULL:
        return None
    result = result_matrix(into, z, kind, rows, cols, &out)
    cdef Py_ssize_t row = cols * (4 if kind == c'f' else 8), size = rows * row
    if result is None or (out != z and overlap(out, size, z, size)):
        return None
    if overlap(out, size, scale, row) or overlap(out, size, shift, row):
        return None
    dtype = SINGLE if kind == c'f' else DOUBLE
    mean, variance = new_array(cols, dtype), new_array(cols, dtype)
    cdef void *mu = vector(mean, kind, cols)
    cdef void *var = vector(variance, kind, cols)
    cdef void *inv_std = malloc(cols * 8)
    if inv_std == NULL:
        raise MemoryError
    with nogil:
        if kind == c'f':
            table.f32.batch_norm_forward(rows, cols, <float *>z, <float *>scale, <float *>shift, eps, <float *>mu,
                                         <float *>var, <float *>inv_std, <float *>out)
        else:
            table.f64.batch_norm_forward(rows, cols, <double *>z, <double *>scale, <double *>shift, eps, <double *>mu,
                                         <double *>var, <double *>inv_std, <double *>out)
    free(inv_std)
    return result, mean, variance


def batch_norm_backward(delta, Z, gamma, mean, variance, epsilon, into):
    """All stages for one shard: dZ, dgamma, dbeta. None: as batch_norm_forward."""
    cdef Py_ssize_t rows, cols, n, width
    cdef void *d
    cdef void *z
    cdef void *dz
    cdef char kind = matrix(delta, &rows, &cols, &d)
    if kind == 0 or type(epsilon) is not float or not 0.0 < <double>epsilon < INFINITY:
        return None
    cdef double eps = epsilon
    cdef void *scale = vector(gamma, kind, cols)
    cdef void *mu = vector(mean, kind, cols)
    cdef void *var = vector(variance, kind, cols)
    if matrix(Z, &n, &width, &z) != kind or n != rows or width != cols or scale == NULL or mu == NULL or var == NULL:
        return None
    result = result_matrix(into, d, kind, rows, cols, &dz)
    cdef Py_ssize_t row = cols * (4 if kind == c'f' else 8), size = rows * row
    if result is None or (dz != d and overlap(dz, size, d, size)) or (dz != z and overlap(dz, size, z, size)):
        return None
    if overlap(dz, size, scale, row) or overlap(dz, size, mu, row) or overlap(dz, size, var, row):
        return None
    dtype = SINGLE if kind == c'f' else DOUBLE
    dgamma, dbeta = new_array(cols, dtype), new_array(cols, dtype)
    cdef void *g = vector(dgamma, kind, cols)
    cdef void *b = vector(dbeta, kind, cols)
    cdef void *work = malloc(3 * cols * 8)
    if work == NULL:
        raise MemoryError
    with nogil:
        if kind == c'f':
            table.f32.batch_norm_backward(rows, cols, <float *>d, <float *>z, <float *>scale, <float *>mu, <float *>var,
                                          eps, <float *>work, <float *>g, <float *>b, <float *>dz)
        else:
            table.f64.batch_norm_backward(rows, cols, <double *>d, <double *>z, <double *>scale, <double *>mu, <double *>var,
                                          eps, <double *>work, <double *>g, <double *>b, <double *>dz)
    free(work)
    return result, dgamma, dbeta


def scale_shift(const real[::1] x, const real[::1] scale, const real[::1] shift, real[::1] out):
    cdef Py_ssize_t cols = scale.shape[0]
    with nogil:
        if real is float:
            table.f32.scale_shift(x.shape[0] // cols, cols, &x[0], &scale[0], &shift[0], &out[0])
        else:
            table.f64.scale_shift(x.shape[0] // cols, cols, &x[0], &scale[0], &shift[0], &out[0])


def layer_norm_forward(const real[::1] z, const real[::1] gamma, const real[::1] beta, double epsilon,
                       real[::1] normalised, real[::1] inv_std, real[::1] out):
    cdef Py_ssize_t cols = gamma.shape[0]
    with nogil:
        if real is float:
            table.f32.layer_norm_forward(z.shape[0] // cols, cols, &z[0], &gamma[0], &beta[0], epsilon, &normalised[0],
                                         &inv_std[0], &out[0])
        else:
            table.f64.layer_norm_forward(z.shape[0] // cols, cols, &z[0], &gamma[0], &beta[0], epsilon, &normalised[0],
                                         &inv_std[0], &out[0])


def layer_norm_backward(const real[::1] delta, const real[::1] normalised, const real[::1] gamma,
                        const real[::1] inv_std, real[::1] dz, real[::1] dgamma, real[::1] dbeta):
    """Adds to dgamma and dbeta."""
    cdef Py_ssize_t cols = gamma.shape[0]
    with nogil:
        if real is float:
            table.f32.layer_norm_backward(delta.shape[0] // cols, cols, &delta[0], &normalised[0], &gamma[0],
                                          &inv_std[0], &dz[0], &dgamma[0], &dbeta[0])
        else:
            table.f64.layer_norm_backward(delta.shape[0] // cols, cols, &delta[0], &normalised[0], &gamma[0],
                                          &inv_std[0], &dz[0], &dgamma[0], &dbeta[0])


# -- dropout ----------------------------------------------------------------------------------------------------------

def dropout(Py_ssize_t cols, const real[::1] x, double rate, uint64_t seed, uint64_t step, int layer,
            Py_ssize_t first_row, real[::1] out):
    with nogil:
        if real is float:
            table.f32.dropout(x.shape[0] // cols, cols, seed, step, layer, first_row, rate, &x[0], &out[0])
        else:
            table.f64.dropout(x.shape[0] // cols, cols, seed, step, layer, first_row, rate, &x[0], &out[0])


# -- rows -------------------------------------------------------------------------------------------------------------

# As NumPy declares it for those who draw from a bit generator in compiled code (numpy/random/bitgen.h).
cdef struct bitgen_t:
    void *state
    uint64_t (*next_uint64)(void *state) noexcept nogil
    uint32_t (*next_uint32)(void *state) noexcept nogil
    double (*next_double)(void *state) noexcept nogil
    uint64_t (*next_raw)(void *state) noexcept nogil


cdef void shuffle_once(int64_t[::1] rows, bitgen_t *bits) noexcept nogil:
    cdef uint64_t i, j, taken, mask = 1, n = <uint64_t>rows.shape[0]
    cdef int64_t row
    while mask < n:
        mask = 2 * mask + 1
    i = n - 1 if n > 0 else 0
    while i > 0:
        while mask >> 1 >= i:
            mask >>= 1
        # Rejection, with as many bits as i has. What is rejected exchanges i with itself and leaves it where it is: a
        # branch would be taken at random.
        j = (bits.next_uint32(bits.state) if mask <= UINT32_MAX else bits.next_uint64(bits.state)) & mask
        taken = j <= i
        j = i ^ ((i ^ j) & (0 - taken))
        row = rows[i]
        rows[i] = rows[j]
        rows[j] = row
        i -= taken


def shuffle(int64_t[::1] rows, bit_generator, int64_t[:, ::1] orders=None):
    cdef Py_ssize_t k
    capsule = bit_generator.capsule
    cdef bitgen_t *bits = <bitgen_t *>PyCapsule_GetPointer(capsule, "BitGenerator")
    with bit_generator.lock, nogil:
        if orders is None:
            shuffle_once(rows, bits)
        else:
            for k in range(orders.shape[0]):
                shuffle_once(rows, bits)
                orders[k] = rows


def all_finite(const real[::1] x):
    cdef Py_ssize_t n = x.shape[0]
    if n == 0:
        return True
    cdef bint finite
    with nogil:
        if real is float:
            finite = table.f32.all_finite(n, &x[0])
        else:
            finite = table.f64.all_finite(n, &x[0])
    return finite
