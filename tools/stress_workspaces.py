#!/usr/bin/env python3
"""Random small plans with red zones in their workspaces: nothing writes behind its part or reads what is not set.

    tools/stress_workspaces.py [--plans 100000] [--seed 0]       one line at the end; fails at the first plan at fault

Each plan has random layers, shapes, type, rows of X (dense of three types, or sparse), workers, batches, chunks, tiles
that skip zeros, and goes through forward, gradient, training, linearization and products. Every call is made twice:
with red zones, where the workspace begins as NaN and is checked afterwards, and without, in a workspace that earlier
plans have used; results must agree bit for bit. `FASTNN_SIMD` chooses the instruction set.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._core.engine import Plan
from fastnn._core.tuning import tuning
from fastnn.losses import LOSSES
from fastnn.plan import ACTIVATIONS, OpSpec, UpdateRule
from fastnn.reference.sparse import SparseRows

RULES = [
    UpdateRule("sgd", 1e-2),
    UpdateRule("sgd", 1e-2, momentum=0.9, nesterov=True),
    UpdateRule("nag", 1e-2),
    UpdateRule("adagrad", 1e-2),
    UpdateRule("rmsprop", 1e-3, momentum=0.5, centered=True),
    UpdateRule("adam", 1e-3),
    UpdateRule("adam", 1e-3, amsgrad=True, weight_decay=0.1),
    UpdateRule("lbfgs", 1e-2, momentum=0.9, kl_clip=1e-2),
    UpdateRule("kfac", 1e-2, momentum=0.9, kl_clip=1e-2),
]
SMOOTH = [name for name in ACTIVATIONS if name != "sign"]


class Case:
    """One random plan, its data, and the constants that it runs with."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.dtype = "float32" if rng.random() < 0.5 else "float64"
        self.loss = self.pick(list(LOSSES))
        self.ops: list[OpSpec] = []
        self.parameters = self.n_buffers = 0
        self.build()
        self.rows = int(self.pick([1, 2, 7, 16, 25, 40, 97, 290]))
        self.workers = int(self.pick([1, 1, 2, 3, 4]))
        self.scale = self.pick([None, None, 0.5])
        self.tuning = self.constants()
        self.plan = Plan(self.ops, self.parameters, self.loss, self.dtype, self.scale)
        self.fill()

    def pick(self, values: list[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def width(self, wide: bool = False) -> int:
        """Around multiples of vectors, tiles and words."""
        base = self.pick([1, 4, 8, 16, 32, 64, 96, 128, 160] if wide else [1, 4, 8, 16, 32, 40])
        return max(1, base + int(self.rng.integers(-2, 3)))

    def add(self, kind: str, n_in: int, n_out: int, activation: str = "linear", bias: bool = True) -> None:
        product, norm = kind == "dense", kind.endswith("_norm")
        weight = shift = buffer = -1
        if product or norm or kind == "scale":
            weight, self.parameters = self.parameters, self.parameters + (n_in * n_out if product else n_out)
            if norm or (product and bias):
                shift, self.parameters = self.parameters, self.parameters + n_out
        size = {"batch_norm": 2 * n_out + 1, "standardize": 2 * n_out, "dropout": 1}.get(kind, 0)
        if size:
            buffer, self.n_buffers = self.n_buffers, self.n_buffers + size
        options = {"epsilon": 1e-5, "momentum": 0.9} if norm else {}
        options |= {"dropout_rate": 0.3} if kind == "dropout" else {}
        previous = len(self.ops) - 1
        self.ops.append(OpSpec(kind, previous, n_in, n_out, weight, shift, activation, buffer=buffer, **options))

    def build(self) -> None:
        """Dense layers, with others before and between them in half of the plans."""
        self.plain = self.rng.random() < 0.5
        at = self.width(wide=True)
        if not self.plain and self.rng.random() < 0.5:
            self.add(self.pick(["standardize", "batch_norm", "layer_norm", "dropout", "scale"]), at, at)
        for _ in range(int(self.rng.integers(0, 4))):
            n_out = self.width()
            self.add("dense", at, n_out, self.pick(SMOOTH), bias=self.rng.random() < 0.8)
            at = n_out
            if not self.plain and self.rng.random() < 0.5:
                kind = self.pick(["batch_norm", "layer_norm", "dropout", "activation", "scale"])
                self.add(kind, at, at, self.pick(SMOOTH) if kind == "activation" else "linear")
        self.add("dense", at, self.pick([1, 2, 3, 10, 17]), "linear", bias=self.rng.random() < 0.8)

    def constants(self) -> dict[str, Any]:
        """Many workers, small chunks, products by feature, tiles that skip zeros."""
        few = self.rng.random() < 0.5
        chosen: dict[str, Any] = {
            "min_work": 1.0,
            "shard_rows": 1e-6,
            "exchange": 0.0,
            "zeros_sample": int(self.pick([0, 4, 4])),
        }
        if few:
            chosen |= {"chunk_bytes": 1.0, "chunk_share": 0.0, "forward_bytes": 1.0, "linearize_bytes": 1.0}
        if self.rng.random() < 0.3:
            chosen |= {"feature_rows": 0, "feature_chunk": int(self.pick([17, 64, 135])), "feature_margin": 0.0}
        if self.rng.random() < 0.7:
            height = int(self.pick([2, 4]))
            apart = 2 ** int(self.rng.integers(0, 6 if height == 2 else 5))
            chosen |= {"zeros_forward": int(self.pick([2, 4])), "zeros_gradient": height, "zeros_apart": apart}
        return chosen

    def fill(self) -> None:
        rng, rows = self.rng, self.rows
        n_in, n_out = self.ops[0].n_in, self.ops[-1].n_out
        self.theta = (0.3 * rng.standard_normal(self.parameters)).astype(self.dtype)
        self.buffers = np.abs(rng.standard_normal(self.n_buffers)).astype(self.dtype) + 1
        filled = rng.random((rows, n_in)) < self.pick([0.02, 0.1, 0.4, 1.0])
        source = self.pick(["own", "own", "float32", "float64", "uint8", "sparse"])
        dtype = self.dtype if source in ("own", "sparse") else source
        self.X: Any = (filled * rng.integers(1, 4, (rows, n_in))).astype(dtype)
        if source == "sparse":
            at = self.X != 0
            indptr = np.concatenate([[0], np.cumsum(at.sum(axis=1))]).astype(np.int64)
            self.X = SparseRows(self.X[at], np.nonzero(at)[1].astype(np.int32), indptr, n_in)
        labels = self.loss == "cross_entropy" and rng.random() < 0.5
        one = rng.integers(0, n_out, rows)
        self.y = one if labels else np.eye(n_out, dtype=self.dtype)[one]
        self.weight = rng.random(rows).astype(self.dtype) if rng.random() < 0.4 else None
        self.direction = rng.standard_normal((2, self.parameters)).astype(self.dtype)

    def forward(self) -> list[np.ndarray]:
        return [self.plan.forward(self.theta, self.X, self.workers, self.buffers)]

    def gradient(self) -> list[np.ndarray]:
        loss, gradient = self.plan.loss_and_gradient(
            self.theta, self.X, self.y, self.weight, 1e-3, 1e-2, self.workers, buffers=self.buffers
        )
        return [np.array(loss), gradient]

    def train(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        rules = RULES if self.dtype and not any(op.kind == "standardize" for op in self.ops) else RULES[:-1]
        rule = rules[int(rng.integers(len(rules)))]
        order = None if rng.random() < 0.3 else np.stack([rng.permutation(self.rows) for _ in range(2)])
        theta, buffers = self.theta.copy(), self.buffers.copy()
        moments = np.zeros((rule.n_moments, self.parameters), self.dtype)
        options: dict[str, Any] = {"clip_norm": 1.0} if rng.random() < 0.3 else {}
        if rule.rule == "kfac":
            options["preconditioner"] = [self.factors(op) for op in self.ops]
        if rule.rule == "lbfgs":
            rank = int(rng.integers(0, 5))
            basis = rng.normal(size=(rank, self.parameters)).astype(self.dtype)
            options["preconditioner"] = basis, 1e-3 * np.eye(rank), 0.5
        result = self.plan.train(
            theta, moments, self.X, self.y, order, int(rng.integers(1, self.rows + 1)), rule, 0, l2=1e-3, epochs=2,
            sample_weight=self.weight, threads=self.workers, deterministic=bool(rng.random() < 0.3),
            buffers=buffers, **options,
        )  # fmt: skip
        return [theta, buffers, moments, np.array(result.losses)]

    def factors(self, op: OpSpec) -> tuple[np.ndarray, np.ndarray] | None:
        if op.kind != "dense":
            return None
        n = op.n_in + (op.bias >= 0)
        return np.eye(n, dtype=self.dtype), np.eye(op.n_out, dtype=self.dtype)

    def linearize(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        training = bool(rng.random() < 0.5)
        lin = self.plan.linearize(
            self.theta, self.X, self.y, self.weight, buffers=self.buffers, training=training, threads=self.workers
        )
        coupled = training and any(op.kind == "batch_norm" for op in self.ops)
        results = [lin.outputs.copy(), lin.product(self.direction), lin.product(self.direction, "ggn")]
        if not coupled:
            results += [lin.product(self.direction, "fisher")]
            results += [lin.input_gradient(), lin.input_product(np.ones(self.ops[0].n_in, self.dtype))]
        return results

    def check(self, seed: int) -> str | None:
        """What is wrong, or None."""
        self.seed = seed
        calls: list[Callable[[], list[np.ndarray]]] = [self.forward, self.gradient, self.train, self.linearize]
        for call in calls:
            found = []
            for red_zone in (64, 0):
                with tuning(red_zone=red_zone, **self.tuning), np.errstate(all="ignore"):
                    try:
                        found.append(call())
                    except SystemError as error:
                        return f"{call.__name__}: {error}"
            for i, (guarded, plain) in enumerate(zip(*found, strict=True)):
                if not np.array_equal(guarded, plain, equal_nan=True):
                    return f"{call.__name__}: result {i} depends on what the workspace held before"
        return None

    def __repr__(self) -> str:
        shapes = " ".join(f"{op.kind}({op.n_in}, {op.n_out}, {op.activation})" for op in self.ops)
        return f"{shapes} {self.loss} {self.dtype}, {self.rows} rows, {self.workers} workers, {self.tuning}"


def stress(plans: int, seed: int) -> str | None:
    """Run plans seed .. seed + plans - 1; what is wrong with the first that is at fault."""
    for i in range(seed, seed + plans):
        case = Case(np.random.default_rng(i))
        wrong = case.check(i)
        if wrong:
            return f"plan {i}: {wrong}\n{case!r}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first plan; the next one has the next")
    options = parser.parse_args()
    start = time.perf_counter()
    wrong = stress(options.plans, options.seed)
    if wrong:
        sys.exit(wrong)
    print(f"{options.plans} plans from {options.seed} on: ok, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
