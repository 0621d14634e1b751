"""K-FAC's step: compiled against the reference."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import losses
from fastnn.plan import UpdateRule
from fastnn.training.kfac import Factors

pytestmark = pytest.mark.every_simd


def problem(layers, dtype, backend, seed=0):
    rng = np.random.default_rng(seed)
    net = fnn.Sequential(layers, input_size=7, loss="cross_entropy", dtype=dtype, seed=1, backend=backend)
    X = rng.normal(size=(50, 7)).astype(dtype)
    y = rng.integers(0, 3, 50)
    inverses = []
    for op in net.ops:
        if op.kind != "dense":
            inverses.append(None)
            continue
        pair = []
        for n in (op.n_in + (op.bias >= 0), op.n_out):
            B = rng.normal(size=(n, n)) / np.sqrt(n)
            pair.append((B @ B.T + 0.5 * np.eye(n)).astype(dtype))
        inverses.append(tuple(pair))
    return net, X, y, inverses


LAYERS = {
    "dense": [fnn.Dense(9, "tanh"), fnn.Dense(5, "relu", bias=False), fnn.Dense(3)],
    "norm": [fnn.Dense(9), fnn.LayerNorm(), fnn.Activation("tanh"), fnn.Dense(3)],
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("clip", [1e9, 1e-3])
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_compiled_step_equals_the_reference(layers, dtype, threads, clip, l1, many_workers):
    rule = UpdateRule("kfac", 0.1, momentum=0.9, kl_clip=clip)
    results = []
    for backend in ("compiled", "reference"):
        net, X, y, inverses = problem(layers, dtype, backend)
        theta, slots = net.theta.copy(), np.zeros((1, net.n_parameters), dtype)
        order = np.random.default_rng(3).permutation(50)[None].astype(np.int64)
        result = net.plan.train(
            theta,
            slots,
            X,
            y,
            order,
            16,
            rule,
            0,
            l1=l1,
            l2=0.01,
            clip_norm=0.9 if l1 else None,
            threads=threads,
            buffers=net.state,
            preconditioner=inverses,
        )
        assert result.status == "ok"
        assert result.steps == 4
        assert not np.array_equal(theta, net.theta)
        results.append((theta, slots, result.losses))
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=tolerance)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_deterministic_bits(threads, many_workers):
    rule = UpdateRule("kfac", 0.1, momentum=0.9, kl_clip=1e-3)
    thetas = []
    for n in (1, threads):
        net, X, y, inverses = problem(LAYERS["dense"], "float32", "compiled")
        theta, slots = net.theta.copy(), np.zeros((1, net.n_parameters), np.float32)
        net.plan.train(theta, slots, X, y, None, 25, rule, 0, threads=n, deterministic=True, preconditioner=inverses)
        thetas.append(theta)
    np.testing.assert_array_equal(*thetas)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_l1_stops_weights_at_zero_and_lets_them_leave_downhill(backend):
    """One step, without factors but 1, by the formula of docs/theory.md (8.20)."""
    net = fnn.Sequential([fnn.Dense(1)], input_size=6, loss="squared_error", dtype="float64", seed=0, backend=backend)
    W, b, l1, rate = np.array([0.1, -0.1, 0.1, 0.0, 0.0, 0.0]), 0.5, 0.2, 1.0
    gradient = np.array([0.05, 0.3, -0.3, 0.1, 0.4, -0.5])  # of one row x with residual r: r x
    residual = 0.5
    x = gradient / residual
    theta, velocity = np.append(W, b), np.full((1, 7), 1e-3)
    y = np.array([[x @ W + b - residual]])
    rule = UpdateRule("kfac", rate, momentum=0.5, kl_clip=1e9)
    pair = (np.eye(7), np.eye(1))
    result = net.plan.train(theta, velocity, x[None], y, None, 1, rule, 0, l1=l1, preconditioner=[pair])
    assert result.status == "ok"
    step = np.array([5e-4 - 0.25, 5e-4 - 0.1, 5e-4 + 0.1, 5e-4, 5e-4 - 0.2, 5e-4 + 0.3, 5e-4 - 0.5])
    # 0: passes through 0; 3: the gradient is less than l1
    expected = np.array([0.0, W[1] + step[1], W[2] + step[2], 0.0, step[4], step[5], b + step[6]])
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(velocity[0], np.where([1, 0, 0, 1, 0, 0, 0], 0.0, step), rtol=1e-12, atol=1e-15)


def test_missing_factors_are_refused(backend):
    net, X, y, inverses = problem(LAYERS["dense"], "float32", backend)
    slots = np.zeros((1, net.n_parameters), np.float32)
    for wrong in (None, inverses[:1]):
        with pytest.raises(ValueError, match="preconditioner: expected a pair of inverse factors"):
            net.plan.train(net.theta, slots, X, y, None, 25, UpdateRule("kfac", 0.1), 0, preconditioner=wrong)


def small(seed=0, n=96):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    y = (X[:, :3] + 0.3 * rng.normal(size=(n, 3))).argmax(1)
    return X, y


def network(loss="cross_entropy", dtype="float64", **options):
    return fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=6, loss=loss, dtype=dtype, seed=2, **options)


@pytest.mark.parametrize("weighted", [False, True])
def test_empirical_factors_are_their_definition(weighted):
    X, y = small()
    net = network()
    w = np.random.default_rng(5).uniform(0, 2, len(X)) if weighted else None
    if w is not None:
        w[:3] = 0
    factors = Factors(net, fnn.KFAC(kind="empirical", damping=0.1), 0.2, 1)
    array = factors.start()
    inverses = factors.update(array, X, y, w, np.random.default_rng(0))
    weight = np.ones(len(X)) if w is None else w
    W1, b1 = net.parameters["0.weight"], net.parameters["0.bias"]
    W2, b2 = net.parameters["1.weight"], net.parameters["1.bias"]
    hidden = np.tanh(X @ W1 + b1)
    p = fnn.reference.softmax(hidden @ W2 + b2)
    p[np.arange(len(y)), y] -= 1
    deltas = [(p @ W2.T) * (1 - hidden**2), p]
    at = 1
    for inputs, delta, pair in zip((X, hidden), deltas, inverses, strict=True):
        inputs = np.hstack([inputs, np.ones((len(X), 1))])
        A = (inputs.T * weight) @ inputs / weight.sum()
        G = (delta.T * weight) @ delta / weight.sum()
        for expected in (A, G):
            got = array[at : at + expected.size].reshape(expected.shape)
            at += expected.size
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)
        pi = np.sqrt(np.trace(A) / len(A) * len(G) / np.trace(G))
        np.testing.assert_allclose(pair[0], np.linalg.inv(A + pi * 0.3**0.5 * np.eye(len(A))), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(pair[1], np.linalg.inv(G + 0.3**0.5 / pi * np.eye(len(G))), rtol=1e-9, atol=1e-12)
    assert at == factors.size


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error", "huber", "poisson"])
def test_sampled_gradients_have_the_loss_hessian_as_covariance(loss):
    rng = np.random.default_rng(0)
    net = network(loss)
    X = np.repeat(rng.normal(size=(1, 6)), 40_000, axis=0)
    y = {"cross_entropy": np.zeros(len(X), np.int64)}.get(loss, np.full((len(X), 3), 0.5))
    lin = net.plan.linearize(net.theta, X, y)
    sample = losses.get(loss).draw(lin.outputs, lin.curvature, rng)
    q = lin.curvature[0]
    expected = np.diag(q) - np.outer(q, q) if loss == "cross_entropy" else np.diag(q)
    np.testing.assert_allclose(sample.T @ sample / len(X), expected, atol=5 * q.max() / np.sqrt(len(X)))
    assert np.abs(sample.mean(axis=0)).max() < 5 * np.sqrt(q.max() / len(X))


@pytest.mark.parametrize("kind", ["mc", "empirical"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_learns(kind, dtype):
    X, y = small(n=400)
    net = network(dtype=dtype)
    history = net.fit(X, y, optimizer=fnn.KFAC(0.1, kind=kind), epochs=15, batch_size=50, seed=0, l2=1e-4)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert net.evaluate(X, y)["accuracy"] > 0.85


def test_resume_goes_on_bit_for_bit(tmp_path):
    X, y = small()
    options = {"optimizer": fnn.KFAC(0.05, update_every=2), "batch_size": 20, "seed": 7}
    straight = network()
    straight.fit(X, y, epochs=5, **options)
    net = network()
    net.fit(X, y, epochs=2, **options)
    net.save(tmp_path / "net.safetensors", training_state=True)
    again = fnn.load(tmp_path / "net.safetensors")
    again.fit(X, y, epochs=5, resume=True, **options)
    np.testing.assert_array_equal(again.theta, straight.theta)
    np.testing.assert_array_equal(again.training_state.factors, straight.training_state.factors)


def test_stream_equals_arrays():
    X, y = small(n=60)
    batches = [(X[i : i + 20], y[i : i + 20]) for i in range(0, 60, 20)]
    one, other = network(), network()
    optimizer = fnn.KFAC(0.05, update_every=1, kind="empirical")
    one.fit(lambda: iter(batches), optimizer=optimizer, epochs=2)
    other.fit(X, y, optimizer=optimizer, epochs=2, batch_size=20, shuffle=False)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-9)


def test_networks_without_row_gradients_are_refused():
    X, y = small()
    net = fnn.Sequential([fnn.Dense(8), fnn.BatchNorm(), fnn.Dense(3)], input_size=6, loss="cross_entropy", seed=0)
    with pytest.raises(ValueError, match="K-FAC needs gradients of single rows"):
        net.fit(X, y, optimizer="kfac")
    with pytest.raises(ValueError, match="absolute_error has none"):
        network("absolute_error").fit(X, X[:, :3], optimizer=fnn.KFAC())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0"),
        ({"damping": -1.0}, "damping must be a finite number > 0"),
        ({"decay": 1.0}, "decay must be a finite number >= 0 and < 1"),
        ({"update_every": 0}, "update_every must be an integer >= 1"),
        ({"kind": "exact"}, "kind must be 'mc' or 'empirical'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fnn.KFAC(**arguments)


def test_divergence_is_reported():
    X, _y = small()
    net = network("squared_error", dtype="float32")
    before = net.theta.copy()
    with pytest.raises(fnn.DivergenceError):
        net.fit(X * 1e3, 1e30 * np.ones((len(X), 3)), optimizer=fnn.KFAC(kind="empirical"), epochs=3, batch_size=16)
    np.testing.assert_array_equal(net.theta, before)
