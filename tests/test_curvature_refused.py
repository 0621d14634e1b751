"""Curvature: what is not defined, too large, or given wrongly is refused."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from curvature_cases import SECOND_ORDER, WHOLE, case

import fastnn as fnn
from fastnn import curvature as cv
from fastnn.linalg import memory

#  What is refused.

PER_ROW = {
    "empirical_fisher": lambda net, X, y: cv.empirical_fisher(net, X, y, training=True),
    "empirical_fisher_operator": lambda net, X, y: cv.empirical_fisher_operator(net, X, y, training=True),
    "kfac_factors": lambda net, X, y: cv.kfac_factors(net, X, y, training=True),
    "per_sample_gradients": lambda net, X, y: cv.per_sample_gradients(net, X, y, training=True),
    "per_sample_hessian_blocks": lambda net, X, y: cv.per_sample_hessian_blocks(net, X, y, layer=0, training=True),
    "preconditioner": lambda net, X, y: cv.preconditioner(net, X, y, training=True),
}


@pytest.mark.parametrize("what", PER_ROW)
def test_rows_that_depend_on_each_other_have_no_quantities_of_their_own(what, backend):
    made = case(WHOLE[0], backend)
    message = rf"{what} is not defined with training=True and batch norm: by the statistics of the batch every row's"
    with pytest.raises(ValueError, match=message):
        PER_ROW[what](made.net, made.X, made.y)
    with pytest.raises(ValueError, match="at least 2 rows"):
        cv.hessian(made.net, made.X[:1], made.y[:1], training=True)


@pytest.mark.parametrize("function", SECOND_ORDER, ids=lambda f: f.__name__)
def test_curvature_that_is_not_defined(function, backend):
    options: dict[str, Any] = {"input_size": 2, "dtype": "float64", "backend": backend}
    X, y = np.ones((3, 2)), np.zeros(3)
    absolute = fnn.Sequential([fnn.Dense(1)], loss="absolute_error", **options)
    with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
        function(absolute, X, y)
    sign = fnn.Sequential([fnn.Dense(2, "sign"), fnn.Dense(1)], loss="squared_error", **options)
    with pytest.raises(ValueError, match="curvature is not defined for activation 'sign'"):
        function(sign, X, y)
    assert cv.per_sample_gradients(absolute, X, y).shape == (3, 3)
    with pytest.raises(ValueError, match="'mc' needs a loss that is a log-likelihood, got 'huber'"):
        cv.kfac_factors(fnn.Sequential([fnn.Dense(1)], loss="huber", **options), X, y, kind="mc")


FUNCTIONS = [getattr(cv, name) for name in cv.__all__ if inspect.isfunction(getattr(cv, name))]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_argument_is_in_the_signature_and_described(function):
    parameters = inspect.signature(function).parameters
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    described = re.search(r"Parameters\n-+\n(.*?)\n\nReturns", inspect.getdoc(function), re.DOTALL)
    names = re.findall(r"^(\w[\w, ]*) :", described[1], re.MULTILINE)
    assert sorted(", ".join(names).split(", ")) == sorted(parameters)
    net, X, y = fnn.Sequential([fnn.Dense(1)], input_size=1, loss="squared_error"), [[1.0]], [1.0]
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'weights'"):
        function(net, X, y, weights=1, **({"layer": 0} if "layer" in parameters else {}))


@pytest.mark.parametrize("function", [*SECOND_ORDER, cv.per_sample_gradients, cv.preconditioner, cv.empirical_fisher])
def test_targets_are_needed(function, backend):
    options: dict[str, Any] = {"input_size": 2, "dtype": "float64", "backend": backend}
    net = fnn.Sequential([fnn.Dense(1)], loss="squared_error", **options)
    with pytest.raises(TypeError, match="y: expected") as gradient:
        net.gradient(np.ones((3, 2)), None)
    with pytest.raises(TypeError, match="y: expected") as found:
        function(net, np.ones((3, 2)), None)
    assert str(found.value) == str(gradient.value)
    if function in SECOND_ORDER:
        absolute = fnn.Sequential([fnn.Dense(1)], loss="absolute_error", **options)
        with pytest.raises(ValueError, match="curvature is not defined for loss 'absolute_error'"):
            function(absolute, np.ones((3, 2)), None)


LARGE = {
    "hessian": (lambda *a, **k: cv.hessian(*a, **k), "238,510 x 238,510", "hessian_operator"),
    "ggn": (lambda *a, **k: cv.ggn(*a, **k), "238,510 x 238,510", "ggn_operator"),
    "empirical_fisher": (lambda *a, **k: cv.empirical_fisher(*a, **k), "238,510", "empirical_fisher_operator"),
    "hessian_blocks": (lambda *a, **k: cv.hessian_blocks(*a, **k), "55,469,310,100", "hessian_operator"),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_is_too_large_is_refused_before_it_is_allocated(what, backend):
    # 784-300-10, whose Hessian is 455 GB in float64.
    net = fnn.Sequential(
        [fnn.Dense(300, "tanh"), fnn.Dense(10)], input_size=784, loss="cross_entropy", dtype="float64", backend=backend
    )
    X, y = np.zeros((2, 784)), np.array([0, 1])
    function, size, instead = LARGE[what]
    tracemalloc.start()
    with pytest.raises(MemoryError, match=rf"{what}: .*{size}.* bytes, more than the .*{instead}"):
        function(net, X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    if what == "hessian":
        with pytest.raises(MemoryError, match=r"455,096,160,800 bytes, more than the 1,000 of max_bytes"):
            function(net, X, y, max_bytes=1000)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda net, X: cv.per_sample_gradients(net, X, [0] * len(X), max_bytes=10), "per_sample_gradients: 4 x 13"),
        (lambda net, X: cv.output_jacobian(net, X, max_bytes=10), "output_jacobian: 4 x 3 x 13"),
        (lambda net, X: cv.input_jacobian(net, X, max_bytes=10), "input_jacobian: 4 x 3 x 2"),
        (lambda net, X: cv.input_hessian(net, X, max_bytes=10), "input_hessian: 4 x 3 x 2 x 2"),
        (
            lambda net, X: cv.per_sample_hessian_blocks(net, X, [0] * len(X), layer=-1, max_bytes=10),
            "per_sample_hessian_blocks: 4 x 9 x 9",
        ),
    ],
)
def test_large_arrays_are_refused(function, message, backend):
    net = fnn.Sequential(
        [fnn.Dense(2, "tanh", bias=False), fnn.Dense(3)],
        input_size=2,
        loss="cross_entropy",
        dtype="float64",
        backend=backend,
    )
    with pytest.raises(MemoryError, match=f"{message} values of float64 are .* bytes, more than the 10 of max_bytes"):
        function(net, np.ones((4, 2)))


def test_working_memory_counts(backend, monkeypatch):
    net = fnn.Sequential(
        [fnn.Dense(30), fnn.BatchNorm(), fnn.Dense(3)], input_size=10, loss="cross_entropy", backend=backend
    )
    X, y = np.random.default_rng(0).standard_normal((3000, 10)), np.arange(3000) % 3
    size = 4 * net.n_parameters**2
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.3 * size) + memory.WORKSPACE + 1)
    cv.hessian(net, X, y)
    with pytest.raises(MemoryError, match=r"for all rows at once, as training-mode batch statistics need them, more"):
        cv.hessian(net, X, y, training=True)
    monkeypatch.setattr(memory, "available_memory", lambda: int(1.2 * size) + memory.WORKSPACE)
    with pytest.raises(MemoryError, match=r"hessian: 483 x 483 .* bytes, .* with working memory, more than the"):
        cv.hessian(net, X, y)
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    monkeypatch.setattr(cv.products, "available_memory", lambda: 100)
    with pytest.raises(MemoryError, match=r"hessian_operator: keep=True: 3,000 x \d+ values .*; use keep=False"):
        cv.hessian_operator(net, X, y, keep=True)
    assert not cv.hessian_operator(net, X, y).kept


def test_limits_of_memory(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    proc = tmp_path / "cgroup"
    proc.write_text("0::/a/b\n")
    found = memory._control_groups(str(proc), str(tmp_path))
    assert found is None
    for place, limit in ((deep, "max"), (tmp_path / "a", "1000")):
        (place / "memory.max").write_text(limit + "\n")
        (place / "memory.current").write_text("700\n")
        (place / "memory.stat").write_text("anon 400\nfile 300\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 600
    (deep / "memory.max").write_text("500\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 100
    old = tmp_path / "memory" / "c"
    old.mkdir(parents=True)
    proc.write_text("3:cpu:/c\n4:memory:/c\n")
    (old / "memory.limit_in_bytes").write_text("90\n")
    (old / "memory.usage_in_bytes").write_text("50\n")
    (old / "memory.stat").write_text("cache 10\nrss 40\n")
    assert memory._control_groups(str(proc), str(tmp_path)) == 50
    script = """
