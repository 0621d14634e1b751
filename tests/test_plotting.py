"""Learning curves: what is drawn, where it is saved, what is refused. Spectra: test_curvature_diagnosis.py."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import datasets, plotting


def test_plot_history(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = datasets.load_iris()
    net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    history = net.fit(X, y, epochs=4)
    figure = plotting.plot_history(history, tmp_path / "x.png", title="iris")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    loss, accuracy = figure.axes
    assert loss.get_ylabel().startswith("loss")
    assert accuracy.get_ylabel() == "accuracy"
    assert accuracy.get_xlabel() == "epoch"
    np.testing.assert_allclose(loss.lines[0].get_ydata(), history["loss"])
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [1, 2, 3, 4])
    assert "matplotlib.pyplot" not in sys.modules


def test_plot_mapping_with_a_test_series():
    pytest.importorskip("matplotlib")
    figure = plotting.plot_history({"loss": [1.0, 0.01], "test_loss": [1.1, 0.5], "test_r2": [0.1, None]})
    loss, score = figure.axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "test"]
    assert loss.get_yscale() == "log"
    assert score.get_ylabel() == "R²"


def test_plot_into_given_axes():
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure()
    axes = figure.subplots(1, 2)
    assert plotting.plot_history({"loss": [1.0], "accuracy": [0.5]}, ax=axes) is figure
    assert len(axes[0].lines) == len(axes[1].lines) == 1
    single = figure_module.Figure().subplots()
    plotting.plot_history({"loss": [2.0, 1.0], "accuracy": [0.5, 0.6]}, ax=single)
    assert single.get_xlabel() == "epoch"


def test_plot_refuses(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="no finished epochs"):
        plotting.plot_history({"loss": []})
    with pytest.raises(ValueError, match=r"(?i)format"):
        plotting.plot_history({"loss": [1.0]}, tmp_path / "x.wrong")
    assert os.listdir(tmp_path) == []
