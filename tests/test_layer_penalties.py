"""l1 and l2 of single layers: in place of those of the call, in every function that has an objective."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from engine_cases import RULES, TOLERANCE, chain, problem
from network_cases import data

import fastnn as fnn
from fastnn import curvature
from fastnn.backends import find_backend
from fastnn.plan import OpSpec, Segment, UpdateRule, parameter_ranges

pytestmark = pytest.mark.every_simd

L1, L2 = 0.01, 0.3
#: Of the three dense layers: the first has both of its own, the second is exempt from l2, the third has none.
OWN: tuple[dict[str, float], ...] = ({"l1": 0.02, "l2": 0.5}, {"l2": 0.0}, {})
OF_L1, OF_L2 = (0.02, L1, L1), (0.5, 0.0, L2)


def layers(own: Any = OWN, hidden: str = "tanh", norm: bool = True) -> list[fnn.layers.Layer]:
    """A network with a layer norm between its first two dense layers."""
    first, second, third = own
    between = [fnn.LayerNorm()] if norm else []
    return [fnn.Dense(5, hidden, **first), *between, fnn.Dense(4, hidden, **second), fnn.Dense(3, **third)]


def make(own: Any = OWN, backend: str = "compiled", loss: str = "cross_entropy", **options: Any) -> fnn.Sequential:
    norm, hidden = options.pop("norm", True), options.pop("hidden", "tanh")
    options = {"dtype": "float64", "seed": 0, **options}
    return fnn.Sequential(layers(own, hidden, norm), input_size=6, loss=loss, backend=backend, **options)


NONE: tuple[dict[str, float], ...] = ({}, {}, {})
SMOOTH: tuple[dict[str, float], ...] = ({"l2": 0.5}, {"l2": 0.0}, {})


def weights(net: fnn.Sequential) -> list[str]:
    return [name for name in net.parameters if name.endswith("weight")]


def spread(net: fnn.Sequential, values: Any) -> np.ndarray:
    """Values of the dense layers at their weights, 0 elsewhere, (P,)."""
    found = np.zeros(net.n_parameters)
    at = {name: (start, int(np.prod(shape))) for name, start, shape in net.layout}
    for name, value in zip(weights(net), values, strict=True):
        start, size = at[name]
        found[start : start + size] = value
    return found


def test_the_objective_and_its_gradient(backend, dtype) -> None:
    X, y, w = data("cross_entropy")
    net, plain = make(backend=backend, dtype=dtype), make(NONE, backend, dtype=dtype)
    of_l1, of_l2, theta = spread(net, OF_L1), spread(net, OF_L2), net.theta.astype(np.float64)
    value, gradient = net.loss_and_gradient(X, y, sample_weight=w, l1=L1, l2=L2)
    bare, bare_gradient = plain.loss_and_gradient(X, y, sample_weight=w)
    rtol = 1e-5 if dtype == "float32" else 1e-13
    penalty = of_l1 @ abs(theta) + 0.5 * of_l2 @ theta**2
    assert value == pytest.approx(bare + penalty, rel=rtol)
    assert net.loss(X, y, l2=L2, l1=L1, sample_weight=w) == value
    np.testing.assert_allclose(gradient, bare_gradient + of_l1 * np.sign(theta) + of_l2 * theta, rtol=rtol, atol=rtol)
    assert net.evaluate(X, y) == plain.evaluate(X, y)  # without penalties
    # nothing is given: the layers' own ones are there all the same
    assert net.loss(X, y) - plain.loss(X, y) == pytest.approx(
        0.02 * abs(theta[:30]).sum() + 0.25 * theta[:30] @ theta[:30], rel=1e-4 if dtype == "float32" else 1e-10
    )
    assert fnn.check_gradient(net, X, y, l1=L1, l2=L2)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.3}, {"clip_value": 0.1}], ids=str)
@pytest.mark.parametrize(
    "optimizer", [fnn.SGD(0.1), fnn.Adam(0.01), fnn.AdamW(0.01), fnn.NAG(0.05), fnn.KFAC()], ids=str
)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_in_all_layers_is_that_of_the_call_bit_for_bit(optimizer, options, threads, dtype) -> None:
    X, y, w = data("cross_entropy", 67)
    results = []
    for own, given in ((NONE, {"l1": L1, "l2": L2}), (({"l1": L1, "l2": L2},) * 3, {"l1": 0.005, "l2": 7.0})):
        net = make(own, dtype=dtype)
        trainer = fnn.Trainer(
            net, X, y, sample_weight=w, optimizer=optimizer, batch_size=16, threads=threads, **given, **options
        )
        epochs = list(trainer.epochs(3))
        results.append((net.theta, [epoch.loss for epoch in epochs], [epoch.penalty for epoch in epochs]))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("clip_norm", [None, 0.2])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule)))
def test_the_engine_is_the_reference(rule, clip_norm, dtype, rng) -> None:
    sizes = [6, 11, 7, 3]
    ops, n_parameters = chain(sizes, ["tanh", "tanh", "linear"])
    own = ({"l1": 2e-3, "l2": 0.1}, {"l2": 0.0}, {})
    ops = [op._replace(**values) for op, values in zip(ops, own, strict=True)]
    theta, X, y, w = problem(sizes, "cross_entropy", dtype, 107, rng)
    order = np.stack([rng.permutation(107) for _ in range(3)])
    results = []
    for name, threads in (("reference", 1), ("compiled", 1), ("compiled", 3)):
        plan = find_backend(name).Plan(ops, n_parameters, "cross_entropy", dtype)
        trained, moments = theta.copy(), np.zeros((rule.n_moments, n_parameters), dtype)
        options: dict[str, Any] = {"sample_weight": w, "l1": 1e-3, "l2": 0.02, "clip_norm": clip_norm}
        result = plan.train(trained, moments, X, y, order, 16, rule, 0, threads=threads, record_norms=True, **options)
        results.append((trained, result))
    (expected, expected_result), *compiled = results
    for trained, result in compiled:
        np.testing.assert_allclose(trained, expected, rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(result.losses, expected_result.losses, rtol=1e-5)
        np.testing.assert_allclose(result.penalties, expected_result.penalties, rtol=1e-5)
        np.testing.assert_allclose(result.norms, expected_result.norms, rtol=1e-3, atol=1e-12)


def loop(net: fnn.Sequential, X: np.ndarray, y: np.ndarray, rate: float, epochs: int) -> list[tuple[float, float]]:
    """Batches of 10 rows of a tanh network for squared errors, by hand: proximal steps; objective and penalty."""
    W, b = net.parameters["0.weight"].copy(), net.parameters["0.bias"].copy()
    V, c = net.parameters["1.weight"].copy(), net.parameters["1.bias"].copy()
    figures = []
    for _ in range(epochs):
        loss = penalty = 0.0
        for start in range(0, len(X), 10):
            x, t = X[start : start + 10], y[start : start + 10]
            h = np.tanh(x @ W + b)
            delta = (h @ V + c - t) / len(x)
            of_batch = 0.03 * abs(W).sum() + 0.5 * 0.2 * (W**2).sum() + 0.5 * 0.7 * (V**2).sum()
            loss += 0.5 * ((h @ V + c - t) ** 2).sum() + of_batch * len(x)
            penalty += of_batch * len(x)
            back = delta @ V.T * (1 - h * h)
            W_new = W - rate * (x.T @ back + 0.2 * W)
            V = V - rate * (h.T @ delta + 0.7 * V)
            W = np.sign(W_new) * np.maximum(abs(W_new) - rate * 0.03, 0.0)
            b, c = b - rate * back.sum(axis=0), c - rate * delta.sum(axis=0)
        figures.append((loss / len(X), penalty / len(X)))
    net.theta[...] = np.concatenate([part.ravel() for part in (W, b, V, c)])
    return figures


def test_training_against_a_loop_in_numpy(backend, rng) -> None:
    X, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    parts = [fnn.Dense(5, "tanh", l1=0.03, l2=0.2), fnn.Dense(2, l1=0.0)]
    net = fnn.Sequential(parts, input_size=6, loss="squared_error", dtype="float64", seed=0, backend=backend)
    other = net.copy()
    options: dict[str, Any] = {"l1": 9.0, "l2": 0.7, "threads": 1, "shuffle": False, "batch_size": 10}
    results = list(fnn.Trainer(net, X, y, optimizer=fnn.SGD(0.1), **options).epochs(30))
    figures = np.array(loop(other, X, y, 0.1, 30))
    np.testing.assert_allclose(net.theta, other.theta, rtol=0, atol=1e-12)
    np.testing.assert_allclose([result.loss for result in results], figures[:, 0], rtol=1e-12)
    np.testing.assert_allclose([result.penalty for result in results], figures[:, 1], rtol=1e-12)
    assert 0 < np.count_nonzero(net.parameters["0.weight"] == 0.0) < 30
    assert np.count_nonzero(net.parameters["1.weight"]) == 10


def test_gradients_whose_squares_overflow_are_clipped_alike(dtype) -> None:
    """Their norm is taken in other units, and so are the layers' penalties."""
    ops, n_parameters = chain([3, 2], ["linear"])
    ops = [ops[0]._replace(l2=0.5)]
    theta = np.linspace(1.0, 2.0, n_parameters).astype(dtype)
    X = np.full((4, 3), 1e160 if dtype == "float64" else 1e15, dtype)
    y, results = np.zeros((4, 2), dtype), []
    huge = theta * (1e100 if dtype == "float64" else 1.0)
    for name in ("compiled", "reference"):
        trained = huge.copy()
        plan = find_backend(name).Plan(ops, n_parameters, "absolute_error", dtype)
        result = plan.train(trained, np.zeros((0, n_parameters), dtype), X, y, None, 4, UpdateRule("sgd", 1.0), 0,
                            clip_norm=1e-3, l2=0.1)  # fmt: skip
        results.append(trained - huge)
        assert result.status == "ok"
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_second_derivatives(backend) -> None:
    X, y, w = data("cross_entropy", 23)
    net, plain = make(SMOOTH, backend), make(NONE, backend)
    ridge, given = spread(net, OF_L2), {"sample_weight": w, "l2": L2}
    bare = {"sample_weight": w}
    V = np.random.default_rng(0).normal(size=net.n_parameters)
    close: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}
    for name in ("hessian", "ggn", "empirical_fisher"):
        found, expected = getattr(curvature, name)(net, X, y, **given), getattr(curvature, name)(plain, X, y, **bare)
        np.testing.assert_allclose(found, expected + np.diag(ridge), err_msg=name, **close)
        operator = getattr(curvature, f"{name}_operator")(net, X, y, **given)
        np.testing.assert_allclose(operator @ V, found @ V, err_msg=name, **close)
        np.testing.assert_allclose(pickle.loads(pickle.dumps(operator)) @ V, found @ V, err_msg=name, **close)
    H = curvature.hessian(net, X, y, **given)
    np.testing.assert_allclose(curvature.hessian_diagonal(net, X, y, **given), np.diag(H), **close)
    ggn = curvature.ggn(net, X, y, **given)
    np.testing.assert_allclose(curvature.ggn_diagonal(net, X, y, **given), np.diag(ggn), **close)
    for function, matrix in ((curvature.hessian_blocks, H), (curvature.ggn_blocks, ggn)):
        blocks = function(net, X, y, **given)
        for index, block in blocks.items():
            place = net.ops[index].parameters
            np.testing.assert_allclose(block, matrix[place, place], **close)
    assert curvature.trace(net, X, y, **given) == pytest.approx(np.trace(H), rel=1e-10)
    assert curvature.convexity_report(net, X, y, **given).smallest == pytest.approx(np.linalg.eigvalsh(H)[0], abs=1e-9)
    assert fnn.check_hessian(net, X, y, l2=L2)
    objective = fnn.Objective(net, X, y, w, L2)
    np.testing.assert_allclose(objective.hessian(net.theta), H, **close)
    np.testing.assert_allclose(objective.hessp(net.theta, V), H @ V, **close)
    np.testing.assert_allclose(objective.gradient(net.theta), net.gradient(X, y, sample_weight=w, l2=L2), **close)


