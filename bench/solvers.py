"""What the full-batch solvers reach, and in what time: ``python bench/solvers.py [SECTION ...]``.

Sections: iris (Newton against Adam), small_mnist (Newton on 14 x 14 images), curve (Levenberg-Marquardt against SciPy),
full_batch (L-BFGS and NLCG on 784-300-10), rosenbrock (counts of evaluations beside SciPy's), gauss_newton and kfac
(GaussNewtonCG, KFAC against Adam on 784-256-256-10). MNIST is read from FASTNN_DATA. Times are wall and processor
seconds of this machine as it is: compare within a run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

import fastnn as fnn

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


class Clock:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, processor = time.perf_counter() - self.wall, time.process_time() - self.processor
        return f"{wall:8.3f} s wall {processor:8.3f} s cpu"


def iris() -> None:
    """4-10-10-3 tanh, l2 = 1e-3, float64: Newton to a gradient norm of 1e-8; Adam to within 1e-4 of its objective."""
    X, y = fnn.datasets.load_iris()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rows = []
    for seed in range(20):
        net = fnn.Sequential(
            [fnn.Dense(10, "tanh"), fnn.Dense(10, "tanh"), fnn.Dense(3)],
            input_size=4,
            loss="cross_entropy",
            dtype="float64",
            seed=seed,
        )
        objective = fnn.Objective(net, X, y, l2=1e-3)
        single = fnn.Newton(200, 1e-8, updates=1).minimize(objective, net.theta)
        start = time.process_time()
        found = fnn.Newton(25, 1e-8).minimize(objective, net.theta)
        newton = time.process_time() - start
        adam: dict[tuple[float, int], float] = {}
        for rate in RATES:
            for batch_size in (16, 150):
                trained = net.copy()
                start, spent = time.process_time(), 0.0
                for result in fnn.Trainer(
                    trained, X, y, optimizer=fnn.Adam(rate), batch_size=batch_size, l2=1e-3, seed=0
                ).epochs(20000):
                    if result.epoch % 20 == 0:
                        spent = time.process_time() - start
                        if trained.loss(X, y, l2=1e-3) <= found.value + 1e-4:
                            break
                        if spent > 3.0:
                            spent = float("inf")
                            break
                adam[rate, batch_size] = spent
        best = min(adam, key=lambda key: adam[key])
        rows.append((found.iterations, found.gradient_norm, newton, adam[best]))
        print(
            f"seed {seed:2d}: {found.status} with {found.evaluations.matrix} Hessians, {found.evaluations.gradient} "
            f"gradients, |g| {found.gradient_norm:.1e}, J {found.value:.5f}, {newton * 1e3:.0f} ms; "
            f"one step per Hessian: {single.iterations} iterations; Adam{best} {adam[best] * 1e3:.0f} ms",
            flush=True,
        )
    print(
        f"most iterations {max(r[0] for r in rows)}; Adam / Newton, median {np.median([r[3] / r[2] for r in rows]):.1f}"
    )


def small_mnist() -> None:
    """196-10-10-10-10 tanh on 1,000 images of 14 x 14 pixels."""
    X, y, *_ = fnn.datasets.load_mnist()
    X, y = X[:1000].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196) / 255.0, y[:1000]
    for seed in range(5):
        for matrix in ("full", "block", "diagonal"):
            net = fnn.Sequential(
                [fnn.Dense(10, "tanh") for _ in range(3)] + [fnn.Dense(10)],
                input_size=196,
                loss="cross_entropy",
                dtype="float64",
                seed=seed,
            )

            def good(result: fnn.EpochResult, net: fnn.Sequential = net) -> None:
                if net.evaluate(X, y)["accuracy"] >= 0.99:
                    result.stop()

            clock = Clock()
            history = net.fit(X, y, optimizer=fnn.Newton(100, matrix=matrix), l2=1e-4, callbacks=[good])
            accuracy = net.evaluate(X, y)["accuracy"]
            print(f"seed {seed} {matrix:8s}: {accuracy:.3f} after {len(history)} iterations {clock}", flush=True)


def curve() -> None:
    """1-10-1 tanh to sin(x) exp(-x^2) on 200 points: time to a root mean square error of 1e-5."""
    x = np.linspace(-3.0, 3.0, 200)[:, None]
    y = np.sin(x[:, 0]) * np.exp(-(x[:, 0] ** 2))
    for seed in range(10):
        net = fnn.Sequential(
            [fnn.Dense(10, "tanh"), fnn.Dense(1)], input_size=1, loss="squared_error", dtype="float64", seed=seed
        )

        def good(iteration: fnn.solvers.Iteration) -> None:
            if np.sqrt(2.0 * iteration.value) < 1e-5:
                raise StopIteration

        objective = fnn.Objective(net, x, y, threads=1)
        start = time.process_time()
        found = fnn.LevenbergMarquardt(5000, 0.0).minimize(objective, net.theta, callback=good)
        ours = time.process_time() - start
        line = f"seed {seed}: {np.sqrt(2.0 * found.value):.1e} {found.iterations} iterations {ours:.3f} s; "
        for method in ("lm", "trf"):
            other = net.copy()

            def residual(theta: np.ndarray, other: fnn.Sequential = other) -> np.ndarray:
                other.theta[...] = theta
                z = other.decision_function(x) - y
                if np.sqrt(np.mean(z**2)) < 1e-5:
                    raise StopIteration
                return z

            def jacobian(theta: np.ndarray, other: fnn.Sequential = other) -> np.ndarray:
                other.theta[...] = theta
                return fnn.curvature.output_jacobian(other, x, threads=1)[:, 0]

            start = time.process_time()
            try:
                options: dict[str, Any] = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 5000}
                fit = scipy.optimize.least_squares(residual, net.theta.copy(), jac=jacobian, method=method, **options)
                end = f"{np.sqrt(2.0 * fit.cost / 200):.1e}"
            except StopIteration:
                end = "1e-05"
            line += f"SciPy {method} {end} {time.process_time() - start:.3f} s  "
        print(line, flush=True)


def full_batch() -> None:
    """784-300-10 relu, l2 = 0.01, 60,000 rows, 100 iterations."""
    X, y, X_dev, y_dev = fnn.datasets.load_mnist()
    for solver in (fnn.LBFGS(100, 1e-9), fnn.NonlinearCG(100, 1e-9), "L-BFGS-B", "CG"):
        net = fnn.Sequential(
            [fnn.Dense(300, "relu"), fnn.Dense(10)],
            input_size=784,
            loss="cross_entropy",
            seed=0,
            input_scale=1 / 255,
        )
        objective = fnn.Objective(net, X, y, l2=0.01)
        spent = [0.0, 0.0]
        evaluate = objective._evaluate

        def timed(
            theta: Any, gradient: bool, evaluate: Callable[..., Any] = evaluate, spent: list[float] = spent
        ) -> tuple[float, Any]:
            wall, processor = time.perf_counter(), time.process_time()
            found = evaluate(theta, gradient)
            spent[0] += time.perf_counter() - wall
            spent[1] += time.process_time() - processor
            return found

        objective._evaluate = timed  # type: ignore[method-assign]
        wall, processor = time.perf_counter(), time.process_time()
        if isinstance(solver, str):
            found = scipy.optimize.minimize(
                objective.value_and_gradient,
                net.theta.astype(np.float64),
                jac=True,
                method=solver,
                options={"maxiter": 100},
            )
            theta, iterations, name = found.x, found.nit, f"SciPy {solver}"
        else:
            result = solver.minimize(objective, net.theta)
            theta, iterations, name = result.theta, result.iterations, type(solver).__name__
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        count = objective.evaluations.gradient
        net.theta[...] = theta
        print(
            f"{name:14s} {iterations} iterations, {count} gradients, dev accuracy "
            f"{net.evaluate(X_dev, y_dev)['accuracy']:.4f}, {wall / iterations:.3f} s wall an iteration; over its own "
            f"gradient: wall {wall / iterations / (spent[0] / count):.2f}, cpu "
            f"{processor / iterations / (spent[1] / count):.2f}; own work {(processor - spent[1]) / iterations:.4f} s",
            flush=True,
        )


def rosenbrock() -> None:
    """Rosenbrock's function in 2, 10 and 100 dimensions, to a gradient norm of 1e-7: evaluations, beside SciPy's."""
    f, slope, hessian = scipy.optimize.rosen, scipy.optimize.rosen_der, scipy.optimize.rosen_hess
    options: dict[str, dict[str, Any]] = {
        "L-BFGS-B": {"gtol": 1e-8, "ftol": 0.0, "maxiter": 10_000, "maxfun": 100_000},
        "CG": {"gtol": 1e-8, "maxiter": 10_000},
        "Newton-CG": {"xtol": 1e-10},
        "trust-exact": {"gtol": 1e-7},
        "trust-krylov": {"gtol": 1e-7},
    }
    for n in (2, 10, 100):
        x0 = np.resize([-1.2, 1.0], n)
        print(f"{n} dimensions: iterations, gradients, H v, H, f at the end")
        for method in ("lbfgs", "nonlinear_cg", "newton_cg", "trust_region", "newton", "arc"):
            found = fnn.minimize(
                f, x0, gradient=slope, hessian=hessian, hessp=scipy.optimize.rosen_hess_prod, method=method,
                max_iter=10_000, tol=1e-7,
            )  # fmt: skip
            spent = found.evaluations
            counts = f"{found.iterations:7}{spent.gradient:7}{spent.product:7}{spent.matrix:7}"
            print(f"  {method:20s}{counts}{found.value:10.1e}")
        for method, limits in options.items():
            second = {} if method in ("L-BFGS-B", "CG") else {"hess": hessian}
            if method == "Newton-CG":
                second = {"hessp": scipy.optimize.rosen_hess_prod}
            result = scipy.optimize.minimize(f, x0, jac=slope, method=method, options=limits, **second)
            count = result.nhev if second else 0
            products, matrices = (count, 0) if method == "Newton-CG" else (0, count)
            print(f"  SciPy {method:14s}{result.nit:7}{result.njev:7}{products:7}{matrices:7}{result.fun:10.1e}")


def gauss_newton() -> None:
    """784-256-256-10 relu to 98 % test accuracy."""
    X, y, X_test, y_test = fnn.datasets.load_mnist()

    def network() -> fnn.Sequential:
        return fnn.Sequential(
            [fnn.Dense(256, "relu"), fnn.Dense(256, "relu"), fnn.Dense(10)],
            input_size=784,
            loss="cross_entropy",
            seed=0,
            input_scale=1 / 255,
        )

    for rate in RATES:
        net, clock, curve = network(), Clock(), []
        for result in fnn.Trainer(net, X, y, optimizer=fnn.Adam(rate), batch_size=128, seed=0).epochs(15):
            curve.append(net.evaluate(X_test, y_test)["accuracy"])
            if result.stopped or curve[-1] >= 0.98:
                break
        print(f"Adam({rate:g}) {len(curve)} epochs {clock}  {' '.join(f'{a:.4f}' for a in curve)}", flush=True)
    for solver in (
        fnn.GaussNewtonCG(30, curvature_rows=6000, cg_iterations=20, damping=0.03),
        fnn.GaussNewtonCG(30, curvature_rows=6000, cg_iterations=20, damping=0.03, preconditioner="kfac"),
    ):
        net, clock, curve = network(), Clock(), []

        def good(
            result: fnn.EpochResult, net: fnn.Sequential = net, curve: list[float] = curve, clock: Clock = clock
        ) -> None:
            curve.append(net.evaluate(X_test, y_test)["accuracy"])
            print(f"  {result.epoch} J {result.loss:.4f} accuracy {curve[-1]:.4f} {clock}", flush=True)
            if curve[-1] >= 0.98 or time.perf_counter() - clock.wall > 300.0:
                result.stop()

        history = net.fit(X, y, optimizer=solver, l2=1e-4, callbacks=[good])
        count = history.result.evaluations
        passes = count.gradient + 0.2 * count.product
        print(f"{solver.preconditioner} {len(history)} iterations, about {passes:.0f} passes over the data {clock}")


def kfac() -> None:
    """784-256-256-10 relu, float32, to 98 % test accuracy: K-FAC against Adam at its best rate, three seeds."""
    X, y, X_test, y_test = fnn.datasets.load_mnist()

    def run(optimizer: fnn.Adam | fnn.KFAC, batch_size: int, epochs: int, seed: int) -> tuple[float, int]:
        """Seconds of training, and epochs; infinite seconds where it is not reached."""
        layers = [fnn.Dense(256, "relu"), fnn.Dense(256, "relu"), fnn.Dense(10)]
        net = fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=seed, input_scale=1 / 255)
        trainer, seconds = fnn.Trainer(net, X, y, optimizer=optimizer, batch_size=batch_size, seed=seed), 0.0
        for result in trainer.epochs(epochs):
            seconds += result.seconds
            if net.evaluate(X_test, y_test)["accuracy"] >= 0.98:
                return seconds, result.epoch
        return float("inf"), epochs

    rates = (3e-4, 5e-4, 1e-3, 2e-3, 3e-3)
    for seed in range(3):
        adam = min(run(fnn.Adam(rate), 128, 9, seed) for rate in rates)
        ours = run(fnn.KFAC(fnn.CosineDecay(0.05, 3), update_every=60, kind="empirical"), 512, 3, seed)
        print(
            f"seed {seed}: Adam {adam[0]:.2f} s, {adam[1]} epochs; K-FAC {ours[0]:.2f} s, {ours[1]} epochs", flush=True
        )


SECTIONS = {
    function.__name__: function for function in (iris, small_mnist, curve, full_batch, rosenbrock, gauss_newton, kfac)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION")
    for name in parser.parse_args().sections or SECTIONS:
        print(f"-- {name}: {SECTIONS[name].__doc__}")
        SECTIONS[name]()
