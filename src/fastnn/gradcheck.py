"""Numerical check of gradients, of a network or of any function with a reverse differential, and of Hessians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ._typing import ArrayLike, Data, Options
from .checks import check_integer, check_number, check_seed
from .names import listing
from .network import Network

__all__ = ["Component", "GradientReport", "check_gradient", "check_hessian"]
__dir__ = listing(__all__)

#: Steps of the differences, relative to max(1, |x|). The first is best for a smooth function (the error of the rule,
#: about h⁴, is then that of rounding, ε / h); smaller ones step over fewer kinks and resist high curvature.
STEPS = (1e-3, 1e-4, 1e-5)
#: Rounding errors of a value, relative, that a difference may be off by.
ROUNDING = 100 * float(np.finfo(np.float64).eps)


class Component(NamedTuple):
    """One component of a derivative.

    Attributes
    ----------
    name : str
        ``"0.weight[2, 1]"``, or ``"∂f[0]/∂x[2, 1]"``.
    analytic : float
        As the function says.
    numerical : float
        By central differences of the fourth order; where these fail, by one-sided ones: their mean, or at a kink what
        is closest to `analytic` between the two.
    error : float
        Their difference over the larger of the two (or over a hundredth of the largest component, if that is more).
    """

    name: str
    analytic: float
    numerical: float
    error: float

    def __str__(self) -> str:
        return f"{self.name}: analytic {self.analytic:.12g}, numerical {self.numerical:.12g}, error {self.error:.2g}"


@dataclass(frozen=True, repr=False)
class GradientReport:
    """What `check_gradient` or `check_hessian` found; true where all is well.

    Attributes
    ----------
    ok : bool
        Whether no component is wrong. One at a kink is wrong if it is not between the one-sided derivatives.
    error : float
        ‖numerical − analytic‖ / (‖numerical‖ + ‖analytic‖) over the components that are not at kinks.
    worst : Component or None
        The one with the largest error among them.
    failures, kinks : tuple of Component
        Wrong ones, the worst first; and right ones where the function has no derivative, its one-sided ones differing.
    checked, total : int
        Components checked, and all there are.
    what : str
        ``"gradient"`` or ``"Hessian"``.
    """

    ok: bool
    error: float
    worst: Component | None
    failures: tuple[Component, ...] = field(repr=False)
    kinks: tuple[Component, ...] = field(repr=False)
    checked: int
    total: int
    what: str = "gradient"

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "passed" if self.ok else f"FAILED in {len(self.failures):,}"
        lines = [
            f"{self.what} check of {self.checked:,} of {self.total:,} components: {verdict}, error {self.error:.2g}"
        ]
        if self.kinks:
            lines[0] += f"; {len(self.kinks):,} at kinks, between the one-sided derivatives"
        if self.ok and self.worst is not None:
            lines.append(f"  worst  {self.worst}")
        lines += [f"  wrong  {component}" for component in self.failures[:10]]
        lines += [f"  kink   {component}" for component in self.kinks[:3]]
        hidden = max(len(self.failures) - 10, 0), max(len(self.kinks) - 3, 0)
        lines += [f"  and {n:,} more {what}" for n, what in zip(hidden, ("wrong", "at kinks"), strict=True) if n]
        return "\n".join(lines)

    __repr__ = __str__  # as notebooks and prompts show it


def check_gradient(
    target: Any,
    X: Any,
    y: Any = None,
    *,
    vjp: Callable[[np.ndarray, np.ndarray], Any] | None = None,
    sample_weight: ArrayLike | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    training: bool = False,
    n: int | None = None,
    seed: int | np.random.Generator | None = 0,
    rtol: float = 1e-6,
) -> GradientReport:
    """Compare a gradient with finite differences, in float64.

    The numerical derivative is (f(x − 2h) − 8 f(x − h) + 8 f(x + h) − f(x + 2h)) / 12h; a component is right if it
    agrees for one of the steps h = 1e-3, 1e-4, 1e-5, times 1 or the size of x. Where it agrees for none, as without a
    second derivative at x (elu at 0), one-sided differences are taken, (−11 f(x) + 18 f(x + h) − 9 f(x + 2h) +
    2 f(x + 3h)) / 6h. If they differ, the function has a kink there (relu at 0), and a component is right if it is
    between them; of a network, if every row's own derivative can be. Where it jumps there is nothing to compare with.

    Parameters
    ----------
    target : Sequential or callable
        A network: its objective J(θ) as ``net.loss_and_gradient`` has it, evaluated in float64 whatever its dtype.
        A function of one array of any shape, with values of any shape: ``f(x)`` returns the value and its reverse
        differential R, of shape (x.shape, value.shape), with R[i, j] = ∂f_j / ∂x_i; or, with `vjp`, the value alone.
    X : array_like
        (N, D) samples for a network, else the point x.
    y : array_like
        Targets, for a network.
    vjp : callable, optional
        ``vjp(x, cotangent)``, of the shape of x: Σ_j cotangent_j ∂f_j / ∂x.
    sample_weight, l1, l2, training
        As for ``net.loss_and_gradient``, for a network.
    n : int, optional
        Number of components of x or θ to check, drawn at random; None is all.
    seed : int, numpy.random.Generator or None, default=0
        Of that draw.
    rtol : float, default=1e-6
        Largest relative error; components far below the largest one are compared with a hundredth of that.

    Returns
    -------
    GradientReport

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the function's value or differential is of another shape than expected or is not
        finite at x.

    Notes
    -----
    The differences are those of docs/theory.md, eq. 14.1 and 14.2. Nothing is changed: a network is copied.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> net = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Dense(1)], input_size=2, loss="squared_error", seed=0)
    >>> bool(fnn.check_gradient(net, np.eye(2), [1.0, 2.0], l2=0.1))
    True
    >>> bool(fnn.check_gradient(np.sin, np.array([[0.5, 1.0]]), vjp=lambda x, c: c * np.sin(x)))
    False
    """
    rtol = check_number("rtol", rtol, above=0.0)
    count = None if n is None else check_integer("n", n)
    rng = check_seed(seed)
    if isinstance(target, Network):
        if vjp is not None:
            raise TypeError("vjp is for functions, got a network")
        options = {"sample_weight": sample_weight, "l1": l1, "l2": l2, "training": training, "threads": 1}
        return _check_network(target, X, y, options, count, rng, rtol)
    if not callable(target):
        raise TypeError(f"target must be a Sequential or a function, got {target!r}")
    if y is not None or sample_weight is not None or l1 or l2 or training:
        raise TypeError("y, sample_weight, l1, l2 and training are for networks, got a function")
    return _check_function(target, X, vjp, count, rng, rtol)


def check_hessian(
    net: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: ArrayLike | None = None,
    l2: float = 0.0,
    training: bool = False,
    n: int | None = None,
    seed: int | np.random.Generator | None = 0,
    rtol: float = 1e-6,
) -> GradientReport:
    """Compare the Hessian of `fastnn.curvature.hessian` with finite differences of the gradient, in float64.

    As :func:`check_gradient` does, with ``net.gradient`` for the function: component (i, j) is ∂(∂J/∂θ_j)/∂θ_i, and is
    named ``∂²J/∂0.weight[2, 1]∂1.bias[0]``. Where the gradient itself jumps nearby, as that of relu does, the component
    is at a kink, which is reported and is not a failure.

    Parameters
    ----------
    net : Sequential
        Evaluated in float64 whatever its dtype.
    X, y, sample_weight, l2, training
        As for ``net.loss_and_gradient``.
    n : int, optional
        Number of rows of the Hessian to check, drawn at random; None is all. Some rows are made by products of
        `fastnn.curvature.hessian_operator`, without the whole matrix.
    seed : int, numpy.random.Generator or None, default=0
        Of that draw.
    rtol : float, default=1e-6
        Largest relative error; components far below the largest one of a column (of the rows that are checked) are
        compared with a hundredth of that.

    Returns
    -------
    GradientReport

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or curvature is not defined.
    MemoryError
        If the whole Hessian is asked for and too large.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> net = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Dense(1)], input_size=2, loss="squared_error", seed=0)
    >>> bool(fnn.check_hessian(net, np.eye(2), [1.0, 2.0], l2=0.1))
    True
    """
    from .curvature import (  # SciPy, which the check of gradients does without
        hessian,
        hessian_operator,
        per_sample_gradients,
    )

    rtol = check_number("rtol", rtol, above=0.0)
    count = None if n is None else check_integer("n", n)
    rng = check_seed(seed)
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}")
    double = net.astype("float64")
    options: Options = {"sample_weight": sample_weight, "l2": l2, "training": training, "threads": 1}
    theta = double.theta.copy()
    chosen = _choose(len(theta), count, rng)
    if len(chosen) == len(theta):
        H = hessian(double, X, y, **options)
    else:
        unit = np.zeros((len(theta), len(chosen)))
        unit[chosen, np.arange(len(chosen))] = 1.0
        H = hessian_operator(double, X, y, **options).matmat(unit).T
    gradient = double.gradient(X, y, **options)

    def evaluate(x: np.ndarray) -> np.ndarray:
        double.theta[...] = x
        return double.gradient(X, y, **options)

    name = _parameter_names(double)

    def pair(i: int, j: int) -> str:
        return f"∂²J/∂{name(i)}∂{name(j)}"

    # A derivative that is 0, as that of a bias in front of a batch norm, is a sum of terms that are not.
    magnitude = np.full(len(theta), np.abs(gradient).max(initial=0.0))

    def terms(x: np.ndarray) -> np.ndarray:
        total = evaluate(x)
        rows = per_sample_gradients(double, X, y, threads=1)
        rows *= _shares(sample_weight, len(rows))[:, None]
        return np.vstack([rows, total - rows.sum(axis=0)])

    separate = None if training and double.needs_batches else terms
    report = _compare(evaluate, theta, gradient, H, pair, chosen, rtol, magnitude, separate)
    return replace(report, what="Hessian")


def _parameter_names(net: Network) -> Callable[[int], str]:
    """Function from an index into theta to ``"0.weight[2, 1]"``."""
    slots = [(offset, shape, name) for name, offset, shape in net.layout]

    def name(i: int) -> str:
        offset, shape, parameter = max(slot for slot in slots if slot[0] <= i)
        place = ", ".join(str(int(k)) for k in np.unravel_index(i - offset, shape))
        return f"{parameter}[{place}]"

    return name


def _check_network(
    net: Network, X: Data, y: ArrayLike, options: Options, n: int | None, rng: np.random.Generator, rtol: float
) -> GradientReport:
    double = net.astype("float64")
    value, gradient = double.loss_and_gradient(X, y, **options)
    if not np.isfinite(value):
        raise ValueError(f"the loss is {value} at the network's parameters, expected a finite one")
    theta = double.theta.copy()

    def evaluate(x: np.ndarray) -> np.ndarray:
        double.theta[...] = x  # not through the setter: the loss of a parameter that is not finite may be asked for
        return np.array([double.loss(X, y, **options)])

    def terms(x: np.ndarray) -> np.ndarray:
        total = evaluate(x)
        samples, targets, _ = double.check_data(X, y, None)
        losses = [double.loss(samples[i : i + 1], targets[i : i + 1], threads=1) for i in range(len(samples))]
        rows = np.array(losses)[:, None] * _shares(options["sample_weight"], len(losses))[:, None]
        return np.vstack([rows, total - rows.sum(axis=0)])

    name = _parameter_names(double)
    chosen = _choose(len(theta), n, rng)
    values, claims = np.array([value]), gradient[:, None]
    separate = None if options["training"] and double.needs_batches else terms
    return _compare(evaluate, theta, values, claims, lambda i, _: name(i), chosen, rtol, terms=separate)


def _shares(sample_weight: ArrayLike | None, n_rows: int) -> np.ndarray:
    """w / Σ w."""
    weight = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
    shares: np.ndarray = weight / weight.sum()
    return shares


def _check_function(
    f: Callable[[np.ndarray], Any], x: Any, vjp: Any, n: int | None, rng: np.random.Generator, rtol: float
) -> GradientReport:
    point = np.array(x, dtype=np.float64)
    if point.size == 0 or not np.isfinite(point).all():
        raise ValueError(f"X: expected a point of finite values, got shape {point.shape}")

    def value_of(result: Any, what: str) -> np.ndarray:
        array = np.asarray(result)
        if array.dtype.kind not in "buif":
            raise TypeError(f"{what}: expected real numbers, got dtype {array.dtype}")
        return array.astype(np.float64)

    if vjp is None:
        result = f(point.copy())
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                "target: expected f(x) to return (value, reverse differential), or vjp= to be given, "
                f"got {type(result).__name__}"
            )
        value, differential = value_of(result[0], "value"), value_of(result[1], "reverse differential")
        shapes = {point.shape + value.shape}
        if differential.shape not in shapes and differential.size != point.size * value.size:
            raise ValueError(
                f"reverse differential: expected shape {point.shape + value.shape}, got {differential.shape}"
            )
        analytic = differential.reshape(point.size, value.size)
    else:
        if not callable(vjp):
            raise TypeError(f"vjp must be a function of x and a cotangent, got {vjp!r}")
        value = value_of(f(point.copy()), "value")
        analytic = np.empty((point.size, value.size))
        for j in range(value.size):
            cotangent = np.zeros(value.size)
            cotangent[j] = 1.0
            column = value_of(vjp(point.copy(), cotangent.reshape(value.shape)), "vjp")
            if column.shape != point.shape:
                raise ValueError(f"vjp: expected shape {point.shape} like x, got {column.shape}")
            analytic[:, j] = column.ravel()
    if not np.isfinite(value).all():
        raise ValueError("value: expected finite values at x, got others")

    def evaluate(flat: np.ndarray) -> np.ndarray:
        result = f(flat.reshape(point.shape).copy())
        array = value_of(result[0] if vjp is None else result, "value")
        if array.shape != value.shape:
            raise ValueError(f"value: expected shape {value.shape} as at x, got {array.shape}")
        return array.ravel()

    def place(i: int, shape: tuple[int, ...]) -> str:
        return f"[{', '.join(str(int(k)) for k in np.unravel_index(i, shape))}]" if shape else ""

    def name(i: int, j: int) -> str:
        return f"∂f{place(j, value.shape)}/∂x{place(i, point.shape)}"

    chosen = _choose(point.size, n, rng)
    return _compare(evaluate, point.ravel(), value.ravel(), analytic, name, chosen, rtol)


def _choose(size: int, n: int | None, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of n components drawn at random, or of all."""
    return np.arange(size) if n is None or n >= size else np.sort(rng.choice(size, n, replace=False))


