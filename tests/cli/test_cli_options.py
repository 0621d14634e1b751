"""Options of the command line, what is checked before it trains, and Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from cli_cases import flowers, line_data, table, write_csv

import fastnn as fnn
from fastnn import cli
from fastnn.cli import tables
from fastnn.sequential import load

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
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.fullmatch(
        r"fastnn: interrupted after \d+ of 1000000 epochs; the network so far is in m", err.splitlines()[-1]
    )
    assert "Traceback" not in err
    assert load("m").n_parameters == 8970
