"""Regressions in standard deviations of the target, by networks that predict in its units."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..checks import moments
from ..sequential import Sequential
from ..training.scale import scale_warning

__all__ = ["TargetScaling"]


class TargetScaling:
    """The parameter `standardize_target`, and a warning where it would help."""

    target_mean_: np.ndarray
    target_scale_: np.ndarray
    standardize_target = False

    if TYPE_CHECKING:
        network_: Sequential

        def _threads(self) -> int | None: ...

    @contextmanager
    def _target_in_deviations(self, targets: np.ndarray, weights: np.ndarray | None, first: bool) -> Iterator[Any]:
        """Yield targets to train on; within, the network predicts in their units, before and after in the user's."""
        if not self.standardize_target:
            for name in ("target_mean_", "target_scale_"):
                self.__dict__.pop(name, None)
            yield targets
            return
        net = self.network_
        if net.loss_function.inverse_link != "identity":
            raise ValueError(f"standardize_target=True does not suit loss={net.loss_name!r}, whose rates have a scale")
        if first or "target_mean_" not in vars(self):
            mean, scale = moments(targets.reshape(len(targets), -1), weights)
            self.target_mean_, self.target_scale_ = mean, np.where(scale > 0.0, scale, 1.0)
        if not first:
            self._rescale(-self.target_mean_ / self.target_scale_, 1.0 / self.target_scale_)
        try:
            yield self._standardized(targets)
        finally:
            self._rescale(self.target_mean_, self.target_scale_)

    def _standardized(self, targets: np.ndarray) -> np.ndarray:
        """(y − mean) / scale of each output."""
        if not self.standardize_target:
            return targets
        values = (targets.reshape(len(targets), -1) - self.target_mean_) / self.target_scale_
        scaled: np.ndarray = values.reshape(targets.shape).astype(targets.dtype, copy=False)
        return scaled

    def _rescale(self, shift: np.ndarray, factor: np.ndarray) -> None:
        """Let the network's outputs be z · factor + shift."""
        net = self.network_
        last = len(net.layers) - 1
        weight, bias = net.parameters[f"{last}.weight"], net.parameters[f"{last}.bias"]
        weight[...] = weight * factor
        bias[...] = bias * factor + shift

    def _warn_of_scale(self, X: Any, targets: np.ndarray, weights: np.ndarray | None) -> None:
        """Warn of a poor fit of targets that are far from the scale of 1."""
        net = self.network_
        if self.standardize_target or net.loss_function.classifies:
            return
        text = scale_warning(net, *net.check_data(X, targets, weights), self._threads())
        if text is not None:
            warnings.warn(
                f"{text}: set standardize_target=True, or use TransformedTargetRegressor",
                ConvergenceWarning,
                stacklevel=4,
            )
