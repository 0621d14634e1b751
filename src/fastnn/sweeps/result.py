"""The result of a sweep."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .._typing import JSON, Data, Options
from ..checks import check_integer
from ..names import listing
from ..network import Network
from ..sequential import Sequential
from ..training.data import take_rows
from ..training.history import EpochResult, History
from . import saving
from .criterion import Criterion
from .data import Fold, SharedData
from .ensemble import Ensemble, ensemble_of
from .runs import Outcome, Run, Weights

__all__ = ["SweepResult"]
__dir__ = listing(__all__)


class SweepResult:
    """Table, curves and networks of a sweep; what :func:`fastnn.sweep` returns.

    Members are numbered as their settings were made: member i is row i of the table.

    Attributes
    ----------
    parameters : list of dict
        The setting of each member.
    metric : Criterion
        ``metric.name``, and ``metric.rises``: whether more of it is better.
    folds : list of Fold
        ``fold.train`` and ``fold.validation``: indices of rows, None where they are all rows, or data given apart.
    outcomes : list of list of Outcome
        Of each member, one for each fold.
    networks : list of dict or None
        Descriptions of the members' networks.
    stopped : str
        Why the sweep ended before its members did: "interrupted", "time limit", or empty.
    seconds : float
        From its start to its end, those before a resumption included.
    ensemble : Ensemble or None
        That of ``sweep(ensemble=)``; see :meth:`select_ensemble`.
    trials : list of int or None
        Numbers of an Optuna study's trials, of members that it has asked for.
    """

    def __init__(
        self,
        parameters: list[Options],
        outcomes: list[list[Outcome]],
        folds: list[Fold],
        metric: Criterion,
        networks: list[JSON | None],
        *,
        read_off: list[int | None],
        stopped: str = "",
        seconds: float = 0.0,
        fingerprint: JSON | Callable[[], JSON] | None = None,
        runs: Sequence[Run] = (),
        packed: Sequence[JSON] = (),
        data: SharedData | None = None,
    ) -> None:
        self.parameters, self.outcomes, self.folds, self.metric = parameters, outcomes, folds, metric
        self.stopped, self.seconds = stopped, seconds
        self.networks, self._read_off, self._fingerprint = networks, read_off, fingerprint
        self._runs, self._packed, self._data = list(runs), list(packed), data
        self._refitted: tuple[Weights, JSON] | Any = None
        self.ensemble: Ensemble | None = None
        self.trials: list[int] | None = None

    def __getstate__(self) -> JSON:
        # Neither the data nor the model, which need not be something that can be pickled.
        fingerprint = self._fingerprint() if callable(self._fingerprint) else self._fingerprint
        packed = [saving.pack_meanwhile(run) for run in self._runs] or self._packed
        return {**self.__dict__, "_runs": [], "_packed": packed, "_fingerprint": fingerprint, "_data": None}

    def __len__(self) -> int:
        return len(self.parameters)

    # Scores.

    @cached_property
    def scores(self) -> np.ndarray:
        """Score of each member on each fold, (members, folds); NaN where there is none."""
        return np.array([[outcome.score for outcome in row] for row in self.outcomes]).reshape(len(self), -1)

    @cached_property
    def mean_scores(self) -> np.ndarray:
        """Mean over the folds, (members,); NaN where one failed."""
        means: np.ndarray = self.scores.mean(axis=1)
        return means

    @cached_property
    def ranks(self) -> np.ndarray:
        """Rank of each member by its mean score, 1 for the best, equal for equal ones; those without a score last."""
        keys = np.array([self.metric.key(score) for score in self.mean_scores])
        sorted_keys = np.sort(keys)
        ranks: np.ndarray = 1 + len(keys) - np.searchsorted(sorted_keys, keys, side="right")
        return ranks

    @property
    def has_scores(self) -> bool:
        """Whether there is a member with a score on every fold."""
        return not np.isnan(self.mean_scores).all()

    @property
    def best_index(self) -> int:
        """Number of the best member, the first of equal ones.

        Raises
        ------
        ValueError
            If no member has a score.
        """
        if np.isnan(self.mean_scores).all():
            why = next(
                (outcome.stopped for row in self.outcomes for outcome in row if outcome.failed), "none has ended"
            )
            raise ValueError(f"no member has a score on every fold; the first reason is: {why}")
        return int(np.argmin(self.ranks))

    @property
    def best_parameters(self) -> Options:
        """Setting of the best member."""
        return self.parameters[self.best_index]

    @property
    def best_score(self) -> float:
        """Mean score of the best member."""
        return float(self.mean_scores[self.best_index])

    # Tables.

    def to_dict(self) -> dict[str, list[Any]]:
        """The table as columns: parameters, scores, rank, epochs, why a member stopped, seconds.

        ``best_epoch``, ``epochs`` and ``seconds`` are means over the folds; ``trained_with`` is the number of the
        member whose longer training a member was read off, None for its own.
        """
        names = list(dict.fromkeys(name for row in self.parameters for name in row))
        columns: dict[str, list[Any]] = {name: [row.get(name) for row in self.parameters] for name in names}
        what = self.metric.name
        if self.scores.shape[1] > 1:
            for fold in range(self.scores.shape[1]):
                columns[f"{what}_fold_{fold}"] = self.scores[:, fold].tolist()
        columns[f"mean_{what}"] = self.mean_scores.tolist()
        columns[f"std_{what}"] = self.scores.std(axis=1).tolist()
        columns["rank"] = self.ranks.tolist()
        for name in ("best_epoch", "epochs", "seconds"):
            columns[name] = [float(np.mean([getattr(outcome, name) for outcome in row])) for row in self.outcomes]
        columns["stopped"] = ["; ".join(dict.fromkeys(outcome.stopped for outcome in row)) for row in self.outcomes]
        columns["trained_with"] = list(self._read_off)
        return columns

    @property
    def table(self) -> Any:
        """:meth:`to_dict` as a DataFrame where pandas is installed, else the dict."""
        try:
            import pandas
        except ImportError:
            return self.to_dict()
        table = pandas.DataFrame(self.to_dict())
        table["trained_with"] = table["trained_with"].astype("Int64")
        table.index.name = "member"
        return table

    @property
    def cv_results_(self) -> dict[str, Any]:
        """The table in the layout of scikit-learn's searches; scores that should fall are negated."""
        sign = 1.0 if self.metric.rises else -1.0
        results: dict[str, Any] = {"params": list(self.parameters)}
        for name in dict.fromkeys(name for row in self.parameters for name in row):
            mask = [name not in row for row in self.parameters]
            values = np.ma.MaskedArray(np.empty(len(self), object), mask=mask)
            for index, row in enumerate(self.parameters):
                if name in row:
                    values[index] = row[name]
            results[f"param_{name}"] = values
        for fold in range(self.scores.shape[1]):
            results[f"split{fold}_test_score"] = sign * self.scores[:, fold]
        results["mean_test_score"] = sign * self.mean_scores
        results["std_test_score"] = self.scores.std(axis=1)
        results["rank_test_score"] = self.ranks.astype(np.int32)
        seconds = np.array([[outcome.seconds for outcome in row] for row in self.outcomes]).reshape(len(self), -1)
        results["mean_fit_time"], results["std_fit_time"] = seconds.mean(axis=1), seconds.std(axis=1)
        results["mean_score_time"] = results["std_score_time"] = np.zeros(len(self))
        return results

    # Curves.

    @property
    def curves(self) -> np.ndarray:
        """The metric after each epoch, (members, folds, epochs); NaN where there was no such epoch."""
        return self.series("score")

    def series(self, name: str) -> np.ndarray:
        """A series of the histories after each epoch, (members, folds, epochs); NaN where there was no such epoch.

        Parameters
        ----------
        name : str
            ``"loss"``, ``"val_loss"``, ``"score"`` (the metric) and so on.

        Raises
        ------
        KeyError
            If no member has such a series.
        """
        found = [[outcome.series.get(name) for outcome in row] for row in self.outcomes]
        if all(values is None for row in found for values in row):
            known = dict.fromkeys(key for row in self.outcomes for outcome in row for key in outcome.series)
            raise KeyError(f"no series {name!r}; there are {', '.join(known) or 'none'}")
        longest = max(len(values) for row in found for values in row if values is not None)
        curves = np.full((*self.scores.shape, longest), np.nan)
        for member, row in enumerate(found):
            for fold, values in enumerate(row):
                if values is not None:
                    curves[member, fold, : len(values)] = values
        return curves

    # Networks.

    def network(self, index: int, fold: int = 0) -> Sequential:
        """A member's network as trained on a fold, with its history.

        Parameters
        ----------
        index : int
        fold : int, default=0

        Raises
        ------
        IndexError
            If there is no such member or fold.
        ValueError
            If it has no weights: it failed, was not started, or members are estimators; the reason is in the message.
        """
        outcome = self._outcome(index, fold)
        description = self.networks[index]
        if outcome.weights is None or description is None:
            what = "members are estimators" if outcome.estimator is not None else outcome.stopped
            raise ValueError(f"member {index} has no weights on fold {fold}: {what}")
        return _network(description, outcome.weights, outcome)

    def _outcome(self, index: int, fold: int) -> Outcome:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected a member below {len(self)}, got {index}")
        if not 0 <= fold < len(self.outcomes[index]):
            raise IndexError(f"fold: expected a fold below {len(self.outcomes[index])}, got {fold}")
        return self.outcomes[index][fold]

    def estimator(self, index: int, fold: int = 0) -> Any:
        """A member's fitted estimator, where members are estimators; as :meth:`network`."""
        outcome = self._outcome(index, fold)
        if outcome.estimator is None:
            raise ValueError(f"member {index} has no estimator on fold {fold}: {outcome.stopped}")
        return outcome.estimator

    @property
    def best_network(self) -> Any:
        """The best member: refitted on all rows after cross-validation, else as it was trained.

        A network, or an estimator where members are estimators.

        Raises
        ------
        ValueError
            If no member has a score, or `refit` was off.
        """
        index = self.best_index
        if self._refitted is not None:
            if isinstance(self._refitted, tuple):
                weights, description = self._refitted
                return _network(description, weights, None)
            return self._refitted
        if len(self.folds) > 1:
            raise ValueError("best_network: the sweep was not refitted on all rows; see network(i, fold)")
        estimator = self.outcomes[index][0].estimator
        return self.network(index) if estimator is None else estimator

    # Predictions on rows that a network was not trained on.

    @property
    def out_of_fold(self) -> np.ndarray:
        """:meth:`predict_out_of_fold` of the best member."""
        return self.predict_out_of_fold(self.best_index)

    def predict_out_of_fold(self, index: int, X: Data | None = None) -> np.ndarray:
        """Predictions of a member for the rows that each of its networks was validated on.

        Parameters
        ----------
        index : int
        X : array_like (N, D), optional
            The sweep's; needed where the result was loaded from a file.

        Returns
        -------
        ndarray (N, K) of float64
            Probabilities of a classifier, else predictions; the mean where a row was validated on several times, NaN
            where it never was.

        Raises
        ------
        ValueError
            If the validation data was given apart, a fold failed, or X is not known.
        """
        if X is None:
            if self._data is None:
                raise ValueError("X: expected the sweep's rows, which a file does not hold")
            X = self._data.X
        if any(fold.validation is None for fold in self.folds):
            raise ValueError("out_of_fold: the validation data was given apart; use network(i).predict")
        total: np.ndarray | None = None
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)  # type: ignore[arg-type]
        count = np.zeros(n_rows)
        for number, fold in enumerate(self.folds):
            assert fold.validation is not None
            values = self._predictions(index, number, X, fold.validation)
            if total is None:
                total = np.zeros((n_rows, values.shape[1]))
            np.add.at(total, fold.validation, values)
            np.add.at(count, fold.validation, 1.0)
        assert total is not None
        return total / np.where(count == 0.0, np.nan, count)[:, None]

    def _predictions(self, index: int, fold: int, X: Any, rows: np.ndarray) -> np.ndarray:
        part = take_rows(X, rows)
        outcome = self._outcome(index, fold)
        model: Any = outcome.estimator if outcome.estimator is not None else self.network(index, fold)
        classifies = model.loss_function.classifies if isinstance(model, Network) else hasattr(model, "predict_proba")
        values = np.asarray(model.predict_proba(part) if classifies else model.predict(part), np.float64)
        return values if values.ndim == 2 else values[:, None]

    def select_ensemble(self, n_draws: int = 25, *, candidates: int = 50) -> Ensemble:
        """An ensemble by greedy selection with replacement on the validation rows.

        Parameters
        ----------
        n_draws : int, default=25
            Most draws; those after the smallest loss are dropped.
        candidates : int, default=50
            Number of the best members to draw from, each with its last weights, and after ``sweep(ensemble=)`` with
            those of its best epoch besides. After cross-validation a member takes part with the networks of all its
            folds, each judged by its own validation rows.

        Returns
        -------
        Ensemble
            Weighted by the number of draws.

        Raises
        ------
        ValueError
            If no member has weights, members are estimators, or the result was loaded from a file.

        Notes
        -----
        Caruana, Niculescu-Mizil, Crew and Ksikes 2004. Draws are judged by the loss of the mean prediction, which is
        finer than accuracy.
        """
        if self._data is None:
            raise ValueError("select_ensemble needs the sweep's data, which a file does not hold")
        return ensemble_of(self, self._data, check_integer("n_draws", n_draws), check_integer("candidates", candidates))

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a safetensors file, from which :meth:`load` reads it and ``sweep(resume=path)`` goes on.

        Parameters
        ----------
        path : str or path-like
            Written aside and renamed: it appears complete or not at all.

        Raises
        ------
        ValueError
            If members are estimators: pickle those that you want.
        OSError
            If the file cannot be written.
        """
        saving.write_file(path, self.pack())

    def pack(self) -> JSON:
        """The result as nested values and arrays; for the package itself."""
        if any(outcome.estimator is not None for row in self.outcomes for outcome in row):
            raise ValueError("save: members are estimators, which the format cannot hold; pickle best_network instead")
        refitted = None
        if self._refitted is not None:
            weights, description = self._refitted
            refitted = {"weights": [weights.theta, weights.state], "network": description}
        return {
            "parameters": [
                {name: saving.shown(value) for name, value in setting.items()} for setting in self.parameters
            ],
            "outcomes": [[saving.pack_outcome(outcome) for outcome in row] for row in self.outcomes],
            "folds": [[fold.train, fold.validation] for fold in self.folds],
            "metric": [self.metric.name, self.metric.rises],
            "networks": self.networks,
            "read_off": self._read_off,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "fingerprint": self._fingerprint() if callable(self._fingerprint) else self._fingerprint,
            "runs": [saving.pack_meanwhile(run) for run in self._runs] or self._packed,
            "refitted": refitted,
            "ensemble": None if self.ensemble is None else self.ensemble.pack(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SweepResult:
        """Read what :meth:`save`, or a checkpoint of a sweep, has written.

        Parameters of kinds that a file cannot hold (functions and the like) come back as text.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged, of another kind or of a newer format.
        """
        content = saving.read_file(path, saving.CONTENT, "a sweep")
        try:
            saving.check_lengths(content)
            return cls._unpack(content)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged description: {error}") from error

    @classmethod
    def _unpack(cls, content: JSON) -> SweepResult:
        metric = Criterion.named(*content["metric"])
        result = cls(
            [{name: saving.unshown(value) for name, value in row.items()} for row in content["parameters"]],
            [[saving.unpack_outcome(outcome) for outcome in row] for row in content["outcomes"]],
            [Fold(*pair) for pair in content["folds"]],
            metric,
            content["networks"],
            read_off=content["read_off"],
            stopped=content["stopped"],
            seconds=content["seconds"],
            fingerprint=content["fingerprint"],
            packed=content["runs"],
        )
        if content["refitted"] is not None:
            refitted = content["refitted"]
            result._refitted = Weights(*refitted["weights"]), refitted["network"]
        if content["ensemble"] is not None:
            result.ensemble = Ensemble.unpack(content["ensemble"])
        return result

    # Pictures and text.

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> np.ndarray:
        """Draw the curves, the score against each parameter, and parallel coordinates, with matplotlib.

        Parameters
        ----------
        path : str or path-like, optional
            Where to save the figure; the suffix chooses the format.
        **options
            `title`, and `n_curves`, the number of curves to draw, the best ones first.

        Returns
        -------
        ndarray of matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If no member has a score.
        ImportError
            If matplotlib is not installed.
        """
        from .plots import plot_sweep

        return plot_sweep(self, path, **options)

    def best(self, n: int = 10) -> list[int]:
        """Numbers of the best members, the best first; those without a score are left out."""
        n = check_integer("n", n)
        order = np.argsort(self.ranks, kind="stable")
        return [int(index) for index in order if not math.isnan(self.mean_scores[index])][:n]

    def _lines(self, n: int) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of a short table."""
        names = list(dict.fromkeys(name for row in self.parameters for name in row))
        heads = ["rank", "member", *names, self.metric.name, "std", "epochs", "stopped"]
        rows = []
        for index in self.best(n):
            values = [_short(self.parameters[index].get(name, "")) for name in names]
            outcomes = self.outcomes[index]
            rows.append(
                [
                    str(self.ranks[index]),
                    str(index),
                    *values,
                    f"{self.mean_scores[index]:.4f}",
                    f"{self.scores[index].std():.4f}",
                    f"{np.mean([outcome.epochs for outcome in outcomes]):g}",
                    _short("; ".join(dict.fromkeys(outcome.stopped for outcome in outcomes))),
                ]
            )
        return heads, rows

    def _headline(self) -> str:
        failed = int(np.isnan(self.mean_scores).sum())
        folds = f" on {self.scores.shape[1]} folds" if self.scores.shape[1] > 1 else ""
        text = f"{len(self)} members{folds}, {self.seconds:.3g} s"
        text += f", {failed} without a score" if failed else ""
        return text + (f"; {self.stopped}" if self.stopped else "")

    def __repr__(self) -> str:
        heads, rows = self._lines(5)
        lines = [heads, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        table = ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([f"SweepResult: {self._headline()}", *(table if rows else [])])

    def _repr_html_(self) -> str:
        from html import escape

        heads, rows = self._lines(10)
        head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return (
            f"<p>SweepResult: {escape(self._headline())}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _network(description: JSON, weights: Weights, outcome: Outcome | None) -> Sequential:
    """A network with these weights, and with the history of an outcome."""
    net = saving.build_network(description, weights)
    if outcome is not None and "loss" in outcome.series and "learning_rate" in outcome.series:
        net.history = _history(outcome)
    return net


def _history(outcome: Outcome) -> History:
    names = [name for name in outcome.series if name != "score"]
    history = History(("epoch", *names, "seconds"))
    for epoch in range(outcome.epochs):
        values = {name: float(outcome.series[name][epoch]) for name in names}
        validation = {name: value for name, value in values.items() if name.startswith("val_")}
        result = EpochResult(
            epoch + 1,
            values["loss"],
            values.get("accuracy"),
            values["learning_rate"],
            outcome.seconds / max(1, outcome.epochs),
            validation,
        )
        history.append(result)
    return history


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(getattr(value, "__name__", value))
    return text if len(text) <= 40 else text[:37] + "..."
