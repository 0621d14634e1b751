"""fastnn tune: a search, its table, its plot, and the network that it saves."""

import csv
import os
import signal
import time

import numpy as np
import pytest
from cli_cases import flowers, line_data, table, write_csv

import fastnn as fnn
from fastnn.cli import tune

SMALL = ["--n", "4", "--cv", "3", "--epochs", "12"]


def test_a_classification_is_searched_saved_and_predicted(run, tmp_path):
    write_csv("flowers.csv", *flowers(n=90))
    outputs = ["--save", "best.safetensors", "--table", "results.csv", "--plot", "tune.png"]
    pytest.importorskip("matplotlib")
    code, out, err = run("tune", "flowers.csv", *SMALL, *outputs, "--threads", "2")
    assert (code, err) == (0, "")
    assert "task: classification, 2 classes (no, yes)" in out
    assert "search: 4 settings, 3 folds, up to 12 epochs, 2 threads, seed 0" in out
    assert "SweepResult: 4 members on 3 folds" in out
    accuracy = table(out)["test"][1]
    assert accuracy > 70.0
    with open("results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    best = min(rows, key=lambda row: int(row["rank"]))
    assert float(best["mean_accuracy"]) == max(float(row["mean_accuracy"]) for row in rows)
    assert f"width {best['width']}, depth {best['depth']}, activation {best['activation']}" in out
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")
    code, predicted, _ = run("predict", "best.safetensors", "flowers.csv")
    assert code == 0
    assert set(predicted.split()[1:]) <= {"no", "yes"}


def test_a_regression_is_saved_in_the_units_of_the_target(run):
    write_csv("prices.csv", *line_data(n=120))
    code, out, _ = run("tune", "prices.csv", "--n", "5", "--cv", "2", "--epochs", "80", "--save", "best.safetensors")
    assert code == 0
    assert "task: regression" in out
    net = fnn.load("best.safetensors")
    values = net.predict(np.array([[0.0, 0.0], [5.0, 0.0]]))
    assert 5e3 < values[0] < 1.5e4
    assert values[1] > values[0]


def test_the_same_seed_gives_the_same_network_on_any_number_of_threads(run):
    for name, threads in (("a", 1), ("b", 3)):
        assert run("tune", "iris", *SMALL, "--threads", threads, "--save", f"{name}.safetensors")[0] == 0
    assert np.array_equal(fnn.load("a.safetensors").theta, fnn.load("b.safetensors").theta)
    assert run("tune", "iris", *SMALL, "--seed", "1", "--save", "c.safetensors")[0] == 0
    assert fnn.load("c.safetensors").theta.tobytes() != fnn.load("a.safetensors").theta.tobytes()


def test_quiet_prints_nothing(run):
    assert run("tune", "iris", *SMALL, "--quiet") == (0, "", "")


def test_a_time_limit_that_is_too_short_is_an_error(refused, monkeypatch):
    monkeypatch.setattr(tune, "BATCH_SIZES", (16,))
    assert "no setting was trained on all folds" in refused("tune", "digits", "--time-limit", "1e-9", "--quiet")


def test_an_interrupted_search_writes_its_table(run, monkeypatch):
    def interrupted(*args, **options):
        events = []

        def callback(event):
            events.append(event)
            if len(events) == 2:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)

        return fnn.sweep(*args, **options, callbacks=[callback])

    monkeypatch.setattr(tune, "sweep", interrupted)
    code, out, err = run("tune", "iris", *SMALL, "--table", "results.csv", "--save", "best.safetensors")
    assert code == 130
    assert err == "fastnn: interrupted; nothing was saved\n"
    assert "interrupted" in out
    assert os.path.exists("results.csv")
    assert not os.path.exists("best.safetensors")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--n", "0"], "argument --n: expected a whole number from 1 to 10000000, got '0'"),
        (["--cv", "1"], "argument --cv: expected a whole number of at least 2, got '1'"),
        (["--time-limit", "0"], "argument --time-limit: expected a number above 0, got '0'"),
        (["--hidden", "3"], "unrecognized arguments: --hidden 3"),
        (["--target", "x"], "--target is for a .csv"),
        (["--plot", "x.txt"], "expected a name that ends in .png, .pdf or .svg"),
        (["--table", "a.csv", "--save", "a.csv"], "--table a.csv would overwrite --save"),
        (["--save", "no/where"], "the folder"),
        (["--cv", "200"], "cv: expected at most as many folds as rows"),
    ],
)
def test_bad_options(refused, options, what):
    assert what in refused("tune", "iris", *options)
