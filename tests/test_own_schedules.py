"""Learning-rate schedules of a user's own class: saved by their description, and resumed bit for bit."""

import copy
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

import fastnn as fnn
from fastnn.descriptions import TRAINING_PARTS, build, describe
from fastnn.schedules import OwnSchedule, Schedule


class Halving(Schedule):
    """η / 2^epoch, a class without equality."""

    def __init__(self, learning_rate, table=None):
        self.learning_rate, self.table = learning_rate, table
        self.function = math.exp  # JSON cannot express it

    def rate(self, clock, scale=1.0):
        return self.learning_rate * 0.5**clock.epoch


@dataclass(frozen=True)
class Power(Schedule):
    learning_rate: float = 0.02
    power: float = 0.5
    per: str = "step"

    def rate(self, clock, scale=1.0):
        return self.learning_rate / (1.0 + clock.step) ** self.power


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """A class with the name of one of fastnn's."""

    learning_rate: float = 0.01
    epochs: int = 5

    def rate(self, clock, scale=1.0):
        return self.learning_rate / (1 + clock.epoch)


class Restless(fnn.ReduceOnPlateau):
    """A subclass of one that listens to the training."""


MAKERS = {
    "class": lambda: Halving(0.02, np.arange(3.0)),
    "dataclass": Power,
    "name of fastnn's": CosineDecay,
    "in a warm-up": lambda: fnn.WarmUp(Power(), 2),
    "plateau": lambda: Restless(0.02, patience=0, min_delta=10.0),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def network():
    return fnn.Sequential([fnn.Dense(6, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)


@every
def test_saved_and_resumed_bit_for_bit(make, iris, tmp_path):
    X, y = iris
    whole, part = network(), network()
    expected = whole.fit(X, y, epochs=5, optimizer=fnn.Adam(make()), threads=1)
    part.fit(X, y, epochs=2, optimizer=fnn.Adam(make()), threads=1, callbacks=[fnn.Checkpoint(tmp_path / "a")])
    part.save(tmp_path / "b", training_state=True)
    for name in "ab":
        for _ in range(2):  # what is loaded can be saved again
            loaded = fnn.load(tmp_path / name)
            loaded.save(tmp_path / name, training_state=True)
        found = loaded.fit(X, y, epochs=5, optimizer=fnn.Adam(make()), threads=1, resume=True)
        assert loaded.theta.tobytes() == whole.theta.tobytes()
        assert found["learning_rate"] == expected["learning_rate"]
        loaded.save(tmp_path / name, training_state=True)


@every
def test_without_the_schedule_training_is_refused_and_nothing_changes(make, iris, tmp_path):
    X, y = iris
    net = network()
    net.fit(X, y, epochs=1, optimizer=fnn.Adam(make()), threads=1)
    net.save(tmp_path / "a", training_state=True)
    loaded = fnn.load(tmp_path / "a")
    name = type(getattr(make(), "then", make())).__name__
    before = loaded.theta.copy()
    with pytest.raises(ValueError, match=rf"optimizer: the schedule {name} is a class of one's own"):
        loaded.partial_fit(X, y)
    with pytest.raises(ValueError, match=rf"optimizer: the schedule {name} is a class of one's own"):
        loaded.fit(X, y, epochs=3, optimizer=loaded.training_state.optimizer, resume=True)
    with pytest.raises(ValueError, match="resume: expected optimizer="):
        loaded.fit(X, y, epochs=3, optimizer=fnn.Adam(0.02), resume=True)
    with pytest.raises(ValueError, match="resume: expected optimizer="):
        loaded.fit(X, y, epochs=3, optimizer=fnn.Adam(Power(0.7)), resume=True)
    np.testing.assert_array_equal(loaded.theta, before)
    loaded.partial_fit(X, y, optimizer=fnn.Adam(make()))


def test_a_description_equals_what_it_describes():
    made = describe(fnn.SGD(Halving(0.5, np.arange(2.0))))
    json.dumps(made)
    read = build(made, TRAINING_PARTS)
    assert read == fnn.SGD(Halving(0.5, np.arange(2.0)))
    assert fnn.SGD(Halving(0.5, np.arange(2.0))) == read
    assert hash(read) == hash(build(made, TRAINING_PARTS))
    for other in (Halving(0.4, np.arange(2.0)), Halving(0.5), Power(0.5), fnn.CosineDecay(0.5, 3), 0.5):
        assert read != fnn.SGD(other)
    assert OwnSchedule.of(CosineDecay()) != fnn.CosineDecay(0.01, 5)
    assert describe(fnn.Adam(fnn.CosineDecay(0.01, 5)))["learning_rate"]["type"] == "CosineDecay"
    with pytest.raises(TypeError, match="what Power does is not in the file"):
        OwnSchedule.of(Power()).rate(None)
    with pytest.raises(ValueError, match="learning_rate must be a finite number > 0"):
        OwnSchedule("x", -1.0)
    with pytest.raises(TypeError, match="name and values must be texts"):
        OwnSchedule(1, 1.0)


def test_other_classes_of_ones_own_are_refused_when_they_are_saved(iris, tmp_path):
    class Adam(fnn.Adam):
        pass

    X, y = iris
    net = network()
    net.fit(X, y, epochs=1, optimizer=Adam())
    with pytest.raises(TypeError, match=r"Adam is not fastnn's own: what it is cannot be saved"):
        net.save(tmp_path / "a", training_state=True)
    assert not (tmp_path / "a").exists()
    net.save(tmp_path / "a")


@every
def test_estimators(make, iris, tmp_path):
    X, y = iris
    model = fnn.MLPClassifier((5,), learning_rate=make(), max_iter=3, batch_size=16, random_state=0)
    with pytest.warns(UserWarning, match="did not converge|max_iter|Maximum"):
        model.fit(X, y)
    model.save(tmp_path / "a")
    loaded = fnn.MLPClassifier.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="is a class of one's own"):
        loaded.fit(X, y)
    copy.deepcopy(loaded)
    loaded.set_params(learning_rate=make())
    with pytest.warns(UserWarning, match="did not converge|max_iter|Maximum"):
        loaded.fit(X, y)


@every
def test_sweeps(make, iris, tmp_path):
    X, y = iris

    def model(units):
        return fnn.Sequential([fnn.Dense(units, "tanh"), fnn.Dense(3)], input_size=4, loss="cross_entropy", seed=0)

    def run(epochs, **options):
        space = {"units": [3, 4], "optimizer": [fnn.Adam(make())]}
        return fnn.sweep(model, space, X, y, epochs=epochs, validation_split=0.2, seed=0, **options)

    whole = run(4)
    run(4, checkpoint=tmp_path / "a")
    resumed = run(4, checkpoint=tmp_path / "a", resume=True)
    for name in ("mean_accuracy", "best_epoch"):
        assert resumed.to_dict()[name] == whole.to_dict()[name]
    fnn.SweepResult.load(tmp_path / "a")
