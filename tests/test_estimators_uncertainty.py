"""Uncertainty, curvature, standard errors and influence of the scikit-learn estimators."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn", "1.7")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
STRUCTURES = ("full", "block", "kfac", "last_layer")


def diabetes(dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    X, y = load_diabetes(return_X_y=True)
    return (X / X.std(axis=0)).astype(dtype), ((y - y.mean()) / y.std()).astype(dtype)


def iris() -> tuple[np.ndarray, np.ndarray]:
    X, codes = load_iris(return_X_y=True)
    return X, np.array(["setosa", "versicolor", "virginica"])[codes]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_return_std(structure: str, dtype: str) -> None:
    X, y = diabetes(dtype)
    model = fnn.MLPRegressor(
        hidden_layer_sizes=(10,),
        activation="tanh",
        solver="lbfgs",
        alpha=5.0,
        random_state=0,
        max_iter=100,
        n_threads=1,
        posterior=structure,
    ).fit(X[:300], y[:300])
    mean, std = model.predict(X[300:], return_std=True)
    assert mean.shape == std.shape == (142,)
    assert mean.dtype == std.dtype == dtype
    np.testing.assert_array_equal(mean, model.predict(X[300:]))
    inside = np.mean(np.abs(y[300:] - mean) < 1.96 * std)
    assert 0.85 < inside <= 1.0
    # far from the data it says less
    assert model.predict(20 * X[300:], return_std=True)[1].mean() > 1.02 * std.mean()
    # by hand, and after pickling
    again = pickle.loads(pickle.dumps(clone(model).set_params(posterior=None).fit(X[:300], y[:300])))
    again.fit_posterior(X[:300], y[:300], structure=structure)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict(X[300:], return_std=True)[1], std)
    both = fnn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=20, random_state=0, posterior=structure)
    assert both.fit(X, np.column_stack([y, X[:, 0]])).predict(X, return_std=True)[1].shape == (442, 2)


def test_linear_regression_is_bayesian() -> None:
    X, y = diabetes()
    X = X - X.mean(axis=0)
    free = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(fit_intercept=False, tol=1e-14, max_iter=2000, **free).fit(X, y)
    alpha = ridge.lambda_ / ridge.alpha_
    model = fnn.LinearRegression(alpha, fit_intercept=False, posterior="full").fit(X, y)
    assert model.posterior_.prior_precision == pytest.approx(ridge.lambda_, rel=1e-8)
    for a, b in zip(model.predict(X, return_std=True), ridge.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_laplace_probabilities(structure: str) -> None:
    X, y = iris()
    for labels in (y, y == "setosa", np.column_stack([y == "setosa", X[:, 0] > 5.8]).astype(int)):
        model = fnn.MLPClassifier(
            (8,), "tanh", solver="lbfgs", alpha=1e-3, random_state=0, max_iter=60, n_threads=1
        ).fit(X[::2], labels[::2])
        model.fit_posterior(X[::2], labels[::2], structure=structure)
        p, plain = model.predict_proba(X, posterior="laplace"), model.predict_proba(X)
        assert p.shape == plain.shape
        if labels.ndim == 1:
            np.testing.assert_allclose(p.sum(axis=1), 1.0)
        assert ((p >= 0) & (p <= 1)).all()
        certain = np.maximum(plain, 1 - plain)  # a Gaussian over logits leads towards even probabilities
        assert np.maximum(p, 1 - p).mean() < certain.mean()
        if labels.ndim == 1 and labels.dtype == bool:
            np.testing.assert_array_equal(p[:, 1] > 0.5, plain[:, 1] > 0.5)


def test_it_is_better_calibrated() -> None:
    """An overfitted classifier's log-loss on new rows falls."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 5))
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.standard_normal(400) > 0).astype(int)
    model = fnn.MLPClassifier((20,), "tanh", solver="lbfgs", alpha=0.05, random_state=0, max_iter=300)
    model.fit(X[:150], y[:150]).fit_posterior(X[:150], y[:150])
    plain = log_loss(y[150:], model.predict_proba(X[150:]))
    assert log_loss(y[150:], model.predict_proba(X[150:], posterior="laplace")) < 0.8 * plain


