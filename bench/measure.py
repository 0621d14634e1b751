"""What ``report.py`` times: functions that return medians of interleaved calls, in seconds."""

import inspect
import statistics
import sys
import time
import timeit
from functools import partial

import estimator_tasks
import numpy as np
import rivals
import second_order
import small_calls

import fastnn as fnn


def interleaved(title, calls, rounds, after_round=None):
    """Return {name: median seconds of a call}; the calls take turns, in an order that rotates from round to round."""
    names, seconds = list(calls), {name: [] for name in calls}
    for turn in range(rounds):
        say(f"{title}: round {turn + 1} of {rounds}")
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
        if after_round:
            after_round()
    say("")
    return {name: statistics.median(values) for name, values in seconds.items()}


def divided(medians, n):
    """Return the medians per one of n pieces of work."""
    return {name: seconds / n for name, seconds in medians.items()}


def training(task, engines, threads, epochs, rounds):
    """Return {engine: seconds per epoch} of calls of that many epochs, and our matrix product's peak meanwhile."""
    title, calls, peaks = f"{task.name} {task.X.dtype}", {}, []
    for name in engines:
        say(f"{title}: preparing {name}")
        rivals.check_same_work(task, name, threads)
        engine = rivals.ENGINES[name](task, threads)
        engine.epochs(1)  # warm-up, compilation
        calls[name] = partial(engine.epochs, epochs)
    medians = interleaved(title, calls, rounds, lambda: peaks.append(gemm_gflops(task.X.dtype)))
    return divided(medians, epochs), max(peaks)


