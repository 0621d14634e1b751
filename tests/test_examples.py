"""The scripts in examples/ run, leave their files where they are told to, and show what they claim."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from curvature_cases import BACKENDS

import fastnn as fnn

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def example(compiled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ModuleType]:
    """Loads a script by its name; the working folder is an empty one."""
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for the types they name
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.skipif("compiled" not in BACKENDS, reason="the compiled engine has no linearize")
def test_document_000(example, tmp_path, capsys):
    document = example("document_000")
    H = document.main([])
    manual, passes = document.by_hand()
    np.testing.assert_allclose(H, manual, rtol=1e-12)
    np.testing.assert_allclose(passes["∂δ/∂w"][0], [-0.1859, -0.0800, -0.0003, -0.0231], atol=5e-5)
    assert document.slips(H) == [(2, 4), (4, 4)]
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    for text in ("0.19427682", "0.35757201", "entries that the document has wrong: (2, 4), (4, 4)", "passed"):
        assert text in out


def test_document_001_in_full(example, tmp_path, capsys):
    curves = example("document_001").main(["--output", str(tmp_path / "out")])
    final = {method: values[:, :, -1] for method, values in curves.items()}
    assert final["NAG"].shape == (10, 3)
    assert np.median(final["NAG"][:, 1]) >= 0.98
    assert np.median(final["descent"][:, 1]) <= 0.9
    assert (final["NAG"][:, 0] < 0.2 * final["descent"][:, 0]).all()
    out = capsys.readouterr().out
    for text in ("passed", "0.807 / 0.825", "0.993 / 1.000", "10 starts"):
        assert text in out


def test_document_001_files(example, tmp_path):
    document = example("document_001")
    curves = document.main(["--seeds", "2", "--epochs", "60"])
    folder = tmp_path / "figures"
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "document_001.png",
        "document_001_descent.safetensors",
        "document_001_nag.safetensors",
    ]
    assert (folder / "document_001.png").read_bytes().startswith(PNG)
    X, y, X_test, y_test = document.split(0)
    assert (len(y), len(y_test)) == (110, 40)
    for method in ("descent", "NAG"):
        assert curves[method].shape == (2, 3, 60)
        net = fnn.load(folder / f"document_001_{method.lower()}.safetensors")
        expected = [*net.evaluate(X, y).values(), net.evaluate(X_test, y_test)["accuracy"]]
        np.testing.assert_array_equal(curves[method][0, :, -1], expected)
    assert (curves["NAG"][:, 0, -1] < curves["descent"][:, 0, -1]).all()


def test_document_003(example, tmp_path, capsys):
    document = example("document_003")
    table = document.main(["--seeds", "1", "--epochs", "3", "--trials", "2"])
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["document_003.csv", "document_003.png"]
    assert (tmp_path / "figures" / "document_003.png").read_bytes().startswith(PNG)
    lines = (tmp_path / "figures" / "document_003.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(table) + 1 == 19
    assert all(np.isfinite(row).all() and row.shape == (7,) for row in table.values())
    losses = {name: row[0] for (name, data), row in table.items() if data == "digits"}
    assert losses["… momentum"] < losses["deep, mini-batches"] < losses["deep, whole batch"]
    out = capsys.readouterr().out
    assert out.count("passed") == 7
    assert out.count("failed, as it should") == 2
    assert "labels decoded" in out


def test_document_003_split_and_labels(example):
    document = example("document_003")
    X, y, encoder = document.load("iris, 1 class")
    assert list(encoder.inverse_transform([0, 1])) == ["other", "versicolor"]
    assert y.sum() == 50
    X, y, encoder = document.load("iris")
    assert list(encoder.classes_) == ["setosa", "versicolor", "virginica"]
    assert [len(part[1]) for part in document.split(X, y, 0)] == [90, 30, 30]
    y = np.arange(20_000) % 2
    large = document.split(np.zeros((20_000, 1)), y, 0)
    assert [len(part[1]) for part in large] == [19_600, 200, 200]


@pytest.mark.parametrize("name", ["document_001", "document_003"])
def test_arguments_are_checked(example, name, capsys):
    with pytest.raises(SystemExit):
        example(name).main(["--seeds", "0"])
    assert "at least 1" in capsys.readouterr().err
