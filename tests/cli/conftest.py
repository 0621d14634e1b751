"""Fixtures of the tests of the command line, which is driven in process."""

import os

import pytest

from fastnn import cli


@pytest.fixture(autouse=True)
def in_tmp_path(monkeypatch, tmp_path, request, compiled):
    """Run in an empty folder, with no data and no cache of the user's."""
    pytest.importorskip("pandas")
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
