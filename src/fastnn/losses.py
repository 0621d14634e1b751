"""Losses: what they expect as targets, how outputs become predictions, and what else is true of each.

The arithmetic (value, gradient, second derivative) is in the kernels; here stand small immutable descriptions. Facts
are attributes: code asks for what it must know (``loss.classifies``, ``loss.least_squares``), never for a loss's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from . import names
from .scalars import check_number

__all__ = [
    "LOSSES",
    "AbsoluteError",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "Loss",
    "Poisson",
    "SquaredError",
    "get",
]
__dir__ = names.listing(__all__)


@dataclass(frozen=True)
class Loss:
    """What every loss has: a name, facts, and methods that depend on them. Use one of its subclasses.

    Attributes
    ----------
    name : str
        That of its kernel, and of the loss with its default options.
    inverse_link : str
        What turns outputs z into probabilities or values: ``"softmax"``, ``"sigmoid"``, ``"exp"`` or ``"identity"``.
    classifies : bool
        Whether the targets are classes.
    takes_labels : bool
        Whether integer labels (N,) are targets.
    smooths_labels : bool
        Whether it has the option `label_smoothing`.
    couples_outputs : bool
        Whether ∂²ℓ/∂z² is diag(q) − q qᵀ, with q = softmax(z), instead of diagonal.
    has_curvature : bool
        Whether ∂²ℓ/∂z² is anything but zero.
    is_likelihood : bool
        Whether exp(−ℓ) is, up to a factor without z, the probability or density of a target.
    least_squares : bool
        Whether ℓ = ½ ‖z − y‖²: a sum of squared residuals, and as a likelihood one with a free variance.
    """

    name: ClassVar[str]
    inverse_link: ClassVar[str] = "identity"
    classifies: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = False
    smooths_labels: ClassVar[bool] = False
    couples_outputs: ClassVar[bool] = False
    has_curvature: ClassVar[bool] = True
    is_likelihood: ClassVar[bool] = True
    least_squares: ClassVar[bool] = False

    def options(self) -> dict[str, float]:
        """Its options, as keyword arguments of the kernel and of a plan."""
        return dict(vars(self))

    def require_probabilities(self, method: str = "predict_proba") -> None:
        """Raise a ValueError in the name of a method unless predictions have probabilities."""
        if not self.classifies:
            raise ValueError(f"{method} needs a classifier, got loss {self.name!r}; use predict")

    def value(self, kernels: ModuleType, Z: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> float:
        """Weighted mean over rows, by the loss's kernel in a backend's module of kernels.

        Parameters
        ----------
        kernels : module
            :mod:`fastnn.kernels` or :mod:`fastnn.reference`.
        Z, y, w : ndarray (N, K), (N,) or (N, K), (N,) or None
            Outputs, checked targets, weights.
        """
        mean, _ = getattr(kernels, self.name).unchecked(Z, y, w, **self.options())
        return float(mean)

    @property
    def shorthand(self) -> str | Loss:
        """The name where all options have their defaults, else the loss itself."""
        return self.name if self == type(self)() else self

    def check_targets(self, y: object, n_rows: int, n_outputs: int, dtype: np.dtype) -> np.ndarray:
        """Targets as the backends take them.

        Parameters
        ----------
        y : array_like
            cross_entropy: integer labels (N,) in [0, K), or rows (N, K) that are at least 0 and sum to 1.
            binary_cross_entropy: values in [0, 1] (also bool), (N, K), or (N,) when K is 1.
            poisson: finite values, at least 0, (N, K), or (N,) when K is 1.
            The others: finite real values, (N, K), or (N,) when K is 1.
        n_rows, n_outputs : int
            N and K.
        dtype : dtype
            That of the network.

        Returns
        -------
        ndarray
            C-contiguous; int64 (N,) for labels, else `dtype` (N, K). A copy only where one is needed.

        Raises
        ------
        TypeError
            If y is not numeric, or labels are not integers.
        ValueError
            If the shape does not fit or a value is out of range; the message has the first such row.
        """
        array = _numeric(y)
        if array.shape[:1] != (n_rows,):
            raise ValueError(f"y: expected {n_rows} rows like X, got shape {array.shape}")
        return self._targets(array, n_outputs, dtype)

    def _targets(self, array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
        return _values(array, n_outputs, dtype)

    @classmethod
    def has_one_class(cls, n_outputs: int) -> bool:
        """Whether each row belongs to exactly one class."""
        return False

    @classmethod
    def labels(cls, y: np.ndarray) -> np.ndarray:
        """Classes of checked targets; soft targets count as their likeliest class.

        Parameters
        ----------
        y : ndarray (N,) or (N, K)

        Returns
        -------
        ndarray (N, 1) of one class per row, or (N, K) of K answers

        Raises
        ------
        TypeError
            If the targets are not classes.
        """
        raise TypeError(f"labels: the targets of {cls.name} are not classes")

    @classmethod
    def hits(cls, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether each row is classified correctly, in all of its outputs.

        Parameters
        ----------
        Z : ndarray (N, K)
            Outputs.
        y : ndarray (N,) or (N, K)
            Checked targets.

        Returns
        -------
        ndarray (N,) of bool

        Raises
        ------
        TypeError
            If the targets are not classes.
        """
        raise TypeError(f"hits: the targets of {cls.name} are not classes")

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """∂ℓ/∂z for targets drawn from the likelihood at outputs z; its mean outer product is ∂²ℓ/∂z².

        Parameters
        ----------
        Z : ndarray (N, K)
            Outputs.
        q : ndarray (N, K)
            Second derivative, as :func:`fastnn.reference.losses.loss_curvature` gives it.
        generator : numpy.random.Generator

        Returns
        -------
        ndarray (N, K), Z's dtype

        Raises
        ------
        TypeError
            If there is nothing to draw from.
        """
        raise TypeError(f"draw: {cls.name} has no likelihood with curvature")

    @classmethod
    def curvature_weight(
        cls, y: np.ndarray, weight: np.ndarray | None, label_smoothing: float = 0.0
    ) -> np.ndarray | None:
        """What multiplies each row's diag(q) − q qᵀ or diag(q) in w ∂²ℓ/∂z²: its weight, unless the loss says more.

        Parameters
        ----------
        y : ndarray (N,) or (N, K)
            Targets.
        weight : ndarray (N,) or None
        label_smoothing : float, default=0.0

        Returns
        -------
        ndarray (N,) of the targets' dtype, or None for ones
        """
        return weight

    @classmethod
    def constant(cls, y: np.ndarray) -> np.ndarray | None:
        """−log p(y | z) − ℓ for each row (N,), in float64; None where it is zero, or depends on a free variance."""
        return None

    @classmethod
    def deviance_constant(cls, y: np.ndarray) -> np.ndarray | None:
        """−min over z of ℓ for each row (N,), in float64, which turns ℓ into half the deviance; None for zero.

        Of classes it is zero with hard targets, and None.
        """
        return None

    @classmethod
    def half_deviance(cls, Z: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.ndarray | None:
        """Half the deviance of each output, (N, K), given the predictions' error; None where scores have none.

        Parameters
        ----------
        Z, y, error : ndarray (N, K)
            Outputs, targets, prediction − target.
        """
        return None


@names.explained
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy, ℓ = −Σ_k y_k log softmax(z)_k, for one of K classes.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        ε in [0, 1). Above 0 the loss takes y' = (1 − ε) y + ε / K for y, be y labels, one-hot rows or soft ones.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Szegedy et al. 2016, section 7; as torch's ``label_smoothing``. The targets are smoothed inside the kernel and never
    stored. Every loss that the network reports is the smoothed one, ``evaluate`` included; predictions and accuracy go
    by the targets as they are.

    Examples
    --------
    >>> import fastnn as fnn
    >>> loss = fnn.losses.CrossEntropy(label_smoothing=0.1)
    >>> fnn.Sequential([fnn.Dense(3)], input_size=4, loss=loss)
    Sequential(4-3, loss=CrossEntropy(label_smoothing=0.1), dtype='float32', 15 parameters)
    """

    name: ClassVar[str] = "cross_entropy"
    inverse_link: ClassVar[str] = "softmax"
    classifies: ClassVar[bool] = True
    takes_labels: ClassVar[bool] = True
    smooths_labels: ClassVar[bool] = True
    couples_outputs: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        smoothing = check_number("label_smoothing", self.label_smoothing, minimum=0.0, below=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)

    def _targets(self, array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
        return _class_targets(array, n_outputs, dtype)

    @classmethod
    def has_one_class(cls, n_outputs: int) -> bool:
        return True

    @classmethod
    def labels(cls, y: np.ndarray) -> np.ndarray:
        return (y if y.ndim == 1 else y.argmax(axis=1))[:, None]

    @classmethod
    def hits(cls, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
        right: np.ndarray = Z.argmax(axis=1) == cls.labels(y)[:, 0]
        return right

    @classmethod
    def curvature_weight(
        cls, y: np.ndarray, weight: np.ndarray | None, label_smoothing: float = 0.0
    ) -> np.ndarray | None:
        """w Σ_k y'_k, as ∂²ℓ/∂z² is Σ y' (diag p − p pᵀ); soft targets rarely sum to exactly 1."""
        if y.ndim == 1:
            return weight
        excess = (1.0 - label_smoothing) * (y.sum(axis=1, dtype=np.float64) - 1.0)
        if not excess.any():
            return weight
        scaled: np.ndarray = 1.0 + excess if weight is None else weight * (1.0 + excess)
        return scaled.astype(y.dtype)

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        below = np.cumsum(q[:, :-1], axis=1, dtype=np.float64) <= generator.random((len(q), 1))
        drawn = below.sum(axis=1)
        cotangent = q.copy()
        cotangent[np.arange(len(q)), drawn] -= 1.0
        return cotangent


@names.explained
@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy, ℓ = −Σ_k y_k log s_k + (1 − y_k) log(1 − s_k), s = sigmoid(z).

    For K yes/no questions that do not exclude one another (several labels); K = 1 is binary classification.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        ε in [0, 1). Above 0 the loss takes y' = (1 − ε) y + ε / 2 for y, as the softmax of two classes does.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    As Keras' ``BinaryCrossentropy(label_smoothing=)``. The targets are smoothed inside the kernel and never stored.
    Every loss that the network reports is the smoothed one, ``evaluate`` included; predictions and accuracy go by the
    targets as they are.

    Examples
    --------
    >>> import fastnn as fnn
    >>> loss = fnn.losses.BinaryCrossEntropy(label_smoothing=0.1)
    >>> fnn.Sequential([fnn.Dense(1)], input_size=4, loss=loss)
    Sequential(4-1, loss=BinaryCrossEntropy(label_smoothing=0.1), dtype='float32', 5 parameters)
    """

    name: ClassVar[str] = "binary_cross_entropy"
    inverse_link: ClassVar[str] = "sigmoid"
    classifies: ClassVar[bool] = True
    smooths_labels: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        smoothing = check_number("label_smoothing", self.label_smoothing, minimum=0.0, below=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)

    def _targets(self, array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
        return _binary_targets(array, n_outputs, dtype)

    @classmethod
    def has_one_class(cls, n_outputs: int) -> bool:
        return n_outputs == 1

    @classmethod
    def labels(cls, y: np.ndarray) -> np.ndarray:
        return y > 0.5

    @classmethod
    def hits(cls, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
        hits: np.ndarray = ((Z > 0.0) == cls.labels(y)).all(axis=1)
        return hits

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        p = np.exp(-np.logaddexp(0.0, -Z.astype(np.float64)))
        return (p - (generator.random(p.shape) < p)).astype(Z.dtype)


@names.explained
@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared error, ℓ = ½ Σ_k (z_k − y_k)²: regression to the mean."""

    name: ClassVar[str] = "squared_error"
    least_squares: ClassVar[bool] = True

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Targets of the normal distribution around z with variance 1."""
        return generator.standard_normal(Z.shape).astype(Z.dtype)


@names.explained
@dataclass(frozen=True)
class AbsoluteError(Loss):
    """Absolute error, ℓ = Σ_k |z_k − y_k|, with derivative 0 where z = y: regression to the median."""

    name: ClassVar[str] = "absolute_error"
    has_curvature: ClassVar[bool] = False


@names.explained
@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss with δ = 1, ℓ = Σ_k ½ d_k² where |d_k| ≤ 1, |d_k| − ½ beyond, with d = z − y.

    Between squared and absolute error: outliers pull with a bounded force. For another δ divide the targets by it.
    """

    name: ClassVar[str] = "huber"
    is_likelihood: ClassVar[bool] = False

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """√q times a random sign, as there is no likelihood."""
        signs: np.ndarray = generator.integers(0, 2, Z.shape).astype(Z.dtype) * 2 - 1
        drawn: np.ndarray = np.sqrt(q) * signs
        return drawn


@names.explained
@dataclass(frozen=True)
class Poisson(Loss):
    """Negative log-likelihood of counts, ℓ = Σ_k e^{z_k} − y_k z_k, without its constant log y!.

    The outputs z are logarithms of rates: ``predict`` gives the rates e^z, ``decision_function`` gives z. Targets are
    at least 0 and need not be whole. A rate beyond the dtype (z above 88.7 in float32, 709.7 in float64) is infinite,
    and stops training as a divergence.
    """

    name: ClassVar[str] = "poisson"
    inverse_link: ClassVar[str] = "exp"

    def _targets(self, array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
        values = _values(array, n_outputs, dtype)
        _refuse(values < 0.0, values, "values >= 0")
        return values

    @classmethod
    def draw(cls, Z: np.ndarray, q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn: np.ndarray = q - generator.poisson(np.minimum(q, 1e15))
        return drawn.astype(Z.dtype)

    @classmethod
    def constant(cls, y: np.ndarray) -> np.ndarray:
        """Σ log y!."""
        from scipy.special import gammaln  # the module itself needs NumPy alone

        log_factorials: np.ndarray = gammaln(y + 1.0).sum(axis=1)
        return log_factorials

    @classmethod
    def deviance_constant(cls, y: np.ndarray) -> np.ndarray:
        """Σ y log y − y, with 0 log 0 = 0."""
        from scipy.special import xlogy

        constant: np.ndarray = (xlogy(y, y) - y).sum(axis=1, dtype=np.float64)
        return constant

    @classmethod
    def half_deviance(cls, Z: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.ndarray:
        """y (log y − z) − y + e^z."""
        log_y = np.log(np.where(y == 0.0, 1.0, y))  # y log y is 0 at 0
        half: np.ndarray = y * (log_y - Z) + error
        return half


def _numeric(y: object) -> np.ndarray:
    if hasattr(y, "tocsr"):
        raise TypeError(f"y: expected a dense array, got a sparse {type(y).__name__}; use y.toarray()")
    array = np.asarray(y)
    if array.dtype.kind in "OSUT":
        raise TypeError(
            f"y: expected numbers, got dtype {array.dtype}; "
            "encode class names first, for instance classes, y = np.unique(y, return_inverse=True)"
        )
    if array.dtype.kind not in "buif":
        raise TypeError(f"y: expected numbers, got dtype {array.dtype}")
    return array


def _values(array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
    """Real values as (N, K) of the network's dtype, checked to be finite after the cast."""
    if array.ndim == 1 and n_outputs == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != n_outputs:
        shapes = f"({array.shape[0]}, {n_outputs})" + (f" or ({array.shape[0]},)" if n_outputs == 1 else "")
        raise ValueError(f"y: expected shape {shapes}, got {array.shape}")
    with np.errstate(over="ignore"):  # an overflow shows as inf below
        values = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
        raise ValueError(
            f"y: expected finite values of {dtype}, got {array[row, column]} in row {row}, column {column}"
        )
    return values


def _class_targets(array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
    if array.ndim == 1:
        if array.dtype.kind == "f":
            raise TypeError(f"y: expected integer labels, got dtype {array.dtype}; use y.astype(int) for whole numbers")
        if array.size and (array.min() < 0 or array.max() >= n_outputs):
            row = int(((array < 0) | (array >= n_outputs)).argmax())
            raise ValueError(f"y: expected labels in [0, {n_outputs}), got {array[row]} in row {row}")
        return np.ascontiguousarray(array, dtype=np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        raise ValueError(f"y: expected labels of shape ({array.shape[0]},), got {array.shape}; use y.ravel()")
    if array.ndim != 2 or array.shape[1] != n_outputs:
        n_rows = array.shape[0]
        raise ValueError(f"y: expected shape ({n_rows},) or ({n_rows}, {n_outputs}), got {array.shape}")
    values = _values(array, n_outputs, dtype)
    sums = values.sum(axis=1, dtype=np.float64)
    # Soft targets are often themselves float32 softmax outputs: their sums are 1 to a few units in the last place.
    wrong = (values < 0.0).any(axis=1) | (np.abs(sums - 1.0) > 1e-3)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"y: expected rows that are >= 0 and sum to 1, got {values[row].tolist()} in row {row}")
    return values


def _binary_targets(array: np.ndarray, n_outputs: int, dtype: np.dtype) -> np.ndarray:
    values = _values(array, n_outputs, dtype)
    _refuse((values < 0.0) | (values > 1.0), values, "values in [0, 1]")
    return values


def _refuse(wrong: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Raise with the first wrong value, if there is one."""
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ValueError(f"y: expected {expected}, got {values[row, column]:g} in row {row}, column {column}")


#: The losses by name; the position of a name is its code, as in csrc/kernels/loss_list.h.
LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (CrossEntropy, BinaryCrossEntropy, SquaredError, AbsoluteError, Huber, Poisson)
}

_DEFAULTS = {name: loss() for name, loss in LOSSES.items()}


def get(loss: object) -> Loss:
    """The loss itself, or the one of that name with its default options.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `loss` is neither a loss nor a name.
    """
    if isinstance(loss, Loss) and type(loss) is not Loss:
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            hint = names.suggestion(loss, LOSSES, names.LOSSES)
            raise ValueError(f"loss: unknown name {loss!r}; known: {', '.join(LOSSES)}{hint}")
        return _DEFAULTS[loss]
    hint = f"; did you mean {loss.__name__}()?" if isinstance(loss, type) else ""
    raise TypeError(
        f"loss must be a name (str) or a loss such as CrossEntropy(label_smoothing=0.1), got {loss!r}{hint}"
    )
