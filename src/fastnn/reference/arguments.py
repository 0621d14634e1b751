"""The arguments of a kernel: one contract, checked alike by the NumPy function and by its compiled form.

:func:`checked` states what a function takes, in the order of its parameters::

    @checked(X=Read("N", "n_in"), W=Read("n_in", "n_out"), b=Read("n_out", optional=True), activation=ACTIVATION)
    def dense_forward(X, W, b=None, activation="linear"): ...

A letter or name in a shape is the length of an axis, the same wherever it is repeated. The first array of floats sets
the dtype of all of them. Nothing is cast. What is written (:class:`Changed`, :class:`Out`) must not share memory with
any other array of the call, unless the contract says that it may be the same array. Everything is checked before
anything is changed; errors name the argument, what was expected and what came.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..plan import ACTIVATIONS

__all__ = [
    "ACTIVATION",
    "ANY",
    "Changed",
    "Contract",
    "Integer",
    "Like",
    "Number",
    "Out",
    "Read",
    "check_array",
    "checked",
    "flag",
    "threads",
]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
#: The shape of an array that may have any.
ANY = "..."
_ANY_SHAPE = (ANY,)

Shape = Sequence[int | str]
Function = TypeVar("Function", bound=Callable[..., Any])
Check = Callable[[str, Any, "Call"], object]


# -- arrays -----------------------------------------------------------------------------------------------------------


def check_array(
    name: str, value: object, shape: Shape, dtype: np.dtype | None = None, *, writable: bool = False
) -> np.ndarray:
    """`value` as a float array of the given shape, never cast; names in `shape` stand for any length.

    `dtype` is the one that all arguments must share (that of the first of them); None accepts float32 and float64.
    """
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name}: expected an array without a mask, got a masked array")
        if writable and not isinstance(value, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array to change in place, got {type(value).__name__}")
    array = np.asarray(value)
    found = array.dtype
    if found not in FLOATS:
        raise TypeError(f"{name}: expected dtype float32 or float64, got {found}")
    if dtype is not None and found != dtype:
        raise TypeError(f"{name}: expected dtype {dtype} like the other arguments, got {found}")
    if shape != _ANY_SHAPE:
        lengths = array.shape
        matches = len(lengths) == len(shape)
        if matches:
            for want, have in zip(shape, lengths, strict=True):
                if want != have and not isinstance(want, str):
                    matches = False
        if not matches:
            letters = ", ".join(str(length) for length in shape) + ("," if len(shape) == 1 else "")
            raise ValueError(f"{name}: expected shape ({letters}), got {array.shape}")
    if writable and not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return array


def check_layout(name: str, array: np.ndarray, *, rows_apart: bool = False) -> None:
    """Refuse a result that is not C-contiguous and aligned; with `rows_apart`, rows may be at any distance."""
    if not array.flags.aligned:
        raise ValueError(
            f"{name}: expected a C-contiguous, aligned array, got an address that is no multiple of the element"
        )
    if array.flags.c_contiguous:
        return
    if not rows_apart:
        raise ValueError(f"{name}: expected a C-contiguous, aligned array, got strides {array.strides}")
    row, element = array.strides
    if array.shape[1] > 1 and element != array.itemsize:
        raise ValueError(f"{name}: expected the elements of a row next to each other, got strides {array.strides}")
    if row % array.itemsize or (array.shape[0] > 1 and abs(row) < array.shape[1] * array.itemsize):
        raise ValueError(
            f"{name}: expected rows that are whole elements and do not overlap, got strides {array.strides}"
        )


def same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same elements in the same places."""
    same = a.shape == b.shape and a.strides == b.strides
    return same and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]


