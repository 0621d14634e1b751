"""The gradient checker: it passes what is right, finds what is wrong, and tells kinks from both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.layers import ACTIVATIONS

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")


def network(backend: str = "compiled", activation: str = "tanh", loss: str = "cross_entropy", dtype: str = "float64"):
    layers = [fnn.Dense(5, activation, bias_init="normal"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss=loss, dtype=dtype, seed=3, backend=backend)


def data(loss: str, rng: np.random.Generator, n: int = 7):
    X = rng.normal(size=(n, 4))
    if loss == "cross_entropy":
        return X, rng.integers(0, 3, n)
    return X, rng.random((n, 3))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "sign"])
def test_networks_pass(activation, loss, backend, rng) -> None:
    X, y = data(loss, rng)
    net = network(backend, activation, loss)
    before = net.theta.copy()
    report = fnn.check_gradient(net, X, y, sample_weight=rng.random(7), l1=0.01, l2=0.1)
    assert report, report
    assert report.error < 1e-8
    assert (report.checked, report.total) == (43, 43)
    assert str(report).startswith("gradient check of 43 of 43 components: passed, error ")
    assert "worst  " in str(report)
    np.testing.assert_array_equal(net.theta, before)


def test_a_float32_network_is_checked_in_double(backend, rng) -> None:
    X, y = data("cross_entropy", rng)
    report = fnn.check_gradient(network(backend, dtype="float32"), X.astype(np.float32), y)
    assert report
    assert report.error < 1e-8


def test_a_random_subset(backend, rng) -> None:
    X, y = data("cross_entropy", rng)
    reports = [fnn.check_gradient(network(backend), X, y, n=10, seed=seed) for seed in (0, 0, 1)]
    assert reports[0].checked == 10
    assert reports[0].worst == reports[1].worst
    assert reports[0].worst != reports[2].worst
    assert fnn.check_gradient(network(backend), X, y, n=1000).checked == 43


@pytest.mark.parametrize("size", [2e-6, 1e-3, 1.0])
def test_a_wrong_gradient_is_found(size, backend, rng, monkeypatch) -> None:
    X, y = data("squared_error", rng)
    net = network(backend, loss="squared_error")
    honest = fnn.Sequential.loss_and_gradient

    def wrong(self, *arguments, **options):
        loss, gradient = honest(self, *arguments, **options)
        gradient[26] += size * abs(gradient).max()  # 1.weight[0, 1]
        return loss, gradient

    monkeypatch.setattr(fnn.Sequential, "loss_and_gradient", wrong)
    report = fnn.check_gradient(net, X, y)
    assert not report
    assert [component.name for component in report.failures] == ["1.weight[0, 1]"]
    assert report.worst is report.failures[0]
    assert abs(report.worst.analytic - report.worst.numerical) > 0.9 * size * abs(report.worst.numerical)
    text = str(report)
    assert "FAILED in 1" in text
    assert f"wrong  1.weight[0, 1]: analytic {report.worst.analytic:.12g}, numerical " in text


def test_kinks_are_no_failures(backend) -> None:
    # Biases are 0, so a row of zeros puts every relu of the first layer at its kink.
    layers = [fnn.Dense(3, "relu"), fnn.Dense(1)]
    net = fnn.Sequential(layers, input_size=2, loss="squared_error", seed=0, dtype="float64", backend=backend)
    report = fnn.check_gradient(net, [[0.0, 0.0], [1.0, 2.0]], [3.0, 1.0])
    assert report
    names = {component.name for component in report.kinks}
    assert names == {"0.bias[0]", "0.bias[1]", "0.bias[2]"}
    assert "kink   0.bias[0]: analytic" in str(report)


def test_a_kink_close_by_is_stepped_over(backend) -> None:
    net = fnn.Sequential(
        [fnn.Dense(1, "relu"), fnn.Dense(1)],
        input_size=1,
        loss="squared_error",
        seed=0,
        dtype="float64",
        backend=backend,
    )
    net.theta[...] = [1.0, 5e-5, 1.0, 0.0]
    report = fnn.check_gradient(net, [[0.0]], [1.0])
    assert report
    assert report.kinks == ()


# Functions.


def sigmoid(x):
    value = 1 / (1 + np.exp(-x))
    return value, np.diagflat(value * (1 - value))


def three_to_two(x):
    R = np.zeros((3, 2))
    R[0, 0], R[1, 0], R[2, 1] = x[1], x[0], 2 * x[2]
    return np.array([x[0] * x[1], x[2] ** 2]), R


def product(x):
    v = np.array([1.0, -2.0, 0.5])
    R = np.zeros((*x.shape, len(x)))
    for k in range(len(x)):
        R[k, :, k] = v
    return x @ v, R


def hadamard(x):
    return x * x, 2 * np.einsum("ij,ik,jl->ijkl", x, np.eye(x.shape[0]), np.eye(x.shape[1]))


def tensor(x):  # R² → R^{2×2×2}
    value = np.einsum("i,j,k->ijk", x, x, x)
    eye = np.eye(2)
    R = sum(np.einsum(path, eye, x, x) for path in ("ai,j,k->aijk", "aj,i,k->aijk", "ak,i,j->aijk"))
    return value, R


FUNCTIONS = [
    (lambda x: (np.sin(x), np.cos(x)), 0.7),
    (lambda x: ((x**3).sum(), 3 * x**2), [0.5, -1.0]),
    (lambda x: (np.array([x, x**2, 3.0]), np.array([1.0, 2 * x, 0.0])), 1.5),
    (sigmoid, [0.1, -2.0, 3.0]),
    (three_to_two, [1.0, 2.0, 3.0]),
    (product, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    (hadamard, [[1.0, 2.0, 3.0], [4.0, 5.0, -6.0]]),
    (lambda x: (np.linalg.det(x), np.linalg.det(x) * np.linalg.inv(x).T), [[1.0, 2.0], [3.0, 5.0]]),
    (tensor, [0.5, -1.5]),
]


@pytest.mark.parametrize(("f", "x"), FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions_with_a_reverse_differential(f, x) -> None:
    report = fnn.check_gradient(f, x)
    assert report, report
    assert report.error < 1e-9
    value, R = f(np.array(x))
    assert report.total == np.size(R)

    def spoilt(point):
        value, R = f(point)
        R = np.array(R, dtype=float)
        R.flat[-1] = R.flat[-1] + 1e-3 * (1 + abs(R).max())
        return value, R

    report = fnn.check_gradient(spoilt, x)
    assert not report
    assert len(report.failures) == 1
    place = ", ".join(str(n - 1) for n in np.shape(x))
    assert report.worst.name.endswith(f"/∂x[{place}]" if place else "/∂x")
    assert report.worst.name.startswith("∂f[" if np.ndim(value) else "∂f/")


@pytest.mark.parametrize(("f", "x"), FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions_with_a_vjp(f, x) -> None:
    def vjp(point, cotangent):
        R = np.asarray(f(point)[1])
        return np.tensordot(R, cotangent, axes=cotangent.ndim)

    assert fnn.check_gradient(lambda point: f(point)[0], x, vjp=vjp)
    report = fnn.check_gradient(lambda point: f(point)[0], x, vjp=lambda p, c: 1.001 * vjp(p, c))
    assert not report


def test_kernels_pass(rng) -> None:
    Z = rng.normal(size=(3, 4))
    for kernels in (fnn.reference, fnn.kernels):
        assert fnn.check_gradient(kernels.softmax, Z, vjp=lambda z, c, k=kernels: k.softmax_vjp(k.softmax(z), c))


def test_kinks_of_functions() -> None:
    report = fnn.check_gradient(lambda x: (np.maximum(x, 0).sum(), (x > 0) * 1.0), [0.0, 1.0, 0, 0, 0])
    assert report
    assert [component.name for component in report.kinks] == [f"∂f/∂x[{i}]" for i in (0, 2, 3, 4)]
    assert "and 1 more at kinks" in str(report)
    # At a kink that is alike on both sides, the differences agree with the derivative 0 that is its convention.
    assert fnn.check_gradient(lambda x: (np.abs(x).sum(), np.sign(x)), [0.0, 1.0]).kinks == ()
    assert fnn.check_gradient(lambda x: ((x**2).sum(), 2 * x), [0.0, 1e6])
    # Curvature is no kink.
    assert not fnn.check_gradient(lambda x: (1e3 * (x**2).sum(), 0 * x), [1.0])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3, [1.0]), {}, TypeError, "target must be a Sequential or a function, got 3"),
        ((np.sin, [1.0]), {}, TypeError, r"expected f\(x\) to return \(value, reverse differential\), or vjp="),
        ((np.sin, [1.0], [2.0]), {}, TypeError, "are for networks, got a function"),
        ((np.sin, [1.0]), {"vjp": 3}, TypeError, "vjp must be a function of x and a cotangent, got 3"),
        ((np.sin, [1.0]), {"vjp": lambda x, c: np.ones(2)}, ValueError, r"vjp: expected shape \(1,\) like x"),
        ((np.log, [-1.0]), {"vjp": lambda x, c: c / x}, ValueError, "value: expected finite values at x"),
        ((np.sin, [np.nan]), {"vjp": lambda x, c: c}, ValueError, "X: expected a point of finite values"),
        ((np.sin, [1.0]), {"vjp": lambda x, c: c, "n": 0}, ValueError, "n must be an integer >= 1, got 0"),
        ((np.sin, [1.0]), {"rtol": 0}, ValueError, "rtol must be a finite number > 0, got 0"),
        ((lambda x: (x, np.eye(3)), [1.0]), {}, ValueError, r"reverse differential: expected shape \(1, 1\), got"),
        ((lambda x: (x, 1j), [1.0]), {}, TypeError, "reverse differential: expected real numbers"),
        ((network(), np.ones((2, 4)), [0, 1]), {"vjp": np.sin}, TypeError, "vjp is for functions, got a network"),
        ((network(), np.ones((2, 3)), [0, 1]), {}, ValueError, "X: expected 4 features"),
        ((network(), np.ones((2, 4)), [0, 5]), {}, ValueError, "y: expected labels"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value")
def test_refused(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fnn.check_gradient(*arguments, **options)


# Where there is no second derivative, or none at all.

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "leaky_tanh", "hard_tanh"])
@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy", "huber"])
def test_a_row_of_zeros_at_zero_biases_is_no_false_alarm(activation, loss) -> None:
    for seed in range(5):
        layers = [fnn.Dense(4, activation), fnn.Dense(1)]
        net = fnn.Sequential(layers, input_size=2, loss=loss, dtype="float64", seed=seed)
        for report in (fnn.check_gradient(net, XOR, [0, 1, 1, 0]), fnn.check_hessian(net, XOR, [0, 1, 1, 0])):
            assert report, str(report)


@pytest.mark.parametrize("claim", [-1.0, 0.0, 0.5, 1.0])
def test_at_a_kink_any_slope_between_the_one_sided_ones_is_right(claim) -> None:
    report = fnn.check_gradient(lambda x: np.abs(x).sum(), np.zeros(3), vjp=lambda x, g: np.full(3, claim) * g)
    assert report, str(report)
    assert len(report.kinks) == (0 if claim == 0.0 else 3)  # 0 is what central differences give


@pytest.mark.parametrize("claim", [-300.0, -1.001, 1.001, 7.0, np.nan])
def test_at_a_kink_no_other_slope_is_right(claim) -> None:
    report = fnn.check_gradient(lambda x: np.abs(x).sum(), np.zeros(3), vjp=lambda x, g: np.full(3, claim) * g)
    assert not report
    assert (len(report.failures), report.kinks) == (3, ())
    if np.isfinite(claim):
        assert report.worst is not None
        assert report.worst.numerical == pytest.approx(np.sign(claim))


def test_a_wrong_second_derivative_is_found_where_the_first_has_a_kink() -> None:
    report = fnn.check_gradient(lambda x: np.maximum(x, 0.0) ** 2 + 3.0 * x, np.zeros(2), vjp=lambda x, g: 3.0 * g)
    assert report, str(report)  # differentiable: not a kink
    assert report.kinks == ()
    assert not fnn.check_gradient(
        lambda x: np.maximum(x, 0.0) ** 2 + 3.0 * x, np.zeros(2), vjp=lambda x, g: 3.00001 * g
    )


def test_next_to_a_jump_the_other_side_counts() -> None:
    def step(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0.0, 5.0 + x, 2.0 * x)

    # left of the jump at 0 the slope is 2, right of it the difference is without bound
    assert fnn.check_gradient(step, np.zeros(1), vjp=lambda x, g: 2.0 * g)
    assert not fnn.check_gradient(step, np.zeros(1), vjp=lambda x, g: 1.9 * g)


def test_a_wrong_gradient_of_a_network_at_its_kinks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    net = fnn.Sequential([fnn.Dense(4, "relu"), fnn.Dense(1)], input_size=2, loss="squared_error", seed=0)
    right = fnn.Sequential.loss_and_gradient

    def wrong(self: fnn.Sequential, *args: Any, **options: Any) -> tuple[float, np.ndarray]:
        value, gradient = right(self, *args, **options)
        gradient[8:12] += 3.0  # of the first biases, at which all units of the row of zeros are at their kinks
        return value, gradient

    assert fnn.check_gradient(net, XOR, [0, 1, 1, 0])
    monkeypatch.setattr(fnn.network.Network, "loss_and_gradient", wrong)
    assert len(fnn.check_gradient(net, XOR, [0, 1, 1, 0]).failures) == 4


def test_opposite_rows_at_a_kink_are_no_false_alarm() -> None:
    X = np.array([[1.0], [-1.0], [2.0], [-3.0]])
    layers = [fnn.Dense(1, "relu"), fnn.Dense(1)]
    net = fnn.Sequential(layers, input_size=1, loss="squared_error", dtype="float64", seed=0)
    net.theta[:] = [0.0, 0.0, 1.0, 0.0]  # relu(w x) at w = 0, whose slopes are on both sides those of some rows
    for report in (fnn.check_gradient(net, X, [5.0, -5.0, 1.0, 1.0]), fnn.check_hessian(net, X, [5.0, -5.0, 1.0, 1.0])):
        assert report, str(report)
        assert report.kinks
