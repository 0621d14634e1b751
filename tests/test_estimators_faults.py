"""Estimators where users of peers reported faults: weights, nested parameters, validation rows, labels, messages."""

from __future__ import annotations

import pickle
import tempfile

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastnn as fnn
from fastnn.training.classes import balanced_weights
from fastnn.training.data import training_data
from fastnn.training.options import TrainingOptions

pytest.importorskip("sklearn")

import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classes(n: int = 60, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    return X, np.digitize(X[:, 0] + 0.5 * rng.normal(size=n), np.linspace(-0.5, 0.5, k - 1))


def mlp(**options) -> fnn.MLPClassifier:
    return fnn.MLPClassifier((5,), **{"max_iter": 6, "random_state": 0, "batch_size": 16, **options})


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"solver": "rmsprop"}, {"optimizer": "kfac"}],
    ids=lambda options: "-".join(map(str, options.values())) or "adam",
)
@pytest.mark.parametrize("more", [{}, {"early_stopping": True}, {"batch_norm": True}], ids=str)
def test_weights_of_one_are_no_weights(shuffle, options, more) -> None:
    X, y = classes(90)
    if options.get("optimizer") == "kfac" and more:
        more = {}
    plain = mlp(shuffle=shuffle, **options, **more).fit(X, y)
    weighted = mlp(shuffle=shuffle, **options, **more).fit(X, y, sample_weight=np.ones(90))
    assert_allclose(weighted.network_.theta, plain.network_.theta, rtol=1e-9, atol=1e-12)
    assert_allclose(weighted.loss_curve_, plain.loss_curve_, rtol=1e-12)
    assert len(plain.loss_curve_) == 6


@pytest.mark.parametrize("face", [fnn.MLPRegressor, fnn.SoftmaxRegression])
def test_weights_without_shuffling_in_every_estimator(face) -> None:
    X, y = classes()
    options = {"solver": "adam"} if face is fnn.SoftmaxRegression else {"hidden_layer_sizes": (5,)}
    w = np.random.default_rng(1).uniform(0.5, 2.0, 60)
    model = face(shuffle=False, max_iter=30, random_state=0, **options).fit(X, y, sample_weight=w)
    alone = face(shuffle=False, max_iter=1, random_state=0, warm_start=True, n_iter_no_change=1000, **options)
    for _ in range(model.n_iter_):
        alone.fit(X, y, sample_weight=w)
    assert_allclose(model.loss_curve_[0], alone.loss_curve_[0], rtol=1e-12)
    assert len(model.loss_curve_) == 30


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_balanced_classes_count_weights_as_repetitions(solver) -> None:
    X, y = classes()
    w = np.random.default_rng(0).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), w)
    by_weight = fnn.SoftmaxRegression(class_weight="balanced", solver=solver, tol=1e-9).fit(X, y, sample_weight=w)
    by_rows = fnn.SoftmaxRegression(class_weight="balanced", solver=solver, tol=1e-9).fit(X[rows], y[rows])
    assert_allclose(by_weight.coef_, by_rows.coef_, atol=1e-7)

    labels = np.c_[y == 0, y > 0, X[:, 1] > 0.4].astype(int)
    by_weight = fnn.SoftmaxRegression(class_weight="balanced", tol=1e-9).fit(X, labels, sample_weight=w)
    by_rows = fnn.SoftmaxRegression(class_weight="balanced", tol=1e-9).fit(X[rows], labels[rows])
    assert_allclose(by_weight.coef_, by_rows.coef_, atol=1e-6)


def test_balanced_weights() -> None:
    labels = np.array([0, 0, 0, 2])
    assert_allclose(balanced_weights(labels, 3), [4 / 6, 1.0, 2.0])
    assert_allclose(balanced_weights(labels, 3, np.array([1.0, 0.0, 0.0, 0.5])), [0.75, 1.0, 1.5])
    assert_allclose(balanced_weights(labels, 3, np.array([0.0, 0.0, 0.0, 0.5])), [1.0, 1.0, 1.0])


