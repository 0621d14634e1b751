"""Estimators for their tests."""

from __future__ import annotations

import fastnn as fnn

ESTIMATORS = (fnn.MLPClassifier, fnn.MLPRegressor, fnn.SoftmaxRegression, fnn.LinearRegression)


def quick(estimator=fnn.MLPClassifier, **options):
    """An estimator that converges on a small task before its last epoch."""
    own = any(isinstance(options.get(name), fnn.optimizers.Optimizer) for name in ("solver", "optimizer"))
    rate = {} if own else {"learning_rate_init": 0.02}
    return estimator(hidden_layer_sizes=(16,), max_iter=500, random_state=0, **rate, **options)
