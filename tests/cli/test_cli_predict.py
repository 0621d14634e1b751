"""`fastnn predict`, `fastnn info`, and the whole program."""

import csv
import io as text_io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import flowers, line_data, write_csv

import fastnn as fnn
from fastnn import cli
from fastnn.io import save
from fastnn.sequential import load

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
    assert err == "fastnn: target 'blooms' has a missing value in data row 4: no score\n"


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
    metadata |= {"feature_mean": [0.0] * 3, "feature_scale": [1.0] * 3, "target_mean": 0.0, "target_scale": 1.0}
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
    _, expected, err = run("predict", model, "t.csv")
    right = int(err.split("(")[1].split()[0])
    rows[0][3] = "perhaps"
    write_csv("u.csv", header, rows)
    _, out, err = run("predict", model, "u.csv")
    assert out == expected
    first = out.splitlines()[1] == flowers()[1][0][3]
    assert f"({right - first} of 60); 1 rows have labels that the model does not know (perhaps)" in err


def test_labels_that_the_model_never_saw_are_no_score(run, refused, model):
    header, rows = flowers()
    write_csv("u.csv", header, [[*row[:3], "perhaps"] for row in rows])
    message = refused("predict", model, "u.csv", "--output", "out.csv")
    assert "u.csv: target 'blooms' has only labels that the model does not know (perhaps), it knows no, yes" in message
    _, expected, _ = run("predict", model, "t.csv")
    assert run("predict", model, "u.csv", "--no-score") == (0, expected, "")


@pytest.mark.parametrize("labels", [("01", "02"), ("1e5", "2e5"), ("TRUE", "FALSE"), ("1.0", "2.0"), ("NA", "no")])
def test_labels_come_back_as_the_table_writes_them(run, labels):
    rows = [[f"{3 * (i % 2) + 0.01 * i:.2f}", labels[i % 2]] for i in range(60)]
    write_csv("t.csv", ["x", "y"], rows)
    assert run("train", "t.csv", "--epochs", 200, "--save", "m")[0] == 0
    code, out, err = run("predict", "m", "t.csv")
    assert code == 0
    assert [record["prediction"] for record in csv.DictReader(text_io.StringIO(out))] == [row[1] for row in rows]
    assert "accuracy 100.00 % (60 of 60)" in err


def test_one_class_written_in_several_ways(run):
    rows = [[i % 2 + 0.01 * i, ["1", "01", "1.0", "2"][i % 4]] for i in range(60)]
    write_csv("t.csv", ["x", "y"], rows)
    code, out, _ = run("train", "t.csv", "--epochs", 1, "--save", "m")
    assert code == 0
    assert "2 classes (1, 2)" in out
    assert "does not know" not in run("predict", "m", "t.csv")[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_have_the_digits_of_their_score(run, dtype):
    header, rows = line_data()
    write_csv("t.csv", header, rows)
    assert run("train", "t.csv", "--epochs", 20, "--dtype", dtype, "--save", "m")[0] == 0
    code, out, _ = run("predict", "m", "t.csv")
    assert code == 0
    X = np.array([row[:-1] for row in rows], dtype=np.float64)
    expected = load("m").predict(X)
    written = np.array([float(record["prediction"]) for record in csv.DictReader(text_io.StringIO(out))])
    np.testing.assert_array_equal(written.astype(dtype), expected)


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
    assert "task: classification, 2 classes (0.0, 1.0); the target has 2 different whole numbers" in out
    np.savez("t.npz", X=np.array([[float(x)] for x, _ in rows]), y=np.array([float(y) for _, y in rows]))
    assert "task: classification, 2 classes (0, 1)" in run("train", "t.npz", "--epochs", 1)[1]


GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("what", ["classes", "values"])
def test_files_with_their_standardisation_in_the_metadata_still_predict(run, what):
    """Written by version 0.1.0 as it was before networks standardised their inputs, and trained on such data."""
    file = GOLDEN / f"cli_{what}_0.1.safetensors"
    rng = np.random.default_rng(0)
    X = [[f"{rng.normal(100, 20):.3f}", f"{rng.normal():.3f}", 7] for _ in range(60)]
    write_csv("x.csv", ["length", "width", "constant"], X)
    code, out, _ = run("predict", file, "x.csv")
    assert code == 0
    expected = {"classes": ["yes", "no"], "values": ["12939.1325", "13062.4306"]}[what]
    if what == "classes":
        assert out.splitlines()[1:3] == expected
    else:
        found = np.array(out.splitlines()[1:3], dtype=float)
        np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-5)
    assert "inputs          standardised" in run("info", file)[1]


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


