"""Runs of scikit-learn's estimators, and of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import ACTIVATIONS, Results, case, classes, values, weights

import fastnn as fnn

# The estimators of scikit-learn.

ESTIMATORS: dict[str, tuple[bool, Callable[..., Any]]] = {
    "sgd": (True, lambda **o: fnn.MLPClassifier((32,), solver="sgd", learning_rate="adaptive", max_iter=15, **o)),
    "adam": (True, lambda **o: fnn.MLPClassifier((32, 16), "tanh", early_stopping=True, max_iter=6, **o)),
    "lbfgs": (True, lambda **o: fnn.MLPClassifier((16,), "logistic", solver="lbfgs", max_iter=8, **o)),
    "options": (
        True,
        lambda **o: fnn.MLPClassifier(
            (32,), batch_norm=True, dropout=0.2, label_smoothing=0.1, class_weight="balanced", max_iter=4, **o
        ),
    ),
    "inverse scaling": (False, lambda **o: fnn.MLPRegressor("squared_error", (32,), solver="sgd", max_iter=6, **o)),
    "regressor": (False, lambda **o: fnn.MLPRegressor("squared_error", (32,), solver="adam", max_iter=6, **o)),
    "regressor lbfgs": (False, lambda **o: fnn.MLPRegressor("poisson", (16,), solver="lbfgs", max_iter=8, **o)),
    "softmax": (True, lambda **o: fnn.SoftmaxRegression(0.1, max_iter=20, **o)),
    "softmax adam": (True, lambda **o: fnn.SoftmaxRegression(0.1, solver="adam", max_iter=5, **o)),
}


@case("estimators")
def estimators(dtype: str, n: int) -> Results:
    results: Results = {}
    for name, (classifies, make) in ESTIMATORS.items():
        X, y = classes(500, 20, 3, dtype) if classifies else values(500, 20, 2, dtype)
        y = np.floor(np.exp(y)) if name == "regressor lbfgs" else y
        estimator = make(random_state=3, n_threads=n).fit(X, y)
        results[f"{name}.coefs"] = np.concatenate([W.ravel() for W in estimator.coefs_])
        results[f"{name}.predictions"] = estimator.predict_proba(X) if classifies else estimator.predict(X)
        results[f"{name}.losses"] = [estimator.loss_, *(getattr(estimator, "loss_curve_", None) or [])]
        if name in ("sgd", "adam", "regressor", "softmax adam") and not getattr(estimator, "early_stopping", False):
            estimator.partial_fit(X[:100], y[:100])
            results[f"{name}.further"] = np.concatenate([W.ravel() for W in estimator.coefs_])
    X, y = values(500, 20, 2, dtype)
    least = fnn.LinearRegression(0.5, n_threads=n).fit(X, y, weights(500))
    return results | {"linear.coef": least.coef_, "linear.intercept": least.intercept_}


@case("kernels", threads=False)
def kernels(dtype: str, n: int) -> Results:
    k = fnn.kernels
    rng = np.random.default_rng(6)
    Z = (4 * rng.standard_normal((37, 23))).astype(dtype)
    V, W = (rng.standard_normal(shape).astype(dtype) for shape in ((37, 23), (23, 31)))
    results = {name: getattr(k, name)(np.abs(Z) if name == "log" else Z) for name in ("exp", "log", "tanh")}
    results |= {name: getattr(k, name)(Z) for name in ("softmax", "log_softmax")}
    results["softmax_vjp"] = k.softmax_vjp(k.softmax(Z), V)
    results |= {f"forward.{name}": k.activation_forward(Z, name) for name in ACTIVATIONS}
    for name in ACTIVATIONS:
        results |= {f"{i}.{name}": part for i, part in enumerate(k.activation_derivatives(Z, name))}
    results["matmul"] = k.matmul(Z, W)
    return results