def _compare(
    evaluate: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    value: np.ndarray,
    analytic: np.ndarray,
    name: Callable[[int, int], str],
    chosen: np.ndarray,
    rtol: float,
    magnitude: np.ndarray | None = None,
    terms: Callable[[np.ndarray], np.ndarray] | None = None,
) -> GradientReport:
    """Compare the derivatives with respect to the chosen components of x with differences of `evaluate`.

    `analytic` (x.size, value.size) has those of all components, or (len(chosen), value.size) of the chosen ones.

    `magnitude` is that of the terms that add up to the values, and so to their rounding; the values' own by default.
    `terms` gives (T, value.size) whose sum over T is what `evaluate` gives, each term differentiated on its own: at a
    kink their derivatives are right if each is between its one-sided ones, and so their sum.
    """
    magnitude = np.abs(value) if magnitude is None else magnitude
    with np.errstate(invalid="ignore"):
        floor = 1e-2 * np.nanmax(np.abs(analytic), axis=0, initial=0.0)
    rows = analytic[chosen] if len(analytic) == x.size else analytic
    failures: list[Component] = []
    kinks: list[Component] = []
    right: list[Component] = []
    squares = np.zeros(3)

    with np.errstate(all="ignore"):
        for i, exact in zip(map(int, chosen), rows, strict=True):

            def at(shift: float, i: int = i) -> np.ndarray:
                shifted = x.copy()
                shifted[i] += shift
                return evaluate(shifted)

            size = max(1.0, abs(x[i]))
            numerical, error, good = _central(at, size, exact, floor, magnitude, rtol)
            kinked = np.zeros(value.size, bool)
            if not good.all():
                bad = ~good
                tolerance = rtol * np.maximum(np.abs(exact), floor)
                nearest, agrees, at_kink = _one_sided(at, size, value, magnitude, tolerance, exact)
                kinked = bad & at_kink
                if terms is not None and (kinked & ~agrees).any():
                    agrees |= at_kink & _sum_of_intervals(terms, x, i, size, tolerance, exact)
                numerical[bad], error[bad] = nearest[bad], _relative(nearest, exact, floor)[0][bad]
                error[bad & np.isnan(error)] = np.inf
                good |= agrees
            for j in range(value.size):
                component = Component(name(i, j), float(exact[j]), float(numerical[j]), float(error[j]))
                (failures if not good[j] else kinks if kinked[j] else right).append(component)
            smooth = ~kinked
            squares += [
                np.nansum((numerical - exact)[smooth] ** 2),
                np.nansum(numerical[smooth] ** 2),
                np.nansum(exact[smooth] ** 2),
            ]
    failures.sort(key=lambda component: -component.error)
    counted = failures or right
    difference, first, second = np.sqrt(squares)
    return GradientReport(
        ok=not failures,
        error=float(difference / (first + second)) if first + second > 0 else 0.0,
        worst=max(counted, key=lambda component: component.error) if counted else None,
        failures=tuple(failures),
        kinks=tuple(kinks),
        checked=len(chosen) * value.size,
        total=x.size * value.size,
    )


