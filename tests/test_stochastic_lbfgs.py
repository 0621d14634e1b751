"""Stochastic L-BFGS: its pairs and its step, compiled against the reference and against dense BFGS."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.plan import UpdateRule
from fastnn.reference.lbfgs import lbfgs_direction
from fastnn.training.pairs import Pairs, _compact

LAYERS = {
    "dense": [fnn.Dense(9, "tanh"), fnn.Dense(5, "relu", bias=False), fnn.Dense(3)],
    "norm": [fnn.Dense(9), fnn.BatchNorm(), fnn.Activation("tanh"), fnn.Scale(), fnn.Dense(3)],
    "rates": [fnn.Dense(9, "tanh", learning_rate_multiplier=0.0), fnn.Dense(3, l2=0.1, learning_rate_multiplier=2.0)],
}


def pairs_of(P, m, rng, dtype="float64"):
    """Pairs of a positive definite matrix."""
    root = rng.normal(size=(P, P)) / np.sqrt(P)
    S = rng.normal(size=(m, P))
    return S.astype(dtype), (S @ (root @ root.T + 0.1 * np.eye(P))).astype(dtype)


def dense_inverse(S, Y):
    """BFGS's H by its update, docs/theory.md, eq. 10.8."""
    P = S.shape[1]
    H = S[-1] @ Y[-1] / (Y[-1] @ Y[-1]) * np.eye(P)
    for s, y in zip(S, Y, strict=True):
        rho = 1.0 / (s @ y)
        left = np.eye(P) - rho * np.outer(s, y)
        H = left @ H @ left.T + rho * np.outer(s, s)
    return H


@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_the_compact_form_is_bfgs(count, rng):
    S, Y = pairs_of(12, count, rng)
    ring = np.zeros((2, 5, 12))
    for k in range(count):
        ring[0, k % 5], ring[1, k % 5] = S[k], Y[k]
    basis, middle, gamma = _compact(*ring, count)
    expected = dense_inverse(S[-5:], Y[-5:])
    np.testing.assert_allclose(gamma * np.eye(12) + basis.T @ middle @ basis, expected, rtol=1e-8, atol=1e-10)
    g = rng.normal(size=12)
    np.testing.assert_allclose(lbfgs_direction(g, basis, middle, gamma, 1.0, 1e9), expected @ g, rtol=1e-8)
    clipped = lbfgs_direction(g, basis, middle, gamma, 0.5, 1e-3)
    assert 0.25 * clipped @ np.linalg.solve(expected, clipped) == pytest.approx(1e-3)


@pytest.mark.every_simd
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("clip", [1e9, 1e-3])
@pytest.mark.parametrize("m", [0, 1, 6])
def test_compiled_step_equals_the_reference(layers, dtype, threads, clip, m, many_workers):
    rule = UpdateRule("lbfgs", 0.1, momentum=0.9, kl_clip=clip)
    results = []
    for backend in ("compiled", "reference"):
        rng = np.random.default_rng(0)
        net = fnn.Sequential(layers, input_size=7, loss="cross_entropy", dtype=dtype, seed=1, backend=backend)
        X, y = rng.normal(size=(50, 7)).astype(dtype), rng.integers(0, 3, 50)
        S, Y = pairs_of(net.n_parameters, m, rng, dtype) if m else (np.zeros((1, net.n_parameters), dtype),) * 2
        theta, moments, state = net.theta.copy(), np.zeros((1, net.n_parameters), dtype), net.state.copy()
        result = net.plan.train(
            theta,
            moments,
            X,
            y,
            rng.permutation(50)[None].astype(np.int64),
            16,
            rule,
            0,
            l1=1e-3,
            l2=0.01,
            clip_norm=0.5,
            threads=threads,
            buffers=state,
            preconditioner=_compact(S, Y, m),
        )
        assert (result.status, result.steps) == ("ok", 4)
        assert not np.array_equal(theta, net.theta)
        results.append((theta, moments, result.losses, result.penalties))
    tolerance = 2e-4 if dtype == "float32" else 1e-10
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_missing_metric_is_refused(backend):
    net = fnn.Sequential([fnn.Dense(2)], input_size=3, loss="squared_error", seed=0, backend=backend)
    X, y, moments = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32), np.zeros((1, 8), np.float32)
    for wrong in (None, (1, 2)):
        with pytest.raises(ValueError, match="preconditioner: expected a tuple of B, N and gamma"):
            net.plan.train(net.theta, moments, X, y, None, 2, UpdateRule("lbfgs", 0.1), 0, preconditioner=wrong)


