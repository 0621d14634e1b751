"""`scoring=` of the MLPs, and metrics that callbacks watch, against scikit-learn's scorers by hand."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn

sklearn = pytest.importorskip("sklearn")
metrics = pytest.importorskip("sklearn.metrics")


def classes(n_classes: int, n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 4))
    codes = np.digitize(X[:, 0] + 0.5 * rng.normal(size=n), np.linspace(0.6, 1.2, n_classes - 1))
    return X, np.array(["few", "more", "many"])[codes] if n_classes > 2 else codes


OPTIONS = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.02, "random_state": 0, "n_threads": 1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scoring", ["balanced_accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_the_scorer_after_each_epoch(scoring, smoothing, n_classes) -> None:
    X, y = classes(n_classes)
    X_val, y_val = X[:60], y[:60]
    model = fnn.MLPClassifier(**OPTIONS, max_iter=5, scoring=scoring, label_smoothing=smoothing)
    model.fit(X, y, validation_data=(X_val, y_val))
    scorer = metrics.get_scorer(scoring)
    assert len(model.validation_scores_) == 5
    assert model.validation_scores_ == model.history_["val_score"]
    for epochs, score in enumerate(model.validation_scores_, 1):
        shorter = fnn.MLPClassifier(**OPTIONS, max_iter=epochs, label_smoothing=smoothing).fit(X, y)
        assert scorer(shorter, X_val, y_val) == pytest.approx(score, rel=1e-9)
    assert model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_goes_back_to_the_best_score() -> None:
    X, y = classes(3)
    seen = []

    def scoring(estimator, X, y) -> float:
        assert set(y) <= set(estimator.classes_)
        seen.append(estimator.network_.theta.copy())
        return [0.1, 0.2, 0.9, 0.3, 0.3, 0.3, 0.3][len(seen) - 1]

    model = fnn.MLPClassifier(**OPTIONS, early_stopping=True, n_iter_no_change=3, scoring=scoring).fit(X, y)
    assert model.validation_scores_ == [0.1, 0.2, 0.9, 0.3, 0.3, 0.3, 0.3]
    np.testing.assert_array_equal(model.network_.theta, seen[2])
    assert not np.array_equal(seen[2], seen[3])


def test_frames_weights_and_labels(recwarn) -> None:
    pd = pytest.importorskip("pandas")
    X, y = classes(2)
    frame, w = pd.DataFrame(X, columns=list("abcd")), np.arange(len(y)) % 3 / 2
    scores = {}
    for name, scoring in (("accuracy", None), ("scorer", "accuracy")):
        model = fnn.MLPClassifier(**OPTIONS, max_iter=60, early_stopping=True, n_iter_no_change=2, scoring=scoring)
        scores[name] = model.fit(frame, y, w).validation_scores_
    np.testing.assert_allclose(scores["scorer"], scores["accuracy"], rtol=1e-12)
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)
    model = fnn.MLPClassifier(**OPTIONS, max_iter=60, early_stopping=True, n_iter_no_change=2, scoring="f1_samples")
    assert 0.0 < model.fit(X, Y).best_validation_score_ <= 1.0
    assert not [warning for warning in recwarn if "feature names" in str(warning.message)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("standardize", [False, True])
def test_regressors(standardize) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] - 2 * X[:, 1]
    y = (y - y.mean()) / y.std()
    model = fnn.MLPRegressor(**OPTIONS, max_iter=4, standardize_target=standardize, scoring="neg_mean_absolute_error")
    model.fit(X, y, validation_data=(X, y))
    np.testing.assert_allclose(model.validation_scores_, -np.array(model.history_["val_mae"]), rtol=1e-9)
    assert -metrics.mean_absolute_error(y, model.predict(X)) == pytest.approx(model.validation_scores_[-1], rel=1e-9)


def test_callbacks_watch_known_metrics_and_the_score() -> None:
    X, y = classes(2)
    stopping = fnn.EarlyStopping("val_f1", patience=2)
    model = fnn.MLPClassifier(**OPTIONS, max_iter=300, callbacks=[stopping], n_iter_no_change=300)
    model.fit(X, y, validation_data=(X[:50], y[:50]))
    assert 2 < model.n_iter_ < 300
    assert "val_f1" in model.history_.keys()  # noqa: SIM118 (a History is a sequence of epochs)
    assert model.validation_scores_ == model.history_["val_accuracy"]
    model.set_params(callbacks=[fnn.EarlyStopping("val_score", patience=2, mode="max")], scoring="average_precision")
    model.fit(X, y, validation_data=(X[:50], y[:50]))
    assert 2 < model.n_iter_ < 300


def test_what_is_refused_and_what_has_no_effect(tmp_path) -> None:
    X, y = classes(2)
    with pytest.raises(ValueError, match="'nonsense'"):
        fnn.MLPClassifier(scoring="nonsense", early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="'scoring' parameter of MLPClassifier"):
        fnn.MLPClassifier(scoring=3).fit(X, y)
    with pytest.raises(ValueError, match="expected a finite score, got nan"):
        fnn.MLPClassifier(scoring=lambda *_: np.nan, early_stopping=True).fit(X, y)
    with pytest.warns(UserWarning, match="scoring='f1' has no effect without early_stopping=True or validation_data"):
        fnn.MLPClassifier(scoring="f1", max_iter=300, tol=0.1).fit(X, y)
    with pytest.warns(UserWarning, match="scoring='f1' has no effect with solver='lbfgs'"):
        fnn.MLPClassifier(scoring="f1", solver="lbfgs", max_iter=500).fit(X, y)
    for scoring, kept in (("f1", "f1"), (metrics.make_scorer(metrics.f1_score), None)):
        model = fnn.MLPClassifier(scoring=scoring, early_stopping=True, n_iter_no_change=1).fit(X, y)
        model.save(tmp_path / "model")
        again = fnn.MLPClassifier.load(tmp_path / "model")
        assert again.scoring == kept
        assert again.validation_scores_ == model.validation_scores_
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
