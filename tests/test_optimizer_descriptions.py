"""Descriptions of optimizers: the update rule of each, values that can be compared, names, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optimizers
from fastnn.plan import UpdateRule


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (fnn.SGD(), UpdateRule("sgd", 0.01)),
        (fnn.SGD(1, 0.9, True), UpdateRule("sgd", 1.0, momentum=0.9, nesterov=True)),
        (fnn.SGD(0.1, 0.8, bias_correction=True), UpdateRule("momentum", 0.1, beta1=0.8)),
        (fnn.NAG(), UpdateRule("nag", 0.01)),
        (fnn.AdaGrad(), UpdateRule("adagrad", 0.01, epsilon=1e-10)),
        (fnn.RMSProp(momentum=0.5, centered=True), UpdateRule("rmsprop", 1e-3, momentum=0.5, centered=True)),
        (fnn.Adam(amsgrad=True), UpdateRule("adam", 1e-3, amsgrad=True)),
        (fnn.AdamW(epsilon_hat=True), UpdateRule("adam", 1e-3, weight_decay=0.01, epsilon_hat=True)),
        (fnn.RMSProp(rho=0.5), UpdateRule("rmsprop", 1e-3, rho=0.5, epsilon=1e-8)),
        (fnn.Adam(beta1=0.8), UpdateRule("adam", 1e-3, beta1=0.8)),
        (fnn.AdamW(), UpdateRule("adam", 1e-3, weight_decay=0.01)),
    ],
)
def test_update_rule(optimizer, expected) -> None:
    assert optimizer.update_rule() == expected


def test_state_vectors() -> None:
    numbers = [name.update_rule().n_moments for name in (fnn.SGD(), fnn.SGD(0.1, 0.9), fnn.AdaGrad(), fnn.RMSProp())]
    assert numbers == [0, 1, 1, 1]
    options = ({}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True})
    assert [fnn.RMSProp(**some).update_rule().n_moments for some in options] == [1, 2, 2, 3]
    assert [fnn.NAG().update_rule().n_moments, fnn.Adam(amsgrad=True).update_rule().n_moments] == [1, 3]
    assert fnn.Adam().update_rule().n_moments == fnn.AdamW().update_rule().n_moments == 2


def test_descriptions_are_values() -> None:
    assert fnn.Adam(np.float32(0.5)) == fnn.Adam(0.5)
    assert type(fnn.Adam(1).learning_rate) is float
    assert pickle.loads(pickle.dumps(fnn.AdamW(0.1))) == fnn.AdamW(0.1)
    assert dataclasses.replace(fnn.Adam(0.1), beta1=0.5) == fnn.Adam(0.1, beta1=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        fnn.Adam().learning_rate = 1.0


def test_names() -> None:
    assert {name: optimizers.get(name) for name in optimizers.OPTIMIZERS} == {
        "sgd": fnn.SGD(),
        "nag": fnn.NAG(),
        "adagrad": fnn.AdaGrad(),
        "rmsprop": fnn.RMSProp(),
        "adam": fnn.Adam(),
        "adamw": fnn.AdamW(),
        "kfac": fnn.KFAC(),
        "stochastic_lbfgs": fnn.StochasticLBFGS(),
    }


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fnn.SGD(0), ValueError, "learning_rate must be a finite number > 0, got 0"),
        (lambda: fnn.Adam(math.nan), ValueError, "learning_rate must be a finite number > 0, got nan"),
        (lambda: fnn.Adam("fast"), TypeError, "learning_rate must be a finite number > 0, got 'fast'"),
        (lambda: fnn.Adam(True), TypeError, "learning_rate must be a finite number > 0, got True"),
        (lambda: fnn.Adam(None), TypeError, "learning_rate must be .* got None"),
        (lambda: fnn.SGD(momentum=1.0), ValueError, "momentum must be a finite number >= 0 and < 1, got 1.0"),
        (lambda: fnn.SGD(nesterov=True), ValueError, "nesterov=True needs a momentum > 0"),
        (lambda: fnn.SGD(bias_correction=True), ValueError, "bias_correction=True needs a momentum > 0"),
        (
            lambda: fnn.SGD(0.1, 0.9, True, bias_correction=True),
            ValueError,
            "bias_correction=True is of classical momentum, got nesterov=True, too",
        ),
        (lambda: fnn.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov must be True or False, got 1"),
        (lambda: fnn.AdaGrad(epsilon=-1.0), ValueError, "epsilon must be a finite number >= 0, got -1.0"),
        (lambda: fnn.RMSProp(rho=1.5), ValueError, "rho must be a finite number >= 0 and < 1, got 1.5"),
        (lambda: fnn.RMSProp(momentum=1.0), ValueError, "momentum must be a finite number >= 0 and < 1, got 1.0"),
        (lambda: fnn.RMSProp(centered=1), TypeError, "centered must be True or False, got 1"),
        (lambda: fnn.Adam(amsgrad="yes"), TypeError, "amsgrad must be True or False, got 'yes'"),
        (lambda: fnn.AdamW(epsilon_hat=None), TypeError, "epsilon_hat must be True or False, got None"),
        (lambda: fnn.NAG(-1), ValueError, "learning_rate must be a finite number > 0, got -1"),
        (lambda: fnn.Adam(beta1=1.0), ValueError, "beta1 must be"),
        (lambda: fnn.Adam(beta2=-0.1), ValueError, "beta2 must be"),
        (lambda: fnn.AdamW(weight_decay=-0.1), ValueError, "weight_decay must be a finite number >= 0, got -0.1"),
        (lambda: optimizers.get("momentum"), ValueError, "optimizer: unknown name 'momentum'; known: sgd, nag"),
        (lambda: optimizers.get(fnn.Adam), TypeError, r"optimizer must be .*; did you mean Adam\(\)\?"),
        (lambda: optimizers.get(0.1), TypeError, "optimizer must be a name or an optimizer such as .*, got 0.1"),
    ],
)
def test_bad_description(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
