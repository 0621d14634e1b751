"""``net.fit`` and ``net.partial_fit`` with an optimizer: the epochs of a trainer, callbacks and progress."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np

from .._typing import ArrayLike, BatchSource, Data
from ..network import Network
from ..optimizers import Optimizer
from .callback_protocol import begin_callbacks, call_callbacks, end_callbacks, restore_callbacks
from .history import EpochResult, History
from .options import FitOptions, TrainingOptions
from .progress import Progress
from .trainer import Trainer, restored_if_drawn

__all__ = ["fit", "partial_fit"]


def fit(net: Network, X: Data | BatchSource, y: ArrayLike | None, options: FitOptions) -> History:
    """Train a network with an optimizer; see :meth:`fastnn.Sequential.fit`, which calls this."""
    callbacks = list(options.callbacks)
    given = [options.seed] if isinstance(options.seed, np.random.Generator) else []
    with restored_if_drawn(net, options, *given):
        trainer = Trainer.with_options(net, X, y, options)
        state = trainer.state
        left = options.epochs - state.epoch
        results: Iterable[EpochResult] = ()
        if left > 0 and not state.stopped:
            results = trainer.epochs(left, block=not options.verbose and not callbacks)
        states = state.states_of_callbacks()
        begin_callbacks(callbacks, trainer.history.keys())
        restore_callbacks(callbacks, states if state.epoch else [])
    state.callbacks = callbacks
    net.history = trainer.history  # now, so that an interrupted run leaves what it got to
    shown = Progress(options.epochs, state.epoch, every=options.verbose) if options.verbose else nullcontext()
    with shown as progress:
        for result in results:
            call_callbacks(callbacks, result)
            if progress is not None:
                progress.show(result)
    end_callbacks(callbacks, net, state)
    trainer.warn_of_scale()
    return trainer.history


def partial_fit(
    net: Network,
    X: Data | BatchSource,
    y: ArrayLike | None = None,
    *,
    optimizer: Optimizer | str | None = None,
    **arguments: Any,
) -> History:
    """Train for one more epoch; see :meth:`fastnn.Sequential.partial_fit`, which calls this."""
    previous = net.training_state
    if optimizer is None:
        optimizer = previous.optimizer if previous is not None else "adam"
    trainer = Trainer.with_options(net, X, y, TrainingOptions(optimizer=optimizer, **arguments))
    if previous is not None:
        trainer.continue_from(previous)
    for _ in trainer.epochs(1):
        pass
    net.history = trainer.history
    return trainer.history
