"""The scikit-learn estimators: scikit-learn's own checks, its tools around them, and their extensions."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse
from counting import Counting
from estimator_cases import ESTIMATORS, passes_scikit_learns_checks, quick
from interruption import alarm, needs_alarm
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import unique_labels

import fastnn as fnn

# ------------------------------------------------------------------ scikit-learn's checks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        fnn.MLPClassifier(max_iter=100),
        fnn.MLPRegressor(max_iter=100),
        # With an alpha that keeps probabilities off 0, whose logarithm the checks take; ours stays finite.
        fnn.MLPClassifier((20,), solver="lbfgs", max_iter=50, alpha=1.0),
        fnn.MLPRegressor(solver="sgd", max_iter=100),
        fnn.MLPClassifier(max_iter=50, optimizer=fnn.RMSProp(0.01)),
        fnn.SoftmaxRegression(),
        fnn.LinearRegression(),
    ],
    ids=repr,
)
def test_scikit_learns_checks(estimator) -> None:
    passes_scikit_learns_checks(estimator)


@pytest.mark.parametrize("estimator", [fnn.MLPClassifier, fnn.MLPRegressor])
def test_parameters_are_scikit_learns(estimator) -> None:
    import inspect

    import sklearn.neural_network

    theirs = inspect.signature(getattr(sklearn.neural_network, estimator.__name__)).parameters
    ours = inspect.signature(estimator).parameters
    assert [(p.name, p.default) for p in ours.values()][: len(theirs)] == [(p.name, p.default) for p in theirs.values()]
    assert [p.kind for p in ours.values()][: len(theirs)] == [p.kind for p in theirs.values()]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(ours.values())[len(theirs) :])


# ------------------------------------------------------------------ scikit-learn's tools


def test_searches_pipelines_and_column_transformers(iris) -> None:
    pd = pytest.importorskip("pandas")
    X, y = iris
    grid = GridSearchCV(quick(), {"hidden_layer_sizes": [(4,), (8, 8)], "alpha": [1e-4, 1.0]}, cv=3).fit(X, y)
    assert grid.best_score_ > 0.93
    plain = quick().set_params(learning_rate_init=0.001)
    random = RandomizedSearchCV(plain, {"optimizer": [fnn.Adam(0.02), fnn.SGD(0.1, 0.9)]}, n_iter=2, cv=3).fit(X, y)
    assert isinstance(random.best_estimator_.optimizer, fnn.optimizers.Optimizer)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 0, "long", "short"))
    columns = ColumnTransformer([("numbers", StandardScaler(), list("abcd")), ("kinds", OneHotEncoder(), ["kind"])])
    pipeline = make_pipeline(columns, quick()).fit(frame, y)
    assert pipeline.score(frame, y) > 0.95
    direct = quick().fit(frame[list("abcd")], y)
    assert list(direct.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        direct.predict(frame[list("dcba")])


def test_calibration(iris) -> None:
    X, y = iris
    calibrated = CalibratedClassifierCV(quick(), cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.93
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)


def threads_used(backend, X, y):
    """Threads that each of two estimators uses, side by side."""
    with joblib.parallel_config(backend=backend):
        estimators = joblib.Parallel(n_jobs=2)(
            joblib.delayed(Counting((16,), max_iter=5, random_state=0).fit)(X, y) for _ in range(4)
        )
    return [estimator.used_ for estimator in estimators]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_validation_in_parallel_does_not_oversubscribe(backend, iris) -> None:
    X, y = iris
    expected = cross_val_score(quick(), X, y, cv=4)
    with joblib.parallel_config(backend=backend):
        scores = cross_val_score(quick(), X, y, cv=4, n_jobs=2)
    np.testing.assert_array_equal(scores, expected)
    cores = joblib.cpu_count()
    used = threads_used(backend, X, y)
    assert all(count * 2 <= max(cores, 2) for count in used), (used, cores)
    if backend == "threading":
        assert used == [1] * 4
        assert quick()._threads() is None  # but here, in no worker, all are free


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks beside threads
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the platform has no fork")
def test_a_fork_after_a_fit_with_workers_does_not_hang() -> None:
    """The pool of the parent is not in the child, whose fit makes its own."""
    program = """
    import multiprocessing, sys, warnings
    import numpy as np
    import fastnn as fnn
    sys.path.insert(0, sys.argv[1])
    import knobs
    warnings.simplefilter("ignore")
    knobs.change(min_work=1.0, shard_rows=1e-6, exchange=0.0)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 20))
    y = X[:, 0] > 0
    def work(seed):
        return fnn.MLPClassifier((32,), max_iter=3, random_state=seed, n_threads=2).fit(X, y).loss_
    if __name__ == "__main__":
        here = [work(seed) for seed in range(4)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            there = pool.map_async(work, range(4)).get(timeout=300)
        assert here == there, (here, there)
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(Path(__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.stdout.strip() == "done", result.stderr


def test_metadata_routing(iris) -> None:
    import sklearn

    X, y = iris
    weights = np.where(y == 2, 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"alpha": [1e-4]}, cv=3)
        search.fit(X, y, sample_weight=weights)
    direct = quick(alpha=1e-4).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(search.best_estimator_.coefs_[0], direct.coefs_[0])
    assert abs(direct.coefs_[0] - quick(alpha=1e-4).fit(X, y).coefs_[0]).max() > 1e-6


# ------------------------------------------------------------------ labels, outputs, inputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_dtype_is_kept(estimator, dtype, iris) -> None:
    X, y = iris
    model = estimator(max_iter=500, random_state=0) if "max_iter" in estimator().get_params() else estimator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X.astype(dtype), y)
    assert model.network_.dtype == model.coefs_[0].dtype == model.intercepts_[0].dtype == dtype
    values = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    assert values.dtype == dtype
    assert quick().fit((X * 10).astype(int), y).coefs_[0].dtype == np.float64


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["red", "green", "blue"]),
        np.array(["red", "green", "blue"], dtype=object),
        np.array([10, -3, 7]),
        np.array([0.5, 1.5, -2.5]).astype(str),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_any_type(labels, iris) -> None:
    X, y = iris
    for kinds in (3, 2):
        rows = y < kinds
        model = quick().fit(X[rows], labels[y[rows]])
        assert set(model.classes_) == set(labels[:kinds])
        assert model.predict(X[rows]).dtype == unique_labels(labels[y[rows]]).dtype
        assert (model.predict(X[rows]) == labels[y[rows]]).mean() > 0.95


