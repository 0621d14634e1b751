"""Optimizers of mini-batches: small immutable descriptions. Their moments belong to the training run, not to them.

In the formulas g is the effective gradient of a batch: the gradient of Σ w ℓ / Σ w + ½ l2 ‖W‖², scaled to the norm
`clip_norm` where it is longer and clipped element-wise to ±`clip_value`, as `fit` was told. η is `learning_rate`, a
number or a schedule of :mod:`fastnn.schedules`; every moment starts at zero; t counts the updates from 1.

`fit(l1=)` adds l1 ‖W‖₁, which has no derivative at 0, by its proximal operator: after a rule's step, each weight moves
towards 0 by h l1, and no further, where h is what the rule multiplied its gradient by: η for `SGD` and `NAG`,
η / (√s + ε) or η / (√v̂ + ε) for the rules that divide by a root, so in the diagonal metric of their steps; the clipping
of the norm scales h too. Useless weights become 0 and stay there, and full-batch training tends to the minimum of the
whole objective. Momentum counts this as part of the step (docs/theory.md, eq. 8.17 to 8.19). `KFAC` and
`StochasticLBFGS`, whose metrics are not diagonal, have a step of their own to the same end: a weight that would pass
through 0 becomes 0, and leaves it only downhill (eq. 8.20).

Squares of gradients have a range: above 1.8e19 in float32 (1.3e154 in float64) they are infinite, and the training
diverges; below 1.1e-19 (1.5e-154) they are 0. An ε below the latter number, 0 for instance, counts as that number, so
that a parameter stays where it is if its gradients have all been 0, and moves by no more than about η if they are tiny.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from . import names
from .checks import check_integer, check_number
from .plan import UpdateRule
from .schedules import Schedule

__all__ = [
    "KFAC",
    "NAG",
    "OPTIMIZERS",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSProp",
    "Solver",
    "StochasticLBFGS",
    "get",
]
__dir__ = names.listing(__all__)


class Optimizer:
    """What every optimizer offers: an immutable description and :meth:`update_rule`."""

    rule: ClassVar[str]
    learning_rate: float | Schedule

    def _check(self, name: str, **bounds: float) -> None:
        if name == "learning_rate" and isinstance(self.learning_rate, Schedule):
            return
        # The dataclasses are frozen; this is the one moment when a NumPy scalar or an int becomes a float.
        object.__setattr__(self, name, check_number(name, getattr(self, name), **bounds))

    def _check_flag(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")

    def update_rule(self) -> UpdateRule:
        """The optimizer as flat numbers, for a plan; of a schedule, the rate that it starts from."""
        fields = {name: getattr(self, name) for name in vars(self) if name in UpdateRule._fields}
        if isinstance(self.learning_rate, Schedule):
            fields["learning_rate"] = self.learning_rate.learning_rate
        return UpdateRule(self.rule, **fields)


class Solver:
    """Base of the full-batch solvers of :mod:`fastnn.solvers`, by which `fit` recognises them."""


@names.explained
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with classical or Nesterov momentum.

    ::

        v ← μ v − η g
        θ ← θ + v                  nesterov=False
        θ ← θ + μ v − η g          nesterov=True: θ is the look-ahead point

        m ← μ m + (1 − μ) g        bias_correction=True, in the t-th update
        θ ← θ − η m / (1 − μᵗ)

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        η > 0.
    momentum : float, default=0.0
        μ in [0, 1).
    nesterov : bool, default=False
        Needs a momentum above 0.
    bias_correction : bool, default=False
        Step along the weighted mean of the gradients so far, Σ μ^{t−s} g_s / Σ μ^{t−s}, which is as long as a gradient:
        from the first step on, and whatever μ is. Needs a momentum above 0, and excludes `nesterov`.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Sutskever et al. 2013, equations 1-4. torch keeps v/(−η), which gives the same θ as long as η is constant; Keras'
    formula is this one (docs/theory.md, eq. 8.3 and 8.4).

    With `bias_correction` (eq. 8.21) a learning rate means what it means without momentum. In the long run, and at a
    constant rate, the steps are those of classical momentum with the rate (1 − μ) η; without the correction the first
    ones would be shorter by the factor 1 − μᵗ. It is the numerator of Adam.
    """

    rule: ClassVar[str] = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    bias_correction: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("momentum", minimum=0.0, below=1.0)
        for name in ("nesterov", "bias_correction"):
            self._check_flag(name)
            if getattr(self, name) and self.momentum == 0.0:
                raise ValueError(f"{name}=True needs a momentum > 0, got momentum=0")
        if self.nesterov and self.bias_correction:
            raise ValueError("bias_correction=True is of classical momentum, got nesterov=True, too")

    def update_rule(self) -> UpdateRule:
        """See :meth:`Optimizer.update_rule`; with `bias_correction`, of a rule of its own."""
        rule = super().update_rule()
        return rule._replace(rule="momentum", momentum=0.0, beta1=self.momentum) if self.bias_correction else rule


