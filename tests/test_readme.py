"""What README.md shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: None) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    X, y = fnn.datasets.load_digits()
    images = np.zeros((len(X), 784), np.uint8)
    images[:, :64] = X
    monkeypatch.setattr(fnn.datasets, "load_mnist", lambda: (images[:1500], y[:1500], images[1500:], y[1500:]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:  # in order: the later ones use what the earlier ones have made
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "mnist.safetensors").exists()
    assert names["result"].best_score > 0.9
    assert names["H"].shape == (67, 67)
    assert names["history"].result.converged