def test_bool_labels_and_one_class(iris) -> None:
    X, y = iris
    model = quick().fit(X, y == 0)
    assert model.predict(X).dtype == bool
    assert model.out_activation_ == "logistic"
    assert model.predict_proba(X).shape == (150, 2)
    alone = quick().fit(X, np.full(150, "only"))
    assert (alone.predict(X) == "only").all()


@pytest.mark.parametrize("sparse", [False, True])
def test_several_labels(sparse, iris) -> None:
    X, y = iris
    Y = np.c_[y == 0, y == 2, X[:, 0] > 0].astype(int)
    model = quick().fit(X, scipy.sparse.csr_matrix(Y) if sparse else Y)
    predicted = model.predict(X)
    assert scipy.sparse.issparse(predicted) == sparse
    predicted = predicted.toarray() if sparse else predicted
    assert (predicted == Y).mean() > 0.97
    assert model.predict_proba(X).shape == (150, 3)
    assert model.score(X, Y) > 0.9
    assert (model.n_outputs_, model.out_activation_) == (3, "logistic")


def test_a_sparse_x_is_a_dense_one(iris) -> None:
    X, y = iris
    X = np.where(abs(X) < 0.7, 0.0, X)
    dense = quick().fit(X, y)
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array):
        sparse = quick().fit(kind(X), y)
        np.testing.assert_array_equal(sparse.coefs_[0], dense.coefs_[0])
        np.testing.assert_array_equal(sparse.predict_proba(kind(X)), dense.predict_proba(X))
    stopped = quick(early_stopping=True).fit(scipy.sparse.csc_matrix(X), y)
    np.testing.assert_array_equal(stopped.coefs_[0], quick(early_stopping=True).fit(X, y).coefs_[0])


def test_several_values(diabetes) -> None:
    X, y = diabetes
    model = quick(fnn.MLPRegressor, alpha=1.0).fit(X, np.c_[y, -2 * y])
    assert model.predict(X).shape == (442, 2)
    assert model.score(X, np.c_[y, -2 * y]) > 0.5


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error", "huber"])
def test_losses_of_the_regressor(loss, diabetes) -> None:
    X, y = diabetes
    counts = np.round(np.exp(y))
    model = quick(fnn.MLPRegressor, loss=loss, alpha=1.0).fit(X, counts)
    assert model.out_activation_ == ("exp" if loss == "poisson" else "identity")
    assert model.score(X, counts) > 0.2
    assert not (loss == "poisson" and (model.predict(X) <= 0).any())


