"""Sequential: derivatives against oracles, predictions, scores, one parameter vector, what it accepts and refuses."""

from __future__ import annotations

import copy
import functools
import pickle

import knobs
import numpy as np
import pytest
import threadpoolctl
from curvature_cases import BACKENDS
from network_cases import data, name_of, network

import fastnn as fnn
from fastnn.layers import ACTIVATIONS

LOSSES = [
    "cross_entropy",
    "binary_cross_entropy",
    "squared_error",
    "absolute_error",
    "huber",
    "poisson",
    fnn.losses.CrossEntropy(label_smoothing=0.2),
]


# The objective and its gradient.


@functools.cache
def by_differences(loss, activation, numerical_gradient) -> tuple[float, np.ndarray]:
    """The objective and its numerical gradient, by one backend for both, whose objectives are compared."""
    net = network(BACKENDS[0], loss, activation)
    X, y, w = data(loss)
    theta = net.theta.copy()

    def value(t: np.ndarray) -> float:
        net.theta = t
        return net.loss(X, y, sample_weight=w, l1=0.02, l2=0.3)

    return value(theta), numerical_gradient(value, theta)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_against_finite_differences(loss, activation, backend, numerical_gradient) -> None:
    net = network(backend, loss, activation)
    X, y, w = data(loss)
    options = {"sample_weight": w, "l1": 0.02, "l2": 0.3}
    objective, expected = by_differences(loss, activation, numerical_gradient)
    loss_value, gradient = net.loss_and_gradient(X, y, **options)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)
    assert loss_value == net.loss(X, y, **options) == pytest.approx(objective, rel=1e-13)
    np.testing.assert_array_equal(net.gradient(X, y, **options), gradient)


COMPLEX = {
    "linear": lambda z: z,
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
}


@pytest.mark.parametrize("activation", COMPLEX)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_against_complex_step(loss, activation, backend, complex_step_gradient) -> None:
    net = network(backend, loss, activation, input_scale=0.5)
    X, y, w = data(loss)
    Y = np.eye(3)[y] if y.ndim == 1 else y
    if loss == LOSSES[-1]:
        Y = 0.8 * Y + 0.2 / 3
    sigma = COMPLEX[activation]

    def value(t: np.ndarray) -> complex:
        W1, b1, W2, W3, b3 = np.split(t, np.cumsum([30, 5, 20, 12]))
        Z = sigma(sigma(0.5 * X @ W1.reshape(6, 5) + b1) @ W2.reshape(5, 4)) @ W3.reshape(4, 3) + b3
        if name_of(loss) == "cross_entropy":
            rows = -(Y * (Z - np.log(np.exp(Z).sum(axis=1, keepdims=True)))).sum(axis=1)
        elif loss == "binary_cross_entropy":
            S = 1 / (1 + np.exp(-Z))
            rows = -(Y * np.log(S) + (1 - Y) * np.log(1 - S)).sum(axis=1)
        elif loss == "poisson":
            rows = (np.exp(Z) - Y * Z).sum(axis=1)
        else:
            D = (Z - Y) * np.sign((Z - Y).real)
            rows = {
                "squared_error": 0.5 * D**2,
                "absolute_error": D,
                "huber": np.where(D.real < 1, 0.5 * D**2, D - 0.5),
            }[loss].sum(axis=1)
        penalty = 0.15 * ((W1**2).sum() + (W2**2).sum() + (W3**2).sum())
        return (w * rows).sum() / w.sum() + penalty

    loss_value, gradient = net.loss_and_gradient(X, y, sample_weight=w, l2=0.3)
    assert loss_value == pytest.approx(value(net.theta), rel=1e-13)
    np.testing.assert_allclose(gradient, complex_step_gradient(value, net.theta), rtol=0, atol=1e-13)


