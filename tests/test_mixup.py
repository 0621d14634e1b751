"""Mixup: the distribution of its draws, its loss against mixed targets, and trainings that use it."""

from __future__ import annotations

import copy

import knobs
import numpy as np
import pytest

import fastnn as fnn
from fastnn.reference.augment import draw_mixing

pytestmark = pytest.mark.every_simd

STEP = fnn.SGD(1.0)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0, 1e6])
def test_shares_are_beta_and_rows_uniform(alpha) -> None:
    stats = pytest.importorskip("scipy.stats")
    n = 4000
    mixing = draw_mixing(n, alpha, 3, 5, 1, None, np.dtype(np.float64))
    assert stats.kstest(mixing.share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert stats.kstest((mixing.other + 0.5) / n, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(mixing.share, mixing.other)[0, 1]) < 4 / np.sqrt(n)


@pytest.mark.parametrize("alpha", [1e-300, 2.0**30])
def test_shares_at_the_limits(alpha) -> None:
    share = draw_mixing(1000, alpha, 3, 5, 0, None, np.dtype(np.float32)).share
    if alpha < 1:
        assert set(share) == {0, 1}
    else:
        np.testing.assert_allclose(share, 0.5, atol=1e-4)


def network(loss: str, backend: str, outputs: int = 3, **options) -> fnn.Sequential:
    layers = options.pop("layers", [fnn.Dense(9, "tanh"), fnn.Dense(outputs)])
    return fnn.Sequential(layers, input_size=5, loss=loss, dtype="float64", seed=1, backend=backend, **options)


def data(loss: str, n: int = 40, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5))
    if loss == "cross_entropy":
        return X, rng.integers(0, outputs, n)
    if loss in ("binary_cross_entropy", "poisson"):
        return X, rng.integers(0, 2, (n, outputs)).astype(float)
    return X, rng.normal(size=(n, outputs))


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss", ["cross_entropy", "binary_cross_entropy", "poisson", "squared_error", "huber", "absolute_error"]
)
def test_a_step_is_that_of_the_mixed_rows(loss, weighted, backend, request) -> None:
    """One step of gradient descent on both targets of the mixed rows, which are here rows with weights."""
    if backend == "compiled":
        request.getfixturevalue("compiled")
    X, y = data(loss)
    w = np.linspace(0, 2, 40) if weighted else np.ones(40)
    net = network(loss, backend)
    before = copy.deepcopy(net)
    options = {"optimizer": STEP, "epochs": 1, "batch_size": 40, "shuffle": False, "l2": 1e-3}
    history = net.fit(X, y, augment=[fnn.augment.Mixup(0.7)], sample_weight=w if weighted else None, **options)
    seed = net.training_state.augment_seed
    share, other = draw_mixing(40, 0.7, seed, 0, 0, w, np.dtype(np.float64))
    mixed = share[:, None] * X + (1 - share)[:, None] * X[other]
    assert not weighted or (share[w[other] == 0] == 1).all()
    options["batch_size"] = 80
    both = np.concatenate([mixed, mixed]), np.concatenate([y, y[other]]), np.concatenate([w * share, w * (1 - share)])
    expected = before.fit(both[0], both[1], sample_weight=both[2], **options)
    np.testing.assert_allclose(net.theta, before.theta, rtol=1e-10, atol=1e-12)
    assert history["loss"][0] == pytest.approx(expected["loss"][0], rel=1e-10)
    if loss == "cross_entropy":
        assert history["accuracy"][0] == pytest.approx(expected["accuracy"][0])


def test_the_cross_entropy_is_that_of_mixed_targets(compiled) -> None:
    X, y = data("cross_entropy")
    net = network("cross_entropy", "compiled")
    soft = copy.deepcopy(net)
    options = {"optimizer": STEP, "epochs": 1, "batch_size": 40, "shuffle": False}
    net.fit(X, y, augment=[fnn.augment.Mixup(1.0)], **options)
    share, other = draw_mixing(40, 1.0, net.training_state.augment_seed, 0, 0, None, np.dtype(np.float64))
    share = share[:, None]
    soft.fit(share * X + (1 - share) * X[other], share * np.eye(3)[y] + (1 - share) * np.eye(3)[y[other]], **options)
    np.testing.assert_allclose(net.theta, soft.theta, rtol=1e-10, atol=1e-12)


LISTS = [
    [fnn.augment.Mixup(0.4)],
    [fnn.augment.Noise(0.2), fnn.augment.Shift(1, shape=(1, 5)), fnn.augment.Mixup(0.4), fnn.augment.Noise(0.1)],
]


@pytest.mark.parametrize("augment", LISTS, ids=["alone", "among others"])
@pytest.mark.parametrize("optimizer", [fnn.Adam(0.02), fnn.KFAC()], ids=["adam", "kfac"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_both_backends_and_all_threads(loss, optimizer, augment, compiled) -> None:
    X, y = data(loss, 203)
    norm = fnn.LayerNorm() if isinstance(optimizer, fnn.KFAC) else fnn.BatchNorm()
    layers = [fnn.Dense(9), norm, fnn.Activation("relu"), fnn.Dropout(0.1), fnn.Dense(3)]

    def trained(backend: str, threads: int) -> fnn.Sequential:
        net = network(loss, backend, layers=layers)
        net.fit(
            X, y, epochs=2, batch_size=64, augment=augment, optimizer=optimizer, threads=threads, deterministic=True
        )
        return net

    with knobs.changed(min_work=1.0, shard_rows=1e-6, exchange=0.0, training_share=1e-6, training_rows=1e-6):
        ours = [trained("compiled", threads) for threads in (1, 2, 3)]
    for net in ours[1:]:
        np.testing.assert_array_equal(net.theta, ours[0].theta)
    np.testing.assert_allclose(ours[0].theta, trained("reference", 1).theta, rtol=1e-6, atol=1e-8)


def test_shapes_of_the_work_and_the_place_of_rows(compiled) -> None:
    """Chunks, rows in order, batches of an iterator, sparse and narrow networks have the same mixed rows."""
    sparse = pytest.importorskip("scipy.sparse")
    X, y = data("cross_entropy", 120)
    X[X < 0] = 0
    options = {"epochs": 2, "augment": LISTS[1], "optimizer": fnn.Adam(0.02), "deterministic": True}
    expected = network("cross_entropy", "compiled").fit(X, y, batch_size=60, shuffle=False, **options)["loss"]
    batches = [(X[i : i + 60], y[i : i + 60]) for i in (0, 60)]
    got = network("cross_entropy", "compiled").fit(batches, **options)["loss"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    got = network("cross_entropy", "compiled").fit(sparse.csr_array(X), y, batch_size=60, shuffle=False, **options)
    np.testing.assert_allclose(got["loss"], expected, rtol=1e-12)
    with knobs.changed(chunk_bytes=4096, chunk_share=0.0, zeros_sample=16):
        got = network("cross_entropy", "compiled").fit(X, y, batch_size=60, shuffle=False, **options)["loss"]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_resumed_training_has_the_same_bits(backend, tmp_path) -> None:
    X, y = data("cross_entropy", 100)
    options = {"augment": LISTS[1], "batch_size": 32, "threads": 1}
    whole, half = (network("cross_entropy", backend) for _ in range(2))
    whole.fit(X, y, epochs=4, **options)
    half.fit(X, y, epochs=2, **options)
    half.save(tmp_path / "net.safetensors", training_state=True)
    net = fnn.load(tmp_path / "net.safetensors", backend=backend)
    net.fit(X, y, epochs=4, resume=True, **options)
    np.testing.assert_array_equal(net.theta, whole.theta)
