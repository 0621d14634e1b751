"""The command line, driven in process; every complaint is one line on stderr and exit code 2."""

import csv
import gzip
import io as text_io
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli, datasets, tables
from fastnn.io import save
from fastnn.sequential import load

pytest.importorskip("sklearn")
pytest.importorskip("pandas")


@pytest.fixture(autouse=True)
def in_tmp_path(monkeypatch, tmp_path, request, compiled):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    if "mnist_dir" not in request.fixturenames:
        monkeypatch.delenv("FASTNN_DATA", raising=False)


@pytest.fixture
def run(capsys):
    """Run the command line; returns exit code, stdout, stderr."""

    def call(*args):
        capsys.readouterr()
        code = cli.main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(run):
    """Run and expect one line of complaint; returns it."""

    def call(*args, files=()):
        before = sorted(os.listdir())
        code, out, err = run(*args)
        assert code == 2, err
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("fastnn: error: ")
        assert "Traceback" not in out + err
        assert sorted(os.listdir()) == before  # nothing written, nothing left over
        return lines[0].removeprefix("fastnn: error: ")

    return call


def table(text):
    """The rows of the result table: {"test": [numbers]}."""
    return {
        line.split()[0]: [float(number) for number in re.findall(r"-?\d+\.\d+", line)]
        for line in text.splitlines()
        if line.split()[:1] in (["train"], ["test"])
    }


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def flowers(n=60, seed=0):
    """A small table with two easy classes: header, rows."""
    rng = np.random.default_rng(seed)
    rows = [[f"{rng.normal(3 * (i % 2)):.4f}", f"{rng.normal():.4f}", 7, ["no", "yes"][i % 2]] for i in range(n)]
    return ["length", "width", "constant", "blooms"], rows


def line_data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-5, 5, (n, 2))
    y = 1e4 + 1e3 * (x[:, 0] - 0.5 * x[:, 1])
    return ["a", "b", "price"], [[f"{a:.6f}", f"{b:.6f}", f"{p:.4f}"] for (a, b), p in zip(x, y, strict=True)]


# ------------------------------------------------------------------ train


def test_digits_is_the_default(run):
    code, out, _ = run("train")
    assert code == 0
    assert "digits: 1,437 rows to train, 360 to test, 64 features" in out
    assert table(out)["test"][-1] >= 97.0
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
    metadata = load("m", return_metadata=True)[1]
    assert metadata["features"] == ["length", "width", "constant"]
    assert metadata["feature_scale"][2] == 1.0  # constant: no division by zero
    assert metadata["feature_mean"][2] == 7.0


def test_standardisation_comes_from_training_rows_alone(run):
    header, rows = flowers(50)
    write_csv("t.csv", header, rows)
    assert run("train", "t.csv", "--epochs", 1, "--save", "m", "--seed", 5)[0] == 0
    from sklearn.model_selection import train_test_split

    X = np.array([row[:3] for row in rows], dtype=float)
    y = np.array([row[3] for row in rows])
    train, _ = train_test_split(np.arange(50), test_size=10, random_state=5, stratify=y)
    metadata = load("m", return_metadata=True)[1]
    np.testing.assert_allclose(metadata["feature_mean"], X[train].mean(axis=0))
    np.testing.assert_allclose(metadata["feature_scale"][:2], X[train].std(axis=0)[:2])


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
    assert load("m", return_metadata=True)[1]["feature_mean"] is None
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


@pytest.mark.parametrize("optimizer", cli.OPTIMIZERS)
def test_optimizers(run, optimizer):
    options = ["--learning-rate", "0.02", "--momentum", "0.8"] if optimizer in ("sgd", "nesterov") else []
    code, out, _ = run("train", "iris", "--optimizer", optimizer, "--epochs", 30, *options)
    assert code == 0
    assert f"training: {optimizer}, learning rate 0.0" in out
    assert table(out)["train"][-1] > 60


@pytest.mark.parametrize("loss", cli.LOSSES)
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
    assert [layer.units for layer in net.layers] == [7, 5, 3, 3]
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


# ------------------------------------------------------------------ reading tables


def test_index_column_of_pandas_is_left_out(run):
    header, rows = flowers()
    write_csv("t.csv", ["", *header], [[i, *row] for i, row in enumerate(rows)])
    assert run("train", "t.csv", "--epochs", 1, "--save", "m")[0] == 0
    assert load("m", return_metadata=True)[1]["features"] == ["length", "width", "constant"]