def data(n=200):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 6))
    return X, (X[:, :3] + 0.3 * rng.normal(size=(n, 3))).argmax(1)


def network(dtype="float64", layers=None, loss="cross_entropy", **options):
    layers = layers or [fnn.Dense(8, "tanh"), fnn.Dense(3)]
    return fnn.Sequential(layers, input_size=6, loss=loss, dtype=dtype, seed=2, **options)


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
@pytest.mark.parametrize("weighted", [False, True])
def test_pairs_are_their_definition(curvature, weighted):
    X, y = data()
    net = network(layers=[fnn.Dense(8, "tanh", l2=0.5), fnn.Dense(3)])  # a penalty of its own
    w = np.random.default_rng(5).uniform(0.0, 2.0, len(X)) if weighted else None
    optimizer = fnn.StochasticLBFGS(memory=3, damping=0.05, curvature=curvature)
    pairs = Pairs(net, optimizer, 0.2, 1)
    state, rng = pairs.start(), np.random.default_rng(0)
    kept_s, kept_y = [], []
    before = net.theta.copy()
    for visit in range(5):
        matrix = getattr(fnn.curvature, curvature)(net, X, y, sample_weight=w, l2=0.2) + 0.05 * np.eye(net.n_parameters)
        s = net.gradient(X, y, sample_weight=w, l2=0.2) if visit == 0 else net.theta - before
        s /= np.linalg.norm(s)
        kept_s.append(s)
        kept_y.append(matrix @ s)
        basis, middle, gamma = pairs.update(state, X, y, w, rng)
        H = gamma * np.eye(net.n_parameters) + basis.T @ middle @ basis
        expected = dense_inverse(np.array(kept_s[-3:]), np.array(kept_y[-3:]))
        np.testing.assert_allclose(H, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
        before = net.theta.copy()
        net.theta[...] -= 0.1 * H @ net.gradient(X, y)


def test_where_nothing_moves_or_counts_there_is_no_new_pair():
    X, y = data()
    net = network()
    pairs = Pairs(net, fnn.StochasticLBFGS(), 0.0, 1)
    state = pairs.start()
    basis, _, gamma = pairs.update(state, X, y, np.zeros(len(X)), np.random.default_rng(0))
    assert (len(basis), gamma) == (0, 1.0)
    state = pairs.start()
    first = pairs.update(state, X, y, None, np.random.default_rng(0))
    again = pairs.update(state, X, y, None, np.random.default_rng(0))
    np.testing.assert_array_equal(first[0], again[0])


@pytest.mark.parametrize("backend", ["compiled", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_resumes_bit_for_bit(backend, dtype, tmp_path):
    X, y = data()
    options = {
        "optimizer": fnn.StochasticLBFGS(fnn.CosineDecay(0.2, 6), momentum=0.5, memory=4, update_every=3),
        "batch_size": 16,
        "l2": 1e-3,
        "threads": 1,
        "validation_split": 0.2,
    }
    whole = network(dtype, backend=backend)
    expected = whole.fit(X, y, epochs=6, callbacks=[fnn.EarlyStopping(patience=20)], **options)
    assert expected["loss"][-1] < 0.6 * expected["loss"][0]
    part = network(dtype, backend=backend)
    stopping = fnn.EarlyStopping(patience=20)
    part.fit(X, y, epochs=3, callbacks=[stopping, fnn.Checkpoint(tmp_path / "a")], **options)
    loaded = fnn.load(tmp_path / "a", backend=backend) if backend == "reference" else fnn.load(tmp_path / "a")
    found = loaded.fit(X, y, epochs=6, callbacks=[fnn.EarlyStopping(patience=20)], resume=True, **options)
    assert loaded.theta.tobytes() == whole.theta.tobytes()
    assert found["val_loss"] == expected["val_loss"]


def test_deterministic_bits_with_any_number_of_threads(many_workers):
    X, y = data(1200)
    options = {"optimizer": fnn.StochasticLBFGS(update_every=3), "batch_size": 200, "epochs": 2, "deterministic": True}
    nets = [network("float32", layers=LAYERS["dense"]) for _ in range(3)]
    for threads, net in zip((1, 2, 4), nets, strict=True):
        net.fit(X, y, threads=threads, **options)
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes() == nets[2].theta.tobytes()


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_trains_every_kind_of_network_compiled_as_in_the_reference(layers):
    X, y = data()
    thetas = []
    for backend in ("compiled", "reference"):
        net = network(layers=layers, backend=backend)
        net.fit(X, y, epochs=3, batch_size=25, optimizer=fnn.StochasticLBFGS(update_every=4), l2=1e-3, seed=0)
        thetas.append(net.theta)
    np.testing.assert_allclose(thetas[0], thetas[1], rtol=1e-6, atol=1e-8)


def test_batches_from_an_iterator_clipping_weights_and_norms():
    X, y = data()
    net = network()
    batches = [(X[i : i + 20], y[i : i + 20]) for i in range(0, 200, 20)]
    history = net.fit(batches, epochs=8, optimizer="stochastic_lbfgs", clip_norm=1.0)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    weight = np.where(np.arange(200) < 40, 0.0, 1.0)
    net.fit(X, y, epochs=2, batch_size=20, optimizer="stochastic_lbfgs", sample_weight=weight, record_norms=True)
    assert np.isfinite(net.history["update_ratio/0.weight"]).all()


def test_one_full_batch_step_on_a_quadratic_is_lbfgs():
    """With all rows in each batch, λ → 0, η = 1 and a pair for every step it minimises a quadratic as L-BFGS does."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 4)) * [1.0, 4.0, 0.2, 10.0]
    y = X @ rng.normal(size=4)
    net = fnn.Sequential([fnn.Dense(1, bias=False)], input_size=4, loss="squared_error", dtype="float64", seed=0)
    optimizer = fnn.StochasticLBFGS(1.0, damping=1e-12, kl_clip=1e9, update_every=1, memory=4)
    net.fit(X, y, epochs=40, batch_size=None, optimizer=optimizer, shuffle=False)
    assert net.loss(X, y) < 1e-10


def test_what_has_no_curvature_is_refused():
    X, y = data()
    for net, targets in (
        (network(loss="absolute_error"), X[:, :3]),
        (network(layers=[fnn.Dense(4, "sign"), fnn.Dense(3)]), y),
    ):
        before = net.theta.copy()
        with pytest.raises(ValueError, match=r"optimizer: StochasticLBFGS needs (a loss with )?curvature"):
            net.fit(X, targets, epochs=1, optimizer=fnn.StochasticLBFGS())
        np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a finite number > 0"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"damping": 0.0}, "damping must be"),
        ({"kl_clip": -1.0}, "kl_clip must be"),
        ({"memory": 0}, "memory must be an integer >= 1"),
        ({"update_every": 0}, "update_every must be"),
        ({"curvature_rows": 0}, "curvature_rows must be"),
        ({"curvature": "fisher"}, "curvature must be 'ggn' or 'hessian', got 'fisher'"),
    ],
)
def test_bad_descriptions(options, message):
    with pytest.raises(ValueError, match=message):
        fnn.StochasticLBFGS(**options)