def test_soft_targets(backend, numerical_gradient) -> None:
    net = network(backend)
    X, _, w = data("cross_entropy")
    Y = np.random.default_rng(0).dirichlet(np.ones(3), size=len(X))
    theta = net.theta.copy()

    def value(t: np.ndarray) -> float:
        net.theta = t
        return net.loss(X, Y, sample_weight=w)

    gradient = net.gradient(X, Y, sample_weight=w)
    np.testing.assert_allclose(gradient, numerical_gradient(value, theta), rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_single_precision_agrees_with_double(loss, backend) -> None:
    X, y, w = data(loss, n=40)
    results = []
    for dtype in ("float32", "float64"):
        net = network(backend, loss, dtype=dtype)
        value, gradient = net.loss_and_gradient(X, y, sample_weight=w, l2=0.1)
        assert type(value) is float
        assert gradient.dtype == dtype
        results.append((value, gradient, net.decision_function(X)))
    for single, double in zip(*results, strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_give_the_same_to_rounding(threads, backend) -> None:
    X, y, w = data("cross_entropy", n=301)
    net = network(backend)
    value, gradient = net.loss_and_gradient(X, y, sample_weight=w, threads=1)
    other_value, other_gradient = net.loss_and_gradient(X, y, sample_weight=w, threads=threads)
    assert other_value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(other_gradient, gradient, rtol=0, atol=1e-13)
    np.testing.assert_allclose(net.predict_proba(X, threads=threads), net.predict_proba(X), rtol=1e-12)


def test_threads_default_to_the_present_limit(monkeypatch) -> None:
    from fastnn._core import schedule

    asked = []
    monkeypatch.setattr(schedule, "blas_threads", lambda: asked.append(None) or 2)
    net = network("compiled")
    X, y, _ = data("cross_entropy")
    expected = net.gradient(X, y, threads=2)
    net.gradient(X, y), net.predict(X)
    assert not asked  # BLAS is not asked for so little work
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0):
        gradient = net.gradient(X, y)
        assert len(asked) == 1
        np.testing.assert_array_equal(gradient, net.gradient(X, y, threads=2))
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13)
        assert len(asked) == 1
        net.predict(X)
        assert len(asked) == 2


def test_training_keeps_the_limit_that_it_began_with() -> None:
    X, y, _ = data("cross_entropy")
    for limit in (1, 2):
        with threadpoolctl.threadpool_limits(limit, user_api="blas"):
            trainer = fnn.Trainer(network("compiled"), X, y)
        assert 1 <= trainer._threads <= limit


# Predictions and scores.


def test_predictions_of_classes(backend) -> None:
    net = network(backend)
    X, _, _ = data("cross_entropy")
    Z, P = net.decision_function(X), net.predict_proba(X)
    assert Z.shape == P.shape == (11, 3)
    np.testing.assert_allclose(P, np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True), rtol=1e-12)
    labels = net.predict(X)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, Z.argmax(axis=1))


def test_predictions_of_one_binary_output(backend) -> None:
    net = network(backend, "binary_cross_entropy", outputs=1)
    X, _, _ = data("binary_cross_entropy")
    z, P, labels = net.decision_function(X), net.predict_proba(X), net.predict(X)
    assert z.shape == labels.shape == (11,)
    assert P.shape == (11, 2)
    np.testing.assert_allclose(P[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=1e-14)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, z > 0)


def test_small_probabilities_of_a_binary_output_keep_their_digits(backend) -> None:
    net = fnn.Sequential([fnn.Dense(1)], input_size=1, loss="binary_cross_entropy", dtype="float64", backend=backend)
    net.theta = np.array([1.0, 0.0])
    P = net.predict_proba([[50.0], [-50.0]])
    np.testing.assert_allclose(P, [[np.exp(-50), 1.0], [1.0, np.exp(-50)]], rtol=1e-12)


def test_predictions_of_binary_outputs(backend) -> None:
    net = network(backend, "binary_cross_entropy")
    X, _, _ = data("binary_cross_entropy")
    Z, P = net.decision_function(X), net.predict_proba(X)
    np.testing.assert_allclose(P, 1 / (1 + np.exp(-Z)), rtol=1e-12)
    np.testing.assert_array_equal(net.predict(X), (Z > 0).astype(np.int64))