def test_awkward_but_good_tables(run):
    header, rows = flowers()
    text = "\ufeff" + ", ".join(header) + "\r\n" + "".join(", ".join(map(str, row)) + "\r\n\r\n" for row in rows)
    with open("t.csv", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    assert run("train", "t.csv", "--epochs", 1, "--save", "m")[0] == 0
    assert load("m", return_metadata=True)[1]["features"] == ["length", "width", "constant"]
    write_csv("u.csv", ["0", "1", "2", "3"], rows)  # names that pandas gives
    assert run("train", "u.csv", "--epochs", 1)[0] == 0
    write_csv(
        "w.csv",
        ["größe", "β", "x,y", "Blüte"],
        [[*row[:3], {"no": "nein", "yes": 'ja, "sehr"'}[row[3]]] for row in rows],
    )
    assert run("train", "w.csv", "--epochs", 60, "--save", "w")[0] == 0
    code, out, _ = run("predict", "w", "w.csv", "--proba")
    assert code == 0
    records = list(csv.reader(text_io.StringIO(out)))
    assert records[0] == ["prediction", 'probability_ja, "sehr"', "probability_nein"]
    assert {record[0] for record in records[1:]} == {"nein", 'ja, "sehr"'}


def test_true_false_features(run):
    write_csv("t.csv", ["flag", "y"], [[i % 2 == 0, "ab"[i % 2]] for i in range(40)])
    code, out, _ = run("train", "t.csv", "--epochs", 40)
    assert code == 0
    assert table(out)["test"][-1] == 100


ROWS = [[1.0, 2.0, "a"], [2.0, 1.0, "b"]] * 20


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "t.csv: the file is empty"),
        ("\n\n", "t.csv: the file is empty"),
        ("a,b,c\n", "t.csv: no rows below the header"),
        ("a;b;c\n1;2;x\n", "only one column, 'a;b;c': columns must be separated by commas"),
        ("a\n1\n2\n", "only one column ('a'), expected features and a target"),
        ("1,2,3\n4,5,6\n", "the first line has only numbers (1, 2, 3), expected the names of the columns"),
        ("5.1,3.5,0\n4,5,1\n", "the first line has only numbers"),
        ("0,1\n1,0\n", "the first line has only numbers"),
        ("a,a,y\n1,2,x\n", "column 'a' appears more than once"),
        ("a,b,y\n1,2,x\n1,2,x,4\n", "not a regular table"),
        ("a,b,y\n1,2,x,4\n1,2,x,4\n", "not a regular table"),
        ("a,b,y\n1,2\n" * 9, "target 'y' has a missing value in data row 1"),
        ("a,b,y\n1,2,x\n1,,z\n", "column 'b' has a missing value in data row 2"),
        ("a,b,y\n1,2,x\nNA,2,z\n", "column 'a' has a missing value in data row 2"),
        ("a,b,y\n1,2,x\n1,inf,z\n", "column 'b' has an infinite value in data row 2"),
        ("a,b,y\n1,2,x\n1,2,z\noops,2,x\n", "column 'a' has 'oops' in data row 3, which is not a number"),
        ("a,b,y\nred,2,x\nblue,2,z\n", "column 'a' has 'red' in data row 1: features must be numbers"),
        ("a,when,y\n1,2024-01-01,x\n1,2024-01-02,z\n", "column 'when' has '2024-01-01' in data row 1"),
        ("a,b,y\n1,2,x\n1,2,\n", "target 'y' has a missing value in data row 2"),
        ("a,y\n" + "1,x\n" * 30, "target 'y' has only one class, 'x': nothing to learn"),
        ("a,y\n" + "1,5.5\n" * 30, "target 'y' is 5.5 in all rows: nothing to learn"),
        ("a,y\n" + "1,x\n1,z\n" * 15 + "1,rare\n", "1 of them have fewer than 2 rows to learn from (rare)"),
        ("a,y\n1,x\n1,x\n1,z\n1,z\n", "too few rows: 4 make 3 to train and 1 to test, and each part needs 2"),
        ("a,y\n1,1.5\n1,2.5\n", "too few rows"),
        ("a,y\n" + "1e308,1.5\n-1e308,2.5\n" * 10, "column 'a' has values too large to standardise"),
    ],
)
def test_bad_tables(refused, tmp_path, content, what):
    (tmp_path / "t.csv").write_text(content)
    message = refused("train", "t.csv")
    assert message.startswith("t.csv: ")
    assert what in message