def test_l1_has_no_second_derivative() -> None:
    X, y, _ = data("cross_entropy", 23)
    net, smooth = make(OWN), make(SMOOTH)
    np.testing.assert_array_equal(curvature.hessian(net, X, y, l2=L2), curvature.hessian(smooth, X, y, l2=L2))
    assert fnn.check_hessian(net, X, y, l2=L2)


def test_kronecker_factors(rng) -> None:
    X, y, _ = data("cross_entropy", 23)
    net, plain = make(SMOOTH, norm=False), make(NONE, norm=False)
    found, bare = curvature.kfac_factors(net, X, y, l2=L2), curvature.kfac_factors(plain, X, y)
    V = rng.normal(size=net.n_parameters)
    np.testing.assert_allclose(found.operator(0.1) @ V, bare.operator(0.1) @ V + spread(net, OF_L2) * V, rtol=1e-12)
    for index, l2 in enumerate(OF_L2):
        part = np.zeros_like(V)
        part[net.ops[index].parameters] = V[net.ops[index].parameters]
        np.testing.assert_allclose(found.inverse(0.1) @ part, bare.inverse(0.1 + l2) @ part, rtol=1e-12)


def test_training_with_kfac_takes_each_layers_damping(monkeypatch) -> None:
    X, y, _ = data("cross_entropy", 40)
    from fastnn.training import kfac

    seen = []
    original = kfac.split_damping
    monkeypatch.setattr(kfac, "split_damping", lambda A, G, damping: seen.append(damping) or original(A, G, damping))
    net = make(OWN, norm=False)
    net.fit(X, y, optimizer=fnn.KFAC(damping=0.25), l2=L2, epochs=1, batch_size=None)
    assert seen == [0.25 + l2 for l2 in OF_L2]
    nets = [make(OWN, name) for name in ("compiled", "reference")]
    for one in nets:
        one.fit(X, y, optimizer=fnn.KFAC(kind="empirical"), l1=L1, l2=L2, epochs=3, batch_size=10, threads=1, seed=0)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "solver",
    [fnn.LBFGS(100, 1e-8), fnn.Newton(50, 1e-8), fnn.GaussNewtonCG(100, 1e-8), fnn.LevenbergMarquardt(100, 1e-8)],
    ids=lambda solver: type(solver).__name__,
)
def test_solvers_find_the_minimum(solver) -> None:
    X, y, _ = data("squared_error", 30)
    net = fnn.Sequential(
        [fnn.Dense(2, "tanh", l2=0.2), fnn.Dense(3)], input_size=6, loss="squared_error", dtype="float64", seed=0
    )
    net.fit(X, y, optimizer=solver, l2=0.05)
    objective = fnn.Objective(net, X, y, l2=0.05)
    plain = fnn.Sequential([fnn.Dense(2, "tanh"), fnn.Dense(3)], input_size=6, loss="squared_error", dtype="float64")
    plain.theta[...] = net.theta
    gradient = plain.gradient(X, y) + spread(net, (0.2, 0.05)) * net.theta
    assert np.linalg.norm(gradient) < 1e-5
    np.testing.assert_allclose(objective.gradient(net.theta), gradient, rtol=0, atol=1e-12)