import resource, fastnn.linalg.memory
before = fastnn.linalg.memory.available_memory()
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
assert 0 < fastnn.linalg.memory._address_space() < 4 << 30
assert fastnn.linalg.memory.available_memory() <= fastnn.linalg.memory._address_space()
"""
    if sys.platform == "linux":
        subprocess.run([sys.executable, "-c", script], check=True)


def test_arguments_are_checked(backend):
    made = case(0, backend)
    net, X, y = made.net, made.X, made.y
    with pytest.raises(TypeError, match=r"net must be a Sequential, got str"):
        cv.hessian("net", X, y)
    with pytest.raises(TypeError, match="training must be True or False, got 1"):
        cv.hessian(net, X, y, training=1)
    with pytest.raises(ValueError, match="l2 must be a finite number >= 0, got -1"):
        cv.ggn(net, X, y, l2=-1)
    with pytest.raises(ValueError, match=r"X: expected .* features"):
        cv.hessian_operator(net, np.ones((3, 9)), [0, 0, 0])
    with pytest.raises(ValueError, match="X: expected at least one row"):
        cv.output_jacobian(net, X[:0])
    with pytest.raises(ValueError, match="sample_weight"):
        cv.hessian(net, X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="keep must be True, False or 'auto', got 'yes'"):
        cv.hessian_operator(net, X, y, keep="yes")
    operator = cv.hessian_operator(net, X, y)
    with pytest.raises(ValueError, match=r"(?i)dimension mismatch"):
        operator @ np.ones(3)
    with pytest.raises(TypeError, match="expected a real vector, got dtype complex128"):
        operator @ np.ones(net.n_parameters, complex)
    with pytest.raises(ValueError, match="kind must be one of 'ggn', 'mc', 'empirical', got 'exact'"):
        cv.kfac_factors(net, X, y, kind="exact")
    with pytest.raises(ValueError, match="kind must be one of 'hessian', 'ggn', 'fisher', got 'exact'"):
        cv.trace(net, X, y, kind="exact")
    with pytest.raises(ValueError, match=r"layer: expected an index below \d, got 99"):
        cv.per_sample_hessian_blocks(net, X, y, layer=99)
    with pytest.raises(TypeError, match="layer must be an integer"):
        cv.per_sample_hessian_blocks(net, X, y, layer="0")
    with pytest.raises(TypeError, match="out: expected an array of float64, got float32"):
        cv.per_sample_gradients(net, X, y, out=np.empty((len(X), net.n_parameters), np.float32))
    with pytest.raises(ValueError, match="out: expected shape"):
        cv.per_sample_gradients(net, X, y, out=np.empty((1, 1)))
    size = len(cv.hessian_blocks(net, X, y)[0])
    with pytest.raises(ValueError, match="out: expected a writable array in C order"):
        cv.per_sample_hessian_blocks(net, X, y, layer=0, out=np.empty((len(X), size, 2 * size))[:, :, :size])
    with pytest.raises(ValueError, match="out: the two factors"):
        cv.per_sample_hessian_blocks(net, X, y, layer=0, kronecker=True, out=np.empty((len(X), size, size)))
    with pytest.raises(ValueError, match="out: expected shape"):
        cv.input_hessian(net, X, out=np.empty((1, 1)))
    with pytest.raises(ValueError, match="out: expected a writable array without gaps"):
        cv.per_sample_gradients(net, X, y, out=np.empty((len(X), 2 * net.n_parameters))[:, ::2])
    without = fnn.Sequential(
        [fnn.Dense(2), fnn.Activation("tanh"), fnn.Dense(1)], input_size=2, loss="squared_error", backend=backend
    )
    with pytest.raises(ValueError, match=r"layer: expected a layer with parameters \(0, 2\), got 1"):
        cv.per_sample_hessian_blocks(without, np.ones((1, 2)), [0.0], layer=1)
