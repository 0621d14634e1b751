"""``fnn.sweep``: many networks at once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .. import io
from .._core.threads import blas_threads
from .._typing import JSON, ArrayLike, Data, Options
from ..checks import check_integer, check_number, check_threads, check_verbose
from ..linalg.memory import available_memory
from ..names import listing
from ..network import Network
from ..training.callback_protocol import check_callbacks
from .checkpoints import Checkpointer, restore
from .criterion import Criterion
from .data import Fold, SharedData, folds_of
from .groups import kind_of
from .members import EstimatorModel, Model, Recipe, UnknownParameterError, model_of
from .progress import SweepProgress
from .result import SweepResult
from .runs import Mark, Outcome, Run
from .saving import shown
from .space import Space, settings_of
from .stopping import Halving, PlanMaker, plan_of
from .workers import Control, train_all

__all__ = ["SweepEvent", "sweep"]
__dir__ = listing(__all__)

#: Share of the available memory that weights may take.
MEMORY_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class SweepEvent:
    """An epoch of a member, as callbacks of a sweep are given it.

    Attributes
    ----------
    member, fold : int
        Where several members are read off one training, the one with the most epochs.
    epoch : int
        From 1.
    score : float
        The metric on the fold's validation rows.
    parameters : dict
        The setting.
    """

    member: int
    fold: int
    epoch: int
    score: float
    parameters: Mapping[str, Any]
    _stop: list[bool] = field(default_factory=list, repr=False)

    def stop(self) -> None:
        """Let this epoch be the member's last one on this fold."""
        self._stop.append(True)


