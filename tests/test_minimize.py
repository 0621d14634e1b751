"""The solvers on functions that are no networks; Newton's whole steps, ftol, the line search, SciPy's least squares."""

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import rosen, rosen_der, rosen_hess, rosen_hess_prod

import fastnn as fnn
from fastnn.solvers import SmoothFunction, wolfe_search
from fastnn.solvers.functions import METHODS

SECOND = ["newton", "newton_cg", "trust_region", "arc"]


def start(n):
    return np.resize([-1.2, 1.0], n)


@pytest.mark.parametrize("n", [2, 10, 100])
@pytest.mark.parametrize("method", [*SECOND, "lbfgs", "nonlinear_cg"])
def test_rosenbrock(n, method):
    derivatives = {"hessian": rosen_hess, "hessp": rosen_hess_prod} if method in SECOND else {}
    x0 = start(n)
    found = fnn.minimize(rosen, x0, gradient=rosen_der, method=method, max_iter=5000, tol=1e-7, **derivatives)
    assert found.converged
    assert np.linalg.norm(rosen_der(found.theta)) <= 1e-7
    assert found.value < 4.0  # the local minimum beside (-1, 1, 1, …) has 3.99
    if n == 2:
        np.testing.assert_allclose(found.theta, 1.0, atol=1e-6)
    np.testing.assert_array_equal(x0, start(n))