def test_bad_files(refused, tmp_path):
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    assert "latin.csv: not a text file in UTF-8" in refused("train", "latin.csv")
    (tmp_path / "x.csv.gz").write_bytes(b"not gzip")
    assert "x.csv.gz: damaged gzip data" in refused("train", "x.csv.gz")
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    (tmp_path / "x.csv.gz").write_bytes(whole[:30])
    assert "x.csv.gz: damaged gzip data" in refused("train", "x.csv.gz")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    assert refused("train", "table.xlsx") == "table.xlsx: unknown kind of file '.xlsx', expected .csv, .csv.gz or .npz"
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv: is a folder" in refused("train", "folder.csv")
    assert refused("train", "absent.csv") == "absent.csv: no such file"
    assert "not one of the built-in data sets digits, iris, mnist, fashion_mnist" in refused("train", "irsi")
    assert "did you mean iris?" in refused("train", "irsi")


def test_bad_npz(refused, tmp_path):
    path = tmp_path / "t.npz"
    X, y = np.ones((30, 2)), np.arange(30) % 2
    cases = [
        ({"a": X}, "expected arrays X and y, or x_train and y_train, got a"),
        ({"X": X}, "expected arrays X and y"),
        ({"X": X[:, 0], "y": y}, "array 'x' must have shape (rows, features), got (30,)"),
        ({"X": X, "y": y[:-1]}, "array 'y' has 29 rows, the features have 30"),
        ({"X": X, "y": np.ones((30, 3))}, "array 'y' must have shape (rows,), got (30, 3)"),
        ({"X": X * np.nan, "y": y}, "array 'x' has nan in row 0, column 0"),
        ({"X": X, "y": y + np.nan}, "array 'y' has nan in row 0"),
        ({"X": X.astype(complex), "y": y}, "array 'x' must hold numbers"),
        ({"X": np.array([[object()]]), "y": y}, "holds Python objects"),
        ({"x_train": X, "y_train": y, "x_test": X[:, :1], "y_test": y}, "x_test has 1 columns"),
    ]
    for arrays, what in cases:
        np.savez(path, **arrays)
        message = refused("train", "t.npz")
        assert message.startswith("t.npz: ")
        assert what in message
    for content in (b"garbage", b"PK\x03\x04garbage", pickle.dumps([1]), path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert refused("train", "t.npz").startswith("t.npz: ")
    with open(path, "wb") as file:
        np.save(file, X)
    assert refused("train", "t.npz") == "t.npz: not an .npz file"


def test_unknown_target(refused):
    write_csv("t.csv", *flowers())
    message = refused("train", "t.csv", "--target", "bloom")
    assert "no column 'bloom' for the target; the columns are length, width, constant, blooms" in message
    assert "did you mean 'blooms'?" in message
    assert "--target is for a .csv" in refused("train", "digits", "--target", "digit")


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--epochs", "1.5"], "argument --epochs: expected a whole number of at least 1, got '1.5'"),
        (["--batch-size", "-3"], "argument --batch-size: expected a whole number of at least 1, got '-3'"),
        (["--threads", "0"], "argument --threads: expected a whole number from 1 to 1024, got '0'"),
        (["--threads", "5000000000"], "argument --threads: expected a whole number from 1 to 1024, got '5000000000'"),
        (["--seed", "-1"], "argument --seed: expected a whole number of at least 0"),
        (["--learning-rate", "0"], "argument --learning-rate: expected a number above 0, got '0'"),
        (["--learning-rate", "nan"], "argument --learning-rate: expected a number above 0, got 'nan'"),
        (["--learning-rate", "fast"], "argument --learning-rate"),
        (["--momentum", "1"], "argument --momentum: expected a number at least 0 and below 1, got '1'"),
        (["--l2", "-0.1"], "argument --l2: expected a number at least 0"),
        (["--l2", "inf"], "argument --l2"),
        (["--test-fraction", "1"], "argument --test-fraction: expected a number above 0 and below 1, got '1'"),
        (["--hidden", "64,0"], "argument --hidden: expected widths such as 64,64 or the word none, got '64,0'"),
        (["--hidden", "64,99999999999999999999"], "argument --hidden: expected widths"),
        (["--hidden", "wide"], "argument --hidden"),
        (["--hidden", ""], "argument --hidden"),
        (["--activation", "swoosh"], "argument --activation: invalid choice: 'swoosh'"),
        (["--optimizer", "newton"], "argument --optimizer: invalid choice: 'newton'"),
        (["--dtype", "float16"], "argument --dtype"),
        (["--task", "clustering"], "argument --task"),
        (["--momentum", "0.5"], "--momentum belongs to sgd and nesterov, not to adam"),
        (["--optimizer", "nesterov", "--momentum", "0"], "nesterov needs a --momentum above 0"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["--save"], "argument --save: expected one argument"),
        (["--test-fraction", "0.99"], "too few rows"),
        (["--test-fraction", "0.001"], "too few rows"),
    ],
)
def test_bad_options(refused, options, what):
    assert what in refused("train", "iris", *options)


