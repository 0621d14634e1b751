"""Minima of quadratic and cubic models with an exact matrix, by eigenvalues or by Cholesky factors.

Both classes hold the symmetric matrix B of a model m(p) = g·p + ½ p·B p and give, whether B is definite or not,

- ``trust_step(g, radius)``: the minimum of m in ‖p‖ ≤ radius (Moré and Sorensen 1983): (B + μ I) p = −g with μ ≥ 0,
  B + μ I ⪰ 0, and μ = 0 or ‖p‖ = radius; in the hard case p gets a part along the lowest eigenvector;
- ``cubic_step(g, sigma)``: the minimum of m + σ/3 ‖p‖³: the same equation with μ = σ ‖p‖ (Cartis et al. 2011);
- ``inverse(floor)``: a function that multiplies with the inverse of a B made positive definite;
- ``lowest()``: the lowest eigenvalue with its eigenvector.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_solve, eigh, get_lapack_funcs, solve_triangular

__all__ = ["BlockModel", "CholeskyModel", "QuadraticModel", "SpectralModel", "quadratic_model"]

#: Parameters of a block up to which its eigenvalues cost less than the several factorizations of a step would.
EIGEN_LIMIT = 600
#: Relative rounding error of an eigenvalue.
ROUNDING = 1e-12


class SpectralModel:
    """A block-diagonal matrix by the eigenvalues of its blocks; of a diagonal matrix, by the diagonal itself.

    Parameters
    ----------
    blocks : list of (slice, ndarray (n, n))
        They cover all parameters; or one (slice, ndarray (n,)), a diagonal.
    n : int
        Number of parameters.
    """

    def __init__(self, blocks: list[tuple[slice, np.ndarray]], n: int) -> None:
        self.values = np.zeros(n)
        self._bases: list[tuple[slice, np.ndarray]] = []
        for place, block in blocks:
            if block.ndim == 1:
                self.values[place] = block
                continue
            self.values[place], basis = eigh(block, check_finite=False, driver="evd")
            self._bases.append((place, basis))
        self.scale = float(np.abs(self.values).max(initial=0.0))

    def _to(self, vector: np.ndarray) -> np.ndarray:
        result = vector.copy()
        for place, basis in self._bases:
            result[place] = vector[place] @ basis
        return result

    def _back(self, vector: np.ndarray) -> np.ndarray:
        result = vector.copy()
        for place, basis in self._bases:
            result[place] = basis @ vector[place]
        return result

    def lowest(self) -> tuple[float, np.ndarray]:
        """The lowest eigenvalue, and its eigenvector."""
        at = int(np.argmin(self.values))
        unit = np.zeros(len(self.values))
        unit[at] = 1.0
        return float(self.values[at]), self._back(unit)

    def quadratic(self, p: np.ndarray) -> float:
        """p·B p."""
        a = self._to(p)
        return float(np.dot(a, self.values * a))

    def inverse(self, floor: float) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """v -> |B|⁻¹ v, |B| with eigenvalues of at least `floor` (Dauphin et al. 2014); how far the lowest was moved.

        A matrix that is positive definite beyond rounding stays as it is.
        """
        definite = self.values.min() > ROUNDING * self.scale
        positive = self.values if definite else np.maximum(np.abs(self.values), floor)
        at = int(np.argmin(self.values))
        return lambda v: self._back(self._to(v) / positive), float(positive[at] - self.values[at])

    def trust_step(self, g: np.ndarray, radius: float, guess: float = 0.0) -> tuple[np.ndarray, float]:
        """The step and μ; `guess` is not needed."""
        return self._secular(g, lambda mu: radius, 0.0, radius)

    def cubic_step(self, g: np.ndarray, sigma: float, guess: float = 0.0) -> tuple[np.ndarray, float]:
        """The step and μ = σ ‖p‖."""
        return self._secular(g, lambda mu: mu / sigma, 1.0 / sigma, None)

    def _secular(
        self, g: np.ndarray, length: Callable[[float], float], rate: float, radius: float | None
    ) -> tuple[np.ndarray, float]:
        """Root of ‖p(μ)‖ = length(μ), which rises at `rate`, right of −λ_min, by bisection and Newton's steps."""
        a, values = self._to(g), self.values
        lowest = float(values.min())
        tiny = 1e-14 * max(self.scale, 1e-300)
        lower = max(0.0, -lowest)

        def norm(mu: float) -> tuple[float, np.ndarray]:
            p = -a / np.maximum(values + mu, tiny)
            return float(np.linalg.norm(p)), p

        size, p = norm(lower)
        if size <= length(lower):
            if lower > 0.0 or lowest <= 0.0:  # the hard case: what is missing goes along the lowest eigenvector
                at = int(np.argmin(values))
                missing = math.sqrt(max(length(lower) ** 2 - size**2 + p[at] ** 2, 0.0))
                if lower > 0.0:
                    p[at] = math.copysign(missing, p[at] if p[at] else 1.0)
            return self._back(p), lower
        low, high = lower, max(2.0 * lower, 1e-3 * self.scale, tiny)
        while norm(high)[0] > length(high):
            low, high = high, 4.0 * high
        mu = high
        for _ in range(60):
            size, p = norm(mu)
            target = length(mu)
            if abs(size - target) <= 1e-3 * target:
                break
            if size > target:
                low = mu
            else:
                high = mu
            # Newton's method on 1/‖p‖ − 1/length, which is almost straight
            slope = float(np.dot(p, p / np.maximum(values + mu, tiny))) / size**3
            slope += rate / target**2 if target else 0.0
            proposal = mu - (1.0 / size - (1.0 / target if target else math.inf)) / slope if slope else math.inf
            mu = proposal if low < proposal < high else 0.5 * (low + high)
            if high - low <= 1e-15 * high:
                break
        return self._back(p), mu