def test_log_probabilities_keep_their_digits() -> None:
    X = np.array([[-1.0], [1.0]])
    model = fnn.SoftmaxRegression(alpha=1e-4).fit(np.r_[X, X], [0, 1, 0, 1])
    model.coefs_[0][...], model.intercepts_[0][...] = 800.0, 0.0
    np.testing.assert_allclose(model.predict_log_proba(X), [[0.0, -800.0], [-800.0, 0.0]])
    three = fnn.SoftmaxRegression().fit([[0.0], [1.0], [2.0]], [0, 1, 2])
    three.coefs_[0][...], three.intercepts_[0][...] = [[0.0, 900.0, 1800.0]], 0.0
    np.testing.assert_allclose(three.predict_log_proba([[1.0]]), [[-1800.0, -900.0, 0.0]])


# ------------------------------------------------------------------ parameters and their views


def test_coefs_are_views(iris) -> None:
    X, y = iris
    fitted = quick().fit(X, y)
    for model in (fitted, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        for view in [*model.coefs_, *model.intercepts_]:
            assert np.shares_memory(view, model.network_.theta)
        model.coefs_[0] = np.full((4, 16), 0.25)
        model.coefs_[1] += 1.0
        model.intercepts_ = [np.zeros(16), np.ones(3)]
        np.testing.assert_array_equal(model.network_.parameters["0.weight"], 0.25)
        np.testing.assert_array_equal(model.network_.parameters["1.bias"], 1.0)
        before = model.network_.theta.copy()
        with pytest.raises(ValueError, match=r"expected an array of shape \(4, 16\), got \(16, 4\)"):
            model.coefs_ = [np.ones((16, 4)), np.ones((16, 3))]
        with pytest.raises(ValueError, match="expected 2 arrays, got 1"):
            model.coefs_ = [np.ones((4, 16))]
        np.testing.assert_array_equal(model.network_.theta, before)
    assert type(pickle.loads(pickle.dumps(model.coefs_))) is list


def test_unfitted_estimators_say_so(iris) -> None:
    for estimator in ESTIMATORS:
        with pytest.raises(NotFittedError):
            estimator().predict(iris[0])
        assert not hasattr(estimator(), "coefs_")
        with pytest.raises(AttributeError, match="not fitted"):
            estimator().intercepts_  # noqa: B018
        with pytest.raises(NotFittedError):
            estimator().save("nowhere")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_arrays_get_what_every_other_form_gets(dtype, iris) -> None:
    X, y = iris[0].astype(dtype), iris[1]
    classifier = fnn.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
    regressor = fnn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0).fit(X, y.astype(dtype))
    binary = fnn.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y > 0)
    for method in (classifier.predict_proba, classifier.predict, regressor.predict, binary.predict_proba):
        for rows in (X, X[:1]):
            for same in (np.asfortranarray(rows), rows.tolist() if dtype is np.float64 else rows[::1], rows.copy()):
                np.testing.assert_array_equal(method(rows), method(same))
        other = np.float64 if dtype is np.float32 else np.float32
        np.testing.assert_allclose(method(X.astype(other)), method(X), rtol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_one_row_is_checked_as_scikit_learn_does(iris) -> None:
    X, y = iris
    ours, theirs = (kind((5,), max_iter=3, random_state=0).fit(X, y) for kind in (fnn.MLPClassifier, MLPClassifier))
    missing, infinite = X[:1].copy(), X[:1].copy()
    missing[0, 1], infinite[0, 1] = np.nan, np.inf
    for wrong in (missing, infinite, X[:1, :2], X[0], X[:0], X[None], np.array(1.0), X.astype(complex)):
        with pytest.raises(ValueError, match=r"\w") as expected:
            theirs.predict_proba(wrong)
        with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
            ours.predict_proba(wrong)
    pandas = pytest.importorskip("pandas")
    named = pandas.DataFrame(X, columns=list("abcd"))
    classifier = fnn.MLPClassifier((5,), max_iter=3, random_state=0).fit(named, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        classifier.predict_proba(X[:1])
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict_proba(named[list("dcba")])


def test_without_scikit_learn_the_message_says_what_to_install() -> None:
    program = """
    import sys
    sys.modules["sklearn"] = None
    import fastnn as fnn
    try:
        fnn.MLPClassifier
    except ImportError as error:
        print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == 'fastnn\'s estimators need scikit-learn: pip install "fastnn[sklearn]"'


# ------------------------------------------------------------------ training


def test_warnings(iris) -> None:
    X, y = iris
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached") as caught:
        fnn.MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    assert caught[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match=r"lbfgs failed to converge after 2 iteration") as caught:
        fnn.MLPRegressor(solver="lbfgs", max_iter=2, random_state=0).fit(X, y)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="`batch_size` less than 1 or larger than sample size"):
        quick(batch_size=1000).fit(X, y)
    with pytest.warns(UserWarning, match="column-vector y"):
        quick().fit(X, y[:, None])


def test_wrong_arguments(iris) -> None:
    X, y = iris
    for options, message in (
        ({"alpha": -1.0}, "The 'alpha' parameter of MLPClassifier must be a float in the range"),
        ({"solver": "newton-ish"}, "The 'solver' parameter of MLPClassifier"),
        ({"activation": "swish"}, "The 'activation' parameter"),
        ({"dropout": 1.0}, "The 'dropout' parameter"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
        ({"solver": "lbfgs", "batch_norm": True}, "batch_norm and dropout need batches"),
        (
            {"early_stopping": True, "validation_fraction": 0.005},
            "validation set is too small|least populated|test_size",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.MLPClassifier(**{"random_state": 0, **options}).fit(X, y)
    with pytest.raises(TypeError, match="validation_data must be"):
        fnn.MLPClassifier().fit(X, y, validation_data=X)
    with pytest.raises(ValueError, match="validation_data needs a stochastic solver"):
        fnn.MLPClassifier(solver="lbfgs").fit(X, y, validation_data=(X, y))
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        fnn.MLPClassifier(solver="lbfgs").partial_fit  # noqa: B018
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        fnn.MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        fnn.MLPRegressor(solver="sgd", learning_rate_init=1e30, random_state=0).fit(X * 1e10, y)


def test_warm_start_and_partial_fit(iris) -> None:
    X, y = iris
    model = quick(warm_start=True).set_params(max_iter=3, tol=0.0, n_iter_no_change=1000)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    first = model.loss_
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.loss_ < first
    assert (model.n_iter_, len(model.loss_curve_), model.t_) == (3, 6, 900)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        model.fit(X, y == 0)
    with pytest.raises(ValueError, match="parameters have changed to describe another one"):
        model.set_params(hidden_layer_sizes=(3,)).fit(X, y)

    model = quick()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, y)
    for _ in range(60):
        model.partial_fit(X[:75], y[:75], classes=[0, 1, 2]).partial_fit(X[75:], y[75:])
    assert (model.n_iter_, model.t_, len(model.history_)) == (1, 60 * 150, 120)
    assert model.score(X, y) > 0.9
    with pytest.raises(ValueError, match="`y` has classes not in"):
        model.partial_fit(X, y + 1)


def test_partial_fit_goes_on_after_unpickling(iris) -> None:
    X, y = iris
    a = quick().partial_fit(X, y, classes=[0, 1, 2])
    b = pickle.loads(pickle.dumps(a))
    for _ in range(3):
        a.partial_fit(X, y)
        b.partial_fit(X, y)
    np.testing.assert_array_equal(a.network_.theta, b.network_.theta)


def test_early_stopping_goes_back_to_the_best_epoch(iris) -> None:
    X, y = iris
    model = quick(early_stopping=True, validation_fraction=0.3).fit(X, y)
    assert model.best_loss_ is None
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_ < 500
    given = quick(early_stopping=True).fit(X, y, validation_data=(X, y))
    assert given.best_validation_score_ == given.score(X, y)


def test_validation_data_are_scored(iris) -> None:
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    model = quick().fit(X, names, validation_data=(X[:40], names[:40], np.ones(40)))
    assert len(model.validation_scores_) == model.n_iter_
    assert model.validation_scores_[-1] == model.score(X[:40], names[:40])
    assert model.history_["val_accuracy"] == model.validation_scores_
    plain = quick().fit(X, names)
    assert plain.validation_scores_ is None
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_class_weights(iris) -> None:
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    by_class = quick(class_weight={"a": 1.0, "b": 4.0, "c": 0.5}).fit(X, names)
    by_row = quick().fit(X, names, sample_weight=np.array([1.0, 4.0, 0.5])[y])
    np.testing.assert_array_equal(by_class.coefs_[0], by_row.coefs_[0])
    rows = np.r_[:50, 50:60, 100:105]
    balanced = quick(class_weight="balanced").fit(X[rows], names[rows])
    assert balanced.score(X, names) > 0.9
    with pytest.raises(ValueError, match="needs all labels at once"):
        quick(class_weight="balanced").partial_fit(X, names, classes=["a", "b", "c"])


@pytest.mark.parametrize("rate", ["constant", fnn.CosineDecay(0.02, 50)], ids=["constant", "cosine"])
def test_layers_optimizers_callbacks_and_schedules(rate, iris) -> None:
    X, y = iris
    epochs = []

    def stop(result):
        epochs.append(result.epoch)
        if result.epoch == 30:
            result.stop()

    model = fnn.MLPClassifier(
        (12, 8),
        "gelu",
        batch_size=1,
        learning_rate=rate,
        learning_rate_init=0.02 if rate == "constant" else 0.001,
        batch_norm=True,
        dropout=0.1,
        callbacks=[stop, fnn.EarlyStopping("loss", patience=50)],
        label_smoothing=0.05,
        solver="adamw",
        random_state=0,
    )
    with pytest.raises(ValueError, match="batches of at least 2 rows"):
        model.fit(X, y)
    model.set_params(batch_size=50).fit(X, y)
    assert epochs == list(range(1, 31))
    assert model.n_iter_ == 30
    assert [type(layer).__name__ for layer in model.network_.layers][:4] == [
        *("Dense", "BatchNorm", "Activation", "Dropout")
    ]
    assert model.score(X, y) > 0.9
    assert (model.history_["learning_rate"][-1] < 0.01) == (rate != "constant")
    assert clone(model).get_params()["callbacks"][1] is not model.callbacks[1]
    auto = fnn.MLPClassifier(batch_norm=True, max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning):
        auto.fit(np.r_[X, X[:51]], np.r_[y, y[:51]])  # 201 rows: batches of 200 would leave one


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_optimizers(iris) -> None:
    X, y = iris
    by_solver = quick(solver=fnn.SGD(0.1, 0.9)).fit(X, y)
    by_optimizer = quick(optimizer=fnn.SGD(0.1, 0.9)).fit(X, y)
    np.testing.assert_array_equal(by_solver.network_.theta, by_optimizer.network_.theta)
    for name in fnn.optimizers.OPTIMIZERS:
        model = quick(optimizer=name) if name == "adagrad" else quick(solver=name)
        assert model.set_params(tol=1e-5).fit(X, y).score(X, y) > 0.85, name


def test_an_interrupt_keeps_what_was_learnt(iris) -> None:
    X, y = iris

    def interrupt(result):
        if result.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = quick(callbacks=[interrupt]).fit(X, y)
    assert model.n_iter_ == 4
    assert model.predict(X).shape == (150,)


@needs_alarm
def test_an_interrupt_within_a_block_of_epochs_keeps_the_finished_ones(diabetes) -> None:
    """Several epochs are trained in one call; those that were finished are repeated, in the same order of the rows."""
    X, y = diabetes
    options = {"tol": 0.0, "n_iter_no_change": np.inf, "batch_size": 32, "random_state": 0}
    warned = pytest.warns(UserWarning, match="Training interrupted by user")
    with alarm(0.4, signal.default_int_handler), warned:
        model = fnn.MLPRegressor(max_iter=10**6, **options).fit(X, y)
    assert 10 < model.n_iter_ == len(model.loss_curve_)
    with pytest.warns(ConvergenceWarning):
        whole = fnn.MLPRegressor(max_iter=model.n_iter_, **options).fit(X, y)
    assert model.loss_curve_ == whole.loss_curve_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_verbose_prints_what_scikit_learn_prints(iris, capsys) -> None:
    X, y = iris
    model = quick(verbose=True, early_stopping=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}"
    assert lines[-1].startswith("Validation score did not improve more than tol=0.000100 for 10 consecutive epochs.")
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        fnn.MLPClassifier((4,), max_iter=7, verbose=3, random_state=0).fit(X, y)
    printed = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["Iteration 1", "Iteration 3", "Iteration 6"]