def test_several_labels(backend) -> None:
    # Three questions about a point of the plane, of which any number may be true.
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(600, 2))
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0.3, X[:, 0] + X[:, 1] > -0.2], axis=1)
    net = fnn.Sequential(
        [fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=2, loss="binary_cross_entropy", seed=0, backend=backend
    )
    history = net.fit(X[:400], y[:400], optimizer=fnn.Adam(0.02), epochs=40, batch_size=20)
    scores, predicted = net.evaluate(X[400:], y[400:]), net.predict(X[400:])
    assert predicted.shape == (200, 3)
    assert predicted.dtype == np.int64
    assert scores["accuracy"] == (predicted == y[400:]).all(axis=1).mean() > 0.9
    assert history["accuracy"][-1] > 0.9 > history["accuracy"][0]
    assert net.predict_proba(X[400:]).shape == (200, 3)


def test_smoothing_keeps_a_fit_from_certainty(backend) -> None:
    X, y = np.repeat(np.eye(3), 20, axis=0), np.repeat(np.arange(3), 20)
    loss = fnn.losses.CrossEntropy(label_smoothing=0.3)
    net = fnn.Sequential([fnn.Dense(3)], input_size=3, loss=loss, dtype="float64", seed=0, backend=backend)
    net.fit(X, y, optimizer=fnn.SGD(1.0, 0.9), epochs=300, batch_size=None)
    # The minimum is where the probabilities are the smoothed targets, and the loss their entropy.
    np.testing.assert_allclose(net.predict_proba(np.eye(3)), 0.7 * np.eye(3) + 0.1, atol=1e-6)
    scores = net.evaluate(X, y)
    assert scores["accuracy"] == 1.0
    assert scores["loss"] == pytest.approx(-(0.8 * np.log(0.8) + 0.2 * np.log(0.1)), rel=1e-9)
    assert scores["loss"] == pytest.approx(net.loss(X, y), rel=1e-14)
    assert repr(net) == "Sequential(3-3, loss=CrossEntropy(label_smoothing=0.3), dtype='float64', 12 parameters)"
    assert "loss: CrossEntropy(label_smoothing=0.3); backend" in net.summary()
    assert net.loss_name == "cross_entropy"
    assert net.copy().loss(X, y) == net.loss(X, y)


@pytest.mark.parametrize("outputs", [1, 3])
def test_predictions_of_rates(outputs, backend, dtype) -> None:
    net = network(backend, "poisson", outputs=outputs, dtype=dtype)
    X, _, _ = data("poisson")
    rates, Z = net.predict(X), net.decision_function(X)
    assert rates.dtype == dtype
    assert rates.shape == ((11,) if outputs == 1 else (11, 3))
    np.testing.assert_allclose(rates, np.exp(Z), rtol=1e-6)
    with pytest.raises(ValueError, match="predict_proba needs a classifier, got loss 'poisson'; use predict"):
        net.predict_proba(X)
    with pytest.raises(ValueError, match="y: expected values >= 0, got -1 in row 0, column 0"):
        net.loss(X, -np.ones((11, outputs)))


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_counts_against_sklearn(weighted, backend) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    net = network(backend, "poisson", outputs=1)
    X, y, w = data("poisson", n=30, outputs=1)
    y = y[:, 0]
    options = {"sample_weight": w if weighted else None}
    scores, rates = net.evaluate(X, y, **options), net.predict(X)
    assert list(scores) == ["loss", "mse", "mae", "r2", "deviance"]
    assert scores["mse"] == pytest.approx(metrics.mean_squared_error(y, rates, **options), rel=1e-12)
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(y, rates, **options), rel=1e-12)
    assert scores["r2"] == pytest.approx(metrics.r2_score(y, rates, **options), rel=1e-12)
    assert scores["deviance"] == pytest.approx(metrics.mean_poisson_deviance(y, rates, **options), rel=1e-12)
    assert scores["loss"] == pytest.approx(net.loss(X, y, **options), rel=1e-12)


def test_a_poisson_regression_is_sklearns(backend) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = rng.poisson(np.exp(X @ [0.5, -0.3, 0.0] + 0.2))
    other = linear_model.PoissonRegressor(alpha=0.0, tol=1e-10, max_iter=1000).fit(X, y)
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="poisson", dtype="float64", seed=0, backend=backend)
    net.fit(X, y, optimizer=fnn.SGD(0.2, 0.5), epochs=300, batch_size=None)
    np.testing.assert_allclose(net.parameters["0.weight"][:, 0], other.coef_, atol=1e-5)
    assert net.parameters["0.bias"][0] == pytest.approx(other.intercept_, abs=1e-5)


def test_rates_beyond_the_type_diverge(backend) -> None:
    net = fnn.Sequential([fnn.Dense(1, init=1.0)], input_size=1, loss="poisson", backend=backend)
    X, y = np.array([[1.0], [100.0]]), np.array([1.0, 1.0])
    before = net.theta.copy()
    with pytest.raises(fnn.DivergenceError, match="the loss stopped being finite in epoch 1"):
        net.fit(X, y, epochs=1)
    np.testing.assert_array_equal(net.theta, before)
    assert net.predict(X)[1] == net.evaluate(X, y)["loss"] == np.inf


