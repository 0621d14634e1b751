"""Learning and validation curves: the same trainings as by hand, nested parts, tables, figures, bad input."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.curves import _nested_order
from fastnn.training.data import stratified_split


def pattern():
    layers = [fnn.Dense(6, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=7)


def model(width, depth=1, seed=0):
    layers = [*(fnn.Dense(width, "tanh") for _ in range(depth)), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype="float64", seed=seed)


@pytest.fixture
def iris():
    return fnn.datasets.load_iris()


def test_validation_runs_are_those_of_fit(iris):
    X, y = iris
    rates = [0.001, 0.1]
    found = fnn.validation_curve(pattern(), "learning_rate", rates, X, y, seeds=[3, 5], epochs=4, batch_size=20)
    kept, held_out = stratified_split(y, 150, 0.2, np.random.default_rng(0))
    assert [(run.index, run.seed) for run in found.runs] == [(0, 3), (0, 5), (1, 3), (1, 5)]
    for run in found.runs:
        net = fnn.Sequential(pattern().layers, input_size=4, loss="cross_entropy", dtype="float64", seed=run.seed)
        optimizer = fnn.Adam(rates[run.index])
        net.fit(X[kept], y[kept], optimizer=optimizer, epochs=4, batch_size=20, seed=run.seed, threads=1)
        assert run.train == net.evaluate(X[kept], y[kept])
        assert run.validation == net.evaluate(X[held_out], y[held_out])
    assert found.best == 0.1


def test_learning_runs_are_those_of_fit(iris):
    X, y = iris
    train, dev = fnn.datasets.split(X, y, (0.7, 0.3))
    sizes = (9, 30, 105)
    found = fnn.learning_curve(
        pattern(), *train, sizes=sizes, validation_data=dev, seeds=2, optimizer=fnn.LBFGS(), l2=0.01
    )
    assert (found.name, found.values) == ("rows", sizes)
    assert [(run.index, run.seed) for run in found.runs] == [(k, seed) for k in range(3) for seed in range(2)]
    for run in found.runs:
        order = _nested_order(train[1], 105, np.random.default_rng(run.seed))
        rows = np.sort(order[: sizes[run.index]])
        net = fnn.Sequential(pattern().layers, input_size=4, loss="cross_entropy", dtype="float64", seed=run.seed)
        net.fit(train[0][rows], train[1][rows], optimizer=fnn.LBFGS(), l2=0.01, seed=run.seed, threads=1)
        assert run.validation == net.evaluate(*dev)
        assert run.train == net.evaluate(train[0][rows], train[1][rows])
    gap = (found.scores("train", "loss") - found.scores("validation", "loss")).mean(axis=1)
    assert (gap < 0.0).all()
    assert abs(gap[2]) < abs(gap[0])


@pytest.mark.parametrize("labels", [np.arange(300) % 3, np.array([0] * 280 + [1] * 15 + [2] * 5), None])
def test_each_beginning_has_its_share_of_each_class(labels):
    order = _nested_order(labels, 300, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(300))
    if labels is None:
        return
    for size in range(3, 301):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert counts.min() >= 1
        assert (np.abs(counts - size * np.bincount(labels) / 300) <= 2.0).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [("l2", [0.0, 0.01]), ("batch_size", [8, 64]), ("depth", [1, 2]), ("width", [2, 8]), ("epochs", [1, 3])],
)
def test_parameters_of_all_kinds(iris, name, values):
    fixed = {"width": 3, "epochs": 2}
    fixed.pop(name, None)
    found = fnn.validation_curve(model, name, values, *iris, seeds=1, **fixed)
    assert found.values == tuple(values)
    assert np.isfinite(found.scores()).all()
    assert len({run.train["loss"] for run in found.runs}) == 2


def test_table(iris):
    found = fnn.validation_curve(model, "width", [2, 8], *iris, seeds=3, epochs=3)
    columns = found.to_dict()
    assert columns["width"] == [2, 8]
    assert columns["failed"] == [0, 0]
    losses = [run.validation["loss"] for run in found.runs if run.index == 1]
    assert columns["val_loss"][1] == pytest.approx(np.mean(losses))
    assert columns["val_loss_std"][1] == pytest.approx(np.std(losses, ddof=1))
    text = repr(found)
    for word in ("Curve of 2 values of width over 3 seeds", "val_accuracy", "±"):
        assert word in text
    pd = pytest.importorskip("pandas")
    assert isinstance(found.table, pd.DataFrame)
    assert list(found.table.index) == [2, 8]
    with pytest.raises(ValueError, match="metric must be one of 'loss', 'accuracy', got 'f1'"):
        found.scores(metric="f1")
    with pytest.raises(ValueError, match="part must be"):
        found.scores("dev")


def test_a_training_that_fails_is_told(iris):
    net = pattern().astype("float32")
    found = fnn.validation_curve(net, "learning_rate", [0.01, 1e38], *iris, seeds=2, optimizer="sgd", epochs=3)
    assert found.to_dict()["failed"] == [0, 2]
    assert np.isnan(found.scores()[1]).all()
    assert found.best == 0.01
    assert "learning_rate 1e+38, seed 1: diverged" in repr(found)
    with pytest.raises(ValueError, match="no training has a score: diverged"):
        fnn.validation_curve(net, "learning_rate", [1e38], *iris, seeds=1, optimizer="sgd")


def test_regressions_tables_and_sparse_rows(iris):
    X, _ = iris
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    train, dev = (slice(0, None, 2), slice(1, None, 2))
    options = {"sizes": [0.5, 1.0], "seeds": 1, "optimizer": fnn.LBFGS()}
    plain = fnn.learning_curve(net, X[train, :3], X[train, 3], validation_data=(X[dev, :3], X[dev, 3]), **options)
    assert plain.metric == "r2"
    assert plain.values == (38, 75)
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_array(X[:, :3])
    found = fnn.learning_curve(net, rows[train], X[train, 3], validation_data=(rows[dev], X[dev, 3]), **options)
    np.testing.assert_allclose(found.scores(), plain.scores(), rtol=1e-4)
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(X[:, :3], columns=list("abc"))
    found = fnn.learning_curve(net, rows[train], X[train, 3], validation_data=(rows[dev], X[dev, 3]), **options)
    np.testing.assert_array_equal(found.scores(), plain.scores())


def test_plot(iris, tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    values = [0.0, 1e-4, 1e-1]
    found = fnn.validation_curve(pattern(), "l2", values, *iris, seeds=2, epochs=2)
    axis = found.plot(tmp_path / "x.png", ax=figure.subplots(), title="penalty")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (axis.get_xscale(), axis.get_xlabel(), axis.get_ylabel()) == ("symlog", "l2", "accuracy")
    for line, part in zip(axis.lines, ("train", "validation"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), values)
        np.testing.assert_allclose(line.get_ydata(), found.scores(part).mean(axis=1))
    assert len(axis.collections) == 2
    assert found.plot(metric="loss", log=False, ax=figure.subplots()).get_xscale() == "linear"
    sizes = fnn.learning_curve(pattern(), *iris, sizes=[3, 100], seeds=1, epochs=1).plot(ax=figure.subplots())
    assert (sizes.get_xscale(), sizes.get_xlabel()) == ("log", "training rows")
    named = fnn.validation_curve(pattern(), "optimizer", ["adam", "sgd"], *iris, seeds=1, epochs=1)
    axis = named.plot(ax=figure.subplots())
    assert [text.get_text() for text in axis.get_xticklabels()] == ["adam", "sgd"]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((3, "l2", [0.1]), {}, TypeError, "model: expected a Sequential or a function"),
        ((pattern(), "seed", [0.1]), {}, ValueError, "name: expected the name of a parameter other than 'seed'"),
        ((pattern(), "l2", []), {}, ValueError, "values: expected at least one"),
        ((pattern(), "l2", [0.1]), {"l2": 0.2}, ValueError, "l2: given twice"),
        ((pattern(), "width", [1]), {}, ValueError, "'width' is taken by neither"),
        ((pattern(), "l2", [0.1]), {"validation_split": 0.0}, ValueError, "validation_split"),
        ((pattern(), "l2", [0.1]), {"validation_data": 3}, TypeError, "validation_data: expected a tuple"),
        ((pattern(), "l2", [0.1]), {"seeds": []}, ValueError, "seeds: expected at least one"),
        ((pattern(), "l2", [-1.0]), {}, ValueError, "l2"),
    ],
)
def test_bad_validation_curves(iris, arguments, options, error, text):
    with pytest.raises(error, match=text):
        fnn.validation_curve(*arguments, *iris, **options)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([2, 10], r"sizes: expected 3 \(one of each class\) to 120 rows, got 2 by 2"),
        ([10, 121], "to 120 rows, got 121"),
        ([1.5], "to 120 rows, got 180 by 1.5"),
        ([20, 10], r"sizes: expected rising numbers of rows, got \[20, 10\]"),
        ([], "sizes: expected rising"),
        ([0], "sizes must be"),
    ],
)
def test_bad_sizes(iris, sizes, text):
    with pytest.raises(ValueError, match=text):
        fnn.learning_curve(pattern(), *iris, sizes=sizes)
