"""Preconditioners of L-BFGS and non-linear conjugate gradients, against dense linear algebra."""

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import rosen, rosen_der, rosen_hess
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import fastnn as fnn
from fastnn.solvers import Point, Preconditioner, base
from fastnn.solvers.preconditioning import NAMES, Metric

FORMULAS = ("dai_kou", "polak_ribiere", "fletcher_reeves", "hager_zhang")
LAMBDA = 1e-3


class Quadratic:
    """½ θ·A θ − b·θ, a SmoothFunction."""

    def __init__(self, A, b):
        self.A, self.b, self.dtype, self.n_parameters = A, b, np.dtype(np.float64), len(b)
        self.evaluations = fnn.objective.Evaluations()

    def check_theta(self, theta):
        return np.asarray(theta, float)

    def value_and_gradient(self, theta):
        return float(theta @ (0.5 * self.A @ theta - self.b)), self.A @ theta - self.b

    def hessian(self, theta):
        self.evaluations.matrix += 1
        return self.A.copy()

    def hessp(self, theta, v):
        return self.A @ v


def exact_search(evaluate, start, direction, step, **options):
    """The minimum of a quadratic along a direction, from its values at 0 and 1."""
    ahead = evaluate(start.theta + direction)[1] @ direction
    alpha = -start.slope / (ahead - start.slope)
    theta = start.theta + alpha * direction
    value, gradient = evaluate(theta)
    return Point(alpha, theta, value, gradient, float(gradient @ direction))


def with_eigenvalues(values, rng):
    """A and M, positive definite, M⁻¹ A having these eigenvalues."""
    n = len(values)
    L = np.tril(rng.normal(size=(n, n))) + 3.0 * np.eye(n)
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return L @ (Q * values) @ Q.T @ L.T, L @ L.T


@pytest.mark.parametrize("distinct", [1, 2, 4])
@pytest.mark.parametrize("solver", [*(fnn.NonlinearCG(formula=f) for f in FORMULAS), fnn.LBFGS(memory=20)], ids=repr)
def test_as_many_iterations_as_distinct_eigenvalues(solver, distinct, rng, monkeypatch):
    """With exact line searches these are PCG: it ends after as many steps as M⁻¹A has different eigenvalues."""
    monkeypatch.setattr(base, "search", exact_search)
    A, M = with_eigenvalues(np.resize([1.0, 6.0, 0.3, 20.0][:distinct], 24), rng)
    quadratic = Quadratic(A, rng.normal(size=24))
    inverse = np.linalg.inv(M)
    changed = {name: getattr(solver, name) for name in ("formula", "memory") if hasattr(solver, name)}
    tol = 1e-9 * np.linalg.norm(quadratic.b)
    found = type(solver)(200, tol, preconditioner=lambda v: inverse @ v, **changed).minimize(quadratic, np.zeros(24))
    assert found.converged
    assert found.iterations == distinct
    np.testing.assert_allclose(found.theta, np.linalg.solve(A, quadratic.b), rtol=1e-5, atol=1e-7)
    assert type(solver)(200, tol, **changed).minimize(quadratic, np.zeros(24)).iterations > distinct


@pytest.mark.parametrize("solver", [*(fnn.NonlinearCG(formula=f) for f in FORMULAS), fnn.LBFGS()], ids=repr)
def test_the_path_is_that_of_the_unpreconditioned_method_in_other_coordinates(solver, rng):
    A, M = with_eigenvalues(np.geomspace(1.0, 300.0, 12), rng)
    root = scipy.linalg.sqrtm(M).real
    back = np.linalg.inv(root)
    b = 1e-2 * rng.normal(size=12)  # ‖M^-½ b‖ < 1: both try α = 1 first

    class Bent(Quadratic):
        def value_and_gradient(self, theta):
            value, gradient = super().value_and_gradient(theta)
            z = self.map @ theta
            return value + 0.25 * float(np.sum(z**4)), gradient + self.map.T @ z**3

    here, there = Bent(A, b), Bent(back @ A @ back, back @ b)
    here.map, there.map = np.eye(12), back
    changed = {"formula": solver.formula} if hasattr(solver, "formula") else {}
    paths = []
    for objective, preconditioner in ((here, aslinearoperator(np.linalg.inv(M))), (there, None)):
        path = []
        type(solver)(12, 0.0, preconditioner=preconditioner, **changed).minimize(
            objective, np.zeros(12), callback=lambda each, path=path: path.append(each.theta.copy())
        )
        paths.append(np.array(path))
    np.testing.assert_allclose(paths[0], paths[1] @ back, rtol=1e-6, atol=1e-10)