def test_gradient_descent_on_a_bowl():
    A = np.diag([1.0, 4.0])
    found = fnn.minimize(lambda x: 0.5 * x @ A @ x, [3.0, -2.0], gradient=lambda x: A @ x, method="gradient_descent")
    np.testing.assert_allclose(found.theta, 0.0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_that_are_not_given_are_differences(method):
    A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.5]])
    b = np.array([1.0, -2.0, 0.5])

    def f(x):
        return 0.5 * x @ A @ x - b @ x + 0.1 * np.sum(np.cosh(x))

    expected = scipy.optimize.minimize(f, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    found = fnn.minimize(f, [0, 0, 0], method=method, max_iter=500, tol=1e-6)
    np.testing.assert_allclose(found.theta, expected, atol=2e-6)
    assert found.evaluations.gradient == 0


def test_value_and_gradient_in_one_function_and_counts():
    calls = {"f": 0, "h": 0, "p": 0}

    def both(x):
        calls["f"] += 1
        return rosen(x), rosen_der(x)

    def hessian(x):
        calls["h"] += 1
        return rosen_hess(x)

    def product(x, v):
        calls["p"] += 1
        return rosen_hess_prod(x, v)

    found = fnn.minimize(both, start(4), gradient=True, hessian=hessian, method="newton", tol=1e-9)
    assert (found.evaluations.gradient, found.evaluations.matrix) == (calls["f"], calls["h"])
    calls.update(f=0)
    found = fnn.minimize(both, start(4), gradient=True, hessp=product, method="newton_cg", tol=1e-6)
    assert (found.evaluations.gradient, found.evaluations.product) == (calls["f"], calls["p"])
    assert found.converged
    from_products = fnn.minimize(both, start(4), gradient=True, hessp=product, method="newton", tol=1e-9)
    np.testing.assert_allclose(from_products.theta, 1.0, atol=1e-7)


def test_a_barrier_is_not_crossed():
    found = fnn.minimize(
        lambda x: x[0] - np.log(x[0]) if x[0] > 0 else np.inf,
        [5.0],
        gradient=lambda x: np.array([1 - 1 / x[0]]) if x[0] > 0 else np.array([np.nan]),
    )
    assert found.theta[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fun": 3}, TypeError, "fun: expected a function, got int"),
        ({"gradient": False}, TypeError, "gradient: expected a function, True or None, got False"),
        ({"hessian": np.eye(2)}, TypeError, "hessian: expected a function, got ndarray"),
        ({"x0": "ab"}, TypeError, "x0: expected real numbers"),
        ({"x0": [[1.0, 2.0]]}, ValueError, "x0: expected a vector, got shape (1, 2)"),
        ({"x0": []}, ValueError, "x0: expected a vector"),
        ({"x0": [1.0, np.nan]}, ValueError, "x0: expected finite values, got nan"),
        ({"method": "LBFGS "}, ValueError, "did you mean 'lbfgs'?"),
        ({"method": "BFGS"}, ValueError, "did you mean 'lbfgs'?"),
        ({"method": 3}, TypeError, "method: expected a name or a solver"),
        ({"method": fnn.LBFGS(), "tol": 1e-3}, TypeError, "tol: give it to LBFGS"),
        ({"fun": lambda x: x}, TypeError, "fun: expected a number, got ndarray of shape (2,)"),
        ({"fun": lambda x: 1j}, TypeError, "fun: expected a number"),
        ({"gradient": lambda x: x[:1]}, ValueError, "gradient: expected shape (2,), got (1,)"),
        ({"gradient": lambda x: x * 1j}, TypeError, "gradient: expected real numbers"),
        ({"gradient": True}, TypeError, "fun: expected a tuple of value and gradient"),
        ({"hessian": lambda x: x, "method": "newton"}, ValueError, "hessian: expected shape (2, 2), got (2,)"),
        ({"fun": lambda x: np.nan}, ArithmeticError, "not finite at the start"),
        ({"method": fnn.LevenbergMarquardt()}, TypeError, "LevenbergMarquardt needs the Objective of a network"),
        ({"method": fnn.GaussNewtonCG()}, TypeError, "GaussNewtonCG needs the Objective of a network"),
        ({"method": fnn.Newton(matrix="block")}, TypeError, "Newton(matrix='block') needs the Objective of a network"),
        ({"method": fnn.Newton(max_parameters=1)}, ValueError, "max_parameters is 1"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"fun": rosen, "x0": start(2), "gradient": rosen_der, **change}
    with pytest.raises(error) as caught:
        fnn.minimize(**arguments)
    assert message in str(caught.value)


def test_errors_of_the_function_come_through():
    def f(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fnn.minimize(f, [1.0])


def test_stop_by_callback():
    def callback(iteration):
        if iteration.number == 3:
            raise StopIteration

    found = fnn.minimize(rosen, start(2), gradient=rosen_der, callback=callback)
    assert (found.status, found.iterations) == ("stopped", 3)


# ------------------------------------------------------------------ Newton's whole steps


def test_whole_newton_steps_are_newtons():
    path = []
    found = fnn.minimize(
        rosen,
        start(2),
        gradient=rosen_der,
        hessian=rosen_hess,
        method=fnn.Newton(globalization=None, tol=1e-10),
        callback=lambda each: path.append(each.theta.copy()),
    )
    x = start(2)
    for point in path:
        np.testing.assert_allclose(point, x, rtol=1e-10)
        x = x - np.linalg.solve(rosen_hess(x), rosen_der(x))
    assert found.converged
    assert found.iterations < 8


def test_newtons_step_length():
    A = np.diag([1.0, 5.0])
    arguments = {"gradient": lambda x: A @ x, "hessian": lambda x: A}
    half = fnn.Newton(globalization=None, step_length=0.5, max_iter=3, tol=0.0)
    found = fnn.minimize(lambda x: 0.5 * x @ A @ x, [8.0, 16.0], method=half, **arguments)
    np.testing.assert_allclose(found.theta, [1.0, 2.0], rtol=1e-14)
    with pytest.raises(ValueError, match="step_length"):
        fnn.Newton(step_length=0)


def test_whole_newton_steps_go_to_a_saddle_and_end_at_a_singular_hessian():
    saddle = fnn.minimize(
        lambda x: x[0] ** 2 - x[1] ** 2,
        [1.0, 1.0],
        gradient=lambda x: np.array([2 * x[0], -2 * x[1]]),
        hessian=lambda x: np.diag([2.0, -2.0]),
        method=fnn.Newton(globalization=None),
    )
    assert saddle.converged
    np.testing.assert_array_equal(saddle.theta, 0.0)
    flat = fnn.minimize(
        lambda x: x[0],
        [1.0],
        gradient=np.ones_like,
        hessian=lambda x: np.zeros((1, 1)),
        method=fnn.Newton(globalization=None),
    )
    assert flat.status == "stalled"
    assert "singular" in flat.message


@pytest.mark.parametrize("matrix", ["full", "block", "diagonal"])
def test_whole_newton_steps_of_a_network(iris, matrix):
    X, y = iris
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    objective = fnn.Objective(net, X, y, l2=0.1)
    theta = net.theta.copy()
    found = fnn.Newton(1, tol=0.0, globalization=None, matrix=matrix, step_length=0.3).minimize(objective, theta)
    H = objective.hessian(theta)
    if matrix == "diagonal":
        H = np.diag(np.diag(H))
    expected = theta - 0.3 * np.linalg.solve(H, objective.gradient(theta))
    np.testing.assert_allclose(found.theta, expected, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------ ftol


@pytest.mark.parametrize("method", METHODS)
def test_a_small_change_of_the_value_ends_the_run(method):
    derivatives = {"gradient": rosen_der, "hessian": rosen_hess}
    values = []
    options = {"updates": 1} if method == "newton" else {}
    found = fnn.minimize(
        rosen,
        start(3),
        method=METHODS[method](10_000, 0.0, ftol=1e-3, **options),
        callback=lambda each: values.append(each.value),
        **derivatives,
    )
    assert found.status == "small_change"
    assert found.converged
    assert "ftol" in found.message
    changes = np.abs(np.diff(values)) / np.maximum(1.0, np.abs(values[1:]))
    assert changes[-1] <= 1e-3
    moved = changes[:-1][changes[:-1] > 0]
    assert (moved > 1e-3).all()
    with pytest.raises(ValueError, match="ftol"):
        METHODS[method](ftol=-1)


# ------------------------------------------------------------------ the line search


def test_the_wolfe_search_meets_its_conditions():
    both = lambda x: (rosen(x), rosen_der(x))  # noqa: E731
    theta = start(6)
    g = rosen_der(theta)
    for c2 in (0.1, 0.9):
        point = wolfe_search(both, theta, -g, step=1e-3, curvature=c2)
        slope = -g @ g
        assert point.value <= rosen(theta) + 1e-4 * point.step * slope
        assert abs(point.slope) <= c2 * abs(slope)
        np.testing.assert_allclose(point.theta, theta - point.step * g)
        np.testing.assert_array_equal(point.gradient, rosen_der(point.theta))
    with pytest.raises(ValueError, match="descends"):
        wolfe_search(both, theta, g)
    with pytest.raises(ValueError, match="direction: expected the shape of theta"):
        wolfe_search(both, theta, g[:2])
    with pytest.raises(ValueError, match="curvature"):
        wolfe_search(both, theta, -g, decrease=0.5, curvature=0.4)


# ------------------------------------------------------------------ the objective


class Valley:
    """Rosenbrock's function of two variables, without a base class."""

    n_parameters = 2
    dtype = np.dtype(np.float64)

    def __init__(self):
        self.evaluations = fnn.solvers.Evaluations()

    def check_theta(self, theta):
        return np.asarray(theta, np.float64)

    def value_and_gradient(self, theta):
        self.evaluations.value += 1
        self.evaluations.gradient += 1
        return rosen(theta), rosen_der(theta)

    def hessian(self, theta):
        self.evaluations.matrix += 1
        return rosen_hess(theta)

    def hessp(self, theta, v):
        self.evaluations.product += 1
        return rosen_hess_prod(theta, v)


@pytest.mark.parametrize("method", [*SECOND, "lbfgs", "nonlinear_cg"])
def test_solvers_take_objects_of_any_class(method):
    valley = Valley()
    found = METHODS[method](max_iter=500, tol=1e-7).minimize(valley, start(2))
    np.testing.assert_allclose(found.theta, 1.0, atol=1e-6)
    assert found.evaluations.total == valley.evaluations.total > 0


def test_objects_without_the_methods_are_refused():
    with pytest.raises(TypeError, match=r"got object, which is no fastnn.solvers.SmoothFunction"):
        fnn.LBFGS().minimize(object(), start(2))


def test_an_objective_is_a_smooth_function(iris):
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    assert isinstance(fnn.Objective(net, *iris), SmoothFunction)
    with pytest.raises(TypeError, match=r"fnn\.minimize takes a function"):
        fnn.LBFGS().minimize(rosen, start(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_residuals_and_jacobian_are_scipys(dtype, weighted):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    w = rng.uniform(0, 2, 30) if weighted else None
    net = fnn.Sequential([fnn.Dense(5, "tanh"), fnn.Dense(2)], input_size=2, loss="squared_error", dtype=dtype, seed=1)
    objective = fnn.Objective(net, X, y, w, l2=1e-2)
    theta = net.theta.astype(np.float64)
    tight = 1e-12 if dtype == "float64" else 1e-5
    r = objective.residuals(theta)
    assert 0.5 * r @ r == pytest.approx(objective.value(theta), rel=max(tight, 1e-6 if dtype == "float32" else 0))
    J = objective.jacobian(theta)
    assert J.shape == (30 * 2 + 20, net.n_parameters)
    np.testing.assert_allclose(J.T @ r, objective.gradient(theta), atol=tight)
    if dtype == "float64":
        differences = scipy.optimize.approx_fprime(theta, lambda t: objective.residuals(t), 1e-7)
        np.testing.assert_allclose(J, differences, atol=1e-6)
        peer = scipy.optimize.least_squares(objective.residuals, theta, objective.jacobian, xtol=1e-14, ftol=1e-14)
        assert peer.cost == pytest.approx(objective.value(peer.x), rel=1e-12)
        assert np.linalg.norm(objective.gradient(peer.x)) < 1e-6
        assert peer.cost < 0.9 * objective.value(theta)
    classes = fnn.Sequential([fnn.Dense(2)], input_size=2, loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match="residuals needs loss 'squared_error', got 'cross_entropy'"):
        fnn.Objective(classes, X, np.zeros(30, int)).residuals(classes.theta)


def test_batches_can_be_redrawn(iris):
    X, y = iris
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    first, second = (np.array_split(rng.permutation(150)[:90], 3) for _ in range(2))
    objective = fnn.Objective(net, X, y, l2=0.1, batches=first)
    objective.redraw(second)
    fresh = fnn.Objective(net, X, y, l2=0.1, batches=second)
    assert objective.value(net.theta) == fresh.value(net.theta)
    np.testing.assert_array_equal(objective.hessp(net.theta, net.theta), fresh.hessp(net.theta, net.theta))
    with pytest.raises(ValueError, match="batches"):
        objective.redraw([])
    assert objective.value(net.theta) == fresh.value(net.theta)
    with pytest.raises(ValueError, match="made without batches"):
        fnn.Objective(net, X, y).redraw(first)
    whole = fnn.Objective(net, X, y, l2=0.1)
    least = fnn.LBFGS(tol=1e-8).minimize(whole, net.theta).value
    found = fnn.GradientDescent(100, tol=0.0, line_search=None, learning_rate=0.3).minimize(
        objective, net.theta, callback=lambda _: objective.redraw(np.array_split(rng.permutation(150)[:90], 3))
    )
    assert whole.value(found.theta) < least + 0.05
