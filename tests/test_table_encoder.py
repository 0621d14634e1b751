"""Tables of any columns become numbers: kinds, formulas, frames of other libraries, bad input, state."""

import datetime
import json
import math
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

pytest.importorskip("sklearn")

import fastnn as fnn
from fastnn.tables.encodings import quantiles


def objects(*columns):
    """An object array of columns."""
    X = np.empty((len(columns[0]), len(columns)), dtype=object)
    for i, column in enumerate(columns):
        X[:, i] = column
    return X


def encoded(X, **parameters):
    encoder = fnn.TableEncoder(dtype="float64", **parameters)
    result = encoder.fit_transform(X)
    return encoder, {name: result[:, i] for i, name in enumerate(encoder.get_feature_names_out())}


# ------------------------------------------------------------------ numbers


def test_numbers_are_scaled_by_quartiles_and_clipped_smoothly():
    rng = np.random.default_rng(0)
    x = rng.standard_cauchy(500)
    _, columns = encoded(x[:, None])
    m, q = np.median(x), np.subtract(*np.quantile(x, [0.75, 0.25]))
    z = (x - m) / q
    np.testing.assert_allclose(columns["x0"], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-13)
    assert np.abs(columns["x0"]).max() < 3


def test_half_the_range_where_the_quartiles_agree():
    x = np.array([0.0] * 8 + [4.0, -2.0])
    _, columns = encoded(x[:, None])
    z = x / 3.0
    np.testing.assert_allclose(columns["x0"], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-13)


@pytest.mark.parametrize("numeric", ["robust", "standard", "quantile", "none"])
def test_missing_numbers_give_zero_and_are_told(numeric):
    x = np.array([1.0, np.nan, 3.0, 5.0, np.nan])
    encoder, columns = encoded(x[:, None], numeric=numeric)
    np.testing.assert_array_equal(columns["x0_missing"], [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(columns["x0"][[1, 4]], [0, 0])
    assert encoder.transform([[2.0], [np.nan]]).shape == (2, 2)
    without = fnn.TableEncoder(numeric=numeric, missing_indicator=False).fit(x[:, None])
    assert list(without.get_feature_names_out()) == ["x0"]


def test_standard_scaling_and_as_they_are():
    x = np.random.default_rng(1).normal(50, 3, 100)
    np.testing.assert_allclose(encoded(x[:, None], numeric="standard")[1]["x0"], (x - x.mean()) / x.std(), rtol=1e-12)
    np.testing.assert_array_equal(encoded(x[:, None], numeric="none")[1]["x0"], x)
    nearly = np.full(50, 0.1) + np.resize([0.0, 1e-17], 50)
    nearly[0] = np.nextafter(0.1, 1)
    np.testing.assert_array_equal(encoded(nearly[:, None], numeric="standard")[1]["x0"], 0.0)


def test_quantiles_become_those_of_a_normal():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.exponential(size=400), np.full(100, 0.5)])
    _, columns = encoded(x[:, None], numeric="quantile")
    peer = preprocessing.QuantileTransformer(n_quantiles=500, output_distribution="normal", subsample=None)
    np.testing.assert_allclose(columns["x0"], peer.fit_transform(x[:, None])[:, 0], atol=2e-6)
    assert columns["x0"].max() <= norm.ppf(1 - 1e-7) + 1e-9


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 4)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_whole_weights_are_repetition(pairs):
    values, counts = (np.array(part, dtype=np.float64) for part in zip(*pairs, strict=True))
    if counts.sum() == 0:
        return
    p = np.linspace(0, 1, 9)
    expected = np.quantile(np.repeat(values, counts.astype(int)), p)
    np.testing.assert_allclose(quantiles(values, p, counts), expected, rtol=1e-9, atol=1e-6)


def test_rows_of_weight_zero_teach_nothing():
    X = objects([1.0, 2.0, 4.0, 900.0, None], ["a", "b", "a", "c", "b"])
    weight = [1, 1, 1, 0, 0]
    with_weights = fnn.TableEncoder().fit(X, sample_weight=weight)
    alone = fnn.TableEncoder().fit(X[:3])
    assert with_weights.to_dict() == alone.to_dict()
    twice = fnn.TableEncoder().fit(X[:3], sample_weight=[2, 1, 1])
    assert twice.to_dict() == fnn.TableEncoder().fit(X[[0, 0, 1, 2]]).to_dict()


# ------------------------------------------------------------------ categories