def test_as_a_program_whose_output_cannot_show_a_character(tmp_path):
    write_csv("t.csv", *line_data())
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", "t.csv", "--epochs", "2", "--save", "m"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0
    assert b"R\\xb2" in done.stdout
    assert b"saved to        m" in done.stdout
    assert b"Warning" not in done.stderr


def test_the_status_of_an_error(run):
    # test_interrupt_while_importing shows that a process ends with what main returns
    assert run("train", "nothing.csv") == (2, "", "fastnn: error: nothing.csv: no such file\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_closed_pipe_is_quiet(run, model):
    header, rows = flowers()
    write_csv("big.csv", header, rows * 3000)  # more than a pipe holds
    command = f"{sys.executable} -m fastnn predict m big.csv --proba | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "prediction,probability_no,probability_yes\n"
    assert done.stderr == ""


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


# ------------------------------------------------------------------ names from strangers


def test_nothing_in_a_file_reaches_the_terminal_raw(run, refused, model, tmp_path, monkeypatch):
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    net, metadata = load(model, return_metadata=True)
    metadata |= {"target": evil, "classes": ["no", evil], "training": {evil: evil}}
    metadata["features"][2] = evil
    save(net, "evil", metadata=metadata)
    save(net, "own", metadata={evil: evil, "lines": "a\nb"})
    shown = run("info", "evil")[1] + run("info", "own")[1]
    shown += "".join(refused("predict", "evil", "t.csv"))
    save(net, "named", metadata={**metadata, "features": None})
    header, rows = flowers()
    write_csv("u.csv", header[:3], [row[:3] for row in rows])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    code, out, err = run("predict", "named", "u.csv", "--proba")
    assert code == 0, err
    shown += out + err
    assert r"\x1b]0;owned\x07\x9b31m\u202e" in shown
    assert not set(shown) & set(evil[:1] + "\x07\x9b\u202e")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert evil in run("predict", "named", "u.csv", "--proba")[1]  # a pipe gets the names as they are


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "regression"}, "task 'regression' does not fit the network"),
        ({"task": ["classification"]}, "task cannot be"),
        ({"classes": None}, "does not fit the network, or the classes"),
        ({"classes": ["a"]}, "classes cannot be 1 names for 2 outputs"),
        ({"classes": ["a", 1]}, "classes[1] cannot be 1: expected text"),
        ({"features": ["a"]}, "features cannot be 1 names of"),
        ({"target": 1}, "target cannot be 1"),
        ({"feature_mean": [0.0] * 3}, "feature_mean and feature_scale do not fit each other"),
        ({"feature_mean": [0.0] * 3, "feature_scale": [1.0, 0.0, 1.0]}, "feature_scale must be above 0"),
        ({"feature_mean": [[]] * 3, "feature_scale": [1.0] * 3}, "feature_mean[0] cannot be []"),
        ({"target_scale": 1.0}, "target_mean and target_scale must be numbers"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(refused, model, change, message):
    net, metadata = load(model, return_metadata=True)
    save(net, "changed", metadata={**metadata, **change})
    for arguments in (("info", "changed"), ("predict", "changed", "t.csv")):
        assert message in refused(*arguments)