def test_bad_commands(refused):
    assert "required" in refused()
    assert "invalid choice: 'fly'" in refused("fly")
    assert "required" in refused("predict", "m")


def test_help_and_version(run):
    for command in ([], ["train"], ["predict"], ["info"]):
        code, out, err = run(*command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith("usage: fastnn")
    code, out, _ = run("--version")
    assert (code, out) == (0, f"fastnn {fnn.__version__}\n")


def test_outputs_are_checked_before_training(refused, monkeypatch, tmp_path):
    def never(*args, **kwargs):
        raise AssertionError("data were loaded before the outputs were checked")

    monkeypatch.setattr(tables, "_built_in", never)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for option in ("--save", "--plot"):
        assert "the folder" in refused("train", "iris", option, "absent/m.png")
        assert "it is a folder" in refused("train", "iris", option, "folder")
        assert "cannot write" in refused("train", "iris", option, "file/m.png")
    assert "expected a name that ends in .png, .pdf or .svg" in refused("train", "iris", "--plot", "x.txt")
    assert "--plot x.png would overwrite --save" in refused("train", "iris", "--save", "x.png", "--plot", "x.png")
    write_csv("t.csv", *flowers())
    assert "--save ./t.csv would overwrite DATA" in refused("train", "t.csv", "--save", "./t.csv")


@pytest.mark.parametrize(
    ("module", "args", "what"),
    [
        ("pandas", ["train", "t.csv"], "reading a .csv needs pandas"),
        ("sklearn.model_selection", ["train", "iris"], "splitting the rows needs scikit-learn"),
        ("matplotlib", ["train", "iris", "--plot", "x.png"], "--plot needs matplotlib"),
    ],
)
def test_missing_packages(refused, monkeypatch, module, args, what):
    write_csv("t.csv", *flowers())
    monkeypatch.setitem(sys.modules, module, None)
    assert refused(*args) == f'{what}: pip install "fastnn[cli]"'


def test_divergence(refused):
    write_csv("t.csv", *line_data())
    before = os.listdir()
    code = cli.main(["train", "t.csv", "--optimizer", "sgd", "--learning-rate", "1e30", "--quiet", "--save", "m"])
    assert code == 2
    assert os.listdir() == before
    assert "diverged" in refused("train", "t.csv", "--optimizer", "sgd", "--learning-rate", "1e30", "--quiet")


# ------------------------------------------------------------------ Ctrl-C


def test_interrupt_keeps_what_was_trained(run, monkeypatch):
    from fastnn import training

    original = training.Trainer.epochs

    def interrupted(self, n, **options):
        for result in original(self, n, **options):
            yield result
            if result.epoch == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "epochs", interrupted)
    code, out, err = run("train", "iris", "--epochs", 9, "--save", "m", "--plot", "p.png")
    assert code == 130
    assert err.splitlines()[-1] == "fastnn: interrupted after 3 of 9 epochs; the network so far is in m"
    assert load("m", return_metadata=True)[1]["training"]["epochs"] == 3
    assert sorted(os.listdir()) == ["m", "p.png"]
    assert "test" not in table(out)
    code, _, err = run("train", "iris", "--epochs", 9, "--quiet")
    assert (code, err) == (130, "fastnn: interrupted after 3 of 9 epochs\n")


