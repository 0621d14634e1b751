"""The command line, driven in process; every complaint is one line on stderr and exit code 2."""

import gzip
import os
import re

import numpy as np
import pytest
from cli_cases import flowers, line_data, table, write_csv

import fastnn as fnn
from fastnn import datasets
from fastnn.cli import arguments, tables
from fastnn.cli.encoding import prepare
from fastnn.sequential import load

# ------------------------------------------------------------------ train


def test_digits_is_the_default(run):
    code, out, _ = run("train")
    assert code == 0
    assert "digits: 1,437 rows to train, 360 to test, 64 features" in out
    seeds = [run("train", "--seed", seed)[1] for seed in (1, 2)]
    assert np.mean([table(text)["test"][-1] for text in (out, *seeds)]) >= 98.0
    assert "parameters      8,970" in out
    assert re.search(r"time per epoch +\d", out)


def test_iris_saves_plots_and_predicts(run, tmp_path):
    code, out, err = run("train", "iris", "--save", "iris.st", "--plot", "iris.png", "--epochs", 100)
    assert code == 0
    assert "classification, 3 classes (setosa, versicolor, virginica)" in out
    assert "epoch 100/100" in err
    assert "saved to        iris.st" in out
    assert (tmp_path / "iris.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir()) == ["iris.png", "iris.st"]

    code, out, err = run("predict", "iris.st", "iris")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "prediction"
    assert len(lines) == 151
    assert set(lines[1:]) == {"setosa", "versicolor", "virginica"}
    right = float(re.search(r"species: accuracy (\d+\.\d+) % \(\d+ of 150\)", err)[1])
    names = np.array(["setosa", "versicolor", "virginica"])[datasets.load_iris()[1]]
    assert right == pytest.approx(100 * np.mean(names == np.array(lines[1:])), abs=0.005)
    assert right > 93


def test_a_csv_with_text_target(run):
    write_csv("t.csv", *flowers())
    code, out, _ = run("train", "t.csv", "--epochs", 60, "--save", "m")
    assert code == 0
    assert "target: blooms (the last column; --target names another)" in out
    assert "2 classes (no, yes); the target is text" in out
    assert table(out)["train"][-1] > 85
    net, metadata = load("m", return_metadata=True)
    assert metadata["features"] == ["length", "width", "constant"]
    assert standardisation(net)[0][2] == 7.0


def standardisation(net):
    """Mean and scale of the first layer."""
    n = net.input_size
    assert isinstance(net.layers[0], fnn.Standardize)
    return net.state[:n], 1 / net.state[n : 2 * n]


def test_standardisation_comes_from_training_rows_alone(run):
    header, rows = flowers(50)
    write_csv("t.csv", header, rows)
    assert run("train", "t.csv", "--epochs", 1, "--save", "m", "--seed", 5, "--dtype", "float64")[0] == 0
    _, split, _ = prepare(tables.read("t.csv"), seed=5)
    assert len(split.X) == 40
    mean, scale = standardisation(load("m"))
    np.testing.assert_allclose(mean, split.X.mean(axis=0))
    np.testing.assert_allclose(scale[:2], split.X.std(axis=0)[:2])
    assert scale[2] == 1.0  # constant: no division by zero


def test_a_constant_column_that_is_no_float_is_not_scaled(run):
    header, rows = flowers(50)
    write_csv("t.csv", header, [[*row[:2], 0.1, row[3]] for row in rows])
    assert run("train", "t.csv", "--epochs", 1, "--save", "m", "--dtype", "float64")[0] == 0
    assert standardisation(load("m"))[1][2] == 1.0


def test_digits_that_float32_loses_are_told(run):
    header, rows = flowers(50)
    write_csv("t.csv", header, [[float(row[0]) + 1e6, *row[1:]] for row in rows])
    told = "fastnn: column 'length' varies by 2 around 1e+06: float32 keeps few of its digits"
    assert told in run("train", "t.csv", "--epochs", 1)[2]
    for options in (["--dtype", "float64"], ["--quiet"]):
        assert "digits" not in run("train", "t.csv", "--epochs", 1, *options)[2]
    write_csv("t.csv", header, rows)
    assert "digits" not in run("train", "t.csv", "--epochs", 1)[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("data", [flowers, line_data], ids=["classes", "quantity"])
def test_python_predicts_what_the_command_line_does(run, data, dtype):
    header, rows = data()
    write_csv("t.csv", header, rows)
    assert run("train", "t.csv", "--save", "m", "--epochs", 60, "--dtype", dtype)[0] == 0
    _, out, err = run("predict", "m", "t.csv")
    net = load("m")
    predicted = net.predict(np.array([row[:-1] for row in rows], dtype=float))
    if data is flowers:
        assert [["no", "yes"][k] for k in predicted] == out.splitlines()[1:]
        assert float(re.search(r"accuracy (\d+\.\d+) %", err)[1]) > 80
    else:
        np.testing.assert_allclose(predicted, np.array(out.splitlines()[1:], dtype=float), rtol=1e-7)
        y = np.array([float(row[-1]) for row in rows])
        assert net.evaluate(np.array([row[:-1] for row in rows], dtype=float), y)["r2"] > 0.9


def test_regression_in_the_units_of_the_target(run):
    header, rows = line_data()
    write_csv("t.csv", header, rows)
    code, out, _ = run("train", "t.csv", "--save", "m", "--epochs", 150)
    assert code == 0
    assert "task: regression; the target has decimal numbers" in out
    _, r2, rmse = table(out)["test"]
    assert r2 > 0.95
    code, out, err = run("predict", "m", "t.csv")
    assert code == 0
    predicted = np.array(out.splitlines()[1:], dtype=float)
    true = np.array([float(row[2]) for row in rows])
    assert np.corrcoef(predicted, true)[0, 1] > 0.97
    assert abs(predicted.mean() - true.mean()) < 300  # in the target's units
    expected = 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert float(re.search(r"price: R² (-?\d+\.\d+)", err)[1]) == pytest.approx(expected, abs=1e-4)
    assert rmse < true.std()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([1, 2, 3], "classification"),
        ([0, 1], "classification"),
        (["True", "False"], "classification"),
        (["low", "1", "2"], "classification"),
        ([1.5, 2.5], "regression"),
        (list(range(40)), "regression"),
    ],
)
def test_task_is_recognised(run, values, task):
    rng = np.random.default_rng(0)
    write_csv("t.csv", ["x", "y"], [[rng.normal(), values[i % len(values)]] for i in range(120)])
    code, out, _ = run("train", "t.csv", "--epochs", 1)
    assert code == 0
    assert f"task: {task}" in out