def test_lbfgs_from_the_exact_inverse_takes_newtons_steps(rng):
    root = rng.normal(size=(30, 20))
    A = root.T @ root
    quadratic = Quadratic(A, rng.normal(size=20))
    found = fnn.LBFGS(5, 1e-7, preconditioner="hessian", damping=0.0).minimize(quadratic, rng.normal(size=20))
    assert (found.converged, found.iterations) == (True, 1)
    assert found.evaluations.matrix == 1
    path = []
    x0 = np.array([1.1, 1.2])
    fnn.minimize(
        rosen,
        x0,
        gradient=rosen_der,
        hessian=rosen_hess,
        method=fnn.LBFGS(1, 0.0, preconditioner="hessian", damping=0.0),
        callback=lambda each: path.append(each.theta.copy()),
    )
    step = np.linalg.solve(rosen_hess(x0), -rosen_der(x0))
    np.testing.assert_allclose((path[1] - x0) / np.linalg.norm(path[1] - x0), step / np.linalg.norm(step), rtol=1e-8)


@pytest.mark.parametrize("n", [2, 10, 100])
@pytest.mark.parametrize("method", [fnn.LBFGS, fnn.NonlinearCG])
@pytest.mark.parametrize("preconditioner", ["hessian", "hessian_diagonal"])
def test_rosenbrock(n, method, preconditioner):
    solver = method(3000, 1e-7, preconditioner=preconditioner, refresh=5)
    x0 = np.resize([-1.2, 1.0], n)
    found = fnn.minimize(rosen, x0, gradient=rosen_der, hessian=rosen_hess, method=solver)
    assert found.converged
    assert np.linalg.norm(rosen_der(found.theta)) <= 1e-7
    assert found.value < 4.0


# -- the named ones
# --------------------------------------------------------------------------------------------------------------


def case(layers=None, weights=True, l2=0.01, dtype="float64", **options):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(60, 4)) * [1.0, 30.0, 1e-2, 3.0], rng.integers(0, 3, 60)
    w = rng.uniform(0.2, 3.0, 60) if weights else None
    layers = layers or [fnn.Dense(5, "tanh"), fnn.Dense(4, "softplus", bias=False), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=1)
    return net, (X, y, w), fnn.Objective(net, X, y, w, l2=l2, **options)


def product(name, objective, theta, damping=LAMBDA):
    """The matrix M⁻¹ of a named preconditioner."""
    metric = Metric(name, None, damping, objective)
    metric.move(theta, theta)
    return np.array([metric.inverse(unit) for unit in np.eye(objective.n_parameters, dtype=theta.dtype)]).T


def of_blocks(blocks):
    """M⁻¹ by eigenvalues, as the docstrings say."""
    parts = []
    for B in blocks:
        D = np.sqrt(np.abs(np.diag(B)))
        values, basis = np.linalg.eigh(B / np.outer(D, D) + LAMBDA * np.eye(len(B)))
        values = np.abs(values) if (values <= 0).any() else values
        parts.append(
            (basis / np.maximum(values, LAMBDA if (values < LAMBDA).any() else 0.0)) @ basis.T / np.outer(D, D)
        )
    return scipy.linalg.block_diag(*parts)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_diagonals_and_blocks(weights, l2):
    net, (X, y, w), objective = case(weights=weights, l2=l2)
    options = {"sample_weight": w, "l2": l2}
    for kind in ("ggn", "hessian"):
        diagonal = getattr(fnn.curvature, f"{kind}_diagonal")(net, X, y, **options)
        expected = np.diag(1.0 / np.abs(diagonal) / (1.0 + LAMBDA))
        np.testing.assert_allclose(product(f"{kind}_diagonal", objective, net.theta), expected, rtol=1e-9)
    blocks = fnn.curvature.ggn_blocks(net, X, y, **options).values()
    M = scipy.linalg.block_diag(*(B + LAMBDA * np.diag(np.diag(B)) for B in blocks))
    np.testing.assert_allclose(product("ggn_blocks", objective, net.theta) @ M, np.eye(len(M)), atol=1e-8)
    expected = of_blocks(fnn.curvature.hessian_blocks(net, X, y, **options).values())
    found = product("hessian_blocks", objective, net.theta)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert np.linalg.eigvalsh(found).min() > 0.0
    expected = of_blocks([fnn.curvature.hessian(net, X, y, **options)])
    found = product("hessian", objective, net.theta)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    matrix = fnn.curvature.preconditioner(net, X, y, **options)
    np.testing.assert_allclose(
        product("fisher", objective, net.theta), np.diag(1.0 / matrix.diagonal / (1.0 + LAMBDA)), rtol=1e-9
    )


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_kronecker_factors(l2):
    net, (X, y, w), objective = case(l2=l2)
    factors = fnn.curvature.kfac_factors(net, X, y, sample_weight=w)
    parts, root = [], np.sqrt(LAMBDA)
    for i, (A, G) in factors.items():
        a, g = np.sqrt(np.diag(A)), np.sqrt(np.diag(G))
        inner = np.kron(
            np.linalg.inv(A / np.outer(a, a) + root * np.eye(len(a))),
            np.linalg.inv(G / np.outer(g, g) + root * np.eye(len(g))),
        )
        penalty = np.zeros((len(a), len(g)))
        penalty[: net.ops[i].n_in] = l2
        D = np.sqrt((np.outer(a, g) ** 2 + penalty).ravel())
        parts.append(inner / np.outer(D, D))
    np.testing.assert_allclose(product("kfac", objective, net.theta), scipy.linalg.block_diag(*parts), rtol=1e-8)