class CholeskyModel:
    """A whole matrix by Cholesky factors of B + μ I, a few for a step.

    Parameters
    ----------
    B : ndarray (P, P) of float64
        Kept, not changed.
    shift : float
        What made the matrix before definite.
    """

    def __init__(self, B: np.ndarray, shift: float = 0.0) -> None:
        self.B = B
        self.diagonal = np.einsum("ii->i", B).copy()
        self._potrf = get_lapack_funcs("potrf", (B,))
        rows = np.abs(B).sum(axis=1)
        self.scale = min(float(rows.max()), float(np.linalg.norm(B)))
        self._factor = np.empty_like(B, order="F")
        self.shift = shift

    def factor(self, mu: float) -> np.ndarray | None:
        """Lower Cholesky factor of B + μ I, or None where it is not positive definite; its memory is used again."""
        np.copyto(self._factor, self.B.T)  # symmetric: the transpose has the same order of memory
        np.einsum("ii->i", self._factor)[...] += mu
        factor, info = self._potrf(self._factor, lower=1, overwrite_a=1, clean=0)
        return factor if info == 0 else None

    def lowest(self) -> tuple[float, np.ndarray]:
        """The lowest eigenvalue, and its eigenvector."""
        values, vectors = eigh(self.B, subset_by_index=[0, 0], check_finite=False)
        return float(values[0]), vectors[:, 0]

    def quadratic(self, p: np.ndarray) -> float:
        """p·B p."""
        return float(np.dot(p, self.B @ p))

    def inverse(self, floor: float) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """v -> (B + τ I)⁻¹ v, τ the first of a growing sequence that makes B + τ I positive definite; and τ.

        Nocedal and Wright 2006, algorithm 3.3, from a quarter of `shift`, or from 0 where that is below `floor`.
        """
        smallest = float(self.diagonal.min())
        tau = 0.25 * self.shift if self.shift > 4.0 * floor else 0.0
        if smallest <= 0.0:
            tau = max(tau, floor - smallest)
        while (factor := self.factor(tau)) is None:
            tau = max(2.0 * tau, floor)
        self.shift = tau
        return lambda v: cho_solve((factor, True), v, check_finite=False), tau

    def trust_step(self, g: np.ndarray, radius: float, guess: float = 0.0) -> tuple[np.ndarray, float]:
        """The step, its length within a tenth of the radius where it is not shorter, and μ; `guess` is tried first."""
        # ‖p‖ ≤ ‖g‖ / (μ − ‖B‖): an upper bound of μ (Conn, Gould & Toint 2000, section 7.3.8, p. 192).
        high = float(np.linalg.norm(g)) / radius + self.scale
        return self._search(g, lambda mu: radius, 0.0, guess, self._low(), high)

    def cubic_step(self, g: np.ndarray, sigma: float, guess: float = 0.0) -> tuple[np.ndarray, float]:
        """The step and μ, within a tenth of σ ‖p‖; `guess` is tried first."""
        norm = float(np.linalg.norm(g))
        low, high = self._low(), math.sqrt(sigma * norm) + self.scale
        # ‖g‖ / (‖B‖ + μ) ≤ ‖p‖ = μ / σ: a lower bound of μ.
        rate = 1.0 / sigma
        low = max(low, 2.0 * norm / rate / (self.scale + math.sqrt(self.scale**2 + 4.0 * norm / rate)))
        return self._search(g, lambda mu: mu / sigma, rate, guess, low, high)

    def _low(self) -> float:
        """A lower bound of μ: B + μ I ⪰ 0 has a diagonal of at least 0 (Conn, Gould & Toint 2000, p. 192)."""
        return max(0.0, -float(self.diagonal.min()))

    def _search(
        self, g: np.ndarray, length: Callable[[float], float], rate: float, guess: float, low: float, high: float
    ) -> tuple[np.ndarray, float]:
        """Find μ in [low, high] with ‖p(μ)‖ = length(μ) to a tenth, where B + μ I is definite; p(μ) and μ.

        p(μ) = −(B + μ I)⁻¹ g; `rate` is the derivative of length(μ). Bracketed Newton's method, one Cholesky factor for
        each μ (Conn, Gould & Toint 2000, algorithm 7.3.4, p. 194):

        - B + μ I is not definite: μ is too small;
        - ‖p‖ > length: μ is too small, and a Newton step of the secular equation goes on;
        - ‖p‖ < length: μ is too large, or the hard case: see :meth:`_extend`.
        """
        mu = guess if low <= guess <= high else low
        best: tuple[np.ndarray, float] | None = None
        for _ in range(30):
            factor = self.factor(mu)
            if factor is None:
                low = max(low, mu)
                mu = _beyond_indefinite(low, high)
                continue
            p = -cho_solve((factor, True), g, check_finite=False)
            size, target = float(np.linalg.norm(p)), length(mu)
            if abs(size - target) <= 0.1 * target or (size <= target and mu == 0.0):
                return p, mu
            proposal = _secular_step(factor, p, size, target, rate, mu)
            if size < target:
                high = mu
                best = p, mu
                extended, t, curvature = self._extend(factor, p, size, target)
                # The extension costs the model little against what p gains (the same, pp. 194-197).
                cheap = t * t * (mu + curvature) <= 0.1 * (mu * target**2 - float(np.dot(g, p)))
                if cheap and (not rate or high - low <= 1e-3 * high):
                    return extended, mu
                low = max(low, -curvature)  # λ_min ≤ z·B z
            else:
                low = mu
            mu = proposal if low < proposal < high else _between(low, high)
            if high - low <= 1e-12 * high:
                break
        if best is not None:
            return best
        factor = self.factor(high)
        while factor is None:
            high *= 2.0
            factor = self.factor(high)
        return -cho_solve((factor, True), g, check_finite=False), high

    def _extend(self, factor: np.ndarray, p: np.ndarray, size: float, target: float) -> tuple[np.ndarray, float, float]:
        """The hard case: p + t z of the target's length along an almost lowest eigenvector z, ‖z‖ = 1.

        z by three steps of inverse iteration with the factor at hand; t is the root of ‖p + t z‖ = target of the
        smaller size. Also t, and z·B z.
        """
        z = np.random.default_rng(0).standard_normal(len(p))
        for _ in range(3):
            z = cho_solve((factor, True), z / np.linalg.norm(z), check_finite=False)
        z /= np.linalg.norm(z)
        curvature = float(np.dot(z, self.B @ z))
        rest = target**2 - size**2
        along = float(np.dot(p, z))
        t = rest / (along + math.copysign(math.sqrt(along**2 + rest), along or 1.0))
        return p + t * z, t, curvature


def _secular_step(factor: np.ndarray, p: np.ndarray, size: float, target: float, rate: float, mu: float) -> float:
    """Newton's μ for 1/‖p(μ)‖ − 1/length(μ) = 0, which is almost linear in μ (Nocedal & Wright 2006, eq. 4.44).

    With B + μ I = L Lᵀ and L w = p, the derivative of 1/‖p‖ is ‖w‖² / ‖p‖³. NaN where p = 0.
    """
    if size == 0.0:
        return math.nan
    w = solve_triangular(factor, p, lower=True, check_finite=False)
    slope = float(np.dot(w, w)) / size**3 + (rate / target**2 if target else 0.0)
    return mu - (1.0 / size - (1.0 / target if target else math.inf)) / slope


def _between(low: float, high: float) -> float:
    """A μ between bounds: Conn, Gould & Toint 2000, eq. 7.3.14, p. 190, with θ = 0.01 as they recommend."""
    return max(math.sqrt(low * high), low + 0.01 * (high - low))


def _beyond_indefinite(low: float, high: float) -> float:
    """A μ above `low`, where B + μ I is not definite; at most ten times as large unless `low` is negligible."""
    larger = _between(low, high) if low else 1e-3 * high
    return min(larger, 10.0 * low) if low > 1e-6 * high else larger


class BlockModel:
    """A block-diagonal matrix by a model of each block: for directions, without trust regions.

    Parameters
    ----------
    blocks : list of (slice, ndarray (n, n))
        They cover all parameters.
    shift : float
        What made the matrix before definite.
    """

    def __init__(self, blocks: list[tuple[slice, np.ndarray]], shift: float = 0.0) -> None:
        self._models = [(place, quadratic_model(block, shift)) for place, block in blocks]
        self.scale = max(current.scale for _, current in self._models)

    def inverse(self, floor: float) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
        """v -> M⁻¹ v with the blocks' inverses; the largest of their shifts."""
        inverses = [(place, *current.inverse(floor)) for place, current in self._models]

        def multiply(v: np.ndarray) -> np.ndarray:
            result = np.empty_like(v)
            for place, inverse, _ in inverses:
                result[place] = inverse(v[place])
            return result

        return multiply, max(moved for _, _, moved in inverses)


QuadraticModel = SpectralModel | CholeskyModel


def quadratic_model(B: np.ndarray, shift: float = 0.0) -> QuadraticModel:
    """The class that is cheaper for a whole matrix of this size; `shift` is what made the last matrix definite."""
    B = np.ascontiguousarray(B, np.float64)
    return SpectralModel([(slice(0, len(B)), B)], len(B)) if len(B) <= EIGEN_LIMIT else CholeskyModel(B, shift)
