"""Documents 000 to 004: where they are not to be followed, each shown by a computation.

Each entry has what the document says or does, what is right, and figures that show it, from the document's own code
written out again where it has some. The file examples/README.md tells of more, script by script.

    python examples/document_mistakes.py
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, log_softmax, logsumexp, softmax

import fastnn as fnn


class Shown(NamedTuple):
    """What a computation finds.

    Attributes
    ----------
    text : str
    holds : bool
        Whether it shows that the document is wrong, and that what is called right is right.
    theirs, ours : str
        The two figures, or the two errors.
    """

    text: str
    holds: bool
    theirs: str
    ours: str


class Mistake(NamedTuple):
    """Where, what the document says, what is right, and the computation that shows it."""

    where: str
    says: str
    right: str
    show: Callable[[], Shown]


# -- 000 --------------------------------------------------------------------------------------------------------------


class Fnn:
    """Document 000's class `FNN`, as far as it trains: two layers with bias, tanh and log-softmax.

    Parameters
    ----------
    seed : int
        Of the weights.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.W = [rng.uniform(-0.5, 0.5, (5, 8)), rng.uniform(-0.5, 0.5, (9, 3))]
        self.A = [np.zeros_like(W) for W in self.W]
        self.F = [np.zeros_like(W) for W in self.W]
        self.t = 1

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Keeps inputs and pre-activations, as the document does."""
        self.X, self.z = [], []
        for k, W in enumerate(self.W):
            self.X.append(np.hstack([X, np.ones((len(X), 1))]))
            self.z.append(self.X[-1] @ W)
            X = np.tanh(self.z[-1]) if k == 0 else document_log_softmax(self.z[-1])
        return X

    def backward(self, y: np.ndarray, out: np.ndarray, loss_func: str = "mse") -> list[np.ndarray]:
        """Gradients of the weights, from the weights that there are now."""
        d = 2 * (out - y) / len(y) if loss_func == "mse" else out - y
        p = softmax(self.z[1], axis=1)
        found = []
        for k, slope in ((1, p * (1 - p) + 1e-5), (0, 1 - np.tanh(self.z[0]) ** 2)):
            d = d * slope
            found.insert(0, np.clip(self.X[k].T @ d, -0.5, 0.5))
            d = (d @ self.W[k].T)[:, :-1]
        return found

    def sgd(self, X: np.ndarray, y: np.ndarray, rate: float, use_adam: Any, loss_func: str = "mse") -> None:
        """One step; `batch_size` and the shuffle are left out."""
        gradients = self.backward(y, self.forward(X), loss_func)
        if use_adam:
            self.adam(gradients, rate)
        else:
            self.W = [W - rate * g for W, g in zip(self.W, gradients, strict=True)]

    def adam(self, gradients: list[np.ndarray], rate: float) -> None:
        """`update_A`, `update_F` and `adam_update`; `sgd` does not advance t."""
        for k, g in enumerate(gradients):
            self.A[k] = 0.999 * self.A[k] + 0.001 * g**2
            self.F[k] = 0.9 * self.F[k] + 0.1 * g
            alpha = rate * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
            A, F = self.A[k] / (1 - 0.999**self.t), self.F[k] / (1 - 0.9**self.t)
            self.W[k] = self.W[k] - alpha * F / (np.sqrt(A) + 1e-8)

    def trainsgd(self, X: np.ndarray, y: np.ndarray, rate: float, epochs: int, use_adam: bool, loss_func: str) -> None:
        """As the document has it: `loss_func` stands where `sgd` expects `use_adam`."""
        del use_adam  # which it takes and never reads
        for _ in range(epochs):
            self.sgd(X, y, rate, loss_func)


def document_log_softmax(z: np.ndarray) -> np.ndarray:
    """z − log Σ exp(z − max z): the maximum is taken off inside the logarithm and not put back."""
    return z - np.log(np.sum(np.exp(z - z.max(axis=1, keepdims=True)), axis=1, keepdims=True) + 1e-8)


def sgd_is_adam() -> Shown:
    """Trains three networks from one start."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), np.eye(3)[rng.integers(0, 3, 20)]
    asked, adam, sgd = (Fnn(0) for _ in range(3))
    asked.trainsgd(X, y, 0.01, 10, use_adam=False, loss_func="nll")
    for _ in range(10):
        adam.sgd(X, y, 0.01, True, "mse")
        sgd.sgd(X, y, 0.01, False, "nll")
    to_adam, to_sgd = (max(np.abs(a - b).max() for a, b in zip(asked.W, n.W, strict=True)) for n in (adam, sgd))
    text = f"after 10 steps its weights differ by {to_adam:.0e} from Adam's with 'mse', by {to_sgd:.2f} from SGD's"
    return Shown(text, to_adam == 0.0 < 0.01 < to_sgd, "the weights of Adam", "those of SGD")