def test_messages_have_the_numbers_that_were_given() -> None:
    X, y = classes()
    w = np.ones(60)
    w[3] = -1.0
    for model in (mlp(), fnn.SoftmaxRegression(), fnn.LinearRegression(), fnn.MLPRegressor()):
        with pytest.raises(ValueError, match=r"^sample_weight: expected finite values >= 0, got -1 in row 3"):
            model.fit(X, y, sample_weight=w)
    with pytest.raises(ValueError, match=r"^validation_data: sample_weight: .* got -1 in row 3"):
        mlp().fit(X, y, validation_data=(X, y, w))
    for weight in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=rf"^class_weight: expected finite values >= 0, got {weight} for class 0"):
            fnn.SoftmaxRegression(class_weight={0: weight, 1: 1.0, 2: 1.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"^class_weight: expected a positive sum"):
        mlp(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, y)


# ------------------------------------------------------------------ parameters


def test_a_named_optimizer_uses_the_learning_rate() -> None:
    X, y = classes()
    for options in ({"learning_rate_init": 0.5}, {"learning_rate": fnn.CosineDecay(0.5, 3)}):
        assert mlp(optimizer="adamw", batch_size=60, **options).fit(X, y).history_["learning_rate"][0] == 0.5
    for name in ("sgd", "adam"):
        by_solver, by_optimizer = mlp(solver=name).fit(X, y), mlp(optimizer=name).fit(X, y)
        assert_array_equal(by_solver.network_.theta, by_optimizer.network_.theta)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": fnn.Adam(), "learning_rate_init": 0.5},
        {"optimizer": fnn.Adam(), "learning_rate": fnn.CosineDecay(0.5, 3)},
        {"optimizer": fnn.SGD(), "momentum": 0.5},
        {"optimizer": fnn.Adam(), "beta_1": 0.5},
        {"optimizer": fnn.SGD(), "learning_rate": "adaptive"},
        {"solver": fnn.SGD(), "learning_rate_init": 0.5},
        {"solver": "sgd", "optimizer": "adam"},
        {"learning_rate": fnn.CosineDecay(0.5, 3), "learning_rate_init": 0.5},
        {"solver": "lbfgs", "learning_rate": fnn.CosineDecay(0.5, 3)},
        {"solver": "lbfgs", "callbacks": [fnn.EarlyStopping("loss")]},
    ],
    ids=str,
)
def test_parameters_without_effect_are_refused(options) -> None:
    with pytest.raises(ValueError, match="has no effect beside"):
        fnn.MLPClassifier((5,), **options).fit(*classes())


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("lbfgs", {"learning_rate_init": 0.5}),
        ("lbfgs", {"early_stopping": True}),
        ("lbfgs", {"batch_size": 10}),
        ("adam", {"momentum": 0.5}),
        ("adam", {"learning_rate": "invscaling"}),
        ("sgd", {"beta_2": 0.5}),
        ("rmsprop", {"epsilon": 1e-3}),
        ("adam", {"max_fun": 10}),
    ],
)
def test_parameters_that_scikit_learn_ignores_are_a_warning(solver, options) -> None:
    (name,) = options
    with pytest.warns(UserWarning, match=rf"^{name}=.* has no effect with solver='{solver}'") as caught:
        fnn.MLPClassifier((5,), solver=solver, max_iter=2, **options).fit(*classes())
    assert {warning.filename for warning in caught if "no effect" in str(warning.message)} == {__file__}


