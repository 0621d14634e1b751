"""Trainings on MNIST, 784-64-64-10: accuracies of published tables and better, sooner."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn


@pytest.fixture
def mnist(mnist_dir):
    return fnn.datasets.load_mnist()


def network(seed: int) -> fnn.Sequential:
    layers = [fnn.Dense(64, "relu"), fnn.Dense(64, "relu"), fnn.Dense(10)]
    return fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=seed, input_scale=1 / 255)


@pytest.mark.parametrize("seed", [1, 2])  # 0: below
def test_ten_epochs_of_adam(mnist, seed) -> None:
    X, y, X_test, y_test = mnist
    net = network(seed)
    history = net.fit(X, y, optimizer=fnn.Adam(1e-3), epochs=10, batch_size=64)
    assert len(history) == 10
    assert net.evaluate(X_test, y_test)["accuracy"] >= 0.97


@pytest.mark.parametrize(
    ("optimizer", "accuracy"),
    [
        (fnn.SGD(0.1), 0.9627),
        (fnn.SGD(0.02, momentum=0.9, nesterov=True), 0.9665),
        (fnn.Adam(1e-3), 0.9685),
    ],
    ids=["SGD", "Nesterov", "Adam"],
)
def test_twelve_epochs_have_what_table_2_has_after_a_hundred(mnist, optimizer, accuracy) -> None:
    """At constant rates accuracies go up and down by half a per cent: the mean of four is compared."""
    X, y, X_test, y_test = mnist
    net = network(0)
    found = []

    def score(result: fnn.EpochResult) -> None:
        if result.epoch > 8:
            found.append(net.evaluate(X_test, y_test)["accuracy"])

    net.fit(X, y, optimizer=optimizer, epochs=12, batch_size=64, threads=1, callbacks=[score])
    assert len(found) == 4
    assert np.mean(found) >= accuracy
    if isinstance(optimizer, fnn.Adam):
        assert found[1] >= 0.97  # after ten epochs


def test_batch_norm_and_dropout_within_eight_epochs(mnist) -> None:
    X, y, X_test, y_test = mnist
    block = [fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.2)]
    layers = [fnn.Dense(256), *block, fnn.Dense(256), *block, fnn.Dense(10)]
    net = fnn.Sequential(layers, input_size=784, loss="cross_entropy", seed=0, input_scale=1 / 255)
    net.fit(X, y, optimizer=fnn.Adam(fnn.CosineDecay(2e-3, 8)), epochs=8, batch_size=128, threads=1)
    assert net.evaluate(X_test, y_test)["accuracy"] >= 0.982
