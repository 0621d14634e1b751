"""Which members go on: all to their end, successive halving, Hyperband."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..names import listing
from ..scalars import check_integer, check_number
from .criterion import Criterion
from .runs import Run, Task

__all__ = ["Halving", "Hyperband", "Plan", "PlanMaker", "Task", "plan_of"]
__dir__ = listing(__all__)


@dataclass(frozen=True)
class Halving:
    """Successive halving: members are compared at the same epoch, and the best 1 / `factor` of them go on.

    Rungs are at ⌈E / factor^k⌉ epochs, E = `epochs` of the sweep, as long as there are members to drop and the epochs
    are at least `min_epochs`; of n members ⌈n / factor⌉ go on from a rung.

    Parameters
    ----------
    factor : float, default=3.0
        Greater than 1.
    min_epochs : int, default=1
        Epochs of the first rung, at least.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    Jamieson and Talwalkar 2016. A member whose folds differ counts with their mean; one that has stopped by patience
    counts with the score that it has kept.
    """

    factor: float = 3.0
    min_epochs: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", check_number("factor", self.factor, above=1.0))
        object.__setattr__(self, "min_epochs", check_integer("min_epochs", self.min_epochs))

    def rungs(self, epochs: int, n: int) -> list[int]:
        """Epochs at which members are compared, for n members."""
        found: list[int] = []
        reach = epochs / self.factor
        while self.min_epochs <= math.ceil(reach) < (found[-1] if found else epochs) and n > 1:
            found.append(math.ceil(reach))
            n = math.ceil(n / self.factor)
            reach /= self.factor
        return found[::-1]


@dataclass(frozen=True)
class Hyperband(Halving):
    """Hyperband: successive halving several times over, each with another number of epochs before the first comparison.

    Members are dealt out to brackets s = S, …, 0, S = ⌊log(E / min_epochs) / log factor⌋, in the proportions
    (S + 1) / (s + 1) · factor^s of the paper; those of bracket s are first compared at ⌈E / factor^s⌉ epochs.

    Parameters
    ----------
    factor : float, default=3.0
    min_epochs : int, default=1

    Notes
    -----
    Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, algorithm 1.
    """

    def brackets(self, epochs: int, n: int) -> list[tuple[int, int]]:
        """Number of members and number of rungs of each bracket."""
        most = max(0, math.floor(math.log(max(1.0, epochs / self.min_epochs)) / math.log(self.factor) + 1e-9))
        shares = [(most + 1) / (s + 1) * self.factor**s for s in range(most, -1, -1)]
        exact = [n * share / sum(shares) for share in shares]
        counts = [math.floor(share) for share in exact]
        rest = sorted(range(len(counts)), key=lambda i: counts[i] - exact[i])
        for index in rest[: n - sum(counts)]:
            counts[index] += 1
        return [(count, most - index) for index, count in enumerate(counts) if count]


class Plan(Protocol):
    """What is to be trained: the first tasks, and those that follow when one is done."""

    def first(self) -> list[Task]:
        """The tasks to begin with."""

    def done(self, run: Run) -> list[Task]:
        """A task has been trained; returns the tasks that follow."""


@runtime_checkable
class PlanMaker(Protocol):
    """Something of another library that decides who goes on."""

    def plan(self, members: Sequence[list[Run]], metric: Criterion) -> Plan:
        """The plan for these runs, lists of each member's."""


class _ToTheEnd:
    """Every run to its end."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def first(self) -> list[Task]:
        """See :class:`Plan`."""
        return [(run, run.limit) for run in self.runs if not run.stopped]

    def done(self, run: Run) -> list[Task]:
        """See :class:`Plan`."""
        return []


@dataclass(eq=False)
class _Bracket:
    """Members that are compared with each other: lists of a member's runs, one for each fold."""

    members: list[list[Run]]
    rungs: list[int]
    level: int = 0
    waiting: set[int] = field(default_factory=set)  # numbers of runs that are on their way to the rung