def test_parameters_of_optimizers_in_a_search() -> None:
    X, y = classes()
    model = fnn.MLPClassifier((4,), optimizer=fnn.Adam(1e-3), max_iter=3)
    search = GridSearchCV(model, {"optimizer__learning_rate": [1e-3, 1e-2]}, cv=3).fit(X, y)
    assert search.best_estimator_.optimizer.learning_rate == search.best_params_["optimizer__learning_rate"]
    assert model.optimizer == fnn.Adam(1e-3)

    model = fnn.SoftmaxRegression(solver=fnn.SGD(fnn.WarmUp(fnn.CosineDecay(0.1, 30), 2)))
    assert model.get_params()["solver__learning_rate__then__length"] == 30
    assert not any("__" in name for name in model.get_params(deep=False))
    model.set_params(solver__learning_rate__then__length=20, solver__momentum=0.5)
    assert model.solver == fnn.SGD(fnn.WarmUp(fnn.CosineDecay(0.1, 20), 2), 0.5)
    assert clone(model).solver == model.solver
    model.set_params(solver=fnn.Adam(), solver__beta1=0.5)  # the optimizer first
    assert model.solver == fnn.Adam(beta1=0.5)
    pipeline = Pipeline([("m", model)]).set_params(m__solver__beta1=0.6)
    assert pipeline[0].solver.beta1 == 0.6
    with pytest.raises(ValueError, match="Invalid parameter 'lr' for solver=Adam"):
        model.set_params(solver__lr=1.0)
    with pytest.raises(ValueError, match="solver is 'adam', which has no parameters"):
        model.set_params(solver="adam", solver__beta1=0.5)
    with pytest.raises(ValueError, match="beta1"):
        model.set_params(solver=fnn.Adam(), solver__beta1=1.5)
    with pytest.raises(ValueError, match="Invalid parameter"):
        fnn.LinearRegression().set_params(optimizer__learning_rate=0.1)


# ------------------------------------------------------------------ parameters of the model


def test_coefficients_can_be_set() -> None:
    X, y = classes()
    softmax = fnn.SoftmaxRegression().fit(X, y)
    W, b = np.arange(12.0).reshape(3, 4), np.arange(3.0)
    softmax.coef_, softmax.intercept_ = W, b
    assert_allclose(softmax.decision_function(X), X @ W.T + b)
    line = fnn.LinearRegression().fit(X, y)
    line.coef_, line.intercept_ = W[0], 1.0
    assert_allclose(line.predict(X), X @ W[0] + 1.0, rtol=1e-12)
    assert_array_equal(line.coef_, W[0])
    plane = fnn.LinearRegression().fit(X, np.c_[y, y])
    plane.coef_, plane.intercept_ = W[:2], b[:2]
    assert_allclose(plane.predict(X), X @ W[:2].T + b[:2], rtol=1e-12)
    with pytest.raises(ValueError, match="expected an array of shape"):
        plane.coef_ = W
    with pytest.raises(ValueError, match="fit_intercept=False"):
        fnn.LinearRegression(fit_intercept=False).fit(X, y).intercept_ = 1.0
    with pytest.raises(AttributeError, match="not fitted"):
        fnn.LinearRegression().coef_ = W[0]


def test_coefficients_set_before_fit_are_where_it_begins() -> None:
    X, y = classes()
    first = mlp().fit(X, y)
    second = mlp(max_iter=1)
    second.coefs_, second.intercepts_ = [W.copy() for W in first.coefs_], [b.copy() for b in first.intercepts_]
    assert_array_equal(second.coefs_[0], first.coefs_[0])
    with pytest.raises(sklearn.exceptions.NotFittedError):
        second.predict(X)
    second.fit(X, y)
    assert second.loss_curve_[0] < first.loss_curve_[0]
    assert mlp(max_iter=1).fit(X, y).loss_curve_[0] == first.loss_curve_[0]
    wrong = mlp()
    wrong.coefs_ = [np.ones((3, 2))]
    with pytest.raises(ValueError, match="coefs_: expected 2 arrays, got 1"):
        wrong.fit(X, y)
    softmax = fnn.SoftmaxRegression(solver="sgd", learning_rate_init=1e-12, max_iter=1)
    softmax.coef_, softmax.intercept_ = np.arange(12.0).reshape(3, 4), np.arange(3.0)
    assert_allclose(softmax.fit(X, y).coef_, np.arange(12.0).reshape(3, 4), atol=1e-9)