def shares_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have a byte in common; True also where that is hard to tell."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=100_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def ready(array: np.ndarray, *, strided: bool = False) -> np.ndarray:
    """`array`, or a copy of it that is C-contiguous and aligned; `strided`: whole elements apart is enough."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    if strided and flags.aligned and not any(stride % array.itemsize for stride in array.strides):
        return array
    array = np.asarray(array, order="C")
    return array if array.flags.aligned else array.copy()


class Call:
    """What is known of a call: its values, the dtype and lengths that are settled, arrays that are read and written."""

    __slots__ = ("apart", "dtype", "lengths", "read", "strided", "values", "written")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.dtype: np.dtype | None = None
        self.lengths: dict[str, int] = {}
        self.read: dict[str, np.ndarray] = {}
        self.written: dict[str, np.ndarray] = {}
        self.strided: set[str] = set()
        self.apart: dict[str, tuple[str, ...]] = {}

    def settle(self, name: str, value: object, shape: Shape, *, writable: bool = False) -> np.ndarray:
        """`value`, checked against what the arguments before it have settled; it settles the rest of its shape."""
        lengths = self.lengths
        known = tuple([lengths.get(n, n) for n in shape]) if lengths else shape  # type: ignore[arg-type]
        array = check_array(name, value, known, self.dtype, writable=writable)
        self.dtype = array.dtype
        if shape != _ANY_SHAPE:
            lengths.update(zip(shape, array.shape, strict=True))  # type: ignore[arg-type]
        return array

    def check_apart(self) -> None:
        """Refuse arrays that are written and overlap another array."""
        seen: list[tuple[str, np.ndarray]] = list(self.read.items())
        for name, array in self.written.items():
            allowed = self.apart.get(name, ())
            for other, memory in seen:
                if shares_memory(array, memory) and not (other in allowed and same_memory(array, memory)):
                    either = f"{' or '.join(allowed)}, or " if allowed else ""
                    raise ValueError(
                        f"{name}: expected {either}an array apart from the other arguments,"
                        f" got one that overlaps {other}"
                    )
            seen.append((name, array))

    def make_ready(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Put contiguous, aligned arrays instead of the others; pairs of (array, copy) to write back."""
        for name, array in self.read.items():
            self.values[name] = ready(array, strided=name in self.strided)
        back = []
        for name, array in self.written.items():
            copy = ready(array)
            if copy is not array and name not in self.apart:
                self.values[name] = copy
                back.append((array, copy))
        return back


class Read:
    """An array of floats that is only read.

    `least` are the smallest lengths of its axes; of a `strided` one the compiled function needs no contiguous copy.
    """

    def __init__(self, *shape: int | str, optional: bool = False, least: Shape = (), strided: bool = False) -> None:
        self.shape, self.optional, self.least, self.strided = shape, optional, least, strided

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray | None:
        if value is None and self.optional:
            return None
        array = call.settle(name, value, self.shape)
        if self.least and not all(map(operator.ge, array.shape, self.least)):
            rows, columns = self.least
            what = "one row and one column" if rows and columns else "one column" if columns else "one row"
            raise ValueError(f"{name}: expected at least {what}, got shape {array.shape}")
        call.read[name] = array
        if self.strided:
            call.strided.add(name)
        return array