class _Halvings:
    """Brackets of successive halving."""

    def __init__(self, brackets: Iterable[_Bracket], factor: float, metric: Criterion) -> None:
        self.brackets = list(brackets)
        self.factor, self.metric = factor, metric
        self._of = {run.number: bracket for bracket in self.brackets for runs in bracket.members for run in runs}

    def first(self) -> list[Task]:
        """See :class:`Plan`."""
        return [task for bracket in self.brackets for task in self._tasks(bracket)]

    def done(self, run: Run) -> list[Task]:
        """See :class:`Plan`."""
        bracket = self._of[run.number]
        bracket.waiting.discard(run.number)
        if bracket.waiting or bracket.level >= len(bracket.rungs):
            return []
        self._compare(bracket)
        return self._tasks(bracket)

    def _tasks(self, bracket: _Bracket) -> list[Task]:
        """To the next rung, or to the end; rungs that a resumed sweep has behind it are compared again."""
        while True:
            last = bracket.level >= len(bracket.rungs)
            tasks = []
            for run in (run for runs in bracket.members for run in runs):
                until = run.limit if last else bracket.rungs[bracket.level]
                if not run.stopped and run.epoch < until:
                    tasks.append((run, until))
            bracket.waiting = {run.number for run, _ in tasks}
            if tasks or last:
                return tasks
            self._compare(bracket)

    def _compare(self, bracket: _Bracket) -> None:
        """Let the best of a rung go on, and end the others."""
        epoch = bracket.rungs[bracket.level]
        bracket.level += 1
        scores = [self._score(runs, epoch) for runs in bracket.members]
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        keep = set(order[: math.ceil(len(order) / self.factor)])
        for index, runs in enumerate(bracket.members):
            if index not in keep:
                for run in runs:
                    run.end("halving")
        bracket.members = [runs for index, runs in enumerate(bracket.members) if index in keep]

    def _score(self, runs: Sequence[Run], epoch: int) -> float:
        """Mean of a member's folds at a rung; -∞ where one has failed."""
        keys = []
        for run in runs:
            if run.epoch >= epoch:
                keys.append(self.metric.key(run.scores[epoch - 1]))
            elif run.outcomes:
                keys.append(max(self.metric.key(outcome.score) for outcome in run.outcomes.values()))
            else:
                keys.append(-math.inf)
        return sum(keys) / len(keys)


def plan_of(halving: object, members: Sequence[list[Run]], metric: Criterion) -> Plan:
    """The plan of a sweep.

    Parameters
    ----------
    halving : None, number, "hyperband", Halving, Hyperband or PlanMaker
    members : list of list of Run
        Runs of each member, one for each fold.
    metric : Criterion

    Raises
    ------
    ValueError, TypeError
        If `halving` is something else, or members differ in their epochs or have none.
    """
    if halving is None:
        once = {run.number: run for runs in members for run in runs}  # members may share a run
        return _ToTheEnd(list(once.values()))
    if isinstance(halving, PlanMaker):
        return halving.plan(members, metric)
    if isinstance(halving, str):
        if halving != "hyperband":
            raise ValueError(f"halving must be a factor, 'hyperband', Halving or Hyperband, got {halving!r}")
        halving = Hyperband()
    elif not isinstance(halving, Halving):
        halving = Halving(check_number("halving", halving, above=1.0))
    lengths = {run.limit for runs in members for run in runs}
    if any(run.recipe.is_whole for runs in members for run in runs):
        raise ValueError("halving needs members with epochs, not estimators or full-batch solvers")
    if len(lengths) != 1 or any(len(run.marks) != 1 for runs in members for run in runs):
        raise ValueError("halving sets the epochs of each member, they cannot be a parameter of the space")
    epochs = lengths.pop()
    brackets = []
    if isinstance(halving, Hyperband):
        start = 0
        for count, n_rungs in halving.brackets(epochs, len(members)):
            part = list(members[start : start + count])
            start += count
            rungs = halving.rungs(epochs, count)
            brackets.append(_Bracket(part, rungs[max(0, len(rungs) - n_rungs) :]))
    else:
        brackets.append(_Bracket(list(members), halving.rungs(epochs, len(members))))
    return _Halvings(brackets, halving.factor, metric)