# ------------------------------------------------------------------ validation rows


def through_a_file(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model")
        return type(model).load(f"{folder}/model")


THROUGH = [lambda model: model, lambda model: pickle.loads(pickle.dumps(model)), through_a_file]


@pytest.mark.parametrize("seed", [0, np.random.RandomState(0), None], ids=["int", "RandomState", "None"])
@pytest.mark.parametrize("through", THROUGH, ids=["itself", "pickle", "file"])
def test_a_warm_start_holds_out_the_same_rows(seed, through, monkeypatch) -> None:
    import fastnn.estimators._sgd as sgd

    X, y = classes(200)
    seen, split = [], sgd.train_test_split
    monkeypatch.setattr(sgd, "train_test_split", lambda *a, **k: (seen.append(split(*a, **k)), seen[-1])[1])
    model = mlp(early_stopping=True, warm_start=True, random_state=seed).fit(X, y)
    through(model).fit(X, y)
    assert_array_equal(seen[0][1], seen[1][1])
    assert abs(np.bincount(y[seen[0][1]]) - np.bincount(y) / 10).max() < 1  # of each class a tenth


def test_rows_are_held_out_of_three_classes_where_they_suffice() -> None:
    X, y = classes(40)
    y[:39] = np.arange(39) % 2
    y[39] = 2  # once: it cannot be in both parts
    mlp(early_stopping=True).fit(X, y)
    mlp(early_stopping=True, validation_fraction=0.05).fit(X[:39], np.arange(39) % 3)  # two rows of three classes


@pytest.mark.parametrize("optimizer", ["adam", fnn.LBFGS(max_iter=2)], ids=["adam", "lbfgs"])
def test_a_network_holds_out_the_same_rows_in_every_fit(optimizer) -> None:
    X, y = classes(200)
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    held = []
    for options in ({}, {}, {"seed": 5}, {}):
        net.fit(X, y, optimizer=optimizer, validation_split=0.2, **options)
        trainer = fnn.Trainer(net, X, y, validation_split=0.2)
        held.append(np.setdiff1d(np.arange(200), trainer._data.rows))
    assert_array_equal(held[0], held[1])
    assert not np.array_equal(held[1], held[2])
    assert_array_equal(held[2], held[3])
    data = training_data(net, X, y, TrainingOptions())
    assert data.rows is None


@pytest.mark.parametrize("size", [2, 32, 48, 96, 200])
def test_batch_norm_and_a_row_that_is_left_over(size) -> None:
    X, y = classes(97)
    model = mlp(batch_norm=True, batch_size=size)
    if size == 200:
        with pytest.warns(UserWarning, match="clipped"):
            model.fit(X, y)
    else:
        model.fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    with pytest.raises(ValueError, match="at least 2 rows for batch norm"):
        mlp(batch_norm=True, batch_size=1).fit(X, y)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batch_norm_leaves_rows_of_weight_zero_out(shuffle) -> None:
    X, y = classes(98)
    w = np.ones(98)
    w[[3, 50, 7]] = 0.0  # 95 rows are left: two batches of 47, and one row
    X[w == 0.0] = 1e6
    model = mlp(batch_norm=True, batch_size=47, shuffle=shuffle).fit(X, y, sample_weight=w)
    assert np.isfinite(model.predict_proba(X)).all()
    assert abs(model.network_.state).max() < 100.0


@pytest.mark.parametrize("face", ["MLPClassifier", "MLPRegressor", "SoftmaxRegression"])
def test_validation_rows_through_a_pipeline(face) -> None:
    X, y = classes(300)
    X = X * [1, 100, 1, 1] + [0, 1000, 0, 0]
    options = {"solver": "adam"} if face == "SoftmaxRegression" else {}
    model = getattr(fnn, face)(max_iter=20, random_state=0, **options)
    direct = clone(model)
    scaler = StandardScaler().fit(X[:200])
    direct.fit(scaler.transform(X[:200]), y[:200], validation_data=(scaler.transform(X[200:]), y[200:]))
    with sklearn.config_context(enable_metadata_routing=True):
        model.set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline([("s", StandardScaler()), ("m", model)], transform_input=["X_val"])
        pipeline.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    assert pipeline[-1].validation_scores_ == direct.validation_scores_
    assert pipeline[-1].validation_scores_[-1] == pytest.approx(pipeline.score(X[200:], y[200:]), rel=1e-12)


def test_validation_arguments() -> None:
    X, y = classes()
    w = np.linspace(0.5, 1.5, 60)
    one = mlp().fit(X, y, X_val=X, y_val=y, sample_weight_val=w)
    assert one.validation_scores_ == mlp().fit(X, y, validation_data=(X, y, w)).validation_scores_
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        mlp().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="cannot both be given"):
        mlp().fit(X, y, X_val=X, y_val=y, validation_data=(X, y))
    with pytest.raises(ValueError, match="sample_weight_val needs"):
        mlp().fit(X, y, sample_weight_val=w)


