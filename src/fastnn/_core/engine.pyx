"""A network's plan in C structs, and the calls that run it on worker threads.

The twin is fastnn.reference.network.Plan. Values have been checked by fastnn.network; here only what would be unsafe
to get wrong is: element types, sizes, contiguity, and indices.
"""
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport free, malloc

import atexit

import numpy as np

from ..plan import TrainResult, parameter_ranges
from ..reference.sparse import SparseRows
from .threads import blas_held_to_one_thread, blas_threads

from . cimport blas
from .kernels cimport active, fnn_kernels_f32, fnn_kernels_f64

from . import kernels as _kernels

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "activations.h" nogil:
    bint fnn_activation_saves_output(int kind)

cdef extern from "data.h" nogil:
    enum: FNN_SOURCE_F32, FNN_SOURCE_F64, FNN_SOURCE_U8

cdef extern from "plan.h" nogil:
    enum: FNN_DENSE, FNN_ACTIVATE, FNN_BATCH_NORM, FNN_LAYER_NORM, FNN_DROPOUT, FNN_STANDARDIZE
    enum: FNN_BATCH_NORM_COLUMNS, FNN_NARROW
    enum: FNN_CROSS_ENTROPY, FNN_BINARY_CROSS_ENTROPY, FNN_SQUARED_ERROR, FNN_ABSOLUTE_ERROR, FNN_HUBER, FNN_POISSON
    enum: FNN_SGD, FNN_NAG, FNN_ADAGRAD, FNN_RMSPROP, FNN_ADAM
    enum: FNN_OK, FNN_DIVERGED, FNN_INTERRUPTED
    enum: FNN_ALIGN

    ctypedef struct fnn_op:
        int kind, input, activation, accumulate, shared_weight, shared_bias
        double rate, epsilon, momentum, drop
        ptrdiff_t state, column, normalised
        ptrdiff_t n_in, n_out, weight, bias, out, pre, delta

    ctypedef struct fnn_segment:
        ptrdiff_t begin, end
        int penalised
        double rate

    ctypedef struct fnn_plan:
        const fnn_op *ops
        const fnn_segment *segments
        int n_ops, n_segments, loss, rated, batch_statistics, gathers, narrow
        ptrdiff_t column_elements
        ptrdiff_t n_parameters, n_in, n_out, row_elements
        double input_scale, label_smoothing

    ctypedef struct fnn_rule:
        int kind, nesterov, centered, amsgrad, epsilon_hat
        double learning_rate, momentum, beta1, beta2, rho, epsilon, weight_decay
        const double *momenta
        int64_t first

cdef extern from "pool.h" nogil:
    enum: FNN_MAX_WORKERS
    ctypedef void (*fnn_task)(void *arg, int worker) noexcept nogil
    ctypedef struct fnn_team:
        pass
    ctypedef struct fnn_barrier:
        pass
    int fnn_team_acquire(fnn_team *team, int n_workers)
    int fnn_team_run(fnn_team *team, fnn_task task, void *arg)
    void fnn_team_release(fnn_team *team)
    void fnn_pool_shutdown()
    void fnn_barrier_init(fnn_barrier *barrier, int n_workers)
    void fnn_barrier_destroy(fnn_barrier *barrier)

