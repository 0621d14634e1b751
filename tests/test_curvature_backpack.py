"""Diagonals and K-FAC factors against BackPACK's, kept in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curvature_cases import BACKENDS

import fastnn as fnn
from fastnn import curvature as cv

with np.load(Path(__file__).with_name("golden") / "backpack.npz") as _file:
    GOLDEN = dict(_file)  # made by make_backpack.py beside it


@pytest.mark.parametrize("backend", BACKENDS)
def test_backpack(backend):
    net = fnn.Sequential(
        [fnn.Dense(5, "tanh"), fnn.Dense(4, "sigmoid"), fnn.Dense(3)],
        input_size=4,
        loss="cross_entropy",
        dtype="float64",
        backend=backend,
    )
    net.theta[...] = GOLDEN["theta"]
    X, y = GOLDEN["X"], GOLDEN["y"]
    np.testing.assert_allclose(cv.hessian_diagonal(net, X, y), GOLDEN["diag_h"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cv.ggn_diagonal(net, X, y), GOLDEN["diag_ggn_exact"], rtol=1e-9, atol=1e-12)
    for i, (A, G) in cv.kfac_factors(net, X, y).items():
        np.testing.assert_allclose(A[:-1, :-1], GOLDEN[f"A{i}"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(G, GOLDEN[f"G{i}"], rtol=1e-9, atol=1e-12)