def test_early_stopping_goes_back_from_a_divergence() -> None:
    X, y = classes()
    model = fnn.MLPRegressor(
        hidden_layer_sizes=(20,), activation="identity", solver="sgd", learning_rate_init=1.0, early_stopping=True
    )
    with pytest.warns(ConvergenceWarning, match="goes back to the best epoch"):
        model.set_params(random_state=0).fit(100 * X, y)
    assert np.isnan(model.validation_scores_[-1])
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.set_params(early_stopping=False).fit(100 * X, y)


# ------------------------------------------------------------------ labels


@pytest.mark.parametrize("face", [fnn.MLPClassifier, fnn.SoftmaxRegression])
def test_one_hot_targets_are_a_warning(face) -> None:
    X, y = classes()
    with pytest.warns(UserWarning, match="exactly one label") as caught:
        face(max_iter=20).fit(X, np.eye(3, dtype=int)[y])
    assert __file__ in {warning.filename for warning in caught}
    face(max_iter=20).fit(X, np.c_[y == 0, y > 0, y > 1].astype(int))  # of several labels: no warning


@pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning")  # scikit-learn 1.7, of 500 classes
def test_labels_that_do_not_fit() -> None:
    X, y = classes()
    with pytest.raises(ValueError, match=r"^Unknown label type: continuous"):
        fnn.SoftmaxRegression().fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"^Unknown label type: continuous"):
        mlp().partial_fit(X, y, classes=[0.5, 1.5, 2.5])
    with pytest.raises(ValueError, match="labels of one type, got int and str"):
        fnn.SoftmaxRegression().fit(X, np.array(["a" if v else 0 for v in y], dtype=object))
    whole = fnn.SoftmaxRegression().fit(X, y.astype(object))
    assert whole.classes_.dtype.kind == "i"
    assert_array_equal(whole.predict(X), fnn.SoftmaxRegression().fit(X, y).predict(X))
    words = fnn.SoftmaxRegression().fit(X, np.array(["a", "b", "c"], dtype=object)[y])
    assert list(words.classes_) == ["a", "b", "c"]
    many = mlp().partial_fit(X, y, classes=np.arange(500))
    with pytest.raises(ValueError, match="500 classes, 0, 1") as caught:
        many.partial_fit(X, y + 1000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_label_smoothing_of_two_classes_is_that_of_a_softmax(solver) -> None:
    X, y = classes(80, 2)
    model = fnn.SoftmaxRegression(1e-3, solver=solver, label_smoothing=0.2, tol=1e-9).fit(X, y)
    net = fnn.Sequential([fnn.Dense(2)], input_size=4, loss=fnn.losses.CrossEntropy(0.2), dtype="float64", seed=0)
    net.fit(X, y, optimizer=fnn.Newton(tol=1e-10), l2=2e-3 / 80)  # two columns of ± w / 2 have half of its square
    assert_allclose(model.predict_proba(X), net.predict_proba(X), atol=1e-7)
    assert model.predict_proba(X).max() < fnn.SoftmaxRegression(1e-3).fit(X, y).predict_proba(X).max()
    mlp(label_smoothing=0.2, early_stopping=True).fit(X, y)
    labels = mlp(label_smoothing=0.2).fit(X, np.c_[y, X[:, 1] > 0, y > -1].astype(int))
    assert set(np.unique(labels.predict(X))) <= {0, 1}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_log_probabilities_are_logarithms_where_probabilities_round_to_one(kind) -> None:
    X, y = classes()
    target = {"binary": y > 0, "multiclass": y, "multilabel": np.c_[y > 0, X[:, 1] > 0]}[kind]
    model = fnn.SoftmaxRegression().fit(X, target)
    model.coef_ = model.coef_ * 30
    p, logarithms = model.predict_proba(X), model.predict_log_proba(X)
    assert (p == 1.0).any()
    assert_array_equal(logarithms[p > 0.5], np.log(p[p > 0.5]))
    assert_allclose(logarithms, np.log(p), rtol=1e-12)


# ------------------------------------------------------------------ least squares


@pytest.mark.parametrize("n", [100, 5000])
def test_a_tiny_penalty_leaves_equal_columns_equal(n) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5))
    X, y = np.c_[X, X[:, 0]], 3 * X[:, 0] + 1 + rng.normal(size=n)
    plain = fnn.LinearRegression().fit(X, y)
    for alpha in 10.0 ** np.arange(-300, -7, 20):
        model = fnn.LinearRegression(alpha).fit(X, y)
        assert_allclose(model.coef_, plain.coef_, atol=1e-6)
        assert_allclose(model.intercept_, plain.intercept_, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 300), (300, 8), (20, 20)])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_of_every_shape(shape, alpha, weighted) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
    w = rng.random(shape[0]) if weighted else None
    ours, theirs = fnn.LinearRegression(alpha).fit(X, y, w), Ridge(alpha, solver="svd").fit(X, y, w)
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8, atol=1e-11)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-8, atol=1e-11)
    assert (ours.rank_, len(ours.singular_)) == (shape[1], shape[1])


