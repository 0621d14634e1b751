"""Epochs of training with validation after each, in one call that does without Python."""
from libc.math cimport NAN, isfinite, isnan
from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

from .engine cimport OneWorker, Plan, TrainingJob
from .job cimport FNN_DIVERGED, FNN_OK, fnn_engine, fnn_job
from .kernels cimport active, fnn_call_all_finite, fnn_call_loss, fnn_kernels
from .memory cimport Workspace, address

from ..plan import CourseResult

cdef struct Scored:
    # The rows that are validated on, and the figures of each epoch.
    fnn_job forward
    void *delta
    double *losses
    double *accuracies
    int64_t *steps

cdef struct Best:
    # What the epochs are compared by, and the best of them: a copy of its parameters and buffers.
    double *scores  # losses or accuracies
    double sign     # -1 where less is better
    double score    # NaN: none yet
    ptrdiff_t epoch
    ptrdiff_t waited, patience  # epochs since; -1: for ever
    void *theta
    void *buffers


cdef bint finite(const fnn_kernels *table, bint single, ptrdiff_t n, const void *x) noexcept nogil:
    return n == 0 or fnn_call_all_finite(table, single, n, x) != 0


cdef bint better(const Best *best, double score) noexcept nogil:
    """As fastnn.sweeps.criterion.Criterion.better has it."""
    if isnan(score):
        return False
    return isnan(best.score) or best.sign * score > best.sign * best.score


cdef class _Course:
    """What a run takes, in C."""
    cdef TrainingJob training
    cdef Scored scored
    cdef Best best
    cdef Workspace training_space, forward_space
    cdef ptrdiff_t n_moments
    cdef bint single

    cdef int run(self) noexcept nogil:
        """The epochs that were finished; whether all went well is in the jobs' status, or FNN_DIVERGED."""
        cdef fnn_job *train = &self.training.job
        cdef fnn_job *forward = &self.scored.forward
        cdef const fnn_engine *engine = self.training.plan.engine
        cdef const fnn_kernels *table = active()
        cdef ptrdiff_t epochs = train.train.epochs, at, rows = forward.data.rows, k = train.plan.n_out
        cdef ptrdiff_t batches = (train.data.rows + train.train.batch - 1) // train.train.batch
        cdef size_t item = 4 if self.single else 8
        cdef double loss, correct
        train.train.epochs = 1
        for at in range(epochs):
            engine.train(train, 0)
            if train.results.status != FNN_OK:
                return <int>at
            engine.forward(forward, 0)
            if forward.results.status != FNN_OK:
                train.results.status = forward.results.status
                return <int>at
            correct = 0.0
            loss = fnn_call_loss(table, self.single, train.plan.loss, rows, k, forward.results.out,
                                 forward.data.labels, forward.data.target, NULL, train.plan.label_smoothing, &correct,
                                 self.scored.delta) / rows
            if not (isfinite(loss) and isfinite(train.results.losses[0])
                    and finite(table, self.single, train.plan.n_parameters, train.theta)
                    and finite(table, self.single, self.training.plan.n_buffers, train.buffers)
                    and finite(table, self.single, self.n_moments, train.train.moments)):
                train.results.status = FNN_DIVERGED
                return <int>at
            self.scored.losses[at], self.scored.accuracies[at] = loss, correct / rows
            self.scored.steps[at] = train.train.step
            train.results.losses += 1
            train.results.correct += 1
            train.results.penalties += 1
            if train.data.order != NULL:
                train.data.order += train.data.rows
            if train.train.rates != NULL:
                train.train.rates += batches
            self.best.waited += 1
            if better(&self.best, self.best.scores[at]):
                self.best.score, self.best.epoch, self.best.waited = self.best.scores[at], at, 0
                if self.best.theta != NULL:
                    memcpy(self.best.theta, train.theta, train.plan.n_parameters * item)
                    if self.training.plan.n_buffers > 0:  # memcpy takes no NULL, even for no bytes
                        memcpy(self.best.buffers, train.buffers, self.training.plan.n_buffers * item)
            elif self.best.patience >= 0 and self.best.waited >= self.best.patience:
                return <int>at + 1
        return <int>epochs


def run(Plan plan, arguments, options, validation, *, str by, bint rises, double best=NAN, ptrdiff_t waited=0,
        patience=None, keep=None, bint deterministic=False):
    """Train epochs, validating each, on the calling thread; see fastnn.plan.CourseResult."""
    cdef _Course course = _Course()
    cdef TrainingJob training = TrainingJob(plan, *arguments, **options)
    cdef OneWorker alone = OneWorker()
    cdef fnn_job *forward = &course.scored.forward
    cdef ptrdiff_t epochs = training.job.train.epochs, done
    X, y = validation
    theta, moments = arguments[:2]
    course.training, course.single = training, plan.real == "f"
    course.n_moments = moments.size
    plan.init_job(forward, theta, X, y, None, options["buffers"])
    Z, delta = np.empty((2, X.shape[0], plan.plan.n_out), plan.dtype)
    forward.results.out = address("Z", Z, plan.real, Z.size, True)
    course.scored.delta = address("delta", delta, plan.real, delta.size, True)
    figures = np.empty((2, epochs))
    steps = np.empty(epochs, np.int64)
    course.scored.losses = <double *>address("losses", figures[0], "d", epochs, True)
    course.scored.accuracies = <double *>address("accuracies", figures[1], "d", epochs, True)
    course.scored.steps = <int64_t *>address("steps", steps, "q", epochs, True)
    course.best.scores = course.scored.losses if by == "loss" else course.scored.accuracies
    course.best.sign = 1.0 if rises else -1.0
    course.best.score, course.best.epoch, course.best.waited = best, -1, waited
    course.best.patience = -1 if patience is None else patience
    if keep is not None:
        course.best.theta = address("keep", keep[0], plan.real, plan.plan.n_parameters, True)
        course.best.buffers = address("keep", keep[1], plan.real, plan.n_buffers, True)
    course.training_space = plan.divide_alone(&training.job, training.job.train.batch, deterministic)
    course.forward_space = plan.divide_alone(forward, forward.data.rows, False)
    alone.enter(&training.job)
    alone.enter(forward)
    with nogil:
        done = course.run()
    check_space(plan, &training.job)
    check_space(plan, forward)
    status = training.job.results.status
    outcome = training.outcome[:, :done]
    return CourseResult(
        outcome[0].tolist(), outcome[1].tolist(), outcome[2].tolist(), figures[0, :done].tolist(),
        figures[1, :done].tolist(), steps[:done].tolist(), course.best.epoch,
        "interrupted" if alone.errors else "ok" if status == FNN_OK else "diverged",
        alone.errors[0] if alone.errors else None)


cdef int check_space(Plan plan, fnn_job *job) except -1:
    cdef const char *broken = NULL
    if job.workspace.red_zone:
        broken = plan.engine.broken(job)
    if broken != NULL:
        raise SystemError(f"workspace: something was written behind {broken.decode()!r}")
    return 0
