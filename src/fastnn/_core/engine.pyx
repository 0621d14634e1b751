"""Bindings of the engine: a network's plan in C structs, and the calls that run it on worker threads.

The reference implementation is fastnn.reference.plan.Plan. fastnn.lowering checks a plan and lays it out,
fastnn.network checks values, schedule.pyx divides the work; here only what would be unsafe to get wrong is checked:
element types, sizes, contiguity, and indices.
"""
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

import atexit

import numpy as np

from ..plan import TrainResult
from ..reference.sparse import SparseRows
from .threads import blas_held_to_one_thread, check_cancelled

from . cimport blas
from .job cimport *
from .kernels cimport active
from .lowered cimport Augmentations, Inverses, LowRank, Lowered, Rule
from .memory cimport Workspace, address, all_within
from .schedule cimport divide, item_workers, samples_zeros, shards_for, workers_for
from .tuning cimport tuned

from . import kernels as _kernels
from .lowered import lowered_once, rule_once

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

atexit.register(lambda: fnn_pool_shutdown())

CURVATURES = {"hessian": FNN_HESSIAN, "ggn": FNN_GGN, "fisher": FNN_FISHER}


cdef int poll(void *errors) noexcept with gil:
    """Runs Python's signal handlers and the thread's own check; what they raise is kept for the calling thread."""
    try:
        PyErr_CheckSignals()
        check_cancelled()
    except BaseException as error:
        (<list>errors).append(error)
        return 1
    return 0