@names.explained
@dataclass(frozen=True)
class NAG(Optimizer):
    """Nesterov's accelerated gradient of 1983, whose momentum follows a sequence of its own.

    ::

        x' ← θ − η g                                     g is the gradient at the extrapolated point θ
        θ ← x' + (t_k − 1) / t_{k+1} (x' − x),  x ← x'
        t_1 = 1,  t_{k+1} = (1 + √(1 + 4 t_k²)) / 2      for the k-th update

    Parameters
    ----------
    learning_rate : float, default=0.01
        η > 0. Without noise and on a convex J whose gradient has the Lipschitz constant L, η ≤ 1/L gives
        J(x_k) − min J ≤ 2 ‖x_0 − x*‖² / (η (k + 1)²).

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Nesterov 1983. ``net.theta`` is the extrapolated point θ, while training and at its end, and not the iterate x: what
    the history's losses were measured at is then what the network is, training can go on from it, and where the two
    were compared (4-16-3 with softplus on iris, ten seeds) its loss was the lower one. They meet as the steps get
    small; x is θ minus the optimizer's one state vector.

    The momentum is 0 at the first update and tends to 1 as 1 − 3/k, so that it comes to average noise over ever more
    steps: for many small batches take ``SGD(momentum=0.9, nesterov=True)``, the only form that torch and Keras have.
    A gradient at the iterate x instead of at the extrapolated point makes another method, without the bound
    (docs/theory.md, eq. 8.5 and 8.16).
    """

    rule: ClassVar[str] = "nag"
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)


@names.explained
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


