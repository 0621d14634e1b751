"""Ensembles: networks whose predictions are averaged, and the greedy selection of those that help each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from .. import io
from .._typing import JSON, ArrayLike, Data
from ..checks import check_flag, check_number
from ..losses import Loss
from ..metrics import Metrics, check_metrics, default_scores
from ..names import listing
from ..network import Network
from ..outputs import expectations
from ..schema import NUMBER, Anything, Items, Record
from ..sequential import Sequential
from .data import Fold, SharedData
from .runs import Outcome, Weights
from .saving import ARRAY, build_network, read_file, write_file

__all__ = ["CONTENT", "Ensemble", "ensemble_of", "of_outputs", "select_greedily"]
__dir__ = listing(__all__)

CONTENT = Items(
    Record({"network": Record(others=Anything()), "weight": NUMBER, "theta": ARRAY, "state": ARRAY}), minimum=1
)


class Ensemble:
    """Networks whose predictions are averaged.

    ::

        p(x) = Σ_m w_m p_m(x) / Σ_m w_m

    of probabilities, rates or values; the class is the one of the largest mean probability.

    Parameters
    ----------
    networks : iterable of Sequential
        With the same inputs, outputs, classes and inverse link (softmax, sigmoid, exp or identity).
    weights : array_like, optional
        One positive number for each; None is 1.

    Attributes
    ----------
    networks : tuple of Sequential
    weights : ndarray of float64
        They sum to 1.

    Raises
    ------
    ValueError, TypeError
        If networks do not fit each other, or a weight is out of range.

    Notes
    -----
    Networks that differ in their seeds alone are the deep ensembles of Lakshminarayanan, Pritzel and Blundell 2017;
    the spread of their predictions is what `return_std` gives.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()[:2]
    >>> def model(seed):
    ...     return fnn.Sequential([fnn.Dense(8, "relu"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=seed)
    >>> result = fnn.sweep(model, {"seed": range(4)}, X, y, validation_split=0.2, epochs=40)
    >>> ensemble = fnn.Ensemble(result.network(i) for i in range(4))
    >>> ensemble.predict_proba(X).shape
    (150, 3)
    """

    def __init__(self, networks: Iterable[Sequential], weights: ArrayLike | None = None) -> None:
        self.networks = tuple(networks)
        if not self.networks:
            raise ValueError("networks: expected at least one, got none")
        for index, net in enumerate(self.networks):
            if not isinstance(net, Network):
                raise TypeError(f"networks[{index}]: expected a Sequential, got {type(net).__name__}")
            if _form(net) != _form(self.networks[0]):
                raise ValueError(
                    f"networks[{index}]: expected inputs, outputs, inverse link and classes of the first, "
                    f"{_form(self.networks[0])!r:.300}, got {_form(net)!r:.300}"
                )
        given = np.ones(len(self.networks)) if weights is None else np.asarray(weights)
        if given.shape != (len(self.networks),):
            raise ValueError(f"weights: expected shape ({len(self.networks)},), got {given.shape}")
        checked = np.array(
            [check_number(f"weights[{i}]", weight, above=0.0) for i, weight in enumerate(given.tolist())]
        )
        self.weights = checked / checked.sum()

    @property
    def loss_function(self) -> Loss:
        """The first network's loss, which :meth:`evaluate` uses."""
        return self.networks[0].loss_function

    def __len__(self) -> int:
        return len(self.networks)

    # Predictions.

    def _means(self, X: Data, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the networks' predictions (N, K) in float64, and their standard deviation."""
        mean = squares = np.zeros(0)
        for weight, net in zip(self.weights, self.networks, strict=True):
            values = of_outputs(net, net.outputs(X, threads)).astype(np.float64)
            mean = mean + weight * values if mean.size else weight * values
            squares = squares + weight * values**2 if squares.size else weight * values**2
        return mean, np.sqrt(np.maximum(squares - mean**2, 0.0))

    def outputs(self, X: Data, threads: int | None = None) -> np.ndarray:
        """Outputs z (N, K) of which softmax, sigmoid or exp is the mean prediction; in the first network's dtype."""
        mean, _ = self._means(X, threads)
        return self.link(mean)

    def link(self, mean: np.ndarray) -> np.ndarray:
        """The z (N, K) of which softmax, sigmoid or exp is this mean prediction."""
        dtype = self.networks[0].dtype
        link, tiny = self.loss_function.inverse_link, float(np.finfo(dtype).tiny)
        if link == "sigmoid":
            mean = np.log(np.maximum(mean, tiny)) - np.log(np.maximum(1.0 - mean, tiny))
        elif link != "identity":
            mean = np.log(np.maximum(mean, tiny))
        return mean.astype(dtype)

    def predict_proba(self, X: Data, *, threads: int | None = None) -> np.ndarray:
        """Mean probabilities (N, K), as of :meth:`fastnn.Sequential.predict_proba`; two columns for one output.

        Raises
        ------
        ValueError, TypeError
            If X does not fit, or the networks are regressions.
        """
        if not self.loss_function.classifies:
            raise ValueError(f"predict_proba needs classifiers, got loss {self.loss_function.name!r}; use predict")
        mean, _ = self._means(X, threads)
        if mean.shape[1] == 1:
            mean = np.concatenate([1.0 - mean, mean], axis=1)
        return mean.astype(self.networks[0].dtype)

    def predict(
        self, X: Data, *, return_std: bool = False, threads: int | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predictions, as of :meth:`fastnn.Sequential.predict`.

        Parameters
        ----------
        X : array_like (N, D)
        return_std : bool, default=False
            Whether to return the standard deviation of the networks' predictions, too; for regressions.
        threads : int, optional

        Returns
        -------
        predictions : ndarray
        deviation : ndarray of the same shape
            With ``return_std=True``.

        Raises
        ------
        ValueError, TypeError
            If X does not fit, or `return_std` is asked of classifiers.
        """
        mean, deviation = self._means(X, threads)
        if not check_flag("return_std", return_std):
            if not self.loss_function.classifies:
                return self._shaped(mean)
            first = self.networks[0]
            return first.named(first.decide(self.link(mean)))
        if self.loss_function.classifies:
            raise ValueError("return_std is for regressions; predict_proba of classifiers says how sure they are")
        return self._shaped(mean), self._shaped(deviation)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        values = values.astype(self.networks[0].dtype)
        return values[:, 0] if values.shape[1] == 1 else values

    def evaluate(
        self,
        X: Data,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics | None = None,
        threads: int | None = None,
    ) -> dict[str, float]:
        """Loss and scores of the mean predictions, as of :meth:`fastnn.Sequential.evaluate`.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        """
        first = self.networks[0]
        checked = check_metrics(metrics, self.loss_function)
        rows, targets, weight = first.check_data(X, y, sample_weight)
        mean, _ = self._means(rows, threads)
        Z = self.link(mean)
        scores = default_scores(self.loss_function, first.kernels, Z, targets, weight, first.decide)
        natural = mean[:, 0] if mean.shape[1] == 1 else mean
        for metric in checked:
            scores[metric.name] = metric(self.loss_function, targets, natural, weight)
        return scores

    # Files and text.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ensemble to a safetensors file, which :meth:`load` reads.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        write_file(path, {"ensemble": self.pack()})

    def pack(self) -> list[JSON]:
        """The networks as nested values and arrays; for the package itself."""
        return [
            {
                "network": io.describe_network(net),
                "weight": float(weight),
                "theta": net.theta.copy(),
                "state": net.state.copy(),
            }
            for weight, net in zip(self.weights, self.networks, strict=True)
        ]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` has written.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged, of another kind or of a newer format.
        """
        content = read_file(path, {"ensemble": CONTENT}, "an ensemble")
        try:
            return cls.unpack(content["ensemble"])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged description: {error}") from error

    @classmethod
    def unpack(cls, parts: list[JSON]) -> Self:
        """The inverse of :meth:`pack`."""
        networks = [build_network(part["network"], Weights(part["theta"], part["state"])) for part in parts]
        return cls(networks, [part["weight"] for part in parts])

    def __repr__(self) -> str:
        shown = [f"{weight:.3g} x {net!r}" for weight, net in zip(self.weights, self.networks, strict=True)][:4]
        more = [f"… {len(self) - 4} more"] if len(self) > 4 else []
        return "\n".join([f"Ensemble of {len(self)} networks:", *(f"  {line}" for line in (*shown, *more))])


def _form(net: Network) -> tuple[int, int, str, list[str] | None]:
    classes = None if net.classes_ is None else net.classes_.tolist()
    return net.input_size, net.n_outputs, net.loss_function.inverse_link, classes


def of_outputs(net: Network, Z: np.ndarray) -> np.ndarray:
    """Predictions (N, K) from outputs z: probabilities, rates or values."""
    return expectations(net.loss_function, net.kernels, Z)


def select_greedily(predictions: Sequence[np.ndarray], loss: Any, n_draws: int) -> list[int]:
    """Greedy selection with replacement: how often each candidate is drawn.

    Each draw adds the candidate with which the loss of the mean prediction is smallest, the first of equal ones. The
    draws up to the smallest of all these losses count.

    Parameters
    ----------
    predictions : sequence of ndarray (N, K)
        Of each candidate, on rows that it was not trained on.
    loss : callable
        Of mean predictions (N, K).
    n_draws : int

    Returns
    -------
    list of int
        One count for each candidate.

    Notes
    -----
    Caruana, Niculescu-Mizil, Crew and Ksikes 2004.
    """
    total = np.zeros_like(predictions[0])
    drawn: list[int] = []
    losses: list[float] = []
    for count in range(1, n_draws + 1):
        values = [loss((total + candidate) / count) for candidate in predictions]
        best = int(np.argmin(values))
        drawn.append(best)
        losses.append(float(values[best]))
        total = total + predictions[best]
    used = drawn[: int(np.argmin(losses)) + 1]
    return [used.count(index) for index in range(len(predictions))]


class Candidates(Protocol):
    """Members to select from: a :class:`fastnn.SweepResult`."""

    outcomes: list[list[Outcome]]
    folds: list[Fold]
    networks: list[JSON | None]

    def best(self, n: int) -> list[int]:
        """Numbers of the best members."""
        ...


def ensemble_of(result: Candidates, data: SharedData, n_draws: int, n_candidates: int) -> Ensemble:
    """See :meth:`fastnn.SweepResult.select_ensemble`."""
    found: list[list[Sequential]] = []
    for index in result.best(n_candidates):
        description, row = result.networks[index], result.outcomes[index]
        for kept in ([outcome.weights for outcome in row], [outcome.best for outcome in row]):
            weights = [one for one in kept if one is not None]
            if description is not None and len(weights) == len(row):
                found.append([build_network(description, one) for one in weights])
    if not found:
        raise ValueError("select_ensemble: no member has weights on all folds")
    parts = [data.validation_part(found[0][0], fold, number) for number, fold in enumerate(result.folds)]
    predictions = [
        np.concatenate([of_outputs(net, net.outputs(X, 1)) for net, (X, _, _) in zip(nets, parts, strict=True)])
        for nets in found
    ]
    y = np.concatenate([part[1] for part in parts])
    weight = None if parts[0][2] is None else np.concatenate([part[2] for part in parts if part[2] is not None])
    judge = Ensemble([found[0][0]])

    def loss(mean: np.ndarray) -> float:
        value: float = judge.loss_function.value(found[0][0].kernels, judge.link(mean), y, weight)
        return value

    counts = select_greedily([one.astype(np.float64) for one in predictions], loss, n_draws)
    chosen = [(net, count) for nets, count in zip(found, counts, strict=True) if count for net in nets]
    return Ensemble([net for net, _ in chosen], [count for _, count in chosen])
