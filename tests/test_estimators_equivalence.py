"""The same start, the same order of the rows, the same solver: scikit-learn's curve and scikit-learn's weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import _multilayer_perceptron
from threadpoolctl import threadpool_limits

import fastnn as fnn


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """So small products are faster on one."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300, ::2] / 16, y[:300]


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X, (y - y.mean()) / y.std()


def both(name, X, y, *args, **options):
    """scikit-learn's and our estimator of that name, fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return tuple(getattr(module, name)(**options).fit(X, y, *args) for module in (neural_network, fnn))


def assert_same(theirs, ours, atol=1e-12):
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    for name in ("coefs_", "intercepts_"):
        for mine, expected in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=0, atol=atol)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9, abs=1e-12)
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        if not hasattr(theirs, name):  # by lbfgs
            assert not hasattr(ours, name), name
        elif getattr(theirs, name) is None:
            assert getattr(ours, name) is None, name
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-10, err_msg=name)
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_classes_by_default(solver, digits) -> None:
    X, y = digits
    theirs, ours = both("MLPClassifier", X, y, solver=solver, random_state=3)
    assert_same(theirs, ours, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_values_by_default(solver, diabetes) -> None:
    X, y = diabetes
    theirs, ours = both("MLPRegressor", X, y, solver=solver, random_state=3)
    assert_same(theirs, ours, atol=1e-10)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=0, atol=1e-10)


def test_lbfgs_by_default(digits) -> None:
    """Rounding is amplified along a path of L-BFGS, so that the ends of long ones are near and not equal."""
    X, y = digits
    theirs, ours = both("MLPClassifier", X, y, solver="lbfgs", random_state=3, max_iter=25)
    assert_same(theirs, ours, atol=1e-9)
    theirs, ours = both("MLPClassifier", X, y, solver="lbfgs", random_state=3, alpha=1.0, max_iter=100)
    assert abs(ours.n_iter_ - theirs.n_iter_) <= 3
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_lbfgs_of_values(diabetes) -> None:
    X, y = diabetes
    assert_same(*both("MLPRegressor", X, y, solver="lbfgs", random_state=3, max_iter=20), atol=1e-9)
    theirs, ours = both("MLPRegressor", X, y, solver="lbfgs", random_state=3, alpha=1.0)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-3)


@pytest.mark.filterwarnings("ignore:.* has no effect with solver")  # scikit-learn says nothing
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_two_classes_and_activations(solver, activation, digits) -> None:
    X, y = digits
    theirs, ours = both(
        "MLPClassifier",
        X,
        y % 2,
        solver=solver,
        activation=activation,
        hidden_layer_sizes=(20, 10),
        random_state=0,
        max_iter=12,
        learning_rate_init=0.01,
        alpha=0.1,
    )
    assert_same(theirs, ours, atol=1e-8 if solver == "lbfgs" else 1e-11)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_several_labels(solver, digits) -> None:
    X, y = digits
    Y = np.c_[y % 2, y > 4, y == 0]
    theirs, ours = both("MLPClassifier", X, Y, solver=solver, random_state=0, max_iter=12)
    assert_same(theirs, ours, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("weighted", [False, True])
def test_several_values_are_reported_as_a_mean(solver, weighted, diabetes, rng) -> None:
    """The gradient is of the sum over the outputs, the loss their mean; the penalty is whole in both."""
    X, y = diabetes
    w = rng.random(len(y)) if weighted else None
    options = {"solver": solver, "random_state": 0, "max_iter": 12, "alpha": 2.0, "learning_rate_init": 0.01}
    assert_same(*both("MLPRegressor", X, np.c_[y, y**2, -y], w, **options), atol=1e-11)


def test_several_values_by_lbfgs_end_lower(diabetes) -> None:
    """scikit-learn hands the mean's value and the sum's gradient to the line search; we, both of the sum."""
    X, y = diabetes
    theirs, ours = both("MLPRegressor", X, np.c_[y, y**2, -y], solver="lbfgs", random_state=0, alpha=1.0, max_iter=100)
    for model in (theirs, ours):
        penalty = 0.5 / len(X) * sum((W**2).sum() for W in model.coefs_)
        model.sum_ = 0.5 * ((model.predict(X) - np.c_[y, y**2, -y]) ** 2).sum(axis=1).mean() + penalty
        model.mean_ = (model.sum_ - penalty) / 3 + penalty
    assert ours.loss_ == pytest.approx(ours.mean_, rel=1e-9)
    assert ours.sum_ < theirs.sum_


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_poisson(solver, weighted, diabetes, rng) -> None:
    X, y = diabetes
    w = rng.random(len(y)) if weighted else None
    counts = np.round(np.exp(y))
    theirs, ours = both("MLPRegressor", X, counts, w, loss="poisson", solver=solver, random_state=0, max_iter=12)
    assert_same(theirs, ours, atol=1e-9)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-8)


@pytest.mark.filterwarnings("ignore:.* has no effect with solver")  # scikit-learn says nothing
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("largest", [0.3, 1.0, 5.0])
def test_sample_weights(solver, largest, digits, rng) -> None:
    """alpha is divided by sums of the weights, so that their scale counts, and not their ratios alone."""
    X, y = digits
    w = largest * rng.random(len(y))
    theirs, ours = both("MLPClassifier", X, y, w, solver=solver, alpha=1.0, batch_size=64, random_state=0, max_iter=8)
    assert_same(theirs, ours, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["two", "many", "labels", "values"])
def test_early_stopping(kind, weighted, digits, diabetes, rng, monkeypatch) -> None:
    X, y = digits if kind != "values" else diabetes
    y = {"two": y % 2, "many": y, "labels": np.c_[y % 2, y > 4], "values": y}[kind]
    w = rng.random(len(y)) if weighted else None
    if kind == "many":  # three classes and more are held out alike, too, which scikit-learn does with two alone
        split = _multilayer_perceptron.train_test_split
        stratified = {"stratify": y}
        monkeypatch.setattr(
            _multilayer_perceptron,
            "train_test_split",
            lambda *arrays, **options: split(*arrays, **options | stratified),
        )
    theirs, ours = both(
        "MLPRegressor" if kind == "values" else "MLPClassifier",
        X,
        y,
        w,
        early_stopping=True,
        learning_rate_init=0.01,
        n_iter_no_change=3,
        tol=1e-3,
        random_state=5,
    )
    assert theirs.n_iter_ < 200
    assert_same(theirs, ours, atol=1e-8)


@pytest.mark.parametrize("rate", ["invscaling", "adaptive"])
@pytest.mark.parametrize("momentum", [(0.9, True), (0.9, False), (0.0, True)])
def test_learning_rates_and_momenta(rate, momentum, digits) -> None:
    X, y = digits
    theirs, ours = both(
        "MLPClassifier",
        X,
        y,
        solver="sgd",
        learning_rate=rate,
        learning_rate_init=0.3 if rate == "invscaling" else 0.1,
        power_t=0.3,
        momentum=momentum[0],
        nesterovs_momentum=momentum[1],
        tol=5e-3,
        n_iter_no_change=2,
        max_iter=120,
        random_state=0,
    )
    assert_same(theirs, ours, atol=1e-10)
    if rate == "adaptive":
        assert ours._rate < 0.1


def test_convergence_stops_at_the_same_epoch(digits) -> None:
    X, y = digits
    theirs, ours = both("MLPClassifier", X, y, learning_rate_init=0.02, tol=1e-3, random_state=0)
    assert theirs.n_iter_ < 100
    assert_same(theirs, ours, atol=1e-8)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_without_shuffling(name, digits) -> None:
    X, y = digits
    assert_same(*both(name, X, y, shuffle=False, batch_size=33, max_iter=6, random_state=0), atol=1e-11)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start(solver, digits) -> None:
    X, y = digits
    models = both("MLPClassifier", X, y, warm_start=True, solver=solver, max_iter=4, random_state=0)
    for model in models:
        model.set_params(max_iter=3).fit(X, y)
    assert_same(*models, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.* has no effect with solver")  # scikit-learn says nothing
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("rate", ["constant", "invscaling"])
def test_partial_fit(solver, rate, digits) -> None:
    X, y = digits
    models = [
        module.MLPClassifier(solver=solver, learning_rate=rate, random_state=0) for module in (neural_network, fnn)
    ]
    for model in models:
        for first in range(0, 300, 50):
            model.partial_fit(X[first : first + 50], y[first : first + 50], classes=np.arange(10))
    assert_same(*models, atol=1e-12)
    regressors = [module.MLPRegressor(solver=solver, random_state=0) for module in (neural_network, fnn)]
    for model in regressors:
        for first in range(0, 300, 50):
            model.partial_fit(X[first : first + 50], y[first : first + 50])
    assert_same(*regressors, atol=1e-12)


def test_a_random_state_that_is_a_generator_is_left_where_scikit_learn_leaves_it(digits) -> None:
    X, y = digits
    states = [np.random.RandomState(4), np.random.RandomState(4)]
    models = []
    for module, state in zip((neural_network, fnn), states, strict=True):
        with pytest.warns(ConvergenceWarning):
            models.append(module.MLPClassifier(random_state=state, max_iter=3).fit(X, y))
    assert_same(*models)
    np.testing.assert_array_equal(states[0].randint(0, 2**31, 8), states[1].randint(0, 2**31, 8))


def test_sparse_input(digits) -> None:
    import scipy.sparse

    X, y = digits
    assert_same(*both("MLPClassifier", scipy.sparse.csr_matrix(X), y, random_state=0, max_iter=5))


def test_float32_is_near() -> None:
    X, y = load_iris(return_X_y=True)
    theirs, ours = both("MLPClassifier", X.astype(np.float32), y, random_state=0, max_iter=20)
    assert theirs.coefs_[0].dtype == ours.coefs_[0].dtype == np.float32
    for mine, expected in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-4)
