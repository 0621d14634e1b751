"""DataFrames: names of columns are kept and checked, nullable and arrow numbers are taken."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastnn as fnn

pd = pytest.importorskip("pandas")


@pytest.fixture
def frame():
    return pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])


def network() -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(2)], input_size=2, loss="cross_entropy", seed=0)


Y = np.arange(40) % 2
TRAININGS = {
    "fit": lambda net, X: net.fit(X, Y, epochs=1),
    "partial_fit": lambda net, X: net.partial_fit(X, Y),
    "solver": lambda net, X: net.fit(X, Y, optimizer=fnn.LBFGS(max_iter=2)),
    "batches": lambda net, X: net.fit([(X, Y)], epochs=1),
}


@pytest.mark.parametrize("way", TRAININGS)
def test_names_are_kept_and_checked(way, frame, tmp_path) -> None:
    net = network()
    TRAININGS[way](net, frame)
    assert net.feature_names == ("a", "b")
    net.save(tmp_path / "m")
    swapped, renamed = frame[["b", "a"]], frame.rename(columns={"a": "c"})
    for other in (net, net.copy(), pickle.loads(pickle.dumps(net)), net.astype("float64"), fnn.load(tmp_path / "m")):
        assert other.feature_names == ("a", "b")
        for call in (
            other.predict,
            lambda X, n=other: n.evaluate(X, Y),
            lambda X, n=other: n.gradient(X, Y),
            lambda X, n=other: fnn.curvature.hessian(n, X, Y),
            lambda X, n=other: fnn.curvature.output_jacobian(n, X),
            *(lambda X, n=other, again=again: again(n, X) for again in TRAININGS.values()),
        ):
            with pytest.raises(ValueError, match="in another order: b, a"):
                call(swapped)
            with pytest.raises(ValueError, match="with other names: c, b"):
                call(renamed)
        other.predict(swapped.to_numpy())  # arrays are free
        other.predict(frame)
    net.feature_names = None
    net.fit(swapped, Y, epochs=1)
    assert net.feature_names == ("b", "a")


def test_a_refused_call_keeps_no_names(frame) -> None:
    net = network()
    with pytest.raises(ValueError, match="validation_data: expected the columns of X, a, b, got b, a"):
        net.fit(frame, Y, validation_data=(frame[["b", "a"]], Y))
    with pytest.raises(ValueError, match="y: "):
        net.fit(frame, Y[:5])
    assert net.feature_names is None
    net.fit(frame.set_axis([0, 1], axis=1), Y, epochs=1)  # numbers are no names
    assert net.feature_names is None


@pytest.mark.parametrize(
    "dtypes", [("Float64", "Int64"), ("Float32", "float64"), ("int8", "float32"), ("boolean", "f4")]
)
def test_columns_of_any_numbers(dtypes) -> None:
    values = np.random.default_rng(1).integers(0, 2, (40, 2))
    frame = pd.DataFrame({"a": pd.array(values[:, 0], dtype=dtypes[0]), "b": pd.array(values[:, 1], dtype=dtypes[1])})
    net = network()
    np.testing.assert_array_equal(net.decision_function(frame), net.decision_function(values))
    if dtypes[0][0].isupper():
        frame.loc[3, "a"] = pd.NA
        with pytest.raises(ValueError, match=r"got nan in row 3, column 0 \('a'\)"):
            net.predict(frame)


def test_arrow_columns(frame) -> None:
    pytest.importorskip("pyarrow")
    arrow = frame.convert_dtypes(dtype_backend="pyarrow")
    np.testing.assert_array_equal(network().decision_function(arrow), network().decision_function(frame))


TABLES = {
    "arrow table": lambda columns: pytest.importorskip("pyarrow").table(columns),
    "arrow batch": lambda columns: pytest.importorskip("pyarrow").RecordBatch.from_pydict(columns),
    "polars": lambda columns: pytest.importorskip("polars").DataFrame(columns),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_other_libraries(kind) -> None:
    make, rng = TABLES[kind], np.random.default_rng(0)
    columns = {"a": rng.integers(0, 5, 40).tolist(), "b": (rng.random(40) > 0.5).tolist()}
    values = np.stack([np.asarray(column, dtype=float) for column in columns.values()], axis=1)
    net, plain = network(), network()
    net.fit(make(columns), Y, epochs=2, threads=1)
    plain.fit(values, Y, epochs=2, threads=1)
    np.testing.assert_array_equal(net.theta, plain.theta)
    assert net.feature_names == ("a", "b")
    with pytest.raises(ValueError, match="in another order: b, a"):
        net.predict(make({"b": columns["b"], "a": columns["a"]}))
    with pytest.raises(ValueError, match=r"got nan in row 0, column 0 \('a'\)"):
        net.predict(make({"a": [None, *columns["a"][1:]], "b": columns["b"]}))
    with pytest.raises(TypeError, match="in column 'b'"):
        net.predict(make({"a": columns["a"], "b": ["x"] * 40}))


def test_other_columns_are_named(frame) -> None:
    for values in (pd.array(["x"] * 40, dtype="string"), pd.Categorical(["x"] * 40), ["x"] * 40, [None] * 40):
        with pytest.raises(TypeError, match="in column 'b'"):
            network().predict(frame.assign(b=values))


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (("a",), ValueError, "feature_names: expected 2 names, one for each feature, got 1"),
        ((), ValueError, "got 0"),
        (("a", 2), TypeError, r"feature_names\[1\]: expected a str, got 2"),
        (["a", None], TypeError, r"feature_names\[1\]: expected a str, got None"),
        (np.array([1.0, 2.0]), TypeError, r"feature_names\[0\]: expected a str"),
        ("ab", TypeError, "feature_names: expected None or 2 names of features, got 'ab'"),
        (b"ab", TypeError, "expected None or 2 names"),
        (7, TypeError, "feature_names: expected None or 2 names of features, got 7"),
        ({"a": 1, "b": 2}, TypeError, "expected None or 2 names"),
    ],
)
def test_names_that_do_not_fit_are_refused_when_they_are_assigned(names, error, message) -> None:
    net = network()
    net.feature_names = ("x", "y")
    with pytest.raises(error, match=message):
        net.feature_names = names
    assert net.feature_names == ("x", "y")


def test_names_that_do_not_fit_are_not_saved(tmp_path) -> None:
    net = network()
    refused = {
        ("a",): "feature_names cannot be 1 names of 2 features",
        ("a", 2): r"feature_names\[1\] cannot be 2: expected text",
    }
    for names, message in refused.items():
        net.__dict__["feature_names"] = names  # past the check, as a pickle may have them
        with pytest.raises(ValueError, match=message):
            net.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_names_of_any_sequence_become_a_tuple_of_str(tmp_path, frame) -> None:
    for names in (["a", "b"], np.array(["a", "b"]), frame.columns, iter("ab"), pd.Series(["a", "b"])):
        net = network()
        net.feature_names = names
        assert net.feature_names == ("a", "b")
        assert [type(name) for name in net.feature_names] == [str, str]
        net.save(tmp_path / "m")
        assert fnn.load(tmp_path / "m").feature_names == ("a", "b")
        with pytest.raises(ValueError, match="in another order: b, a"):
            net.predict(frame[["b", "a"]])