def log_of_log() -> Shown:
    """The loss of right, of unsure and of wrong predictions."""
    z, y = np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 9.0, 0.0]]), np.eye(3)[[0, 0, 0]]
    log_p = log_softmax(z, axis=1)
    theirs = -np.sum(y * np.log(np.clip(log_p, 1e-10, 1.0)), axis=1)
    ours = -np.sum(y * log_p, axis=1)
    listed = [", ".join(f"{value:.4f}" for value in values) for values in (theirs, ours)]
    text = f"a right, an unsure and a wrong prediction: {listed[0]} (log 1e10 each); −log p is {listed[1]}"
    return Shown(text, np.ptp(theirs) == 0.0 < np.ptp(ours), *listed)


def sum_of_probabilities() -> Shown:
    """What the exponentials of its log-softmax add up to."""
    z = np.array([[2.0, 1.0, -1.0]])
    theirs, ours = np.exp(document_log_softmax(z)).sum(), np.exp(log_softmax(z, axis=1)).sum()
    text = f"for z = (2, 1, −1) its probabilities have the sum {theirs:.4f} = e², not 1"
    return Shown(text, np.isclose(theirs, np.exp(2.0)) and np.isclose(ours, 1.0), f"{theirs:.4f}", f"{ours:.4f}")


def adam_step() -> Shown:
    """Steps of its Adam for a gradient that stays 1, in learning rates."""
    net, F, A, theirs, ours = Fnn(0), 0.0, 0.0, [], []
    for t in range(1, 5001):
        before = net.W[0][0, 0]
        net.adam([np.ones_like(W) for W in net.W], 1.0)
        theirs.append(before - net.W[0][0, 0])
        F, A = 0.9 * F + 0.1, 0.999 * A + 0.001
        ours.append(F / (1 - 0.9**t) / np.sqrt(A / (1 - 0.999**t)))
    text = f"a gradient of 1: steps of {theirs[0]:.3f} of the rate at first and {theirs[-1]:.3f} at last; Adam's are 1"
    holds = np.allclose([theirs[0], theirs[-1]], [0.1**0.5, 0.1], rtol=5e-3) and np.allclose(ours, 1.0)
    return Shown(text, bool(holds), f"{theirs[0]:.3f}, {theirs[-1]:.3f}", f"{ours[0]:.3f}, {ours[-1]:.3f}")