cdef class Plan:
    """The compiled form of a list of operations; see fastnn.reference.plan.Plan."""

    def __cinit__(self, ops, ptrdiff_t n_parameters, str loss, str dtype, input_scale=None,
                  double label_smoothing=0.0):
        cdef Lowered lowered = lowered_once(tuple(ops), n_parameters, loss, dtype, label_smoothing)
        self.lowered, self.plan, self.shape, self.dtype = lowered, lowered.plan, lowered.shape, lowered.dtype
        self.arrays = [2 * i + k for i, op in enumerate(ops) for k, at in enumerate((op.weight, op.bias)) if at >= 0]
        self.n_buffers, self.loss = lowered.n_buffers, lowered.loss
        self.classifies, self.takes_labels = lowered.loss.classifies, lowered.loss.takes_labels
        self.plan.input_scale = 1.0 if input_scale is None else input_scale
        self.real = self.dtype.char
        if dtype == "float32":
            self.engine, self.kernels, self.blas = &fnn_engine_f32, &active().f32, blas.product_f32
        else:
            self.engine, self.kernels, self.blas = &fnn_engine_f64, &active().f64, blas.product_f64

    # -- calls ----------------------------------------------------------------------------------------------------

    def forward(self, theta, X, threads=1, buffers=None):
        """Output of the last operation, (N, K)."""
        cdef fnn_job job
        out = np.empty((X.shape[0], self.plan.n_out), self.dtype)
        if out.size == 0:
            return out
        self.init_job(&job, theta, X, None, None, buffers)
        job.results.out = address("out", out, self.real, out.size, True)
        self.execute(&job, self.engine.forward, job.data.rows, threads)
        return out

    def loss_and_gradient(self, theta, X, y, sample_weight=None, double l1=0.0, double l2=0.0, threads=1,
                          bint gradient=True, bint deterministic=False, buffers=None, bint training=False):
        """Objective J(θ) over all rows, and its gradient (P,) or None."""
        cdef fnn_job job
        cdef double loss = 0.0, correct = 0.0
        if y is None:
            raise TypeError("y: expected an array, got None")
        if X.shape[0] == 0:
            raise ValueError("X: expected at least one row, got none")
        self.init_job(&job, theta, X, y, sample_weight, buffers, training)
        job.objective.l1, job.objective.l2 = l1, l2
        job.results.losses, job.results.correct = &loss, &correct
        grad = None
        if gradient:
            grad = np.empty(self.plan.n_parameters, self.dtype)
            job.results.gradient = address("gradient", grad, self.real, grad.size, True)
        self.execute(&job, self.engine.gradient, job.data.rows, threads, None, deterministic)
        return loss, grad

    def train(self, *arguments, threads=1, bint deterministic=False, **options):
        """Whole epochs, in place on theta and moments; see the reference."""
        cdef TrainingJob training = TrainingJob(self, *arguments, **options)
        errors = []
        self.execute(&training.job, self.engine.train, training.job.train.batch, threads, errors, deterministic)
        return training.result(errors)

    def linearize(self, theta, X, y=None, sample_weight=None, *, cotangent=None, buffers=None, bint training=False,
                  threads=1, into=None):
        """Forward and backward over all rows; saves what curvature needs as a :class:`Linearization`."""
        if (y is None) == (cotangent is None):
            raise TypeError("linearize takes either y or cotangent")
        if X.shape[0] == 0:
            raise ValueError("X: expected at least one row, got none")
        lin = Linearization(self, theta, X, y, sample_weight, cotangent, buffers, training, threads, into)
        lin.run(None)
        return lin

    # -- the job --------------------------------------------------------------------------------------------------

    cdef int init_job(self, fnn_job *job, theta, X, y, sample_weight, buffers, bint training=False) except -1:
        """Everything that all calls share; the rest is zero."""
        memset(job, 0, sizeof(fnn_job))
        job.plan, job.kernels = &self.plan, self.kernels
        if tuned.blas_work != INFINITY:
            job.blas, job.blas_from = self.blas, tuned.blas_work
        job.theta = address("theta", theta, self.real, self.plan.n_parameters)
        job.training = training
        if self.n_buffers:
            if buffers is None:
                raise TypeError("buffers: expected an array, got None")
            job.buffers = address("buffers", buffers, self.real, self.n_buffers, training)
        self.init_rows(&job.data, X)
        if y is not None:  # all but forward
            self.init_targets(&job.data, y)
        if sample_weight is not None:
            job.data.weight = address("sample_weight", sample_weight, self.real, job.data.rows)
        return 0

    cdef int init_rows(self, fnn_data *data, X) except -1:
        cdef ptrdiff_t n = X.shape[0]
        if X.ndim != 2 or X.shape[1] != self.plan.n_in:
            raise ValueError(f"X: expected shape (N, {self.plan.n_in}), got {X.shape}")
        kind = X.dtype.char
        if kind not in "fdB":
            raise TypeError(f"X: expected dtype float32, float64 or uint8, got {X.dtype}")
        data.x_type = FNN_SOURCE_F32 if kind == "f" else FNN_SOURCE_F64 if kind == "d" else FNN_SOURCE_U8
        data.x_rows = data.rows = n
        if isinstance(X, SparseRows):
            X.check()
            data.x = address("X.data", X.data, kind, len(X.indices))
            data.indptr = <const int64_t *>address("X.indptr", X.indptr, "q", n + 1)
            data.columns = <const int32_t *>address("X.indices", X.indices, "i", len(X.indices))
        else:
            data.x = address("X", X, kind, n * self.plan.n_in)
        return 0

    cdef int init_targets(self, fnn_data *data, y) except -1:
        cdef ptrdiff_t n = data.rows, k = self.plan.n_out
        if y.dtype.kind != "i":
            data.target = address("y", y, self.real, n * k)
            return 0
        if not self.takes_labels:
            raise TypeError(f"y: expected dtype {self.dtype}, got {y.dtype}")
        data.labels = <const int64_t *>address("y", y, "q", n)
        if not all_within(data.labels, n, k):
            raise ValueError(f"y: expected labels in [0, {k}), got {y.min()} to {y.max()}")
        return 0

    # -- running --------------------------------------------------------------------------------------------------

    cdef double count_zeros(self, fnn_job *job, ptrdiff_t rows) except -1:
        """Decide whether products with X skip its zeros; the time that they take then, relative to dense ones."""
        if not samples_zeros(&self.shape, job, rows):
            return 1.0
        cdef ptrdiff_t n = tuned.zeros_sample
        cdef ptrdiff_t image = fnn_augment_scratch(job.train.augmentations, job.train.n_augmentations)
        cdef Workspace sample = Workspace((n * self.plan.n_in + image) * sizeof(double))
        cdef Workspace bits = Workspace(n * (self.plan.n_in // 64 + 1) * sizeof(uint64_t))
        return self.engine.count_zeros(job, <int>self.shape.lanes, n, sample.start, <uint64_t *>bits.start)

    cdef int execute(self, fnn_job *job, fnn_task task, ptrdiff_t rows_at_once, threads, list errors=None,
                     bint deterministic=False) except -1:
        """Run the job on as many workers as its batches are worth, with a workspace and a watch on signals."""
        cdef fnn_team team
        cdef ptrdiff_t rows = min(rows_at_once, job.data.rows)
        cdef double zeros_share = self.count_zeros(job, rows)
        cdef list raised = [] if errors is None else errors
        cdef int shards = shards_for(&self.shape, job, rows, deterministic, threads)
        cdef int workers = fnn_team_acquire(&team, workers_for(&self.shape, job, rows, shards, deterministic, threads,
                                                               fnn_team_pays(), fnn_pair_costs))
        try:
            divide(&self.shape, job, rows, workers, shards, zeros_share)
            job.run.poll, job.run.poll_arg = poll, <void *>raised
            self.run_on(&team, job, task)
        finally:
            fnn_team_release(&team)
        if errors is None and raised:
            raise raised[0]
        return 0

    cdef int run_on(self, fnn_team *team, fnn_job *job, fnn_task task) except -1:
        """Run the scheduled job on a team, in the spare workspace."""
        cdef fnn_barrier barrier
        cdef int ran = 0
        cdef const char *broken = NULL
        cdef Workspace space
        job.workspace.red_zone = tuned.red_zone
        cdef size_t needed = self.engine.workspace(job)
        space, self.spare = self.spare, None  # another thread's call gets one of its own
        if space is None or space.size < needed:
            space = Workspace(needed)
        job.workspace.start = space.start
        if job.workspace.red_zone:
            self.engine.guard(job)
        job.run.barrier = &barrier
        fnn_barrier_init(&barrier, job.schedule.n_workers)
        try:
            if job.blas != NULL:
                with blas_held_to_one_thread():
                    with nogil:
                        ran = fnn_team_run(team, task, job)
            else:
                with nogil:
                    ran = fnn_team_run(team, task, job)
        finally:
            fnn_barrier_destroy(&barrier)
        if job.workspace.red_zone:
            broken = self.engine.broken(job)
        self.spare = space
        if ran != 0:
            raise RuntimeError("a fork in the middle of a call is not supported")
        if broken != NULL:
            raise SystemError(f"workspace: something was written behind {broken.decode()!r}")
        return 0

    cdef Workspace divide_alone(self, fnn_job *job, ptrdiff_t rows, bint deterministic):
        rows = min(rows, job.data.rows)
        cdef double zeros_share = self.count_zeros(job, rows)
        divide(&self.shape, job, rows, 1, shards_for(&self.shape, job, rows, deterministic, 1), zeros_share)
        job.workspace.red_zone = tuned.red_zone
        cdef Workspace space = Workspace(self.engine.workspace(job))
        job.workspace.start = space.start
        if job.workspace.red_zone:
            self.engine.guard(job)
        return space


cdef class OneWorker:
    """What a job asks for signals and waits at, where the calling thread runs it alone."""

    def __cinit__(self):
        self.errors = []
        fnn_barrier_init(&self.barrier, 1)

    def __dealloc__(self):
        fnn_barrier_destroy(&self.barrier)

    cdef void enter(self, fnn_job *job) noexcept:
        job.run.barrier, job.run.poll, job.run.poll_arg = &self.barrier, poll, <void *>self.errors


cdef class TrainingJob:
    """A job that trains, and all that it points to; the arguments are those of ``Plan.train`` in the reference."""

    def __cinit__(self, Plan plan, theta, moments, X, y, order, ptrdiff_t batch_size, optimizer, long long step, *,
                  sample_weight=None, double l1=0.0, double l2=0.0, clip_norm=None, clip_value=None,
                  learning_rates=None, buffers=None, bint l2_over_weight_sum=False, preconditioner=None,
                  ptrdiff_t epochs=1, subset=None, bint record_norms=False, augment=None, average=None):
        cdef fnn_job *job = &self.job
        cdef Rule known = rule_once(optimizer)
        cdef Augmentations augmentations = Augmentations(augment, plan.plan.n_in)
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
        self.plan = plan
        plan.init_job(job, theta, X, y, sample_weight, buffers, True)
        job.theta = address("theta", theta, plan.real, plan.plan.n_parameters, True)
        self.init_rows(order, subset, epochs)
        job.objective.l1, job.objective.l2, job.objective.l2_over_weight_sum = l1, l2, l2_over_weight_sum
        job.train.batch, job.train.epochs, job.train.step = batch_size, epochs, step
        job.train.clip_norm = INFINITY if clip_norm is None else clip_norm
        job.train.clip_value = INFINITY if clip_value is None else clip_value
        augmentations.enter(&job.train)
        if average is not None:
            job.train.average_decay = average[0]
            job.train.average = address("average[1]", average[1], plan.real, plan.plan.n_parameters, True)
            job.train.average_buffers = address("average[2]", average[2], plan.real, plan.n_buffers, True)
        self.kept = [theta, moments, X, y, order, sample_weight, buffers, subset, learning_rates, augmentations,
                     average]
        self.init_rule(known, moments, preconditioner, learning_rates)
        self.init_results(max(epochs, 1), record_norms)

    cdef int init_rows(self, order, subset, ptrdiff_t epochs) except -1:
        """Which rows there are, and their order."""
        cdef fnn_data *data = &self.job.data
        if order is not None:
            data.rows = order.shape[1]
            data.order = <const int64_t *>address("order", order, "q", data.rows * epochs)
            if not all_within(data.order, data.rows * epochs, data.x_rows):
                raise ValueError(f"order: expected indices of the {data.x_rows} rows of X")
        if subset is not None:
            if subset.size == 0 or subset.min() < 0 or subset.max() >= data.x_rows:
                raise ValueError(f"subset: expected indices of the {data.x_rows} rows of X, at least one")
            data.subset = <const int64_t *>address("subset", subset, "q", subset.size)
            data.subset_rows = subset.size
        return 0

    cdef int init_rule(self, Rule known, moments, preconditioner, learning_rates) except -1:
        """The update rule with its moments and rates."""
        cdef fnn_job *job = &self.job
        cdef ptrdiff_t rows = job.data.rows
        cdef ptrdiff_t n_batches = job.train.epochs * ((rows + job.train.batch - 1) // job.train.batch)
        cdef Inverses inverses
        cdef LowRank low_rank
        self.rule = known.rule
        if known.accelerates:
            momenta = np.empty(n_batches)  # as many as there will be updates
            _kernels.nag_momentum(job.train.step + 1, momenta)
            self.rule.momenta = <const double *>address("momenta", momenta, "d", momenta.size)
            self.rule.first = job.train.step
            self.kept.append(momenta)
        job.train.rule = &self.rule
        if known.n_moments:
            job.train.moments = address("moments", moments, self.plan.real,
                                        known.n_moments * self.plan.plan.n_parameters, True)
        if learning_rates is not None:
            job.train.rates = <const double *>address("learning_rates", learning_rates, "d", n_batches)
        if known.low_rank:
            low_rank = LowRank(preconditioner, self.plan.plan.n_parameters, self.plan.real)
            job.train.low_rank = &low_rank.metric
            self.kept.append(low_rank)
        elif known.preconditioned:
            inverses = Inverses(self.plan.lowered, preconditioner, self.plan.real)
            job.train.inverses = inverses.pointers
            self.kept.append(inverses)
        return 0

    cdef int init_results(self, ptrdiff_t epochs, bint record_norms) except -1:
        """Where the figures of the epochs go."""
        cdef fnn_job *job = &self.job
        self.outcome = outcome = np.zeros((3, epochs))
        job.results.losses = <double *>address("losses", outcome[0], "d", epochs, True)
        job.results.correct = <double *>address("correct", outcome[1], "d", epochs, True)
        job.results.penalties = <double *>address("penalties", outcome[2], "d", epochs, True)
        if record_norms:
            self.norms = np.zeros((epochs, 2 * self.plan.plan.n_ops, 3))
            job.results.norms = <double *>address("norms", self.norms, "d", self.norms.size, True)
        return 0

    cdef object result(self, list errors):
        """A TrainResult after the run."""
        cdef fnn_job *job = &self.job
        cdef ptrdiff_t done = job.results.epochs_done
        outcome = self.outcome
        return TrainResult(
            tuple(outcome[0, :done].tolist()), tuple(outcome[1, :done].tolist()) if self.plan.classifies else None,
            job.train.step, "interrupted" if errors else "diverged" if job.results.status == FNN_DIVERGED else "ok",
            errors[0] if errors else None, tuple(outcome[2, :done].tolist()),
            () if self.norms is None else tuple(self.norms[:done, self.plan.arrays].tolist()))


cdef class FewRows:
    """The forward pass of a plan over few rows, again and again, on the calling thread and with its own memory."""

    def __cinit__(self, Plan plan, theta, buffers):
        self.plan, self.arrays = plan, (theta, buffers)
        self.n_in, self.n_out = plan.plan.n_in, plan.plan.n_out
        plan.init_job(&self.job, theta, np.empty((0, self.n_in), plan.dtype), None, None, buffers)
        self.job.blas = NULL
        self.results = Workspace(3 * FEW_ROWS * self.n_out * sizeof(double))
        self.job.results.out = self.results.start

    cdef void *scratch(self) noexcept:
        return self.results.start + FEW_ROWS * self.n_out * sizeof(double)

    cdef void *run(self, void *x, int x_type, ptrdiff_t rows) except NULL:
        cdef Plan plan = <Plan>self.plan
        cdef fnn_job *job = &self.job
        cdef size_t needed
        job.data.x, job.data.x_type, job.data.x_rows, job.data.rows = x, x_type, rows, rows
        divide(&plan.shape, job, rows, 1, 1, 1.0)
        job.workspace.red_zone = tuned.red_zone
        needed = plan.engine.workspace(job)
        if self.space is None or self.space.size < needed:
            self.space = Workspace(needed)
        job.workspace.start = self.space.start
        if job.workspace.red_zone:
            plan.engine.guard(job)
        plan.engine.forward(job, 0)
        if job.workspace.red_zone and plan.engine.broken(job) != NULL:
            raise SystemError("workspace: something was written behind one of its parts")
        return job.results.out


cdef class Linearization:
    """A network on a batch of rows, with what the derivatives of its gradient need.

    The reference, fastnn.reference.linearize.Linearization, says what the methods return.
    """
    cdef Plan plan
    cdef object theta, X, y, cotangent, buffers, threads, store
    cdef bint training
    cdef ptrdiff_t rows
    cdef readonly object weight, curvature_weight
    cdef readonly double loss, weight_sum

    def __init__(self, Plan plan, theta, X, y, sample_weight, cotangent, buffers, bint training, threads, into):
        self.plan, self.theta, self.X, self.y, self.weight = plan, theta, X, y, sample_weight
        self.cotangent, self.buffers, self.training, self.threads = cotangent, buffers, training, threads
        self.rows = X.shape[0]
        cdef ptrdiff_t size = plan.plan.saved_elements * self.rows + plan.plan.saved_columns
        if into is not None:
            if not isinstance(into, Linearization) or (<Linearization>into).plan is not plan:
                raise TypeError("into: expected a linearization of this plan")
            self.store, (<Linearization>into).store = (<Linearization>into).store, None
        if self.store is None or self.store.size < size:
            raw = np.empty(size + FNN_ALIGN, plan.dtype)
            skip = -raw.ctypes.data % FNN_ALIGN // raw.itemsize
            self.store = raw[skip:skip + size]

    cdef int init_job(self, fnn_job *job, double *loss) except -1:
        if self.store is None:
            raise ValueError("this linearization has given its memory to another one")
        self.plan.init_job(job, self.theta, self.X, self.y, self.weight, self.buffers, self.training)
        job.linear.saved = address("store", self.store, self.plan.real, self.store.size, True)
        job.results.losses = job.results.correct = loss
        if self.cotangent is not None:
            job.linear.cotangent = address("cotangent", self.cotangent, self.plan.real,
                                           self.rows * self.plan.plan.n_out)
        if self.curvature_weight is not None:
            job.linear.curvature_weight = address("curvature_weight", self.curvature_weight, self.plan.real,
                                                  self.rows)
        return 0

    def run(self, dx):
        """Fill the store and, if given, dx (N, D)."""
        cdef fnn_job job
        cdef double loss[1]
        self.init_job(&job, loss)
        if dx is not None:
            job.linear.dx = address("dx", dx, self.plan.real, dx.size, True)
        self.plan.execute(&job, self.plan.engine.linearize, self.rows, self.threads)
        self.weight_sum = job.linear.weight_sum
        self.loss = loss[0]
        self.curvature_weight = self.weight
        if self.y is not None:
            self.curvature_weight = self.plan.loss.curvature_weight(
                self.y, self.weight, self.plan.plan.label_smoothing)

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
        return self.at(self.plan.plan.places[self.plan.plan.n_ops - 1].out, self.plan.plan.n_out)

    @property
    def curvature(self):
        return self.at(self.plan.plan.saved_curvature, self.plan.plan.n_out)

    def inputs(self, i):
        cdef int source = self.plan.plan.ops[self.op(i)].input
        if source >= 0:
            return self.at(self.plan.plan.places[source].out, self.plan.plan.ops[source].n_out)
        X, dtype = self.X, self.plan.dtype
        X = X.dense(dtype) if isinstance(X, SparseRows) else X.astype(dtype, copy=False)
        return X if self.plan.plan.input_scale == 1.0 else X * dtype.type(self.plan.plan.input_scale)

    def slope(self, i):
        return self.at(self.plan.plan.places[self.op(i)].slope, self.plan.plan.ops[i].n_out)

    def bend(self, i):
        return self.at(self.plan.plan.places[self.op(i)].bend, self.plan.plan.ops[i].n_out)

    def delta(self, i):
        return self.at(self.plan.plan.places[self.op(i)].delta, self.plan.plan.ops[i].n_out)

    def normalised(self, i):
        return self.at(self.plan.plan.places[self.op(i)].normalised, self.plan.plan.ops[i].n_out)

    def inv_std(self, i):
        cdef fnn_place place = self.plan.plan.places[self.op(i)]
        cdef ptrdiff_t start = self.plan.plan.saved_elements * self.rows + place.columns
        if place.columns >= 0:
            return self.store[start:start + self.plan.plan.ops[i].n_out]
        return None if place.inv_std < 0 else self.at(place.inv_std, 1)[:, 0]

    def input_gradient(self):
        dx = np.empty((self.rows, self.plan.plan.n_in), self.plan.dtype)
        self.run(dx)
        return dx

    def product(self, V, kind="hessian", out=None):
        cdef fnn_job job
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
        self.init_job(&job, loss)
        job.linear.curvature, job.linear.n_directions = CURVATURES[kind], V.size // p
        job.linear.weight_sum = self.weight_sum
        job.linear.directions = address("V", V, self.plan.real, V.size)
        job.linear.products = address("out", out, self.plan.real, V.size, True)
        self.plan.execute(&job, self.plan.engine.product, self.rows, self.threads)
        return out

    def input_product(self, direction):
        cdef fnn_job job
        cdef double loss[1]
        if self.training and self.plan.plan.batch_statistics:
            raise ValueError("input_product needs rows that do not depend on each other, got statistics of the batch")
        dx = np.empty((self.rows, self.plan.plan.n_in), self.plan.dtype)
        self.init_job(&job, loss)
        job.linear.n_directions = 1
        job.linear.direction_x = address("direction", direction, self.plan.real, self.plan.plan.n_in)
        job.linear.dx = address("dx", dx, self.plan.real, dx.size, True)
        self.plan.execute(&job, self.plan.engine.product, self.rows, self.threads)
        return dx


cdef int run_items(fnn_items *items, threads) except -1:
    cdef int ran, workers = item_workers(items.work * <double>items.items, items.items, threads)
    cdef fnn_team team
    workers = fnn_team_acquire(&team, workers if fnn_team_pays() else 1)
    errors = []
    try:
        items.bytes = (items.bytes + FNN_ALIGN - 1) // FNN_ALIGN * FNN_ALIGN
        space = Workspace(items.bytes * workers)
        items.workspace = (<Workspace>space).start
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
