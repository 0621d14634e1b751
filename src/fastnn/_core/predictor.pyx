"""Predictions of few rows, again and again: arguments are checked in C, and nothing is allocated but the result."""
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

import numpy as np

from ..plan import ACTIVATIONS
from ..predictor import check_out

from .engine cimport FEW_ROWS, FewRows
from .job cimport FNN_SOURCE_F32, FNN_SOURCE_F64, FNN_SOURCE_U8
from .kernels cimport active, fnn_call_activation_forward, fnn_call_all_finite, fnn_call_exp, fnn_call_softmax
from .tuning cimport tuned

from libc.math cimport INFINITY

ctypedef fused real:
    float
    double

cdef object ndarray = np.ndarray, empty = np.empty
cdef int SIGMOID_CODE = list(ACTIVATIONS).index("sigmoid")
#: Multiplications up to which a call stays in its thread and keeps the interpreter's lock.
cdef double MOST_WORK = 1e6

cdef enum Result:
    LARGEST   # index of the largest output
    POSITIVE  # whether an output is above 0
    VALUES    # the outputs
    RATES     # their exponentials
    SHARES    # softmax
    CHANCES   # sigmoid
    BOTH      # sigmoid of -z and of z

RESULTS = {"largest": LARGEST, "positive": POSITIVE, "values": VALUES, "rates": RATES, "shares": SHARES,
           "chances": CHANCES, "both": BOTH}


cdef void largest(const real *z, ptrdiff_t rows, ptrdiff_t n, int64_t *found) noexcept:
    """Index of the first largest element of each row of finite ones, as NumPy's argmax."""
    cdef ptrdiff_t row, j, best
    for row in range(rows):
        best = 0
        for j in range(1, n):
            if z[j] > z[best]:
                best = j
        found[row] = best
        z += n


cdef void positive(const real *z, ptrdiff_t n, int64_t *found) noexcept:
    cdef ptrdiff_t j
    for j in range(n):
        found[j] = z[j] > 0


cdef void both_signs(real *z, ptrdiff_t rows, real *pairs) noexcept:
    cdef ptrdiff_t row
    for row in range(rows):
        pairs[2 * row], pairs[2 * row + 1] = -z[row], z[row]