def test_residuals_are_those_of_the_objective() -> None:
    X, y, w = data("squared_error", 20)
    net = make(SMOOTH, loss="squared_error", norm=False)
    objective = fnn.Objective(net, X, y, w, 0.05)
    r, J = objective.residuals(net.theta), objective.jacobian(net.theta)
    assert 0.5 * r @ r == pytest.approx(objective.value(net.theta), rel=1e-12)
    np.testing.assert_allclose(J.T @ r, objective.gradient(net.theta), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(J.T @ J, curvature.ggn(net, X, y, sample_weight=w, l2=0.05), rtol=1e-9, atol=1e-12)


def test_uncertainty_knows_them() -> None:
    X, y, _ = data("squared_error", 200, outputs=2)
    head = {"input_size": 6, "loss": "squared_error", "dtype": "float64", "seed": 0}
    nets = [fnn.Sequential([fnn.Dense(2, **own)], **head) for own in ({"l2": 0.1}, {})]
    for net, l2 in zip(nets, (3.0, 0.1), strict=True):
        net.fit(X, y, optimizer=fnn.Newton(20, 1e-10), l2=l2)
    for options in ({}, {"robust": True}, {"noise": "pooled"}):
        errors = [
            curvature.standard_errors(net, X, y, l2=l2, **options) for net, l2 in zip(nets, (3.0, 0.1), strict=True)
        ]
        for name in errors[0]:
            np.testing.assert_allclose(errors[0][name], errors[1][name], rtol=1e-9)
    found = [curvature.influence(net, X, y, X[:3], l2=l2) for net, l2 in zip(nets, (3.0, 0.1), strict=True)]
    np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-12)
    # The prior of a Laplace approximation is its own.
    for structure in ("full", "block", "kfac", "last_layer"):
        posteriors = [curvature.Laplace(net, X, y, structure=structure, prior_precision=2.0) for net in nets]
        deviations = [posterior.predictive(X[:5]).std for posterior in posteriors]
        np.testing.assert_allclose(*deviations, rtol=1e-8)
    rows = [curvature.per_sample_gradients(net, X, y) for net in nets]
    np.testing.assert_allclose(*rows, atol=1e-9)  # of the loss of a row


