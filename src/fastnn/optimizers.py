"""First-order optimizers: small immutable descriptions. Their state belongs to the training run, not to them.

In the formulas g is the effective gradient of a batch: the gradient of J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖² + l1 ‖W‖₁,
scaled to the norm `clip_norm` where it is longer and clipped element-wise to ±`clip_value`, as `fit` was told. η is
`learning_rate`, a number or a schedule of :mod:`fastnn.schedules`; every state vector starts at zero; t counts the
updates from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .plan import UpdateRule, check_number
from .schedules import Schedule

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "Optimizer", "RMSProp", "get"]


class Optimizer:
    """What every optimizer offers: an immutable description and :meth:`update_rule`."""

    rule: ClassVar[str]
    learning_rate: float | Schedule

    def _check(self, name: str, **bounds: float) -> None:
        if name == "learning_rate" and isinstance(self.learning_rate, Schedule):
            return
        # The dataclasses are frozen; this is the one moment when a NumPy scalar or an int becomes a float.
        object.__setattr__(self, name, check_number(name, getattr(self, name), **bounds))

    def update_rule(self) -> UpdateRule:
        """The optimizer as flat numbers, for a plan; of a schedule, the rate that it starts from."""
        fields = {name: getattr(self, name) for name in vars(self) if name in UpdateRule._fields}
        if isinstance(self.learning_rate, Schedule):
            fields["learning_rate"] = self.learning_rate.learning_rate
        return UpdateRule(self.rule, **fields)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with classical or Nesterov momentum.

    ::

        v ← μ v − η g
        θ ← θ + v                  nesterov=False
        θ ← θ + μ v − η g          nesterov=True: θ is the look-ahead point

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        η > 0.
    momentum : float, default=0.0
        μ in [0, 1).
    nesterov : bool, default=False
        Needs a momentum above 0.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Sutskever et al. 2013, equations 1-4. torch keeps v/(−η), which gives the same θ as long as η is constant; Keras'
    formula is this one. Seed 000 evaluates the backward pass of its Nesterov step with the old weights, which is
    neither of these.
    """

    rule: ClassVar[str] = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("momentum", minimum=0.0, below=1.0)
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum > 0, got momentum=0")


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """AdaGrad, steps divided by the root of all squared gradients so far.

    ::

        s ← s + g²
        θ ← θ − η g / (√s + ε)

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        η > 0.
    epsilon : float, default=1e-10
        ε ≥ 0.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Duchi, Hazan and Singer 2011 (diagonal form). As torch with its defaults; Keras starts s at 0.1 and has ε inside
    the root.
    """

    rule: ClassVar[str] = "adagrad"
    learning_rate: float | Schedule = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("epsilon", minimum=0.0)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp, steps divided by the root of a moving average of the squared gradients.

    ::

        s ← ρ s + (1 − ρ) g²
        θ ← θ − η g / (√s + ε)

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-3
        η > 0.
    rho : float, default=0.99
        ρ in [0, 1).
    epsilon : float, default=1e-8
        ε ≥ 0.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Tieleman and Hinton 2012. As torch (``alpha`` there is ρ); Keras' defaults are ρ = 0.9, ε = 1e-7 inside the root.
    s is not corrected for its start at zero, so the first steps are about 1/√(1 − ρ) times larger.
    """

    rule: ClassVar[str] = "rmsprop"
    learning_rate: float | Schedule = 1e-3
    rho: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("rho", minimum=0.0, below=1.0)
        self._check("epsilon", minimum=0.0)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, bias-corrected moving averages of the gradient and of its square.

    ::

        m ← β₁ m + (1 − β₁) g                m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²               v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-3
        η > 0.
    beta1, beta2 : float, default=0.9 and 0.999
        β₁, β₂ in [0, 1).
    epsilon : float, default=1e-8
        ε ≥ 0.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Kingma and Ba 2015, algorithm 1; as torch. scikit-learn and Keras fold the two corrections into the step,
    η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε), so that their ε acts as ε / √(1 − β₂ᵗ) here. Seed 000 corrects the bias
    twice and never advances t.
    """

    rule: ClassVar[str] = "adam"
    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("beta1", minimum=0.0, below=1.0)
        self._check("beta2", minimum=0.0, below=1.0)
        self._check("epsilon", minimum=0.0)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: before Adam's step, W ← (1 − η λ) W.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-3
        η > 0.
    beta1, beta2 : float, default=0.9 and 0.999
        β₁, β₂ in [0, 1).
    epsilon : float, default=1e-8
        ε ≥ 0.
    weight_decay : float, default=0.01
        λ ≥ 0. Touches weights only, never biases.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Loshchilov and Hutter 2019, algorithm 2. torch's AdamW has the same formula and default, but decays biases too.
    The decay is no part of the objective, so it does not show in the loss of the history; `l2` of `fit` does.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("weight_decay", minimum=0.0)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}


def get(optimizer: Any) -> Optimizer:
    """The optimizer itself, or the one of that name with its default values.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `optimizer` is neither an optimizer nor a name.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: unknown name {optimizer!r}; known: {', '.join(OPTIMIZERS)}")
        return OPTIMIZERS[optimizer]()
    hint = f"; did you mean {optimizer.__name__}()?" if isinstance(optimizer, type) else ""
    raise TypeError(f"optimizer must be a name or an optimizer such as Adam(1e-3), got {optimizer!r}{hint}")