@names.explained
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp, steps divided by the root of a moving average of the squared gradients.

    ::

        s ← ρ s + (1 − ρ) g²
        θ ← θ − η g / (√s + ε)

        m ← ρ m + (1 − ρ) g        centered=True: √(s − m²), the deviation, instead of √s
        v ← μ v + g / (√s + ε)     momentum > 0: θ ← θ − η v

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-3
        η > 0.
    rho : float, default=0.99
        ρ in [0, 1).
    epsilon : float, default=1e-8
        ε ≥ 0.
    momentum : float, default=0.0
        μ in [0, 1).
    centered : bool, default=False

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Tieleman and Hinton 2012; centred: Graves 2013, equations 38-45. As torch (``alpha`` there is ρ), where η is outside
    the velocity too; Keras' defaults are ρ = 0.9, ε = 1e-7. s is not corrected for its start at zero, so the first
    steps are about 1/√(1 − ρ) times larger.

    Two conventions are in use for ε: √s + ε, which is torch's and the one here, and √(s + ε), which Keras and
    Graves have, and whose ε is the square of ours (1e-4 there bounds the divisor as 1e-2 here). The centred form needs
    an ε that counts: where a gradient stays the same, its variance s − m² tends to 0 and the step to η g / ε.
    """

    rule: ClassVar[str] = "rmsprop"
    learning_rate: float | Schedule = 1e-3
    rho: float = 0.99
    epsilon: float = 1e-8
    momentum: float = field(default=0.0, kw_only=True)
    centered: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("rho", minimum=0.0, below=1.0)
        self._check("epsilon", minimum=0.0)
        self._check("momentum", minimum=0.0, below=1.0)
        self._check_flag("centered")


@names.explained
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, bias-corrected moving averages of the gradient and of its square.

    ::

        m ← β₁ m + (1 − β₁) g                m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²               v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

        θ ← θ − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)      epsilon_hat=True
        v̂ = max of v so far / (1 − β₂ᵗ)                      amsgrad=True

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-3
        η > 0.
    beta1, beta2 : float, default=0.9 and 0.999
        β₁, β₂ in [0, 1).
    epsilon : float, default=1e-8
        ε ≥ 0.
    amsgrad : bool, default=False
        Divide by the largest v so far, so that the effective step size never grows again.
    epsilon_hat : bool, default=False
        Add ε to √v, before the correction of its bias, as scikit-learn and Keras do.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number.

    Notes
    -----
    Kingma and Ba 2015, algorithm 1; as torch. The form with ε̂ is that of the end of their section 2, which differs in
    the first steps: its ε acts as ε / √(1 − β₂ᵗ) in the other. AMSGrad is Reddi, Kale and Kumar 2018, algorithm 2, with
    the corrections of the bias that torch and Keras keep (docs/theory.md, eq. 8.10 to 8.14).
    """

    rule: ClassVar[str] = "adam"
    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    amsgrad: bool = field(default=False, kw_only=True)
    epsilon_hat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._check("learning_rate", above=0.0)
        self._check("beta1", minimum=0.0, below=1.0)
        self._check("beta2", minimum=0.0, below=1.0)
        self._check("epsilon", minimum=0.0)
        self._check_flag("amsgrad")
        self._check_flag("epsilon_hat")


@names.explained
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
    amsgrad, epsilon_hat : bool, default=False
        As for :class:`Adam`.

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


@names.explained
@dataclass(frozen=True)
class KFAC(Optimizer):
    """K-FAC: natural gradient with a Kronecker-factored curvature, for mini-batches.

    Of a dense layer with inputs x̃ = (x, 1) and ∂ℓ/∂z = δ, the Gauss-Newton (Fisher) matrix is taken as A ⊗ G::

        A = E[x̃ x̃ᵀ],  G = E[δ δᵀ]                         running means, every `update_every` steps
        u = (A + π √λ I)⁻¹ ∇ (G + √λ / π I)⁻¹             λ = damping + l2,  π² = mean diag A / mean diag G
        v ← μ v − η min(1, √(κ / (η² Σ u·∇))) u,  θ ← θ + v

    ∇ is the effective gradient of the layer's weight and bias as one (n_in + 1, n_out) matrix. γ and β of a layer norm
    take u = ∇. With `fit(l1=)`, ∇ has l1 sign W, or the least subgradient where a weight is 0, and weights stop at 0
    (docs/theory.md, eq. 8.20).

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.03
        η > 0.
    momentum : float, default=0.9
        μ in [0, 1).
    damping : float, default=0.03
        λ > 0: the larger, the more the step is one along the gradient.
    kl_clip : float, default=0.01
        κ > 0 bounds the step's squared length in the curvature's metric.
    decay : float, default=0.95
        ρ in [0, 1): what the running means keep at an estimate.
    update_every : int, default=20
        Steps between estimates, which also invert the factors; each epoch begins with one.
    kind : {"mc", "empirical"}, default="mc"
        δ is that of a target drawn from the network's own predictions, whose mean outer product is the Fisher matrix;
        or that of the data, which is cheaper and no curvature, but often as good.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number; at training, for a network with batch norm, or absolute_error.

    Notes
    -----
    Martens & Grosse 2015 (arXiv:1503.05671); the bound on the step is that of Ba, Grosse & Martens 2017, section 3. The
    paper's adaptive damping and learning rate are not taken: use a schedule.
    """

    rule: ClassVar[str] = "kfac"
    learning_rate: float | Schedule = 0.03
    momentum: float = 0.9
    damping: float = 0.03
    kl_clip: float = 0.01
    decay: float = 0.95
    update_every: int = 20
    kind: str = "mc"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "damping", "kl_clip"):
            self._check(name, above=0.0)
        for name in ("momentum", "decay"):
            self._check(name, minimum=0.0, below=1.0)
        object.__setattr__(self, "update_every", check_integer("update_every", self.update_every))
        if self.kind not in ("mc", "empirical"):
            raise ValueError(f"kind must be 'mc' or 'empirical', got {self.kind!r}")