# Pointers to elements are declared void: one body then serves both element types.
cdef extern from "engine.h" nogil:
    ctypedef struct fnn_report:
        pass
    ctypedef int (*fnn_poll)(void *arg) noexcept nogil
    ctypedef void (*fnn_blas_f32)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const float *, ptrdiff_t, ptrdiff_t, const float *,
                                  ptrdiff_t, ptrdiff_t, int, float *, ptrdiff_t) noexcept nogil
    ctypedef void (*fnn_blas_f64)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const double *, ptrdiff_t, ptrdiff_t,
                                  const double *, ptrdiff_t, ptrdiff_t, int, double *, ptrdiff_t) noexcept nogil

    ctypedef struct fnn_job_f32:
        const fnn_plan *plan
        const fnn_kernels_f32 *kernels
        fnn_blas_f32 blas
        double blas_from
        void *x
        int x_type
        const int64_t *indptr
        const int32_t *columns
        ptrdiff_t rows
        void *labels
        void *target
        void *weight
        void *order
        double l1, l2
        void *statistics
        int training
        void *theta
        const fnn_rule *rule
        void *trained
        void *state
        const double *rates
        ptrdiff_t batch, epochs
        int64_t step
        double clip_norm, clip_value
        void *out
        void *gradient
        double *losses
        double *correct
        ptrdiff_t epochs_done
        int status, n_workers, n_shards, by_feature
        ptrdiff_t chunk
        char *workspace
        fnn_report *reports
        fnn_barrier *barrier
        fnn_poll poll
        void *poll_arg
        double polled, work

    ctypedef struct fnn_job_f64:
        const fnn_plan *plan
        const fnn_kernels_f64 *kernels
        fnn_blas_f64 blas
        double blas_from
        void *x
        int x_type
        const int64_t *indptr
        const int32_t *columns
        ptrdiff_t rows
        void *labels
        void *target
        void *weight
        void *order
        double l1, l2
        void *statistics
        int training
        void *theta
        const fnn_rule *rule
        void *trained
        void *state
        const double *rates
        ptrdiff_t batch, epochs
        int64_t step
        double clip_norm, clip_value
        void *out
        void *gradient
        double *losses
        double *correct
        ptrdiff_t epochs_done
        int status, n_workers, n_shards, by_feature
        ptrdiff_t chunk
        char *workspace
        fnn_report *reports
        fnn_barrier *barrier
        fnn_poll poll
        void *poll_arg
        double polled, work

    size_t fnn_engine_workspace_f32(const fnn_job_f32 *job)
    size_t fnn_engine_workspace_f64(const fnn_job_f64 *job)
    void fnn_engine_forward_f32(void *arg, int worker) noexcept
    void fnn_engine_forward_f64(void *arg, int worker) noexcept
    void fnn_engine_gradient_f32(void *arg, int worker) noexcept
    void fnn_engine_gradient_f64(void *arg, int worker) noexcept
    void fnn_engine_train_f32(void *arg, int worker) noexcept
    void fnn_engine_train_f64(void *arg, int worker) noexcept

ctypedef fused job_t:
    fnn_job_f32
    fnn_job_f64

atexit.register(lambda: fnn_pool_shutdown())

LOSSES = {"cross_entropy": FNN_CROSS_ENTROPY, "binary_cross_entropy": FNN_BINARY_CROSS_ENTROPY,
          "squared_error": FNN_SQUARED_ERROR, "absolute_error": FNN_ABSOLUTE_ERROR, "huber": FNN_HUBER,
          "poisson": FNN_POISSON}
KINDS = {"dense": FNN_DENSE, "activation": FNN_ACTIVATE, "batch_norm": FNN_BATCH_NORM, "layer_norm": FNN_LAYER_NORM,
         "dropout": FNN_DROPOUT, "standardize": FNN_STANDARDIZE}
RULES = {"sgd": FNN_SGD, "nag": FNN_NAG, "adagrad": FNN_ADAGRAD, "rmsprop": FNN_RMSPROP, "adam": FNN_ADAM}

# Multiplications per worker and batch below which a second worker costs more than it saves. The barriers are cheap; what
# costs is that each worker fetches what the others wrote of the gradient and of the parameters, some 35 µs a step for
# 784-64-64-10, which so gains from batch 64 on (measured on two cores; bench/report.py --section workers).
cdef double WORTH_A_WORKER = 1.5e6


def worth_a_worker(value=None):
    """The threshold, after setting it if a value is given: for measurements, and for tests that want many workers."""
    global WORTH_A_WORKER
    if value is not None:
        WORTH_A_WORKER = value
    return WORTH_A_WORKER


# Shards of a batch when results must not depend on the number of workers; no more workers than that are used then.
FIXED_SHARDS = 4

# Bytes of one chunk's rows, with everything that is kept for them: so many, and half as many again as the parameters
# have, which every chunk reads twice, and whose gradient it adds to (measured with 784-64-64-10, 784-256-256-10 and
# 784-512-512-10 in both types). A forward pass alone does best with a part of a second-level cache.
cdef double CHUNK_BYTES = 1 << 17, CHUNK_SHARE = 1.5, FORWARD_BYTES = 1 << 20

