"""What all operations share: the interface of their passes, and what is handed from one pass to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...plan import OpSpec

__all__ = ["KINDS", "Affine", "Op", "Pass", "Point"]

#: The operations by kind; a subclass of :class:`Op` that names its kind enters itself.
KINDS: dict[str, type[Op]] = {}


class Pass(NamedTuple):
    """What an evaluation needs besides theta.

    Attributes
    ----------
    buffers : ndarray (n_buffers,) or None
        The network's buffers: running statistics, standardisation, the dropouts' seed.
    training : bool
        Whether batch norm uses the batch's own statistics.
    step : int
        Updates done before, which with the seed fixes the dropout masks; -1 drops nothing.
    """

    buffers: np.ndarray | None = None
    training: bool = False
    step: int = -1


class Affine(NamedTuple):
    """x ↦ (x − mean) · scale + shift, column by column."""

    mean: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


@dataclass(slots=True)
class Point:
    """What a linearization keeps of one operation, for N rows; None for what it does not have.

    Attributes
    ----------
    slope : ndarray (N, n_out)
        σ'(z).
    bend : ndarray (N, n_out)
        σ''(z), and after the backward pass σ''(z) ⊙ ∂L/∂a.
    delta : ndarray (N, n_out)
        ∂L/∂z of a dense or activation op, ∂L/∂(output) of the others.
    normalised : ndarray (N, n_out)
        û of a norm.
    inv_std : ndarray
        1/σ of a norm: (n_out,) of a batch norm, (N,) of a layer norm.
    """

    slope: np.ndarray | None = None
    bend: np.ndarray | None = None
    delta: np.ndarray | None = None
    normalised: np.ndarray | None = None
    inv_std: np.ndarray | None = None


class Op:
    """One operation of a plan and its passes; a subclass for each kind, ``class Name(Op, kind="name")``.

    Letters of the shapes: N rows, P parameters, n directions of a product. What depends on a direction (with a dot in
    formulas) has the directions as its first axis, so that a block of them goes through one matrix product.

    Parameters
    ----------
    spec : OpSpec
    index : int
        Its position in the plan.

    Attributes
    ----------
    weight, bias : slice
        Its parameters within theta; empty where there is none.
    """

    kind: ClassVar[str | None] = None

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is not None:
            cls.kind, KINDS[kind] = kind, cls

    def __init__(self, spec: OpSpec, index: int) -> None:
        self.spec, self.index = spec, index
        self.weight = slice(spec.weight, spec.weight + spec.weight_size) if spec.weight >= 0 else slice(0, 0)
        self.bias = slice(spec.bias, spec.bias + spec.n_out) if spec.bias >= 0 else slice(0, 0)

    def forward(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Any]:
        """Output at X.

        Parameters
        ----------
        theta : ndarray (P,)
        X : ndarray (N, n_in)
        run : Pass

        Returns
        -------
        output : ndarray (N, n_out)
        saved
            What `backward` takes: σ(z) or z (N, n_out) of an activation, whichever its derivative is a function of;
            (û (N, n_out), 1/σ (N,)) of a layer norm; (μ (n_out,), σ² (n_out,)) of a batch norm; None of the others.
        """
        raise NotImplementedError

    def backward(
        self, theta: np.ndarray, X: np.ndarray, saved: Any, dA: np.ndarray, grad: np.ndarray, run: Pass
    ) -> np.ndarray:
        """∂L/∂X from ∂L/∂(output).

        Parameters
        ----------
        theta, X, run
            Those of `forward`.
        saved
            What `forward` returned with the output.
        dA : ndarray (N, n_out)
        grad : ndarray (P,)
            ∂L/∂θ; the operation's part is added to it, as operations may share parameters.

        Returns
        -------
        ndarray (N, n_in)
        """
        raise NotImplementedError

    def linearize(self, theta: np.ndarray, X: np.ndarray, run: Pass) -> tuple[np.ndarray, Point]:
        """Output at X, and the derivatives there that the products below take.

        Nothing is dropped. Parameters are those of `forward`.

        Returns
        -------
        output : ndarray (N, n_out)
        Point
            Without its `delta`, which the first `vjp` gives.
        """
        raise NotImplementedError

    def vjp(
        self,
        theta: np.ndarray,
        X: np.ndarray,
        at: Point,
        dA: np.ndarray,
        out: np.ndarray | None,
        run: Pass,
        bent: np.ndarray | None = None,
    ) -> np.ndarray:
        """Transposed Jacobian at a point, applied to `dA`.

        With the loss's gradient as `dA` this is the backward pass.

        Parameters
        ----------
        dA : ndarray (..., N, n_out)
        out : ndarray (..., P) or None
            The part for the parameters is added to it.
        bent : ndarray (..., N, n_out), optional
            Added to σ'(z) ⊙ dA.

        Returns
        -------
        ndarray (..., N, n_in)
        """
        raise NotImplementedError

    def jvp(
        self, theta: np.ndarray, V: np.ndarray | None, X: np.ndarray, dX: np.ndarray | None, at: Point, run: Pass
    ) -> tuple[np.ndarray | None, Any]:
        """Jacobian at a point, applied to directions of the parameters and of the input.

        Parameters
        ----------
        V : ndarray (n, P) or None
            Directions of theta, None for zero.
        X, dX : ndarray (N, n_in), (n, N, n_in) or None
            Input and its tangents, None for zero.

        Returns
        -------
        tangent : ndarray (n, N, n_out) or None
            Of the output; None for zero.
        kept : ndarray (n, N, n_out) or None
            What `vjp_jvp` takes: the tangent of z of an activation, of û of a norm.
        """
        raise NotImplementedError

    def vjp_jvp(
        self,
        theta: np.ndarray,
        V: np.ndarray | None,
        X: np.ndarray,
        dX: np.ndarray | None,
        at: Point,
        kept: Any,
        dA: np.ndarray,
        out: np.ndarray | None,
        run: Pass,
    ) -> np.ndarray:
        """Jacobian of `vjp` itself, for products with the Hessian: `vjp` of the tangent `dA`, and how `vjp` moves.

        Parameters
        ----------
        V, X, dX
            Those of `jvp`.
        kept : ndarray (n, N, n_out) or None
            What `jvp` returned with the tangent.
        dA : ndarray (n, N, n_out)
            Tangents of ∂L/∂(output).
        out : ndarray (n, P) or None
            The part for the parameters is added to it.

        Returns
        -------
        ndarray (n, N, n_in)
        """
        return self.vjp(theta, X, at, dA, out, run)

    def affine(self, theta: np.ndarray, buffers: np.ndarray) -> Affine | None:
        """What it computes outside of training if that is an affine map of each column by itself, else None."""
        return None

    def after_step(self, saved: Any, run: Pass) -> None:
        """Change the operation's buffers after a step of training."""