def test_interrupt_elsewhere(run, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "_built_in", interrupt)
    assert run("train", "iris") == (130, "", "fastnn: interrupted\n")


@pytest.mark.parametrize(
    "program", [["-m", "fastnn", "info"], ["-c", "import sys; from fastnn.__main__ import main; sys.exit(main())"]]
)
def test_interrupt_while_importing(tmp_path, program):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fastnn: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_real_interrupt(tmp_path):
    command = [sys.executable, "-m", "fastnn", "train", "digits", "--epochs", "1000000", "--save", "m"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr.readline().startswith("epoch 1/")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.fullmatch(
        r"fastnn: interrupted after \d+ of 1000000 epochs; the network so far is in m", err.splitlines()[-1]
    )
    assert "Traceback" not in err
    assert load("m").n_parameters == 8970


# ------------------------------------------------------------------ predict


@pytest.fixture
def model(run):
    write_csv("t.csv", *flowers())
    assert run("train", "t.csv", "--epochs", 60, "--save", "m")[0] == 0
    return "m"


def test_predict_matches_columns_by_name(run, model):
    header, rows = flowers()
    _, expected, _ = run("predict", model, "t.csv")
    order = [3, 1, 0, 2]
    write_csv("u.csv", [*(header[i] for i in order), "remark"], [[*(row[i] for i in order), "text"] for row in rows])
    assert run("predict", model, "u.csv")[1] == expected
    write_csv("v.csv", header[:3], [row[:3] for row in rows])
    code, out, err = run("predict", model, "v.csv")
    assert (code, out, err) == (0, expected, "")


def test_predict_probabilities(run, model):
    code, out, _ = run("predict", model, "t.csv", "--proba", "--threads", 1)
    assert code == 0
    records = list(csv.reader(text_io.StringIO(out)))
    assert records[0] == ["prediction", "probability_no", "probability_yes"]
    values = np.array([record[1:] for record in records[1:]], dtype=float)
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=2e-6)
    assert [record[0] for record in records[1:]] == [["no", "yes"][k] for k in values.argmax(axis=1)]


def test_predict_to_a_file(run, model, tmp_path):
    _, expected, _ = run("predict", model, "t.csv")
    code, out, err = run("predict", model, "t.csv", "--output", "out.csv")
    assert (code, out) == (0, "")
    assert "blooms: accuracy" in err
    assert (tmp_path / "out.csv").read_text() == expected


def test_predict_with_gaps_in_the_target(run, model):
    header, rows = flowers()
    rows[3][3] = ""
    write_csv("t.csv", header, rows)
    code, out, err = run("predict", model, "t.csv")
    assert code == 0
    assert len(out.splitlines()) == 61
    assert err == "fastnn: target 'blooms' has missing values: no score\n"


def test_predict_refuses(run, refused, model, tmp_path):
    header, rows = flowers()
    write_csv("u.csv", ["length", "breadth", "constant"], [row[:3] for row in rows])
    assert "u.csv: 1 missing column(s) that m needs: width" in refused("predict", model, "u.csv")
    write_csv("u.csv", header[:3], [["x", *row[1:3]] for row in rows])
    assert "column 'length' has 'x' in data row 1" in refused("predict", model, "u.csv")
    np.savez("u.npz", X=np.ones((3, 5)))
    assert "array 'x' has 5 features, m expects 3" in refused("predict", model, "u.npz")
    assert "does not have the features that m was trained on" in refused("predict", model, "iris")
    assert refused("predict", "absent", "t.csv") == "absent: no such file"
    assert "absent.csv: no such file" in refused("predict", model, "absent.csv")
    assert "m would overwrite an input" in refused("predict", model, "t.csv", "--output", model)
    assert "the folder" in refused("predict", model, "t.csv", "--output", "absent/x.csv")
    assert ". is a folder" in refused("predict", ".", "t.csv").replace(":", "")
    (tmp_path / "bad").write_bytes((tmp_path / model).read_bytes()[:-3])
    assert refused("predict", "bad", "t.csv").startswith("bad: not a readable safetensors file")
    write_csv("r.csv", *line_data())
    assert run("train", "r.csv", "--epochs", 1, "--save", "r")[0] == 0
    assert "--proba is for classification, r is a regression" in refused("predict", "r", "r.csv", "--proba")