def mixed_gradient() -> Shown:
    """Its Nesterov step's gradient, forward at the look-ahead point and backward with the old weights."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), np.eye(3)[rng.integers(0, 3, 20)]
    net, velocity = Fnn(0), [0.3 * rng.normal(size=W.shape) for W in Fnn(0).W]
    old = net.W
    net.W = ahead = [W + 0.9 * v for W, v in zip(old, velocity, strict=True)]
    out = net.forward(X)
    net.W = old
    mixed = net.backward(y, out)[0]
    net.W = ahead
    right = net.backward(y, net.forward(X))[0]
    error = np.linalg.norm(mixed - right) / np.linalg.norm(right)
    return Shown(f"the first layer's gradient is {100 * error:.0f} % off", error > 0.1, f"{error:.2f}", "0")


def diagonal() -> Shown:
    """Its recursion on the chain of its own section 5.4, with its loss ½ (ŷ − y)²."""
    w, a = (0.460, 0.500, -0.139, 0.496), [2.0]
    net = fnn.Sequential(
        [fnn.Dense(1, "tanh", bias=False) for _ in w], input_size=1, loss="squared_error", dtype="float64"
    )
    net.theta[...] = w
    exact = np.diag(fnn.curvature.hessian(net, np.array([[2.0]]), np.array([4.0])))
    for weight in w:
        a.append(np.tanh(weight * a[-1]))
    d, theirs = a[-1] - 4.0, np.zeros(4)
    for k in reversed(range(4)):
        slope = 1 - a[k + 1] ** 2
        bend = -2 * a[k + 1] * slope
        theirs[k] = a[k] ** 2 * d * bend
        d = d * slope * w[k] + d * bend * w[k]
    listed = [", ".join(f"{value:.4f}" for value in values) for values in (theirs, exact)]
    text = f"on the chain of section 5.4 it gives ({listed[0]}); the Hessian's diagonal is ({listed[1]})"
    return Shown(text, not np.allclose(theirs, exact, rtol=0.05), *listed)


# -- 001 --------------------------------------------------------------------------------------------------------------


def gradient_at_q() -> Shown:
    """1000 steps of three methods on a quadratic with curvatures from 1 to 1000, steps of 1/1000."""
    curvatures = np.geomspace(1.0, 1000.0, 20)

    def nesterov(at_q: bool) -> float:
        p = previous = np.ones(20)
        momentum = 1.0
        for _ in range(1000):
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            q = p + (momentum - 1) / following * (p - previous)
            p, previous, momentum = q - curvatures * (q if at_q else p) / 1000, p, following
        return float(0.5 * curvatures @ p**2)

    descent = float(0.5 * curvatures @ ((1 - curvatures / 1000) ** 1000) ** 2)
    theirs, ours = nesterov(False), nesterov(True)
    text = f"f after 1000 steps: {theirs:.1e} with the gradient at p, {ours:.1e} at q, {descent:.1e} by descent"
    return Shown(text, ours < 0.2 * theirs < 0.2 * descent, f"{theirs:.1e}", f"{ours:.1e}")


def softplus() -> Shown:
    """Of 1000."""
    with np.errstate(over="ignore"):
        theirs = np.log(1 + np.exp(np.array(1000.0)))
    ours = fnn.kernels.activation_forward(np.array([1000.0]), "softplus")[0]
    return Shown(f"log(1 + exp 1000) is {theirs}, softplus {ours:g}", ours == 1000.0 < theirs, f"{theirs}", f"{ours:g}")


# -- 002 --------------------------------------------------------------------------------------------------------------


def sizes() -> Shown:
    """Parameters of 784-300-10, and their Hessian."""
    net = fnn.Sequential([fnn.Dense(300, "relu"), fnn.Dense(10)], input_size=784, loss="cross_entropy")
    n, theirs = net.n_parameters, 1000 * 300 + 300 + 300 * 10 + 10
    megabytes = theirs * 8 / 2**20
    text = (
        f"784-300-10 has {n:,}; {theirs:,} takes the batch of 1,000 for the inputs. Its Hessian has "
        f"{n**2 * 8 / 1e9:.0f} GB in float64; 5.35 is {megabytes:.3f}², the gradient's megabytes squared"
    )
    return Shown(text, (n, theirs, round(megabytes**2, 2)) == (238_510, 303_310, 5.35), f"{theirs:,}", f"{n:,}")


def pixels() -> Shown:
    """Numbers in 60,000 images."""
    return Shown(f"60,000 · 28 · 28 = {60_000 * 28 * 28:,} numbers", True, "470 million", "47.04 million")


def algorithm_1() -> Shown:
    """Its last line for ten classes, and for two."""
    rng = np.random.default_rng(0)
    Z, labels = rng.normal(size=(50, 10)), rng.integers(0, 10, 50)
    Y = np.eye(10)[labels]
    theirs = -np.sum(log_softmax(Z, axis=1) + (1 - Y) * Z) / 50
    ours = fnn.kernels.cross_entropy(Z, labels)[0]
    z, y = Z[:, 0], labels % 2
    logistic = -np.mean(y * np.log(expit(z)) + (1 - y) * np.log(expit(-z)))
    lines = [-np.mean(np.log(expit(z)) + sign * (1 - y) * z) for sign in (1, -1)]
    text = (
        f"ten classes: {theirs:.3f}, the cross-entropy is {ours:.3f}. For two classes, with a minus before (1 − y) Z, "
        f"it is the logistic loss: {lines[1]:.3f} = {logistic:.3f}; as printed {lines[0]:.3f}"
    )
    holds = abs(theirs - ours) > 1.0 and np.isclose(lines[1], logistic) and not np.isclose(lines[0], logistic)
    return Shown(text, bool(holds), f"{theirs:.3f}", f"{ours:.3f}")


def equation_14() -> Shown:
    """How it and Gauss-Newton's diagonal change when a feature is ten times as large, its weights a tenth."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    net = fnn.Sequential([fnn.Dense(3)], input_size=3, loss="cross_entropy", dtype="float64", seed=0)
    found = []
    for factor in (1.0, 10.0):
        scaled = X * [factor, 1.0, 1.0]
        net.theta[:3] /= factor  # the weights of the first feature
        each = [net.gradient(scaled[i : i + 1], y[i : i + 1]) for i in range(40)]
        found.append((np.sqrt(np.sum(np.square(each), axis=0))[0], fnn.curvature.ggn_diagonal(net, scaled, y)[0]))
    theirs, ours = (after / before for before, after in zip(*found, strict=True))
    text = f"a feature times 10, its weights by 10: eq. 14 grows {theirs:.0f}-fold, Gauss-Newton's {ours:.0f}-fold"
    return Shown(text, bool(np.isclose(theirs, 10) and np.isclose(ours, 100)), f"{theirs:.0f}", f"{ours:.0f}")


