"""One step of an optimizer on theta: penalties, clipping, update rule, segment by segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from ..plan import OpSpec, Segment, UpdateRule
from . import optim
from .kfac import kfac_direction
from .lbfgs import lbfgs_direction
from .optim import effective_gradient, gradient_norm2, nag_momentum, sgd_update

__all__ = ["Inverses", "LowRank", "Penalties", "penalty", "update"]

#: Per operation the inverse Kronecker factors A⁻¹ (m, m) and G⁻¹ (n_out, n_out), or None.
Inverses = Sequence[tuple[np.ndarray, np.ndarray] | None]
#: B (r, P), N (r, r) and γ of H = γ I + Bᵀ N B.
LowRank = tuple[np.ndarray, np.ndarray, float]


class Penalties(NamedTuple):
    """½ l2 ‖W‖² + l1 ‖W‖₁ of the weights, and limits of the gradient that includes it.

    Attributes
    ----------
    l1, l2 : float
        Of weights without penalties of their own.
    clip_norm : float or None
        Longest norm of the whole gradient.
    clip_value : float or None
        Largest absolute value of a component, applied after `clip_norm`.
    """

    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None


class _Span(NamedTuple):
    """A range of theta with everything that depends on it."""

    at: slice
    l1: float
    l2: float
    weight_decay: float
    learning_rate: float


def penalty(segments: Sequence[Segment], theta: np.ndarray, l1: float, l2: float) -> float:
    """½ l2 ‖W‖² + l1 ‖W‖₁ in float64; a weight that two operations share counts once."""
    value = 0.0
    for segment in segments:
        of_l1, of_l2 = segment.penalties(l1, l2)
        if of_l1 != 0.0 or of_l2 != 0.0:
            W = theta[segment.begin : segment.end].astype(np.float64)
            value += 0.5 * of_l2 * float(W @ W) + of_l1 * float(np.abs(W).sum())
    return value


def _spans(
    segments: Sequence[Segment], rule: UpdateRule, learning_rate: float, limits: Penalties, n_parameters: int
) -> list[_Span]:
    """Theta cut where penalties or learning rates change."""
    terms = [segment.penalties(limits.l1, limits.l2) for segment in segments]
    if not any(map(any, terms)) and not rule.weight_decay and all(part.lr_multiplier == 1.0 for part in segments):
        return [_Span(slice(0, n_parameters), 0.0, 0.0, 0.0, learning_rate)]
    return [
        _Span(
            slice(segment.begin, segment.end),
            l1,
            l2,
            rule.weight_decay if segment.penalised else 0.0,
            learning_rate * segment.lr_multiplier,
        )
        for segment, (l1, l2) in zip(segments, terms, strict=True)
    ]


def update(
    theta: np.ndarray,
    moments: np.ndarray,
    grad: np.ndarray,
    rule: UpdateRule,
    learning_rate: float,
    step: int,
    segments: Sequence[Segment],
    limits: Penalties,
    ops: Sequence[OpSpec],
    preconditioner: Inverses | LowRank | None = None,
) -> None:
    """One step of an optimizer, in place on theta and moments.

    Parameters
    ----------
    theta : ndarray (P,)
    moments : ndarray (rule.n_moments, P)
    grad : ndarray (P,)
        Gradient of the data term.
    rule : UpdateRule
    learning_rate : float
        In place of the rule's own.
    step : int
        Number of the update, from 1.
    segments : sequence of Segment
    limits : Penalties
    ops : sequence of OpSpec
    preconditioner : sequence, optional
        For the rules "kfac" and "lbfgs".

    Raises
    ------
    ValueError
        If `preconditioner` does not fit the rule and the operations.
    """
    spans = _spans(segments, rule, learning_rate, limits, len(theta))
    directed = rule.facts.preconditioned
    factor = 1.0 if limits.clip_norm is None else _clipping_factor(theta, grad, spans, limits.clip_norm, directed)
    clip_value = math.inf if limits.clip_value is None else limits.clip_value
    if directed:
        effective = np.concatenate(
            [effective_gradient(theta[s.at], grad[s.at], 1.0, s.l1, s.l2, factor, clip_value) for s in spans]
        )
        for s in spans:
            if s.l1 != 0.0:
                _steepest(theta[s.at], effective[s.at], factor * s.l1)
        direction = _direction(effective, rule, learning_rate, ops, preconditioner)
        for span in spans:
            if span.learning_rate != 0.0:
                at, before = span.at, theta[span.at].copy()
                sgd_update(theta[at], direction[at], moments[0, at], span.learning_rate, rule.momentum)
                if span.l1 != 0.0:  # docs/theory.md, eq. 8.20
                    _stay_in_orthant(before, effective[at], theta[at], moments[0, at])
        return
    if rule.facts.accelerates:
        rule = rule._replace(momentum=float(nag_momentum(step)[0]))
    # Of all that is known of a step, a rule takes the arguments that it names.
    function = getattr(optim, f"{rule.rule}_update")
    names = function.contract.names
    known = {**rule._asdict(), "step": step, "scale": 1.0, "factor": factor, "clip_value": clip_value}
    for span in spans:
        if span.learning_rate != 0.0:  # otherwise frozen, its moments too
            known |= {**span._asdict(), "theta": theta[span.at], "grad": grad[span.at]}
            known |= dict.fromkeys(rule.facts.moments) | dict(zip(rule.moments, moments[:, span.at], strict=True))
            function(**{name: known[name] for name in names})


def _clipping_factor(
    theta: np.ndarray, grad: np.ndarray, spans: Sequence[_Span], clip_norm: float, with_l1: bool
) -> float:
    """min(1, clip_norm / ‖gradient‖); NaN, so that the training diverges, where it would turn the gradient to 0."""
    norm = 0.0
    for unit in (1.0, 2.0**600):  # the latter where squares of doubles overflow
        l1_unit = unit if with_l1 else math.inf
        terms = ({"scale": 1.0 / unit, "l1": span.l1 / l1_unit, "l2": span.l2 / unit} for span in spans)
        of_spans = zip(spans, terms, strict=True)
        norm = math.sqrt(sum(gradient_norm2(theta[span.at], grad[span.at], **term) for span, term in of_spans))
        if not math.isinf(norm):
            break
    factor = clip_norm / norm / unit if norm else 1.0
    return math.nan if factor < np.finfo(theta.dtype).tiny else factor if factor < 1.0 else 1.0


def _direction(
    effective: np.ndarray,
    rule: UpdateRule,
    learning_rate: float,
    ops: Sequence[OpSpec],
    preconditioner: Inverses | LowRank | None,
) -> np.ndarray:
    """What the whole gradient becomes, which couples the segments, for a step of SGD with momentum."""
    if rule.facts.low_rank:
        if preconditioner is None or len(preconditioner) != 3:
            raise ValueError("preconditioner: expected a tuple of B, N and gamma")
        basis, middle, scale = cast(LowRank, preconditioner)
        return lbfgs_direction(effective, basis, middle, scale, learning_rate, rule.kl_clip)
    if preconditioner is None or len(preconditioner) != len(ops):
        raise ValueError("preconditioner: expected a pair of inverse factors, or None, for each operation")
    return kfac_direction(ops, effective, cast(Inverses, preconditioner), learning_rate, rule.kl_clip)


def _steepest(theta: np.ndarray, grad: np.ndarray, l1: float) -> None:
    """Take from the gradient, where θ = 0, the subgradient of l1 |θ| that leaves least of it: in place."""
    limit = theta.dtype.type(l1)
    grad[theta == 0.0] -= np.clip(grad[theta == 0.0], -limit, limit)


def _stay_in_orthant(before: np.ndarray, grad: np.ndarray, theta: np.ndarray, velocity: np.ndarray) -> None:
    """Set to 0, velocity too, what has left the side of 0 on which θ was, or, from 0, that of −gradient: in place."""
    side = np.where(before != 0.0, np.sign(before), -np.sign(grad))
    left = ~(np.isnan(theta) | ((theta > 0.0) & (side > 0.0)) | ((theta < 0.0) & (side < 0.0)))
    theta[left] = velocity[left] = 0.0