def sweep(
    model: Callable[..., Any] | Any,
    space: Space | Any,
    X: Data,
    y: ArrayLike,
    *,
    n: int | None = None,
    cv: Any = None,
    validation_data: tuple[Any, ...] | None = None,
    validation_split: float = 0.0,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str | Callable[..., Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    halving: float | str | Halving | PlanMaker | None = None,
    refit: str | bool = "best",
    ensemble: int | None = None,
    keep: int | None = None,
    time_limit: float | None = None,
    threads: int | None = None,
    seed: int = 0,
    callbacks: Iterable[Callable[[SweepEvent], object]] = (),
    verbose: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: str | os.PathLike[str] | SweepResult | bool = False,
    **parameters: Any,
) -> SweepResult:
    """Train many networks side by side, and compare them: grids, random draws, folds, seeds.

    A member is a setting; on each fold it is trained as ``fit`` alone would train it, with the same parameters, seed
    and rows, with ``threads=1`` and BLAS on one thread: its weights, curves and scores have the same bits, whatever
    runs beside it, in whatever order, on however many threads.

    Parameters
    ----------
    model : callable or estimator
        A function of parameters that returns a new :class:`fastnn.Sequential`; or an estimator with scikit-learn's
        interface, a Pipeline for instance, whose parameters are then the names of the space.
    space : dict, list of dict, or DataFrame
        A dict of lists, SciPy's frozen distributions and :class:`fastnn.LogUniform`; settings as a list of dicts or as
        rows. Names that ``fit`` has go to ``fit`` (and to the model where it has them too, as `seed`); names of fields
        of the optimizer replace these fields; all others go to the model.
    X, y, sample_weight
        As for :meth:`fastnn.Sequential.fit`: arrays, checked and converted once.
    n : int, optional
        Draws from the space; needed where it has distributions. None takes the whole grid.
    cv : int, splitter or iterable, optional
        Folds: a number of them, each with its share of every class; a splitter of scikit-learn; pairs (train,
        validation) of row indices. One of `cv`, `validation_data` and `validation_split` is needed.
    validation_data : tuple (X, y) or (X, y, sample_weight), optional
    validation_split : float, default=0.0
        Share of the rows that is held out, the same ones for all members; from each class alike.
    groups : array_like (N,), optional
        For a splitter.
    metric : str or callable, optional
        A metric as for ``fit(metrics=)``: a name, or ``f(y_true, y_pred)``, which is better when larger unless it has
        an attribute ``greater_is_better = False``. None is accuracy, or r2 of regressions. For an estimator a scorer
        ``f(estimator, X, y)``, or None, its own ``score``.
    epochs : int, default=10
        Of each member, unless `epochs` is in the space. Members that differ in `epochs` alone are read off the longest
        training among them.
    patience : int, optional
        A member stops after so many epochs without a better score on its own validation rows, and keeps the weights of
        its best epoch, as with :class:`fastnn.EarlyStopping`.
    halving : float, "hyperband", Halving or Hyperband, optional
        Successive halving with this factor, or Hyperband, with epochs as the resource: see :class:`fastnn.Halving`.
    refit : {"best", False}, default="best"
        Whether to train the best member on all rows after cross-validation; with `patience` for the mean of its best
        epochs.
    ensemble : int, optional
        Draws of :meth:`SweepResult.select_ensemble`, from final weights and from those of the best epochs;
        ``result.ensemble``.
    keep : int, optional
        Number of the best members whose weights are kept; None keeps all.
    time_limit : float, optional
        Seconds. Members stop where they are; those that were not begun have no score. The best one is still refitted.
    threads : int, optional
        Workers, each with one member at a time; None is the current limit of the BLAS libraries.
    seed : int, default=0
        Of the draws and of the folds; and the `seed` of ``fit``, and of the model where it has such a parameter, for
        every member, unless `seed` is in the space.
    callbacks : iterable of callables, default=()
        Each is called with a :class:`SweepEvent` after each epoch of each member, by the worker, one at a time;
        ``event.stop()`` or StopIteration ends the member.
    verbose : int, default=0
        1 shows a progress bar (tqdm where installed, else lines on stderr).
    checkpoint : str or path-like, optional
        File that the sweep is saved to every `checkpoint_seconds`, and at its end.
    checkpoint_seconds : float, default=30.0
    resume : str, path-like, SweepResult or bool, default=False
        Continue this sweep: a file of ``result.save`` or of `checkpoint`, or a result. True is the checkpoint's file,
        if it exists. Give all other arguments as before; the results are those of a sweep without interruption, bit for
        bit, on whatever number of threads.
    **parameters
        Parameters that all members share, by the same names as in the space: ``optimizer=fnn.SGD(0.1)``,
        ``batch_size=32``, and those of the model.

    Returns
    -------
    SweepResult
        Also after Ctrl-C, with what there is.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, a parameter is known neither to fit, the optimizer nor the model, the space is
        empty or its grid has more than 10⁷ settings, a fold lacks a class, or no member can be made at all; nothing is
        trained then. What goes wrong in a member (a value that does not fit, divergence, a metric that raises) is
        written in its row.
    MemoryError
        If the weights of all members do not fit in memory; the message has their size.

    Notes
    -----
    Memory: X and y once, once more the validation rows of all folds, the weights of what is kept, and of each member at
    work its optimizer's state; with `halving` of all members that are alive.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()[:2]
    >>> def model(width, seed):
    ...     layers = [fnn.Standardize(), fnn.Dense(width, "tanh"), fnn.Dense(3)]
    ...     return fnn.Sequential(layers, input_size=4, loss="cross_entropy", seed=seed)
    >>> space = {"width": [4, 16], "learning_rate": [0.001, 0.01]}
    >>> result = fnn.sweep(model, space, X, y, cv=5, epochs=40, batch_size=16)
    >>> result.best_parameters["learning_rate"], len(result.folds)
    (0.01, 5)
    """
    began = time.monotonic()
    job = _Job(
        model,
        space,
        SharedData(X, y, sample_weight, validation_data),
        _Arguments(n, patience, halving, keep, seed, epochs, ensemble, metric, parameters),
    )
    job.split(cv, validation_data, validation_split, groups)
    limit = None if time_limit is None else check_number("time_limit", time_limit, above=0.0)
    workers = check_threads(threads) or blas_threads()
    if refit not in ("best", True, False, None):
        raise ValueError(f"refit must be 'best' or False, got {refit!r}")
    listeners = check_callbacks(callbacks)
    checkpointer = None
    if checkpoint is not None:
        checkpointer = Checkpointer(checkpoint, check_number("checkpoint_seconds", checkpoint_seconds, above=0.0))
    job.make_runs()
    spent = restore(resume, checkpoint, job.runs, lambda: job.fingerprint)
    plan = plan_of(halving, job.members, job.metric)
    control = Control(_listener(listeners) if listeners else None)

    def result() -> SweepResult:
        return job.result(control.why, spent + time.monotonic() - began)

    with SweepProgress(job.members, job.metric) if check_verbose(verbose) else nullcontext() as progress:

        def tick(active: set[Run]) -> None:
            if progress is not None:
                progress.show()
            if checkpointer is not None:
                checkpointer.tick(control, active, lambda: job.result("", spent + time.monotonic() - began, True))

        train_all(plan, control, workers, None if limit is None else began + limit, tick)
        try:
            found = result()
            if refit and len(found.folds) > 1 and control.why != "interrupted" and found.has_scores:
                found.stopped = job.refit(found, tick) or control.why
            if ensemble is not None and found.stopped != "interrupted" and found.has_scores:
                found.ensemble = found.select_ensemble(ensemble)
        except KeyboardInterrupt:
            control.stop("interrupted")
            found = result()
        found.seconds = spent + time.monotonic() - began
    if checkpointer is not None:
        found.save(checkpointer.path)
    return found


@dataclass(frozen=True)
class _Arguments:
    """Those of `sweep` that say what is trained, as they were given."""

    n: int | None
    patience: int | None
    halving: Any
    keep: int | None
    seed: int
    epochs: int | None
    ensemble: int | None
    metric: Any
    parameters: Options


class _Job:
    """The members of a sweep: settings, recipes, folds and runs."""

    def __init__(self, model: Any, space: Any, data: SharedData, arguments: _Arguments) -> None:
        self.arguments, self.data = arguments, data
        seed = check_integer("seed", arguments.seed, minimum=0)
        for name in ("patience", "keep", "ensemble"):
            if getattr(arguments, name) is not None:
                check_integer(name, getattr(arguments, name))
        epochs = 10 if arguments.epochs is None else check_integer("epochs", arguments.epochs)
        self.model: Model = model_of(model, arguments.parameters, {"optimizer": "adam", "epochs": epochs, "seed": seed})
        if isinstance(self.model, EstimatorModel):
            for name in ("epochs", "patience", "halving", "ensemble"):
                if getattr(arguments, name) is not None:
                    raise ValueError(f"{name}: the model is an estimator, which is not trained by epochs")
        self.settings = settings_of(space, arguments.n, np.random.default_rng([seed, 0]))
        self.fold_generator = np.random.default_rng([seed, 1])
        self.recipes: list[Recipe | None] = []
        self.errors: list[str] = []
        self.networks: list[JSON | None] = []
        self.work: list[float] = []
        self._probe: Any = None  # a member's network, or estimator
        self._make_recipes()
        probe = self._probe if isinstance(self._probe, Network) else None
        self.metric = Criterion(arguments.metric, probe)

    def _make_recipes(self) -> None:
        """Recipe, description and work of each setting; or why it cannot be made."""
        first_error: Exception | None = None
        known: dict[Any, tuple[JSON | None, float]] = {}
        for index, setting in enumerate(self.settings):
            recipe: Recipe | None = None
            found: tuple[JSON | None, float] = None, 1.0
            error = ""
            try:
                recipe = self.model.recipe(setting, f"space, setting {index}")
                if recipe.fit:
                    recipe.options()
                found = self._describe(recipe, known)
            except UnknownParameterError:
                raise
            except Exception as problem:  # of one setting: a row with a reason
                first_error = first_error or problem
                recipe, error = None, f"failed: {type(problem).__name__}: {problem}"
            self.recipes.append(recipe)
            self.errors.append(error)
            self.networks.append(found[0])
            self.work.append(found[1])
        if first_error is not None and all(recipe is None for recipe in self.recipes):
            raise first_error

    def _describe(self, recipe: Recipe, known: dict[Any, tuple[JSON | None, float]]) -> tuple[JSON | None, float]:
        """Description and parameters of a setting's network, made once for all that differ in other things."""
        try:
            key = frozenset((name, value) for name, value in recipe.model.items() if name != "seed")
            if key in known:
                return known[key]
        except TypeError:  # a value has no hash
            key = None
        made: Any = self.model.build(recipe)
        self._probe = made if self._probe is None else self._probe
        found: tuple[JSON | None, float] = None, 1.0
        if isinstance(made, Network):
            made.feature_names, made.classes_ = self.data.names, self.data.classes(made)
            found = io.describe_network(made), float(made.n_parameters)
        if key is not None:
            known[key] = found
        return found

    def split(self, cv: Any, validation_data: Any, validation_split: float, groups: ArrayLike | None) -> None:
        """Make the folds, and check the data against a member."""
        labels = None
        probe = self._probe
        if isinstance(probe, Network):
            labels = self.data.labels(probe)
        elif getattr(probe, "_estimator_type", None) == "classifier" or hasattr(probe, "predict_proba"):
            labels = np.unique(np.asarray(self.data.y), return_inverse=True)[1]
        self.folds: list[Fold] = folds_of(
            cv, validation_data, validation_split, self.data, labels, groups, self.fold_generator
        )
        if isinstance(probe, Network):
            recipe = next(recipe for recipe in self.recipes if recipe is not None)
            for number, fold in enumerate(self.folds):
                self.data.dataset(probe, fold, number, recipe.fit.get("class_weight"))

    @cached_property
    def fingerprint(self) -> JSON:
        """What a resumed sweep must share, each as text."""
        arguments = self.arguments
        parts = {
            "settings": [{name: shown(value) for name, value in row.items()} for row in self.settings],
            "parameters": {name: shown(value) for name, value in arguments.parameters.items()},
            "data and folds": self.data.fingerprint(self.folds),
            "metric": self.metric.name,
            "seed": int(arguments.seed),
            "epochs": arguments.epochs,
            "patience": arguments.patience,
            "halving": repr(arguments.halving),
            "ensemble": arguments.ensemble is not None,
        }
        return {name: json.dumps(value, sort_keys=True) for name, value in parts.items()}

    def make_runs(self) -> None:
        """The runs: one for each fold and for each group of settings that differ in `epochs` alone."""
        groups: dict[Any, list[int]] = {}
        for index, recipe in enumerate(self.recipes):
            if recipe is not None:
                groups.setdefault(_without_epochs(recipe, index), []).append(index)
        self.runs: list[Run] = []
        self.members: list[list[Run]] = [[] for _ in self.settings]
        self.read_off: list[int | None] = [None] * len(self.settings)
        for indices in groups.values():
            found = [(index, recipe) for index in indices if (recipe := self.recipes[index]) is not None]
            found.sort(key=lambda pair: pair[1].epochs)
            longest, recipe = found[-1]
            for index, _ in found[:-1]:
                self.read_off[index] = longest
            marks = [Mark(max(1, other.epochs), index) for index, other in found]
            kind = kind_of(recipe, self.networks[longest], self.work[longest])
            for number, fold in enumerate(self.folds):
                run = self._run(recipe, marks, fold, number)
                run.kind = None if kind is None else (*kind, number)
                run.work = self.work[longest] * (self.data.n_rows if fold.train is None else len(fold.train))
                for index in indices:
                    self.members[index].append(run)
        self._check_memory()
        if self.arguments.keep is not None:
            keeper = _Keeper(self.arguments.keep, self.members, self.metric)
            for run in self.runs:
                run.settled = keeper.settled

    def _run(self, recipe: Recipe, marks: list[Mark], fold: Fold, number: int) -> Run:
        run = Run(
            len(self.runs),
            recipe,
            marks,
            fold,
            number,
            model=self.model,
            data=self.data,
            metric=self.metric,
            patience=self.arguments.patience,
            keep_best=self.arguments.ensemble is not None,
        )
        self.runs.append(run)
        return run

    def _check_memory(self) -> None:
        """Refuse what does not fit, with its size."""
        available = available_memory()
        if available is None or isinstance(self.model, EstimatorModel):
            return
        arguments = self.arguments
        sizes = sorted((work * 8 for work in self.work), reverse=True)
        kept = sizes if arguments.keep is None else sizes[: arguments.keep]
        copies = (
            (2 if arguments.ensemble is not None else 1) if arguments.halving is None else 7
        )  # θ, two moments, and what a snapshot holds
        size = int(sum(kept) * len(self.folds) * copies)
        if size > MEMORY_SHARE * available:
            what = (
                "the training states of all members" if arguments.halving is not None else "the weights of all members"
            )
            raise MemoryError(
                f"sweep: {what}, {len(kept):,} on {len(self.folds)} folds, are about {size:,} bytes, more than "
                f"{MEMORY_SHARE:.0%} of the {available:,} of available memory; give keep=, fewer members or fewer folds"
            )

    def result(self, why: str, seconds: float, meanwhile: bool = False) -> SweepResult:
        """What there is now; `meanwhile`: runs are at work."""
        outcomes = []
        now = {run.number: run.meanwhile() if meanwhile else run.now(why or "interrupted") for run in self.runs}
        for index, runs in enumerate(self.members):
            if runs:
                outcomes.append([now[run.number][index] for run in runs])
            else:
                outcomes.append([Outcome(stopped=self.errors[index]) for _ in self.folds])
        return SweepResult(
            self.settings,
            outcomes,
            self.folds,
            self.metric,
            self.networks,
            read_off=self.read_off,
            stopped=why,
            seconds=seconds,
            fingerprint=lambda: self.fingerprint,
            runs=self.runs,
            data=self.data,
        )

    def refit(self, found: SweepResult, tick: Callable[[set[Run]], Any]) -> str:
        """Train the best member on all rows; returns "interrupted", or an empty string."""
        index = found.best_index
        recipe = self.recipes[index]
        assert recipe is not None
        epochs = max(1, recipe.epochs)
        if self.arguments.patience is not None and not recipe.is_whole:
            epochs = max(1, round(float(np.mean([outcome.best_epoch for outcome in found.outcomes[index]]))))
        run = Run(
            len(self.runs),
            recipe,
            [Mark(epochs, index)],
            Fold(None, None),
            -1,
            model=self.model,
            data=SharedData(self.data.X, self.data.y, self.data.sample_weight, None),
            metric=None,
            patience=None,
            keep_best=False,
        )
        control = Control(None)
        train_all(plan_of(None, [[run]], self.metric), control, 1, None, tick)
        outcome = run.outcomes.get(index)
        if outcome is None or outcome.failed:
            return control.why
        description = self.networks[index]
        found._refitted = outcome.estimator
        if outcome.weights is not None and description is not None:
            found._refitted = outcome.weights, description
        return control.why


class _Keeper:
    """Lets go of the weights of all but the best members.

    Parameters
    ----------
    keep : int
    members : list of list of Run
        Runs of each member, one for each fold.
    metric : Criterion
    """

    def __init__(self, keep: int, members: list[list[Run]], metric: Criterion) -> None:
        self._keep, self._members, self._metric = keep, members, metric
        self._best: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def settled(self, member: int) -> None:
        """A run has an outcome for a member."""
        with self._lock:
            outcomes = [run.outcomes.get(member) for run in self._members[member]]
            scores = [outcome.score for outcome in outcomes if outcome is not None]
            if len(scores) < len(outcomes):
                return
            self._best.append((-self._metric.key(float(np.mean(scores))), member))
            self._best.sort()
            for _, dropped in self._best[self._keep :]:
                for run in self._members[dropped]:
                    run.outcomes[dropped].weights = run.outcomes[dropped].best = None
            del self._best[self._keep :]


def _without_epochs(recipe: Recipe, index: int) -> Any:
    """Equal for members that differ in `epochs` alone."""
    if recipe.is_whole:
        return index
    rest = {**recipe.model, **{name: value for name, value in recipe.fit.items() if name != "epochs"}}
    try:
        key = frozenset(rest.items())
        hash(key)
    except TypeError:
        key = frozenset((name, repr(shown(value))) for name, value in rest.items())
    return key, "epochs" in recipe.model and index


def _listener(callbacks: list[Any]) -> Callable[[Run], bool]:
    """Calls the callbacks after an epoch of a run."""

    def tell(run: Run) -> bool:
        event = SweepEvent(run.marks[-1].member, run.fold_number, run.epoch, run.scores[-1], run.parameters)
        for callback in callbacks:
            try:
                returned = callback(event)
            except StopIteration:
                event.stop()
                continue
            if returned is not None:
                raise TypeError(
                    f"callbacks: {callback!r} returned {returned!r:.60}, expected None; event.stop() ends the member"
                )
        return bool(event._stop)

    return tell
