"""The line search: Wolfe conditions, and lines without a minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.solvers.line_search import Point, search

# -- line search
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1e-4, 0.1, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("curvature", [0.1, 0.9])
def test_line_search_meets_the_wolfe_conditions(step: float, curvature: float) -> None:
    for f, df in (
        (lambda a: (a - 2.0) ** 4, lambda a: 4.0 * (a - 2.0) ** 3),
        (lambda a: -a / (a * a + 2.0), lambda a: (a * a - 2.0) / (a * a + 2.0) ** 2),  # Moré and Thuente 1994
        (lambda a: math.cosh(min(a, 700.0)) - 3.0 * a, lambda a: math.sinh(min(a, 700.0)) - 3.0),
    ):
        start = Point(0.0, np.zeros(1), f(0.0), np.array([df(0.0)]), df(0.0))
        point = search(
            lambda x, f=f, df=df: (f(x[0]), np.array([df(x[0])])),
            start,
            np.ones(1),
            step,
            curvature=curvature,
            max_evaluations=60,
        )
        assert point is not None
        assert point.value <= start.value + 1e-4 * point.step * start.slope
        assert abs(point.slope) <= -curvature * start.slope
        assert (point.theta, point.gradient) == (point.step, point.slope)


def test_line_search_steps_back_from_what_is_not_finite() -> None:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x[0] >= 1e-3:
            return math.nan, np.array([math.nan])
        return -math.log(1e-3 - x[0]) - 2000.0 * x[0], 1.0 / (1e-3 - x) - 2000.0

    value, gradient = f(np.zeros(1))
    point = search(f, Point(0.0, np.zeros(1), value, gradient, gradient[0]), np.ones(1), 1.0)
    assert point is not None
    assert abs(point.slope) <= 0.9 * abs(gradient[0])


def test_line_search_without_a_lower_point() -> None:
    start = Point(0.0, np.zeros(1), 1.0, np.array([-1.0]), -1.0)  # a wrong gradient
    assert search(lambda x: (1.0 + x[0], np.ones(1)), start, np.ones(1), 1.0) is None
