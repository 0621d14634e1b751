"""What the curvature functions take alike: types, defaults and documentation of those arguments, in one place.

A function names the shared keywords as ``**data: Unpack[DataOptions]``, hands them on to `EmpiricalRisk`, and describes
only what is its own. :func:`shared_arguments` writes the rest out, so that ``help`` and editors show every argument.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TypedDict, TypeVar, cast

from .._typing import ArrayLike

__all__ = ["DEFAULTS", "DataOptions", "given_options", "shared_arguments", "with_defaults"]

Function = TypeVar("Function", bound=Callable[..., object])


class DataOptions(TypedDict, total=False):
    """How an objective J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² is made of data, and computed; :data:`TEXTS` describes each."""

    sample_weight: ArrayLike | None
    l2: float
    training: bool
    threads: int | None


#: What stands for an option that is not given.
DEFAULTS: DataOptions = {"sample_weight": None, "l2": 0.0, "training": False, "threads": None}

#: Parts of docstrings, by the name that stands for them.
TEXTS = {
    "net": "net : Sequential",
    "running net": """\
net : Sequential
    Batch norm uses its running statistics.""",
    "X": """\
X : array_like (N, D) or sparse matrix
    At least one row.""",
    "kept X": """\
X : array_like (N, D) or sparse matrix
    At least one row. Copied, unless it is sparse or has more than 1 GiB: then it must not change as long as the
    operator is used.""",
    "y": """\
y : array_like
    Targets as the network's loss takes them: class indices (N,), or values (N, K).""",
    "sample_weight": """\
sample_weight : array_like (N,), optional
    A weight of 2 counts a row twice.""",
    "l2": """\
l2 : float, default=0.0
    Of the weights, not of the biases, γ and β; a layer's own ``l2`` takes its place.""",
    "training": """\
training : bool, default=False
    Whether batch norm uses the statistics of these rows. Nothing is dropped either way. All rows are then taken at
    once, and memory grows with their number times the widths of the layers.""",
    "training=False": """\
training : bool, default=False
    Must be False where there is batch norm.""",
    "threads": """\
threads : int, optional
    None is the present limit of BLAS.""",
    "keep": """\
keep : {"auto", True, False}
    Whether to keep what the forward and backward pass over the data have found, so that a product is two tangent
    passes; "auto" does where it takes 1 GiB or less. Without, each product runs in chunks of rows.""",
    "max_bytes": """\
max_bytes : int, optional
    Largest result that is allowed; None is the memory that is available.""",
    "too large": """\
MemoryError
    If the result is too large, before it is allocated.""",
    "does not fit": """\
TypeError, ValueError
    If an argument does not fit.""",
    "not defined": """\
TypeError, ValueError
    If an argument does not fit, or curvature is not defined: for the loss absolute_error and the activation sign.""",
    "no rows": """\
TypeError, ValueError
    If an argument does not fit, or with ``training=True`` and batch norm, where a row has no gradient of its own.""",
}

#: A line of a docstring that stands for some of these texts: ``{net, X, y}``.
LINE = re.compile(r"^( *)\{([^{}:\n]+)\}$", re.MULTILINE)


def shared_arguments(function: Function) -> Function:
    """Write out a function's shared arguments, in its signature and in its docstring.

    In the signature ``**data`` becomes the keywords of `DataOptions`; a line ``{net, X, y}`` of the docstring becomes
    the texts of these names.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        types = {name: hint.__forward_arg__ for name, hint in DataOptions.__annotations__.items()}
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
            for name, default in DEFAULTS.items()
        ]
        own = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        first = [p for p in parameters[:-1] if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        # a TypeVar bound to callables has no attributes to set
        function.__signature__ = signature.replace(parameters=[*first, *shared, *own])  # type: ignore[attr-defined]
    if function.__doc__ is not None:  # None under python -OO
        function.__doc__ = LINE.sub(_texts, function.__doc__)
    return function


def _texts(line: re.Match[str]) -> str:
    """The texts that a line stands for, indented like it."""
    indent = line[1]
    lines = "\n".join(TEXTS[name.strip()] for name in line[2].split(",")).split("\n")
    return "\n".join(indent + text for text in lines)


def with_defaults(what: str, options: DataOptions) -> DataOptions:
    """All options, those that are not given by their defaults; refuses others in the name of the function `what`."""
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}")
    return {**DEFAULTS, **options}


def given_options(options: DataOptions) -> list[str]:
    """Names of the options that have another value than the default."""
    given = cast(dict[str, object], options)
    defaults = cast(dict[str, object], DEFAULTS)
    return [
        name
        for name, value in given.items()
        if value is not defaults[name] and not (isinstance(value, float | int) and value == defaults[name])
    ]
