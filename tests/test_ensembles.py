"""Ensembles: means of predictions, greedy selection, files, ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.sweeps.ensemble import select_greedily

X, Y = fnn.datasets.load_iris()[:2]

TARGETS: dict[str, tuple[int, np.ndarray]] = {
    "cross_entropy": (3, Y),
    "binary_cross_entropy": (1, (Y == 1).astype(np.float64)),
    "squared_error": (2, X[:, 2:] * 2.0),
    "poisson": (1, Y.astype(np.float64)),
}


def networks(loss: str, dtype: str = "float64", n: int = 3) -> list[fnn.Sequential]:
    k, y = TARGETS[loss]
    found = []
    for seed in range(n):
        layers = [fnn.Standardize(), fnn.Dense(6, "tanh"), fnn.Dense(k)]
        net = fnn.Sequential(layers, input_size=4, loss=loss, dtype=dtype, seed=seed)
        net.fit(X, y, epochs=15, batch_size=16, threads=1)
        found.append(net)
    return found


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_probabilities_are_the_mean(loss: str) -> None:
    nets = networks(loss)
    ensemble = fnn.Ensemble(nets, [1, 2, 5])
    expected = sum(w * net.predict_proba(X) for w, net in zip([0.125, 0.25, 0.625], nets, strict=True))
    assert np.allclose(ensemble.predict_proba(X), expected, rtol=1e-12)
    y = TARGETS[loss][1]
    labels = expected.argmax(axis=1)
    assert np.array_equal(ensemble.predict(X), labels)
    scores = ensemble.evaluate(X, y, metrics="brier")
    right = expected[np.arange(150), y.astype(int)]
    assert np.isclose(scores["loss"], -np.log(right).mean())
    assert scores["accuracy"] == (labels == y).mean()
    brier = ((expected - np.eye(expected.shape[1])[y.astype(int)]) ** 2).sum(axis=1).mean()
    assert np.isclose(scores["brier"], brier / (2 if expected.shape[1] == 2 else 1))


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_values_are_the_mean_with_their_deviation(loss: str) -> None:
    nets = networks(loss)
    ensemble = fnn.Ensemble(nets)
    values = np.stack([net.predict(X) for net in nets])
    mean, deviation = ensemble.predict(X, return_std=True)
    assert np.allclose(mean, values.mean(axis=0), rtol=1e-10)
    assert np.allclose(deviation, values.std(axis=0), atol=1e-7)
    assert np.array_equal(ensemble.predict(X), mean)
    y = TARGETS[loss][1]
    assert np.isclose(ensemble.evaluate(X, y)["mse"], ((mean - y) ** 2).mean())
    with pytest.raises(ValueError, match="predict_proba needs classifiers"):
        ensemble.predict_proba(X)


def test_weighted_rows_count_by_their_weight() -> None:
    nets = networks("cross_entropy")
    ensemble = fnn.Ensemble(nets)
    weight = np.where(np.arange(150) < 50, 0.0, 2.0)
    found, expected = ensemble.evaluate(X, Y, weight), ensemble.evaluate(X[50:], Y[50:])
    assert all(np.isclose(found[name], value) for name, value in expected.items())


def test_an_ensemble_of_one_network_is_that_network() -> None:
    net = networks("cross_entropy", n=1)[0]
    ensemble = fnn.Ensemble([net])
    assert np.array_equal(ensemble.predict(X), net.predict(X))
    assert np.isclose(ensemble.evaluate(X, Y)["loss"], net.evaluate(X, Y)["loss"])


@pytest.mark.parametrize(
    ("networks_and_weights", "error", "message"),
    [
        (lambda: ([],), ValueError, "networks: expected at least one, got none"),
        (lambda: ([3],), TypeError, r"networks\[0\]: expected a Sequential, got int"),
        (lambda: (networks("cross_entropy", n=1) + networks("squared_error", n=1),), ValueError, r"networks\[1\]: exp"),
        (lambda: (networks("cross_entropy", n=2), [1.0]), ValueError, r"weights: expected shape \(2,\), got \(1,\)"),
        (lambda: (networks("cross_entropy", n=2), [1.0, 0.0]), ValueError, r"weights\[1\] must be a finite number > 0"),
    ],
)
def test_what_does_not_fit_is_refused(networks_and_weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fnn.Ensemble(*networks_and_weights())


def test_deviations_of_classifiers_are_refused() -> None:
    with pytest.raises(ValueError, match="return_std is for regressions"):
        fnn.Ensemble(networks("cross_entropy", n=1)).predict(X, return_std=True)


@pytest.mark.parametrize("loss", list(TARGETS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_onnx_has_the_ensemble_as_one_graph(loss: str, dtype: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    ensemble = fnn.Ensemble(networks(loss, dtype), [1, 2, 3])
    session = runtime.InferenceSession(fnn.to_onnx(ensemble).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"X": X.astype(dtype)})
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-9}
    if ensemble.loss_function.classifies:
        assert np.array_equal(found[0], ensemble.predict(X))
        assert np.allclose(found[1], ensemble.predict_proba(X), **tolerance)
    else:
        assert np.allclose(found[0].squeeze(), ensemble.predict(X), **tolerance)


def test_an_ensemble_comes_back_from_its_file(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    ensemble = fnn.Ensemble(networks("cross_entropy"), [1, 2, 3])
    path = tmp_path / "e.safetensors"
    ensemble.save(path)
    loaded = fnn.Ensemble.load(path)
    assert np.array_equal(loaded.predict_proba(X), ensemble.predict_proba(X))
    assert np.array_equal(loaded.weights, ensemble.weights)
    assert repr(loaded) == repr(ensemble)
    with pytest.raises(ValueError, match=r"e\.safetensors: a sweep or an ensemble, which"):
        fnn.load(path)
    with pytest.raises(ValueError, match=r"e\.safetensors: parameters is missing"):
        fnn.SweepResult.load(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"e\.safetensors: "):
        fnn.Ensemble.load(path)


# ------------------------------------------------------------------ selection


def test_greedy_selection_is_that_of_all_choices() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=50)
    candidates = [(y + random.normal(size=50) * scale)[:, None] for scale in (0.5, 0.6, 0.7, 3.0)]

    def loss(mean: np.ndarray) -> float:
        return float(((mean[:, 0] - y) ** 2).mean())

    counts = select_greedily(candidates, loss, 10)
    drawn: list[int] = []
    best: list[float] = []
    for _ in range(10):  # the same by brute force over lists
        options = [loss(np.mean([candidates[i] for i in [*drawn, j]], axis=0)) for j in range(4)]
        drawn.append(int(np.argmin(options)))
        best.append(min(options))
    used = drawn[: int(np.argmin(best)) + 1]
    assert counts == [used.count(i) for i in range(4)]
    assert counts[3] == 0
    assert loss(np.average(candidates, axis=0, weights=counts)) < min(map(loss, candidates))


def model(width: int, seed: int) -> fnn.Sequential:
    layers = [fnn.Standardize(), fnn.Dense(width, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)


@pytest.mark.parametrize("options", [{"cv": 3}, {"validation_split": 0.3}])
def test_a_sweep_selects_an_ensemble_that_is_no_worse_than_its_best_member(options: dict[str, Any]) -> None:
    space = {"width": [2, 4, 8], "learning_rate": [0.003, 0.03]}
    result = fnn.sweep(model, space, X, Y, epochs=30, metric="loss", ensemble=20, seed=3, **options)
    ensemble = result.ensemble
    assert ensemble is not None
    assert len(ensemble) % len(result.folds) == 0
    validation = [fold.validation for fold in result.folds if fold.validation is not None]
    if len(validation) == 1:
        loss = ensemble.evaluate(X[validation[0]], Y[validation[0]])["loss"]
        best = min(outcome.series["val_loss"].min() for row in result.outcomes for outcome in row)
        assert loss <= best + 1e-6
    again = result.select_ensemble(20)
    assert np.array_equal(again.weights, ensemble.weights)
    few = result.select_ensemble(1, candidates=1)
    assert len(few) == len(result.folds)


def test_weights_of_the_best_epoch_are_candidates_too() -> None:
    result = fnn.sweep(model, {"learning_rate": [0.3]}, X, Y, validation_split=0.3, epochs=30, ensemble=5, width=8)
    outcome = result.outcomes[0][0]
    assert outcome.best is not None
    net = model(8, 0)
    fold = result.folds[0]
    net.fit(X[fold.train], Y[fold.train], optimizer=fnn.Adam(0.3), epochs=outcome.best_epoch, threads=1, seed=0)
    assert np.array_equal(net.theta, outcome.best.theta)


def test_the_ensemble_is_kept_in_the_file_of_the_sweep(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    result = fnn.sweep(model, {"width": [2, 4]}, X, Y, cv=2, epochs=5, ensemble=3)
    result.save(tmp_path / "s.safetensors")
    loaded = fnn.SweepResult.load(tmp_path / "s.safetensors")
    assert loaded.ensemble is not None
    assert result.ensemble is not None
    assert np.array_equal(loaded.ensemble.predict_proba(X), result.ensemble.predict_proba(X))
    with pytest.raises(ValueError, match="select_ensemble needs the sweep's data"):
        loaded.select_ensemble()


def test_members_without_weights_make_no_ensemble() -> None:
    with pytest.raises(ValueError, match="ensemble must be an integer >= 1"):
        fnn.sweep(model, {"width": [2]}, X, Y, cv=2, ensemble=0)
    result = fnn.sweep(model, {"width": [2, 3]}, X, Y, cv=2, epochs=1)
    for row in result.outcomes:
        for outcome in row:
            outcome.weights = None
    with pytest.raises(ValueError, match="no member has weights on all folds"):
        result.select_ensemble()
