"""Epochs of several networks of one shape side by side, one in each lane of a vector, with validation after each."""
from libc.stdint cimport int64_t

import numpy as np

from .courses cimport check_space
from .engine cimport OneWorker, Plan, TrainingJob
from .job cimport fnn_job, fnn_lanes
from .kernels cimport FNN_MOST_LANES
from .memory cimport Workspace, address
from .tuning cimport tuned

from . import kernels as _kernels
from .results import LanesResult


def width(ptrdiff_t item_size):
    """Elements of so many bytes in a vector."""
    return {"avx512": 64, "avx2": 32}.get(_kernels.simd()["active"], 16) // item_size


cdef int spread(double *numbers, values, ptrdiff_t lanes) except -1:
    """A number for each member; spare lanes have the first member's."""
    cdef ptrdiff_t lane
    for lane in range(lanes):
        numbers[lane] = values[lane] if lane < len(values) else values[0]
    return 0


cdef int init_step(fnn_lanes *all, rules, l2) except -1:
    """The numbers of all members' rules, and their penalties."""
    cdef ptrdiff_t lanes = all.lanes
    first = rules[0]
    all.step.adam, all.step.nesterov, all.step.epsilon_hat = first.rule == "adam", first.nesterov, first.epsilon_hat
    spread(all.step.rate, [rule.learning_rate for rule in rules], lanes)
    spread(all.step.decay, [rule.weight_decay for rule in rules], lanes)
    spread(all.step.momentum, [rule.momentum for rule in rules], lanes)
    spread(all.step.beta1, [rule.beta1 for rule in rules], lanes)
    spread(all.step.beta2, [rule.beta2 for rule in rules], lanes)
    spread(all.step.epsilon, [rule.epsilon for rule in rules], lanes)
    spread(all.step.l2, l2, lanes)
    all.penalised = any(l2)
    return 0


def run(Plan plan, arguments, options, validation, rules, l2, rates, thetas, moments, *, str by, bint rises, best,
        waited, patience=None, bint keeps=False, bint deterministic=False):
    """Train members side by side on the calling thread; see LanesResult. None: they cannot be.

    arguments, options: of TrainingJob, for the first member, whose data, order and batches are those of all. thetas
    (members, P) and moments (members, n, P) are changed in place; rates (members, batches) or None.
    """
    cdef TrainingJob training = TrainingJob(plan, *arguments, **options)
    cdef OneWorker alone = OneWorker()
    cdef fnn_job forward
    cdef fnn_lanes all
    cdef ptrdiff_t epochs = training.job.train.epochs, lanes = plan.shape.lanes, members = len(thetas)
    cdef ptrdiff_t size = plan.plan.n_parameters
    cdef Workspace space
    X, y = validation
    plan.init_job(&forward, arguments[0], X, y, None, options["buffers"])
    out = np.empty((X.shape[0], plan.plan.n_out), plan.dtype)
    forward.results.out = address("out", out, plan.real, out.size, True)
    training.kept.append(plan.divide_alone(&training.job, training.job.train.batch, deterministic))
    training.kept.append(plan.divide_alone(&forward, forward.data.rows, False))
    if lanes > FNN_MOST_LANES or not plan.engine.lanes_fit(&training.job, &forward):
        return None
    alone.enter(&training.job)
    alone.enter(&forward)
    all.train, all.forward = &training.job, &forward
    all.lanes, all.members, all.epochs, all.n_moments = lanes, members, epochs, moments.shape[1]
    spare = [0] * (lanes - members)  # lanes without a member repeat the first
    take = [*range(members), *spare]
    theta = np.ascontiguousarray(thetas[take].T)
    state = np.ascontiguousarray(moments[take].transpose(1, 2, 0))
    all.theta = address("theta", theta, plan.real, size * lanes, True)
    all.moments = address("moments", state, plan.real, all.n_moments * size * lanes, True)
    init_step(&all, rules, l2)
    all.rates = NULL
    if rates is not None:
        spread_rates = np.ascontiguousarray(rates[take].T)
        all.rates = <const double *>address("rates", spread_rates, "d", spread_rates.size)
    all.by_loss, all.sign = by == "loss", 1.0 if rises else -1.0
    all.patience = -1 if patience is None else patience
    scores = np.array(best, np.float64)
    counts = np.full((3, members), -1, np.int64)  # of epochs waited, of the best one, of those that count
    counts[0] = waited
    figures = np.empty((5, epochs, lanes))
    steps = np.empty(epochs, np.int64)
    kept = np.empty((2 if keeps else 1, members, size), plan.dtype)
    all.best = <double *>address("best", scores, "d", members, True)
    all.waited = <int64_t *>address("waited", counts[0], "q", members, True)
    all.best_at = <int64_t *>address("best_at", counts[1], "q", members, True)
    all.epochs_of = <int64_t *>address("epochs_of", counts[2], "q", members, True)
    all.losses = <double *>address("losses", figures[0], "d", epochs * lanes, True)
    all.correct = <double *>address("correct", figures[1], "d", epochs * lanes, True)
    all.penalties = <double *>address("penalties", figures[2], "d", epochs * lanes, True)
    all.val_losses = <double *>address("val_losses", figures[3], "d", epochs * lanes, True)
    all.val_accuracies = <double *>address("val_accuracies", figures[4], "d", epochs * lanes, True)
    all.steps = <int64_t *>address("steps", steps, "q", epochs, True)
    all.last_theta = address("last", kept[0], plan.real, members * size, True)
    all.best_theta = address("best", kept[1], plan.real, members * size, True) if keeps else NULL
    all.epochs_done, all.red_zone = 0, tuned.red_zone
    all.workspace = NULL
    space = Workspace(plan.engine.lanes_workspace(&all))
    all.workspace = space.start
    with nogil:
        plan.engine.train_lanes(&all)
    check_space(plan, &training.job)
    check_space(plan, &forward)
    if all.red_zone and plan.engine.lanes_broken(&all) != NULL:
        raise SystemError("workspace: something was written behind one of the lanes' parts")
    moments[...] = state.transpose(2, 0, 1)[:members]
    return LanesResult(figures[:, :all.epochs_done, :members], steps[:all.epochs_done], counts[2], counts[1],
                       kept[0], kept[1] if keeps else None, alone.errors[0] if alone.errors else None)
