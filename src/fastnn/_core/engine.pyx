"""A network's plan in C structs, and the calls that run it on worker threads.

The reference implementation is fastnn.reference.plan.Plan. fastnn.lowering checks a plan and lays it out, and fastnn.network checks
values; here only what would be unsafe to get wrong is: element types, sizes, contiguity, and indices.
"""
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

import atexit

import numpy as np

from ..lowering import lower
from ..plan import RULES, TrainResult
from ..reference.sparse import SparseRows
from .threads import blas_held_to_one_thread, blas_threads

from . cimport blas
from .kernels cimport active, fnn_kernels_f32, fnn_kernels_f64

from . import kernels as _kernels

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "kernels/data.h" nogil:
    enum: FNN_SOURCE_F32, FNN_SOURCE_F64, FNN_SOURCE_U8

cdef extern from "engine/plan.h" nogil:
    enum: FNN_DENSE, FNN_NAG, FNN_KFAC
    enum: FNN_OK, FNN_DIVERGED, FNN_INTERRUPTED
    enum: FNN_HESSIAN, FNN_GGN, FNN_FISHER
    enum: FNN_ALIGN

    ctypedef struct fnn_op:
        int kind, input, activation, shared_weight, shared_bias, gated
        double lr_multiplier "rate", epsilon, momentum, dropout_rate "drop"
        ptrdiff_t buffer "state", column, normalised
        ptrdiff_t n_in, n_out, weight, bias, out, pre, delta

    ctypedef struct fnn_place:
        ptrdiff_t out, slope, bend, delta, normalised, inv_std, columns
        ptrdiff_t tangent_pre, tangent_out, tangent_delta, tangent_normalised, tangent_mean

    ctypedef struct fnn_segment:
        ptrdiff_t begin, end
        int penalised
        double lr_multiplier "rate"

    ctypedef struct fnn_plan:
        const fnn_op *ops
        const fnn_segment *segments
        int n_ops, n_segments, loss, rated, batch_statistics, gathers, narrow
        ptrdiff_t column_elements
        ptrdiff_t n_parameters, n_in, n_out, row_elements, widest
        double input_scale, label_smoothing
        const fnn_place *places
        ptrdiff_t kept_curvature, kept_elements, kept_columns, tangent_elements

    ctypedef struct fnn_rule:
        int kind, nesterov, centered, amsgrad, epsilon_hat
        double learning_rate, momentum, beta1, beta2, rho, epsilon, weight_decay, kl_clip
        const double *momenta
        int64_t first

cdef extern from "pool/pool.h" nogil:
    enum: FNN_MAX_WORKERS
    ctypedef void (*fnn_task)(void *arg, int worker) noexcept nogil
    ctypedef struct fnn_team:
        pass
    ctypedef struct fnn_barrier:
        pass
    int fnn_team_acquire(fnn_team *team, int n_workers)
    int fnn_team_run(fnn_team *team, fnn_task task, void *arg)
    void fnn_items_run(void *items, int worker) noexcept
    void fnn_team_release(fnn_team *team)
    void fnn_pool_shutdown()
    void fnn_barrier_init(fnn_barrier *barrier, int n_workers)
    void fnn_barrier_destroy(fnn_barrier *barrier)

