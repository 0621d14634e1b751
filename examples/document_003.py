"""Document 003: each of its systems on iris and digits, in one table.

Logistic and softmax regression, a deep network, L2, dropout, mini-batches, momentum, RMSProp, Adam, three decays of the
learning rate, batch normalisation, early stopping, and a random search of hyper-parameters; and its numerical check of
reverse differentials. Splits and label codes are scikit-learn's, the search is fnn.sweep's.

    python examples/document_003.py --seeds 5 --output figures
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.special import logsumexp, softmax
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

import fastnn as fnn
from fastnn.comparison import Comparison, ComparisonRun

COLUMNS = ("train loss", "dev loss", "test loss", "train acc", "dev acc", "test acc", "ms")


# -- data -------------------------------------------------------------------------------------------------------------


Part = tuple[np.ndarray, np.ndarray]


class Data(NamedTuple):
    """Rows to train on, to choose hyper-parameters by, and to judge by: each a pair (X, y)."""

    train: Part
    dev: Part
    test: Part


def split(X: np.ndarray, y: np.ndarray, seed: int) -> Data:
    """A random split with the document's ratios: 60:20:20 up to 10,000 rows, 98:1:1 beyond."""
    part = 0.2 if len(y) <= 10_000 else 0.01
    X, X_test, y, y_test = train_test_split(X, y, test_size=part, stratify=y, random_state=seed)
    X, X_dev, y, y_dev = train_test_split(X, y, test_size=len(y_test), stratify=y, random_state=seed)
    return Data((X, y), (X_dev, y_dev), (X_test, y_test))


def load(name: str) -> tuple[np.ndarray, np.ndarray, LabelEncoder]:
    """Features, labels as numbers from 0, and the encoder that gives their names back."""
    if name == "digits":
        X, y, _, names = fnn.datasets.load_digits(return_names=True)
    else:
        X, y, _, names = fnn.datasets.load_iris(return_names=True)
    encoder = LabelEncoder()
    labels = np.array([names[k] for k in y])
    if name == "iris, 1 class":
        labels = np.where(labels == names[1], labels, "other")  # the one between the others: no plane parts it off
        encoder.fit(["other", names[1]])
        return X, (labels == names[1]).astype(np.int64), encoder
    return X, encoder.fit_transform(labels), encoder


# -- systems ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """One row of the table: a network, and how it is trained."""

    name: str
    data: str
    layers: Callable[[], list[Any]]
    optimizer: fnn.optimizers.Optimizer
    batch_size: int | None = 32
    options: dict[str, Any] = field(default_factory=dict)
    patience: int | None = None
    epochs: float = 1.0  # times those that are asked for


def logistic() -> list[Any]:
    """Logistic regression: its sigmoid is inside the loss."""
    return [fnn.Dense(1)]


def one_hidden() -> list[Any]:
    """A single hidden layer before it."""
    return [fnn.Dense(8, "tanh"), fnn.Dense(1)]


def deep() -> list[Any]:
    """64-32-10 with relu."""
    return [fnn.Dense(64, "relu"), fnn.Dense(32, "relu"), fnn.Dense(10)]


def dropout() -> list[Any]:
    """The deep network with dropout after its hidden layers; never at the output."""
    return [fnn.Dense(64, "relu"), fnn.Dropout(0.2), fnn.Dense(32, "relu"), fnn.Dropout(0.2), fnn.Dense(10)]


def batch_norm() -> list[Any]:
    """The deep network with batch normalisation before each activation."""
    return [
        *(fnn.Dense(64), fnn.BatchNorm(), fnn.Activation("relu")),
        *(fnn.Dense(32), fnn.BatchNorm(), fnn.Activation("relu")),
        fnn.Dense(10),
    ]


def batch_norm_dropout() -> list[Any]:
    """Both of them."""
    return [
        *(fnn.Dense(64), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.2)),
        *(fnn.Dense(32), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.2)),
        fnn.Dense(10),
    ]


