"""Entry points of csrc's kernels: C-contiguous arrays in, C-contiguous arrays out.

The table of kernels in use, a function for each kernel (kernel_bindings.pxi, made of kernel_list.h) and what is more
than a call. Shapes and values have been checked by fastnn.kernels; element types, contiguity, alignment and read-only
outputs are checked here.
"""
import os

import numpy as np

from ..losses import LOSSES
from ..plan import ACTIVATIONS, RULES

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, pow, sqrt
from libc.stdint cimport INT64_MAX, UINT32_MAX, int32_t, int64_t, uint32_t, uint64_t  # no-cython-lint: used in the .pxi
from libc.stdlib cimport free, malloc
from libc.string cimport strchr

cdef extern from "base/common.h" nogil:
    enum: FNN_ALIGN

ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}

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


# -- the kernels -------------------------------------------------------------------------------------------------------

cdef void *elements(str name, object array, char *element, bint writable) except? NULL:
    """Address of an array of floats, NULL for None. `element` is "f" or "d", set by the first array of a call."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    cdef void *first = view.buf
    cdef char found = view.format[0] if view.format[1] == 0 else 0
    PyBuffer_Release(&view)
    if (found != c'f' and found != c'd') or (element[0] != 0 and found != element[0]):
        raise TypeError(f"{name}: expected aligned elements of the call's one dtype, float32 or float64")
    element[0] = found
    return first


cdef void *address(str name, object array, const char *formats, bint writable) except? NULL:
    """Address of an array whose format is one of the letters of `formats`, or any if there are none; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    cdef void *first = view.buf
    cdef bint fits = formats[0] == 0 or (view.format[1] == 0 and strchr(formats, view.format[0]) != NULL)
    PyBuffer_Release(&view)
    if not fits:
        raise TypeError(f"{name}: expected aligned elements of format {formats.decode()}")
    return first


cdef const void **rows_of(str name, object matrix, char *element) except NULL:
    """The addresses of a matrix's rows, to be freed."""
    cdef Py_ssize_t i, rows, width
    cdef char *first = <char *>elements(name, matrix, element, False)
    rows, width = matrix.shape
    cdef const void **table = <const void **>malloc(max(rows, <Py_ssize_t>1) * sizeof(void *))
    if table == NULL:
        raise MemoryError(f"table of {rows} rows")
    for i in range(rows):
        table[i] = first + i * width * (4 if element[0] == c'f' else 8)
    return table


def gemm_pack_bytes():
    """The size of gemm's scratch."""
    return FNN_GEMM_PACK_BYTES


cdef fnn_terms terms_of(terms) except *:
    """The objective's terms: (scale, l1, l2, factor, clip_value)."""
    scale, l1, l2, factor, clip_value = terms
    return fnn_terms(scale, l1, l2, factor, clip_value)


include "kernel_bindings.pxi"


# -- update rules ------------------------------------------------------------------------------------------------------

RULE_CODES = {name: code for name in RULES if (code := fnn_call_rule_code(table, True, name.encode())) >= 0}


cdef fnn_numbers numbers_of(dict values) except *:
    return fnn_numbers(
        momentum=values.get("momentum", 0.0), beta1=values.get("beta1", 0.0), beta2=values.get("beta2", 0.0),
        rho=values.get("rho", 0.0), epsilon=values.get("epsilon", 0.0), bias1=1.0, bias2=1.0,
        nesterov=values.get("nesterov", False), epsilon_hat=values.get("epsilon_hat", False))


def update(int rule, terms, dict values, moments):
    """A step of a rule, in place on values["theta"] and the moments, which may be None; `values`: its arguments."""
    cdef char element = 0
    cdef fnn_terms limits = terms_of(terms)
    cdef fnn_numbers numbers = numbers_of(values)
    cdef double learning_rate = values["learning_rate"], decay = values.get("weight_decay", 0.0)
    cdef double step = values.get("step", 0.0)
    cdef ptrdiff_t n = values["theta"].size
    cdef void *theta = elements("theta", values["theta"], &element, True)
    cdef void *grad = elements("grad", values["grad"], &element, False)
    cdef void *of_rule[FNN_MOMENTS]
    cdef int k, kept = len(moments)
    for k in range(FNN_MOMENTS):
        of_rule[k] = elements("moments", moments[k], &element, True) if k < kept else NULL
    if step > 0.0:
        numbers.bias1, numbers.bias2 = 1.0 - pow(numbers.beta1, step), 1.0 - pow(numbers.beta2, step)
    with nogil:
        fnn_call_update(table, element == c'f', rule, n, &limits, &numbers, learning_rate, decay, grad, theta, of_rule)


# -- momenta -----------------------------------------------------------------------------------------------------------

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


# -- batch norm of a batch that is one shard --------------------------------------------------------------------------

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

def try_batch_norm_forward(Z, gamma, beta, epsilon, into):
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
        fnn_call_batch_norm_forward(table, kind == c'f', rows, cols, z, scale, shift, eps, mu, var, inv_std, out)
    free(inv_std)
    return result, mean, variance


def try_batch_norm_backward(delta, Z, gamma, mean, variance, epsilon, into):
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
        fnn_call_batch_norm_backward(table, kind == c'f', rows, cols, d, z, scale, mu, var, eps, work, g, b, dz)
    free(work)
    return result, dgamma, dbeta


# -- rows -------------------------------------------------------------------------------------------------------------

# As NumPy declares it for compiled code that draws from a bit generator (numpy/random/bitgen.h).
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
