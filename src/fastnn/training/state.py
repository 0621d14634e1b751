"""What a training run remembers between epochs, and the snapshot that an epoch which fails goes back to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._typing import JSON, Options
from ..network import Network
from ..optimizers import Optimizer
from .averages import Averages
from .history import Callback, History, StopFlag
from .order import RowOrder

__all__ = ["Snapshot", "TrainingState"]


@dataclass
class TrainingState:
    """What a training run remembers between epochs, beside the network's parameters and buffers.

    It belongs to the network after the run, so that `partial_fit` and ``fit(resume=True)`` go on from it, and is what
    ``net.save(path, training_state=True)`` adds to the file.

    Attributes
    ----------
    optimizer : Optimizer
    options : dict
        Arguments that a resumed run must share.
    generator : numpy.random.Generator
        Of the shuffling; `own` says that it is not the network's.
    moments : ndarray (n_moments, P)
        The optimizer's state: momentum, running means of the gradient and of its square, and so on.
    factors : ndarray or None
        Those of K-FAC, or the pairs of stochastic L-BFGS.
    history : History
    epoch, steps, batches : int
        Finished epochs, updates done, batches gone over.
    plateau : dict or None
        Memory of a metric-driven schedule.
    start : dict or None
        State of the generator before the validation rows were drawn.
    stop_flag : StopFlag
        `stopped` says whether a callback has stopped the run.
    callbacks : list
        Those of the run.
    callback_states : list of (name, dict)
        Of the callbacks that have a state, of a run that was loaded from a file.
    theta, buffers : ndarray or None
        Parameters and buffers of the network at the end of the last finished epoch, where the network no longer has
        them.
    augment_seed : int or None
        Of the augmentations' draws, drawn from `generator` when they begin.
    averages : Averages or None
        Of the parameters, with ``fit(ema=...)``: the network has them whenever the run pauses.
    """

    optimizer: Optimizer
    options: Options
    generator: np.random.Generator
    own: bool
    moments: np.ndarray
    history: History
    epoch: int = 0
    steps: int = 0
    batches: int = 0
    plateau: JSON | None = None
    start: JSON | None = None
    stop_flag: StopFlag = field(default_factory=StopFlag)
    callbacks: list[Callback] = field(default_factory=list)
    callback_states: list[tuple[str, JSON]] = field(default_factory=list)
    theta: np.ndarray | None = None
    buffers: np.ndarray | None = None
    factors: np.ndarray | None = None
    augment_seed: int | None = None
    averages: Averages | None = None

    @property
    def stopped(self) -> bool:
        """Whether the run has been stopped."""
        return self.stop_flag.raised

    def states_of_callbacks(self) -> list[tuple[str, JSON]]:
        """Name and state of each callback that has one."""
        if not self.callbacks:
            return self.callback_states
        owners: list[Any] = [callback for callback in self.callbacks if hasattr(callback, "get_state")]
        return [(type(owner).__name__, owner.get_state()) for owner in owners]

    def begin_run(self, net: Network) -> None:
        """Let the network have the parameters that the run goes on from."""
        self.stop_flag.raised = False
        self.give_own(net)

    def give_own(self, net: Network) -> None:
        """Let the network have the run's parameters again, where it has others."""
        if self.theta is not None and self.buffers is not None:
            net.theta[...], net.state[...] = self.theta, self.buffers
            self.theta = self.buffers = None

    def give_averages(self, net: Network) -> None:
        """Let the network have the averages, if there are any, and keep the run's parameters here."""
        if self.averages is not None:
            self.theta, self.buffers = net.theta.copy(), net.state.copy()
            self.averages.give(net)

    def take_over(self, new: TrainingState) -> None:
        """Go on with the optimizer's state, the counters and the history, in a run `new` on other data."""
        rules = self.optimizer.update_rule(), new.optimizer.update_rule()
        same_moments = len({(rule.rule, rule.moments) for rule in rules}) == 1
        if type(self.optimizer) is not type(new.optimizer) or not same_moments:
            self.moments, self.factors = new.moments, new.factors
            self.steps = 0
            self.augment_seed = None  # with the old one, the draws of the first steps would come again
        self.optimizer, self.options, self.start = new.optimizer, new.options, new.start
        self.generator, self.own = new.generator, new.own
        self.plateau = None if new.plateau is None else self.plateau or new.plateau
        self.callbacks, self.callback_states = [], []
        self.stop_flag = StopFlag()
        self.theta = self.buffers = self.averages = None
        if not set(new.history.keys()) <= set(self.history.keys()):
            self.history = new.history

    def __getstate__(self) -> dict[str, object]:
        # A user's functions need not be something that can be copied; their states are.
        return {**self.__dict__, "callbacks": [], "callback_states": self.states_of_callbacks()}

    def __setstate__(self, state: JSON) -> None:
        if "slots" in state:  # pickled before 0.1.0 was released
            state = {**state, "moments": state["slots"], "stop_flag": StopFlag(state["stopped"])}
            del state["slots"], state["stopped"]
        if "state" in state:
            state = {**state, "buffers": state["state"]}
            del state["state"]
        self.__dict__.update(state)


class Snapshot:
    """All that a block of epochs changes, as it was before: of the network, and of the run.

    Attributes
    ----------
    theta, buffers : ndarray
        Of the network.
    """

    def __init__(self, net: Network, state: TrainingState, order: RowOrder) -> None:
        self.theta, self.buffers = net.theta.copy(), net.state.copy()
        self._moments = state.moments.copy()
        self._factors = None if state.factors is None else state.factors.copy()
        self._averages = None if state.averages is None else state.averages.copy()
        self._counters = state.epoch, state.batches, state.steps
        self._n_entries = len(state.history)
        self._plateau = None if state.plateau is None else dict(state.plateau)
        self._position = order.position()

    def restore_network(self, net: Network) -> None:
        """Give the network its parameters and buffers back."""
        net.theta[...], net.state[...] = self.theta, self.buffers

    def restore_run(self, state: TrainingState, order: RowOrder) -> None:
        """Let the run stand where it stood: optimizer, counters, history, schedule and order of the rows."""
        state.history.truncate(self._n_entries)
        state.epoch, state.batches, state.steps = self._counters
        state.plateau = self._plateau
        state.moments[...], state.factors, state.averages = self._moments, self._factors, self._averages
        order.go_back(self._position)
