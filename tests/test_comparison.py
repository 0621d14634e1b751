"""fnn.compare: the same trainings as by hand, tables, figures, bad input."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.comparison import UNLIMITED

METHODS = {"adam": fnn.Adam(0.01), "kfac": fnn.KFAC(0.02), "lbfgs": fnn.LBFGS(), "newton": fnn.Newton(updates=1)}


def pattern(dtype="float64"):
    layers = [fnn.Dense(6, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=4, loss="cross_entropy", dtype=dtype, seed=7)


@pytest.fixture(scope="module")
def found():
    X, y = fnn.datasets.load_iris()
    net = pattern()
    before = net.theta.copy()
    methods = {name: (net, optimizer) for name, optimizer in METHODS.items()}
    result = fnn.compare(methods, X, y, validation_split=0.2, seeds=3, epochs=15, threads=1)
    np.testing.assert_array_equal(net.theta, before)
    return result


def test_runs_are_those_of_fit(found):
    X, y = fnn.datasets.load_iris()
    assert found.methods == tuple(METHODS)
    assert [(run.method, run.seed) for run in found.runs] == [(name, seed) for seed in range(3) for name in METHODS]
    kept = np.zeros(150, bool)
    for run in found.runs:
        train, held_out = split(X, y)
        kept[:] = False
        net = fnn.Sequential(pattern().layers, input_size=4, loss="cross_entropy", dtype="float64", seed=run.seed)
        optimizer = METHODS[run.method]
        limit = {"epochs": 15}
        if hasattr(optimizer, "max_iter"):
            optimizer, limit = type(optimizer)(**{**vars(optimizer), "max_iter": 15}), {}
        history = net.fit(
            X[train],
            y[train],
            optimizer=optimizer,
            seed=run.seed,
            threads=1,
            validation_data=(X[held_out], y[held_out]),
            callbacks=[lambda _: None],
            **limit,
        )
        np.testing.assert_array_equal(net.theta, run.net.theta)
        assert history["val_loss"] == run.history["val_loss"]
        assert run.train == net.evaluate(X[train], y[train], threads=1)
        assert run.validation == net.evaluate(X[held_out], y[held_out], threads=1)
        assert run.error == ""


def split(X, y):
    from fastnn.training.data import stratified_split

    return stratified_split(y, len(y), 0.2, np.random.default_rng(0))


def test_table(found):
    columns = found.to_dict()
    assert columns["method"] == list(METHODS)
    assert columns["seeds"] == [3] * 4
    for i, name in enumerate(METHODS):
        runs = [run for run in found.runs if run.method == name]
        losses = [run.validation["loss"] for run in runs]
        assert columns["val_loss"][i] == pytest.approx(np.mean(losses))
        assert columns["val_loss_std"][i] == pytest.approx(np.std(losses, ddof=1))
        assert columns["best_val_accuracy"][i] == pytest.approx(np.mean([max(r.history["val_accuracy"]) for r in runs]))
        assert columns["best_val_loss"][i] == pytest.approx(np.mean([min(r.history["val_loss"]) for r in runs]))
    assert columns["evaluations"][0] == 15  # an epoch of mini-batches is one
    assert columns["evaluations"][2] > columns["epochs"][2]
    text = repr(found)
    assert "Comparison of 4 methods over 3 seeds" in text
    assert all(name in text for name in (*METHODS, "val_loss", "evaluations", "±"))
    pd = pytest.importorskip("pandas")
    assert isinstance(found.table, pd.DataFrame)
    assert list(found.table.index) == list(METHODS)


def test_evaluations_are_counted_by_iteration(found):
    for run in found.runs:
        if run.method in ("lbfgs", "newton"):
            counts = run.history["evaluations"]
            assert (np.diff(counts) > 0).all()
            assert run.evaluations == counts[-1] == run.history.result.evaluations.total


@pytest.mark.parametrize("x", ["epoch", "seconds", "evaluations"])
@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_plot(found, x, metric, tmp_path):
    pytest.importorskip("matplotlib")
    axis = found.plot(tmp_path / "c.png", x=x, metric=metric, title="t")
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert axis.get_xlabel() == ("epoch or iteration" if x == "epoch" else x)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == list(METHODS)
    # A solver's history has no accuracy of the training rows.
    lines = axis.get_lines()
    assert len(lines) == (8 if metric == "loss" else 6)
    if x == "epoch" and metric == "loss":
        adam = np.median([history["loss"] for history in found.histories["adam"]], axis=0)
        np.testing.assert_array_equal(lines[0].get_ydata(), adam)
    if x == "seconds":
        ends = [np.sum(history["seconds"]) for history in found.histories["adam"]]
        assert lines[0].get_xdata()[-1] == pytest.approx(max(ends))


def test_plot_of_histories_that_exist(found, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    figure = matplotlib.figure.Figure()
    axis = figure.subplots()
    one = found.histories["adam"][0]
    assert fnn.plot_histories({"one": one, "dict": {"loss": [3.0, 2.0]}}, ax=axis, log=True) is axis
    assert axis.get_yscale() == "log"
    np.testing.assert_array_equal(axis.get_lines()[0].get_ydata(), one["loss"])
    with pytest.raises(ValueError, match="no history has a finished epoch with 'mse'"):
        fnn.plot_histories({"one": one}, ax=axis, metric="mse")
    with pytest.raises(ValueError, match="x must be one of"):
        fnn.plot_histories({"one": one}, ax=axis, x="time")


def test_functions_and_arguments_of_fit(iris):
    X, y = iris
    made = []

    def with_seed(seed):
        made.append(seed)
        return fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=seed)

    def without():
        return fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)

    result = fnn.compare(
        {"a": (with_seed, {"epochs": 3, "batch_size": 50, "l2": 1e-3}), "b": (without, {"optimizer": fnn.SGD(0.1)})},
        X,
        y,
        seeds=[4, 9],
        epochs=5,
        sample_weight=np.ones(150),
        validation_data=(X[:20], y[:20]),
    )
    assert made == [4, 9]
    assert [len(run.history) for run in result.runs] == [3, 5, 3, 5]
    assert "val_loss" in result.runs[0].history
    assert result.runs[1].seed == 4


def test_number_of_seeds_and_rows_of_arrow(iris):
    pa = pytest.importorskip("pyarrow")
    X, y = iris
    table = pa.table({f"x{i}": column for i, column in enumerate(X.T)})
    methods = {"a": (pattern(), fnn.Adam())}
    given, expected = (
        fnn.compare(methods, rows, y, validation_split=0.2, seeds=seeds, epochs=1)
        for rows, seeds in ((table, np.int64(2)), (X, 2))
    )
    assert [run.validation for run in given.runs] == [run.validation for run in expected.runs]


def test_time_limit(iris):
    net = pattern("float32")
    result = fnn.compare(
        {"sgd": (net, fnn.SGD(1e-4)), "gd": (net, fnn.GradientDescent(tol=0))}, *iris, seeds=1, time_limit=0.05
    )
    for run in result.runs:
        assert 1 <= len(run.history) < UNLIMITED
        assert sum(run.history["seconds"][:-1]) < 0.05
    assert result.runs[0].seconds >= 0.05


def test_a_run_that_diverges_is_listed(iris):
    X, _ = iris
    net = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", dtype="float64")
    methods = {"wild": (net, fnn.SGD(1e25)), "tame": (net, fnn.SGD(0.001))}
    result = fnn.compare(methods, X[:, :3], X[:, 3], seeds=2, epochs=3)
    assert [bool(run.error) for run in result.runs] == [True, False, True, False]
    columns = result.to_dict()
    assert columns["failed"] == [2, 0]
    assert np.isnan(columns["loss"][0])
    assert "wild, seed 0:" in repr(result)


def test_ctrl_c_keeps_what_has_run(iris):
    """The runs that have ended are those of a comparison without interruption, also in its table and its text."""
    left = 5

    def interrupt(result) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    def methods(*callbacks):
        both = {"a": fnn.Adam(), "b": fnn.SGD(0.1)}
        return {name: (pattern(), {"optimizer": rule, "callbacks": callbacks}) for name, rule in both.items()}

    part = fnn.compare(methods(interrupt), *iris, seeds=2, epochs=2)
    assert part.stopped == "interrupted"
    assert [(run.method, run.seed) for run in part.runs] == [("a", 0), ("b", 0)]
    assert repr(part).splitlines()[0] == "Comparison of 2 methods over 1 seed; interrupted"
    whole = fnn.compare(methods(), *iris, seeds=2, epochs=2)
    assert not whole.stopped
    for run, same in zip(part.runs, whole.runs, strict=False):
        np.testing.assert_array_equal(run.net.theta, same.net.theta)
        assert run.train == same.train


def test_ctrl_c_before_anything_has_run(iris):
    def interrupt(result) -> None:
        raise KeyboardInterrupt

    part = fnn.compare({"a": (pattern(), {"callbacks": [interrupt]})}, *iris, seeds=2, epochs=2)
    assert not part.runs
    assert part.to_dict() == {"method": [], "seeds": [], "failed": []}
    assert len(part.table) in (0, 3)  # a DataFrame, or the dict where pandas is missing
    assert repr(part).startswith("Comparison of 0 methods over 0 seeds; interrupted")


def test_lines_where_tqdm_is_missing(iris, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    fnn.compare({"a": (pattern(), fnn.Adam())}, *iris, seeds=2, epochs=1, verbose=1)
    assert [line.split(": loss")[0] for line in capsys.readouterr().err.splitlines()] == [
        "run 1/2  a, seed 0",
        "run 2/2  a, seed 1",
    ]


def test_progress(iris, capsys):
    fnn.compare({"a": (pattern(), fnn.Adam())}, *iris, seeds=2, epochs=1, verbose=1)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        ({}, {}, TypeError, "methods: expected a dict"),
        ([], {}, TypeError, "methods: expected a dict"),
        ({"a": 3}, {}, TypeError, r"methods\['a'\]: expected \(network, arguments of fit\), got int"),
        ({"a": (3, {})}, {}, TypeError, r"methods\['a'\]: expected a Sequential or a function, got int"),
        ({"a": (pattern(), 3)}, {}, TypeError, r"methods\['a'\]: expected a dict of arguments of fit"),
        ({"a": (pattern(), {"seed": 3})}, {}, ValueError, r"methods\['a'\]: seed is given to compare"),
        ({"a": (pattern(), {"epoch": 3})}, {}, TypeError, r"methods\['a'\]: .*'epoch'"),
        ({"a": (pattern(), {"batch_size": -3})}, {}, ValueError, r"methods\['a'\]: batch_size"),
        ({"a": (lambda: 3, {})}, {}, TypeError, r"methods\['a'\]: expected a function that makes a Sequential"),
        ({"a": (pattern(), {})}, {"seeds": 0}, ValueError, "seeds must be an integer >= 1"),
        ({"a": (pattern(), {})}, {"seeds": []}, ValueError, "seeds: expected at least one"),
        ({"a": (pattern(), {})}, {"seeds": [1.5]}, TypeError, "seeds must be an integer"),
        ({"a": (pattern(), {})}, {"verbose": -1}, ValueError, "verbose must be an integer >= 0"),
        ({"a": (pattern(), {})}, {"epochs": 0}, ValueError, "epochs must be an integer >= 1"),
        ({"a": (pattern(), {})}, {"time_limit": 0}, ValueError, "time_limit"),
        ({"a": (pattern(), {})}, {"validation_split": 1.0}, ValueError, "validation_split"),
        ({"a": (pattern(), {})}, {"validation_data": 3}, TypeError, "validation_data: expected a tuple"),
        ({"a": (pattern(), {})}, {"validation_data": (1, 2), "validation_split": 0.1}, ValueError, "got both"),
    ],
)
def test_bad_arguments(iris, methods, options, error, message):
    with pytest.raises(error, match=message):
        fnn.compare(methods, *iris, **{"seeds": 1, "epochs": 1, **options})