@pytest.mark.parametrize(("loss", "centre"), [("squared_error", 4.0), ("absolute_error", 1.0), ("huber", 1.5)])
def test_what_a_loss_estimates(loss, centre, backend) -> None:
    # A constant fitted to five values: their mean, their median, and for Huber Σ max(−1, min(1, c − y)) = 0.
    y = np.array([0.0, 1.0, 1.0, 2.0, 16.0])
    if loss == "huber":
        y = np.array([0.0, 1.0, 1.5, 2.0, 16.0])
    net = fnn.Sequential([fnn.Dense(1)], input_size=1, loss=loss, dtype="float64", seed=0, backend=backend)
    net.fit(np.zeros((5, 1)), y, optimizer=fnn.SGD(0.02), epochs=1500, batch_size=None)
    assert net.parameters["0.bias"][0] == pytest.approx(centre, abs=0.03)
    assert net.evaluate(np.zeros((5, 1)), y)["loss"] == pytest.approx(net.loss(np.zeros((5, 1)), y), rel=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_predictions_of_values(loss, outputs, backend, dtype) -> None:
    net = network(backend, loss, outputs=outputs, dtype=dtype)
    X, _, _ = data(loss)
    values = net.predict(X)
    assert values.dtype == dtype
    assert values.shape == ((11,) if outputs == 1 else (11, 3))
    np.testing.assert_array_equal(values, net.decision_function(X))
    with pytest.raises(ValueError, match=f"predict_proba needs a classifier, got loss '{loss}'; use predict"):
        net.predict_proba(X)


def test_no_rows_give_no_predictions(backend) -> None:
    X = np.empty((0, 6))
    assert network(backend).predict(X).shape == (0,)
    assert network(backend).predict_proba(X).shape == (0, 3)
    assert network(backend, "binary_cross_entropy", outputs=1).predict_proba(X).shape == (0, 2)
    assert network(backend, "squared_error").predict(X).shape == (0, 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_a_regression_against_sklearn(weighted, backend) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    net = network(backend, "squared_error")
    X, y, w = data("squared_error", n=30)
    options = {"sample_weight": w if weighted else None}
    scores, predicted = net.evaluate(X, y, **options), net.predict(X)
    assert list(scores) == ["loss", "mse", "mae", "r2"]
    assert all(type(value) is float for value in scores.values())
    assert scores["mse"] == pytest.approx(metrics.mean_squared_error(y, predicted, **options), rel=1e-12)
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(y, predicted, **options), rel=1e-12)
    assert scores["r2"] == pytest.approx(metrics.r2_score(y, predicted, **options), rel=1e-12)
    assert scores["loss"] == pytest.approx(1.5 * scores["mse"], rel=1e-12)
    assert scores["loss"] == pytest.approx(net.loss(X, y, **options), rel=1e-12)


def test_score_of_a_constant(backend) -> None:
    net = fnn.Sequential([fnn.Dense(1, init="zeros")], input_size=1, loss="squared_error", backend=backend)
    X = np.ones((4, 1))
    assert net.evaluate(X, np.zeros(4))["r2"] == 1.0
    assert net.evaluate(X, np.ones(4))["r2"] == 0.0


@pytest.mark.parametrize("loss", LOSSES[:2])
def test_scores_of_a_classifier(loss, backend) -> None:
    net = network(backend, loss)
    X, y, w = data(loss, n=60)
    for options in ({}, {"sample_weight": w}):
        scores = net.evaluate(X, y, **options)
        assert list(scores) == ["loss", "accuracy"]
        hits = (net.predict(X).reshape(60, -1) == y.reshape(60, -1)).all(axis=1)
        assert scores["accuracy"] == pytest.approx(np.average(hits, weights=options.get("sample_weight")), rel=1e-12)
        assert scores["loss"] == pytest.approx(net.loss(X, y, **options), rel=1e-12)


def test_scores_of_one_binary_output_and_of_soft_targets(backend) -> None:
    net = network(backend, "binary_cross_entropy", outputs=1)
    X, y, _ = data("cross_entropy", n=60, outputs=2)
    assert net.evaluate(X, y)["accuracy"] == pytest.approx((net.predict(X) == y).mean())
    net = network(backend)
    Y = np.random.default_rng(0).dirichlet(np.ones(3), size=60)
    assert net.evaluate(X, Y)["accuracy"] == pytest.approx((net.predict(X) == Y.argmax(axis=1)).mean())


# One parameter vector.


def test_layout(backend) -> None:
    net = network(backend)
    assert list(net.parameters) == ["0.weight", "0.bias", "1.weight", "2.weight", "2.bias"]
    assert [view.shape for view in net.parameters.values()] == [(6, 5), (5,), (5, 4), (4, 3), (3,)]
    np.testing.assert_array_equal(np.concatenate([view.ravel() for view in net.parameters.values()]), net.theta)
    assert net.n_parameters == net.theta.size == 70
    assert net.theta.flags.c_contiguous
    assert net.state.shape == (0,)
    assert net.n_outputs == 3


def test_parameters_are_views(backend) -> None:
    net = network(backend)
    X, _, _ = data("cross_entropy")
    assert all(np.shares_memory(view, net.theta) for view in net.parameters.values())
    for view in net.parameters.values():
        view[...] = 0.0
    assert not net.theta.any()
    assert not net.decision_function(X).any()
    net.parameters["2.bias"] = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(net.theta[-3:], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(net.decision_function(X)[4], [1.0, 2.0, 3.0])


def test_setting_theta_writes_through(backend) -> None:
    net = network(backend)
    kept, bias = net.theta, net.parameters["2.bias"]
    values = np.arange(70.0)
    net.theta = values
    assert net.theta is kept
    np.testing.assert_array_equal(bias, [67.0, 68.0, 69.0])
    values[:] = 0.0
    assert kept[1] == 1.0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros(69), ValueError, r"theta: expected shape \(70,\), got \(69,\)"),
        (np.zeros((70, 1)), ValueError, r"theta: expected shape \(70,\), got \(70, 1\)"),
        (np.zeros(70, np.float32), TypeError, r"theta: expected dtype float64, got float32; use .astype\(np.float64\)"),
        (np.full(70, np.nan), ValueError, "theta: expected finite values, got nan among them"),
    ],
)
def test_bad_theta(value, error, message, backend) -> None:
    net = network(backend)
    before = net.theta.copy()
    with pytest.raises(error, match=message):
        net.theta = value
    np.testing.assert_array_equal(net.theta, before)