def systems() -> list[System]:
    """The document's systems, in its order; each differs from one above it in what its name says."""
    digits, descent = "digits", fnn.SGD(0.02)
    return [
        System("logistic regression", "iris, 1 class", logistic, fnn.SGD(0.3), epochs=5.0),
        System("one hidden layer", "iris, 1 class", one_hidden, fnn.SGD(0.3), epochs=5.0),
        System("softmax regression", "iris", lambda: [fnn.Dense(3)], fnn.SGD(0.3), epochs=5.0),
        System("softmax regression", digits, lambda: [fnn.Dense(10)], descent),
        System("deep, whole batch", digits, deep, fnn.SGD(0.2), None),
        System("deep, mini-batches", digits, deep, descent),
        System("… L2 0.01", digits, deep, descent, options={"l2": 0.01}),
        System("… dropout", digits, dropout, descent),
        System("… momentum", digits, deep, fnn.SGD(0.02, momentum=0.9)),
        System("… RMSProp", digits, deep, fnn.RMSProp(1e-3, rho=0.9)),
        System("… Adam", digits, deep, fnn.Adam(1e-3)),
        System("… rational decay", digits, deep, fnn.SGD(fnn.RationalDecay(0.2, 1.0))),
        System("… exponential decay", digits, deep, fnn.SGD(fnn.ExponentialDecay(0.2, 0.95))),
        System("… root decay", digits, deep, fnn.SGD(fnn.RootDecay(0.2))),
        System("… batch norm", digits, batch_norm, descent),
        System("… batch norm, dropout", digits, batch_norm_dropout, descent),
        System("… Adam, early stopping", digits, deep, fnn.Adam(1e-3), patience=5, epochs=3.0),
    ]


def method(system: System, n_features: int, epochs: int) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A system as `fnn.compare` takes it: what makes the network, on standardised features, and what `fit` is given."""
    loss = "binary_cross_entropy" if system.data == "iris, 1 class" else "cross_entropy"

    def network(seed: int) -> fnn.Sequential:
        return fnn.Sequential([fnn.Standardize(), *system.layers()], input_size=n_features, loss=loss, seed=seed)

    options = {**system.options, "optimizer": system.optimizer, "batch_size": system.batch_size}
    options["epochs"] = max(1, round(epochs * system.epochs))
    if system.patience is not None:
        options["callbacks"] = [fnn.EarlyStopping(patience=system.patience)]
    return network, options


def train(rows: Sequence[System], splits: Sequence[Data], epochs: int) -> Comparison:
    """Train all systems of one data set on each split, from as many starts."""
    runs: list[ComparisonRun] = []
    for seed, data in enumerate(splits):
        tried = {system.name: method(system, data.train[0].shape[1], epochs) for system in rows}
        found = fnn.compare(tried, *data.train, validation_data=data.dev, seeds=[seed], threads=1)
        if found.stopped:
            raise KeyboardInterrupt
        runs += found.runs
    return Comparison(tuple(runs))


def score(run: ComparisonRun, data: Data) -> list[float]:
    """Losses, without penalties, and accuracies on the three parts, and the milliseconds of training."""
    scores = [run.net.evaluate(*part) for part in data]
    return [s["loss"] for s in scores] + [s["accuracy"] for s in scores] + [1000 * run.seconds]


# -- random search ----------------------------------------------------------------------------------------------------


def search(data: Data, trials: int, epochs: int, seed: int) -> tuple[System, fnn.SweepResult]:
    """Adam's learning rate, β₁ and l2 drawn on logarithmic scales; the trial with the least dev loss is kept."""
    space = {
        "learning_rate": fnn.LogUniform(1e-4, 1e-1),
        "beta1": fnn.LogUniform(0.001, 0.999, complement=True),
        "l2": fnn.LogUniform(1e-6, 1e-1),
    }
    pattern = System("… random search", "digits", deep, fnn.Adam())
    network, options = method(pattern, data.train[0].shape[1], epochs)
    result = fnn.sweep(
        network, space, *data.train, n=trials, validation_data=data.dev, metric="loss", seed=seed, **options
    )
    best = result.best_parameters
    adam = fnn.Adam(best["learning_rate"], beta1=best["beta1"])
    return replace(pattern, optimizer=adam, options={"l2": best["l2"]}), result


