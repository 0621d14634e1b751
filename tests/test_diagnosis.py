"""fnn.diagnose: errors as by hand, the four verdicts, standard errors, remarks, figures, bad input."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.diagnosis import Diagnosis

FOUR = {
    "low bias, low variance": (0.005, 0.01),
    "high variance": (0.01, 0.11),
    "high bias": (0.15, 0.16),
    "high bias and high variance": (0.15, 0.30),
}


def identity(classes=2):
    """A classifier that predicts the place of the largest feature."""
    net = fnn.Sequential([fnn.Dense(classes)], input_size=classes, loss="cross_entropy", dtype="float64", seed=0)
    net.parameters["0.weight"][...] = np.eye(classes)
    net.parameters["0.bias"][...] = 0.0
    return net


def part(error, rows=10_000):
    """Rows of which `identity` gets this share wrong."""
    labels = np.arange(rows) % 2
    shown = labels.copy()
    shown[: round(error * rows)] ^= 1
    return np.eye(2)[shown], labels


@pytest.mark.parametrize("verdict", FOUR)
def test_the_four_verdicts(verdict):
    train, dev = FOUR[verdict]
    found = fnn.diagnose(identity(), part(train), part(dev), part(dev))
    assert found.errors == pytest.approx({"train": train, "dev": dev, "test": dev})
    assert (found.bias, found.variance) == pytest.approx((train, dev - train))
    assert found.verdict == verdict
    assert (found.high_bias, found.high_variance) == ("bias" in verdict[:10] and train > 0.1, dev - train > 0.05)
    assert found.standard_errors["dev"] == pytest.approx(np.sqrt(dev * (1 - dev) / 10_000))
    assert found.remarks == ()
    text = repr(found)
    for word in (f"Diagnosis: {verdict}", "error rate", f"{dev:.4f}", "10,000", found.advice[0]):
        assert word in text
    html = found._repr_html_()
    assert verdict in html
    assert html.count("<li>") == len(found.advice)


def test_target_and_thresholds_move_the_verdict():
    net, train, dev = identity(), part(0.15), part(0.18)
    assert fnn.diagnose(net, train, dev).verdict == "high bias"
    assert fnn.diagnose(net, train, dev, target_error=0.12).verdict == "low bias, low variance"
    assert fnn.diagnose(net, train, dev, target_error=0.12, max_variance=0.02).verdict == "high variance"
    assert fnn.diagnose(net, train, dev, max_bias=0.2, max_variance=0.02).verdict == "high variance"


def test_bias_is_cured_first():
    advice = fnn.diagnose(identity(), part(0.15), part(0.3)).advice
    first = min(k for k, text in enumerate(advice) if "more rows" in text)
    assert "a bigger network: more units, more layers (it has no hidden one)" in advice[:first]
    assert advice[first].startswith("then, with the bias low")
    done = fnn.diagnose(identity(), part(0.0), part(0.0)).advice
    assert done == ("nothing: measure the error on test rows, by which nothing was chosen",)


def test_a_training_that_had_not_arrived_is_told():
    X, y = fnn.datasets.load_iris()
    net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    net.fit(X, y, epochs=2)
    report = fnn.diagnose(net, (X, y), (X, y), max_bias=0.0)
    assert report.advice[0] == "train longer: the training loss was still falling"
    net.fit(X, y, optimizer=fnn.LBFGS())
    report = fnn.diagnose(net, (X, y), (X, y[::-1]))
    assert report.verdict == "high variance"


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_regressions(loss, outputs, weighted):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = rng.poisson(3.0, size=(300, outputs)).astype(float)
    net = fnn.Sequential([fnn.Dense(outputs)], input_size=3, loss=loss, dtype="float64", seed=0)
    net.fit(X[:200], y[:200], epochs=3)
    w = rng.uniform(0.5, 2.0, 300)
    parts = [(X[rows], y[rows], w[rows]) if weighted else (X[rows], y[rows]) for rows in (slice(200), slice(200, 300))]
    found = fnn.diagnose(net, *parts)
    assert found.measure == "1 - R²"
    assert found.errors["train"] == pytest.approx(1.0 - net.evaluate(*parts[0])["r2"], rel=1e-9)
    weight = np.where(weighted, w, 1.0)
    mean = np.average(y[:200], axis=0, weights=weight[:200])
    variance = np.average((y[:200] - mean) ** 2, axis=0, weights=weight[:200])
    squares = ((net.predict(X[200:]).reshape(100, outputs) - y[200:]) ** 2 / variance).mean(axis=1)
    assert found.errors["dev"] == pytest.approx(np.average(squares, weights=weight[200:]), rel=1e-9)


def test_standard_error_is_the_deviation_over_samples():
    rng = np.random.default_rng(1)
    net = identity()
    X, y = part(0.2, 400)
    w = rng.uniform(0.0, 3.0, 400)
    told = fnn.diagnose(net, (X, y, w), (X, y)).standard_errors
    means = {"train": [], "dev": []}
    for _ in range(2000):
        rows = rng.integers(0, 400, 400)
        wrong = X[rows].argmax(axis=1) != y[rows]
        means["train"].append(np.average(wrong, weights=w[rows]))
        means["dev"].append(wrong.mean())
    for name, values in means.items():
        assert told[name] == pytest.approx(np.std(values), rel=0.08)


def test_a_constant_target_counts_as_r2_does():
    net = fnn.Sequential([fnn.Dense(1, init="zeros")], input_size=1, loss="squared_error", dtype="float64", seed=0)
    X = np.ones((4, 1))
    found = fnn.diagnose(net, (X, np.zeros(4)), (X, np.ones(4)))
    assert found.errors == {"train": 0.0, "dev": 1.0}


def test_several_yes_or_no_outputs_are_right_together():
    net = fnn.Sequential([fnn.Dense(2)], input_size=2, loss="binary_cross_entropy", dtype="float64", seed=0)
    X, y = np.random.default_rng(0).normal(size=(50, 2)), np.random.default_rng(1).integers(0, 2, (50, 2))
    found = fnn.diagnose(net, (X, y), (X, y))
    assert found.errors["train"] == pytest.approx(1.0 - net.evaluate(X, y)["accuracy"])


@pytest.mark.parametrize(
    ("train", "dev", "test", "target", "text"),
    [
        (0.0, 0.08, None, 0.0, "with these rows the gap is uncertain by"),
        (0.4, 0.1, None, 0.0, "the dev rows are easier"),
        (0.02, 0.02, None, 0.1, "the training error is below the target error"),
        (0.0, 0.0, 0.3, 0.0, "the test error is above the dev error by more than chance"),
    ],
)
def test_remarks(train, dev, test, target, text):
    rows = 100
    parts = [None if error is None else part(error, rows) for error in (train, dev, test)]
    report = fnn.diagnose(identity(), *parts, target)
    assert any(remark.startswith(text) for remark in report.remarks)
    assert f"Note: {text}" in repr(report)
    assert text in report._repr_html_()


def test_differences_are_said_to_be_high_or_low():
    text = repr(fnn.diagnose(identity(), part(0.2), part(0.22)))
    assert "(high, above 0.05); variance (dev - train)" in text
    assert text.count("(low, at most 0.05)") == 1


def test_plot(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    report = fnn.diagnose(identity(), part(0.1), part(0.3), part(0.3))
    axis = figure.subplots()
    assert report.plot(tmp_path / "x.png", ax=axis) is axis
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose([bar.get_height() for bar in axis.patches], [0.1, 0.3, 0.3])
    assert axis.get_title() == "high bias and high variance"
    assert report.plot(ax=figure.subplots(), title="mine").get_title() == "mine"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3, part(0), part(0)), TypeError, "net: expected a Sequential, got int"),
        ((identity(), part(0)[0], part(0)), TypeError, r"train: expected a tuple \(X, y\)"),
        ((identity(), part(0), (np.ones((2, 3)), [0, 1])), ValueError, "dev: X: expected 2 features"),
        ((identity(), part(0), part(0), (np.ones((1, 2)), [7])), ValueError, "test: y: "),
        ((identity(), part(0), part(0), None, -1.0), ValueError, "target_error"),
    ],
)
def test_bad_input(arguments, error, text):
    with pytest.raises(error, match=text):
        fnn.diagnose(*arguments)


@pytest.mark.parametrize("name", ["max_bias", "max_variance"])
def test_bad_thresholds(name):
    with pytest.raises(ValueError, match=name):
        fnn.diagnose(identity(), part(0), part(0), **{name: -0.1})


def test_the_report_is_immutable():
    report = fnn.diagnose(identity(), part(0.1), part(0.3))
    assert isinstance(report, Diagnosis)
    with pytest.raises(AttributeError):
        report.max_bias = 1.0
