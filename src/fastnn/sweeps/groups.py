"""Runs of narrow networks that train side by side, one in each lane of a vector, with the arithmetic of each alone."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable
from contextlib import ExitStack

import numpy as np

from .._typing import JSON
from ..names import listing
from ..training.courses import Course, Pursuit, lanes, run_side_by_side
from .members import Recipe
from .runs import Task, Watch

__all__ = ["advance", "groups_of", "kind_of"]
__dir__ = listing(__all__)

#: Parameters up to which networks train side by side: of several layers, whose products are then ones of the lanes
#: alone, and of one layer, whose products have the outputs of all networks next to each other.
NARROW, WIDEST = 3_000, 40_000


def kind_of(recipe: Recipe, description: JSON | None, n_parameters: float) -> tuple[Hashable, ...] | None:
    """Equal for recipes whose runs on a fold are likely to train side by side; first, how many a vector has room for.

    None where that would not pay: the weights of wide networks fill the vectors, and the caches, by themselves.
    """
    if recipe.is_whole or description is None or n_parameters > (WIDEST if _is_linear(description) else NARROW):
        return None
    fit = recipe.fit
    rest = {name: value for name, value in fit.items() if name not in ("optimizer", "l2", "epochs")}
    optimizer = fit["optimizer"]
    numbers = [name for name in ("nesterov", "epsilon_hat", "amsgrad") if getattr(optimizer, name, False)]
    kind = (type(optimizer).__name__, getattr(optimizer, "momentum", 0.0) != 0.0, *numbers)
    return lanes(np.dtype(description["dtype"])), json.dumps(description), *kind, repr(rest)


def _is_linear(description: JSON) -> bool:
    return len(description["layers"]) == 1


def groups_of(tasks: Iterable[Task], threads: int) -> list[list[Task]]:
    """Tasks put together where their runs are of one kind; where there are as many, a group for each thread.

    Parameters
    ----------
    tasks : iterable of (Run, int)
        Runs, and the epochs to train them to.
    threads : int
    """
    found: list[list[Task]] = []
    alike: dict[tuple[Hashable, int], list[Task]] = {}
    for run, until in tasks:
        if run.kind is None:
            found.append([(run, until)])
        else:
            alike.setdefault((run.kind, run.epoch), []).append((run, until))
    least = {key: -(-len(group) // key[0][0]) for key, group in alike.items()}  # type: ignore[index]
    more = max(1.0, (threads - len(found)) / max(1, sum(least.values())))
    for key, group in alike.items():
        n = min(len(group), math.ceil(least[key] * more))
        group.sort(key=lambda task: task[1])
        found += [group[len(group) * i // n : len(group) * (i + 1) // n] for i in range(n)]
    return found


def advance(tasks: list[Task], watch: Watch) -> None:
    """Train runs, each up to an epoch: side by side those that can, the others one by one."""
    alike: dict[Hashable, list[Task]] = {}
    for run, until in tasks if len(tasks) > 1 else ():
        if run.trainer is None and not run.stopped:
            with run.at_work(watch):
                run.begin()
        shape = None if run.course is None else run.course.shape()
        if shape is not None:
            alike.setdefault(shape, []).append((run, until))
    for group in alike.values():
        while len(group) > 1 and not watch.stopping():
            group = _block(group, watch)
    for run, until in tasks:
        if not run.stopped and run.epoch < until and not watch.stopping():
            run.advance(until, watch)


def _block(group: list[Task], watch: Watch) -> list[Task]:
    """Train some epochs of all; returns those that go on side by side."""
    pairs: list[tuple[Course, Pursuit]] = []
    for run, _ in group:
        assert run.course is not None
        assert run.pursuit is not None
        pairs.append((run.course, run.pursuit))
    courses, pursuits = zip(*pairs, strict=True)
    most = min(run.to_next_mark(until) for run, until in group)
    count = 1 if watch.each_epoch else courses[0].block(most)
    end = group[0][0].epoch + count
    with ExitStack() as stack:
        for run, _ in group:
            stack.enter_context(run.at_work(watch))
        found = run_side_by_side(courses, pursuits, count, [until == end for _, until in group])
        if found is None:
            return []
        for (run, _), scores in zip(group, found, strict=True):
            run.take_block(scores, watch)
    return [
        (run, until)
        for run, until in group
        if not run.stopped and run.course is not None and run.epoch == end and end < until
    ]
