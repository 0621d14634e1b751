"""Full-batch solvers: on objectives, and as optimizers of fit."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn.linalg import quadratic_models

SOLVERS = [
    fnn.GradientDescent(),
    fnn.GradientDescent(line_search=None),
    fnn.NonlinearCG(),
    fnn.NonlinearCG(formula="polak_ribiere"),
    fnn.NonlinearCG(formula="fletcher_reeves"),
    fnn.NonlinearCG(formula="hager_zhang"),
    fnn.LBFGS(),
    fnn.LBFGS(memory=3),
    fnn.NewtonCG(),
    fnn.TrustRegion(),
    fnn.TrustRegion(method="krylov"),
    fnn.TrustRegion(method="ncg"),
    fnn.Newton(),
    fnn.Newton(updates=1),
    fnn.Newton(matrix="block"),
    fnn.Newton(matrix="diagonal"),
    fnn.Newton(globalization="trust_region"),
    fnn.Newton(globalization="trust_region", matrix="block"),
    fnn.ARC(),
    fnn.GaussNewtonCG(),
    fnn.GaussNewtonCG(preconditioner="kfac"),
    fnn.LBFGS(preconditioner="kfac"),
    fnn.NonlinearCG(preconditioner="ggn_blocks", refresh=10),
    fnn.GaussNewtonCG(preconditioner=None),
    fnn.GaussNewtonCG(curvature_rows=100),
]


def ident(solver) -> str:
    changed = [f"{k}={v}" for k, v in vars(solver).items() if v != getattr(type(solver)(), k)]
    return " ".join([type(solver).__name__, *changed])


def with_limits(solver, max_iter: int, tol: float):
    return type(solver)(**{**vars(solver), "max_iter": max_iter, "tol": tol})


def softmax_regression(dtype: str = "float64") -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype=dtype, seed=0)


def deep(seed: int = 0, dtype: str = "float64") -> fnn.Sequential:
    layers = [fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=seed)


@pytest.mark.parametrize("preconditioner", ["fisher", "kfac", None])
def test_equal_weights_are_no_weights_to_gauss_newton_cg(iris, preconditioner) -> None:
    X, y = iris
    ends = []
    for weight in (None, np.ones(150), np.full(150, 3.0), np.full(150, 1e-6)):
        net = deep()
        solver = fnn.GaussNewtonCG(4, preconditioner=preconditioner, cg_iterations=8)
        net.fit(X, y, optimizer=solver, l2=1e-3, sample_weight=weight)
        ends.append(net.theta)
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], atol=1e-7)


# -- one minimum, all solvers
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS, ids=ident)
def test_finds_the_minimum_of_softmax_regression(iris, solver) -> None:
    X, y = iris
    net = softmax_regression()
    objective = fnn.Objective(net, X, y, l2=0.1)
    start = net.theta.copy()
    result = with_limits(solver, 2000, 1e-6).minimize(objective, net.theta)
    assert result.converged, result
    assert np.linalg.norm(objective.gradient(result.theta)) <= 1e-6
    # scikit-learn 1.9, LogisticRegression(C=1 / 15, tol=1e-12), penalty included
    assert result.value == pytest.approx(0.505922213544, abs=1e-8)
    assert (net.theta == start).all()
    assert len(result.history["value"]) == result.iterations + 1
    assert result.history["value"][-1] == result.value
    assert result.history["gradient_norm"][-1] == result.gradient_norm
    assert all(np.diff(result.history["value"]) <= 1e-12)
    assert result.evaluations.gradient >= 1


@pytest.mark.parametrize("solver", SOLVERS, ids=ident)
def test_lowers_a_network_and_stops_at_max_iter(iris, solver) -> None:
    X, y = iris
    net = deep()
    objective = fnn.Objective(net, X, y, l2=1e-3)
    result = with_limits(solver, 3, 0.0).minimize(objective, net.theta)
    assert (result.status, result.iterations) == ("max_iter", 3)
    assert result.value < objective.value(net.theta)
    assert result.value == pytest.approx(objective.value(result.theta), rel=1e-14)


@pytest.mark.parametrize("solver", SOLVERS, ids=ident)
def test_float32_ends_at_its_rounding_noise(iris, solver) -> None:
    X, y = iris
    net = softmax_regression("float32")
    result = with_limits(solver, 300, 0.0).minimize(fnn.Objective(net, X, y, l2=0.1), net.theta)
    assert result.value == pytest.approx(0.505922213544, abs=1e-3 if isinstance(solver, fnn.GradientDescent) else 2e-6)
    assert result.status in ("precision", "max_iter", "stalled", "converged")
    if type(solver) in (fnn.LBFGS, fnn.Newton, fnn.ARC, fnn.NonlinearCG):
        assert result.status == "precision"
        assert "float32; dtype='float64' goes further" in result.message


def test_evaluations_are_counted(iris) -> None:
    X, y = iris
    net = deep()
    objective = fnn.Objective(net, X, y, l2=1e-3)
    objective.hessian(net.theta)
    newton = fnn.Newton(3, 0.0).minimize(objective, net.theta)
    assert newton.evaluations.matrix == 3
    products = fnn.NewtonCG(3, 0.0).minimize(objective, net.theta)
    assert products.evaluations.product > 0
    assert products.evaluations.matrix == 0
    assert objective.evaluations.matrix == 4


# -- conjugate gradients
# --------------------------------------------------------------------------------------------------


FORMULAS = ("dai_kou", "polak_ribiere", "fletcher_reeves", "hager_zhang")


class Quadratic(fnn.Objective):
    """½ θ·A θ − b·θ, with A and b at hand."""

    def __init__(self, A: np.ndarray, b: np.ndarray) -> None:
        self.A, self.b, self.dtype, self.n_parameters = A, b, np.dtype(np.float64), len(b)
        self.evaluations = fnn.objective.Evaluations()
        self.asked: list[np.ndarray] = []

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations.gradient += 1
        self.asked.append(theta.copy())
        image = self.A @ theta
        return float(theta @ (0.5 * image - self.b)), image - self.b


@pytest.mark.parametrize("formula", FORMULAS)
def test_conjugate_gradients_follow_their_formula(iris, formula: str) -> None:
    X, y = iris
    objective, path = fnn.Objective(deep(), X, y, l2=1e-3), []
    fnn.NonlinearCG(25, 0.0, formula=formula).minimize(
        objective, deep().theta, callback=lambda each: path.append(each.theta.copy())
    )
    g = [objective.gradient(theta) for theta in path]
    p, steps = -g[0], np.diff(path, axis=0)
    for k, step in enumerate(steps):
        np.testing.assert_allclose(step / np.linalg.norm(step), p / np.linalg.norm(p), atol=1e-8)
        if k + 1 == len(steps):
            break
        change = g[k + 1] - g[k]
        if formula == "dai_kou":  # Dai and Kou 2013 with τ = s·y / s·s, by the step s and not by p
            tau = step @ change / (step @ step)
            beta = g[k + 1] @ change / (p @ change) - (
                tau + change @ change / (step @ change) - step @ change / (step @ step)
            ) * (g[k + 1] @ step) / (p @ change)
            beta = max(beta, 0.5 * (g[k + 1] @ p) / (p @ p))
        elif formula == "polak_ribiere":
            beta = max(g[k + 1] @ change / (g[k] @ g[k]), 0.0)
        elif formula == "fletcher_reeves":
            beta = g[k + 1] @ g[k + 1] / (g[k] @ g[k])
        else:  # Hager and Zhang 2005, equations 1.3, 1.4 and 1.6
            beta = (change - 2.0 * p * (change @ change) / (p @ change)) @ g[k + 1] / (p @ change)
            beta = max(beta, -1.0 / (np.linalg.norm(p) * min(0.01, np.linalg.norm(g[k]))))
        p = -g[k + 1] + beta * p
        if g[k + 1] @ p >= 0.0:
            p = -g[k + 1]


def test_the_first_step_is_the_mean_of_two_guesses(rng) -> None:
    root = rng.normal(size=(30, 20))
    objective = Quadratic(root.T @ root, rng.normal(size=20))
    path: list[np.ndarray] = []
    fnn.NonlinearCG(12, 0.0).minimize(objective, np.zeros(20), callback=lambda each: path.append(each.theta.copy()))
    g = [objective.A @ theta - objective.b for theta in path]
    p = -g[0]
    for k in range(1, len(path) - 1):
        s, y, before = path[k] - path[k - 1], g[k] - g[k - 1], p
        step = (s @ before) / (before @ before)
        beta = (y @ g[k] - (y @ y) / (before @ y) * (before @ g[k])) / (before @ y)
        p = -g[k] + max(beta, 0.5 * (before @ g[k]) / (before @ before)) * before
        by_slopes = step * (before @ g[k - 1]) / (p @ g[k])
        B = (y @ y) / (s @ y) * np.eye(20)  # Nocedal and Wright 2006, equation 6.19
        B = B - np.outer(B @ s, B @ s) / (s @ B @ s) + np.outer(y, y) / (s @ y)
        by_model = -(p @ g[k]) / (p @ B @ p)
        expected = min(10.0 * step, by_slopes ** (2 / 3) * by_model ** (1 / 3))
        at = next(i for i, theta in enumerate(objective.asked) if (theta == path[k]).all())
        np.testing.assert_allclose(objective.asked[at + 1] - path[k], expected * p, rtol=1e-6, atol=1e-9 * expected)


@pytest.mark.parametrize(("dtype", "activation"), [("float32", "relu"), ("float64", "relu"), ("float64", "tanh")])
def test_an_iteration_of_conjugate_gradients_takes_little_more_than_a_gradient(dtype: str, activation: str) -> None:
    X, y = fnn.datasets.load_digits()
    layers = [fnn.Dense(30, activation), fnn.Dense(10)]
    net = fnn.Sequential(layers, input_size=64, loss="cross_entropy", dtype=dtype, seed=0)
    found = {}
    for formula in ("dai_kou", "polak_ribiere"):
        objective = fnn.Objective(net, X / 16.0, y, l2=1e-3, threads=1)
        values: list[tuple[int, float]] = []

        def watch(each, objective=objective, values=values) -> None:
            values.append((objective.evaluations.gradient, each.value))

        result = fnn.NonlinearCG(200, 0.0, formula=formula).minimize(objective, net.theta, callback=watch)
        found[formula] = result, values
    result, values = found["dai_kou"]
    assert result.iterations == 200
    assert result.evaluations.gradient <= 1.15 * 200
    other = [value for count, value in found["polak_ribiere"][1] if count <= result.evaluations.gradient]
    assert result.value <= other[-1]  # the same gradients bring it as far, at least


# -- Newton
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_newton_solves_iris_to_eight_digits(iris, seed: int) -> None:
    X, y = iris
    net = deep(seed)
    objective = fnn.Objective(net, X, y, l2=1e-3)
    result = fnn.Newton(25, 1e-8).minimize(objective, net.theta)
    assert result.converged
    assert np.linalg.norm(objective.gradient(result.theta)) < 1e-8
    assert np.linalg.eigvalsh(objective.hessian(result.theta)).min() > -1e-8  # no saddle


@pytest.mark.parametrize("globalization", ["line_search", "trust_region"])
def test_newton_leaves_a_saddle(iris, globalization: str) -> None:
    X, y = iris
    net = fnn.Sequential(
        [fnn.Dense(10, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", dtype="float64", seed=0
    )
    net.theta[...] = 0.0  # the classes are of one size: the gradient vanishes, and the curvature is not definite
    objective = fnn.Objective(net, X, y, l2=1e-3)
    assert np.linalg.norm(objective.gradient(net.theta)) < 1e-12
    assert np.linalg.eigvalsh(objective.hessian(net.theta)).min() < -1e-2
    stuck = fnn.Newton(25, 1e-8, escape=False).minimize(objective, net.theta)
    assert (stuck.iterations, stuck.converged) == (0, True)
    result = fnn.Newton(100, 1e-8, globalization=globalization).minimize(objective, net.theta)
    assert result.converged
    assert result.value < 0.1 < stuck.value


def test_newton_solves_least_squares_in_one_step(rng) -> None:
    X, y = rng.normal(size=(50, 6)) * 10.0 ** np.arange(-1, 2).repeat(2), rng.normal(size=(50, 2))
    net = fnn.Sequential([fnn.Dense(2)], input_size=6, loss="squared_error", dtype="float64", seed=0)
    for size in (14, 1):  # by eigenvalues, and by Cholesky's factors
        quadratic_models.EIGEN_LIMIT, before = size, quadratic_models.EIGEN_LIMIT
        try:
            result = fnn.Newton(5, 1e-6, updates=1).minimize(fnn.Objective(net, X, y), net.theta)
        finally:
            quadratic_models.EIGEN_LIMIT = before
        assert (result.iterations, result.status) == (1, "converged")
        fit = fnn.linear.least_squares(X, y)
        np.testing.assert_allclose(result.theta[:12].reshape(6, 2), fit.weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.theta[12:], fit.bias, rtol=1e-4, atol=1e-6)


def test_newton_learns_small_mnist(mnist_dir) -> None:
    X, y, *_ = fnn.datasets.load_mnist()
    X, y = X[:1000].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255.0, y[:1000]
    layers = [fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(10)]
    net = fnn.Sequential(layers, input_size=196, loss="cross_entropy", dtype="float64", seed=0)

    def good(result: fnn.EpochResult) -> None:
        if net.evaluate(X, y)["accuracy"] >= 0.99:
            result.stop()

    history = net.fit(X, y, optimizer=fnn.Newton(10), l2=1e-4, callbacks=[good])
    assert net.evaluate(X, y)["accuracy"] >= 0.99
    assert history.result.status == "stopped"


def test_too_many_parameters_are_refused() -> None:
    net = fnn.Sequential([fnn.Dense(80), fnn.Dense(2)], input_size=80, loss="cross_entropy", seed=0)
    objective = fnn.Objective(net, np.zeros((1, 80)), [0])
    for solver in (fnn.Newton(), fnn.ARC()):
        with pytest.raises(ValueError, match="6,642 parameters has a Hessian of 352,929,312 bytes, max"):
            solver.minimize(objective, net.theta)


def test_blocks_and_diagonals_are_those_of_the_hessian(iris) -> None:
    X, y = iris
    net = deep()
    objective = fnn.Objective(net, X, y, l2=1e-3)
    H = objective.hessian(net.theta)
    v = np.cos(np.arange(len(H)))
    current = fnn.Newton(matrix="diagonal")._model(objective, net.theta)
    assert current.quadratic(v) == pytest.approx(v @ (np.diag(H) * v), rel=1e-10)
    expected = sum(v[s] @ H[s, s] @ v[s] for s in (slice(0, 50), slice(50, 160), slice(160, 193)))
    current = fnn.Newton(matrix="block", globalization="trust_region")._model(objective, net.theta)
    assert current.quadratic(v) == pytest.approx(expected, rel=1e-10)
    inverse, _ = fnn.Newton(matrix="block")._model(objective, net.theta).inverse(1e-3)
    spectral, _ = current.inverse(1e-3)
    last = slice(160, 193)  # the others are not definite alike
    np.testing.assert_allclose(inverse(v)[last], spectral(v)[last], rtol=1e-6)


# -- least squares
# -------------------------------------------------------------------------------------------------------


def curve(seed: int, outputs: int = 1) -> tuple[fnn.Sequential, np.ndarray, np.ndarray]:
    x = np.linspace(-3.0, 3.0, 200)[:, None]
    y = np.sin(x[:, 0]) * np.exp(-(x[:, 0] ** 2))
    layers = [fnn.Dense(10, "tanh"), fnn.Dense(outputs)]
    net = fnn.Sequential(layers, input_size=1, loss="squared_error", dtype="float64", seed=seed)
    return net, x, y if outputs == 1 else np.stack([y, np.cos(x[:, 0])], axis=1)


def test_levenberg_marquardt_fits_a_curve() -> None:
    good = 0
    for seed in range(10):
        net, x, y = curve(seed)

        def stop(iteration) -> None:
            if np.sqrt(2.0 * iteration.value) < 1e-5:
                raise StopIteration

        result = fnn.LevenbergMarquardt(3000, 0.0).minimize(fnn.Objective(net, x, y), net.theta, callback=stop)
        net.theta = result.theta
        good += np.sqrt(np.mean((net.predict(x) - y) ** 2)) < 1e-5
    assert good >= 9


@pytest.mark.parametrize("weighted", [False, True])
def test_its_normal_matrix_is_the_gauss_newton_matrix(rng, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.solvers import levenberg_marquardt

    monkeypatch.setattr(levenberg_marquardt, "WORKSPACE", 8 * 2 * 42 * 30)  # several chunks
    net, x, y = curve(0, outputs=2)
    w = rng.random(200) if weighted else None
    objective = fnn.Objective(net, x, y, w, l2=0.1)
    A = np.empty((net.n_parameters,) * 2, order="F")
    levenberg_marquardt.normal_matrix(objective, net.theta, A)
    A = np.tril(A) + np.tril(A, -1).T
    np.testing.assert_allclose(A, objective.ggn(net.theta), rtol=1e-10, atol=1e-13)


def test_levenberg_marquardt_of_a_singular_problem_and_a_penalty() -> None:
    x = np.ones((5, 3))  # one direction of four is determined
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", dtype="float64", seed=0)
    result = fnn.LevenbergMarquardt(100, 1e-9).minimize(fnn.Objective(net, x, np.full(5, 2.0)), net.theta)
    assert result.converged
    assert result.value < 1e-15
    penalised = fnn.Objective(net, x, np.full(5, 2.0), l2=0.5)
    result = fnn.LevenbergMarquardt(100, 1e-9).minimize(penalised, net.theta)
    assert result.value == pytest.approx(fnn.Newton(20, 1e-10).minimize(penalised, net.theta).value, rel=1e-12)
    other = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="huber", seed=0)
    with pytest.raises(ValueError, match="needs loss 'squared_error', got 'huber'"):
        other.fit(x, np.ones(5), optimizer=fnn.LevenbergMarquardt())


# -- full batches of MNIST
# -----------------------------------------------------------------------------------------------


def test_lbfgs_and_nlcg_on_mnist(mnist_dir) -> None:
    X, y, X_dev, y_dev = fnn.datasets.load_mnist()
    for solver in (fnn.LBFGS(40), fnn.NonlinearCG(40)):
        layers = [fnn.Dense(30, "relu"), fnn.Dense(10)]
        net = fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=0, input_scale=1 / 255)
        net.fit(X[:10000], y[:10000], optimizer=solver, l2=0.01)
        assert net.evaluate(X_dev, y_dev)["accuracy"] > 0.9


# -- as an optimizer of fit
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS, ids=ident)
def test_fit(iris, solver) -> None:
    X, y = iris
    net = deep(dtype="float32")
    seen = []
    history = net.fit(
        X,
        y,
        optimizer=with_limits(solver, 4, 0.0),
        l2=1e-3,
        sample_weight=np.linspace(1.0, 2.0, 150),
        validation_split=0.2,
        callbacks=[lambda result: seen.append((result.epoch, result["gradient_norm"], result.net.theta.copy()))],
    )
    assert history is net.history
    own = ("epoch", "loss", "gradient_norm", "step", "damping", "evaluations")
    expected = (*own, "val_loss", "val_accuracy", "seconds")
    assert history.keys() == expected
    assert history["epoch"] == [1, 2, 3, 4] == [s[0] for s in seen]
    assert history["gradient_norm"] == [s[1] for s in seen]
    assert (net.theta == seen[-1][2]).all()
    assert (net.theta == history.result.theta.astype(np.float32)).all()
    assert history["loss"][-1] < history["loss"][0]
    assert history.result.iterations == 4


def test_fit_minimises_what_it_says(iris) -> None:
    X, y = iris
    w = np.linspace(0.5, 2.0, 150)
    net = softmax_regression()
    history = net.fit(X, y, optimizer=fnn.LBFGS(200, 1e-8), sample_weight=w, class_weight={0: 3.0}, l2=0.1)
    assert history.result.converged
    weights = np.where(y == 0, 3.0, 1.0) * w
    assert np.linalg.norm(net.gradient(X, y, sample_weight=weights, l2=0.1)) < 1e-7
    assert history["loss"][-1] == pytest.approx(net.loss(X, y, sample_weight=weights, l2=0.1), rel=1e-12)


def test_early_stopping_and_verbose(iris, capsys: pytest.CaptureFixture[str]) -> None:
    X, y = iris
    net = deep()
    stopping = fnn.EarlyStopping(patience=2)
    history = net.fit(X, y, optimizer=fnn.LBFGS(500), validation_split=0.3, seed=0, callbacks=[stopping], verbose=1)
    assert history.result.status == "stopped"
    assert len(history) == stopping.best_epoch + 2
    assert stopping.best == min(history["val_loss"])
    assert "gradient=" in capsys.readouterr().err.replace("gradient ", "gradient=")


def test_standardize_sparse_and_batch_norm(iris) -> None:
    import scipy.sparse

    X, y = fnn.datasets.load_iris()
    layers = [fnn.Standardize(), fnn.Dense(6, "tanh"), fnn.BatchNorm(), fnn.Dense(3)]
    net = fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=0)
    history = net.fit(scipy.sparse.csr_array(X), y, optimizer=fnn.LBFGS(30), l2=1e-3)
    # The running statistics are those of the data, so that both modes are one.
    assert net.loss(X, y, l2=1e-3) == pytest.approx(history["loss"][-1], rel=1e-5)
    assert net.loss(X, y, l2=1e-3, training=True) == pytest.approx(history["loss"][-1], rel=1e-5)
    assert net.evaluate(X, y)["accuracy"] > 0.97
    net.fit(X, y, optimizer=fnn.Newton(3), l2=1e-3)
    with pytest.raises(ValueError, match="rows that do not depend on each other"):
        net.fit(X, y, optimizer=fnn.GaussNewtonCG(3), l2=1e-3)
    net.fit(X, y, optimizer=fnn.GaussNewtonCG(3, preconditioner=None), l2=1e-3)
    net.fit(X, y, epochs=1)  # other training goes on from there


def test_an_interruption_leaves_the_last_finished_iteration(iris) -> None:
    X, y = iris
    for solver in (fnn.LBFGS(50), fnn.NewtonCG(50), fnn.Newton(50)):
        net = deep()
        kept = []

        def interrupt(result, kept=kept) -> None:
            kept.append(result.net.theta.copy())
            if result.epoch == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            net.fit(X, y, optimizer=solver, l2=1e-3, callbacks=[interrupt])
        assert (net.theta == kept[-1]).all()
        assert len(net.history) == 3


def test_an_interruption_within_an_iteration(iris, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = iris
    net = deep()
    evaluate, count, kept = fnn.Objective._evaluate, [], []

    def interrupt(self, theta, gradient):
        count.append(1)
        if len(count) == 12:
            raise KeyboardInterrupt
        return evaluate(self, theta, gradient)

    monkeypatch.setattr(fnn.Objective, "_evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, optimizer=fnn.LBFGS(50), callbacks=[lambda result: kept.append(net.theta.copy())])
    assert (net.theta == kept[-1]).all()
    assert 1 <= len(net.history) < 12


def test_a_diverging_run_keeps_the_last_good_parameters(iris) -> None:
    X, _ = iris
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="poisson", seed=0)
    with pytest.raises(fnn.DivergenceError, match=r"stopped being finite in iteration"):
        net.fit(X, np.exp(X[:, :3]), optimizer=fnn.GradientDescent(line_search=None, learning_rate=50.0))
    assert np.isfinite(net.theta).all()
    net.theta[...] = 1e3
    before = net.theta.copy()
    with pytest.raises(fnn.DivergenceError, match=r"not finite at the start; the network is as it was"):
        net.fit(X, np.exp(X[:, :3]), optimizer=fnn.LBFGS())
    assert (net.theta == before).all()


def test_the_same_seed_gives_the_same_bits(iris) -> None:
    X, y = iris
    found = []
    for _ in range(2):
        net = deep()
        net.fit(X, y, optimizer=fnn.Newton(5), l2=1e-3, threads=1, deterministic=True)
        found.append(net.theta.copy())
    assert (found[0] == found[1]).all()


def test_networks_that_do_not_fit_are_refused(iris) -> None:
    X, y = iris
    dropout = fnn.Sequential([fnn.Dense(5), fnn.Dropout(0.5), fnn.Dense(3)], input_size=4, loss="cross_entropy")
    with pytest.raises(ValueError, match="needs a deterministic objective, got a Dropout at position 1"):
        dropout.fit(X, y, optimizer=fnn.LBFGS())
    frozen = fnn.Sequential(
        [fnn.Dense(5, learning_rate_multiplier=0.0), fnn.Dense(3)], input_size=4, loss="cross_entropy"
    )
    with pytest.raises(ValueError, match=r"LBFGS has no learning rate, got learning_rate_multiplier=0 of layer 0"):
        frozen.fit(X, y, optimizer=fnn.LBFGS())
    with pytest.raises(TypeError, match=r"LBFGS is a full-batch solver; use it with net\.fit"):
        deep().partial_fit(X, y, optimizer=fnn.LBFGS())
    with pytest.raises(TypeError, match="objective must be an Objective, got Sequential"):
        fnn.LBFGS().minimize(deep(), np.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.LBFGS(0), "max_iter must be an integer >= 1, got 0"),
        (lambda: fnn.LBFGS(tol=-1), "tol must be a finite number >= 0, got -1"),
        (lambda: fnn.LBFGS(memory=0), "memory must be an integer >= 1"),
        (lambda: fnn.LBFGS(dtype="float16"), "dtype must be 'float32', 'float64' or None"),
        (lambda: fnn.GradientDescent(line_search="armijo"), "line_search must be one of 'wolfe', None, got 'armijo'"),
        (lambda: fnn.NonlinearCG(formula="x"), "formula must be one of"),
        (lambda: fnn.Newton(matrix="x"), "matrix must be one of 'full', 'block', 'diagonal', got 'x'"),
        (lambda: fnn.Newton(globalization="wolfe"), "globalization must be one of"),
        (lambda: fnn.Newton(damping=0.0), "damping must be a finite number > 0"),
        (lambda: fnn.Newton(updates=0), "updates must be an integer >= 1"),
        (lambda: fnn.ARC(sigma=0), "sigma must be a finite number > 0"),
        (lambda: fnn.TrustRegion(method="dogleg"), "method must be one of"),
        (lambda: fnn.TrustRegion(radius=2.0, max_radius=1.0), "max_radius must be"),
        (lambda: fnn.GaussNewtonCG(preconditioner="x"), "preconditioner must be one of 'fisher', 'kfac', None"),
        (lambda: fnn.GaussNewtonCG(decay=2.0), "decay must be"),
        (lambda: fnn.LevenbergMarquardt(damping=-1), "damping must be"),
    ],
)
def test_bad_descriptions(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("solver", SOLVERS, ids=ident)
def test_descriptions_are_values(solver) -> None:
    assert pickle.loads(pickle.dumps(solver)) == solver == copy.deepcopy(solver)
    assert repr(solver).startswith(type(solver).__name__)
    with pytest.raises(AttributeError):
        solver.max_iter = 3