# Pointers to elements are declared void: one body then serves both element types.
cdef extern from "engine/engine.h" nogil:
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
        ptrdiff_t x_rows, rows
        void *labels
        void *target
        void *weight
        void *order
        double l1, l2
        int divide_l2
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
        const void **inverses
        void *natural
        void *out
        void *gradient
        double *losses
        double *correct
        double *penalties
        ptrdiff_t epochs_done
        int status
        void *kept
        void *cotangent
        void *dx
        double weight_sum
        int curvature
        ptrdiff_t n_directions
        void *directions
        void *direction_x
        void *products
        int n_workers, n_shards, by_feature, zeros_forward, zeros_gradient, zeros_apart
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
        ptrdiff_t x_rows, rows
        void *labels
        void *target
        void *weight
        void *order
        double l1, l2
        int divide_l2
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
        const void **inverses
        void *natural
        void *out
        void *gradient
        double *losses
        double *correct
        double *penalties
        ptrdiff_t epochs_done
        int status
        void *kept
        void *cotangent
        void *dx
        double weight_sum
        int curvature
        ptrdiff_t n_directions
        void *directions
        void *direction_x
        void *products
        int n_workers, n_shards, by_feature, zeros_forward, zeros_gradient, zeros_apart
        ptrdiff_t chunk
        char *workspace
        fnn_report *reports
        fnn_barrier *barrier
        fnn_poll poll
        void *poll_arg
        double polled, work

    double fnn_engine_count_zeros_f32(fnn_job_f32 *job, int lanes, ptrdiff_t n, void *sample, void *bits)
    double fnn_engine_count_zeros_f64(fnn_job_f64 *job, int lanes, ptrdiff_t n, void *sample, void *bits)
    size_t fnn_engine_workspace_f32(const fnn_job_f32 *job)
    size_t fnn_engine_workspace_f64(const fnn_job_f64 *job)
    void fnn_engine_forward_f32(void *arg, int worker) noexcept
    void fnn_engine_forward_f64(void *arg, int worker) noexcept
    void fnn_engine_gradient_f32(void *arg, int worker) noexcept
    void fnn_engine_gradient_f64(void *arg, int worker) noexcept
    void fnn_engine_train_f32(void *arg, int worker) noexcept
    void fnn_engine_train_f64(void *arg, int worker) noexcept
    size_t fnn_engine_linearize_workspace_f32(const fnn_job_f32 *job)
    size_t fnn_engine_linearize_workspace_f64(const fnn_job_f64 *job)
    void fnn_engine_linearize_f32(void *arg, int worker) noexcept
    void fnn_engine_linearize_f64(void *arg, int worker) noexcept
    void fnn_engine_product_f32(void *arg, int worker) noexcept
    void fnn_engine_product_f64(void *arg, int worker) noexcept

ctypedef fused job_t:
    fnn_job_f32
    fnn_job_f64

atexit.register(lambda: fnn_pool_shutdown())

CURVATURES = {"hessian": FNN_HESSIAN, "ggn": FNN_GGN, "fisher": FNN_FISHER}

# Multiplications per worker of one pass over the data below which a second worker, who must be woken, costs more than
# he saves. While training he is awake: then a fifteenth of it for every batch, about the cost of the barriers, but no
# less than ten rows, for each worker fetches what the others wrote of the gradient and of the parameters, which costs
# about as much as those rows' work (measured on two cores from 4-10-10-3 to 784-256-256-10).
cdef double WORTH_A_WORKER = 1.5e6


cdef double worth_of(ptrdiff_t n_parameters, bint trains):
    return WORTH_A_WORKER * (max(1 / 15.0, n_parameters / 1.5e5) if trains else 1.0)


def worth_a_worker(value=None):
    """The threshold, after setting it if a value is given: for measurements, and for tests that want many workers."""
    global WORTH_A_WORKER
    if value is not None:
        WORTH_A_WORKER = value
    return WORTH_A_WORKER


# Shards of a batch when results must not depend on the number of workers; no more workers than that are used then.
FIXED_SHARDS = 4

# Bytes of one chunk's rows, with everything that is kept for them: so many, and twice as many as the parameters
# have, which every chunk reads twice, and whose gradient it adds to (measured with 784-64-64-10, 784-256-256-10 and
# 784-512-512-10 in both types). A forward pass alone does best with a part of a second-level cache.
cdef double CHUNK_BYTES = 1 << 17, CHUNK_SHARE = 2.0, FORWARD_BYTES = 1 << 20

def chunk_bytes(value=None):
    """That size, after setting it if a value is given."""
    global CHUNK_BYTES
    if value is not None:
        CHUNK_BYTES = value
    return CHUNK_BYTES


# The same of a chunk of a linearization: products of more rows pay for more than the first cache levels.
cdef double LENS_BYTES = 1 << 21

# Rows of a chunk from which a narrow network runs by feature, and those of its chunks: whole tiles, and a distance
# between the features with which they do not fall on the same sets of a cache. It is worth it where partly filled
# vectors make the products by row this much longer than those by feature, whose last vector of rows is partly filled,
# too, and whose sums over the lanes take as long as one vector more (measured from 4-10-10-3 to 100-100-100 in both
# types, with 200 and 1,024 rows).
cdef ptrdiff_t BY_FEATURE_FROM = 128, BY_FEATURE_CHUNK = 7 * 64
cdef double BY_FEATURE_MARGIN = 1.03
cdef ptrdiff_t VECTOR_BYTES = {"avx512": 64, "avx2": 32}.get(_kernels.simd()["active"], 16)