def kronecker() -> Shown:
    """Equation 78 for one layer, with both orders of the factors, against equation 68."""
    rng = np.random.default_rng(0)
    n, m, inputs = 3, 4, 2
    X, H_Z = rng.normal(size=(inputs, m)), rng.normal(size=(m, n, n))
    H_Z = H_Z + H_Z.transpose(0, 2, 1)
    exact = np.einsum("ki,ijJ,Ki->jkJK", X, H_Z, X)
    D = np.zeros((n * m, n * m))
    for i in range(m):
        D[i * n : (i + 1) * n, i * n : (i + 1) * n] = H_Z[i]
    theirs = np.kron(np.eye(n), X)
    ours = np.kron(X, np.eye(n))  # equation 71: blocks A b_ij, which are np.kron(B, A)
    printed = (theirs @ D @ theirs.T).reshape(n, inputs, n, inputs)
    turned = (ours @ D @ ours.T).reshape(inputs, n, inputs, n).transpose(1, 0, 3, 2)
    errors = [np.linalg.norm(H - exact) / np.linalg.norm(exact) for H in (printed, turned)]
    text = f"relative error of algorithm 3's np.kron(I, X): {errors[0]:.2f}; of np.kron(X, I): {errors[1]:.0e}"
    return Shown(text, errors[1] < 1e-14 < 0.1 < errors[0], f"{errors[0]:.2f}", f"{errors[1]:.0e}")


def sign_of_bend() -> Shown:
    """σ'' on either side of zero."""
    z = np.array([-1.0, 1.0])
    bends = {name: fnn.kernels.activation_derivatives(z, name)[2] for name in ("sigmoid", "tanh")}
    text = "; ".join(f"{name}'' is {b[0]:+.3f} at −1 and {b[1]:+.3f} at 1" for name, b in bends.items())
    return Shown(text, all(b[0] > 0 > b[1] for b in bends.values()), "σ'' ≥ 0 for z ≥ 0", "σ'' ≥ 0 for z ≤ 0")


def start_of_algorithm_3() -> Shown:
    """∂²ℓ/∂z² of a softmax, as the algorithm starts and as equation 83 has it."""
    p = softmax(np.array([1.0, 0.0, -1.0]))
    exact, theirs = np.diag(p) - np.outer(p, p), np.diag(p * (1 - p))
    error = np.linalg.norm(theirs - exact) / np.linalg.norm(exact)
    holds = np.allclose(np.diag(exact), np.diag(theirs)) and error > 0.3
    return Shown(f"the diagonal is right, all of the matrix {100 * error:.0f} % off", holds, f"{error:.2f}", "0")


def convexity() -> Shown:
    """Two linear neurons in a chain: both layers' blocks are positive, and the Hessian is not."""
    net = fnn.Sequential(
        [fnn.Dense(1, bias=False), fnn.Dense(1, bias=False)], input_size=1, loss="squared_error", dtype="float64"
    )
    net.theta[...] = 0.5, 0.5
    H = fnn.curvature.hessian(net, np.array([[1.0]]), np.array([1.0]))
    smallest = np.linalg.eigvalsh(H)[0]
    text = (
        f"½ (w₁ w₂ − 1)² at (½, ½): the blocks are {H[0, 0]:.2f} and {H[1, 1]:.2f}, the least eigenvalue {smallest:.2f}"
    )
    return Shown(text, H[0, 0] > 0 and H[1, 1] > 0 > smallest, f"{H[0, 0]:.2f}", f"{smallest:.2f}")


# -- 003 --------------------------------------------------------------------------------------------------------------