cdef class Predictor:
    """See fastnn.predictor.Predictor. `plain` answers the calls that are not of few rows in a plain array."""
    cdef FewRows forward
    cdef object plain, dtype
    cdef Result kind
    cdef ptrdiff_t n_in, n_out, width, most_rows, itemsize
    cdef bint single, flat
    cdef char element

    def __cinit__(self, plan, theta, buffers, str result, plain):
        self.forward = FewRows(plan, theta, buffers)
        self.plain, self.kind = plain, RESULTS[result]
        self.n_in, self.n_out = self.forward.n_in, self.forward.n_out
        self.single = plan.dtype == np.float32
        self.dtype = np.dtype(np.int64) if self.kind in (LARGEST, POSITIVE) else plan.dtype
        self.element = c"q" if self.kind in (LARGEST, POSITIVE) else c"f" if self.single else c"d"
        self.itemsize = self.dtype.itemsize
        self.width = 1 if self.kind == LARGEST else 2 if self.kind == BOTH else self.n_out
        self.flat = self.width == 1
        self.most_rows = <ptrdiff_t>max(0.0, min(<double>FEW_ROWS, MOST_WORK / max(1, theta.size)))

    def __reduce__(self):
        return self.plain.__reduce__()

    def __call__(self, X, out=None):
        """Result for X, (N, D), or for one row (D,)."""
        cdef Py_buffer view
        if type(X) is not ndarray or tuned.blas_work != INFINITY:
            return self.plain(X, out)
        try:
            PyObject_GetBuffer(X, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except ValueError:
            return self.plain(X, out)
        try:
            rows = self.rows_of(&view)
            if rows <= 0:
                return self.plain(X, out)
            result = self.answer(view.buf, self.source_of(&view), rows, view.ndim == 1, out)
            return self.plain(X, out) if result is NotImplemented else result
        finally:
            PyBuffer_Release(&view)

    cdef int source_of(self, const Py_buffer *view) noexcept:
        """The engine's code of the element type, -1 where it is none that needs no narrowing."""
        cdef char code = view.format[0] if view.format != NULL and view.format[1] == 0 else 0
        if code == c"B":
            return FNN_SOURCE_U8
        if code == c"f":
            return FNN_SOURCE_F32
        return FNN_SOURCE_F64 if code == c"d" and not self.single else -1

    cdef ptrdiff_t rows_of(self, const Py_buffer *view) noexcept:
        """Rows of plain, finite data; 0 if it is no such, or not of few rows."""
        cdef ptrdiff_t rows
        cdef int source = self.source_of(view)
        if source < 0 or <uintptr_t>view.buf % view.itemsize or not 1 <= view.ndim <= 2:
            return 0
        rows = 1 if view.ndim == 1 else view.shape[0]
        if view.shape[view.ndim - 1] != self.n_in or rows > self.most_rows:
            return 0
        if source == FNN_SOURCE_U8 or fnn_call_all_finite(active(), view.itemsize == 4, rows * self.n_in, view.buf):
            return rows
        return 0

    cdef object answer(self, void *x, int source, ptrdiff_t rows, bint one, out):
        """The result for checked rows; NotImplemented where outputs are not finite."""
        cdef Py_buffer view
        cdef void *z
        cdef int64_t label = 0
        cdef double value = 0.0
        if one and self.flat and out is None:
            z = self.forward.run(x, source, rows)
            if not fnn_call_all_finite(active(), self.single, self.n_out * rows, z):
                return NotImplemented
            self.finish(z, rows, &label if self.kind in (LARGEST, POSITIVE) else <void *>&value)
            if self.kind in (LARGEST, POSITIVE):
                return label
            return (<float *>&value)[0] if self.single else value
        if out is None:
            out = empty(self.shape_of(rows, one), self.dtype)
        self.take_buffer(out, &view, rows, one)
        try:
            z = self.forward.run(x, source, rows)
            if not fnn_call_all_finite(active(), self.single, self.n_out * rows, z):
                return NotImplemented
            self.finish(z, rows, view.buf)
        finally:
            PyBuffer_Release(&view)
        return out

    cdef tuple shape_of(self, ptrdiff_t rows, bint one):
        shape = () if one else (rows,)
        return shape if self.flat else shape + (self.width,)

    cdef int take_buffer(self, out, Py_buffer *view, ptrdiff_t rows, bint one) except -1:
        """The memory of an array for the result, which is refused where it does not fit."""
        cdef int n = 0 if one else 1
        cdef bint fits
        if type(out) is not ndarray:
            check_out(out, self.shape_of(rows, one), self.dtype)
        try:
            PyObject_GetBuffer(out, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE)
        except (BufferError, ValueError):
            check_out(out, self.shape_of(rows, one), self.dtype)
            raise
        fits = view.ndim == n + (not self.flat) and (one or view.shape[0] == rows)
        fits = fits and (self.flat or view.shape[n] == self.width) and not <uintptr_t>view.buf % view.itemsize
        fits = fits and (view.format[0] == self.element or (self.element == c"q" and view.format[0] == c"l"))
        if not fits or view.format[1] != 0 or view.itemsize != self.itemsize:
            PyBuffer_Release(view)
            check_out(out, self.shape_of(rows, one), self.dtype)
            raise ValueError("out: expected an array of the machine's byte order")
        return 0

    cdef int finish(self, void *z, ptrdiff_t rows, void *found) except -1:
        """From the outputs of the last layer to the result."""
        cdef ptrdiff_t n = rows * self.n_out
        cdef void *pairs = self.forward.scratch()
        if self.kind == LARGEST:
            if self.single:
                largest(<float *>z, rows, self.n_out, <int64_t *>found)
            else:
                largest(<double *>z, rows, self.n_out, <int64_t *>found)
        elif self.kind == POSITIVE:
            if self.single:
                positive(<float *>z, n, <int64_t *>found)
            else:
                positive(<double *>z, n, <int64_t *>found)
        elif self.kind == VALUES:
            memcpy(found, z, n * (4 if self.single else 8))
        elif self.kind == RATES:
            fnn_call_exp(active(), self.single, n, z, found)
        elif self.kind == SHARES:
            fnn_call_softmax(active(), self.single, rows, self.n_out, z, found)
        elif self.kind == CHANCES:
            fnn_call_activation_forward(active(), self.single, SIGMOID_CODE, 0.0, n, z, found)
        else:
            if self.single:
                both_signs(<float *>z, rows, <float *>pairs)
            else:
                both_signs(<double *>z, rows, <double *>pairs)
            fnn_call_activation_forward(active(), self.single, SIGMOID_CODE, 0.0, 2 * n, pairs, found)
        return 0
