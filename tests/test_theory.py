"""docs/theory.md: its equations are numbered, cited where they exist, and those that can be evaluated hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn

ROOT = Path(__file__).resolve().parents[1]
THEORY = ROOT / "docs" / "theory.md"
NUMBER = re.compile(r"(?<=\S)\s\s+\((\d+\.\d+)\)$|\| \((\d+\.\d+)\) \|", re.MULTILINE)
CITATION = re.compile(r"theory\.md`*,?\s+\(?(?:eqs?\.|equations?)\s+((?:\d+\.\d+(?:,| and| to|-)?\s*)+)")


def numbers() -> list[str]:
    return [a or b for a, b in NUMBER.findall(THEORY.read_text(encoding="utf-8"))]


def test_equations_are_numbered_consecutively_in_every_section() -> None:
    sections: dict[int, list[int]] = {}
    for number in numbers():
        section, equation = map(int, number.split("."))
        sections.setdefault(section, []).append(equation)
    assert len(sections) == 13
    for section, found in sections.items():
        assert found == list(range(1, len(found) + 1)), f"section {section}"


def test_equations_mentioned_in_the_text_exist() -> None:
    text = THEORY.read_text(encoding="utf-8")
    assert set(re.findall(r"\((\d{1,2}\.\d{1,2})\)", text)) <= set(numbers())


def test_equations_cited_in_the_code_exist() -> None:
    known = set(numbers())
    files = [path for folder in ("src", "csrc", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in [*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".md"} and path != THEORY:
            for cited in CITATION.findall(re.sub(r"\n\s*(?:\*|//|#)?\s*", " ", path.read_text(encoding="utf-8"))):
                assert set(re.findall(r"\d+\.\d+", cited)) <= known, f"{path}: {cited}"


def test_every_reference_is_cited() -> None:
    body, references = THEORY.read_text(encoding="utf-8").split("## 15. References")
    entries = re.findall(r"^- ([^,]+),.*?\((\d{4})[ab]?\)", references, re.MULTILINE)
    assert len(entries) > 60
    for author, year in entries:
        assert re.search(rf"{author}[^()]*\(?(?:[^()]* )?{year}", body.replace("\n", " ")), (author, year)


# The equations, as they are written, against the library -------------------------------------------------------------


@pytest.fixture(params=["cross_entropy", "squared_error", "poisson"])
def case(request: pytest.FixtureRequest) -> tuple[fnn.Sequential, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    last = "tanh" if request.param == "squared_error" else "linear"
    layers = [fnn.Dense(4, "tanh"), fnn.Dense(5, "softplus"), fnn.Dense(3, last)]
    net = fnn.Sequential(layers, input_size=2, loss=request.param, dtype="float64", seed=1, backend="reference")
    net.theta += 0.3 * rng.standard_normal(net.n_parameters)
    y = rng.integers(0, 3, 6) if request.param == "cross_entropy" else rng.poisson(2.0, (6, 3)).astype(float)
    return net, rng.standard_normal((6, 2)), y, rng.random(6)


class Row:
    """One row's forward and backward pass: equations 2.1, 2.2, 2.5, 3.1, 3.2."""

    def __init__(self, net: fnn.Sequential, x: np.ndarray, y: np.ndarray) -> None:
        self.W = [net.parameters[f"{i}.weight"] for i in range(3)]
        self.b = [net.parameters[f"{i}.bias"] for i in range(3)]
        self.x, self.z, self.first, self.second = [x], [], [], []
        for W, b, activation in zip(self.W, self.b, (layer.activation for layer in net.layers), strict=True):
            self.z.append(W.T @ self.x[-1] + b)
            a, first, second = fnn.reference.activation_derivatives(self.z[-1], activation)
            self.x.append(a)
            self.first.append(first)
            self.second.append(second)
        z = self.x[-1]
        if net.loss_name == "cross_entropy":
            p = np.exp(z - z.max())
            p /= p.sum()
            self.gradient, self.H = p - np.eye(3)[y], np.diag(p) - np.outer(p, p)
            self.roots = [np.sqrt(p[k]) * (np.eye(3)[k] - p) for k in range(3)]
        else:
            q = np.exp(z) if net.loss_name == "poisson" else np.ones(3)
            self.gradient, self.H = (np.exp(z) if net.loss_name == "poisson" else z) - y, np.diag(q)
            self.roots = list(np.diag(np.sqrt(q)))
        self.g, self.delta = self.backward(self.gradient)

    def backward(self, cotangent: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        g, delta = [cotangent], [self.first[2] * cotangent]
        for i in (2, 1):
            g.insert(0, self.W[i] @ delta[0])
            delta.insert(0, self.first[i - 1] * g[0])
        return g, delta

    def with_one(self, i: int) -> np.ndarray:
        return np.append(self.x[i], 1.0)

    def hessian(self) -> np.ndarray:
        """Equations 5.2 to 5.6."""
        D = [np.diag(first) for first in self.first]
        A: dict[tuple[int, int], np.ndarray] = {(2, 2): D[2] @ self.H @ D[2] + np.diag(self.second[2] * self.g[2])}
        J: dict[tuple[int, int], np.ndarray] = {}
        for i in (1, 0):
            A[i, i] = D[i] @ self.W[i + 1] @ A[i + 1, i + 1] @ self.W[i + 1].T @ D[i]
            A[i, i] += np.diag(self.second[i] * self.g[i])
            for m in range(i + 1, 3):
                A[i, m] = D[i] @ self.W[i + 1] @ A[i + 1, m]
                J[i, m] = D[i] if m == i + 1 else D[i] @ self.W[i + 1] @ J[i + 1, m]
        rows = []
        for i in range(3):
            blocks = []
            for m in range(3):
                if i > m:
                    blocks.append(rows[m][i].transpose(2, 3, 0, 1))
                    continue
                block = np.einsum("k,jo,q->kjqo", self.with_one(i), A[i, m], self.with_one(m))
                if i < m:
                    block[:, :, :-1] += np.einsum("k,jq,o->kjqo", self.with_one(i), J[i, m], self.delta[m])
                blocks.append(block)
            rows.append(blocks)
        flat = [[b.reshape(b.shape[0] * b.shape[1], -1) for b in blocks] for blocks in rows]
        return np.block(flat)

    def flat(self, delta: list[np.ndarray]) -> np.ndarray:
        """x̃ ⊗ δ of every layer: section 3."""
        return np.concatenate([np.kron(self.with_one(i), delta[i]) for i in range(3)])


Case = tuple[fnn.Sequential, np.ndarray, np.ndarray, np.ndarray]


def test_gradient_hessian_and_their_kin(case: Case) -> None:
    net, X, y, w = case
    rows = [Row(net, x, target) for x, target in zip(X, y, strict=True)]
    penalised = np.concatenate([np.append(np.ones(W.size), np.zeros(W.shape[1])) for W in rows[0].W])

    def mean(values: list[np.ndarray]) -> np.ndarray:
        return np.tensordot(w, np.array(values), 1) / w.sum()

    options = {"sample_weight": w, "l2": 0.1}
    close = {"rtol": 1e-10, "atol": 1e-12}
    gradients = [row.flat(row.delta) for row in rows]
    np.testing.assert_allclose(net.gradient(X, y, **options), mean(gradients) + 0.1 * penalised * net.theta, **close)
    H = mean([row.hessian() for row in rows])
    np.testing.assert_allclose(fnn.curvature.hessian(net, X, y, **options), H + 0.1 * np.diag(penalised), **close)
    jacobians = [np.array([row.flat(row.backward(e)[1]) for e in np.eye(3)]) for row in rows]  # (K, P)
    G = mean([J.T @ row.H @ J for J, row in zip(jacobians, rows, strict=True)])
    np.testing.assert_allclose(fnn.curvature.ggn(net, X, y, sample_weight=w), G, **close)
    F = mean([np.outer(g, g) for g in gradients])
    np.testing.assert_allclose(fnn.curvature.empirical_fisher(net, X, y, sample_weight=w), F, **close)
    M = np.sqrt(sum(wi * g**2 for wi, g in zip(w, gradients, strict=True)))
    np.testing.assert_allclose(fnn.curvature.preconditioner(net, X, y, sample_weight=w).diagonal, M, **close)

    v = np.random.default_rng(0).standard_normal(net.n_parameters)
    np.testing.assert_allclose(fnn.curvature.hessian_operator(net, X, y, sample_weight=w) @ v, H @ v, **close)
    np.testing.assert_allclose(products(net, rows, w, v), H @ v, **close)

    factors = fnn.curvature.kfac_factors(net, X, y, sample_weight=w)
    for i in range(3):
        omega = mean([np.outer(row.with_one(i), row.with_one(i)) for row in rows])
        deltas = [np.array([row.backward(c)[1][i] for c in row.roots]) for row in rows]
        gamma = mean([c.T @ c for c in deltas])
        np.testing.assert_allclose(factors[i][0], omega, **close)
        np.testing.assert_allclose(factors[i][1], gamma, **close)


def products(net: fnn.Sequential, rows: list[Row], w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """H v by equations 4.1 to 4.5."""
    total, at = np.zeros_like(v), 0
    dW, db = [], []
    for W in rows[0].W:
        dW.append(v[at : at + W.size].reshape(W.shape))
        db.append(v[at + W.size : at + W.size + W.shape[1]])
        at += W.size + W.shape[1]
    for row, weight in zip(rows, w / w.sum(), strict=True):
        dx, dz = [np.zeros(2)], []
        for i in range(3):
            dz.append(row.W[i].T @ dx[i] + dW[i].T @ row.x[i] + db[i])
            dx.append(row.first[i] * dz[i])
        dg = row.H @ dx[3]
        parts: list[np.ndarray] = []
        for i in (2, 1, 0):
            ddelta = row.first[i] * dg + row.second[i] * row.g[i] * dz[i]
            of_weight = np.outer(row.x[i], ddelta) + np.outer(dx[i], row.delta[i])
            parts.insert(0, np.append(of_weight, ddelta))
            dg = row.W[i] @ ddelta + dW[i] @ row.delta[i]
        total += weight * np.concatenate(parts)
    return total


@pytest.mark.parametrize("axis", [0, 1])
def test_tangents_of_normalisation(axis: int) -> None:
    """Equations 6.1 to 6.6 (axis 0) and 6.8 to 6.11 (axis 1), against differences."""
    rng = np.random.default_rng(axis)
    Z, dZ, g, dg = rng.standard_normal((4, 6, 3))
    gamma, dgamma = rng.standard_normal((2, 3))
    epsilon = 0.1

    def mean(c: np.ndarray) -> np.ndarray:
        return c.mean(axis=axis, keepdims=True)

    def reverse(Z: np.ndarray, gamma: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if axis == 0:
            _, mu, var = fnn.reference.batch_norm_forward(Z, gamma, np.zeros(3), epsilon)
            return fnn.reference.batch_norm_backward(g, Z, gamma, mu, var, epsilon)
        _, U, s = fnn.reference.layer_norm_forward(Z, gamma, np.zeros(3), epsilon)
        return fnn.reference.layer_norm_backward(g, U, gamma, s)

    s = (mean((Z - mean(Z)) ** 2) + epsilon) ** -0.5
    U = s * (Z - mean(Z))

    def P(c: np.ndarray) -> np.ndarray:
        return c - mean(c) - U * mean(U * c)

    dU, m2 = s * P(dZ), mean(U * dZ)
    if axis == 0:
        value = s * gamma * P(g)
        tangent = s * (dgamma * P(g) - gamma * s * m2 * P(g) + gamma * (P(dg) - dU * mean(U * g) - U * mean(dU * g)))
    else:
        c, dc = gamma * g, dgamma * g + gamma * dg
        value = s * P(c)
        tangent = s * (P(dc) - s * m2 * P(c) - dU * mean(U * c) - U * mean(dU * c))
    dX, of_gamma, of_beta = reverse(Z, gamma, g)
    np.testing.assert_allclose(dX, value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(of_gamma, (g * U).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(of_beta, g.sum(axis=0), rtol=1e-12)

    def along(h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return reverse(Z + h * dZ, gamma + h * dgamma, g + h * dg)

    h = 1e-3
    numeric = [
        (a - 8 * b + 8 * c - d) / (12 * h) for a, b, c, d in zip(*map(along, (-2 * h, -h, h, 2 * h)), strict=True)
    ]
    np.testing.assert_allclose(numeric[0], tangent, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(numeric[1], (dg * U + g * dU).sum(axis=0), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(numeric[2], dg.sum(axis=0), rtol=1e-8)


def test_scale() -> None:
    """Equations 6.12 to 6.14, against a network of one row of factors."""
    rng = np.random.default_rng(3)
    net = fnn.Sequential([fnn.Scale(), fnn.Dense(2)], input_size=4, loss="squared_error", dtype="float64", seed=0)
    net.theta[:4] = rng.standard_normal(4)
    X, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    s, W, b = (net.parameters[name] for name in ("0.scale", "1.weight", "1.bias"))
    v = rng.standard_normal(net.n_parameters)
    ds, dW, db = v[:4], v[4:12].reshape(4, 2), v[12:]
    Z, delta = X * s, (X * s) @ W + b - y
    g = delta @ W.T
    np.testing.assert_allclose(net.gradient(X, y)[:4], (g * X).sum(axis=0) / 5, rtol=1e-12)
    ddelta = (X * ds) @ W + Z @ dW + db
    dg = ddelta @ W.T + delta @ dW.T
    product = fnn.curvature.hessian_operator(net, X, y) @ v
    np.testing.assert_allclose(product[:4], (dg * X).sum(axis=0) / 5, rtol=1e-12)
    at_x = s * dg + ds * g
    # with a product in front, whose gradient is Xᵀ (∂R/∂z)
    before = fnn.Sequential(
        [fnn.Dense(4, bias=False), *net.layers], input_size=4, loss="squared_error", dtype="float64", seed=0
    )
    before.theta = np.concatenate([np.eye(4).ravel(), net.theta])
    moved = fnn.curvature.hessian_operator(before, X, y) @ np.concatenate([np.zeros(16), v])
    np.testing.assert_allclose(moved[:16].reshape(4, 4), X.T @ at_x / 5, rtol=1e-12, atol=1e-14)
