"""What `fastnn train` reports beside the network's own scores."""

import numpy as np
import pytest
from cli_cases import flowers, line_data, write_csv

from fastnn import linear
from fastnn.cli.encoding import prepare
from fastnn.cli.tables import read
from fastnn.metrics import area_under_roc, balanced_accuracy


def lines(out):
    """The result table: cells by the name of the row."""
    rows = out.split("\n\n")[1].splitlines()
    return {row[:16].strip(): row[16:].replace(" %", "").split() for row in rows}


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_those_of_scikit_learn(k, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(k)
    y = np.concatenate([np.arange(k), rng.choice(k, size=200, p=np.arange(1, k + 1) / (k * (k + 1) / 2))])
    P = rng.dirichlet(np.ones(k), size=len(y))
    if ties:
        P = np.round(3 * P) + 0.01
        P /= P.sum(axis=1, keepdims=True)
    expected = metrics.roc_auc_score(y, P[:, 1] if k == 2 else P, multi_class="ovr")
    assert area_under_roc(y, P) == pytest.approx(expected, abs=1e-12)
    predicted = P.argmax(axis=1)
    assert balanced_accuracy(y, predicted) == pytest.approx(metrics.balanced_accuracy_score(y, predicted), abs=1e-12)
    assert np.isnan(area_under_roc(np.zeros(4, dtype=int), P[:4, :2]))


def test_uneven_classes_get_scores_that_see_the_rare_one(run):
    rng = np.random.default_rng(0)
    rows = [[f"{x:.4f}", "rare" if i % 10 == 0 else "common"] for i, x in enumerate(rng.normal(size=300))]
    write_csv("t.csv", ["x", "y"], rows)
    code, out, _ = run("train", "t.csv", "--epochs", 20)
    assert code == 0
    found = lines(out)
    assert found[""] == ["loss", "accuracy", "balanced", "AUC"]
    loss, accuracy, balanced, area = map(float, found["- majority"])
    assert (accuracy, balanced, area) == (90.0, 50.0, 0.5)
    assert loss == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=1e-4)
    write_csv("t.csv", *flowers())
    assert lines(run("train", "t.csv", "--epochs", 1)[1])[""] == ["loss", "accuracy"]


def test_the_linear_model_of_a_regression_is_least_squares(run):
    header, rows = line_data()
    rows = [[a, b, f"{float(y) + 300 * (i % 3):.4f}"] for i, (a, b, y) in enumerate(rows)]
    write_csv("t.csv", header, rows)
    code, out, _ = run("train", "t.csv", "--epochs", 5, "--l2", 0, "--dtype", "float64")
    assert code == 0
    _, split, _ = prepare(read("t.csv"))
    fit = linear.least_squares(split.X, split.y)
    error = split.y_test - (split.X_test @ fit.weight + fit.bias)[:, 0]
    assert float(lines(out)["- linear model"][2]) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)
    spread = np.sqrt(np.mean((split.y_test - split.y.mean()) ** 2))
    assert float(lines(out)["- mean"][2]) == pytest.approx(spread, rel=1e-3)


def test_a_linear_network_has_no_linear_model_beside_it(run):
    found = lines(run("train", "iris", "--hidden", "none", "--epochs", 5)[1])
    assert set(found) == {"", "train", "test", "- majority"}


def test_images_have_the_same_baselines(run, mnist_dir):
    found = lines(run("train", "mnist", "--epochs", 1)[1])
    assert {"- linear model", "- majority"} <= set(found)