def gamma_left_out() -> Shown:
    """A numerical check of batch normalisation's backward pass, with and without γ."""
    rng = np.random.default_rng(0)
    Z, gamma, beta = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=3)

    def forward(Z: np.ndarray) -> np.ndarray:
        return fnn.kernels.batch_norm_forward(Z, gamma, beta)[0]

    def backward(scale: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        def vjp(Z: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
            _, mean, variance = fnn.kernels.batch_norm_forward(Z, gamma, beta)
            return fnn.kernels.batch_norm_backward(cotangent, Z, scale, mean, variance)[0]

        return vjp

    theirs, ours = (fnn.check_gradient(forward, Z, vjp=backward(scale)) for scale in (np.ones(3), gamma))
    text = f"the check's error is {theirs.error:.2f} without γ and {ours.error:.0e} with it"
    return Shown(text, bool(ours) and not theirs, f"{theirs.error:.2f}", f"{ours.error:.0e}")


def he_variance() -> Shown:
    """The root mean square of what 20 relu layers of 200 neurons make of normal rows."""
    sizes = []
    for variance in (1, 2):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(100, 200))
        for _ in range(20):
            X = np.maximum(X @ rng.normal(scale=np.sqrt(variance / 200), size=(200, 200)), 0.0)
        sizes.append(float(np.sqrt(np.mean(X**2))))
    text = f"after 20 relu layers outputs are {sizes[0]:.1e} with 1/n (2⁻¹⁰ = {2**-10:.1e}) and {sizes[1]:.2f} with 2/n"
    return Shown(text, sizes[0] < 2e-3 and 0.4 < sizes[1] < 1.5, f"{sizes[0]:.1e}", f"{sizes[1]:.2f}")


def mean_of_all() -> Shown:
    """A test row that is far off, with its mean in the standardisation and without."""
    X, y = fnn.datasets.load_iris()
    (X, _), (X_test, _) = fnn.datasets.split(X, y, (0.8, 0.2))
    moved = []
    for far in (0.0, 100.0):  # one feature of one test row
        test = X_test.copy()
        test[0, 0] += far
        both = np.concatenate([X, test])
        moved.append([(X[0, 0] - rows[:, 0].mean()) / rows[:, 0].std() for rows in (both, X)])
    theirs, ours = np.abs(np.subtract(*moved))
    text = (
        f"moving one test row by 100 cm moves a standardised training row by {theirs:.2f}; by {ours:.0f} if it may not"
    )
    return Shown(text, ours == 0.0 < 0.1 < theirs, f"{theirs:.2f}", f"{ours:.0f}")


# -- 004 --------------------------------------------------------------------------------------------------------------


def not_mse() -> Shown:
    """The cross-entropy and the mean squared error of an honest predictor that is right in 84.26 of 100 rows."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(20_000, 10))
    low, high = 0.0, 50.0
    for _ in range(20):  # the scale at which the largest probability is 0.8426 on average
        scale = (low + high) / 2
        low, high = (scale, high) if softmax(scale * Z, axis=1).max(axis=1).mean() < 0.8426 else (low, scale)
    P = softmax(scale * Z, axis=1)
    entropy = float(np.mean(logsumexp(scale * Z, axis=1) - np.sum(P * scale * Z, axis=1)))
    squares = float(np.mean(np.sum(P * (1 - P), axis=1)))
    text = (
        f"probabilities that are right on average, and 84.26 % hits: cross-entropy {entropy:.2f}, squared error "
        f"{squares:.2f} (a tenth of it as a mean); it prints 0.4558"
    )
    return Shown(text, abs(entropy - 0.4558) < 0.1 < abs(squares - 0.4558), f"{squares:.2f}", f"{entropy:.2f}")


MISTAKES = [
    Mistake(
        "000, trainsgd",
        "sgd(X, y, batch_size, learning_rate, loss_func): the loss stands where the flag use_adam is expected",
        "what it calls SGD is Adam with the squared error; in table 2 and 3 as well, if they come from it",
        sgd_is_adam,
    ),
    Mistake(
        "000, _calculate_loss",
        "'nll' clips the outputs to [1e-10, 1] and takes their logarithm; they are logarithms already",
        "the mean of −log p of the right class",
        log_of_log,
    ),
    Mistake(
        "000, logsoftmax",
        "z − log Σ exp(z − max z)",
        "z − max z − log Σ exp(z − max z); and its derivative is a full matrix, not p (1 − p) + 1e-5",
        sum_of_probabilities,
    ),
    Mistake(
        "000, adam_update",
        "corrects the bias of both averages and of the rate as well; its counter t stays at 1 in sgd",
        "one of the two corrections, and t counts the steps",
        adam_step,
    ),
    Mistake(
        "000, Nesterov in sgd",
        "runs forward with the weights ahead, puts the old ones back, and runs backward with those",
        "both at the point ahead",
        mixed_gradient,
    ),
    Mistake(
        "000, hessian_diagonal",
        "a recursion of first derivatives of the loss with σ''",
        "∂²L/∂w² needs the second derivatives of the layer above as a matrix: fnn.curvature.hessian_diagonal",
        diagonal,
    ),
    Mistake(
        "001, NAG",
        "takes the gradient at p, the iterate",
        "at q, the extrapolated point, as the marker's comment 8.1 says",
        gradient_at_q,
    ),
    Mistake("001, feed_forward", "log(1 + exp z), which overflows", "max(z, 0) + log1p(exp(−|z|))", softplus),
    Mistake("002, section 2", "303,310 parameters, and a Hessian of 5.35 MB", "238,510 parameters, 455 GB", sizes),
    Mistake("002, section 1", "60,000 images of 28×28 are around 470M parameters", "47 million numbers", pixels),
    Mistake(
        "002, algorithm 1, last line",
        "−1/n Σ [log X + (1 − y) Z]",
        "−1/n Σ y log X, its equation 21; the line is the loss of two classes, with a wrong sign",
        algorithm_1,
    ),
    Mistake(
        "002, equation 14",
        "calls Diag(Σ ∇ℓ ∇ℓᵀ)^½ the approximate Gauss-Newton Hessian",
        "it is AdaGrad's matrix: the root of the empirical Fisher matrix's diagonal, no curvature",
        equation_14,
    ),
    Mistake(
        "002, equation 71 and algorithm 3",
        "defines A ⊗ B by blocks A b_ij, and takes np.kron(A, B) for it",
        "np.kron(A, B) has blocks a_ij B: it is np.kron(B, A), here np.kron(X, I)",
        kronecker,
    ),
    Mistake(
        "002, equations 88 and 89",
        "σ''(z) ∂ℓ/∂x ≥ 0 where z and ∂ℓ/∂x have the same sign",
        "where they have opposite signs, for sigmoid and tanh",
        sign_of_bend,
    ),
    Mistake("002, algorithm 3, start", "H_Z ← Z (1 − Z)", "X_p ([p = q] − X_q), its equation 83", start_of_algorithm_3),
    Mistake(
        "002, appendix C",
        "positive terms in each layer's Hessian make the objective convex",
        "the whole Hessian decides, with the blocks between layers: fnn.curvature.convexity_report",
        convexity,
    ),
    Mistake(
        "003, BatchNormParameters.backward",
        "multiplies ∂ℓ/∂z with the derivative of the normalisation alone",
        "with γ as well, as its own formula δ = r N(γ 1ᵀ ⊙ δ) has it",
        gamma_left_out,
    ),
    Mistake(
        "003, section 6",
        "relu wants weights with E w² = 1/n",
        "2/n: half of the inputs are zero (He 2015)",
        he_variance,
    ),
    Mistake(
        "003, section 1, program",
        "divides rows into training and test rows, and takes mean and variance of all of them",
        "of the training rows, as its later programs do: fnn.Standardize()",
        mean_of_all,
    ),
    Mistake(
        "004, problem 4", 'calls the cost on the test rows "unregularized MSE"', "it is the cross-entropy", not_mse
    ),
]


def beside(found: Sequence[tuple[Mistake, Shown]]) -> list[tuple[str, str, str, str]]:
    """Where, what it says, the figure that follows from it, and ours."""
    return [(mistake.where, mistake.says, shown.theirs, shown.ours) for mistake, shown in found]


def main(argv: Sequence[str] | None = None) -> list[tuple[Mistake, Shown]]:
    """Show each mistake; SystemExit if a computation does not bear it out.

    Returns
    -------
    list of (Mistake, Shown)
    """
    parser = argparse.ArgumentParser(description="Where the documents are not to be followed.")
    parser.add_argument("--quick", action="store_true", help="changes nothing: it takes a second")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="not used: there are no files")
    parser.parse_args(argv)
    found = []
    for mistake in MISTAKES:
        shown = mistake.show()
        found.append((mistake, shown))
        print(mistake.where)
        for head, text in (("says", mistake.says), ("right", mistake.right), ("shown", shown.text)):
            print(textwrap.fill(text, 116, initial_indent=f"  {head:7}", subsequent_indent=" " * 9))
        print()
    wrong = [mistake.where for mistake, shown in found if not shown.holds]
    if wrong:
        raise SystemExit(f"not shown: {', '.join(wrong)}")
    return found


if __name__ == "__main__":
    main()
