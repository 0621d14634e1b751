"""Trust regions and cubic regularisation: what makes steps of a local model lead to a minimum from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn, Protocol

import numpy as np

from ..linalg.quadratic_models import QuadraticModel
from .base import Run

__all__ = ["CubicRegularization", "Globalization", "TrustRadius", "minimize_models"]

#: Steps of one model that may be refused.
REJECTED = 60

#: θ, J and ∂J/∂θ of a point.
Located = tuple[np.ndarray, float, np.ndarray]


class Globalization(Protocol):
    """Steps of a quadratic model, of a size that is fitted to how well the model predicts J."""

    def step(self, model: QuadraticModel, gradient: np.ndarray, guess: float) -> tuple[np.ndarray, float]:
        """p and the μ of (B + μ I) p = −g; `guess` is the last μ."""
        ...

    def predicted(self, model: QuadraticModel, gradient: np.ndarray, p: np.ndarray) -> float:
        """The decrease −m(p) that the model promises."""
        ...

    def update(self, ratio: float, length: float) -> None:
        """Fit the size to the ratio ρ of the real to the predicted decrease of a step of this length ‖p‖."""
        ...


class TrustRadius:
    """The minimum of g·p + ½ p·B p in ‖p‖ ≤ radius.

    ::

        ρ < 1/4:                         radius ← ‖p‖ / 4
        ρ > 3/4 and ‖p‖ > 0.85 radius:   radius ← 2 radius

    Nocedal and Wright 2006, algorithm 4.1.
    """

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def step(self, model: QuadraticModel, gradient: np.ndarray, guess: float) -> tuple[np.ndarray, float]:
        return model.trust_step(gradient, self.radius, guess)

    def predicted(self, model: QuadraticModel, gradient: np.ndarray, p: np.ndarray) -> float:
        return -float(np.dot(gradient, p)) - 0.5 * model.quadratic(p)

    def update(self, ratio: float, length: float) -> None:
        if ratio < 0.25:
            self.radius = 0.25 * length
        elif ratio > 0.75 and length > 0.85 * self.radius:
            self.radius *= 2.0


class CubicRegularization:
    """The minimum of g·p + ½ p·B p + σ/3 ‖p‖³.

    ::

        ρ > 0.9: σ ← σ / 3        ρ < 0.1: σ ← 2 σ

    Cartis, Gould and Toint 2011, algorithm 2.1.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def step(self, model: QuadraticModel, gradient: np.ndarray, guess: float) -> tuple[np.ndarray, float]:
        return model.cubic_step(gradient, self.sigma, guess)

    def predicted(self, model: QuadraticModel, gradient: np.ndarray, p: np.ndarray) -> float:
        gain = -float(np.dot(gradient, p)) - 0.5 * model.quadratic(p)
        return gain - self.sigma / 3.0 * float(np.linalg.norm(p)) ** 3

    def update(self, ratio: float, length: float) -> None:
        if ratio > 0.9:
            self.sigma /= 3.0
        elif ratio < 0.1:
            self.sigma *= 2.0


def minimize_models(
    run: Run,
    start: Located,
    model_at: Callable[[np.ndarray], QuadraticModel],
    globalization: Globalization,
    report: Callable[[np.ndarray, float, np.ndarray, float], Located],
) -> NoReturn:
    """Go from model to model: a step is taken where ρ > 1e-4, and refused with a smaller one after it where not.

    Parameters
    ----------
    run : Run
    start : tuple
        θ, J and ∂J/∂θ, already reported.
    model_at : callable
        θ -> the model of J there.
    globalization : Globalization
    report : callable
        Reports θ, J, ∂J/∂θ and μ of an iteration, and gives the point to go on from.
    """
    theta, value, gradient = start
    mu = 0.0
    while True:
        model = model_at(theta)
        rejected = 0
        while True:
            p, mu = globalization.step(model, gradient, mu)
            length = float(np.linalg.norm(p))
            gain = globalization.predicted(model, gradient, p)
            candidate = theta + p
            found, slope = run.evaluate(candidate)
            if run.negligible(value, gain):  # values no longer tell: the gradient does
                better = float(np.linalg.norm(slope)) < float(np.linalg.norm(gradient)) and math.isfinite(found)
                ratio = 1.0 if better else -1.0
            else:
                ratio = (value - found) / gain if math.isfinite(found) else -1.0
            globalization.update(ratio, length)
            if ratio > 1e-4:
                break
            rejected += 1
            if rejected > REJECTED or length <= 1e-15 * (1.0 + float(np.linalg.norm(theta))):
                run.give_up(value, gain)
        theta, value, gradient = report(candidate, found, slope, mu)
