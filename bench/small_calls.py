"""Small calls, which are checks and objects more than arithmetic: a network 8-16-3, 256 rows, one row."""

import importlib
import warnings
from functools import partial

import numpy as np

import fastnn as fnn

N_ROWS, N_FEATURES, N_HIDDEN, N_CLASSES = 256, 8, 16, 3
YARDSTICK = "NumPy by hand"
CALLBACK_EPOCHS = 20


def data():
    """Return X and y."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((N_ROWS, N_FEATURES), np.float32), rng.integers(0, N_CLASSES, N_ROWS)


def make():
    """Return a new network."""
    layers = [fnn.Dense(N_HIDDEN, "tanh"), fnn.Dense(N_CLASSES)]
    return fnn.Sequential(layers, input_size=N_FEATURES, loss="cross_entropy", seed=0)


def gradient_by_hand(net, X, y):
    """Return the gradient of the network's loss on all rows as a few lines of NumPy compute it."""
    W, b, V, c = net.parameters.values()
    A = np.tanh(X @ W + b)
    Z = A @ V + c
    delta = np.exp(Z - Z.max(axis=1, keepdims=True))
    delta /= delta.sum(axis=1, keepdims=True)
    delta[np.arange(len(y)), y] -= 1.0
    delta /= len(y)
    inner = (delta @ V.T) * (1.0 - A**2)
    return np.concatenate([(X.T @ inner).ravel(), inner.sum(axis=0), (A.T @ delta).ravel(), delta.sum(axis=0)])


def network_calls():
    """Return {name: (call, how many pieces of work it does)}; the first is the yardstick, in NumPy alone."""
    X, y = data()
    row, adam = X[:1].copy(), fnn.Adam(1e-3)
    net, other, third = make(), make(), make()
    np.testing.assert_allclose(gradient_by_hand(net, X, y), net.gradient(X, y), rtol=1e-3, atol=1e-6)
    one = {"optimizer": adam, "threads": 1}
    fit = partial(other.fit, X, y, epochs=CALLBACK_EPOCHS, callbacks=[lambda result: None], **one)
    return {
        YARDSTICK: (partial(gradient_by_hand, net, X, y), 1),
        "Sequential(...)": (make, 1),
        "fit(epochs=1)": (partial(other.fit, X, y, epochs=1, **one), 1),
        "partial_fit": (partial(third.partial_fit, X, y, **one), 1),
        "epoch with a callback": (fit, CALLBACK_EPOCHS),
        "gradient": (partial(net.gradient, X, y, threads=1), 1),
        "evaluate": (partial(net.evaluate, X, y, threads=1), 1),
        "predict(row)": (partial(net.predict, row), 1),
        "predict_proba(row)": (partial(net.predict_proba, row), 1),
    }


def estimator_calls():
    """Return {group: {engine: call}} of one row through fitted estimators of fastnn and of scikit-learn."""
    X, y = data()
    groups = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that max_iter ended it
        for name, method in (
            ("MLPClassifier", "predict_proba"),
            ("MLPClassifier", "predict"),
            ("MLPRegressor", "predict"),
        ):
            calls = {}
            for engine, module in (("fastnn", "fastnn"), ("scikit-learn", "sklearn.neural_network")):
                kind = getattr(importlib.import_module(module), name)
                model = kind(hidden_layer_sizes=(N_HIDDEN,), max_iter=3, random_state=0).fit(X, y)
                calls[engine] = partial(getattr(model, method), X[:1])
            np.testing.assert_allclose(calls["fastnn"](), calls["scikit-learn"](), rtol=1e-3)
            groups[f"{name}.{method}(row)"] = calls
    return groups
