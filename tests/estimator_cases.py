"""Estimators for their tests."""

from __future__ import annotations

import fastnn as fnn

ESTIMATORS = (fnn.MLPClassifier, fnn.MLPRegressor, fnn.SoftmaxRegression, fnn.LinearRegression)


def quick(estimator=fnn.MLPClassifier, **options):
    """An estimator that converges on a small task before its last epoch."""
    own = any(isinstance(options.get(name), fnn.optimizers.Optimizer) for name in ("solver", "optimizer"))
    rate = {} if own else {"learning_rate_init": 0.02}
    return estimator(hidden_layer_sizes=(16,), max_iter=500, random_state=0, **rate, **options)


def passes_scikit_learns_checks(estimator) -> None:
    """All of scikit-learn's checks pass; to list them takes seconds, for which no collection waits."""
    from sklearn.utils.estimator_checks import check_estimator

    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    for name, error in failed.items():
        raise AssertionError(f"{name}, one of {len(failed)} that fail: {', '.join(failed)}") from error
    assert sum(result["status"] == "passed" for result in results) > 30
