"""The objective of a network as functions of a flat vector."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import fastnn as fnn


def network(dtype: str = "float64", backend: str = "compiled", seed: int = 0, **options) -> fnn.Sequential:
    layers = [fnn.Dense(5, "tanh"), fnn.Dense(3)]
    options = {"input_size": 4, "loss": "cross_entropy", "dtype": dtype, "seed": seed, "backend": backend, **options}
    return fnn.Sequential(layers, **options)


def test_agrees_with_the_network(iris, backend: str, dtype: str, rng) -> None:
    X, y = iris
    net = network(dtype, backend)
    w = rng.random(len(X))
    objective = fnn.Objective(net, X, y, w, l2=0.01)
    theta = net.theta.copy()
    value, gradient = objective.value_and_gradient(theta)
    expected = net.loss_and_gradient(X, y, sample_weight=w, l2=0.01)
    assert value == expected[0]
    assert (gradient == expected[1]).all()
    assert objective.value(theta) == pytest.approx(value, rel=1e-6)
    assert (objective.gradient(theta) == gradient).all()
    options = {"sample_weight": w, "l2": 0.01}
    assert (objective.hessian(theta) == fnn.curvature.hessian(net, X, y, **options)).all()
    assert (objective.ggn(theta) == fnn.curvature.ggn(net, X, y, **options)).all()
    assert vars(objective.evaluations) == {"value": 3, "gradient": 2, "product": 0, "matrix": 2}


def test_is_of_the_point_that_is_asked_for_and_leaves_the_network_alone(iris, rng) -> None:
    X, y = iris
    net = network()
    before = net.theta.copy()
    objective = fnn.Objective(net, X, y, l2=0.01)
    other = net.copy()
    for scale in (0.5, 1.0):
        other.theta[...] = rng.normal(size=len(before), scale=scale)
        theta, v = other.theta.copy(), rng.normal(size=len(before))
        H, G = fnn.curvature.hessian(other, X, y, l2=0.01), fnn.curvature.ggn(other, X, y, l2=0.01)
        np.testing.assert_allclose(objective.hessp(theta, v), H @ v, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(objective.ggnp(theta, v), G @ v, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(objective.gradient(theta), other.gradient(X, y, l2=0.01), rtol=1e-13)
        theta *= 1.1  # in place, as an optimizer may
        other.theta[...] = theta
        np.testing.assert_allclose(
            objective.hessp(theta, v), fnn.curvature.hessian(other, X, y, l2=0.01) @ v, rtol=1e-10, atol=1e-12
        )
    assert (net.theta == before).all()


def test_linearizes_once_for_each_point(iris, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = iris
    net = network()
    objective = fnn.Objective(net, X, y)
    count = []
    linearize = fnn.curvature.risk.EmpiricalRisk.linearize
    monkeypatch.setattr(
        fnn.curvature.risk.EmpiricalRisk, "linearize", lambda *a, **k: count.append(1) or linearize(*a, **k)
    )
    theta = net.theta.copy()
    for _ in range(5):
        objective.hessp(theta, theta)
        objective.ggnp(theta.copy(), theta)
    assert len(count) == 1
    objective.hessp(theta + 1e-9, theta)
    assert len(count) == 2


def test_evaluates_a_float32_network_in_double(iris) -> None:
    X, y = iris
    net = network("float32")
    double = network("float64")
    double.theta[...] = net.theta
    theta = double.theta * (1.0 + 1e-10)  # lost in float32
    objective = fnn.Objective(net, X, y, l2=0.1, dtype="float64")
    double.theta[...] = theta
    assert objective.value(theta) == double.loss(X, y, l2=0.1)
    assert (objective.gradient(theta) == double.gradient(X, y, l2=0.1)).all()
    assert objective.gradient(theta).dtype == np.float64
    single = fnn.Objective(net, X, y, l2=0.1)
    assert single.value(theta) == single.value(net.theta)
    assert single.gradient(theta).dtype == np.float64
    assert single.gradient(net.theta).dtype == np.float32


@pytest.mark.parametrize("weighted", [False, True])
def test_fixed_batches_are_the_mean_of_their_objectives(iris, rng, weighted: bool) -> None:
    X, y = iris
    net = network()
    w = rng.random(len(X)) if weighted else None
    batches = [rng.choice(len(X), size, replace=False) for size in (10, 10, 25, 40)]
    objective = fnn.Objective(net, X, y, w, l2=0.01, batches=batches)

    def mean(function) -> object:
        each = [function(X[b], y[b], sample_weight=None if w is None else w[b], l2=0.01) for b in batches]
        return sum(each) / len(each)

    assert objective.n_rows == len(np.unique(np.concatenate(batches)))
    assert objective.value(net.theta) == pytest.approx(mean(net.loss), rel=1e-13)
    np.testing.assert_allclose(objective.gradient(net.theta), mean(net.gradient), rtol=1e-11, atol=1e-15)
    H = mean(lambda *a, **k: fnn.curvature.hessian(net, *a, **k))
    np.testing.assert_allclose(objective.hessian(net.theta), H, rtol=1e-9, atol=1e-14)


def test_batches_that_cover_the_rows_are_the_whole(iris, rng) -> None:
    X, y = iris
    net = network()
    batches = rng.permutation(len(X)).reshape(15, 10)
    assert fnn.Objective(net, X, y, batches=batches).value(net.theta) == pytest.approx(net.loss(X, y), rel=1e-13)


def test_sparse_and_batch_norm(iris) -> None:
    X, y = iris
    layers = [fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    for training in (False, True):
        objective = fnn.Objective(net, scipy.sparse.csr_array(X), y, training=training)
        assert objective.value(net.theta) == pytest.approx(net.loss(X, y, training=training), rel=1e-13)
        H = objective.hessian(net.theta)
        v = np.cos(np.arange(len(H)))
        np.testing.assert_allclose(objective.hessp(net.theta, v), H @ v, rtol=1e-9, atol=1e-13)
    with pytest.raises(ValueError, match="batches: cannot be given with training=True and batch norm"):
        fnn.Objective(net, X, y, training=True, batches=[[0, 1]])


GRADIENT = ("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP", "trust-constr")
PRODUCTS = ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr")
MATRIX = ("Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr")


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0")
@pytest.mark.parametrize(
    ("method", "further"),
    [(m, None) for m in GRADIENT] + [(m, "hessp") for m in PRODUCTS] + [(m, "hess") for m in MATRIX],
)
def test_every_method_of_scipy_runs(iris, method: str, further: str | None) -> None:
    X, y = iris
    # Softmax regression with a penalty and without biases, whose Hessian is definite: dogleg needs that.
    net = fnn.Sequential([fnn.Dense(3, bias=False)], input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    objective = fnn.Objective(net, X, y, l2=0.01)
    options = {} if further is None else {further: objective.hessp if further == "hessp" else objective.hessian}
    found = scipy.optimize.minimize(
        objective.value_and_gradient,
        net.theta.copy(),
        jac=True,
        method=method,
        options={"maxfun" if method == "TNC" else "maxiter": 300},
        **options,
    )
    assert np.linalg.norm(objective.gradient(found.x)) < 2e-3
    best = fnn.Newton(20, 1e-10).minimize(objective, net.theta)
    assert best.converged
    assert found.fun == pytest.approx(best.value, abs=1e-5)
    separate = scipy.optimize.minimize(objective.value, net.theta.copy(), jac=objective.gradient, method="BFGS")
    assert separate.fun == pytest.approx(best.value, abs=1e-6)


def test_a_float32_network_with_scipy(iris) -> None:
    X, y = iris
    net = network("float32")
    found = scipy.optimize.minimize(
        fnn.Objective(net, X, y, l2=0.01, dtype="float64").value_and_gradient, net.theta, jac=True, method="BFGS"
    )
    assert np.linalg.norm(found.jac) < 1e-4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": 3}, TypeError, "net must be a Sequential, got int"),
        ({"l2": -1}, ValueError, "l2 must be a finite number >= 0, got -1"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32', 'float64' or None, got 'float16'"),
        ({"threads": 0}, ValueError, "threads must be an integer >= 1, got 0"),
        ({"batches": []}, ValueError, "batches: expected at least one batch, got none"),
        ({"batches": [[0, 150]]}, ValueError, r"batches\[0\]: expected indices in \[0, 150\), got 0 to 150"),
        ({"batches": [[0], [0.5]]}, TypeError, r"batches\[1\]: expected a 1-D array of row indices"),
        (
            {"sample_weight": [0.0] * 149 + [1.0], "batches": [[0, 1]]},
            ValueError,
            r"batches\[0\]: expected weights with",
        ),
        ({"X": np.ones((150, 3))}, ValueError, "X: expected 4 features"),
    ],
)
def test_bad_arguments(iris, change, error, message: str) -> None:
    X, y = iris
    with pytest.raises(error, match=message):
        fnn.Objective(**{"net": network(), "X": X, "y": y, **change})


def test_bad_points(iris) -> None:
    X, y = iris
    net = network()
    objective = fnn.Objective(net, X, y)
    with pytest.raises(ValueError, match=r"theta: expected shape \(43,\), got \(42,\)"):
        objective.value(net.theta[1:])
    with pytest.raises(TypeError, match="theta: expected dtype float32 or float64, got int64"):
        objective.value(np.zeros(43, int))
    with pytest.raises(ValueError, match=r"v: expected shape \(43,\), got \(2,\)"):
        objective.hessp(net.theta, np.ones(2))
    assert not np.isfinite(objective.value(np.full(43, np.nan)))
    kinked = network(loss="absolute_error")
    with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
        fnn.Objective(kinked, X, np.ones((150, 3))).hessp(net.theta, net.theta)