@pytest.mark.parametrize("what", ["X", "y", "sample_weight"])
def test_masked_values_are_refused(what: str) -> None:
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(30, 3)), "y": np.arange(30) % 2, "sample_weight": np.ones(30)}
    masked = dict(data)
    masked[what] = np.ma.masked_array(data[what], np.zeros(data[what].shape, bool))
    masked[what].mask[3] = True
    plain = dict(data)
    plain[what] = np.ma.masked_array(data[what])  # nothing is masked
    for make in (
        lambda: fnn.MLPClassifier((3,), max_iter=2),
        lambda: fnn.MLPRegressor(hidden_layer_sizes=(3,), max_iter=2),
        lambda: fnn.SoftmaxRegression(),
        lambda: fnn.LinearRegression(),
    ):
        with pytest.raises(ValueError, match=f"{what}: expected values everywhere, got a masked array"):
            make().fit(**masked)
        fitted = make().fit(**plain)
        if what == "X":
            with pytest.raises(ValueError, match="X: expected values everywhere, got a masked array"):
                fitted.predict(masked["X"])
    with pytest.raises(ValueError, match=f"{what}: expected values everywhere"):
        fnn.MLPClassifier((3,), max_iter=2).fit(
            data["X"], data["y"], validation_data=(masked["X"], masked["y"], masked["sample_weight"])
        )
    if what == "y":
        model = fnn.MLPClassifier((3,))
        with pytest.raises(ValueError, match="y: expected values everywhere"):
            model.partial_fit(data["X"], masked["y"], classes=[0, 1])
        assert "classes_" not in vars(model)