def test_a_softmax_with_an_l2_of_its_own_has_standard_errors() -> None:
    X, y, _ = data("cross_entropy", 150)
    nets = [
        fnn.Sequential([fnn.Dense(3, l2=l2)], input_size=6, loss="cross_entropy", dtype="float64", seed=0)
        for l2 in (0.1, None)
    ]
    errors = []
    for net, l2 in zip(nets, (0.0, 0.1), strict=True):
        net.fit(X, y, optimizer=fnn.Newton(30, 1e-10), l2=l2)
        errors.append(curvature.standard_errors(net, X, y, l2=l2))
    np.testing.assert_allclose(errors[0]["0.weight"], errors[1]["0.weight"], rtol=1e-8)


def test_files_copies_and_resumed_trainings_keep_them(backend, tmp_path) -> None:
    X, y, _ = data("cross_entropy", 40)
    options: dict[str, Any] = {"l1": L1, "l2": L2, "batch_size": 8, "seed": 5, "threads": 1}
    whole = make(backend=backend)
    whole.fit(X, y, epochs=4, **options)
    half = make(backend=backend)
    half.fit(X, y, epochs=2, **options)
    half.save(tmp_path / "net.safetensors", training_state=True)
    loaded = fnn.load(tmp_path / "net.safetensors", backend=backend)
    assert loaded.layers == half.layers
    for net in (loaded, pickle.loads(pickle.dumps(half)), half.copy()):
        net.fit(X, y, epochs=4, resume=True, **options)
        np.testing.assert_array_equal(net.theta, whole.theta)
    double = make(backend=backend, dtype="float32").astype("float64")
    assert [op.l2 for op in double.ops] == [0.5, None, 0.0, None]
    assert "l1=0.02, l2=0.5" in repr(whole.layers[0])
    assert "penalties of their own: 0 Dense l1=0.02, 0 Dense l2=0.5, 2 Dense l2=0" in whole.summary()
    assert "penalties" not in make(NONE).summary()


