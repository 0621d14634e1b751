"""Learning curves: what is drawn, where it is saved, what is refused. Spectra: test_curvature_diagnosis.py."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import datasets, plotting


def test_plot_history(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # for a file it is not imported
    X, y = datasets.load_iris()
    net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    history = net.fit(X, y, epochs=4)
    axes = plotting.plot_history(history, tmp_path / "x.png", title="iris")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    loss, accuracy = axes
    assert list(axes[0].figure.axes) == [loss, accuracy]
    assert loss.get_ylabel().startswith("loss")
    assert accuracy.get_ylabel() == "accuracy"
    assert accuracy.get_xlabel() == "epoch"
    np.testing.assert_allclose(loss.lines[0].get_ydata(), history["loss"])
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [1, 2, 3, 4])


def test_plot_mapping_with_a_test_series():
    pytest.importorskip("matplotlib")
    loss, score = plotting.plot_history({"loss": [1.0, 0.01], "test_loss": [1.1, 0.5], "test_r2": [0.1, None]})
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "test"]
    assert loss.get_yscale() == "log"
    assert score.get_ylabel() == "R²"


def test_plot_into_given_axes():
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure()
    axes = figure.subplots(1, 2)
    assert list(plotting.plot_history({"loss": [1.0], "accuracy": [0.5]}, ax=axes)) == list(axes)
    assert len(axes[0].lines) == len(axes[1].lines) == 1
    single = figure_module.Figure().subplots()
    plotting.plot_history({"loss": [2.0, 1.0], "accuracy": [0.5, 0.6]}, ax=single)
    assert single.get_xlabel() == "epoch"


def test_plots_to_look_at_are_figures_of_pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    before = set(pyplot.get_fignums())
    X, y = datasets.load_iris()
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    axes = net.fit(X, y, epochs=3, validation_split=0.2, metrics=["f1"]).plot()
    assert [axis.get_ylabel() for axis in axes] == ["loss", "accuracy", "f1"]
    new = set(pyplot.get_fignums()) - before
    assert [pyplot.figure(number) for number in new] == [axes[0].figure]
    spectrum = fnn.curvature.spectrum(net, X, y, n_vectors=1, seed=0)
    axis = spectrum.plot()
    assert axis.figure is pyplot.gcf()
    peak = spectrum.density()[1].max()
    low, high = axis.get_ylim()
    assert low == pytest.approx(0.1 * peak / spectrum.n_parameters)
    assert peak < high < 3.0 * peak
    pyplot.close("all")


def test_the_best_epoch_and_the_unit_are_shown():
    pytest.importorskip("matplotlib")
    X, y = datasets.load_iris()
    net = fnn.Sequential([fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    history = net.fit(X, y, optimizer=fnn.LBFGS(max_iter=5), validation_split=0.2)
    figure = pytest.importorskip("matplotlib.figure").Figure()
    (axis,) = plotting.plot_history(history, ax=figure.subplots())
    best = 1 + int(np.argmin(history["val_loss"]))
    assert axis.get_xlabel() == "iteration"
    assert list(axis.lines[-1].get_xdata()) == [best, best]
    assert axis.get_legend().get_texts()[-1].get_text() == f"smallest validation loss (iteration {best})"


def test_plot_refuses(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="no finished epochs"):
        plotting.plot_history({"loss": []})
    with pytest.raises(ValueError, match=r"(?i)format"):
        plotting.plot_history({"loss": [1.0]}, tmp_path / "x.wrong")
    assert os.listdir(tmp_path) == []