@pytest.mark.parametrize(
    "change",
    [
        {"task": "magic"},
        {"classes": ["one"]},
        {"classes": None},
        {"classes": [1, 2]},
        {"features": ["a"]},
        {"feature_mean": [1.0]},
        {"feature_mean": ["a", "b", "c"]},
        {"feature_mean": None},
        {"feature_scale": [1.0, 0.0, 1.0]},
        {"target": 3},
        {"target_scale": "x"},
        {"target_mean": None},
    ],
)
def test_damaged_description(refused, model, change):
    net, metadata = load(model, return_metadata=True)
    save(net, model, metadata={**metadata, **change})
    for args in (("predict", model, "t.csv"), ("info", model)):
        assert refused(*args).startswith("m: damaged description of its data")


def test_model_of_the_library(refused, run):
    fnn.Sequential([fnn.Dense(2)], input_size=3, loss="cross_entropy", seed=0).save("plain")
    assert "only networks saved by fastnn train" in refused("predict", "plain", "iris")
    code, out, _ = run("info", "plain")
    assert code == 0
    assert "Dense" in out


def test_a_class_that_the_model_does_not_know_counts_as_wrong(run, model):
    header, rows = flowers()
    write_csv("u.csv", header, [[*row[:3], "perhaps"] for row in rows])
    assert "accuracy 0.00 % (0 of 60)" in run("predict", model, "u.csv")[2]


def test_whole_number_classes_written_as_decimals(run):
    rng = np.random.default_rng(0)
    rows = [[f"{rng.normal(4 * (i % 2)):.4f}", i % 2] for i in range(60)]
    write_csv("t.csv", ["x", "y"], rows)
    assert run("train", "t.csv", "--epochs", 80, "--save", "m")[0] == 0
    _, _, before = run("predict", "m", "t.csv")
    write_csv("t.csv", ["x", "y"], [[x, f"{y}.0"] for x, y in rows])
    assert run("predict", "m", "t.csv")[2] == before
    code, out, _ = run("train", "t.csv", "--epochs", 1)
    assert code == 0
    assert "task: classification, 2 classes (0, 1); the target has 2 different whole numbers" in out
    np.savez("t.npz", X=np.array([[float(x)] for x, _ in rows]), y=np.array([float(y) for _, y in rows]))
    assert "task: classification, 2 classes (0, 1)" in run("train", "t.npz", "--epochs", 1)[1]


# ------------------------------------------------------------------ info, whole program


def test_info(run, model):
    code, out, _ = run("info")
    assert code == 0
    assert fnn.__version__ in out
    code, out, _ = run("info", model)
    assert code == 0
    for text in ("Dense", "task            classification", "target          blooms", "classes         2: no, yes"):
        assert text in out
    assert "features        3: length, width, constant" in out
    assert "data t.csv, epochs 60, optimizer adam, seed 0" in out


def test_as_a_program(tmp_path):
    def call(*args):
        return subprocess.run([sys.executable, "-m", "fastnn", *args], capture_output=True, text=True, encoding="utf-8")

    done = call("train", "iris", "--epochs", "3", "--save", "m")
    assert done.returncode == 0
    assert "saved to        m" in done.stdout
    assert "Warning" not in done.stderr
    done = call("train", "nothing.csv")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "fastnn: error: nothing.csv: no such file\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_closed_pipe_is_quiet(run, model):
    header, rows = flowers()
    write_csv("big.csv", header, rows * 3000)  # more than a pipe holds
    command = f"{sys.executable} -m fastnn predict m big.csv --proba | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "prediction,probability_no,probability_yes\n"
    assert done.stderr == ""


def test_output_that_cannot_show_a_character(tmp_path):
    write_csv("t.csv", *line_data())
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", "t.csv", "--epochs", "2"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0
    assert b"R\\xb2" in done.stdout


class Terminal(text_io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("installed", [True, False])
def test_progress_on_a_terminal(monkeypatch, installed):
    pytest.importorskip("tqdm")
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert cli.main(["train", "iris", "--epochs", "3"]) == 0
    assert ("3/3 [" in screen.getvalue()) == installed  # a bar
    assert ("epoch 3/3  loss" in screen.getvalue()) != installed  # or plain lines
    assert "accuracy" in screen.getvalue()