def test_class_weights_count() -> None:
    X, y = iris()
    w = np.array([1.0, 2.0, 3.0])[np.searchsorted(["setosa", "versicolor", "virginica"], y)]
    weighted = fnn.SoftmaxRegression(class_weight={"setosa": 1, "versicolor": 2, "virginica": 3}).fit(X, y)
    plain = fnn.SoftmaxRegression().fit(X, y, w)
    for a, b in zip(
        (weighted.fit_posterior(X, y).posterior_.covariance(), weighted.hessian(X, y)),
        (plain.fit_posterior(X, y, w).posterior_.covariance(), plain.hessian(X, y, w)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_errors() -> None:
    X, y = diabetes()
    model = fnn.MLPRegressor(hidden_layer_sizes=(3,), max_iter=5, random_state=0)
    with pytest.raises(NotFittedError):
        model.fit_posterior(X, y)
    model.fit(X, y)
    with pytest.raises(NotFittedError, match=r"no posterior of its parameters yet: call fit_posterior\(X, y\)"):
        model.predict(X, return_std=True)
    model.fit_posterior(X, y)
    model.predict(X, return_std=True)
    model.coefs_[0][0, 0] += 1.0
    with pytest.raises(ValueError, match="have changed since fit_posterior; call it again"):
        model.predict(X, return_std=True)
    model.coefs_[0][0, 0] -= 1.0
    model.partial_fit(X, y)
    assert not hasattr(model, "posterior_")
    with pytest.raises(MemoryError, match=r"bytes.*use structure='block', 'kfac' or 'last_layer'"):
        model.fit_posterior(X, y, max_bytes=10)
    with pytest.raises(ValueError, match="features"):
        model.fit_posterior(X[:, :3], y)
    with pytest.raises(ValueError, match="structure must be one of"):
        model.fit_posterior(X, y, structure="diagonal")
    with pytest.raises(ValueError, match="'posterior' parameter"):
        fnn.MLPRegressor(posterior="laplace").fit(X, y)
    with pytest.raises(ValueError, match="log-likelihood"):
        fnn.MLPRegressor("huber", max_iter=1, posterior="full").fit(X, y)
    classifier = fnn.SoftmaxRegression().fit(*iris())
    with pytest.raises(ValueError, match="posterior must be 'laplace' or None, got 'full'"):
        classifier.predict_proba(iris()[0], posterior="full")
    with pytest.raises(NotFittedError, match="SoftmaxRegression has no posterior"):
        classifier.predict_proba(iris()[0], posterior="laplace")
    with pytest.raises(ValueError, match="classes not in"):
        classifier.hessian(iris()[0], np.full(150, "rose"))


def test_nothing_of_the_data_is_kept() -> None:
    X, y = diabetes()
    model = fnn.MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0, posterior="kfac")
    sizes = [len(pickle.dumps(model.fit(np.tile(X, (n, 1)), np.tile(y, n)))) for n in (1, 20)]
    assert sizes[1] < sizes[0] + 2000


def test_pipeline_cross_validation_and_file(tmp_path: Any) -> None:
    X, y = diabetes()
    model = fnn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=50, random_state=0, posterior="last_layer")
    pipe = make_pipeline(StandardScaler(), model).fit(X, y)
    assert (pipe.predict(X, return_std=True)[1] > 0).all()
    assert np.isfinite(cross_val_score(pipe, X, y, cv=3)).all()
    path = tmp_path / "model.safetensors"
    pipe[-1].save(path)
    loaded = fnn.MLPRegressor.load(path)
    assert loaded.posterior == "last_layer"
    with pytest.raises(NotFittedError, match="posterior"):
        loaded.predict(X, return_std=True)
    scaled = pipe[0].transform(X)
    expected = pipe.predict(X, return_std=True)[1]
    std = loaded.fit_posterior(scaled, y, structure="last_layer").predict(scaled, return_std=True)[1]
    np.testing.assert_allclose(std, expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_hessian_is_that_of_the_objective(kind: str) -> None:
    """Against differences of the gradient of what `fit` minimises, written out with alpha / Σ w."""
    X, names = iris()
    y: Any = {"binary": names == "setosa", "multiclass": names, "regression": X[:, 3]}.get(
        kind, np.column_stack([X[:, 0] > 5.8, X[:, 1] > 3.0]).astype(int)
    )
    X = X[:, :3]
    w = np.random.default_rng(0).uniform(0.5, 2.0, 150)
    make = fnn.MLPRegressor if kind == "regression" else fnn.MLPClassifier
    model = make(hidden_layer_sizes=(3,), activation="tanh", alpha=0.7, max_iter=30, random_state=0).fit(X, y, w)
    net, encoded = model.network_, y
    if kind == "multiclass":
        encoded = np.searchsorted(model.classes_, y)

    def gradient(theta: np.ndarray) -> np.ndarray:
        net.theta[...] = theta
        return net.gradient(X, encoded, sample_weight=w, l2=0.7 / w.sum())

    theta, H = net.theta.copy(), model.hessian(X, y, w)
    steps = 1e-5 * np.eye(len(theta))
    differences = np.array([(gradient(theta + s) - gradient(theta - s)) / 2e-5 for s in steps])
    net.theta[...] = theta
    np.testing.assert_allclose(H, differences, atol=1e-8)
    V = np.random.default_rng(1).standard_normal((len(theta), 2))
    np.testing.assert_allclose(model.hessian_operator(X, y, w) @ V, H @ V, atol=1e-12)
    np.testing.assert_allclose(model.ggn_operator(X, y, w) @ V, model.ggn(X, y, w) @ V, atol=1e-12)
    sparse = scipy.sparse.csr_matrix(X)
    np.testing.assert_allclose(model.hessian(sparse, y, w), H, atol=1e-14)
    J = model.input_jacobian(sparse[:5])
    for d in range(3):
        step = 1e-6 * (np.arange(3) == d)
        up, down = (net.decision_function(X[:5] + s).reshape(5, -1) for s in (step, -step))
        np.testing.assert_allclose(J[:, :, d], (up - down) / 2e-6, atol=1e-8)


def test_standard_errors_and_influence() -> None:
    X, y = diabetes()
    A = np.column_stack([X, np.ones(len(X))])
    model = fnn.LinearRegression().fit(X, y)
    residuals = y - model.predict(X)
    classical = np.sqrt(np.diag(np.linalg.inv(A.T @ A)) * (residuals**2).sum() / (442 - 11))
    found = model.standard_errors(X, y)
    np.testing.assert_allclose(np.append(found["0.weight"], found["0.bias"]), classical, rtol=1e-9)
    # leaving a row out of least squares: exact is the influence over 1 − h_i, h the leverage
    low = fnn.LinearRegression().fit(X.astype(np.float32), y.astype(np.float32))
    leverage = np.einsum("ij,jk,ik->i", A, np.linalg.inv(A.T @ A), A)
    influence = model.influence(X, y, X[:4])
    assert influence.shape == (4, 1, 442)
    np.testing.assert_allclose(low.influence(X, y, X[:4]), influence, rtol=1e-3, atol=1e-4 * np.abs(influence).max())
    for i in (0, 17, 300):
        kept = np.arange(442) != i
        change = fnn.LinearRegression().fit(X[kept], y[kept]).predict(X[:4]) - model.predict(X[:4])
        np.testing.assert_allclose(-influence[:, 0, i] / 442 / (1 - leverage[i]), change, rtol=1e-8, atol=1e-12)
    # with the loss of labelled rows, by labels of any type: leaving out what helps makes it worse
    X, y = iris()
    softmax = fnn.SoftmaxRegression(1.0, tol=1e-10).fit(X[::2], y[::2])
    on_loss = softmax.influence(X[::2], y[::2], X[1::2], y[1::2])
    assert on_loss.shape == (75, 75)
    i = int(np.abs(on_loss.sum(axis=0)).argmax())
    kept = np.arange(75) != i
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        other = fnn.SoftmaxRegression(1.0, tol=1e-10).fit(X[::2][kept], y[::2][kept])
    change = 75 * (log_loss(y[1::2], other.predict_proba(X[1::2])) - log_loss(y[1::2], softmax.predict_proba(X[1::2])))
    assert -on_loss[:, i].sum() / 75 == pytest.approx(change, rel=0.15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 3])
def test_newton_ends_where_logistic_regression_does(classes: int, dtype: str) -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = iris()
    kept = (y != "setosa") | (classes == 3)
    X, y = X[kept].astype(dtype), y[kept]
    w = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours = fnn.SoftmaxRegression(0.5, solver="newton", tol=1e-10).fit(X, y, w)
    theirs = LogisticRegression(C=2.0, tol=1e-12, max_iter=10000).fit(X.astype(np.float64), y, w)
    tolerance = 1e-5 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=tolerance)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=tolerance)
    assert ours.n_iter_ < 30
    assert not hasattr(ours, "partial_fit")
    if classes == 2:  # one iteration, which takes several steps by one Hessian, is enough
        return
    with pytest.warns(ConvergenceWarning, match="newton failed to converge after 1 iteration"):
        fnn.SoftmaxRegression(solver="newton", max_iter=1, tol=1e-12).fit(X, y)