def chunk_bytes(value=None):
    """That size, after setting it if a value is given."""
    global CHUNK_BYTES
    if value is not None:
        CHUNK_BYTES = value
    return CHUNK_BYTES


# Rows of a chunk from which a narrow network runs by feature, and those of its chunks: whole tiles, and a distance
# between the features with which they do not fall on the same sets of a cache. It is worth it where partly filled
# vectors would make the products by row so many times longer (measured from 4-10-10-3 to 64-64-64).
cdef ptrdiff_t BY_FEATURE_FROM = 128, BY_FEATURE_CHUNK = 7 * 64
cdef double BY_FEATURE_WASTE = 1.15
cdef ptrdiff_t VECTOR_BYTES = {"avx512": 64, "avx2": 32}.get(_kernels.simd()["active"], 16)


def by_feature(from_rows=None, chunk=None, waste=None):
    """All three, after setting those that are given; a chunk has more than FNN_NARROW rows."""
    global BY_FEATURE_FROM, BY_FEATURE_CHUNK, BY_FEATURE_WASTE
    if waste is not None:
        BY_FEATURE_WASTE = waste
    if from_rows is not None:
        BY_FEATURE_FROM = max(<ptrdiff_t>(from_rows), <ptrdiff_t>(FNN_NARROW + 1))
    if chunk is not None:
        BY_FEATURE_CHUNK = max(<ptrdiff_t>(chunk), <ptrdiff_t>(FNN_NARROW + 1))
    return BY_FEATURE_FROM, BY_FEATURE_CHUNK, BY_FEATURE_WASTE


# Products of at least so many multiplications go to BLAS. Where our kernel has wide vectors and fma it is the faster
# one at every size that was measured (bench/test_kernels.py); elsewhere BLAS has code for the processor that it finds.
cdef double BLAS_FROM = 32.0 ** 3 if _kernels.simd()["active"] in ("baseline", "generic") else INFINITY


def blas_from(value=None):
    """That threshold, after setting it if a value is given."""
    global BLAS_FROM
    if value is not None:
        BLAS_FROM = value
    return BLAS_FROM


cdef void *address(str name, object array, str format, ptrdiff_t items, bint writable=False) except? NULL:
    """The first element of a C-contiguous array of `items` elements; the caller keeps the array alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    cdef void *start = view.buf
    cdef ptrdiff_t length = view.len, itemsize = view.itemsize
    found = view.format.decode() if view.format != NULL else "B"
    PyBuffer_Release(&view)
    if found != format and not (format == "q" and found == "l" and itemsize == 8):
        raise TypeError(f"{name}: expected element type {format!r}, got {found!r}")
    if length != items * itemsize:
        raise ValueError(f"{name}: expected {items} elements, got {length // itemsize}")
    return start


cdef int poll(void *errors) noexcept with gil:
    """Runs Python's signal handlers; what they raise is kept for the calling thread."""
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        (<list>errors).append(error)
        return 1
    return 0


cdef class _Workspace:
    """Aligned memory that outlives a call, so that the next one need not allocate."""
    cdef char *raw
    cdef char *start
    cdef size_t size

    def __cinit__(self, size_t size):
        self.raw = <char *>malloc(size + FNN_ALIGN)
        if self.raw == NULL:
            raise MemoryError(f"workspace of {size} bytes")
        self.start = self.raw + (FNN_ALIGN - <uintptr_t>self.raw % FNN_ALIGN) % FNN_ALIGN
        self.size = size

    def __dealloc__(self):
        free(self.raw)


cdef double row_work(ptrdiff_t k, ptrdiff_t n, ptrdiff_t lanes):
    """Time of k rows of n outputs, in multiplications: vectors are filled up, and one alone waits for its operands."""
    cdef ptrdiff_t vectors = (n + lanes - 1) // lanes
    return <double>(k * lanes) * (1.25 if vectors == 1 else vectors)