def test_categories_have_a_column_each_and_two_share_one():
    X = objects(
        ["red", "blue", "red", "green", None], ["yes", "no", "no", "yes", "yes"], [True, False, True, None, True]
    )
    encoder, columns = encoded(X)
    assert list(columns) == ["x0_blue", "x0_green", "x0_red", "x0_missing", "x1_yes", "x2_True", "x2_missing"]
    np.testing.assert_array_equal(columns["x0_red"], [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(columns["x1_yes"], [1, -1, -1, 1, 1])
    np.testing.assert_array_equal(columns["x2_True"], [1, -1, 1, 0, 1])
    other = objects(["pink", None], ["perhaps", "no"], [None, False])
    np.testing.assert_array_equal(encoder.transform(other), [[0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, -1, -1, 0]])
    assert encoder.unseen(other) == {"x0": 1, "x1": 1}


def test_many_categories_become_codes():
    values = [f"v{i % 12:02d}" for i in range(40)]
    encoder, columns = encoded(objects(values, np.arange(40.0) % 7), embed_above=9)
    np.testing.assert_array_equal(columns["x0"], [i % 12 + 1 for i in range(40)])
    assert encoder.cardinalities_ == {0: 13}
    np.testing.assert_array_equal(encoder.transform(objects(["new", None], [1.0, 2.0]))[:, 0], [0, 0])


def test_one_value_in_several_types_is_one_category():
    X = objects(["3", 3, 3.0, " 3 ", "x", np.float32(3), "x"])
    encoder, columns = encoded(X)
    assert list(columns) == ["x0_x"]
    encoder = fnn.TableEncoder(integer_categories=5).fit(np.array([[1], [2], [7], [1]]))
    expected = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    for values in ([2, 7], [2.0, 7.0], ["2", "7"]):
        np.testing.assert_array_equal(encoder.transform(objects(values)), expected)


# ------------------------------------------------------------------ dates


def test_dates_by_their_cycles():
    start = np.datetime64("2023-11-30T06:00:00", "us")
    moments = start + np.arange(90) * np.timedelta64(31, "h")
    encoder, columns = encoded(moments[:, None])
    names = ["elapsed", *(f"{c}_{f}" for c in ("month", "day_of_week", "day_of_year", "hour") for f in ("sin", "cos"))]
    assert list(columns) == [f"x0_{name}" for name in names]
    for i, moment in enumerate(moments.tolist()):
        year_day = moment.timetuple().tm_yday - 1
        length = 366 if moment.year % 4 == 0 else 365
        phases = {
            "month": (moment.month - 1) / 12,
            "day_of_week": moment.weekday() / 7,
            "day_of_year": year_day / length,
            "hour": moment.hour / 24,
        }
        for cycle, phase in phases.items():
            assert columns[f"x0_{cycle}_sin"][i] == pytest.approx(math.sin(2 * math.pi * phase), abs=1e-12)
            assert columns[f"x0_{cycle}_cos"][i] == pytest.approx(math.cos(2 * math.pi * phase), abs=1e-12)
    assert (np.diff(columns["x0_elapsed"]) > 0).all()
    assert encoder.transform(np.array([["NaT"]], dtype="datetime64[us]"))[0].tolist() == [0.0] * 9


def test_dates_without_a_time_have_no_hour_and_texts_are_dates():
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=11 * i) for i in range(30)]
    _, columns = encoded(objects(days))
    assert not any("hour" in name for name in columns)
    encoder, texts = encoded(objects([day.isoformat() for day in days]))
    for name, values in columns.items():
        np.testing.assert_array_equal(texts[name], values)
    with pytest.raises(ValueError, match=r"column 'x0' has 'soon' in row 1, expected dates"):
        encoder.transform(objects(["2024-02-29", "soon"]))


# ------------------------------------------------------------------ kinds


def test_constants_and_ids_are_left_out_and_named():
    n = 30
    rng = np.random.default_rng(0)
    X = objects(
        [f"name {i}" for i in range(n)], rng.permutation(n) + 5, ["same"] * n, [2.5] * n, [None] * n, rng.normal(size=n)
    )
    encoder, columns = encoded(X)
    assert list(columns) == ["x5"]
    assert encoder.notes_ == [
        "column 'x0' has another text in every row: it is left out",
        "column 'x1' numbers the rows: it is left out",
        "column 'x2' is same in all rows: it is left out",
        "column 'x3' is 2.5 in all rows: it is left out",
        "column 'x4' has no value: it is left out",
    ]
    kept, columns = encoded(X, kinds={1: "numeric", "x0": "categorical", 5: "drop"})
    assert "x1" in columns
    assert "x0_name 3" in columns
    assert "x5" not in columns
    assert "column 'x5' is dropped: it is left out" in kept.notes_


