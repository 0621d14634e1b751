"""SoftmaxRegression and LinearRegression against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge

import fastnn as fnn

# ------------------------------------------------------------------ linear models


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_regression_is_logistic_regression(C, weighted, iris, rng) -> None:
    X, y = iris
    w = rng.random(150) * 3 if weighted else None
    for labels in (y, y == 1):
        theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10000).fit(X, labels, w)
        ours = fnn.SoftmaxRegression(1 / C, tol=1e-9, max_iter=10000).fit(X, labels, w)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
        # The intercepts of a softmax are free up to a constant.
        shift = theirs.intercept_.mean() - ours.intercept_.mean() if len(ours.intercept_) > 1 else 0.0
        np.testing.assert_allclose(ours.intercept_ + shift, theirs.intercept_, atol=1e-5)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert np.shares_memory(ours.coef_, ours.network_.theta)


def test_softmax_regression_by_other_solvers(iris) -> None:
    X, y = iris
    exact = fnn.SoftmaxRegression(tol=1e-8).fit(X, y)
    adam = fnn.SoftmaxRegression(optimizer=fnn.Adam(0.05), batch_size=150, tol=1e-9, random_state=0).fit(X, y)
    np.testing.assert_allclose(adam.coef_, exact.coef_, atol=1e-2)
    bare = fnn.SoftmaxRegression(fit_intercept=False).fit(X, y)
    np.testing.assert_array_equal(bare.intercept_, 0.0)
    assert bare.intercepts_ == []
    assert bare.decision_function(X).shape == (150, 3)
    assert not hasattr(exact, "partial_fit")
    going = fnn.SoftmaxRegression(solver="sgd", learning_rate_init=0.1, random_state=0)
    for _ in range(50):
        going.partial_fit(X, y, classes=[0, 1, 2])
    assert going.score(X, y) > 0.9


def test_linear_regression_is_lstsq(rng) -> None:
    X, Y = rng.standard_normal((40, 6)), rng.standard_normal((40, 2))
    X[:, 5] = X[:, 0] - 2 * X[:, 1]  # rank 5: the solution of the smallest norm
    expected, _, rank, singular = np.linalg.lstsq(X, Y, rcond=None)
    model = fnn.LinearRegression(fit_intercept=False).fit(X, Y)
    np.testing.assert_allclose(model.coef_, expected.T, atol=1e-13)
    np.testing.assert_allclose(model.singular_, singular, atol=1e-13)
    assert model.rank_ == rank == 5
    wide = rng.standard_normal((5, 9))
    expected = np.linalg.lstsq(wide, Y[:5, 0], rcond=None)[0]
    np.testing.assert_allclose(
        fnn.LinearRegression(fit_intercept=False).fit(wide, Y[:5, 0]).coef_, expected, atol=1e-13
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 50.0])
def test_linear_regression_is_ridge(alpha, rng) -> None:
    X, y, w = rng.standard_normal((40, 6)) + 3, rng.standard_normal(40), rng.random(40)
    theirs = Ridge(alpha, solver="svd").fit(X, y, w)
    ours = fnn.LinearRegression(alpha).fit(X, y, w)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-12)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-12)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-12)
    sparse = fnn.LinearRegression(alpha).fit(scipy.sparse.csr_matrix(X), y, w)
    np.testing.assert_array_equal(sparse.coef_, ours.coef_)


def test_linear_regression_is_at_the_minimum_of_its_objective(rng) -> None:
    """Where the network's own gradient is 0: one Newton step has reached it."""
    X, Y, w = rng.standard_normal((40, 6)), rng.standard_normal((40, 2)), rng.random(40)
    model = fnn.LinearRegression(0.7).fit(X, Y, w)
    gradient = model.network_.gradient(X, Y, sample_weight=w, l2=0.7 / w.sum())
    assert abs(gradient).max() < 1e-13
    with pytest.raises(ValueError, match="sample_weight: expected finite values >= 0"):
        fnn.LinearRegression().fit(X, Y, -w)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_digits_by_default() -> None:
    X, y = load_digits(return_X_y=True)
    model = fnn.MLPClassifier(random_state=0).fit(X[::2] / 16, y[::2])
    assert model.score(X[1::2] / 16, y[1::2]) > 0.96