# -- numerical checks -------------------------------------------------------------------------------------------------


def vector_valued(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax of a vector: R[i, j] = ∂p_j / ∂x_i = p_j ([i = j] − p_i)."""
    p = softmax(x)
    return p, np.diag(p) - np.outer(p, p)


def vector_of_matrix(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-sum-exp of each row of a matrix: R[i, j, k] = ∂s_k / ∂X_ij = [i = k] softmax(X_i)_j."""
    return logsumexp(X, axis=1), np.einsum("ij,ik->ijk", softmax(X, axis=1), np.eye(len(X)))


def matrix_valued(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X Xᵀ: R[i, j, k, l] = ∂(X Xᵀ)_kl / ∂X_ij = [i = k] X_lj + [i = l] X_kj."""
    identity = np.eye(len(X))
    return X @ X.T, np.einsum("ik,lj->ijkl", identity, X) + np.einsum("il,kj->ijkl", identity, X)


def normalised(Z: np.ndarray, sign: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation without scale and shift, by the closed form of the document's appendix B.

    With rows n, m as samples and columns d, c as features: R[n, d, m, c] = [d = c] θ_d ([n = m] − (1 + û_nd û_md) / N).
    The appendix ends with a plus before the fraction: `sign` shows that it does not pass.
    """
    N, D = Z.shape
    theta = 1 / np.sqrt(Z.var(axis=0) + 1e-5)
    U = (Z - Z.mean(axis=0)) * theta
    inner = np.eye(N)[:, None, :] + sign * (1 + np.einsum("nd,md->ndm", U, U)) / N
    return U, np.einsum("dc,d,ndm->ndmc", np.eye(D), theta, inner)


def checks() -> list[tuple[str, fnn.GradientReport, bool]]:
    """Every check with its name, its report, and whether it is to pass."""
    rng = np.random.default_rng(0)
    Z, gamma, beta = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=3)

    def forward(Z: np.ndarray) -> np.ndarray:
        return fnn.kernels.batch_norm_forward(Z, gamma, beta)[0]

    def backward(Z: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        _, mean, variance = fnn.kernels.batch_norm_forward(Z, gamma, beta)
        return fnn.kernels.batch_norm_backward(cotangent, Z, gamma, mean, variance)[0]

    X, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    options: dict[str, Any] = {"input_size": 4, "loss": "cross_entropy", "dtype": "float64", "seed": 0}
    plain = fnn.Sequential([fnn.Dense(5, "tanh"), fnn.Dense(3)], **options)
    layers = [fnn.Dense(5), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Dense(3)]
    normal = fnn.Sequential(layers, **options)

    def without_penalty(theta: np.ndarray) -> tuple[float, np.ndarray]:
        net = plain.copy()
        net.theta = theta
        return net.loss(X, y, l2=0.1), net.gradient(X, y)

    return [
        ("softmax, vector to vector", fnn.check_gradient(vector_valued, rng.normal(size=4)), True),
        ("log-sum-exp, matrix to vector", fnn.check_gradient(vector_of_matrix, rng.normal(size=(3, 4))), True),
        ("X Xᵀ, matrix to matrix", fnn.check_gradient(matrix_valued, rng.normal(size=(3, 4))), True),
        ("batch norm, closed form", fnn.check_gradient(normalised, Z), True),
        ("… with the appendix's plus", fnn.check_gradient(lambda Z: normalised(Z, 1.0), Z), False),
        ("batch norm, compiled kernels", fnn.check_gradient(forward, Z, vjp=backward), True),
        ("network with batch norm and L2", fnn.check_gradient(normal, X, y, l2=0.1, training=True), True),
        ("network with L2", fnn.check_gradient(plain, X, y, l2=0.1), True),
        ("… L2 left out of the gradient", fnn.check_gradient(without_penalty, plain.theta), False),
    ]


# -- output -----------------------------------------------------------------------------------------------------------


def show_checks() -> None:
    """Run and print the numerical checks; SystemExit if one does not end as it should."""
    print("numerical checks of reverse differentials")
    for name, report, expected in checks():
        verdict = "passed" if report else "failed, as it should" if not expected else "FAILED"
        print(f"  {name:32}{report.checked:5} components  error {report.error:7.1e}  {verdict}")
        if bool(report) != expected:
            raise SystemExit(str(report))


def show(table: dict[tuple[str, str], np.ndarray]) -> None:
    """Print the table of medians."""
    print(f"{'system':24}{'data':14}" + "".join(f"{name:>11}" for name in COLUMNS))
    for (name, data), row in table.items():
        losses = "".join(f"{value:11.4f}" for value in row[:3])
        accuracies = "".join(f"{100 * value:10.2f}%" for value in row[3:6])
        print(f"{name:24}{data:14}{losses}{accuracies}{row[6]:11.1f}")


def draw(found: Comparison, path: Path) -> None:
    """Training loss over the epochs of all networks on digits: medians and ranges over the splits."""
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharey=True)
    names = found.methods
    half = len(names) // 2
    for axis, part in zip(axes, (names[:half], names[half:]), strict=True):
        losses = {
            name.removeprefix("… "): [{"loss": run["loss"], "epoch": run["epoch"]} for run in found.histories[name]]
            for name in part
        }
        fnn.plot_histories(losses, ax=axis, log=True)
        axis.set_ylabel("training loss, penalties included")
        axis.legend(fontsize="small", loc="lower left")
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> dict[tuple[str, str], np.ndarray]:
    """Run everything.

    Returns
    -------
    dict
        For each (system, data) the medians over the seeds, in the order of `COLUMNS`.
    """
    parser = argparse.ArgumentParser(description="The systems of document 003 on iris and digits.")
    parser.add_argument("--seeds", type=int, default=5, help="number of splits and starts (default: 5)")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of each training (default: 40)")
    parser.add_argument("--trials", type=int, default=12, help="of the random search (default: 12)")
    parser.add_argument("--quick", action="store_true", help="1 split, 3 epochs, 2 trials")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the files (default: figures)")
    options = parser.parse_args(argv)
    if options.quick:
        options.seeds, options.epochs, options.trials = 1, 3, 2
    if min(options.seeds, options.epochs, options.trials) < 1:
        parser.error("--seeds, --epochs and --trials must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)

    show_checks()

    start = time.perf_counter()
    sets = {name: load(name) for name in ("iris, 1 class", "iris", "digits")}
    splits = {name: [split(X, y, seed) for seed in range(options.seeds)] for name, (X, y, _) in sets.items()}
    rows = systems()
    chosen, searched = search(splits["digits"][0], options.trials, options.epochs, seed=0)
    rows.append(chosen)
    found = {
        name: train([system for system in rows if system.data == name], splits[name], options.epochs) for name in sets
    }
    table: dict[tuple[str, str], np.ndarray] = {}
    for system in rows:
        runs = [run for run in found[system.data].runs if run.method == system.name]
        results = [score(run, data) for run, data in zip(runs, splits[system.data], strict=True)]
        table[system.name, system.data] = np.median(results, axis=0)
    print(f"\nmedians over {options.seeds} splits and starts, {options.epochs} epochs, float32, one thread")
    show(table)

    adam: Any = chosen.optimizer
    print(
        f"\nrandom search, the best of {options.trials} by the first split's dev loss: learning rate "
        f"{adam.learning_rate:.2g}, beta1 {adam.beta1:.3g}, l2 {chosen.options['l2']:.2g}"
    )
    encoder = sets["iris"][2]
    data = splits["iris"][0]
    net = found["iris"].runs[0].net
    decoded = encoder.inverse_transform(net.predict(data.test[0][:4]))
    print("labels decoded, of four test flowers:", ", ".join(str(name) for name in decoded))

    with (options.output / "document_003.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "data", *COLUMNS])
        writer.writerows([*key, *(f"{value:.6g}" for value in row)] for key, row in table.items())
    draw(found["digits"], options.output / "document_003.png")
    searched.plot(options.output / "document_003_search.png", title=f"random search: {options.trials} settings")
    print(
        f"all of it took {time.perf_counter() - start:.1f} s; saved document_003.csv and two .png in {options.output}"
    )
    return table


if __name__ == "__main__":
    main()