def test_bad_parameters(backend) -> None:
    parameters = network(backend).parameters
    with pytest.raises(KeyError, match=r"no parameter '1.bias'; there are 0.weight, 0.bias, 1.weight"):
        parameters["1.bias"] = np.zeros(4)
    with pytest.raises(ValueError, match=r"0.bias: expected shape \(5,\), got \(4,\)"):
        parameters["0.bias"] = np.zeros(4)
    for call in (lambda: parameters.pop("0.bias"), parameters.clear, lambda: parameters.__delitem__("0.bias")):
        with pytest.raises(TypeError, match="belong to the network and cannot be removed or added"):
            call()


def test_updating_and_copying_parameters(backend) -> None:
    net = network(backend)
    values = {name: np.full_like(view, i) for i, (name, view) in enumerate(net.parameters.items())}
    parameters = net.parameters
    parameters.update(values)
    assert (net.theta[-3:] == 4.0).all()
    parameters |= {"2.bias": np.ones(3)}
    assert (net.theta[-3:] == 1.0).all()
    for duplicate in (copy.deepcopy(parameters), pickle.loads(pickle.dumps(parameters))):
        assert type(duplicate) is dict
        assert list(duplicate) == list(parameters)
        duplicate["2.bias"][:] = 7.0
    assert (net.theta[-3:] == 1.0).all()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, fnn.Sequential.copy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_copies_are_whole_and_independent(duplicate, backend) -> None:
    X, y, _ = data("cross_entropy")
    net = network(backend, input_scale=0.5)
    net.fit(X, y, epochs=2, batch_size=4)
    other = duplicate(net)
    np.testing.assert_array_equal(other.theta, net.theta)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    assert other.layers == net.layers
    assert other.history.to_dict() == net.history.to_dict()
    assert all(np.shares_memory(view, other.theta) for view in other.parameters.values())
    # Both go on in the same way, and neither changes the other.
    theta = net.theta.copy()
    other.fit(X, y, epochs=2, batch_size=4, threads=1)
    np.testing.assert_array_equal(net.theta, theta)
    net.fit(X, y, epochs=2, batch_size=4, threads=1)
    np.testing.assert_array_equal(net.theta, other.theta)
    net.theta[:] = 0.0
    assert other.theta.any()


def test_seeds(backend) -> None:
    first, same, other = network(backend, seed=3), network(backend, seed=3), network(backend, seed=4)
    np.testing.assert_array_equal(first.theta, same.theta)
    assert (first.theta != other.theta).any()
    np.testing.assert_array_equal(network(backend, seed=np.random.default_rng(3)).theta, first.theta)
    np.testing.assert_array_equal(network(backend, seed=3, dtype="float32").theta, first.theta.astype(np.float32))
    assert (network(backend, seed=None).theta != network(backend, seed=None).theta).any()


