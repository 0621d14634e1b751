"""Estimators of one `random_state` have the same bits with any number of threads."""

from __future__ import annotations

import knobs
import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("sklearn")


def problem(n: int = 700) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=n)
    return (rng.normal(size=(n, 12)) + 2.0 * np.eye(3, 12)[y]).astype(np.float32), y


CASES = {
    "adam": lambda n: fnn.MLPClassifier((40,), max_iter=4, random_state=0, n_threads=n),
    "adam, early stopping": lambda n: fnn.MLPClassifier(
        (40,), max_iter=4, random_state=0, n_threads=n, early_stopping=True
    ),
    "sgd": lambda n: fnn.MLPRegressor(hidden_layer_sizes=(40,), solver="sgd", max_iter=4, random_state=0, n_threads=n),
    "kfac": lambda n: fnn.MLPClassifier((40,), optimizer=fnn.KFAC(), max_iter=4, random_state=0, n_threads=n),
    "batch norm": lambda n: fnn.MLPClassifier((40,), max_iter=4, random_state=0, n_threads=n, batch_norm=True),
    "dropout": lambda n: fnn.MLPClassifier((40,), max_iter=4, random_state=0, n_threads=n, dropout=0.2),
    "lbfgs": lambda n: fnn.MLPClassifier((40,), solver="lbfgs", max_iter=9, random_state=0, n_threads=n),
    "newton": lambda n: fnn.SoftmaxRegression(solver="newton", max_iter=5, random_state=0, n_threads=n),
    "softmax": lambda n: fnn.SoftmaxRegression(max_iter=20, random_state=0, n_threads=n),
    "linear": lambda n: fnn.LinearRegression(n_threads=n),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_number_of_threads_changes_no_bit(case, dtype) -> None:
    X, y = problem()
    X = X.astype(dtype)
    found = []
    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0):  # every batch is worth several workers
        for n_threads in (1, 2, 3, 4):
            model = CASES[case](n_threads).fit(X, y)
            outputs = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
            found.append((model.network_.theta.tobytes(), getattr(model, "loss_", None), outputs.tobytes()))
    assert found == [found[0]] * 4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_with_several_jobs_finds_the_same_bits() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    X, y = problem()
    scores = []
    for n_jobs, n_threads in ((None, 2), (2, None), (2, 1)):
        model = fnn.MLPClassifier((64,), max_iter=5, random_state=0, n_threads=n_threads)
        search = model_selection.GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=3, n_jobs=n_jobs).fit(X, y)
        scores.append((search.cv_results_["mean_test_score"].tolist(), search.best_estimator_.loss_))
    assert scores == [scores[0]] * 3