def test_task_can_be_forced(run, refused):
    write_csv("t.csv", ["x", "y"], [[i, i % 3] for i in range(60)])
    assert "task: regression\n" in run("train", "t.csv", "--epochs", 1, "--task", "regression")[1]
    write_csv("u.csv", ["x", "y"], [[i, i % 3 + 0.5] for i in range(60)])
    assert "3 classes (0.5, 1.5, 2.5)" in run("train", "u.csv", "--epochs", 1, "--task", "classification")[1]
    write_csv("v.csv", *flowers())
    assert "needs numbers in the target, got text such as 'no'" in refused("train", "v.csv", "--task", "regression")
    assert "digits, which has classes" in refused("train", "digits", "--task", "regression")


def test_target_by_name_and_compressed(run):
    header, rows = flowers()
    write_csv("t.csv", header[::-1], [row[::-1] for row in rows])
    with open("t.csv", "rb") as source, gzip.open("t.csv.gz", "wb") as target:
        target.write(source.read())
    code, out, _ = run("train", "t.csv.gz", "--target", "blooms", "--epochs", 2)
    assert code == 0
    assert "target: blooms\n" in out


def test_npz(run):
    X, y = datasets.load_iris()
    np.savez("t.npz", X=X, y=y)
    code, out, _ = run("train", "t.npz", "--save", "m", "--epochs", 60)
    assert code == 0
    assert "t.npz: 120 rows to train, 30 to test, 4 features" in out
    code, out, err = run("predict", "m", "t.npz")
    assert code == 0
    assert "y: accuracy 9" in err
    np.savez("only-x.npz", x=X)
    code, again, err = run("predict", "m", "only-x.npz")
    assert (code, err) == (0, "")
    assert again == out


def test_npz_with_a_test_part_and_images(run):
    rng = np.random.default_rng(0)
    y, y_test = np.arange(60) % 2, np.arange(20) % 2
    X, X_test = (rng.integers(0, 100, (len(k), 3, 4)) + 100 * k[:, None, None] for k in (y, y_test))
    arrays = {"x_train": X.astype(np.uint8), "y_train": y, "x_test": X_test.astype(np.uint8), "y_test": y_test}
    np.savez("t.npz", **arrays)
    code, out, _ = run("train", "t.npz", "--save", "m")
    assert code == 0
    assert "60 rows to train, 20 to test, 12 features, pixels / 255" in out
    assert load("m").input_scale == 1 / 255
    code, out, err = run("predict", "m", "t.npz")
    assert len(out.splitlines()) == 21
    assert "y_train: accuracy 100.00 % (20 of 20)" in err


def write_mnist(folder, n=40):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in ("train", "t10k"):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = (rng.integers(0, 100, (n, 28, 28)) + 15 * labels[:, None, None]).astype(np.uint8)
        header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = bytes([0, 0, 8, 1]) + np.array(labels.shape, ">u4").tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "fashion-mnist"])