def by_feature(from_rows=None, chunk=None, margin=None):
    """All three, after setting those that are given."""
    global BY_FEATURE_FROM, BY_FEATURE_CHUNK, BY_FEATURE_MARGIN
    if margin is not None:
        BY_FEATURE_MARGIN = margin
    if from_rows is not None:
        BY_FEATURE_FROM = from_rows
    if chunk is not None:
        BY_FEATURE_CHUNK = chunk
    return BY_FEATURE_FROM, BY_FEATURE_CHUNK, BY_FEATURE_MARGIN


# Where much of X is zero, products with it skip that (csrc/zeros_body.h); so many rows, of at least eight times as many, are
# looked at first. The heights of the tiles, forward and backward, follow from them, unless they are set here.
cdef ptrdiff_t ZEROS_SAMPLE = 32
cdef int ZEROS_FORWARD = 0, ZEROS_GRADIENT = 0, ZEROS_APART = 0


def zeros(sample=None, tiles=None):
    """Both, after setting those that are given; a sample of 0: nothing is skipped.

    tiles: heights forward and backward, and how far apart the features of the latter are; (0, 0, 0): as the sample says.
    """
    global ZEROS_SAMPLE, ZEROS_FORWARD, ZEROS_GRADIENT, ZEROS_APART
    if sample is not None:
        ZEROS_SAMPLE = sample
    if tiles is not None:
        ZEROS_FORWARD, ZEROS_GRADIENT, ZEROS_APART = tiles
    return ZEROS_SAMPLE, (ZEROS_FORWARD, ZEROS_GRADIENT, ZEROS_APART)


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


cdef class _Inverses:
    """Pointers to K-FAC's inverse factors, which it keeps alive, and scratch for its step."""
    cdef const void **pointers
    cdef object arrays
    cdef object scratch

    def __cinit__(self, Plan plan, preconditioner):
        if preconditioner is None or len(preconditioner) != plan.plan.n_ops:
            raise ValueError(f"preconditioner: expected a pair of inverse factors, or None, for each of the "
                             f"{plan.plan.n_ops} operations")
        self.arrays = tuple(preconditioner)
        self.pointers = <const void **>malloc(2 * plan.plan.n_ops * sizeof(void *))
        if self.pointers == NULL:
            raise MemoryError("preconditioner")
        real = "f" if plan.single else "d"
        cdef fnn_op *op
        cdef int i
        cdef ptrdiff_t rows
        for i in range(plan.plan.n_ops):
            op = plan.ops + i
            self.pointers[2 * i] = self.pointers[2 * i + 1] = NULL
            rows = op.n_in if op.kind == FNN_DENSE else 1
            if op.shared_weight or (op.bias >= 0 and op.bias != op.weight + rows * op.n_out):
                raise ValueError(f"ops[{i}]: K-FAC needs a bias right behind its weight, and neither of them shared")
            if self.arrays[i] is None:
                continue
            if op.kind != FNN_DENSE:
                raise ValueError(f"preconditioner[{i}]: expected None for an operation that is not dense")
            a, g = self.arrays[i]
            rows += op.bias >= 0
            self.pointers[2 * i] = address(f"preconditioner[{i}][0]", a, real, rows * rows)
            self.pointers[2 * i + 1] = address(f"preconditioner[{i}][1]", g, real, op.n_out * op.n_out)
        self.scratch = np.empty(3 * plan.plan.n_parameters, plan.dtype)

    def __dealloc__(self):
        free(self.pointers)


cdef ptrdiff_t filled_up(ptrdiff_t n, ptrdiff_t lanes):
    return (n + lanes - 1) // lanes * lanes


