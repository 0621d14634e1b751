"""Targets far from the scale of 1: what is said of them, and `standardize_target`."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("sklearn")
from sklearn.exceptions import ConvergenceWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.stack([1e5 + 2e4 * X[:, 0], 3e-3 * X[:, 1] ** 2], axis=1)


def regressor(**options: object) -> fnn.MLPRegressor:
    given = {"hidden_layer_sizes": (10,), "max_iter": 60, "learning_rate_init": 0.01, "random_state": 0, **options}
    return fnn.MLPRegressor(**given)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_remarks_about_max_iter():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        warnings.filterwarnings("ignore", message="learning_rate_init")
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        yield


@pytest.mark.parametrize("scale", [1e5, 1e-4])
def test_a_poor_fit_of_far_targets_is_remarked(scale: float) -> None:
    y = scale * (1.0 + X[:, 0] * 0.1)
    with pytest.warns(ConvergenceWarning, match=r"targets' scale is .* far from 1.*set standardize_target=True"):
        regressor(max_iter=2).fit(X, y)
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    with pytest.warns(UserWarning, match=r"targets' scale is .* far from 1.*standardise the targets"):
        net.fit(X, y, epochs=2)


def test_nothing_is_said_elsewhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        regressor(max_iter=2).fit(X, X[:, 0])  # poor, but of the scale of 1
        regressor(standardize_target=True).fit(X, Y[:, 0])
        regressor(loss="poisson", max_iter=2).fit(X, np.full(200, 1e4))
        net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", seed=0, dtype="float64")
        net.fit(X, Y[:, 0], optimizer=fnn.LBFGS(max_iter=100))
        net.fit(X, Y[:, 0], epochs=1)  # far, but met


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"loss": "huber"}])
def test_it_is_the_fit_of_the_standardised_target(options: dict) -> None:
    w = RNG.random(200) if "solver" in options else None
    mean = np.average(Y, axis=0, weights=w)
    scale = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=w))
    model = regressor(standardize_target=True, **options).fit(X, Y, w)
    plain = regressor(**options).fit(X, (Y - mean) / scale, w)
    np.testing.assert_allclose(model.target_mean_, mean, rtol=1e-12)
    np.testing.assert_allclose(model.target_scale_, scale, rtol=1e-12)
    np.testing.assert_allclose((model.predict(X) - mean) / scale, plain.predict(X), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.network_.predict(X), model.predict(X), rtol=1e-12)  # folded in
    assert model.loss_ == pytest.approx(plain.loss_, rel=1e-6)
    assert model.score(X, Y) == pytest.approx(plain.score(X, (Y - mean) / scale), rel=1e-6)


def test_validation_data_are_in_the_units_of_the_target() -> None:
    model = regressor(standardize_target=True).fit(X[:150], Y[:150, 0], validation_data=(X[150:], Y[150:, 0]))
    assert model.validation_scores_ is not None
    assert model.validation_scores_[-1] == pytest.approx(model.score(X[150:], Y[150:, 0]), rel=1e-9)


@pytest.mark.parametrize("way", ["warm_start", "partial_fit"])
def test_later_calls_go_on_with_the_first_scale(way: str, tmp_path) -> None:
    mean, scale = Y[:, 0].mean(), Y[:, 0].std()
    options = {"warm_start": way == "warm_start", "max_iter": 3, "shuffle": False}
    model, plain = regressor(standardize_target=True, **options), regressor(**options)
    for step in range(3):
        target = Y[:, 0] + 1e4 * step
        (model.fit if way == "warm_start" else model.partial_fit)(X, target)
        (plain.fit if way == "warm_start" else plain.partial_fit)(X, (target - mean) / scale)
        np.testing.assert_allclose((model.predict(X) - mean) / scale, plain.predict(X), rtol=1e-7, atol=1e-7)
    assert model.target_mean_ == pytest.approx(mean)
    model.save(tmp_path / "m")
    loaded = fnn.MLPRegressor.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.target_scale_, model.target_scale_)
    assert loaded.standardize_target


def test_what_it_does_not_suit() -> None:
    with pytest.raises(ValueError, match="standardize_target=True does not suit loss='poisson'"):
        regressor(standardize_target=True, loss="poisson").fit(X, np.abs(X[:, 0]))
    with pytest.raises(ValueError, match="standardize_target"):
        regressor(standardize_target=3).fit(X, X[:, 0])
    constant = regressor(standardize_target=True, max_iter=2).fit(X, np.full(200, 7.0))
    assert constant.target_scale_.tolist() == [1.0]
