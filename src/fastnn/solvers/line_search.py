"""A line search for the strong Wolfe conditions, which knows rounding noise and values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Point", "search"]


class Point(NamedTuple):
    """A point on a line.

    Attributes
    ----------
    step : float
        α of θ + α p.
    theta : ndarray (P,)
    value : float
    gradient : ndarray (P,)
    slope : float
        ∂J/∂α there.
    """

    step: float
    theta: np.ndarray
    value: float
    gradient: np.ndarray
    slope: float

    @property
    def finite(self) -> bool:
        """Whether value and slope are numbers."""
        return math.isfinite(self.value) and math.isfinite(self.slope)


def search(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: Point,
    direction: np.ndarray,
    step: float,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    noise: float = 0.0,
    max_evaluations: int = 20,
) -> Point | None:
    """Find α with the strong Wolfe conditions

    ::

        φ(α) ≤ φ(0) + c₁ α φ'(0)        |φ'(α)| ≤ c₂ |φ'(0)|

    or, where |φ(α) − φ(0)| ≤ noise, by slopes alone: (2 c₁ − 1) φ'(0) ≥ φ'(α) ≥ c₂ φ'(0) (Hager and Zhang 2005,
    equation 4.1).

    Parameters
    ----------
    evaluate : callable
        θ -> (value, gradient).
    start : Point
        At α = 0, with a negative slope.
    direction : ndarray (P,)
    step : float
        The first α to try.
    decrease, curvature : float
        c₁ and c₂, 0 < c₁ < c₂ < 1.
    noise : float
        Rounding error of a value.
    max_evaluations : int

    Returns
    -------
    Point or None
        Without a point that meets both conditions the best that meets the first; None if there is none.

    Notes
    -----
    Nocedal and Wright 2006, algorithms 3.5 and 3.6, with cubic interpolation kept within the middle 80 % of the
    bracket. A value that is not finite counts as too large.
    """
    low, high = start, None
    for _ in range(max_evaluations):
        theta = start.theta + start.theta.dtype.type(step) * direction
        value, gradient = evaluate(theta)
        value = float(value)
        point = Point(step, theta, value, gradient, float(np.dot(gradient, direction)))
        if not point.finite:
            high = point
        else:
            enough = value <= start.value + decrease * step * start.slope
            flat = 0.0 < noise >= abs(value - start.value) and (2.0 * decrease - 1.0) * start.slope >= point.slope
            if (enough and abs(point.slope) <= -curvature * start.slope) or (
                flat and point.slope >= curvature * start.slope
            ):
                return point
            if not (enough or flat) or value > low.value + noise:
                high = point
            else:
                if point.slope * (1.0 if high is None else high.step - low.step) >= 0.0:
                    high = low
                low = point
        if high is None:
            step = _extrapolate(start if low is start else low, step, start)
        else:
            step = _interpolate(low, high)
            if abs(high.step - low.step) <= 1e-12 * max(low.step, high.step):
                break
    return low if low.value < start.value else None


def _extrapolate(low: Point, step: float, start: Point) -> float:
    """A longer step, by where the slope would reach 0 at its rate so far, two to ten times as long."""
    bend = low.slope - start.slope
    target = step * start.slope / (start.slope - low.slope) if bend > 0.0 else 10.0 * step
    return min(max(target, 2.0 * step), 10.0 * step)


def _interpolate(low: Point, high: Point) -> float:
    """Minimum of the cubic through two points with their slopes, or a step a tenth as long towards what is finite."""
    width = high.step - low.step
    if not high.finite:
        return low.step + 0.1 * width
    # Nocedal and Wright, equation 3.59, from low to high.
    d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (low.step - high.step)
    square = d1 * d1 - low.slope * high.slope
    if square >= 0.0:
        d2 = math.copysign(math.sqrt(square), width)
        divisor = high.slope - low.slope + 2.0 * d2
        if divisor != 0.0:
            part = 1.0 - (high.slope + d2 - d1) / divisor
            if math.isfinite(part):
                return low.step + min(max(part, 0.1), 0.9) * width
    return low.step + 0.5 * width