cdef class Plan:
    """The compiled form of a list of operations; see fastnn.reference.plan.Plan."""
    cdef fnn_plan plan, lens  # lens: the same for linearizations, which have no use for the rows of a chunk
    cdef fnn_op *ops
    cdef fnn_place *places
    cdef fnn_segment *segments
    cdef bint single
    cdef ptrdiff_t lanes, broadest
    cdef double waste, first_share  # see fastnn.lowering.padding_waste
    cdef readonly ptrdiff_t n_state
    cdef readonly object dtype
    cdef bint classifies, takes_labels
    cdef _Workspace spare

    def __cinit__(self, ops, ptrdiff_t n_parameters, str loss, str dtype, input_scale=None,
                  double label_smoothing=0.0):
        lowered = lower(ops, n_parameters, loss, dtype, label_smoothing, VECTOR_BYTES)
        cdef int n = len(lowered.ops), i
        self.ops = <fnn_op *>malloc(n * sizeof(fnn_op))
        self.places = <fnn_place *>malloc(n * sizeof(fnn_place))
        self.segments = <fnn_segment *>malloc(max(1, len(lowered.segments)) * sizeof(fnn_segment))
        if self.ops == NULL or self.places == NULL or self.segments == NULL:
            raise MemoryError("plan")
        for i in range(n):
            self.ops[i] = lowered.ops[i]._asdict()
            self.places[i] = lowered.places[i]._asdict()
        for i in range(len(lowered.segments)):
            self.segments[i] = lowered.segments[i]._asdict()
        self.dtype = np.dtype(dtype)
        self.single = dtype == "float32"
        self.lanes = VECTOR_BYTES // self.dtype.itemsize
        self.waste, self.first_share = lowered.waste, lowered.first_share
        self.broadest = lowered.broadest
        self.n_state = lowered.n_buffers
        self.classifies, self.takes_labels = lowered.loss.classifies, lowered.loss.takes_labels
        self.plan.ops, self.plan.n_ops = self.ops, n
        self.plan.places = self.places
        self.plan.segments, self.plan.n_segments = self.segments, len(lowered.segments)
        self.plan.loss = lowered.loss_code
        self.plan.rated = lowered.rated
        self.plan.batch_statistics = lowered.batch_statistics
        self.plan.gathers = lowered.gathers
        self.plan.narrow = lowered.feature_major
        self.plan.n_parameters = n_parameters
        self.plan.n_in, self.plan.n_out = lowered.n_in, lowered.n_out
        self.plan.row_elements, self.plan.column_elements = lowered.row_elements, lowered.column_elements
        self.plan.widest = lowered.widest
        self.plan.input_scale = 1.0 if input_scale is None else input_scale
        self.plan.label_smoothing = label_smoothing
        self.plan.kept_curvature, self.plan.kept_elements = lowered.kept_curvature, lowered.kept_elements
        self.plan.kept_columns, self.plan.tangent_elements = lowered.kept_columns, lowered.tangent_elements
        self.lens = self.plan
        self.lens.row_elements = 0

    def __dealloc__(self):
        free(self.ops)
        free(self.places)
        free(self.segments)

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
              bint deterministic=False, statistics=None, bint divide_l2=False, preconditioner=None,
              ptrdiff_t epochs=1):
        """Whole epochs, in place on theta and state; see the twin."""
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef fnn_rule rule
        rule.kind = list(RULES).index(optimizer.rule)
        cdef int n_moments = optimizer.n_moments
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
        rule.kl_clip = optimizer.kl_clip
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
        outcome = np.zeros((3, max(epochs, 1)))
        cdef double *losses = <double *>address("losses", outcome, "d", outcome.size, True)
        cdef ptrdiff_t done
        cdef const double *rates = NULL
        if learning_rates is not None:
            rates = <const double *>address("learning_rates", learning_rates, "d",
                                            epochs * ((rows + batch_size - 1) // batch_size))
        cdef int status
        errors = []
        cdef _Inverses inverses = None
        if rule.kind == FNN_KFAC:
            inverses = _Inverses(self, preconditioner)
        if self.single:
            self.describe(&job32, theta, X, y, sample_weight, statistics, True)
            self.schooling(&job32, theta, state, order, epochs, batch_size, &rule, n_moments, step, l1, l2, clip_norm,
                           clip_value)
            job32.losses = losses
            job32.rates = rates
            if inverses is not None:
                job32.inverses = inverses.pointers
                job32.gradient = address("scratch", inverses.scratch, "f", 3 * self.plan.n_parameters, True)
                job32.natural = <float *>job32.gradient + self.plan.n_parameters
            job32.correct = losses + max(epochs, <ptrdiff_t>1)
            job32.penalties = losses + 2 * max(epochs, <ptrdiff_t>1)
            job32.divide_l2 = divide_l2
            self.execute(&job32, fnn_engine_train_f32, batch_size, threads, errors, deterministic)
            done, step, status = job32.epochs_done, job32.step, job32.status
        else:
            self.describe(&job64, theta, X, y, sample_weight, statistics, True)
            self.schooling(&job64, theta, state, order, epochs, batch_size, &rule, n_moments, step, l1, l2, clip_norm,
                           clip_value)
            job64.losses = losses
            job64.rates = rates
            if inverses is not None:
                job64.inverses = inverses.pointers
                job64.gradient = address("scratch", inverses.scratch, "d", 3 * self.plan.n_parameters, True)
                job64.natural = <double *>job64.gradient + self.plan.n_parameters
            job64.correct = losses + max(epochs, <ptrdiff_t>1)
            job64.penalties = losses + 2 * max(epochs, <ptrdiff_t>1)
            job64.divide_l2 = divide_l2
            self.execute(&job64, fnn_engine_train_f64, batch_size, threads, errors, deterministic)
            done, step, status = job64.epochs_done, job64.step, job64.status
        correct = tuple(outcome[1, :done].tolist()) if self.classifies else None
        return TrainResult(tuple(outcome[0, :done].tolist()), correct, step,
                           "interrupted" if errors else "diverged" if status == FNN_DIVERGED else "ok",
                           errors[0] if errors else None, tuple(outcome[2, :done].tolist()))

    def linearize(self, theta, X, y=None, sample_weight=None, *, cotangent=None, statistics=None, bint training=False,
                  threads=1, into=None):
        """Forward and backward over all rows, keeping what curvature needs: a :class:`Linearization`; see the twin."""
        if (y is None) == (cotangent is None):
            raise TypeError("linearize takes either y or cotangent")
        if X.shape[0] == 0:
            raise ValueError("X: expected at least one row, got none")
        lin = Linearization(self, theta, X, y, sample_weight, cotangent, statistics, training, threads, into)
        lin.run(None)
        return lin

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
        job.x_rows = job.rows = n
        job.labels = job.target = job.weight = job.order = NULL
        if y is not None:  # all but forward
            if y.dtype.kind == "i":
                if not self.takes_labels:
                    raise TypeError(f"y: expected dtype {self.dtype}, got {y.dtype}")
                job.labels = address("y", y, "q", n)
                if n and (y.min() < 0 or y.max() >= k):
                    raise ValueError(f"y: expected labels in [0, {k}), got {y.min()} to {y.max()}")
            else:
                job.target = address("y", y, real, n * k)
        if sample_weight is not None:
            job.weight = address("sample_weight", sample_weight, real, n)
        job.l1 = job.l2 = 0.0
        job.divide_l2 = False
        job.training = training
        job.statistics = NULL
        if self.n_state:
            if statistics is None:
                raise TypeError("statistics: expected the network's state, got None")
            job.statistics = address("statistics", statistics, real, self.n_state, training)
        job.theta = address("theta", theta, real, self.plan.n_parameters)
        job.rule = NULL
        job.inverses = NULL
        job.natural = NULL
        job.trained = job.state = job.out = job.gradient = NULL
        job.losses = job.correct = job.penalties = NULL
        job.rates = NULL
        job.kept = job.cotangent = job.dx = job.directions = job.direction_x = job.products = NULL
        job.weight_sum = 0.0
        job.curvature = FNN_HESSIAN
        job.n_directions = 0
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
                       const fnn_rule *rule, int n_moments, long long step, double l1, double l2, clip_norm,
                       clip_value) except -1:
        real = "f" if job_t is fnn_job_f32 else "d"
        job.trained = address("theta", theta, real, self.plan.n_parameters, True)
        if n_moments:
            job.state = address("state", state, real, n_moments * self.plan.n_parameters, True)
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

    cdef double count_zeros(self, job_t *job, ptrdiff_t rows) except -1:
        """Decide whether products with X skip its zeros; what they take then, as a share."""
        cdef double share
        job.zeros_forward = job.zeros_gradient = 0
        if (ZEROS_SAMPLE == 0 or job.x_rows < 8 * ZEROS_SAMPLE or rows < 16 or self.plan.n_in < 16
                or job.blas != NULL):
            return 1.0
        cdef _Workspace sample = _Workspace(ZEROS_SAMPLE * self.plan.n_in * sizeof(double))
        cdef _Workspace bits = _Workspace(ZEROS_SAMPLE * (self.plan.n_in // 64 + 1) * sizeof(uint64_t))
        if job_t is fnn_job_f32:
            share = fnn_engine_count_zeros_f32(job, <int>self.lanes, ZEROS_SAMPLE, sample.start, bits.start)
        else:
            share = fnn_engine_count_zeros_f64(job, <int>self.lanes, ZEROS_SAMPLE, sample.start, bits.start)
        if job.zeros_forward and ZEROS_FORWARD:
            job.zeros_forward, job.zeros_gradient, job.zeros_apart = ZEROS_FORWARD, ZEROS_GRADIENT, ZEROS_APART
        return share

    cdef int execute(self, job_t *job, fnn_task task, ptrdiff_t rows_at_once, threads, list errors=None,
                     bint deterministic=False) except -1:
        """Run the job on as many workers as its batches are worth, with a workspace and a watch on signals."""
        cdef fnn_team team
        cdef fnn_barrier barrier
        cdef int ran, workers, limit, element = 4 if job_t is fnn_job_f32 else 8
        cdef ptrdiff_t rows = min(rows_at_once, job.rows), shard, chunk, pieces
        cdef double work = <double>rows * <double>self.plan.n_parameters * max(1, job.n_directions), room, worth
        cdef double waste = self.waste * (1 - self.first_share * (1 - self.count_zeros(job, rows)))
        cdef _Workspace space
        cdef size_t needed
        cdef bint own_errors = errors is None
        cdef bint whole = job.training and self.plan.batch_statistics  # a shard is one chunk, and all run at once
        if own_errors:
            errors = []
        # The BLAS libraries are asked only where the answer counts: it takes longer than a small network's forward.
        worth = worth_of(self.plan.n_parameters, job.rule != NULL)
        limit = 1 if work < 2 * worth else min(blas_threads() if threads is None else threads, FNN_MAX_WORKERS)
        workers = <int>max(1.0, min(<double>limit, work / worth))
        if job.kept != NULL:
            workers = min(workers, <int>min(rows, <ptrdiff_t>FNN_MAX_WORKERS))
        if deterministic:
            workers = 1 if whole else min(workers, FIXED_SHARDS)
        workers = fnn_team_acquire(&team, workers)
        try:
            job.n_workers = workers
            job.n_shards = FIXED_SHARDS if deterministic and not whole else workers
            shard = (rows + job.n_shards - 1) // job.n_shards
            chunk = min(shard, BY_FEATURE_CHUNK)
            # the tables of a chunk then have an entry for each feature
            job.by_feature = (self.plan.narrow and job.out == NULL and job.kept == NULL and shard >= BY_FEATURE_FROM
                              and chunk > self.broadest
                              and waste * chunk >= BY_FEATURE_MARGIN * (filled_up(chunk, self.lanes) + self.lanes))
            if job.kept != NULL:
                job.plan = &self.lens
            if job.by_feature:
                job.chunk = chunk
            elif whole:
                job.chunk = shard
            elif job.kept != NULL:
                job.chunk = <ptrdiff_t>(LENS_BYTES / element / (self.plan.n_in + self.plan.kept_elements
                                                                + self.plan.tangent_elements))
                job.chunk = min(max(16, job.chunk), shard)
            else:
                room = (FORWARD_BYTES / element if job.out != NULL
                        else CHUNK_BYTES / element + CHUNK_SHARE * <double>self.plan.n_parameters)
                job.chunk = <ptrdiff_t>(room / <double>(self.plan.n_in + self.plan.row_elements))
                # so few that Ctrl-C need not wait for long, too
                job.chunk = min(max(16, job.chunk), max(1, <ptrdiff_t>(1e9 / self.plan.n_parameters)), shard)
                pieces = (shard + job.chunk - 1) // job.chunk
                job.chunk = (shard + pieces - 1) // pieces
            if job.zeros_forward and job.chunk * self.plan.n_in > 2**31:  # lists count in 32 bits
                job.zeros_forward = job.zeros_gradient = 0
            if job.kept != NULL:
                job.chunk = max(job.chunk, 2)  # scratch of two rows is needed in any case
                if job_t is fnn_job_f32:
                    needed = fnn_engine_linearize_workspace_f32(job)
                else:
                    needed = fnn_engine_linearize_workspace_f64(job)
            elif job_t is fnn_job_f32:
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


cdef class Linearization:
    """A network on a batch of rows, with what the derivatives of its gradient need.

    The twin, fastnn.reference.linearize.Linearization, tells what the methods give.
    """
    cdef Plan plan
    cdef object theta, X, y, cotangent, statistics, threads, store
    cdef bint training
    cdef ptrdiff_t rows
    cdef readonly object weight
    cdef readonly double loss, weight_sum

    def __init__(self, Plan plan, theta, X, y, sample_weight, cotangent, statistics, bint training, threads, into):
        self.plan, self.theta, self.X, self.y, self.weight = plan, theta, X, y, sample_weight
        self.cotangent, self.statistics, self.training, self.threads = cotangent, statistics, training, threads
        self.rows = X.shape[0]
        cdef ptrdiff_t size = plan.plan.kept_elements * self.rows + plan.plan.kept_columns
        if into is not None:
            if not isinstance(into, Linearization) or (<Linearization>into).plan is not plan:
                raise TypeError("into: expected a linearization of this plan")
            self.store, (<Linearization>into).store = (<Linearization>into).store, None
        if self.store is None or self.store.size < size:
            raw = np.empty(size + FNN_ALIGN, plan.dtype)
            skip = -raw.ctypes.data % FNN_ALIGN // raw.itemsize
            self.store = raw[skip:skip + size]

    cdef int describe(self, job_t *job, double *loss) except -1:
        real = "f" if job_t is fnn_job_f32 else "d"
        if self.store is None:
            raise ValueError("this linearization has given its memory to another one")
        self.plan.describe(job, self.theta, self.X, self.y, self.weight, self.statistics, self.training)
        job.kept = address("store", self.store, real, self.store.size, True)
        job.losses = job.correct = loss
        if self.cotangent is not None:
            job.cotangent = address("cotangent", self.cotangent, real, self.rows * self.plan.plan.n_out)
        return 0

    def run(self, dx):
        """Fill the store and, if given, dx (N, D)."""
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef double loss[1]
        if self.plan.single:
            self.describe(&job32, loss)
            job32.dx = NULL if dx is None else address("dx", dx, "f", dx.size, True)
            self.plan.execute(&job32, fnn_engine_linearize_f32, self.rows, self.threads)
            self.weight_sum = job32.weight_sum
        else:
            self.describe(&job64, loss)
            job64.dx = NULL if dx is None else address("dx", dx, "d", dx.size, True)
            self.plan.execute(&job64, fnn_engine_linearize_f64, self.rows, self.threads)
            self.weight_sum = job64.weight_sum
        self.loss = loss[0]

    cdef object at(self, ptrdiff_t place, ptrdiff_t width):
        if place < 0:
            return None
        return self.store[place * self.rows:(place + width) * self.rows].reshape(self.rows, width)

    cdef int op(self, Py_ssize_t i) except -1:
        if not 0 <= i < self.plan.plan.n_ops:
            raise IndexError(f"i: expected an operation in [0, {self.plan.plan.n_ops}), got {i}")
        return i

    @property
    def n_rows(self):
        return self.rows

    @property
    def outputs(self):
        return self.at(self.plan.places[self.plan.plan.n_ops - 1].out, self.plan.plan.n_out)

    @property
    def curvature(self):
        return self.at(self.plan.plan.kept_curvature, self.plan.plan.n_out)

    def inputs(self, i):
        cdef int source = self.plan.ops[self.op(i)].input
        if source >= 0:
            return self.at(self.plan.places[source].out, self.plan.ops[source].n_out)
        X, dtype = self.X, self.plan.dtype
        X = X.dense(dtype) if isinstance(X, SparseRows) else X.astype(dtype, copy=False)
        return X if self.plan.plan.input_scale == 1.0 else X * dtype.type(self.plan.plan.input_scale)

    def slope(self, i):
        return self.at(self.plan.places[self.op(i)].slope, self.plan.ops[i].n_out)

    def bend(self, i):
        return self.at(self.plan.places[self.op(i)].bend, self.plan.ops[i].n_out)

    def delta(self, i):
        return self.at(self.plan.places[self.op(i)].delta, self.plan.ops[i].n_out)

    def normalised(self, i):
        return self.at(self.plan.places[self.op(i)].normalised, self.plan.ops[i].n_out)

    def inv_std(self, i):
        cdef fnn_place place = self.plan.places[self.op(i)]
        cdef ptrdiff_t start = self.plan.plan.kept_elements * self.rows + place.columns
        if place.columns >= 0:
            return self.store[start:start + self.plan.ops[i].n_out]
        return None if place.inv_std < 0 else self.at(place.inv_std, 1)[:, 0]

    def input_gradient(self):
        dx = np.empty((self.rows, self.plan.plan.n_in), self.plan.dtype)
        self.run(dx)
        return dx

    def product(self, V, kind="hessian", out=None):
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef double loss[1]
        cdef ptrdiff_t p = self.plan.plan.n_parameters
        if kind not in CURVATURES:
            raise ValueError(f"kind must be one of {', '.join(map(repr, CURVATURES))}, got {kind!r}")
        if kind == "fisher" and self.training and self.plan.plan.batch_statistics:
            raise ValueError("kind: 'fisher' needs rows that do not depend on each other, got statistics of the batch")
        if V.shape[V.ndim - 1] != p or V.ndim not in (1, 2):
            raise ValueError(f"V: expected shape (P,) or (n, P) with P = {p}, got {V.shape}")
        if out is None:
            out = np.empty(V.shape, self.plan.dtype)
        elif out.shape != V.shape:
            raise ValueError(f"out: expected shape {V.shape}, got {out.shape}")
        if out.size == 0:
            return out
        if self.plan.single:
            self.describe(&job32, loss)
            job32.curvature, job32.n_directions, job32.weight_sum = CURVATURES[kind], V.size // p, self.weight_sum
            job32.directions = address("V", V, "f", V.size)
            job32.products = address("out", out, "f", V.size, True)
            self.plan.execute(&job32, fnn_engine_product_f32, self.rows, self.threads)
        else:
            self.describe(&job64, loss)
            job64.curvature, job64.n_directions, job64.weight_sum = CURVATURES[kind], V.size // p, self.weight_sum
            job64.directions = address("V", V, "d", V.size)
            job64.products = address("out", out, "d", V.size, True)
            self.plan.execute(&job64, fnn_engine_product_f64, self.rows, self.threads)
        return out

    def input_product(self, direction):
        cdef fnn_job_f32 job32
        cdef fnn_job_f64 job64
        cdef double loss[1]
        if self.training and self.plan.plan.batch_statistics:
            raise ValueError("input_product needs rows that do not depend on each other, got statistics of the batch")
        dx = np.empty((self.rows, self.plan.plan.n_in), self.plan.dtype)
        if self.plan.single:
            self.describe(&job32, loss)
            job32.n_directions = 1
            job32.direction_x = address("direction", direction, "f", self.plan.plan.n_in)
            job32.dx = address("dx", dx, "f", dx.size, True)
            self.plan.execute(&job32, fnn_engine_product_f32, self.rows, self.threads)
        else:
            self.describe(&job64, loss)
            job64.n_directions = 1
            job64.direction_x = address("direction", direction, "d", self.plan.plan.n_in)
            job64.dx = address("dx", dx, "d", dx.size, True)
            self.plan.execute(&job64, fnn_engine_product_f64, self.rows, self.threads)
        return dx


cdef int run_items(fnn_items *items, threads) except -1:
    cdef double work = items.work * <double>items.items
    cdef int limit = 1 if work < 2 * WORTH_A_WORKER else min(blas_threads() if threads is None else threads,
                                                             FNN_MAX_WORKERS)
    cdef int ran, workers = <int>max(1.0, min(<double>min(limit, items.items), work / WORTH_A_WORKER))
    cdef fnn_team team
    workers = fnn_team_acquire(&team, workers)
    errors = []
    try:
        items.bytes = (items.bytes + FNN_ALIGN - 1) // FNN_ALIGN * FNN_ALIGN
        space = _Workspace(items.bytes * workers)
        items.workspace = (<_Workspace>space).start
        items.poll = poll
        items.poll_arg = <void *>errors
        items.patience = 2e7
        items.since = 0.0
        items.next = items.stop = 0
        with nogil:
            ran = fnn_team_run(&team, fnn_items_run, items)
        if ran != 0:
            raise RuntimeError("a fork in the middle of a call is not supported")
    finally:
        fnn_team_release(&team)
    if errors:
        raise errors[0]
    return 0
