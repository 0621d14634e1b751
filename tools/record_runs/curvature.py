"""Runs of solvers, the objective, curvature, and checks of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Results, case, classes, network, outcome, prefixed, values, weights, wide

import fastnn as fnn

# Solvers and the objective.

SOLVERS = {
    "gradient descent": fnn.GradientDescent(max_iter=6),
    "fixed steps": fnn.GradientDescent(max_iter=6, line_search=None),
    "cg": fnn.NonlinearCG(max_iter=8),
    "cg pr": fnn.NonlinearCG(max_iter=8, formula="polak_ribiere"),
    "lbfgs": fnn.LBFGS(max_iter=10),
    "newton cg": fnn.NewtonCG(max_iter=4),
    "trust region": fnn.TrustRegion(max_iter=5),
    "trust krylov": fnn.TrustRegion(max_iter=4, method="krylov"),
    "trust ncg": fnn.TrustRegion(max_iter=5, method="ncg"),
    "newton": fnn.Newton(max_iter=4),
    "newton layers": fnn.Newton(max_iter=4, matrix="block"),
    "newton diagonal": fnn.Newton(max_iter=4, matrix="diagonal"),
    "newton trust": fnn.Newton(max_iter=4, globalization="trust_region"),
    "arc": fnn.ARC(max_iter=4),
    "gauss newton": fnn.GaussNewtonCG(max_iter=4, cg_iterations=8),
    "levenberg marquardt": fnn.LevenbergMarquardt(max_iter=5),
}
for _name, _solver in SOLVERS.items():

    @case(f"solver {_name}")
    def solver(dtype: str, n: int, name: str = _name, solver: Any = _solver) -> Results:
        regression = name == "levenberg marquardt"
        X, y = values(400, 6, 2, dtype) if regression else classes(400, 6, 3, dtype)
        loss = "squared_error" if regression else "cross_entropy"
        net = network([fnn.Dense(9, "tanh"), fnn.Dense(2 + (not regression))], 6, dtype, loss)
        net.fit(X, y, optimizer=solver, l2=1e-3, sample_weight=weights(len(X)), validation_data=(X, y), threads=n)
        return {**outcome(net, X, y), "evaluations": list(vars(net.history.result.evaluations).values())}


@case("solvers of larger networks")
def large_solvers(dtype: str, n: int) -> Results:
    X, y = classes(dtype=dtype)
    layers = [fnn.Dense(128), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dense(10)]
    parts = {}
    for name in ("cg", "lbfgs"):
        net = network(layers, 64, dtype)
        net.fit(X, y, optimizer=SOLVERS[name], l2=1e-3, threads=n)
        parts[name] = outcome(net, X, y)
    net = network(wide(activation="tanh"), 64, dtype)
    net.fit(X, y, optimizer=SOLVERS["gauss newton"], l2=1e-3, threads=n)
    parts["gauss newton"] = outcome(net, X, y)
    return prefixed(parts)


@case("objective")
def objective(dtype: str, n: int) -> Results:
    X, y = classes(300, 6, 3, dtype)
    net = network([fnn.Dense(9, "tanh"), fnn.Dense(3)], 6, dtype)
    batches = [np.arange(0, 100), np.arange(50, 250)]
    results: Results = {}
    for name, given in {"all": {}, "batches": {"batches": batches}, "double": {"dtype": "float64"}}.items():
        J = fnn.Objective(net, X, y, weights(300), 1e-3, threads=n, **given)
        theta = net.theta.astype(J.dtype)
        results[f"{name}.value"], results[f"{name}.gradient"] = J.value_and_gradient(theta)
        results[f"{name}.hessian"], results[f"{name}.hessp"] = J.hessian(theta), J.hessp(theta, theta)
        results[f"{name}.ggn"], results[f"{name}.ggnp"] = J.ggn(theta), J.ggnp(theta, theta)
    return results


# Curvature.

SHAPES: dict[str, tuple[list[Any], Any, int]] = {
    "tanh": ([fnn.Dense(12, "tanh"), fnn.Dense(10, "softplus"), fnn.Dense(4)], "cross_entropy", 4),
    "relu": (
        [fnn.Dense(12, "relu"), fnn.Dense(10, bias=False), fnn.Dense(4)],
        fnn.losses.CrossEntropy(label_smoothing=0.1),
        4,
    ),
    "squares": ([fnn.Dense(12, "gelu"), fnn.Dense(3, "sigmoid")], "squared_error", 3),
    "poisson": ([fnn.Dense(12, "silu"), fnn.Dense(2)], "poisson", 2),
    "binary": ([fnn.Standardize(), fnn.Dense(12, "elu"), fnn.Dense(1)], "binary_cross_entropy", 1),
    "norms": (
        [fnn.Dense(12), fnn.LayerNorm(), fnn.Activation("tanh"), fnn.Dense(8), fnn.BatchNorm(), fnn.Dense(3)],
        "huber",
        3,
    ),
}


def curved(name: str, dtype: str, n_rows: int = 500) -> tuple[fnn.Sequential, np.ndarray, np.ndarray]:
    """A network that has been trained a little, and data."""
    layers, loss, k = SHAPES[name]
    X, y = classes(n_rows, 8, k, dtype) if k == 4 else values(n_rows, 8, k, dtype)
    if name == "binary":
        y = (y > 0).astype(dtype)
    if name == "poisson":
        y = np.floor(np.exp(y))
    net = network(layers, 8, dtype, loss)
    net.fit(X, y, epochs=2, optimizer=fnn.SGD(0.05))
    return net, X, y


for _name in SHAPES:

    @case(f"curvature {_name}")
    def curvature(dtype: str, n: int, name: str = _name) -> Results:
        """Matrices, blocks, diagonals, products and what is of every row alone."""
        c = fnn.curvature
        net, X, y = curved(name, dtype)
        of_all = {"sample_weight": weights(len(X)), "l2": 1e-3, "threads": n}
        few, here = (X[:40], y[:40]), {"threads": n}
        results: Results = {
            "hessian": c.hessian(net, X, y, **of_all),
            "training": c.hessian(net, X, y, training=True, **of_all),
            "ggn": c.ggn(net, X, y, **of_all),
            "fisher": c.empirical_fisher(net, X, y, **of_all),
            "hessian_diagonal": c.hessian_diagonal(net, X, y, **of_all),
            "ggn_diagonal": c.ggn_diagonal(net, X, y, **of_all),
            "preconditioner": c.preconditioner(net, X, y, **of_all) @ net.theta,
            "gradients": c.per_sample_gradients(net, *few, **here),
            "jacobian": c.output_jacobian(net, few[0], **here),
            "input_jacobian": c.input_jacobian(net, few[0], **here),
            "input_hessian": c.input_hessian(net, few[0], **here),
        }
        for kind, blocks in (("hessian", c.hessian_blocks), ("ggn", c.ggn_blocks)):
            results |= {f"{kind}_block{i}": block for i, block in blocks(net, X, y, **of_all).items()}
        operators = (c.hessian_operator, c.ggn_operator, c.empirical_fisher_operator)
        V = np.random.default_rng(4).standard_normal((net.n_parameters, 3)).astype(dtype)
        for make in operators:
            operator = make(net, X, y, **of_all)
            results[make.__name__], results[f"{make.__name__}s"] = operator @ net.theta, operator @ V
        if name in ("tanh", "relu"):
            results["softmax_jacobian"] = c.softmax_jacobian(net, X, **here)
        if name == "norms":
            return results
        layer = 1 if name == "binary" else 0
        results["row_blocks"] = c.per_sample_hessian_blocks(net, *few, layer=layer, **here)
        A, B = c.per_sample_hessian_blocks(net, *few, layer=layer, kronecker=True, **here)
        results |= {"row_left": A, "row_right": B}
        for kind in ("ggn", "mc", "empirical"):
            factors = c.kfac_factors(net, X, y, kind=kind, seed=3, **of_all)
            results |= {f"kfac_{kind}{i}": np.concatenate([F.ravel() for F in factors[i]]) for i in factors}
            results[f"kfac_{kind}"] = factors.inverse(damping=1e-2) @ net.theta
        return results


@case("curvature of larger networks")
def large_curvature(dtype: str, n: int) -> Results:
    c = fnn.curvature
    X, y = classes(dtype=dtype)
    net = network(wide(), 64, dtype)
    small = network([fnn.Dense(24, "tanh"), fnn.Dense(10)], 64, dtype)
    return {
        "hessian": c.hessian(small, X, y, threads=n),
        "ggn": c.ggn(small, X, y, threads=n),
        "fisher": c.empirical_fisher(small, X, y, threads=n),
        "hessp": c.hessian_operator(net, X, y, threads=n) @ net.theta,
        "ggnp": c.ggn_operator(net, X, y, threads=n) @ net.theta,
        "diagonal": c.hessian_diagonal(net, X, y, threads=n),
        "gradients": c.per_sample_gradients(net, X[:64], y[:64], threads=n),
    }


@case("diagnosis, Laplace, standard errors, influence")
def diagnosis(dtype: str, n: int) -> Results:
    c = fnn.curvature
    results: Results = {}
    for name in ("tanh", "squares"):
        net, X, y = curved(name, dtype)
        here = {"threads": n, "l2": 1e-2}
        report = c.convexity_report(net, X, y, **here)
        results[f"{name}.report"] = [report.gradient_norm, report.smallest, report.largest, report.residual]
        results[f"{name}.layers"] = [[part.smallest, part.largest] for part in report.layers]
        found = c.spectrum(net, X, y, n_steps=20, n_vectors=2, **here)
        results |= {f"{name}.nodes": found.nodes, f"{name}.weights": found.weights}
        results[f"{name}.trace"] = [
            c.trace(net, X, y, kind=kind, n_products=12, **here) for kind in ("hessian", "fisher")
        ]
        for structure in ("full", "block", "kfac", "last_layer"):
            posterior = c.Laplace(net, X, y, structure=structure, sample_weight=weights(len(X)), threads=n)
            mean, std, outputs, covariance = posterior.predictive(X[:50])
            results |= {f"{name}.{structure}": [posterior.prior_precision, posterior.log_marginal_likelihood()]}
            results |= {f"{name}.{structure}.mean": mean, f"{name}.{structure}.std": std}
            results |= {f"{name}.{structure}.covariance": covariance, f"{name}.{structure}.outputs": outputs}
    X, y = values(500, 8, 2, dtype)
    net = network([fnn.Dense(2)], 8, dtype, "squared_error")
    net.fit(X, y, optimizer=fnn.Newton(), l2=1e-2)
    for robust in (False, True):
        errors = c.standard_errors(net, X, y, l2=1e-2, robust=robust, threads=n)
        results |= {f"errors.{name}.{robust}": part for name, part in errors.items()}
    results["influence"] = c.influence(net, X, y, X[:20], y[:20], l2=1e-2, damping=0.1, threads=n)
    return results


@case("checks of gradients", threads=False)
def checks(dtype: str, n: int) -> Results:
    results: Results = {}
    for name in SHAPES:
        net, X, y = curved(name, dtype)
        gradient = fnn.check_gradient(net, X[:50], y[:50], l2=1e-2, n=30)
        hessian = fnn.check_hessian(net, X[:50], y[:50], n=8)
        results |= {f"{name}.gradient": gradient.error, f"{name}.hessian": hessian.error}
    return results


@case("linear least squares", threads=False)
def linear(dtype: str, n: int) -> Results:
    X, y = values(200, 6, 2, dtype)
    found = fnn.linear.least_squares(X, y, weights(200), 1e-2)
    return {f"part{i}": part for i, part in enumerate(found) if isinstance(part, (np.ndarray, float))}