@names.explained
@dataclass(frozen=True)
class StochasticLBFGS(Optimizer):
    """L-BFGS for mini-batches, with curvature pairs from products with the curvature matrix.

    Every `update_every` steps, on at least `curvature_rows` rows, θ̄ being where the last pair was taken::

        s = (θ − θ̄) / ‖θ − θ̄‖,   y = (B + λ I) s          B: Gauss-Newton matrix or Hessian, l2 included
        H from the last `memory` pairs by BFGS's update, started from (s·y / y·y) I

    and in every step, g being the effective gradient of the batch::

        u = H g
        v ← μ v − η min(1, √(κ / (η² u·g))) u,   θ ← θ + v

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.3
        η > 0; 1 is the step of a full batch.
    momentum : float, default=0.0
        μ in [0, 1).
    memory : int, default=10
        Pairs.
    damping : float, default=0.1
        λ > 0, in units of the curvature: H is at most 1/λ, which keeps the noise of directions without curvature small.
    kl_clip : float, default=0.01
        κ > 0 bounds the step's squared length in the metric of H⁻¹.
    update_every : int, default=20
        Steps between pairs; each epoch begins with one.
    curvature_rows : int, default=1024
        Least number of rows that y is taken on, as far as the next `update_every` batches have as many.
    curvature : {"ggn", "hessian"}, default="ggn"
        B. Pairs along which the Hessian is not positive are left out.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or not a number; at training, for the loss absolute_error and the activation sign.

    Notes
    -----
    Byrd, Hansen, Nocedal and Singer 2016 (SQN), who take s from means of the last iterates; y is exact for any s. As y
    does not come from differences of noisy gradients, H stays positive definite. The first s is along the gradient.
    The bound on the step is K-FAC's (Ba, Grosse and Martens 2017, section 3). docs/theory.md, eq. 9.9 to 9.11.
    """

    rule: ClassVar[str] = "lbfgs"
    learning_rate: float | Schedule = 0.3
    momentum: float = 0.0
    memory: int = field(default=10, kw_only=True)
    damping: float = field(default=0.1, kw_only=True)
    kl_clip: float = field(default=0.01, kw_only=True)
    update_every: int = field(default=20, kw_only=True)
    curvature_rows: int = field(default=1024, kw_only=True)
    curvature: str = field(default="ggn", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("learning_rate", "damping", "kl_clip"):
            self._check(name, above=0.0)
        self._check("momentum", minimum=0.0, below=1.0)
        for name in ("memory", "update_every", "curvature_rows"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name)))
        if self.curvature not in ("ggn", "hessian"):
            raise ValueError(f"curvature must be 'ggn' or 'hessian', got {self.curvature!r}")


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "nag": NAG,
    "adagrad": AdaGrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "kfac": KFAC,
    "stochastic_lbfgs": StochasticLBFGS,
}


def get(optimizer: object) -> Optimizer:
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
    if isinstance(optimizer, Solver):
        raise TypeError(f"optimizer: {type(optimizer).__name__} is a full-batch solver; use it with net.fit")
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            hint = names.suggestion(optimizer, OPTIMIZERS, names.OPTIMIZERS)
            raise ValueError(f"optimizer: unknown name {optimizer!r}; known: {', '.join(OPTIMIZERS)}{hint}")
        return OPTIMIZERS[optimizer]()
    hint = f"; did you mean {optimizer.__name__}()?" if isinstance(optimizer, type) else ""
    raise TypeError(f"optimizer must be a name or an optimizer such as Adam(1e-3), got {optimizer!r}{hint}")
