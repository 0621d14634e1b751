"""SweepSearchCV against scikit-learn's searches."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from estimator_cases import passes_scikit_learns_checks
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import fastnn as fnn

X, Y = fnn.datasets.load_iris()[:2]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATOR = fnn.MLPClassifier((6,), max_iter=8, random_state=0)
GRID = {"alpha": [0.1, 1e-4], "learning_rate_init": [0.001, 0.03]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        fnn.SweepSearchCV(fnn.SoftmaxRegression(), {"alpha": [0.1, 1.0]}, cv=2, n_threads=1),
        fnn.SweepSearchCV(fnn.LinearRegression(), {"alpha": [0.1, 1.0]}, cv=2, n_threads=2),
    ],
    ids=["classifier", "regressor"],
)
def test_scikit_learns_checks(estimator: Any) -> None:
    passes_scikit_learns_checks(estimator)


def same_results(ours: Any, theirs: Any) -> None:
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, values in theirs.cv_results_.items():
        if "time" not in name:
            assert np.ma.asarray(ours.cv_results_[name]).tolist() == np.ma.asarray(values).tolist(), name
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_


@pytest.mark.parametrize("threads", [1, 3])
def test_a_grid_gives_what_grid_search_gives(threads: int) -> None:
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    ours = fnn.SweepSearchCV(ESTIMATOR, GRID, cv=cv, n_threads=threads, return_train_score=True).fit(X, Y)
    theirs = GridSearchCV(ESTIMATOR.set_params(n_threads=1), GRID, cv=cv, return_train_score=True).fit(X, Y)
    same_results(ours, theirs)
    assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert ours.best_estimator_.coefs_[0].tobytes() == theirs.best_estimator_.coefs_[0].tobytes()


def test_several_scorers() -> None:
    scoring = {"accuracy": "accuracy", "loss": "neg_log_loss"}
    ours = fnn.SweepSearchCV(ESTIMATOR, GRID, cv=3, scoring=scoring, refit="loss").fit(X, Y)
    theirs = GridSearchCV(ESTIMATOR, GRID, cv=3, scoring=scoring, refit="loss").fit(X, Y)
    same_results(ours, theirs)


def test_groups_and_weights() -> None:
    weight, groups = np.random.default_rng(0).random(150), np.arange(150) % 7
    ours = fnn.SweepSearchCV(ESTIMATOR, GRID, cv=GroupKFold(3)).fit(X, Y, sample_weight=weight, groups=groups)
    theirs = GridSearchCV(ESTIMATOR, GRID, cv=GroupKFold(3)).fit(X, Y, sample_weight=weight, groups=groups)
    same_results(ours, theirs)


class Counted(TransformerMixin, BaseEstimator):
    """Scales by a factor, and counts its fits."""

    fits: list[float] = []  # noqa: RUF012
    lock = threading.Lock()

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, X: Any, y: Any = None) -> Counted:
        with self.lock:
            self.fits.append(self.factor)
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X * self.factor


def test_steps_before_the_network_are_fitted_once_for_each_fold_and_setting_of_theirs() -> None:
    pipeline = make_pipeline(Counted(), StandardScaler(), clone(ESTIMATOR))
    space = {"counted__factor": [1.0, 2.0], "mlpclassifier__alpha": [0.1, 0.01, 0.001]}
    Counted.fits.clear()
    ours = fnn.SweepSearchCV(pipeline, space, cv=3, n_threads=3).fit(X, Y)
    assert sorted(Counted.fits) == [1.0] * 4 + [2.0] * 3 or sorted(Counted.fits) == [1.0] * 3 + [2.0] * 4  # a refit
    theirs = GridSearchCV(pipeline, space, cv=3).fit(X, Y)
    same_results(ours, theirs)
    assert isinstance(ours.best_estimator_, Pipeline)
    assert ours.best_estimator_.memory is None
    assert ours.estimator is pipeline


def test_steps_that_cannot_be_recognised_are_fitted_each_time() -> None:
    local = 2.0
    pipeline = make_pipeline(FunctionTransformer(lambda rows: rows * local), clone(ESTIMATOR))
    space = {"mlpclassifier__alpha": [0.1, 0.01]}
    same_results(fnn.SweepSearchCV(pipeline, space, cv=2).fit(X, Y), GridSearchCV(pipeline, space, cv=2).fit(X, Y))


def test_draws() -> None:
    space = {"alpha": loguniform(1e-5, 1e-1), "learning_rate_init": fnn.LogUniform(1e-3, 1e-1), "batch_size": [16, 32]}
    searches = [fnn.SweepSearchCV(ESTIMATOR, space, n_iter=4, cv=2, random_state=seed).fit(X, Y) for seed in (0, 0, 1)]
    params = [search.cv_results_["params"] for search in searches]
    assert params[0] == params[1] != params[2]
    assert len(params[0]) == 4
    with pytest.raises(ValueError, match="n: expected the number of draws"):
        fnn.SweepSearchCV(ESTIMATOR, space, cv=2).fit(X, Y)


def test_a_list_holds_several_spaces() -> None:
    spaces = [{"alpha": [0.1, 0.2]}, {"learning_rate_init": [0.01], "batch_size": [8, 16]}]
    search = fnn.SweepSearchCV(ESTIMATOR, spaces, cv=2).fit(X, Y)
    same_results(search, GridSearchCV(ESTIMATOR, spaces, cv=2).fit(X, Y))
    few = fnn.SweepSearchCV(ESTIMATOR, spaces, n_iter=3, cv=2, random_state=0).fit(X, Y).cv_results_["params"]
    assert len(few) == len({str(row) for row in few}) == 3
    drawn = [{"alpha": loguniform(1e-3, 1.0)}, {"batch_size": [8]}]
    found = fnn.SweepSearchCV(ESTIMATOR, drawn, n_iter=9, cv=2, random_state=0).fit(X, Y).cv_results_["params"]
    assert {tuple(row) for row in found} == {("alpha",), ("batch_size",)}


def test_failed_fits_get_the_error_score() -> None:
    space = {"hidden_layer_sizes": [(4,), (-4,)]}
    with pytest.warns(FitFailedWarning):
        search = fnn.SweepSearchCV(ESTIMATOR, space, cv=2, error_score=-1.0).fit(X, Y)
    assert search.cv_results_["mean_test_score"][1] == -1.0
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        fnn.SweepSearchCV(ESTIMATOR, space, cv=2, error_score="raise").fit(X, Y)


def test_within_cross_val_score() -> None:
    search = fnn.SweepSearchCV(ESTIMATOR, {"alpha": [0.1, 0.01]}, cv=2)
    theirs = GridSearchCV(ESTIMATOR, {"alpha": [0.1, 0.01]}, cv=2)
    assert np.array_equal(cross_val_score(search, X, Y, cv=3), cross_val_score(theirs, X, Y, cv=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": {"alpha": []}}, r"space\['alpha'\]: expected at least one value"),
        ({"space": []}, "space: expected at least one space"),
        ({"space": {"widt": [3]}}, "Invalid parameter 'widt'"),
        ({"n_threads": 0}, "The 'n_threads' parameter of SweepSearchCV"),
        ({"n_iter": 0}, "The 'n_iter' parameter of SweepSearchCV"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"estimator": ESTIMATOR, "space": {"alpha": [0.1]}, "cv": 2, **options}
    with pytest.raises(ValueError, match=message):
        fnn.SweepSearchCV(**arguments).fit(X, Y)
