"""Names: what modules show of themselves, and what a message proposes for a name that is not known."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest

import fastnn as fnn
from fastnn.names import listing, suggestion

#: Modules that users have reason to look into.
PUBLIC = sorted(
    name
    for _, name, _ in pkgutil.iter_modules(fnn.__path__)
    if not name.startswith("_") and name not in ("cli", "linalg", "names")
)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_module_shows_its_public_names_alone(name: str) -> None:
    if name == "estimators":
        pytest.importorskip("sklearn")
    module = importlib.import_module(f"fastnn.{name}")
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


def test_the_package_shows_its_public_names_alone() -> None:
    assert dir(fnn) == sorted(fnn.__all__)
    assert "Any" not in dir(fnn)


def test_a_listing_cannot_be_changed() -> None:
    show = listing(["b", "a"])
    show().append("c")
    assert show() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("ReLU", ["relu", "tanh"], "; did you mean 'relu'?"),
        ("leakyrelu", ["relu", "leaky_relu"], "; did you mean 'leaky_relu'?"),
        ("accuracies", ["loss", "accuracy"], "; did you mean 'accuracy'?"),
        ("zzz", ["relu", "tanh"], ""),
        ("other", ["relu"], "; did you mean fnn.LBFGS()?"),
    ],
)
def test_suggestions(name: str, known: list[str], expected: str) -> None:
    assert suggestion(name, known, {"other": "fnn.LBFGS()"}) == expected


NET = fnn.Sequential([fnn.Dense(2)], input_size=1, loss="cross_entropy", seed=0)
X, Y = np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1])


def network(**arguments: object) -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(2)], **{"input_size": 1, "loss": "cross_entropy", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: fnn.Dense(2, "ReLU"), "'relu'"),
        (lambda: fnn.Dense(2, "swish"), "'silu'"),
        (lambda: fnn.Activation("LeakyReLU"), "'leaky_relu'"),
        (lambda: fnn.Dense(2, init="xavier"), "'glorot_uniform'"),
        (lambda: fnn.Dense(2, init="kaiming_normal"), "'he_normal'"),
        (lambda: network(loss="mse"), "'squared_error'"),
        (lambda: network(loss="crossentropy"), "'cross_entropy'"),
        (lambda: network(loss="binary_crossentropy"), "'binary_cross_entropy'"),
        (lambda: network(loss="MSELoss"), "'squared_error'"),
        (lambda: network(input_dim=3), "'input_size'"),
        (lambda: NET.fit(X, Y, optimizer="Adam"), "'adam'"),
        (lambda: NET.fit(X, Y, optimizer="lbfgs"), r"fnn\.LBFGS\(\)"),
        (lambda: NET.fit(X, Y, n_epochs=3), "'epochs'"),  # type: ignore[call-arg]
        (lambda: NET.fit(X, Y, batchsize=3), "'batch_size'"),  # type: ignore[call-arg]
        (lambda: NET.fit(X, Y, weight_decay=0.1), "'l2'"),  # type: ignore[call-arg]
        (lambda: NET.partial_fit(X, Y, random_state=0), "'seed'"),  # type: ignore[call-arg]
        (lambda: fnn.Trainer(NET, X, Y, batch=3), "'batch_size'"),  # type: ignore[call-arg]
        (lambda: NET.fit(X, Y, callbacks=[fnn.EarlyStopping("acc")]), "'accuracy'"),
        (lambda: fnn.Adam(lr=0.1), "'learning_rate'"),  # type: ignore[call-arg]
        (lambda: fnn.Adam(eps=0.1), "'epsilon'"),  # type: ignore[call-arg]
        (lambda: fnn.LBFGS(maxiter=3), "'max_iter'"),  # type: ignore[call-arg]
        (lambda: fnn.EarlyStopping(patients=3), "'patience'"),  # type: ignore[call-arg]
        (lambda: fnn.Linear, "'Dense'"),
        (lambda: fnn.ReLU, r'Activation\("relu"\)'),
    ],
)
def test_messages_say_what_is_likely_meant(call: Callable[[], object], meant: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError), match=rf"did you mean {meant}"):
        call()


def test_the_learning_rate_belongs_to_the_optimizer() -> None:
    for name in ("lr", "learning_rate"):
        with pytest.raises(TypeError, match=r"optimizer=fnn\.Adam\(learning_rate=0\.01\)"):
            NET.fit(X, Y, **{name: 0.1})  # type: ignore[arg-type]


def test_estimators_say_what_is_likely_meant() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        fnn.MLPClassifier(activation="ReLU").fit(X, Y)
    with pytest.raises(ValueError, match="did you mean 'squared_error'"):
        fnn.MLPRegressor(loss="mse").fit(X, Y)
    with pytest.raises(ValueError, match="did you mean 'lbfgs'"):
        fnn.MLPClassifier(solver="L-BFGS").fit(X, Y)
    with pytest.raises(TypeError, match="did you mean 'learning_rate_init'"):
        fnn.MLPClassifier(lr=0.1)
    with pytest.raises(TypeError, match="did you mean 'random_state'"):
        fnn.SoftmaxRegression(seed=0)


def test_a_type_error_from_within_a_call_is_left_alone() -> None:
    def callback(result: fnn.EpochResult) -> None:
        {"lr": 1}.get()  # type: ignore[call-overload]

    with pytest.raises(TypeError, match=r"get expected at least 1 argument"):
        NET.fit(X, Y, epochs=1, callbacks=[callback])


def test_signatures_and_pickles_are_as_if_nothing_explained_arguments() -> None:
    assert "epochs" in inspect.signature(NET.fit).parameters
    assert next(iter(inspect.signature(fnn.Adam).parameters)) == "learning_rate"
    assert pickle.loads(pickle.dumps(fnn.Adam(0.5))) == fnn.Adam(0.5)