def test_image_sets(run, refused, tmp_path, monkeypatch, name):
    write_mnist(tmp_path / "data" / ("mnist" if name == "mnist" else "fashion"))
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "data"))
    code, out, _ = run("train", name, "--epochs", 2, "--save", "m")
    assert code == 0
    assert "40 rows to train, 40 to test, 784 features, pixels / 255" in out
    assert not any(isinstance(layer, fnn.Standardize) for layer in load("m").layers)
    assert run("predict", "m", name)[0] == 0
    assert "has its own test part" in refused("train", name, "--test-fraction", 0.5)


def test_real_mnist_one_epoch(run, mnist_dir):
    code, out, _ = run("train", "mnist", "--epochs", 1)
    assert code == 0
    assert "60,000 rows to train, 10,000 to test" in out
    assert table(out)["test"][-1] > 93


def test_no_mnist_and_no_network(refused, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    os.mkdir("cache")
    os.mkdir("cache/mnist")
    message = refused("train", "mnist")
    assert "could not download train-images-idx3-ubyte.gz of MNIST" in message
    assert "Network is unreachable" in message


@pytest.mark.parametrize("optimizer", arguments.OPTIMIZERS)
def test_optimizers(run, optimizer):
    options = ["--learning-rate", "0.02", "--momentum", "0.8"] if optimizer in ("sgd", "nesterov") else []
    code, out, _ = run("train", "iris", "--optimizer", optimizer, "--epochs", 30, *options)
    assert code == 0
    assert f"training: {optimizer}, learning rate 0.0" in out
    assert table(out)["train"][-1] > 60


@pytest.mark.parametrize("loss", arguments.LOSSES)
def test_losses_of_a_regression(run, loss):
    header, rows = line_data()
    write_csv("t.csv", header, rows)
    code, out, _ = run("train", "t.csv", "--loss", loss, "--save", "m", "--epochs", 150)
    assert code == 0
    assert table(out)["test"][1] > 0.9
    assert load("m").loss_name == loss
    assert run("predict", "m", "t.csv")[0] == 0


def test_label_smoothing(run):
    code, out, _ = run("train", "iris", "--label-smoothing", 0.2, "--save", "m", "--epochs", 60)
    assert code == 0
    loss, accuracy = table(out)["train"]
    assert accuracy > 90
    assert loss > -(0.8 + 0.2 / 3) * np.log(0.8 + 0.2 / 3)  # no less than the entropy of the smoothed targets
    assert repr(load("m")).startswith("Sequential(4-64-64-3, loss=CrossEntropy(label_smoothing=0.2)")


def test_losses_of_the_other_task(run, refused):
    header, rows = line_data()
    write_csv("t.csv", header, rows)
    assert refused("train", "iris", "--loss", "huber") == "--loss huber is for regression, this is a classification"
    message = "--label-smoothing is for classification, this is a regression"
    assert refused("train", "t.csv", "--label-smoothing", 0.1) == message
    assert "argument --loss: invalid choice: 'poisson'" in refused("train", "t.csv", "--loss", "poisson")
    assert "argument --label-smoothing: expected a number" in refused("train", "iris", "--label-smoothing", 1)


def test_network_options(run):
    code, out, _ = run(
        *("train", "iris", "--hidden", "7,5,3", "--activation", "gelu", "--dtype", "float64", "--batch-size", 1000),
        *("--l2", 0.5, "--threads", 1, "--seed", 12, "--test-fraction", 0.5, "--epochs", 2, "--save", "m"),
    )
    assert code == 0
    assert "75 rows to train, 75 to test" in out
    assert "network: 4-7-5-3-3, gelu, float64" in out
    assert "l2 0.5, 2 epochs in batches of 75, seed 12" in out
    net = load("m")
    assert [layer.units for layer in net.layers[1:]] == [7, 5, 3, 3]
    assert net.dtype == np.float64


def test_loss_of_the_curves_has_no_penalty(run):
    _, out, err = run("train", "iris", "--l2", 0.05, "--epochs", 150)
    shown = float(re.search(r"epoch 150/150  loss (\d+\.\d+)", err)[1])
    assert shown == pytest.approx(table(out)["train"][0], rel=0.02)


def test_linear_model(run):
    code, out, _ = run("train", "iris", "--hidden", "none", "--epochs", 2)
    assert code == 0
    assert "network: 4-3, linear" in out


def test_same_seed_same_result(run):
    args = ("train", "iris", "--epochs", 5, "--threads", 1, "--quiet", "--save")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*args, name, "--seed", seed) == (0, "", "")
    a, b, c = (load(name).theta for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_quiet(run):
    assert run("train", "iris", "--epochs", 2, "--quiet", "--plot", "x.svg") == (0, "", "")
    assert os.listdir() == ["x.svg"]