def test_texts_that_are_numbers_are_numbers():
    encoder, columns = encoded(objects(["1.5", "2", "10", None, "-3e2"]), numeric="none")
    np.testing.assert_array_equal(columns["x0"], [1.5, 2, 10, 0, -300])
    with pytest.raises(ValueError, match=r"column 'x0' has 'many' in row 1, expected numbers"):
        encoder.transform(objects(["7", "many"]))
    _, columns = encoded(objects(["1_000", "2", "3"]))
    assert set(columns) == {"x0_1_000", "x0_2", "x0_3"}


# ------------------------------------------------------------------ frames


def rows():
    n = 40
    rng = np.random.default_rng(3)
    return {
        "age": [None if i % 9 == 0 else float(i % 17) for i in range(n)],
        "count": [int(i) for i in rng.integers(0, 6, n)],
        "color": [None if i % 11 == 0 else ["red", "green", "blue"][i % 3] for i in range(n)],
        "flag": [bool(i % 3) for i in range(n)],
        "when": [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=35 * i) for i in range(n)],
    }


def frames():
    data = rows()
    yield "objects", None
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data)
    yield "pandas", frame
    nullable = frame.convert_dtypes()
    nullable["color"] = frame["color"].astype("category")
    yield "pandas nullable", nullable
    yield "pandas zones", frame.assign(when=frame["when"].dt.tz_localize("Europe/Paris"))
    try:
        import pyarrow as pa
    except ImportError:
        pass
    else:
        table = pa.table(data)
        yield "pyarrow", table
        color = table["color"].dictionary_encode()
        yield "pyarrow dictionary", table.set_column(table.column_names.index("color"), "color", color)
        yield (
            "pandas arrow",
            pd.DataFrame({k: pd.array(v, dtype=pd.ArrowDtype(table[k].type)) for k, v in data.items()}),
        )
    try:
        import polars as pl
    except ImportError:
        return
    yield "polars", pl.DataFrame(data)
    yield "polars categorical", pl.DataFrame(data).with_columns(pl.col("color").cast(pl.Categorical))


def test_every_kind_of_frame_gives_the_same():
    data = rows()
    plain = objects(*data.values())
    expected = fnn.TableEncoder().fit_transform(plain)
    seen = set()
    for name, frame in frames():
        if frame is None:
            continue
        seen.add(name.split()[0])
        encoder = fnn.TableEncoder()
        np.testing.assert_array_equal(encoder.fit_transform(frame), expected, err_msg=name)
        assert list(encoder.feature_names_in_) == list(data)
        state = json.dumps(encoder.to_dict())
        again = fnn.TableEncoder.from_dict(json.loads(state))
        np.testing.assert_array_equal(again.transform(frame), expected, err_msg=name)
    assert "pandas" in seen


def test_columns_are_found_by_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows())
    encoder = fnn.TableEncoder().fit(frame)
    expected = encoder.transform(frame)
    other = frame[frame.columns[::-1]].assign(more="text")
    np.testing.assert_array_equal(encoder.transform(other), expected)
    with pytest.raises(ValueError, match=r"X: 2 missing column\(s\): age, when"):
        encoder.transform(frame.drop(columns=["age", "when"]))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(encoder.transform(frame.to_numpy(dtype=object)), expected)
    with pytest.raises(ValueError, match="X has 4 features, but TableEncoder is expecting 5"):
        encoder.transform(frame.to_numpy(dtype=object)[:, :4])
    unnamed = fnn.TableEncoder().fit(frame.to_numpy(dtype=object))
    with pytest.warns(UserWarning, match="fitted without feature names"):
        np.testing.assert_array_equal(unnamed.transform(frame), expected)
    with pytest.raises(ValueError, match="column 'a' appears more than once"):
        encoder.fit(pd.DataFrame(np.ones((3, 2)), columns=["a", "a"]))


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_frame_out_and_a_network_behind():
    pd = pytest.importorskip("pandas")
    pipeline = pytest.importorskip("sklearn.pipeline")
    frame = pd.DataFrame(rows())
    out = fnn.TableEncoder().set_output(transform="pandas").fit_transform(frame)
    assert list(out.columns[:3]) == ["age", "age_missing", "count"]
    model = pipeline.make_pipeline(fnn.TableEncoder(), fnn.MLPClassifier(max_iter=200, random_state=0))
    y = frame["flag"].to_numpy()
    assert model.fit(frame, y).score(frame, y) == 1.0