@pytest.mark.parametrize("name", ["fisher", "kfac"])
def test_parameters_of_norm_layers(name):
    net, (X, y, w), objective = case([fnn.Dense(5, "tanh"), fnn.LayerNorm(), fnn.Dense(3)])
    gradients = fnn.curvature.per_sample_gradients(net, X, y)
    place = slice(net.ops[1].weight, net.ops[1].weight + 10)
    squares = (w[:, None] * gradients[:, place] ** 2).sum(axis=0)
    expected = 1.0 / (np.sqrt(squares) * (1.0 + LAMBDA)) if name == "fisher" else w.sum() / squares
    found = product(name, objective, net.theta)
    np.testing.assert_allclose(np.diag(found)[place], expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["ggn_diagonal", "hessian_diagonal", "ggn_blocks", "hessian_blocks", "hessian"])
def test_batch_norm_by_the_statistics_of_all_rows(name):
    layers = [fnn.Dense(4), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dense(3)]
    net, _, objective = case(layers, training=True)
    inverse = product(name, objective, net.theta)
    assert np.linalg.eigvalsh(0.5 * (inverse + inverse.T)).min() > 0.0
    found = fnn.LBFGS(200, 1e-5, preconditioner=name).minimize(objective, net.theta)
    assert found.value < fnn.LBFGS(20, 1e-5).minimize(objective, net.theta).value + 1e-3


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fisher"])
@pytest.mark.parametrize("solver", [fnn.LBFGS, fnn.NonlinearCG])
def test_units_of_the_features_do_not_matter(name, solver):
    """Features times powers of two, and the weights divided by them: the same function, and the same run."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(80, 4)), rng.integers(0, 3, 80)
    units = 2.0 ** np.array([-10.0, 10.0, 0.0, 5.0])
    values = []
    for scale in (np.ones(4), units):
        net = fnn.Sequential(
            [fnn.Dense(5, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=1
        )
        net.parameters["0.weight"][...] /= scale[:, None]
        history = solver(8, 0.0, preconditioner=name).minimize(fnn.Objective(net, X * scale, y), net.theta).history
        values.append(history["value"])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)


# -- runs
# --------------------------------------------------------------------------------------------------------------


def ill_scaled():
    """Features over six decades, and classes that depend on all of them."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(1e-3, 1e3, 16)
    Z = rng.normal(size=(1000, 16))
    y = (Z @ rng.normal(size=(16, 3)) + rng.gumbel(size=(1000, 3))).argmax(axis=1)
    return Z * scale, y


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fisher"])
@pytest.mark.parametrize("solver", [fnn.LBFGS, fnn.NonlinearCG])
def test_at_most_half_of_the_iterations_where_features_are_ill_scaled(solver, name):
    X, y = ill_scaled()
    net = fnn.Sequential([fnn.Dense(3)], input_size=16, loss="cross_entropy", dtype="float64", seed=0)
    net.theta[...] = 0.0
    objective = fnn.Objective(net, X, y)
    found = solver(200, 1e-4, preconditioner=name).minimize(objective, net.theta)
    assert found.converged
    plain = solver(2 * found.iterations, 1e-4).minimize(objective, net.theta)
    assert plain.value > found.value + 1e-3 * abs(found.value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [fnn.LBFGS(60, 1e-3, preconditioner="kfac", refresh=10), fnn.NonlinearCG(60, 1e-3, preconditioner="ggn_diagonal")],
)
def test_in_fit(optimizer, dtype):
    X, y = ill_scaled()
    net = fnn.Sequential([fnn.Dense(3)], input_size=16, loss="cross_entropy", dtype=dtype, seed=0)
    net.theta[...] = 0.0
    history = net.fit(X[:800], y[:800], optimizer=optimizer, l2=1e-9, validation_data=(X[800:], y[800:]))
    assert history["val_accuracy"][-1] > 0.8
    assert history["gradient_norm"][-1] <= 2e-3 or history.result.status == "precision"


