"""Learning-rate schedules: their formulas, in training with both backends, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn.schedules import Clock, Schedule


def regression(backend: str = "compiled", dtype: str = "float64") -> fnn.Sequential:
    return fnn.Sequential([fnn.Dense(2)], input_size=3, loss="squared_error", dtype=dtype, seed=1, backend=backend)


def rates(schedule: Schedule, epochs: int, batches: int) -> np.ndarray:
    """Rate of each batch, (epochs, batches)."""
    return np.array(
        [
            [schedule.rate(Clock(epoch * batches + batch, epoch, batch / batches, batches)) for batch in range(batches)]
            for epoch in range(epochs)
        ]
    )


E, B = 6, 4
EPOCH = np.repeat(np.arange(E), B).reshape(E, B)
STEP = np.arange(E * B).reshape(E, B)
PART = STEP / B
CASES = [
    (fnn.RationalDecay(0.2, 0.5), 0.2 / (1 + 0.5 * EPOCH)),
    (fnn.RationalDecay(0.2, 0.5, per="step"), 0.2 / (1 + 0.5 * STEP)),
    (fnn.ExponentialDecay(0.2, 0.9), 0.2 * 0.9**EPOCH),
    (fnn.ExponentialDecay(0.2, 0.9, per="step"), 0.2 * 0.9**STEP),
    (fnn.RootDecay(0.2, 0.5), 0.2 * 0.5 / np.sqrt(EPOCH + 1)),
    (fnn.RootDecay(0.2, per="step"), 0.2 / np.sqrt(STEP + 1)),
    (fnn.StepDecay(0.2, 0.5, 2), 0.2 * 0.5 ** (EPOCH // 2)),
    (fnn.StepDecay(0.2, 0.5, 5, per="step"), 0.2 * 0.5 ** (STEP // 5)),
    (fnn.CosineDecay(0.2, 4, 0.05), 0.05 + 0.075 * (1 + np.cos(np.pi * np.minimum(PART / 4, 1)))),
    (fnn.CosineDecay(0.2, 9, per="step"), 0.1 * (1 + np.cos(np.pi * np.minimum(STEP / 9, 1)))),
    (fnn.WarmUp(0.2, 2), 0.2 * np.minimum((STEP + 1) / (2 * B), 1)),
    (fnn.WarmUp(0.2, 5, per="step"), 0.2 * np.minimum((STEP + 1) / 5, 1)),
]


@pytest.mark.parametrize(("schedule", "expected"), CASES, ids=[str(case[0]) for case in CASES])
def test_formulas(schedule, expected) -> None:
    np.testing.assert_allclose(rates(schedule, E, B), expected, rtol=1e-14)
    if not schedule.smooth:
        assert (rates(schedule, E, B) == rates(schedule, E, B)[:, :1]).all()
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(dataclasses.replace(schedule))


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize(
    "then",
    [
        fnn.CosineDecay(0.2, 3),
        fnn.ExponentialDecay(0.2),
        fnn.RationalDecay(0.2, per="step"),
        fnn.StepDecay(0.2, 0.5, 2),
    ],
    ids=str,
)
def test_after_the_warm_up_the_other_schedule_starts(then, per) -> None:
    length = 2 if per == "epoch" else 2 * B
    warmed = rates(fnn.WarmUp(then, length, per), E, B)
    np.testing.assert_allclose(warmed[:2].ravel(), 0.2 * np.arange(1, 2 * B + 1) / (2 * B), rtol=1e-14)
    np.testing.assert_allclose(warmed[2:], rates(then, E - 2, B), rtol=1e-12)


def test_a_warm_up_that_ends_within_an_epoch() -> None:
    got = rates(fnn.WarmUp(fnn.StepDecay(1.0, 0.5, 1), 6, "step"), 4, 4).ravel()
    np.testing.assert_allclose(got, [*(np.arange(1, 7) / 6), *[1.0] * 4, *[0.5] * 4, *[0.25] * 2], rtol=1e-14)


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.zeros(1, requires_grad=True)
    for make, ours in (
        (lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5), fnn.StepDecay(0.2, 0.5, 2)),
        (lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9), fnn.ExponentialDecay(0.2, 0.9)),
    ):
        optimizer = torch.optim.SGD([parameter], 0.2)
        scheduler = make(optimizer)
        for epoch in range(6):
            assert ours.rate(Clock(0, epoch)) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
            optimizer.step()
            scheduler.step()


# In training.


@pytest.mark.parametrize("block", [True, False])
@pytest.mark.parametrize(
    "schedule",
    [fnn.RationalDecay(0.1), fnn.WarmUp(fnn.CosineDecay(0.1, 4), 1), fnn.RootDecay(0.1, per="step")],
    ids=str,
)
def test_every_batch_has_its_rate(schedule, block, backend, dtype, rng) -> None:
    X, y = rng.normal(size=(13, 3)), rng.normal(size=(13, 2))
    net, by_hand = regression(backend, dtype), regression(backend, dtype)
    trainer = fnn.Trainer(net, X, y, optimizer=fnn.SGD(schedule, momentum=0.5), batch_size=4, shuffle=False)
    results = list(trainer.epochs(5, block=block))
    expected = rates(schedule, 5, 4)
    velocity = np.zeros(by_hand.n_parameters)
    theta = by_hand.theta.astype(np.float64)
    for rate, batch in zip(expected.ravel(), np.tile(np.arange(4), 5), strict=True):
        take = slice(4 * batch, 4 * batch + 4)
        by_hand.theta = theta.astype(dtype)
        velocity = 0.5 * velocity - rate * by_hand.gradient(X[take], y[take])
        theta = theta + velocity
    np.testing.assert_allclose(net.theta, theta, rtol=1e-4 if dtype == "float32" else 1e-11)
    assert [result.learning_rate for result in results] == pytest.approx(list(expected[:, -1]))


def test_history_has_the_rate(backend, rng) -> None:
    X, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    history = regression(backend).fit(X, y, optimizer=fnn.Adam(fnn.ExponentialDecay(0.1, 0.5)), epochs=3)
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.025])


def test_blocks_change_nothing(backend, rng, monkeypatch) -> None:
    monkeypatch.setattr("fastnn.training.trainer.BLOCK_SECONDS", 1e9)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    nets = [regression(backend) for _ in range(2)]
    for net, block in zip(nets, (True, False), strict=True):
        optimizer = fnn.AdamW(fnn.WarmUp(fnn.CosineDecay(0.01, 6), 3, per="step"))
        list(fnn.Trainer(net, X, y, optimizer=optimizer, batch_size=6, threads=1).epochs(8, block=block))
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


# Plateau.


def test_plateau_memory() -> None:
    schedule = fnn.ReduceOnPlateau(1.0, 0.5, patience=1, min_delta=0.1, cooldown=2, minimum=0.2)
    memory, got = schedule.start(), []
    values = [3.0, 2.95, 2.0, 2.0, math.nan, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    for value in values:
        schedule.update(memory, value, rising=False)
        got.append(schedule.rate(Clock(0, 0), memory["scale"]))
    assert got == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_plateau_agrees_with_torch(rng) -> None:
    torch = pytest.importorskip("torch")
    for rising in (False, True):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
        options = {"factor": 0.5, "patience": 2, "cooldown": 3}
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max" if rising else "min", threshold=0.05, threshold_mode="abs", eps=0.0, **options
        )
        ours = fnn.ReduceOnPlateau(1.0, min_delta=0.05, **options)
        memory = ours.start()
        for value in rng.random(100):
            theirs.step(value)
            ours.update(memory, value, rising)
            assert ours.rate(Clock(0, 0), memory["scale"]) == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("options", [{}, {"validation_split": 0.3}], ids=["training loss", "validation loss"])
@pytest.mark.parametrize("warm", [False, True])
def test_plateau_in_training(warm, options, backend, rng) -> None:
    # A rate that is far too small: nothing improves by min_delta, so it falls every second epoch.
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    schedule = fnn.ReduceOnPlateau(1e-6, 0.5, patience=1, min_delta=1e-3)
    history = regression(backend).fit(
        X, y, optimizer=fnn.SGD(fnn.WarmUp(schedule, 1) if warm else schedule), epochs=6, **options
    )
    assert history["learning_rate"] == pytest.approx([1e-6, 1e-6, 1e-6, 0.5e-6, 0.5e-6, 0.25e-6])


# What is refused.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fnn.RationalDecay(0.0), ValueError, "learning_rate must be a finite number > 0, got 0.0"),
        (lambda: fnn.RationalDecay("fast"), TypeError, "learning_rate must be a finite number > 0, got 'fast'"),
        (lambda: fnn.RationalDecay(0.1, -1), ValueError, "decay must be a finite number >= 0, got -1"),
        (lambda: fnn.ExponentialDecay(0.1, 1.5), ValueError, "factor must be a finite number > 0 and <= 1, got 1.5"),
        (lambda: fnn.RootDecay(0.1, per="batch"), ValueError, "per must be 'epoch' or 'step', got 'batch'"),
        (lambda: fnn.RootDecay(0.1, per=1), TypeError, "per must be 'epoch' or 'step', got 1"),
        (lambda: fnn.StepDecay(0.1, every=0), ValueError, "every must be an integer >= 1, got 0"),
        (lambda: fnn.CosineDecay(0.1, 2.5), TypeError, "length must be an integer >= 1, got 2.5"),
        (lambda: fnn.CosineDecay(0.1, 5, 0.2), ValueError, "minimum must be a finite number >= 0 and <= 0.1, got 0.2"),
        (lambda: fnn.WarmUp("x"), TypeError, "then must be a finite number > 0, got 'x'"),
        (lambda: fnn.WarmUp(fnn.WarmUp(0.1)), TypeError, "then must be a number or a schedule other than WarmUp"),
        (lambda: fnn.ReduceOnPlateau(0.1, 1.0), ValueError, "factor must be a finite number > 0 and < 1, got 1.0"),
        (lambda: fnn.ReduceOnPlateau(0.1, monitor=3), TypeError, "monitor must be the name of a series or None"),
        (lambda: fnn.Adam(fnn.CosineDecay), TypeError, "learning_rate must be a finite number > 0"),
    ],
)
def test_refused(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
