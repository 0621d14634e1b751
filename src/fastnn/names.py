"""Names: what a module shows of itself, and what someone is likely to mean by a name that is not known."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "OPTIMIZERS",
    "explained",
    "explains_arguments",
    "listing",
    "suggestion",
]

P = ParamSpec("P")
T = TypeVar("T")

# Names of Keras, PyTorch and scikit-learn, without case and marks, and ours. Names that differ in case, in underscores
# or by a slip of the keyboard alone need no entry.
LOSSES = {
    "mse": "squared_error",
    "mseloss": "squared_error",
    "meansquarederror": "squared_error",
    "leastsquares": "squared_error",
    "l2": "squared_error",
    "mae": "absolute_error",
    "l1": "absolute_error",
    "l1loss": "absolute_error",
    "meanabsoluteerror": "absolute_error",
    "smoothl1": "huber",
    "smoothl1loss": "huber",
    "huberloss": "huber",
    "poissonnllloss": "poisson",
    "crossentropyloss": "cross_entropy",
    "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "softmax": "cross_entropy",
    "nll": "cross_entropy",
    "nllloss": "cross_entropy",
    "logloss": "cross_entropy",
    "bce": "binary_cross_entropy",
    "bceloss": "binary_cross_entropy",
    "bcewithlogitsloss": "binary_cross_entropy",
    "sigmoid": "binary_cross_entropy",
}
ACTIVATIONS = {
    "identity": "linear",
    "none": "linear",
    "logistic": "sigmoid",
    "swish": "silu",
    "hardsigmoid": "hard_tanh",
    "step": "sign",
}
OPTIMIZERS = {
    "momentum": "sgd",
    "gradientdescent": "sgd",
    "nesterov": "nag",
    "nadam": "adam",
    "lbfgs": "fnn.LBFGS()",
    "bfgs": "fnn.LBFGS()",
    "newton": "fnn.Newton()",
    "lm": "fnn.LevenbergMarquardt()",
}
INITIALIZERS = {
    "glorot": "glorot_uniform",
    "xavier": "glorot_uniform",
    "xavieruniform": "glorot_uniform",
    "xaviernormal": "glorot_normal",
    "he": "he_uniform",
    "kaiming": "he_uniform",
    "kaiminguniform": "he_uniform",
    "kaimingnormal": "he_normal",
    "lecun": "lecun_normal",
    "zero": "zeros",
    "randomuniform": "uniform",
    "randomnormal": "normal",
    "ones": "1.0",
}
SERIES = {
    "acc": "accuracy",
    "valacc": "val_accuracy",
    "validationloss": "val_loss",
    "validationaccuracy": "val_accuracy",
    "lr": "learning_rate",
}

#: Arguments of other libraries; the first of ours that the function has is meant.
_ARGUMENTS = {
    "lr": ("learning_rate_init", "learning_rate", "optimizer"),
    "eta": ("learning_rate_init", "learning_rate", "optimizer"),
    "learningrate": ("learning_rate_init", "learning_rate", "optimizer"),
    "weightdecay": ("weight_decay", "l2", "alpha"),
    "alpha": ("alpha", "l2"),
    "betas": ("beta_1", "beta1", "optimizer"),
    "eps": ("epsilon",),
    "nepochs": ("epochs", "max_iter"),
    "nbepoch": ("epochs", "max_iter"),
    "maxiter": ("max_iter", "epochs"),
    "epochs": ("epochs", "max_iter"),
    "batch": ("batch_size",),
    "bs": ("batch_size",),
    "randomstate": ("random_state", "seed"),
    "seed": ("seed", "random_state"),
    "njobs": ("threads", "n_threads"),
    "nthreads": ("n_threads", "threads"),
    "threads": ("threads", "n_threads"),
    "weights": ("sample_weight",),
    **dict.fromkeys(("useema", "emamomentum", "emadecay", "modelema"), ("ema",)),
    "validation": ("validation_data",),
    "evalset": ("validation_data",),
    "scoring": ("metrics",),
    "inputshape": ("input_size",),
    "inputdim": ("input_size",),
    "infeatures": ("input_size",),
    "outfeatures": ("units",),
    "usebias": ("bias",),
    "kernelinitializer": ("init",),
    "p": ("rate", "dropout"),
    "solver": ("solver", "optimizer"),
    "criterion": ("loss",),
}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _meant(name: str, known: Iterable[str], others: Mapping[str, str]) -> str | None:
    """Of `known` names the one that is likely meant, or the entry of `others` for this one."""
    plain = {_plain(one): one for one in known}
    asked = _plain(name)
    if asked in others:
        return others[asked]
    if asked in plain:
        return plain[asked]
    close = get_close_matches(asked, plain, n=1, cutoff=0.65)
    return plain[close[0]] if close else None


def suggestion(name: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """The end of an error message about a name that is not known: which one is likely meant, or nothing.

    Parameters
    ----------
    name : str
        As it was given.
    known : iterable of str
        Those there are. One that differs in case, in underscores or by little is proposed.
    others : mapping, optional
        What the names of other libraries are called here; keys without case and marks.

    Returns
    -------
    str
        Such as ``"; did you mean 'relu'?"``, or an empty string.
    """
    meant = _meant(name, known, others or {})
    if meant is None:
        return ""
    return f"; did you mean {meant if '(' in meant or meant[0].isdigit() else repr(meant)}?"


def explains_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Let a call with an argument that does not exist say which one is likely meant.

    The function itself is called as it is; only Python's own TypeError of a call that does not fit gets more words.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            # raised by the call itself, not within the function
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            hint = "" if found is None else _argument(function, found[1])
            if not hint:
                raise
            raise TypeError(f"{error}{hint}") from None

    return call


def explained(kind: type[T]) -> type[T]:
    """Class decorator: let its constructor say which argument is likely meant, as :func:`explains_arguments` does."""
    kind.__init__ = explains_arguments(kind.__init__)  # type: ignore[method-assign]
    return kind


def _argument(function: Callable[..., object], name: str) -> str:
    known = [known for known in inspect.signature(function).parameters if known not in ("self", name)]
    meant = next((ours for ours in _ARGUMENTS.get(_plain(name), ()) if ours in known), None)
    if meant == "optimizer":
        return "; it belongs to the optimizer, such as optimizer=fnn.Adam(learning_rate=0.01)"
    return suggestion(name, known) if meant is None else f"; did you mean {meant!r}?"


def listing(names: Iterable[str]) -> Callable[[], list[str]]:
    """A module's ``__dir__``, which shows these names and not what the module imports."""
    shown = sorted(names)
    return lambda: list(shown)