cdef bint runs_by_feature(ops, bint single):
    """Whether every operation is narrow and has a form that works by feature (see dense_body.h), and that is worth it.

    Operations that share parameters must share both or none, for both are added to together.
    """
    def same(a, b):
        return (a.weight == b.weight) == (a.bias == b.bias)

    cdef double work = 0, needed = 0
    cdef ptrdiff_t lanes = VECTOR_BYTES // (4 if single else 8)
    for op in ops:
        if op.kind not in ("dense", "activation") or max(op.n_in, op.n_out) > FNN_NARROW:
            return False
        if op.kind == "dense":
            work += 2 * row_work(op.n_in, op.n_out, lanes) + (op.input >= 0) * row_work(op.n_out, op.n_in, lanes)
            needed += (2 + (op.input >= 0)) * op.n_in * op.n_out
    return (work >= BY_FEATURE_WASTE * needed
            and all(same(a, b) for a in ops for b in ops if a.weight == b.weight or a.bias == b.bias >= 0))


cdef class Plan:
    """The compiled form of a list of operations; see fastnn.reference.network.Plan, its twin."""
    cdef fnn_plan plan
    cdef fnn_op *ops
    cdef fnn_segment *segments
    cdef bint single
    cdef readonly ptrdiff_t n_state
    cdef readonly object dtype
    cdef _Workspace spare

    def __cinit__(self, ops, ptrdiff_t n_parameters, str loss, str dtype, input_scale=None,
                  double label_smoothing=0.0):
        ops = tuple(ops)
        if not ops:
            raise ValueError("ops: expected at least one operation, got none")
        if loss not in LOSSES:
            raise ValueError(f"loss: unknown name {loss!r}; known: {', '.join(LOSSES)}")
        if not 0.0 <= label_smoothing < 1.0 or (label_smoothing != 0.0 and loss != "cross_entropy"):
            raise ValueError(f"label_smoothing: expected a number in [0, 1), or 0 for {loss}, got {label_smoothing!r}")
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        self.single = dtype == "float32"
        self.dtype = np.dtype(dtype)
        cdef int n = len(ops), i, j
        self.ops = <fnn_op *>malloc(n * sizeof(fnn_op))
        self.segments = <fnn_segment *>malloc((2 * n + 1) * 2 * sizeof(fnn_segment))
        if self.ops == NULL or self.segments == NULL:
            raise MemoryError("plan")
        self.plan.ops = self.ops
        self.plan.segments = self.segments
        self.plan.n_ops = n
        self.plan.loss = LOSSES[loss]
        self.plan.n_parameters = n_parameters
        self.plan.n_in = ops[0].n_in
        self.plan.n_out = ops[n - 1].n_out
        self.plan.input_scale = 1.0 if input_scale is None else input_scale
        self.plan.label_smoothing = label_smoothing
        self.plan.batch_statistics = self.plan.gathers = 0
        self.plan.column_elements = self.n_state = 0
        self.plan.narrow = runs_by_feature(ops, self.single)
        cdef ptrdiff_t at = 0
        cdef fnn_op *op
        for i in range(n):
            spec = ops[i]
            op = self.ops + i
            width = ops[0].n_in if spec.input < 0 else ops[spec.input].n_out if spec.input < i else None
            product = spec.kind == "dense"
            parameters = spec.n_in * spec.n_out if product else spec.n_out
            if not (spec.kind in KINDS and spec.input >= -1 and spec.n_in == width and spec.n_in > 0 and spec.n_out > 0
                    and (product or spec.n_in == spec.n_out)
                    and (0 if product else -1) <= spec.weight <= n_parameters - parameters
                    and -1 <= spec.bias <= n_parameters - spec.n_out):
                raise ValueError(f"ops[{i}]: {spec} does not fit its input or theta of length {n_parameters}")
            op.kind = KINDS[spec.kind]
            op.input = spec.input
            op.rate, op.epsilon, op.momentum, op.drop = spec.rate, spec.epsilon, spec.momentum, spec.drop
            op.n_in, op.n_out, op.weight, op.bias = spec.n_in, spec.n_out, spec.weight, spec.bias
            op.activation = _kernels.ACTIVATION_CODES[spec.activation]
            op.accumulate = any(ops[j].input == spec.input for j in range(i + 1, n))
            op.shared_weight = spec.weight >= 0 and any(ops[j].weight == spec.weight for j in range(i + 1, n))
            op.shared_bias = spec.bias >= 0 and any(ops[j].bias == spec.bias for j in range(i + 1, n))
            if not product and (op.accumulate or op.shared_weight):
                raise ValueError(f"ops[{i}]: only a dense operation may share its input or its parameters")
            op.out = at
            at += op.n_out + self.plan.narrow  # a row of ones
            op.pre = -1
            op.normalised = 0
            if op.kind in (FNN_DENSE, FNN_ACTIVATE) and not fnn_activation_saves_output(op.activation):
                op.pre = at
                at += op.n_out
            if op.kind in (FNN_BATCH_NORM, FNN_LAYER_NORM):
                op.normalised = at
                at += op.n_out + 1
            op.state = spec.state
            size = {"batch_norm": 2 * spec.n_out + 1, "standardize": 2 * spec.n_out, "dropout": 1}.get(spec.kind, 0)
            if size and spec.state < 0:
                raise ValueError(f"ops[{i}]: a {spec.kind} needs a place in the state")
            self.n_state = max(self.n_state, spec.state + size)
            op.column = self.plan.column_elements
            if op.kind == FNN_BATCH_NORM:
                self.plan.column_elements += FNN_BATCH_NORM_COLUMNS * op.n_out
                self.plan.batch_statistics = 1
            if not product and spec.input < 0:
                self.plan.gathers = 1
        for i in range(n - 1):
            if not any(ops[j].input == i for j in range(i + 1, n)):
                raise ValueError(f"ops[{i}]: nothing reads its output")
        ranges = {(spec.weight, spec.weight + (spec.n_in * spec.n_out if spec.kind == "dense" else spec.n_out))
                  for spec in ops if spec.weight >= 0}
        ranges |= {(spec.bias, spec.bias + spec.n_out) for spec in ops if spec.bias >= 0}
        borders = [(0, 0), *sorted(ranges), (n_parameters, n_parameters)]
        if any(left[1] != right[0] for left, right in zip(borders, borders[1:])):
            raise ValueError(f"ops: their parameters must cover theta of length {n_parameters} without gaps or overlaps")
        at = self.place_deltas(at)
        self.plan.row_elements = at
        self.cut_segments(ops)

    def __dealloc__(self):
        free(self.ops)
        free(self.segments)

    cdef ptrdiff_t place_deltas(self, ptrdiff_t at) except -1:
        """A chain of products needs two buffers by turns; an op that works in place has that of its input. Where an
        output is read from afar every op gets its own."""
        cdef int i, turn = 0, n = self.plan.n_ops
        cdef bint chain = all(self.ops[i].input == i - 1 for i in range(n))
        cdef ptrdiff_t widest = max(self.ops[i].n_out for i in range(n))
        if not chain and any(self.ops[i].kind != FNN_DENSE for i in range(n)):
            raise ValueError("ops: expected a chain where not all are dense")
        for i in range(n):
            if chain:
                turn = 1 - turn if self.ops[i].kind == FNN_DENSE else turn
                self.ops[i].delta = at + turn * widest
            else:
                self.ops[i].delta = at
                at += self.ops[i].n_out
        return at + 2 * widest if chain else at

    cdef int cut_segments(self, ops) except -1:
        """Theta as ranges that the update treats alike."""
        cdef int n = 0
        ranges = parameter_ranges(ops, self.plan.n_parameters)
        for begin, end, penalised, rate in ranges:
            self.segments[n] = fnn_segment(begin, end, penalised, rate)
            n += 1
        self.plan.n_segments = n
        self.plan.rated = any(rate != 1.0 for _, _, _, rate in ranges)
        return 0

    # -- calls ----------------------------------------------------------------------------------------------------

    def forward(self, theta, X, threads=1, statistics=None):
        """Output of the last operation, (N, K)."""
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        out = np.empty((X.shape[0], self.plan.n_out), self.dtype)
        if out.size == 0:
            return out
        if self.single:
            self.describe(&job32, theta, X, None, None, statistics)
            job32.out = address("out", out, "f", out.size, True)
            self.execute(&job32, fnn_engine_forward_f32, job32.rows, threads)
        else:
            self.describe(&job64, theta, X, None, None, statistics)
            job64.out = address("out", out, "d", out.size, True)
            self.execute(&job64, fnn_engine_forward_f64, job64.rows, threads)
        return out

    def loss_and_gradient(self, theta, X, y, sample_weight=None, double l1=0.0, double l2=0.0, threads=1,
                          bint gradient=True, bint deterministic=False, statistics=None, bint training=False):
        """Objective J(θ) over all rows, and its gradient (P,) or None."""
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef double loss = 0.0, correct = 0.0
        if y is None:
            raise TypeError("y: expected an array, got None")
        if X.shape[0] == 0:
            raise ValueError("X: expected at least one row, got none")
        grad = np.empty(self.plan.n_parameters, self.dtype) if gradient else None
        if self.single:
            self.describe(&job32, theta, X, y, sample_weight, statistics, training)
            self.objective(&job32, grad, l1, l2, &loss, &correct)
            self.execute(&job32, fnn_engine_gradient_f32, job32.rows, threads, None, deterministic)
        else:
            self.describe(&job64, theta, X, y, sample_weight, statistics, training)
            self.objective(&job64, grad, l1, l2, &loss, &correct)
            self.execute(&job64, fnn_engine_gradient_f64, job64.rows, threads, None, deterministic)
        return loss, grad

    def train(self, theta, state, X, y, order, ptrdiff_t batch_size, optimizer, long long step, *, sample_weight=None,
              double l1=0.0, double l2=0.0, clip_norm=None, clip_value=None, threads=1, learning_rates=None,
              bint deterministic=False, statistics=None, ptrdiff_t epochs=1):
        """Whole epochs, in place on theta and state; see the twin."""
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef fnn_rule rule
        rule.kind = RULES[optimizer.rule]
        rule.nesterov = optimizer.nesterov
        rule.centered = optimizer.centered
        rule.amsgrad = optimizer.amsgrad
        rule.epsilon_hat = optimizer.epsilon_hat
        rule.learning_rate = optimizer.learning_rate
        rule.momentum = optimizer.momentum
        rule.beta1 = optimizer.beta1
        rule.beta2 = optimizer.beta2
        rule.rho = optimizer.rho
        rule.epsilon = optimizer.epsilon
        rule.weight_decay = optimizer.weight_decay
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        if y is None:
            raise TypeError("y: expected an array, got None")
        if X.shape[0] == 0:
            raise ValueError("X: expected at least one row, got none")
        if order is not None:
            epochs = order.shape[0]
        elif epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs}")
        if order is not None and order.size and (order.min() < 0 or order.max() >= X.shape[0]):
            raise ValueError(f"order: expected indices of the {X.shape[0]} rows of X")
        cdef ptrdiff_t rows = X.shape[0] if order is None else order.shape[1]
        if rule.kind == FNN_NAG:
            momenta = np.empty(epochs * (rows // batch_size + 1))  # at least as many as there will be updates
            _kernels.nag_momentum(step + 1, momenta)
            rule.momenta = <const double *>address("momenta", momenta, "d", momenta.size)
            rule.first = step
        outcome = np.zeros((2, max(epochs, 1)))
        cdef double *losses = <double *>address("losses", outcome, "d", outcome.size, True)
        cdef ptrdiff_t done
        cdef const double *rates = NULL
        if learning_rates is not None:
            rates = <const double *>address("learning_rates", learning_rates, "d",
                                            epochs * ((rows + batch_size - 1) // batch_size))
        cdef int status
        errors = []
        if self.single:
            self.describe(&job32, theta, X, y, sample_weight, statistics, True)
            self.schooling(&job32, theta, state, order, epochs, batch_size, &rule, step, l1, l2, clip_norm, clip_value)
            job32.losses = losses
            job32.rates = rates
            job32.correct = losses + max(epochs, <ptrdiff_t>1)
            self.execute(&job32, fnn_engine_train_f32, batch_size, threads, errors, deterministic)
            done, step, status = job32.epochs_done, job32.step, job32.status
        else:
            self.describe(&job64, theta, X, y, sample_weight, statistics, True)
            self.schooling(&job64, theta, state, order, epochs, batch_size, &rule, step, l1, l2, clip_norm, clip_value)
            job64.losses = losses
            job64.rates = rates
            job64.correct = losses + max(epochs, <ptrdiff_t>1)
            self.execute(&job64, fnn_engine_train_f64, batch_size, threads, errors, deterministic)
            done, step, status = job64.epochs_done, job64.step, job64.status
        correct = tuple(outcome[1, :done].tolist()) if self.plan.loss <= FNN_BINARY_CROSS_ENTROPY else None
        return TrainResult(tuple(outcome[0, :done].tolist()), correct, step,
                           "interrupted" if errors else "diverged" if status == FNN_DIVERGED else "ok",
                           errors[0] if errors else None)

    # -- the job --------------------------------------------------------------------------------------------------

    cdef int describe(self, job_t *job, theta, X, y, sample_weight, statistics, bint training=False) except -1:
        """Everything that all calls share."""
        cdef ptrdiff_t n = X.shape[0], k = self.plan.n_out
        real = "f" if job_t is fnn_job_f32 else "d"
        job.plan = &self.plan
        if job_t is fnn_job_f32:
            job.kernels = &active().f32
            job.blas = blas.product_f32
        else:
            job.kernels = &active().f64
            job.blas = blas.product_f64
        job.blas_from = BLAS_FROM
        if BLAS_FROM == INFINITY:
            job.blas = NULL
        if X.ndim != 2 or X.shape[1] != self.plan.n_in:
            raise ValueError(f"X: expected shape (N, {self.plan.n_in}), got {X.shape}")
        kind = X.dtype.char
        if kind not in "fdB":
            raise TypeError(f"X: expected dtype float32, float64 or uint8, got {X.dtype}")
        job.x_type = FNN_SOURCE_F32 if kind == "f" else FNN_SOURCE_F64 if kind == "d" else FNN_SOURCE_U8
        job.indptr = NULL
        job.columns = NULL
        if isinstance(X, SparseRows):
            X.check()
            job.x = address("X.data", X.data, kind, len(X.indices))
            job.indptr = <const int64_t *>address("X.indptr", X.indptr, "q", n + 1)
            job.columns = <const int32_t *>address("X.indices", X.indices, "i", len(X.indices))
        else:
            job.x = address("X", X, kind, n * self.plan.n_in)
        job.rows = n
        job.labels = job.target = job.weight = job.order = NULL
        if y is not None:  # all but forward
            if y.dtype.kind == "i":
                if self.plan.loss != FNN_CROSS_ENTROPY:
                    raise TypeError(f"y: expected dtype {self.dtype}, got {y.dtype}")
                job.labels = address("y", y, "q", n)
                if n and (y.min() < 0 or y.max() >= k):
                    raise ValueError(f"y: expected labels in [0, {k}), got {y.min()} to {y.max()}")
            else:
                job.target = address("y", y, real, n * k)
        if sample_weight is not None:
            job.weight = address("sample_weight", sample_weight, real, n)
        job.l1 = job.l2 = 0.0
        job.training = training
        job.statistics = NULL
        if self.n_state:
            if statistics is None:
                raise TypeError("statistics: expected the network's state, got None")
            job.statistics = address("statistics", statistics, real, self.n_state, True)
        job.theta = address("theta", theta, real, self.plan.n_parameters)
        job.rule = NULL
        job.trained = job.state = job.out = job.gradient = NULL
        job.losses = job.correct = NULL
        job.rates = NULL
        job.batch = n
        job.epochs = 1
        job.step = 0
        job.clip_norm = job.clip_value = INFINITY
        job.epochs_done = 0
        job.status = FNN_OK
        return 0

    cdef int objective(self, job_t *job, grad, double l1, double l2, double *loss, double *correct) except -1:
        job.l1, job.l2 = l1, l2
        job.losses, job.correct = loss, correct
        if grad is not None:
            job.gradient = address("gradient", grad, "f" if job_t is fnn_job_f32 else "d", grad.size, True)
        return 0

    cdef int schooling(self, job_t *job, theta, state, order, ptrdiff_t epochs, ptrdiff_t batch_size,
                       const fnn_rule *rule, long long step, double l1, double l2, clip_norm, clip_value) except -1:
        real = "f" if job_t is fnn_job_f32 else "d"
        cdef int slots = 1  # as UpdateRule.n_slots
        if rule.kind == FNN_SGD:
            slots = rule.momentum != 0
        elif rule.kind == FNN_RMSPROP:
            slots = 1 + (rule.centered != 0) + (rule.momentum != 0)
        elif rule.kind == FNN_ADAM:
            slots = 2 + (rule.amsgrad != 0)
        job.trained = address("theta", theta, real, self.plan.n_parameters, True)
        if slots:
            job.state = address("state", state, real, slots * self.plan.n_parameters, True)
        job.epochs = epochs
        if order is not None:
            job.rows = order.shape[1]
            job.order = address("order", order, "q", job.rows * job.epochs)
        job.batch = batch_size
        job.rule = rule
        job.step = step
        job.l1, job.l2 = l1, l2
        if clip_norm is not None:
            job.clip_norm = clip_norm
        if clip_value is not None:
            job.clip_value = clip_value
        return 0

    cdef int execute(self, job_t *job, fnn_task task, ptrdiff_t rows_at_once, threads, list errors=None,
                     bint deterministic=False) except -1:
        """Run the job on as many workers as its batches are worth, with a workspace and a watch on signals."""
        cdef fnn_team team
        cdef fnn_barrier barrier
        cdef int ran, workers, limit, element = 4 if job_t is fnn_job_f32 else 8
        cdef ptrdiff_t rows = min(rows_at_once, job.rows), shard, pieces
        cdef double work = <double>rows * <double>self.plan.n_parameters, room
        cdef _Workspace space
        cdef size_t needed
        cdef bint own_errors = errors is None
        cdef bint whole = job.training and self.plan.batch_statistics  # a shard is one chunk, and all run at once
        if own_errors:
            errors = []
        # The BLAS libraries are asked only where the answer counts: it takes longer than a small network's forward.
        limit = 1 if work < 2 * WORTH_A_WORKER else min(blas_threads() if threads is None else threads,
                                                               FNN_MAX_WORKERS)
        workers = <int>max(1.0, min(<double>limit, work / WORTH_A_WORKER))
        if deterministic:
            workers = 1 if whole else min(workers, FIXED_SHARDS)
        workers = fnn_team_acquire(&team, workers)
        try:
            job.n_workers = workers
            job.n_shards = FIXED_SHARDS if deterministic and not whole else workers
            shard = (rows + job.n_shards - 1) // job.n_shards
            job.by_feature = self.plan.narrow and job.out == NULL and shard >= BY_FEATURE_FROM
            if job.by_feature:
                job.chunk = min(shard, BY_FEATURE_CHUNK)
            elif whole:
                job.chunk = shard
            else:
                room = (FORWARD_BYTES / element if job.out != NULL
                        else CHUNK_BYTES / element + CHUNK_SHARE * <double>self.plan.n_parameters)
                job.chunk = <ptrdiff_t>(room / <double>(self.plan.n_in + self.plan.row_elements))
                # so few that Ctrl-C need not wait for long, too
                job.chunk = min(max(16, job.chunk), max(1, <ptrdiff_t>(1e9 / self.plan.n_parameters)), shard)
                pieces = (shard + job.chunk - 1) // job.chunk
                job.chunk = (shard + pieces - 1) // pieces
            if job_t is fnn_job_f32:
                needed = fnn_engine_workspace_f32(job)
            else:
                needed = fnn_engine_workspace_f64(job)
            space, self.spare = self.spare, None  # another thread's call gets one of its own
            if space is None or space.size < needed + job.n_shards * sizeof(fnn_report):
                space = _Workspace(needed + job.n_shards * sizeof(fnn_report))
            job.workspace = space.start
            job.reports = <fnn_report *>(space.start + needed)
            job.barrier = &barrier
            job.poll = poll
            job.poll_arg = <void *>errors
            job.polled = job.work = 0.0
            fnn_barrier_init(&barrier, workers)
            ran = 0
            try:
                if job.blas != NULL:
                    with blas_held_to_one_thread():
                        with nogil:
                            ran = fnn_team_run(&team, task, job)
                else:
                    with nogil:
                        ran = fnn_team_run(&team, task, job)
            finally:
                fnn_barrier_destroy(&barrier)
            self.spare = space
            if ran != 0:
                raise RuntimeError("a fork in the middle of a call is not supported")
        finally:
            fnn_team_release(&team)
        if own_errors and errors:
            raise errors[0]
        return 0