def gemm_gflops(dtype, size=512, calls=10):
    """Return the best rate of fastnn's own matrix product, which has one thread, on square matrices of this size."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(dtype)
    best = min(timeit.repeat(partial(fnn.kernels.matmul, a, b), number=1, repeat=calls))
    return 2 * size**3 / best / 1e9


def workers(task, epochs, rounds):
    """Return {"1 thread", "2 threads": fastnn's seconds per epoch}, on all cores."""
    engines = {"1 thread": rivals.Fastnn(task, 1), "2 threads": rivals.Fastnn(task, 2)}
    with rivals.unpinned():
        return ours(f"{task.name} {task.X.dtype}, two workers", engines, epochs, rounds)


def deterministic(task, epochs, rounds):
    """Return {"default", "deterministic": fastnn's seconds per epoch} on two threads, or None without the keyword."""
    engines = {"default": rivals.Fastnn(task, 2), "deterministic": rivals.Fastnn(task, 2)}
    if "deterministic" not in inspect.signature(engines["default"].net.fit).parameters:
        return None
    engines["deterministic"].fit_options = {"deterministic": True}
    with rivals.unpinned():
        return ours(f"{task.name} {task.X.dtype}, deterministic", engines, epochs, rounds)


def normalised(task, engines, threads, epochs, rounds):
    """Return {"fastnn plain", "fastnn": seconds per epoch} without and with batch norm and dropout; and "torch"."""
    title = f"{task.name} {task.X.dtype}, batch norm and dropout"
    say(f"{title}: preparing")
    calls, networks = {"fastnn plain": rivals.Fastnn(task, threads)}, {"fastnn": rivals.NormalisedFastnn}
    if "torch" in engines:
        rivals.check_same_normalised_work(task, threads)
        networks["torch"] = rivals.NormalisedTorch
    calls["fastnn plain"].epochs(1)  # warm-up
    for name, network in networks.items():
        calls[name] = engine = network(task, threads)
        before = rivals.loss_of_probabilities(task, engine.probabilities())
        engine.epochs(1)  # warm-up
        after = rivals.loss_of_probabilities(task, engine.probabilities())
        assert after < 0.2 * before, f"{title}: the loss of {name} is {after:.3f} after an epoch, {before:.3f} before"
    calls = {name: partial(engine.epochs, epochs) for name, engine in calls.items()}
    return divided(interleaved(title, calls, rounds), epochs)


def estimators(task, threads, rounds):
    """Return {engine: seconds of a fit} of the same estimator of fastnn and of scikit-learn, and {engine: scores}."""
    title = f"{task.name} {task.X.dtype}, estimators"
    say(f"{title}: scores")
    estimator_tasks.check_same_fit(task)
    scores = {engine: task.scores(engine) for engine in estimator_tasks.MODULES}  # also warms up
    estimator_tasks.check_same_scores(task, *scores.values())
    options = {"fastnn": {"n_threads": threads}}  # scikit-learn's threads are BLAS's
    calls = {engine: partial(task.fit, engine, **options.get(engine, {})) for engine in estimator_tasks.MODULES}
    return interleaved(title, calls, rounds), scores


TURN_SECONDS = 0.1  # a turn's shortest time: threads of the engine before may still be spinning when it begins


def curvature(title, make, rounds):
    """Return {name: seconds of a call} of a piece of second-order work whose results have been compared."""
    say(f"{title}: preparing")
    calls = make()
    second_order.check(calls)
    turns, counts = {}, {}
    for name, call in calls.items():
        counts[name] = max(1, round(TURN_SECONDS / min(timeit.repeat(call, number=1, repeat=3))))
        turns[name] = partial(timeit.timeit, call, number=counts[name])
    medians = interleaved(title, turns, rounds)
    return {name: seconds / counts[name] for name, seconds in medians.items()}


def members(ways, rounds):
    """Return {way: seconds of a member} of ways to train members; the first is warmed up."""
    next(iter(ways.values()))[1]()
    medians = interleaved("sweeps", {name: work for name, (_, work) in ways.items()}, rounds)
    return {name: seconds / ways[name][0] for name, seconds in medians.items()}


def ours(title, engines, epochs, rounds):
    """Return {name: seconds per epoch} of several engines of fastnn."""
    for engine in engines.values():
        engine.epochs(1)  # warm-up
    calls = {name: partial(engine.epochs, epochs) for name, engine in engines.items()}
    return divided(interleaved(title, calls, rounds), epochs)


ONE_ROW_CALLS = 1000
SMALL_CALLS = 100


def predicting_one_row(dtype, rounds):
    """Return the seconds of a call for one row through 64-32-10: inside the library, from Python, by the reference."""
    net, reference = networks(dtype)
    row = np.random.default_rng(0).standard_normal((1, 64)).astype(dtype)
    calls = {
        "compiled forward pass": partial(net.plan.forward, net.theta, row, threads=1),
        "predict_proba(row, threads=1)": partial(net.predict_proba, row, threads=1),
        "predict(row)": partial(net.predict, row),
        "reference's predict(row)": partial(reference.predict, row),
    }
    if hasattr(net, "predictor"):
        calls = {"predictor(row)": partial(net.predictor(), row), **calls}
    calls = {name: partial(timeit.timeit, call, number=ONE_ROW_CALLS) for name, call in calls.items()}
    return divided(interleaved(f"predicting one row, {dtype}", calls, rounds), ONE_ROW_CALLS)


def predicting_many_rows(dtype, threads, rounds, n_rows=1_000_000):
    """Return the seconds per row of ``predict`` on many rows through 64-32-10, by fastnn and by the reference."""
    net, reference = networks(dtype)
    X = np.random.default_rng(0).standard_normal((n_rows, 64), dtype=dtype)
    calls = {"predict": partial(net.predict, X, threads=threads), "reference's predict": partial(reference.predict, X)}
    for call in calls.values():
        call()
    return divided(interleaved(f"predicting {n_rows:,} rows, {dtype}", calls, rounds), n_rows)


def calling_a_network(rounds):
    """Return {call: seconds} of small calls of a network, and of the yardstick."""
    turns, pieces = {}, {}
    for name, (call, n) in small_calls.network_calls().items():
        turns[name], pieces[name] = partial(timeit.timeit, call, number=SMALL_CALLS // n), SMALL_CALLS // n * n
    medians = interleaved("small calls", turns, rounds)
    return {name: seconds / pieces[name] for name, seconds in medians.items()}


def calling_estimators(rounds):
    """Return {call: {engine: seconds}} of one row through estimators of fastnn and of scikit-learn."""
    found = {}
    for name, calls in small_calls.estimator_calls().items():
        turns = {engine: partial(timeit.timeit, call, number=SMALL_CALLS) for engine, call in calls.items()}
        found[name] = divided(interleaved(name, turns, rounds), SMALL_CALLS)
    return found


def networks(dtype):
    """Return the classifier 64-32-10, compiled and in NumPy."""
    layers = [fnn.Dense(32, "relu"), fnn.Dense(10)]
    options = {"input_size": 64, "loss": "cross_entropy", "dtype": dtype, "seed": 0}
    return fnn.Sequential(layers, **options), fnn.Sequential(layers, **options, backend="reference")


def say(text):
    """Show progress on stderr, on one line where that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)