def test_a_member_of_a_sweep_is_the_lone_training() -> None:
    X, y, _ = data("cross_entropy", 60)

    def model(first: float) -> fnn.Sequential:
        return make(({"l2": first}, {}, {}), dtype="float32")

    common: dict[str, Any] = {"epochs": 3, "batch_size": 16, "l2": 0.01, "seed": 4}
    result = fnn.sweep(model, {"first": [0.0, 0.5]}, X, y, validation_split=0.25, refit=False, **common)
    train, held = result.folds[0].train, result.folds[0].validation
    for index, first in enumerate((0.0, 0.5)):
        net = model(first)
        net.fit(X[train], y[train], validation_data=(X[held], y[held]), threads=1, **common)
        np.testing.assert_array_equal(result.network(index).theta, net.theta)


def test_the_ranges_of_theta() -> None:
    ops = [
        OpSpec("dense", -1, 2, 3, 0, 6, "tanh", l1=0.5, l2=0.0),
        OpSpec("dense", 0, 3, 1, 9, 12, "linear"),
    ]
    found = parameter_ranges(ops, 13)
    assert found[0] == Segment(0, 6, True, 1.0, 0.5, 0.0)
    assert [part.penalties(0.1, 0.2) for part in found] == [(0.5, 0.0), (0.0, 0.0), (0.1, 0.2), (0.0, 0.0)]


@pytest.mark.parametrize("name", ["compiled", "reference"])
def test_plans_refuse(name) -> None:
    plan = find_backend(name).Plan
    ops, n = chain([2, 2, 2], ["tanh", "linear"])
    for value in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match="does not fit"):
            plan([ops[0]._replace(l2=value), ops[1]], n, "squared_error", "float64")
    norm = OpSpec("layer_norm", -1, 2, 2, 0, 2, "linear", epsilon=1e-5, l1=0.1)
    with pytest.raises(ValueError, match="does not fit"):
        plan([norm, OpSpec("dense", 0, 2, 1, 4, -1, "linear")], 6, "squared_error", "float64")
    shared = [OpSpec("dense", -1, 2, 2, 0, -1, "tanh", l2=0.1), OpSpec("dense", 0, 2, 2, 0, -1, "linear")]
    with pytest.raises(ValueError, match=r"ops\[0\]: shares its weight with an operation that has other penalties"):
        plan(shared, 4, "squared_error", "float64")


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="l1 must be a finite number >= 0, got -1"):
        fnn.Dense(3, l1=-1)
    with pytest.raises(TypeError, match="l2 must be a"):
        fnn.Dense(3, l2="0.1")
    assert type(fnn.Dense(3, l2=1).l2) is float
    X, y, _ = data("cross_entropy")
    net, before = make(), make().theta.copy()
    with pytest.raises(ValueError, match=r"clip_value: expected at least l1=0\.02 of layer 0, got 0\.01"):
        net.fit(X, y, clip_value=0.01)
    with pytest.raises(ValueError, match=r"l1: LBFGS needs a differentiable objective, got l1=0\.02 of layer 0"):
        net.fit(X, y, optimizer=fnn.LBFGS())
    with pytest.raises(ValueError, match=r"net: Objective is to be differentiable, got l1=0\.02 of layer 0"):
        fnn.Objective(net, X, y)
    np.testing.assert_array_equal(net.theta, before)
    make(NONE).fit(X, y, clip_value=0.01, epochs=1)