class Like(Read):
    """An array of floats in the shape of an earlier argument that is only read."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.other = other

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray:
        call.read[name] = call.settle(name, value, call.read[self.other].shape)
        return call.read[name]


class Changed:
    """An array of floats that is changed in place; `contiguous`, where it is too large to be copied."""

    def __init__(self, *shape: int | str, optional: bool = False, contiguous: bool = False) -> None:
        self.shape, self.optional, self.contiguous = shape, optional, contiguous

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray | None:
        if value is None and self.optional:
            return None
        array = call.settle(name, value, self.shape, writable=True)
        if self.contiguous:
            check_layout(name, array)
        elif any(n > 1 and abs(step) < array.itemsize for n, step in zip(array.shape, array.strides, strict=True)):
            raise ValueError(f"{name}: expected elements that do not overlap each other, got strides {array.strides}")
        call.written[name] = array
        return array


class Out:
    """An array for the result, or None for a new one: C-contiguous, or of rows apart; `in_place` of these arguments.

    `shape` are names of lengths, or a function that makes a shape of a dictionary of them; flags count as lengths.
    """

    def __init__(
        self,
        *shape: int | str | Callable[[dict[str, int]], tuple[int, ...]],
        rows_apart: bool = False,
        in_place: tuple[str, ...] = (),
    ) -> None:
        self.shape, self.rows_apart, self.in_place = shape, rows_apart, in_place

    def __call__(self, name: str, value: object, call: Call) -> np.ndarray | None:
        if value is None:
            return None
        shape = self.shape[0](call.lengths) if callable(self.shape[0]) else self.shape
        array = call.settle(name, value, shape, writable=True)  # type: ignore[arg-type]
        check_layout(name, array, rows_apart=self.rows_apart)
        call.written[name] = array
        call.apart[name] = self.in_place
        return array


# -- numbers ----------------------------------------------------------------------------------------------------------


class Number:
    """A number as a float. Without bounds it may be infinite or NaN; `above` and `below` are open bounds."""

    def __init__(
        self, *, above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf, finite: bool = False
    ) -> None:
        self.above, self.minimum, self.below, self.finite = above, minimum, below, finite
        self.bounded = finite or above > -math.inf or minimum > -math.inf or below < math.inf
        self.expected = (
            f"a number in [{minimum:g}, {below:g})"
            if below < math.inf
            else ("a finite number" if finite else "a number")
            + (f" > {above:g}" if above > -math.inf else "")
            + (f" >= {minimum:g}" if minimum > -math.inf else "")
        )

    def __call__(self, name: str, value: Any, call: Call) -> float:
        if type(value) is not float:
            if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value):
                raise TypeError(f"{name}: expected a number, got {value!r}")
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise TypeError(f"{name}: expected a number, got {value!r}") from None
            except OverflowError:
                raise ValueError(f"{name}: expected a number that fits into float64, got {value!r}") from None
        else:
            number = value
        if self.bounded:
            inside = number > self.above or self.above == -math.inf
            inside = inside and number >= self.minimum and (number < self.below or self.below == math.inf)
            if not inside or (self.finite and math.isinf(number)):
                raise ValueError(f"{name}: expected {self.expected}, got {value!r}")
        return number


class Integer:
    """An integer from `minimum` to `maximum`."""

    def __init__(self, minimum: int, maximum: int = 2**63 - 1) -> None:
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, name: str, value: Any, call: Call) -> int:
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{name}: expected an integer, got {value!r}") from None
        if number < self.minimum and self.maximum == 2**63 - 1:
            raise ValueError(f"{name}: expected an integer >= {self.minimum}, got {number}")
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{name}: expected an integer in [{self.minimum}, {self.maximum}], got {number}")
        return number


def flag(name: str, value: object, call: Call) -> bool:
    """True or False; as a length of shapes it is 1 or 0."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    call.lengths[name] = int(value)
    return bool(value)


def threads(name: str, value: object, call: Call) -> int | None:
    """The most threads to use, or None."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer or None, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return min(int(value), 1 << 16)


def ACTIVATION(name: str, value: object, call: Call) -> str:
    """The name of an activation."""
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ValueError(f"{name}: expected one of {', '.join(ACTIVATIONS)}, got {value!r}")
    return value


# -- contracts --------------------------------------------------------------------------------------------------------


class Contract:
    """What a function takes: a check for each parameter, and checks of several together."""

    def __init__(
        self, function: Callable[..., Any], together: tuple[Callable[[Call], None], ...], **checks: Check
    ) -> None:
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        if list(checks) != [parameter.name for parameter in parameters]:
            raise TypeError(f"{function.__name__}: the contract's names {list(checks)} are not those of its parameters")
        self.checks = tuple(checks.items())
        self.names = frozenset(checks)
        self.together = together
        self.positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Call:
        """The call, checked; the values of its arguments are ready to be handed on."""
        values = {**self.defaults, **dict(zip(self.positional, args, strict=False)), **kwargs}
        if (
            values.keys() != self.names
            or len(args) > len(self.positional)
            or (kwargs and not kwargs.keys().isdisjoint(self.positional[: len(args)]))
        ):
            self.signature.bind(*args, **kwargs)  # raises what every function would
        call = Call(values)
        for name, check in self.checks:
            values[name] = check(name, values[name], call)
        for check_together in self.together:
            check_together(call)
        if call.written:
            call.check_apart()
        return call


def checked(*together: Callable[[Call], None], **checks: Check) -> Callable[[Function], Function]:
    """Decorate a function with the contract of its arguments, kept as its attribute `contract`.

    Its attribute `unchecked` is the function itself, for calls with arguments that are known to keep the contract.
    """

    def decorate(function: Function) -> Function:
        contract = Contract(function, together, **checks)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(**contract.check(args, kwargs).values)

        call.contract, call.unchecked = contract, function  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate
