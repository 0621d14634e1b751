"""Laplace approximations: a Gaussian posterior of the parameters from the Gauss-Newton matrix, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, pi, sqrt
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import scipy.linalg
from scipy.optimize import brentq

from .._typing import ArrayLike, Data, Seed
from ..checks import check_integer, check_number, check_seed
from ..linalg.kronecker import KroneckerEigen
from ..linalg.memory import check_size
from ..network import Network
from .blocks import selected_blocks
from .kfac import kronecker_factors
from .linearization import Linearization
from .per_sample import fill_layer
from .predictive import Predictive, predictive
from .risk import EmpiricalRisk, in_double
from .whole import whole_matrix

__all__ = ["Laplace"]


class _Part(Protocol):
    """Some layers' part of the Gauss-Newton matrix G, a sum over the rows, and then of Σ = (G / σ² + δ I)⁻¹."""

    @property
    def place(self) -> slice:
        """Its parameters in theta."""
        ...

    @property
    def values(self) -> np.ndarray:
        """Eigenvalues of G, in any shape."""
        ...

    def settle(self, noise: float, delta: float) -> None:
        """Make Σ for σ² = noise and δ = delta; once."""
        ...

    def add_covariance(self, risk: EmpiricalRisk, passes: list[Linearization], out: np.ndarray) -> None:
        """Add J Σ Jᵀ of rows to `out` (n, K, K), from their backward passes from each output."""
        ...

    def covariance(self) -> np.ndarray:
        """Σ."""
        ...

    def row_elements(self, K: int) -> int:
        """Elements that :meth:`add_covariance` takes for a row."""
        ...


@dataclass
class _Matrix:
    """A part by its whole matrix: G, then L of Σ⁻¹ = L Lᵀ."""

    layers: tuple[int, ...]
    place: slice
    values: np.ndarray  # (p,)
    matrix: np.ndarray  # (p, p)

    @classmethod
    def of(cls, risk: EmpiricalRisk, layers: tuple[int, ...], mean: np.ndarray, total: float) -> _Matrix:
        """Of layers that follow each other, from the mean over the rows, which is overwritten, and their number."""
        place = slice(risk.place(layers[0]).start, risk.place(layers[-1]).stop)
        mean *= total
        values = scipy.linalg.eigh(mean, eigvals_only=True, check_finite=False, driver="evd")
        return cls(layers, place, np.maximum(values, 0.0), mean)

    def settle(self, noise: float, delta: float) -> None:
        self.matrix *= 1.0 / noise
        np.einsum("pp->p", self.matrix)[...] += delta
        # LAPACK counts in columns: to it the symmetric matrix is its transpose.
        self.matrix = scipy.linalg.cholesky(self.matrix.T, lower=True, overwrite_a=True, check_finite=False)

    def add_covariance(self, risk: EmpiricalRisk, passes: list[Linearization], out: np.ndarray) -> None:
        n, K = out.shape[:2]
        J = np.empty((n, K, len(self.values)))
        for k in range(K):
            for index in self.layers:
                place = risk.place(index)
                part = slice(place.start - self.place.start, place.stop - self.place.start)
                fill_layer(risk, passes[k], index, J[:, k, part])
        columns = J.reshape(n * K, -1).T
        solved = scipy.linalg.solve_triangular(self.matrix, columns, lower=True, overwrite_b=True, check_finite=False)
        Q = solved.T.reshape(n, K, -1)
        out += Q @ Q.transpose(0, 2, 1)

    def covariance(self) -> np.ndarray:
        result: np.ndarray = scipy.linalg.cho_solve((self.matrix, True), np.eye(len(self.values)), check_finite=False)
        return result

    def row_elements(self, K: int) -> int:
        return 2 * K * len(self.values)


class _Kronecker:
    """A dense layer's part as a Kronecker product."""

    def __init__(self, risk: EmpiricalRisk, index: int, eigen: KroneckerEigen) -> None:
        self.index, self.place, self.values = index, risk.place(index), eigen.values
        self._eigen = eigen
        self._inverse: np.ndarray  # eigenvalues of Σ

    def settle(self, noise: float, delta: float) -> None:
        self._inverse = 1.0 / (self.values / noise + delta)

    def add_covariance(self, risk: EmpiricalRisk, passes: list[Linearization], out: np.ndarray) -> None:
        x = passes[0].inputs(self.index).astype(np.float64, copy=False)
        out += self._eigen.quadratic(self._inverse, x, [lin.delta(self.index) for lin in passes])

    def covariance(self) -> np.ndarray:
        return self._eigen.matrix(self._inverse)

    def row_elements(self, K: int) -> int:
        m, n = self.values.shape
        elements: int = 2 * (m + (K + 1) * n)
        return elements


class _Structure(NamedTuple):
    """How the Gauss-Newton matrix is approximated."""

    parts: Callable[[EmpiricalRisk, float, int | None, str], Sequence[_Part]]
    instead: str  # in the refusal of its size


def _full(risk: EmpiricalRisk, total: float, max_bytes: int | None, instead: str) -> Sequence[_Part]:
    shape = 2, risk.n_parameters, risk.n_parameters
    check_size(risk.what, shape, risk.dtype, max_bytes, instead)
    return [_Matrix.of(risk, risk.layers_with_parameters(), whole_matrix(risk, "ggn", None, instead), total)]


def _block(risk: EmpiricalRisk, total: float, max_bytes: int | None, instead: str) -> Sequence[_Part]:
    return _layer_matrices(risk, risk.layers_with_parameters(), total, max_bytes, instead)


def _last_layer(risk: EmpiricalRisk, total: float, max_bytes: int | None, instead: str) -> Sequence[_Part]:
    return _layer_matrices(risk, (risk.dense_layers()[-1].index,), total, max_bytes, instead)


def _layer_matrices(
    risk: EmpiricalRisk, layers: tuple[int, ...], total: float, max_bytes: int | None, instead: str
) -> Sequence[_Part]:
    sizes = [place.stop - place.start for place in map(risk.place, layers)]
    elements = sum(size**2 for size in sizes) + max(sizes) ** 2
    check_size(risk.what, (elements,), risk.dtype, max_bytes, instead)
    blocks = selected_blocks(risk, "ggn", layers)
    return [_Matrix.of(risk, (i,), blocks.pop(i), total) for i in layers]


def _kfac(risk: EmpiricalRisk, total: float, max_bytes: int | None, instead: str) -> Sequence[_Part]:
    ops = [risk.ops[i] for i in risk.layers_with_parameters()]
    if any(op.kind != "dense" for op in ops):
        raise ValueError("structure='kfac' is for networks without norm layers; use 'block' or 'last_layer'")
    elements = sum((op.n_in + 1) ** 2 + op.n_out**2 for op in ops)
    check_size(risk.what, (3, elements), risk.dtype, max_bytes, instead)
    factors = kronecker_factors(risk, "ggn", None)
    return [_Kronecker(risk, i, KroneckerEigen.of(A, G, total)) for i, (A, G) in factors.items()]


STRUCTURES = {
    "full": _Structure(_full, "use structure='block', 'kfac' or 'last_layer'"),
    "block": _Structure(_block, "use structure='kfac' or 'last_layer'"),
    "kfac": _Structure(_kfac, "use structure='last_layer'"),
    "last_layer": _Structure(_last_layer, "use structure='kfac'"),
}


class Laplace:
    """Laplace approximation of the posterior of a network's parameters, θ ~ N(θ*, Σ).

    θ* is the network's present θ, which should be near a minimum of its objective. With the likelihood exp(−ℓ/σ²) of
    a row (σ² only for squared errors, else 1) and the prior N(0, I/δ) of all parameters, biases too::

        Σ⁻¹ = G / σ² + δ I           G = Σ_i w_i J_iᵀ H_ℓ J_i, the Gauss-Newton matrix as a sum over the rows
                                     (J_iᵀ diag(1/ρ) J_i for squared errors)
        "full"        G is exact
        "block"       its diagonal blocks, layer by layer, exact
        "kfac"        blocks A ⊗ G of dense layers, A and G means over the rows (:func:`kfac_factors`, kind "ggn")
        "last_layer"  the last dense layer's exact block; the parameters before it are taken as known

        log Z = log p(y | θ*) − ½ δ ‖θ*‖² + ½ P log δ − ½ log det(G / σ² + δ I)

    Of squared errors each output k has a noise variance of its own, σ_k² = σ² ρ_k, with ρ_k in the ratio of the
    outputs' sums of squared residuals and of mean 1: what enters are the residuals over √ρ_k, y − z in the following.
    δ and σ² are where the evidence Z is largest: in the eigenvalues d of G the condition for λ = δ σ² is
    Σ d / (d + λ) = λ ‖θ*‖² / σ², with σ² = (Σ w ‖y − z‖² + λ ‖θ*‖²) / (K Σ w) where that is free; its one root stands
    between bounds that are known (MacKay 1992). The σ_k² are then Σ w (y_k − z_k)² / (Σ w − γ / K), with γ the number
    of parameters that the data determine. Predictions are those of the network linearised at θ* (Immer et al. 2021),
    so that the outputs of a row are N(z, J Σ Jᵀ).

    Parameters
    ----------
    net : Sequential
        Copied, in float64. Its loss is a log-likelihood: squared_error, cross_entropy, binary_cross_entropy or poisson.
    X : array_like (N, D)
        At least one row; not kept.
    y : array_like
        Targets as the network's loss takes them: class indices (N,), or values (N, K).
    structure : {"full", "block", "kfac", "last_layer"}, default="full"
    prior_precision : "marginal_likelihood" or float, default="marginal_likelihood"
        δ, above 0.
    noise_variance : "marginal_likelihood", "pooled", float or array_like (K,), default="marginal_likelihood"
        σ_k² of the targets, above 0; only for squared errors. "pooled" is one for all outputs, which the marginal
        likelihood chooses.
    sample_weight : array_like (N,), optional
        A weight of 2 counts a row twice.
    threads : int, optional
        Of the passes through the network; products and eigenvalues are BLAS's and LAPACK's, which have their own limit.
    max_bytes : int, optional
        Most that the matrices may take; None is the memory that is available.

    Attributes
    ----------
    structure : str
    prior_precision : float
    noise_variance : float, ndarray (K,) or None
        A number where it is one for all outputs; None where the loss has no noise.
    n_effective : float
        Σ d / (d + λ), the number of parameters that the data determine.
    place : slice
        The parameters of theta that are uncertain: all, but for "last_layer".
    net : Sequential
        The copy.

    Raises
    ------
    MemoryError
        If the matrices are too large, before they are allocated.
    TypeError, ValueError
        If an argument does not fit, the loss is no log-likelihood, curvature is not defined (the activation sign),
        "kfac" meets norm layers, or the evidence has no maximum.

    Notes
    -----
    "full" and "block" take 2 P² float64 (P of the largest block) and O(P³) time, a prediction O(N K P²). "kfac" and
    "last_layer" are for wide networks. Batch norm uses its running statistics.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()
    >>> net = fnn.Sequential([fnn.Dense(8, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)
    >>> history = net.fit(X, y, optimizer=fnn.Adam(0.01), epochs=100)
    >>> posterior = fnn.curvature.Laplace(net, X, y, structure="kfac")
    >>> far = posterior.predictive([[50.0, -30.0, 9.0, 20.0]]).mean
    >>> bool(far.max() < net.predict_proba([[50.0, -30.0, 9.0, 20.0]]).max())
    True
    """

    def __init__(
        self,
        net: Network,
        X: Data,
        y: ArrayLike,
        *,
        structure: str = "full",
        prior_precision: float | str = "marginal_likelihood",
        noise_variance: float | str | ArrayLike = "marginal_likelihood",
        sample_weight: ArrayLike | None = None,
        threads: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if not isinstance(structure, str) or structure not in STRUCTURES:
            raise ValueError(f"structure must be one of {', '.join(map(repr, STRUCTURES))}, got {structure!r}")
        self.net = net = in_double(net)
        what = f"Laplace with structure={structure!r}"
        risk = EmpiricalRisk(net, X, y, penalised=False, sample_weight=sample_weight, threads=threads, what=what)
        if not net.loss_function.is_likelihood:
            raise ValueError(
                f"Laplace needs a loss that is a log-likelihood, got {net.loss_name!r}; use 'squared_error'"
            )
        delta = _free_or_number("prior_precision", prior_precision)
        noisy = net.loss_function.least_squares
        # The risk's own weights are scaled; the posterior counts rows.
        counts = np.ones(risk.n_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
        total = float(counts.sum())
        variance: float | None = 1.0
        squares: np.ndarray | None = None  # sums of squared residuals
        self._ratios: np.ndarray | None = None  # None: one variance for all outputs
        if noisy:
            squares = counts @ np.square(net.outputs(risk.X, threads) - risk.y)
            variance, self._ratios = _noise_variances(noise_variance, squares)
        elif not isinstance(noise_variance, str) or noise_variance != "marginal_likelihood":
            raise ValueError(
                f"noise_variance is for loss 'squared_error', got {noise_variance!r} with {net.loss_name!r}"
            )
        self.structure = structure
        if self._ratios is not None:
            risk.output_precision = 1.0 / self._ratios
        found = STRUCTURES[structure]
        self._parts = found.parts(risk, total, max_bytes, found.instead)
        self.place = slice(min(part.place.start for part in self._parts), max(part.place.stop for part in self._parts))
        self._values = np.concatenate([part.values.ravel() for part in self._parts])
        self._squares = float(np.sum(np.square(net.theta[self.place])))
        self._fit = 2.0 * total * net.loss(X, y, sample_weight=sample_weight, threads=threads)
        self._n_targets = total * net.n_outputs
        self._constant = 0.0
        if self._ratios is not None and squares is not None:
            self._fit = float(np.sum(squares / self._ratios))
            self._constant = -0.5 * total * float(np.log(self._ratios).sum())
        constants = None if risk.y is None else net.loss_function.constant(risk.y)
        if constants is not None:
            self._constant = -float(counts @ constants)
        self._choose(delta, variance)

    def _choose(self, delta: float | None, variance: float | None) -> None:
        """Prior precision and noise variance, those that are None by the largest evidence."""
        d, R, S, M = self._values, self._squares, self._fit, self._n_targets
        trace, largest = float(d.sum()), float(d.max())

        def effective(ratio: float) -> float:
            return float(np.sum(d / (d + ratio)))

        try:
            if variance is None and delta is None:
                # The bounds replace Σ d / (d + λ) by what is above it, Σ d / λ, and below it, Σ d / (max d + λ).
                low = _positive_root(M * R, R * (M * largest - trace), -trace * S)
                high = _positive_root(M * R, -trace * R, -trace * S)
                ratio = _root(lambda t: effective(t) - M * t * R / (S + t * R), low, high)
                variance = (S + ratio * R) / M
                delta = ratio / variance
            elif variance is None:
                precision = float(delta)  # type: ignore[arg-type]
                high = (S + trace / precision) / M
                variance = _root(lambda t: S / t - M + effective(precision * t), S / M, high)
            elif delta is None:
                noise = variance
                low = _positive_root(R / noise, R * largest / noise, -trace)
                high = _positive_root(R / noise, 0.0, -trace)
                delta = _root(lambda t: effective(t) - t * R / noise, low, high) / noise
        except (ZeroDivisionError, ArithmeticError):
            raise ValueError(
                f"the marginal likelihood has no maximum: the eigenvalues of the Gauss-Newton matrix sum to {trace:g}, "
                f"‖θ‖² is {R:g}, the sum of the losses {0.5 * S:g}; give prior_precision"
                f"{' and noise_variance' if self.net.loss_function.least_squares else ''}"
            ) from None
        assert delta is not None
        for part in self._parts:
            part.settle(variance, delta)
        self.prior_precision = delta
        self._variance = variance if self.net.loss_function.least_squares else None
        self.noise_variance = variance * self._ratios if self._ratios is not None else self._variance
        self.n_effective = effective(self.prior_precision * variance)

    @property
    def theta(self) -> np.ndarray:
        """The mean θ*, (P,), a view."""
        return self.net.theta

    def log_marginal_likelihood(
        self,
        prior_precision: float | None = None,
        noise_variance: float | None = None,
        *,
        eval_gradient: bool = False,
    ) -> Any:
        """Laplace's approximation of the logarithm of the evidence, log Z above.

        Parameters
        ----------
        prior_precision, noise_variance : float, optional
            Other ones than the posterior's own. The variance is the mean of the outputs', whose ratios stay.
        eval_gradient : bool, default=False
            Whether to give the derivatives too.

        Returns
        -------
        float, or with `eval_gradient` a pair of it and ndarray (2,), or (1,) without noise
            Derivatives with respect to log δ and log σ².

        Raises
        ------
        TypeError, ValueError
            If an argument is not a number above 0, or a noise variance is given where the loss has none.
        """
        delta = self.prior_precision
        if prior_precision is not None:
            delta = check_number("prior_precision", prior_precision, above=0.0)
        variance = self._variance
        if noise_variance is not None:
            if variance is None:
                raise ValueError(f"noise_variance is for loss 'squared_error', got {noise_variance!r}")
            variance = check_number("noise_variance", noise_variance, above=0.0)
        noise = 1.0 if variance is None else variance
        d, P = self._values / noise, len(self._values)
        value = self._constant - 0.5 * (self._fit / noise + delta * self._squares)
        value += 0.5 * (P * log(delta) - float(np.log(d + delta).sum()))
        if variance is not None:
            value -= 0.5 * self._n_targets * log(2.0 * pi * variance)
        if not eval_gradient:
            return value
        share = float(np.sum(d / (d + delta)))
        gradient = [0.5 * (share - delta * self._squares)]
        if variance is not None:
            gradient.append(0.5 * (self._fit / variance - self._n_targets + share))
        return value, np.array(gradient)

    def covariance(self, *, max_bytes: int | None = None) -> np.ndarray:
        """The covariance Σ of ``theta[place]``, the whole matrix.

        Parameters
        ----------
        max_bytes : int, optional
            Largest result that is allowed; None is the memory that is available.

        Returns
        -------
        ndarray (P, P) of float64

        Raises
        ------
        MemoryError
            If the matrix is too large, before it is allocated.
        """
        P, first = len(self._values), self.place.start
        check_size("Laplace.covariance", (P, P), np.dtype(np.float64), max_bytes, "use predictive")
        result = np.zeros((P, P))
        for part in self._parts:
            place = slice(part.place.start - first, part.place.stop - first)
            result[place, place] = part.covariance()
        return result

    def predictive(
        self,
        X: Data,
        *,
        method: Literal["formula", "monte_carlo"] = "formula",
        n_samples: int = 1000,
        seed: Seed = None,
        threads: int | None = None,
        max_bytes: int | None = None,
    ) -> Predictive:
        """Distribution of the targets of new rows, by the network linearised at θ*.

        With z the outputs of a row, C = J Σ Jᵀ their covariance and v its diagonal::

            squared_error         mean z,  variance v + σ²
            binary_cross_entropy  p = sigmoid(z / √(1 + π v / 8))                               (MacKay 1992)
            cross_entropy         p_k ∝ 1 / Σ_i exp(−(z_k − z_i) / √(1 + π/8 Var(z_k − z_i)))   (Lu, Ie & Sha 2020)
            poisson               the rate is log-normal: mean r = exp(z + v/2),  variance r + (eᵛ − 1) r²

        with Var(z_k − z_i) = v_k + v_i − 2 C_ki, and p (1 − p) the variance of a target that is 0 or 1. The formulas of
        probabilities are approximate: within some hundredths of the mean of the sigmoid, or of a softmax with small
        variances, and up to 0.3 off where three or more classes have large ones. "monte_carlo" takes that mean over
        draws of z instead. Both depend on differences of a softmax's outputs alone.

        Parameters
        ----------
        X : array_like (N, D) or sparse matrix
        method : {"formula", "monte_carlo"}, default="formula"
            How probabilities are found. Values and rates have exact formulas, which are used in either case.
        n_samples : int, default=1000
            Draws for each row, of "monte_carlo"; the error of a probability is below 0.5 / √n_samples.
        seed : int, numpy.random.Generator or None, optional
            Of the draws.
        threads : int, optional
        max_bytes : int, optional
            Largest covariance that is allowed; None is the memory that is available.

        Returns
        -------
        Predictive
            A named tuple of `mean` and `std` (N, K) of the targets, the network's `outputs` (N, K) and their
            `covariance` (N, K, K), float64.

        Raises
        ------
        MemoryError
            If N K² values are too large, before they are allocated.
        TypeError, ValueError
            If an argument does not fit.

        Warns
        -----
        RuntimeWarning
            If a rate, a standard deviation or the covariance is too large for float64, and infinite.
        """
        if method not in ("formula", "monte_carlo"):
            raise ValueError(f"method must be 'formula' or 'monte_carlo', got {method!r}")
        n_samples, rng = check_integer("n_samples", n_samples), check_seed(seed)
        draws = n_samples if method == "monte_carlo" else 0
        Z = self.net.outputs(X, threads)
        N, K = Z.shape
        check_size("Laplace.predictive", (N, K, K), Z.dtype, max_bytes, "take the rows in parts")
        C = np.zeros((N, K, K))
        if N:
            risk = EmpiricalRisk(
                self.net, X, None, threads=threads, what="Laplace.predictive", second_order=False, targets=False
            )
            per_row = K * risk.row_elements + sum(part.row_elements(K) for part in self._parts)
            for rows in risk.chunks(per_row):
                passes = [risk.linearize(rows, cotangent=risk.unit_cotangent(rows, k)) for k in range(K)]
                with np.errstate(over="ignore", invalid="ignore"):  # `predictive` warns
                    for part in self._parts:
                        part.add_covariance(risk, passes, C[rows])
        return predictive(self.net.loss_function.inverse_link, Z, C, self.noise_variance, draws, rng)

    def __repr__(self) -> str:
        values = (
            "" if self.noise_variance is None else ", ".join(f"{v:.6g}" for v in np.atleast_1d(self.noise_variance))
        )
        noise = values and f", noise_variance={values if self._ratios is None else f'[{values}]'}"
        return (
            f"Laplace(structure={self.structure!r}, prior_precision={self.prior_precision:.6g}{noise}, "
            f"{self.n_effective:.1f} of {len(self._values):,} parameters determined)"
        )


def _free_or_number(name: str, value: float | str) -> float | None:
    """The number, or None where the marginal likelihood chooses it."""
    if isinstance(value, str):
        if value != "marginal_likelihood":
            raise ValueError(f"{name} must be 'marginal_likelihood' or a number above 0, got {value!r}")
        return None
    return check_number(name, value, above=0.0)


def _noise_variances(value: float | str | ArrayLike, squares: np.ndarray) -> tuple[float | None, np.ndarray | None]:
    """The outputs' mean variance, None where the marginal likelihood chooses it, and their ratios to it, None for ones.

    The ratios that the marginal likelihood chooses are those of the sums of squared residuals (K,).
    """
    ratios: np.ndarray
    if isinstance(value, str) and value == "marginal_likelihood":
        if len(squares) == 1 or not squares.any():
            return None, None
        if not squares.all():
            raise ValueError(
                f"noise_variance: output {int(squares.argmin())} is fitted exactly, so that the marginal likelihood "
                "has no maximum; give noise_variance, or 'pooled'"
            )
        ratios = squares / squares.mean()
        return None, ratios
    if isinstance(value, str) and value != "pooled":
        raise ValueError(f"noise_variance must be 'marginal_likelihood', 'pooled' or numbers above 0, got {value!r}")
    if isinstance(value, str):
        return None, None
    if np.ndim(value) == 0:
        return check_number("noise_variance", value, above=0.0), None
    given = np.asarray(value, dtype=np.float64)
    if given.shape != squares.shape or not (np.isfinite(given) & (given > 0.0)).all():
        raise ValueError(f"noise_variance: expected {len(squares)} numbers above 0, one for each output, got {value!r}")
    mean = float(given.mean())
    return mean, given / mean


def _positive_root(a: float, b: float, c: float) -> float:
    """The positive root of a x² + b x + c with a > 0 > c, without cancellation."""
    if not (a > 0.0 > c):
        raise ZeroDivisionError
    root = sqrt(b * b - 4.0 * a * c)
    return (-b + root) / (2.0 * a) if b < 0.0 else -2.0 * c / (b + root)


def _root(decreasing: Callable[[float], float], low: float, high: float) -> float:
    """Root of a decreasing function between bounds, by its logarithm."""
    low, high = low * (1.0 - 1e-9), high * (1.0 + 1e-9)  # rounding may put the root beside an exact bound
    if not 0.0 < low < high < np.inf:
        raise ArithmeticError
    return float(np.exp(brentq(lambda t: decreasing(float(np.exp(t))), log(low), log(high), xtol=1e-13)))