class Counting:
    """A preconditioner of one's own: division by 1 + the number of updates."""

    def __init__(self):
        self.updates, self.products = [], 0

    def update(self, objective, theta, gradient):
        assert isinstance(objective, base.SmoothFunction)
        np.testing.assert_allclose(gradient, rosen_der(theta))
        self.updates.append(theta)

    def apply(self, vector):
        self.products += 1
        return vector / (1.0 + len(self.updates))


@pytest.mark.parametrize("solver", [fnn.LBFGS, fnn.NonlinearCG])
def test_an_object_of_ones_own_is_updated_at_the_start_and_when_it_is_due(solver):
    own = Counting()
    assert isinstance(own, Preconditioner)
    path = []
    fnn.minimize(
        rosen,
        [-1.2, 1.0],
        gradient=rosen_der,
        method=solver(10, 0.0, preconditioner=own, refresh=3),
        callback=lambda each: path.append(each.theta.copy()),
    )
    assert len(path) == 11
    np.testing.assert_array_equal(own.updates, path[0:10:3])
    assert own.products >= 10


def test_what_is_no_preconditioner_is_refused():
    with pytest.raises(ValueError, match=r"preconditioner must be one of 'fisher', .* got 'diagonal'.*ggn_diagonal"):
        fnn.LBFGS(preconditioner="diagonal")
    with pytest.raises(TypeError, match=r"preconditioner: expected a name .* got int"):
        fnn.NonlinearCG(preconditioner=3)
    with pytest.raises(ValueError, match="refresh must be an integer >= 1, got 0"):
        fnn.LBFGS(refresh=0)
    with pytest.raises(ValueError, match="damping must be a finite number >= 0"):
        fnn.NonlinearCG(damping=-1.0)
    x0 = np.array([-1.2, 1.0])
    for given, error, message in (
        (lambda v: -v, ValueError, r"expected a positive definite one, got g·M⁻¹g = -"),
        (lambda v: v * np.nan, ValueError, r"expected a positive definite one, got g·M⁻¹g = nan"),
        (lambda v: v[:1], ValueError, r"expected an array of shape \(2,\), got \(1,\)"),
        (lambda v: None, TypeError, "expected an array of floats, got dtype object"),
        (LinearOperator((3, 3), matvec=lambda v: v), ValueError, r"expected shape \(2, 2\), got \(3, 3\)"),
    ):
        for solver in (fnn.LBFGS, fnn.NonlinearCG):
            with pytest.raises(error, match=message):
                fnn.minimize(rosen, x0, gradient=rosen_der, method=solver(preconditioner=given))
    for name in ("kfac", "ggn_blocks", "ggn_diagonal", "hessian_blocks", "fisher"):
        with pytest.raises(TypeError, match=rf"LBFGS\(preconditioner='{name}'\) needs the Objective of a network"):
            fnn.minimize(rosen, x0, gradient=rosen_der, method=fnn.LBFGS(preconditioner=name))


def test_networks_without_such_a_preconditioner_are_refused_before_anything_changes():
    X = np.random.default_rng(0).normal(size=(20, 3))
    net = fnn.Sequential([fnn.Dense(4), fnn.BatchNorm(), fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    before = net.theta.copy(), net.state.copy()
    for name in ("fisher", "kfac"):
        with pytest.raises(ValueError, match="needs rows that do not depend on each other"):
            net.fit(X, X[:, 0], optimizer=fnn.LBFGS(preconditioner=name))
    assert all(np.array_equal(a, b) for a, b in zip(before, (net.theta, net.state), strict=True))
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="absolute_error", seed=0)
    with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
        net.fit(X, X[:, 0], optimizer=fnn.NonlinearCG(preconditioner="ggn_diagonal"))
    net.fit(X, X[:, 0], optimizer=fnn.LBFGS(20, preconditioner="fisher"))