# ------------------------------------------------------------------ bad input and state


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"numeric": "log"}, "numeric: expected one of robust, standard, quantile, none, got 'log'"),
        ({"embed_above": -1}, "embed_above must be an integer >= 0"),
        ({"integer_categories": 1.5}, "integer_categories must be an integer"),
        ({"missing_indicator": "yes"}, "missing_indicator must be True or False"),
        ({"dtype": "float16"}, "dtype"),
        ({"kinds": {"y": "numeric"}}, "kinds: no column 'y'; the columns are x0, x1"),
        ({"kinds": {0: "text"}}, "kinds: expected one of numeric, categorical, date, drop for column 0, got 'text'"),
        ({"kinds": ["numeric"]}, "kinds: expected a dict"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message.replace("(", r"\(")):
        fnn.TableEncoder(**parameters).fit(np.random.default_rng(0).normal(size=(5, 2)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 2)), "0 sample"),
        (np.zeros((3, 0)), "0 feature"),
        (np.zeros(3), "Reshape your data"),
        (np.ones((3, 2)), "no column is left"),
        (np.array([[1.0], [np.inf], [2.0]]), "infinity"),
        (np.array([[1 + 2j], [2.0]]), "Complex data not supported"),
        (objects([b"x", b"y"]), "a value of type bytes"),
        (objects([[1], [2]]), "a value of type list"),
        (objects([10**400, 1]), "numbers that float64 cannot hold"),
        (np.array([[1], [2]], dtype="m8[s]"), "dtype timedelta64"),
    ],
)
def test_bad_tables(X, message):
    encoder = fnn.TableEncoder()
    with pytest.raises((ValueError, TypeError), match=message):
        encoder.fit_transform(X)


def test_a_refused_fit_leaves_what_was_learnt():
    encoder = fnn.TableEncoder().fit([[1.0], [2.0]])
    state = encoder.to_dict()
    with pytest.raises(ValueError, match="no column is left"):
        encoder.fit([[1.0], [1.0]])
    assert encoder.to_dict() == state


def test_numbers_beyond_float32_are_told():
    encoder = fnn.TableEncoder(numeric="none").fit([[1.0], [2.0]])
    with pytest.raises(ValueError, match=r"row 1 is beyond float32 in 'x0'"):
        encoder.transform([[1.0], [1e300]])
    robust = fnn.TableEncoder().fit([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(robust.transform([[1e308], [-1e308]])[:, 0], [3, -3], rtol=1e-6)


def mutations(state):
    """States that differ from a good one in one entry."""
    bad = [None, True, -1, "x", [], {}, [None], 1e400, math.nan, [["x"]], {"x": 1}]

    def walk(value):
        yield from bad
        if isinstance(value, dict):
            for key in value:
                yield {k: v for k, v in value.items() if k != key}
                for other in walk(value[key]):
                    yield {**value, key: other}
        elif isinstance(value, list) and value:
            for other in walk(value[0]):
                yield [other, *value[1:]]
            yield value * 2

    yield from walk(state)


def test_damaged_states_are_refused():
    X = objects(*rows().values())
    encoder = fnn.TableEncoder(embed_above=2, numeric="quantile", kinds={0: "numeric"}).fit(X)
    state = json.loads(json.dumps(encoder.to_dict()))
    refused = 0
    for other in mutations(state):
        try:
            read = fnn.TableEncoder.from_dict(other)
        except (ValueError, TypeError):
            refused += 1
            continue
        assert len(read.get_feature_names_out()) >= 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert np.isfinite(read.transform(X)).all()
            except ValueError:
                continue
    assert refused > 200


def test_copies_and_pickles():
    X = objects(*rows().values())
    encoder = fnn.TableEncoder().fit(X)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(X), encoder.transform(X))


def test_scikit_learn_checks():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    for result in checks.check_estimator(fnn.TableEncoder(), on_skip=None, on_fail=None):
        assert result["status"] in ("passed", "skipped"), (result["check_name"], result["exception"])


@pytest.mark.parametrize("name", ["titanic", "ames_housing", "adult", "bank_marketing", "soybean", "anneal"])
def test_real_tables(name):
    pd = pytest.importorskip("pandas")
    path = Path(os.environ.get("FASTNN_DATA", "absent")) / "tabular" / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip("FASTNN_DATA has no tables")
    frame = pd.read_csv(path).drop(columns="target")
    train, test = frame.iloc[::2], frame.iloc[1::2]
    encoder = fnn.TableEncoder(embed_above=9).fit(train)
    out = encoder.transform(test)
    assert out.shape[0] == len(test)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[:50], encoder.transform(test.iloc[:50]))