def _sum_of_intervals(
    terms: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    i: int,
    size: float,
    tolerance: np.ndarray,
    exact: np.ndarray,
) -> np.ndarray:
    """Where the derivatives are sums of numbers between the one-sided derivatives of the terms."""

    def at(shift: float) -> np.ndarray:
        shifted = x.copy()
        shifted[i] += shift
        return terms(shifted)

    values = terms(x)
    magnitude = np.broadcast_to(np.abs(values).max(axis=1, keepdims=True), values.shape)
    low, high, error = _interval(at, size, values, magnitude)
    tolerance = tolerance + error.sum(axis=0)
    inside: np.ndarray = (low.sum(axis=0) - tolerance <= exact) & (exact <= high.sum(axis=0) + tolerance)
    return inside


def _relative(numerical: np.ndarray, exact: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|numerical − exact| over the larger of the two, or over `floor`; and that scale."""
    scale = np.maximum(np.maximum(np.abs(exact), np.abs(numerical)), floor)
    off = np.abs(numerical - exact)
    return np.where(off == 0.0, 0.0, off / scale), scale


def _central(
    at: Callable[[float], np.ndarray],
    size: float,
    exact: np.ndarray,
    floor: np.ndarray,
    magnitude: np.ndarray,
    rtol: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Central differences of the best step of each component, their relative errors, and which of them agree."""
    n = len(exact)
    numerical, error, good = np.full(n, np.nan), np.full(n, np.inf), np.zeros(n, bool)
    for step in STEPS:
        h = step * size
        slope = (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h)
        relative, scale = _relative(slope, exact, floor)
        agrees = np.abs(slope - exact) <= rtol * scale + ROUNDING * magnitude / h
        better = ~good & (agrees | ~(relative >= error)) & ~np.isnan(slope)
        numerical[better], error[better] = slope[better], relative[better]
        good |= agrees
        if good.all():
            break
    return numerical, error, good


def _one_sided(
    at: Callable[[float], np.ndarray],
    size: float,
    value: np.ndarray,
    magnitude: np.ndarray,
    tolerance: np.ndarray,
    exact: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By one-sided differences: the derivative nearest to `exact`, whether it agrees, and whether x is a kink."""
    low, high, off = _interval(at, size, value, magnitude)
    tolerance = tolerance + off
    kinked = high - low > 2.0 * tolerance
    # at a kink the claim itself, as far as it is between the two; without one the mean of the two
    nearest = np.where(kinked, np.clip(exact, low, high), 0.5 * (low + high))
    return nearest, np.abs(nearest - exact) <= tolerance, kinked


def _interval(
    at: Callable[[float], np.ndarray], size: float, value: np.ndarray, magnitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lower and the higher of the one-sided derivatives, and their error; unbounded where the value jumps."""
    left, left_error = _side(at, -size, value, magnitude)
    right, right_error = _side(at, size, value, magnitude)
    twice = np.isinf(left) & (left == right)  # it jumps on both sides, by whatever
    low, high = np.where(twice, -np.inf, np.minimum(left, right)), np.where(twice, np.inf, np.maximum(left, right))
    error = np.where(np.isfinite(left), left_error, 0.0) + np.where(np.isfinite(right), right_error, 0.0)
    return low, high, error


def _side(
    at: Callable[[float], np.ndarray], size: float, value: np.ndarray, magnitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The derivative on the side of a signed size, and its error; ±∞ where the function jumps at x.

    Of the three steps the one whose result differs least from that of the step before.
    """
    slopes = []
    for step in STEPS:
        h = step * size
        slopes.append((-11 * value + 18 * at(h) - 9 * at(2 * h) + 2 * at(3 * h)) / (6 * h))
    first, second = np.abs(slopes[1] - slopes[0]), np.abs(slopes[2] - slopes[1])
    rounding = [10 * ROUNDING * magnitude / (step * abs(size)) for step in STEPS]
    early = first + rounding[1] <= second + rounding[2]
    slope = np.where(early, slopes[1], slopes[2])
    error = np.where(early, first + rounding[1], second + rounding[2])
    # What a jump contributes is its height over the step: ten times as much for each step.
    jumps = (second > 5.0 * first) & (second > 100 * rounding[2])
    return np.where(jumps, np.copysign(np.inf, slopes[2]), slope), error