def test_initial_parameters_use_the_fans_of_the_layer(backend) -> None:
    layers = [fnn.Dense(40, init="xavier_half", bias_init="xavier_half"), fnn.Dense(3, init=0.5, bias_init=-1)]
    net = fnn.Sequential(layers, input_size=60, loss="squared_error", dtype="float64", seed=0, backend=backend)
    limit = np.sqrt(0.5 / 100)
    for name in ("0.weight", "0.bias"):
        assert 0.8 * limit < np.abs(net.parameters[name]).max() <= limit
    assert (net.parameters["1.weight"] == 0.5).all()
    assert (net.parameters["1.bias"] == -1.0).all()


def test_summary(backend) -> None:
    net = network(backend)
    lines = net.summary().splitlines()
    assert lines[3].split() == ["0", "Dense", "tanh", "(N,", "5)", "35"]
    assert lines[4].split() == ["1", "Dense", "tanh", "(N,", "4)", "20"]
    assert lines[7] == "total: 70 parameters, 560 bytes in float64"
    assert f"loss: cross_entropy; backend: {backend}" in lines[8]
    assert repr(net) == "Sequential(6-5-4-3, loss='cross_entropy', dtype='float64', 70 parameters)"


# Backends.


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backends_train_alike(activation, compiled, dtype) -> None:
    X, y, w = data("cross_entropy", n=50)
    nets = [network(name, hidden=activation, dtype=dtype) for name in ("compiled", "reference")]
    for net in nets:
        net.fit(X, y, optimizer=fnn.SGD(0.1, 0.9), epochs=3, batch_size=8, sample_weight=w, l2=0.01, threads=1)
    rtol = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(nets[0].history["loss"], nets[1].history["loss"], rtol=rtol)
    assert nets[0].history["accuracy"] == pytest.approx(nets[1].history["accuracy"], abs=0.02)


def test_save_and_load(backend, tmp_path) -> None:
    X, _, _ = data("cross_entropy")
    net = network(backend)
    net.save(tmp_path / "net.safetensors")
    other = fnn.load(tmp_path / "net.safetensors", backend=backend)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


def test_mnist_images_as_bytes(mnist_dir, backend) -> None:
    X, y, X_test, y_test = fnn.datasets.load_mnist(download=False)
    net = fnn.Sequential(
        [fnn.Dense(32, "relu", init="he_normal"), fnn.Dense(10)],
        input_size=784,
        loss="cross_entropy",
        seed=0,
        input_scale=1 / 255,
        backend=backend,
    )
    assert X.dtype == np.uint8
    net.fit(X[:6000], y[:6000], optimizer=fnn.Adam(2e-3), epochs=2, batch_size=32)
    assert net.evaluate(X_test, y_test)["accuracy"] > 0.85


@pytest.mark.parametrize("scale", [1e-60, 1e-42, 1.0, 1e38, 1e300])
def test_only_the_ratios_of_sample_weights_matter(scale, backend, dtype, rng) -> None:
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", backend=backend, dtype=dtype, seed=0)
    X, y, w = rng.normal(size=(20, 4)), rng.integers(0, 3, 20), rng.uniform(0.5, 1.0, 20)
    expected = net.gradient(X, y, sample_weight=w)
    np.testing.assert_allclose(net.gradient(X, y, sample_weight=w * scale), expected, rtol=1e-4, atol=1e-6)


def test_an_input_scale_that_the_dtype_cannot_hold_is_refused() -> None:
    for scale in (1e300, 1e-50):
        with pytest.raises(ValueError, match="input_scale must be a normal number in float32"):
            fnn.Sequential([fnn.Dense(3)], input_size=4, loss="squared_error", input_scale=scale)


def test_more_threads_than_there_can_be_are_as_many_as_there_can_be(rng) -> None:
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="squared_error", seed=0)
    X = rng.normal(size=(20, 4))
    np.testing.assert_array_equal(net.predict(X, threads=2**40), net.predict(X, threads=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_theta_starts_on_a_cache_line(dtype) -> None:
    for units in range(1, 9):
        net = fnn.Sequential([fnn.Dense(units)], input_size=3, loss="squared_error", dtype=dtype, seed=0)
        for one in (net, net.copy(), pickle.loads(pickle.dumps(net))):
            assert one.theta.ctypes.data % 64 == 0
            assert one.theta.flags.writeable
            np.testing.assert_array_equal(one.theta, net.theta)
