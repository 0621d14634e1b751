"""A member of a sweep has the bits of a lone fit, whatever runs beside it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from other_sets import examples

import fastnn as fnn
from fastnn._core.threads import blas_held_to_one_thread
from fastnn.sweeps import groups
from fastnn.sweeps.data import take_rows
from fastnn.training.courses import run_side_by_side

pytestmark = pytest.mark.every_simd

#: Of narrow networks, and four times as many of all kinds.
POPULATIONS = int(os.environ.get("FASTNN_POPULATIONS", "25"))

OPTIMIZERS: list[Any] = [
    fnn.SGD(0.05, momentum=0.9, nesterov=True),
    fnn.SGD(fnn.RationalDecay(0.1, 0.5)),
    fnn.SGD(fnn.ReduceOnPlateau(0.1, patience=1)),
    fnn.NAG(0.01),
    fnn.AdaGrad(0.05),
    fnn.RMSProp(0.01, momentum=0.5),
    fnn.Adam(fnn.CosineDecay(0.02, 5)),
    fnn.Adam(0.01, amsgrad=True),
    fnn.AdamW(0.01),
    fnn.KFAC(0.05),
]


def network(
    n_in: int, n_out: int, loss: str, dtype: str, width: int, activation: str, extra: str, seed: int
) -> fnn.Sequential:
    """A network of one hidden layer, and something between it and the last."""
    between: list[Any] = {
        "none": [],
        "dropout": [fnn.Dropout(0.3)],
        "batch norm": [fnn.BatchNorm()],
        "layer norm": [fnn.LayerNorm()],
    }[extra]
    layers = [fnn.Standardize(), fnn.Dense(width, activation), *between, fnn.Dense(n_out)]
    return fnn.Sequential(layers, input_size=n_in, loss=loss, dtype=dtype, seed=seed)


def rows(kind: str, n: int, n_in: int, random: np.random.Generator) -> Any:
    """Samples: normal, uint8, float64 with many zeros, or sparse."""
    if kind == "uint8":
        return random.integers(0, 256, (n, n_in), dtype=np.uint8)
    X = random.normal(size=(n, n_in)).astype(np.float32 if kind == "float32" else np.float64)
    if kind in ("zeros", "sparse"):
        X[random.random((n, n_in)) < 0.8] = 0.0
    if kind == "sparse":
        from scipy.sparse import csr_array

        return csr_array(X)
    return X


@st.composite
def populations(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """Data, members and how they are swept."""
    classifies = draw(st.booleans())
    n_in = draw(st.sampled_from([3, 20]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    # Batch norm and K-FAC exclude each other.
    extra = draw(st.sampled_from(["none", "dropout", "batch norm", "layer norm"]))
    optimizers = [it for it in OPTIMIZERS if not (isinstance(it, fnn.KFAC) and extra == "batch norm")]
    setting = st.fixed_dictionaries(
        {
            "width": st.sampled_from([1, 5, 17, 40]),
            "activation": st.sampled_from(["relu", "tanh", "gelu"]),
            "optimizer": st.sampled_from(optimizers),
            "batch_size": st.sampled_from([7, 16, 33, None]),
            "epochs": st.integers(1, 5),
            "seed": st.integers(0, 3),
            "l2": st.sampled_from([0.0, 0.01]),
            "l1": st.sampled_from([0.0, 0.001]),
            "shuffle": st.booleans(),
            "clip_norm": st.sampled_from([None, 0.5]),
            "class_weight": st.sampled_from([None, "balanced", {0: 2.0}]) if classifies else st.none(),
        }
    )
    return {
        "classifies": classifies,
        "n_in": n_in,
        "n": draw(st.sampled_from([40, 300])),
        "kind": draw(st.sampled_from(["float32", "float64", "uint8", "zeros", "sparse"])),
        "weighted": draw(st.booleans()),
        "dtype": dtype,
        "extra": extra,
        "settings": draw(st.lists(setting, min_size=1, max_size=4)),
        "cv": draw(st.sampled_from([None, 2, 3])),
        "patience": draw(st.sampled_from([None, 1, 2])),
        "metric": draw(st.sampled_from([None, "loss"])),
        "threads": draw(st.sampled_from([1, 2, 4])),
        "random": draw(st.integers(0, 1000)),
    }


def fit_alone(net: fnn.Sequential, train: tuple[Any, ...], validation: tuple[Any, ...], **options: Any) -> str | None:
    """Fit on one thread; the message of the error, if there is one."""
    X, y, weight = train
    try:
        with blas_held_to_one_thread():  # K-FAC's factors are BLAS's work
            net.fit(X, y, sample_weight=weight, validation_data=validation, threads=1, **options)
    except Exception as error:
        return str(error)
    return None


@settings(
    max_examples=examples(4 * POPULATIONS),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(populations())
def test_members_have_the_bits_of_lone_fits(population: dict[str, Any]) -> None:
    random = np.random.default_rng(population["random"])
    n, n_in, classifies = population["n"], population["n_in"], population["classifies"]
    X = rows(population["kind"], n, n_in, random)
    y = random.integers(0, 3, n) if classifies else random.normal(size=n)
    y[:6] = [0, 1, 2, 0, 1, 2]
    weight = random.random(n) + 0.1 if population["weighted"] else None
    n_out, loss = (3, "cross_entropy") if classifies else (1, "squared_error")
    metric = population["metric"] or ("accuracy" if classifies else "r2")

    def model(width: int, activation: str, seed: int) -> fnn.Sequential:
        return network(n_in, n_out, loss, population["dtype"], width, activation, population["extra"], seed)

    given_cv: dict[str, Any] = {"cv": population["cv"]} if population["cv"] else {"validation_split": 0.3}
    result = fnn.sweep(
        model,
        population["settings"],
        X,
        y,
        sample_weight=weight,
        patience=population["patience"],
        metric=population["metric"],
        threads=population["threads"],
        refit=False,
        **given_cv,
    )
    for index, setting in enumerate(population["settings"]):
        options = {name: value for name, value in setting.items() if name not in ("width", "activation")}
        for number, fold in enumerate(result.folds):
            parts = [
                tuple(None if values is None else take_rows(values, part) for values in (X, y, weight))
                for part in (fold.train, fold.validation)
            ]
            outcome = result.outcomes[index][number]
            net = model(setting["width"], setting["activation"], setting["seed"])
            stop = [] if not population["patience"] else [fnn.EarlyStopping(f"val_{metric}", population["patience"])]
            error = fit_alone(net, *parts, callbacks=stop, **options)
            if error is not None:
                assert outcome.stopped.partition(": ")[2].endswith(error)
                continue
            assert outcome.stopped in ("finished", "patience")
            history = net.history
            assert history is not None
            for name in history.keys():  # noqa: SIM118
                if name not in ("epoch", "seconds"):
                    assert np.array_equal(history[name], outcome.series[name], equal_nan=True), name
            assert np.array_equal(history[f"val_{metric}"], outcome.series["score"])
            assert net.theta.tobytes() == result.network(index, number).theta.tobytes()
            assert net.state.tobytes() == result.network(index, number).state.tobytes()
            assert outcome.score == net.evaluate(*parts[1], threads=1)[metric]


def narrow_population(seed: int) -> dict[str, Any]:
    """Data, and members of one shape with one order of the rows."""
    random = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    n, n_in, n_out = one_of(30, 100, 333), one_of(3, 4, 17, 40), one_of(2, 3, 10)
    X = random.normal(size=(n, n_in))
    X[random.random(X.shape) < one_of(0.0, 0.8)] = 0.0
    X = one_of(X, X.astype(np.float32), (np.abs(X) * 40).astype(np.uint8))
    y = random.integers(0, n_out, n)
    y[: 2 * n_out] = [*range(n_out)] * 2
    layers = [(one_of(1, 5, 10, 16, 17, 33), one_of("relu", "tanh", "gelu", "linear")) for _ in range(one_of(0, 1, 2))]
    momentum = fnn.SGD(0.1, momentum=one_of(0.0, 0.9))
    rules = momentum, fnn.SGD(0.1, momentum=0.5, nesterov=True), fnn.Adam(), fnn.AdamW(), fnn.Adam(epsilon_hat=True)
    rates = 10.0 ** random.uniform(-4, one_of(-1, -1, -1, 3), one_of(2, 7, 20))  # some diverge
    changes = one_of(False, False, True)
    settings = [
        {
            "learning_rate": fnn.CosineDecay(rate, 5) if changes else rate,
            "l2": one_of(0.0, 0.01),
            "epochs": one_of(4, 7),
        }
        for rate in rates.tolist()
    ]
    shared = {"optimizer": one_of(*rules), "batch_size": one_of(7, 16, 33, 64, None), "shuffle": one_of(True, False)}
    shape = {"n_in": int(n_in), "n_out": int(n_out), "layers": layers, "dtype": one_of("float32", "float64")}
    return {"X": X, "y": y, "settings": settings, "shared": shared, "shape": shape, "patience": one_of(None, 1, 2),
            "metric": one_of("loss", "accuracy"), "threads": one_of(1, 2, 4)}  # fmt: skip


@settings(max_examples=examples(POPULATIONS), deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.integers(0, 10**6))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_networks_side_by_side_have_the_bits_of_lone_fits(seed: int) -> None:
    given_, calls = narrow_population(seed), []
    X, y, shape, metric = (given_[name] for name in ("X", "y", "shape", "metric"))

    def model(seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(width, activation) for width, activation in shape["layers"]]
        layers.append(fnn.Dense(shape["n_out"]))
        return fnn.Sequential(layers, input_size=shape["n_in"], loss="cross_entropy", dtype=shape["dtype"], seed=seed)

    def counted(*arguments: Any) -> Any:
        calls.append(run_side_by_side(*arguments))
        return calls[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "run_side_by_side", counted)
        options = {name: given_[name] for name in ("patience", "metric", "threads")}
        result = fnn.sweep(model, given_["settings"], X, y, cv=2, refit=False, **options, **given_["shared"])
    assert calls or len(given_["settings"]) == 2  # which have a thread each
    for index, setting in enumerate(given_["settings"]):
        for number, fold in enumerate(result.folds):
            outcome = result.outcomes[index][number]
            rest = {name: value for name, value in setting.items() if name != "learning_rate"} | given_["shared"]
            rest["optimizer"] = dataclasses.replace(rest["optimizer"], learning_rate=setting["learning_rate"])
            stop = [fnn.EarlyStopping(f"val_{metric}", given_["patience"])] if given_["patience"] else []
            net = model(0)
            parts = [(X[rows], y[rows], None) for rows in (fold.train, fold.validation)]
            error = fit_alone(net, parts[0], parts[1], callbacks=stop, seed=0, **rest)
            if error is not None:
                assert outcome.stopped.partition(": ")[2].endswith(error)
                continue
            assert net.history is not None
            for name in set(net.history.keys()) - {"epoch", "seconds"}:
                assert np.array_equal(net.history[name], outcome.series[name], equal_nan=True), name
            assert net.theta.tobytes() == result.network(index, number).theta.tobytes()


@pytest.mark.parametrize("width", [5, 10, 17, 33, 64])
@pytest.mark.parametrize("batch_size", [32, 200, None])
def test_what_the_engine_decides_by_a_sample_of_x_it_decides_by_the_rows_of_the_fold(
    width: int, batch_size: int | None
) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(600, 40)).astype(np.float32)
    X[300:, 2:] = 0.0  # rows of one fold have zeros to skip, those of the other have none
    y = random.integers(0, 3, 600)
    halves = [(np.arange(300), np.arange(300, 600)), (np.arange(300, 600), np.arange(300))]

    def model(seed: int) -> fnn.Sequential:
        layers = [fnn.Dense(width, "tanh"), fnn.Dense(width, "tanh"), fnn.Dense(3)]
        return fnn.Sequential(layers, input_size=40, loss="cross_entropy", seed=seed)

    result = fnn.sweep(model, {"seed": [0]}, X, y, cv=halves, epochs=3, batch_size=batch_size, refit=False)
    for number, (train, validation) in enumerate(halves):
        net = model(0)
        error = fit_alone(
            net, (X[train], y[train], None), (X[validation], y[validation]), epochs=3, batch_size=batch_size, seed=0
        )
        assert error is None
        assert net.theta.tobytes() == result.network(0, number).theta.tobytes()


def test_epochs_of_classifiers_need_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fnn.Trainer, "epochs", None)
    random = np.random.default_rng(0)
    X, y = random.normal(size=(60, 3)).astype(np.float32), random.integers(0, 2, 60)

    def model(seed: int) -> fnn.Sequential:
        return network(3, 2, "cross_entropy", "float32", 5, "relu", "batch norm", seed)

    space = {"learning_rate": [0.001, 0.01], "epochs": [3, 8], "l2": [0.0, 0.1]}
    result = fnn.sweep(model, space, X, y, cv=2, patience=4, batch_size=10, ensemble=2, refit=False)
    assert all(outcome.epochs > 2 for outcomes in result.outcomes for outcome in outcomes)


def test_a_sweep_that_is_stopped_within_a_block_goes_back_to_its_beginning() -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(1000, 30)).astype(np.float32), random.integers(0, 3, 1000)

    def model(seed: int) -> fnn.Sequential:
        return network(30, 3, "cross_entropy", "float32", 17, "tanh", "dropout", seed)

    options: dict[str, Any] = {"validation_split": 0.5, "batch_size": 20, "epochs": 300, "refit": False, "threads": 2}
    space = {"learning_rate": [0.01, 0.001, 0.0001]}
    whole = fnn.sweep(model, space, X, y, **options)
    part = fnn.sweep(model, space, X, y, time_limit=0.2 * whole.seconds, **options)
    assert part.stopped == "time limit"
    for outcomes, expected in zip(part.outcomes, whole.outcomes, strict=True):
        if n := outcomes[0].epochs:
            assert np.array_equal(outcomes[0].series["loss"], expected[0].series["loss"][:n])
    resumed = fnn.sweep(model, space, X, y, resume=part, **options)
    assert [[outcome.score for outcome in row] for row in resumed.outcomes] == [
        [outcome.score for outcome in row] for row in whole.outcomes
    ]
    assert all(resumed.network(i, 0).theta.tobytes() == whole.network(i, 0).theta.tobytes() for i in range(3))
