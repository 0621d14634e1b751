"""Saving and loading: round trips, atomic writing, and every way in which a file can be wrong."""

import json
import os
import pickle
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import fastnn as fnn
from fastnn import descriptions, io, layers


def make_net(**options):
    options = {"input_size": 4, "loss": "cross_entropy", "dtype": "float32", "seed": 3, **options}
    return fnn.Sequential([fnn.Dense(5, "tanh"), fnn.Dense(3)], **options)


@pytest.fixture
def saved(tmp_path):
    """A network and its file."""
    net, path = make_net(), tmp_path / "net.safetensors"
    io.save(net, path, metadata={"note": "first"})
    return net, path


def parts(path):
    """Tensors and description of a file."""
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["fastnn"])  # noqa: SIM118


def rewrite(path, tensors, description):
    """Write a file with a new checksum, as an attacker would."""
    if not isinstance(description, str):
        description = json.dumps({**description, "sha256": io.checksum(description, tensors)})
    save_file(tensors, path, {"fastnn": description})


# ------------------------------------------------------------------ round trips


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", fnn.losses.LOSSES)
@pytest.mark.parametrize("input_scale", [None, 1 / 255])
def test_round_trip(tmp_path, dtype, loss, input_scale):
    net = make_net(dtype=dtype, loss=loss, input_scale=input_scale)
    path = tmp_path / "x.safetensors"
    net.save(path)
    again = fnn.load(str(path))
    assert again.layers == net.layers
    assert (again.input_size, again.loss_name, again.dtype, again.input_scale) == (
        4,
        loss,
        np.dtype(dtype),
        input_scale,
    )
    np.testing.assert_array_equal(again.theta, net.theta)
    X = np.random.default_rng(0).normal(size=(7, 4)).astype(dtype)
    np.testing.assert_array_equal(again.decision_function(X), net.decision_function(X))


def test_a_loss_keeps_its_options(tmp_path):
    loss = fnn.losses.CrossEntropy(label_smoothing=0.1)
    net = make_net(loss=loss)
    path = tmp_path / "x"
    net.save(path)
    tensors, description = parts(path)
    assert description["network"]["loss"] == {"type": "CrossEntropy", "label_smoothing": 0.1}
    again = fnn.load(path)
    X, y = np.random.default_rng(0).normal(size=(7, 4)), np.zeros(7, int)
    assert again.loss(X, y) == net.loss(X, y) != make_net().loss(X, y)
    assert repr(again) == repr(net)
    for bad, message in (
        ({"type": "CrossEntropy", "label_smoothing": 2}, "label_smoothing must be a finite number >= 0 and < 1, got 2"),
        ({"type": "CrossEntropy", "gamma": 2}, "CrossEntropy has no option gamma"),
        ({"type": "Hinge"}, "unknown type 'Hinge'"),
        ({"type": "Dense", "units": 3}, "loss must be a name"),
        ({}, "network.loss.type is missing"),
    ):
        description["network"]["loss"] = bad
        rewrite(path, tensors, description)
        with pytest.raises(ValueError, match=message):
            fnn.load(path)


def test_file_is_plain_safetensors(saved):
    net, path = saved
    tensors, description = parts(path)
    assert set(tensors) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    for name, values in net.parameters.items():
        np.testing.assert_array_equal(tensors[name], values)
        assert tensors[name].dtype == np.float32
    assert description["format"] == 1
    assert description["version"] == fnn.__version__
    assert description["metadata"] == {"note": "first"}
    assert description["network"]["layers"][0]["type"] == "Dense"
    assert description["network"]["layers"][0]["activation"] == "tanh"


def test_all_options_of_a_layer_survive(tmp_path):
    stack = [
        fnn.Dense(3, "leaky_relu", bias=False, init="he_normal"),
        fnn.Dense(2, "gelu", init=fnn.initializers.Uniform(0.25), bias_init=0.5),
        fnn.Dense(2, init=fnn.initializers.Normal(np.float64(0.5)), bias_init=fnn.initializers.Constant(1)),
    ]
    net = fnn.Sequential(stack, input_size=2, loss="squared_error", seed=0)
    net.save(tmp_path / "x")
    assert fnn.load(tmp_path / "x").layers == tuple(stack)


def test_initializers_that_are_functions(tmp_path):
    def own(fan_in, fan_out, shape, rng):
        return np.ones(shape)

    stack = [fnn.Dense(3, init=fnn.initializers.he_uniform), fnn.Dense(2, init=own)]
    net = fnn.Sequential(stack, input_size=2, loss="squared_error", seed=0)
    net.save(tmp_path / "x")
    first, second = fnn.load(tmp_path / "x").layers
    assert first.init == "he_uniform"  # by its name
    assert second == fnn.Dense(2)  # a user's function cannot be described
    np.testing.assert_array_equal(fnn.load(tmp_path / "x").parameters["1.weight"], np.ones((3, 2)))


def test_every_layer_class_is_known_to_the_format():
    classes = [name for name in layers.__all__ if name != "Layer" and isinstance(getattr(layers, name), type)]
    assert classes == sorted(kind.__name__ for kind in layers.LAYERS)
    assert set(classes) <= set(descriptions.classes(descriptions.NETWORK_PARTS))


def test_metadata(tmp_path):
    path = tmp_path / "x"
    metadata = {"classes": ["Überraschung", "日本"], "nested": {"a": [1, 2.5, None, True]}, "pair": (1, 2)}
    io.save(make_net(), path, metadata=metadata)
    net, again = fnn.load(path, return_metadata=True)
    assert again == {**metadata, "pair": [1, 2]}
    assert isinstance(net, fnn.Sequential)
    io.save(make_net(), path)
    assert fnn.load(path, return_metadata=True)[1] == {}


def test_metadata_of_a_network_without_the_network(tmp_path, iris):
    path = tmp_path / "x"
    make_net().save(path, metadata={"classes": ["a", "b"], "score": 0.5})
    assert fnn.read_metadata(path) == {"classes": ["a", "b"], "score": 0.5}
    make_net().save(path)
    assert fnn.read_metadata(path) == {}
    with pytest.raises(TypeError, match="metadata must be a mapping"):
        make_net().save(path, metadata="text")
    with pytest.raises(ValueError, match="metadata must hold only what JSON can express: expected at most 64 levels"):
        make_net().save(path, metadata={"x": json.loads("[" * 70 + "]" * 70)})
    fnn.SoftmaxRegression().fit(*iris).save(path)
    assert fnn.read_metadata(path)["estimator"] == "SoftmaxRegression"


def test_a_header_beyond_the_limit_of_the_format_is_refused_before_writing(saved, monkeypatch):
    net, path = saved
    monkeypatch.setattr(io, "MAX_HEADER", 5000)
    with pytest.raises(ValueError, match=r"metadata and training state: expected at most 5,000 bytes .* got 1\d,\d"):
        net.save(path, metadata={"text": "x" * 10_000})
    monkeypatch.undo()
    assert fnn.read_metadata(path) == {"note": "first"}
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("layers", "input_size"),
    [
        ([{"type": "BatchNorm"}] * 3 + [{"type": "Dense", "units": 1}], 10**12),
        ([{"type": "Standardize"}, {"type": "Dense", "units": 1}], 10**12),
        ([{"type": "LayerNorm"}, {"type": "Dense", "units": 10**12}], 5),
        ([{"type": "BatchNorm"}], 10**9),
        ([{"type": "Activation", "name": "relu"}] * 1001, 5),
    ],
)
def test_what_would_take_gigabytes_is_refused_before(saved, layers, input_size):
    """numpy.empty of such sizes may succeed, as memory is taken when it is written."""
    import tracemalloc

    _, path = saved
    tensors, description = parts(path)
    description["network"].update(layers=layers, input_size=input_size)
    rewrite(path, tensors, description)
    tracemalloc.start()
    with pytest.raises(ValueError, match=re.escape(str(path))):
        fnn.load(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_many_layers_are_read_and_shown_in_time(tmp_path):
    stack = [*[fnn.Activation("relu")] * 999, fnn.Dense(2)]
    fnn.Sequential(stack, input_size=3, loss="squared_error", seed=0).save(tmp_path / "x")
    assert len(fnn.load(tmp_path / "x").summary().splitlines()) == 1006


@pytest.mark.skipif(os.name != "posix", reason="truncates a file that is open")
def test_a_file_that_is_rewritten_while_it_is_read(saved, monkeypatch):
    """A mapping of the file would end in SIGBUS."""
    _, path = saved
    before = io.checksum

    def checksum(*arguments):
        os.truncate(path, 10)
        return before(*arguments)

    monkeypatch.setattr(io, "checksum", checksum)
    assert fnn.load(path).n_parameters == make_net().n_parameters
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        fnn.load(path)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"x": {1, 2}}, TypeError),
        ({"x": np.zeros(2)}, TypeError),
        ({("a", "b"): 1}, TypeError),
        ([1], TypeError),
        ("text", TypeError),
        ({"x": float("nan")}, ValueError),
        ({"x": float("inf")}, ValueError),
        ({"x": "\ud800"}, ValueError),
    ],
)
def test_bad_metadata(tmp_path, metadata, error):
    with pytest.raises(error, match="metadata must"):
        io.save(make_net(), tmp_path / "x", metadata=metadata)
    assert os.listdir(tmp_path) == []


def test_backend(saved):
    net, path = saved
    X = np.ones((2, 4), np.float32)
    for backend in ("compiled", "reference"):
        again = fnn.load(path, backend=backend)
        assert again.backend == backend
        np.testing.assert_allclose(again.decision_function(X), net.decision_function(X), rtol=1e-5)
    with pytest.raises(ValueError, match="backend must be one of 'compiled', 'reference', got 'gpu'"):
        fnn.load(path, backend="gpu")


# ------------------------------------------------------------------ writing


def test_replaces_an_existing_file(saved):
    _, path = saved
    other = make_net(seed=9)
    other.save(path)
    np.testing.assert_array_equal(fnn.load(path).theta, other.theta)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("what", ["replace", "fsync"])
def test_failure_keeps_the_old_file_and_leaves_nothing(saved, monkeypatch, what):
    net, path = saved

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(OSError, match="No space left"):
        make_net(seed=9).save(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(fnn.load(path).theta, net.theta)
    assert os.listdir(path.parent) == [path.name]


def test_interrupt_while_writing(saved, monkeypatch):
    net, path = saved

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_net(seed=9).save(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(fnn.load(path).theta, net.theta)
    assert os.listdir(path.parent) == [path.name]


def test_bad_paths(tmp_path):
    net = make_net()
    with pytest.raises(FileNotFoundError, match="absent"):
        net.save(tmp_path / "absent" / "x")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        net.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        net.save(tmp_path / "file" / "x")
    if os.path.exists(os.devnull) and os.name == "posix":
        with pytest.raises(OSError, match="not a regular file"):
            net.save(os.devnull)
        assert not os.path.isfile(os.devnull)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links and modes are POSIX's here")
def test_links_and_modes(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    net = make_net()
    mask = os.umask(0o022)
    try:
        net.save(link)
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o644  # not the private mode of a temporary file
    np.testing.assert_array_equal(fnn.load(real).theta, net.theta)


def test_diverged_network_is_not_saved(tmp_path):
    net = make_net()
    net.theta[3] = np.nan
    with pytest.raises(ValueError, match=r"parameter '0\.weight' has values that are not finite"):
        net.save(tmp_path / "x")
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ reading what is wrong


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "absent")
    with pytest.raises(OSError, match=tmp_path.name):
        fnn.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"text, not tensors\n" * 20,
        b"\xff" * 100,
        pickle.dumps({"weights": [1.0]}),
        b"\0" * 8,
        b"\x02" + b"\0" * 7 + b"{}",
    ],
)
def test_not_a_model(tmp_path, content):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model\.bin: (not a readable safetensors file|a safetensors file, but not one)"
    ):
        fnn.load(path)


def test_truncated(saved):
    _, path = saved
    content = path.read_bytes()
    for size in (5, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=path.name):
            fnn.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=path.name):
        fnn.load(path)


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"a": np.zeros(3, np.float32)}, path, metadata)
        with pytest.raises(ValueError, match="not one that fastnn saved"):
            fnn.load(path)


def test_newer_format(saved):
    _, path = saved
    tensors, description = parts(path)
    rewrite(path, tensors, {**description, "format": 2, "version": "9.0"})
    with pytest.raises(ValueError, match=r"saved by a newer fastnn \(9.0\): format 2, this version reads up to 1"):
        fnn.load(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t, d: t.pop("0.bias"), "missing tensor '0.bias'"),
        (lambda t, d: t.pop("1.weight"), "missing tensor '1.weight'"),
        (lambda t, d: t.update({"2.weight": t["0.bias"]}), "tensor '2.weight' belongs to no layer"),
        (
            lambda t, d: t.update({"0.weight": t["0.weight"].T.copy()}),
            r"'0.weight' has shape \(5, 4\), expected \(4, 5\)",
        ),
        (lambda t, d: t.update({"1.bias": t["1.bias"][:2]}), r"'1.bias' has shape \(2,\), expected \(3,\)"),
        (lambda t, d: t.update({"0.bias": t["0.bias"].astype("f8")}), "'0.bias' is float64, expected float32"),
        (lambda t, d: t.update({"0.bias": t["0.bias"].astype("f2")}), "'0.bias' is of type F16, expected F32 or F64"),
        (lambda t, d: t.update({"0.bias": t["0.bias"].astype("i4")}), "'0.bias' is of type I32"),
        (
            lambda t, d: t.update({"0.bias": t["0.bias"] + np.float32(np.nan)}),
            "'0.bias' has values that are not finite",
        ),
        (lambda t, d: t.update({"1.weight": t["1.weight"] + np.float32(np.inf)}), "'1.weight' has values that are not"),
        (lambda t, d: d["network"]["layers"][0].update(type="Conv9"), "layer 0: unknown type 'Conv9'; .*Dense"),
        (lambda t, d: d["network"]["layers"][0].update(type="Sequential"), "layer 0: unknown type"),
        (lambda t, d: d["network"]["layers"][0].pop("type"), r"layers\[0\]\.type is missing"),
        (lambda t, d: d["network"]["layers"][1].update(colour=1), "layer 1: Dense has no option colour"),
        (
            lambda t, d: d["network"]["layers"][0].update(activation="swoosh"),
            "layer 0: activation: unknown name 'swoosh'",
        ),
        (lambda t, d: d["network"]["layers"][0].update(units=0), "layer 0: units"),
        (lambda t, d: d["network"]["layers"][0].update(units=10**12), r"expected \(4, 1000000000000\)"),
        (lambda t, d: d["network"]["layers"][0].update(units="many"), "layer 0: units"),
        (lambda t, d: d["network"]["layers"][0].update(init={"type": "Evil"}), "layer 0: unknown type 'Evil'"),
        (lambda t, d: d["network"]["layers"][0].update(init=[1]), "layer 0: init must be"),
        (lambda t, d: d["network"]["layers"].insert(0, 3), r"layers\[0\] cannot be 3: expected an object"),
        (lambda t, d: d["network"].update(layers=[]), "layers"),
        (lambda t, d: d["network"].update(layers="Dense"), "damaged description: network.layers cannot be"),
        (lambda t, d: d["network"].update(loss="hinge"), "unknown name 'hinge'"),
        (lambda t, d: d["network"].update(dtype="float16"), "network.dtype cannot be 'float16'"),
        (lambda t, d: d["network"].update(dtype=None), "damaged description: network.dtype cannot be None"),
        (lambda t, d: d["network"].update(input_size=True), "damaged description: network.input_size cannot be True"),
        (lambda t, d: d["network"].update(input_size=-1), "network.input_size cannot be -1"),
        (lambda t, d: d["network"].update(input_scale="big"), "input_scale"),
        (lambda t, d: d["network"].update(backdoor=1), "damaged description: unknown network.backdoor"),
        (lambda t, d: d.update(network=7), "damaged description: network cannot be 7"),
        (lambda t, d: d.update(metadata=[1]), "damaged description: .*metadata"),
        (lambda t, d: d.update(format="1"), "damaged description: no format number"),
        (lambda t, d: d.update(format=0), "damaged description: no format number"),
    ],
)
def test_inconsistent_file(saved, change, what):
    _, path = saved
    tensors, description = parts(path)
    change(tensors, description)
    rewrite(path, tensors, description)
    with pytest.raises(ValueError, match=what) as caught:
        fnn.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "[" * 100_000, '{"format": NaN}'])
def test_damaged_description(saved, text):
    _, path = saved
    rewrite(path, parts(path)[0], text)
    with pytest.raises(ValueError, match="damaged description"):
        fnn.load(path)


def test_random_damage_never_gives_anything_but_a_value_error(saved):
    net, path = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            again = fnn.load(path)
        except ValueError as error:
            assert path.name in str(error)  # noqa: PT017 (both outcomes are right)
        else:
            assert np.isfinite(again.theta).all()
            assert again.theta.shape == net.theta.shape


@pytest.mark.parametrize("training_state", [False, True])
@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_a_loaded_network_holds_out_the_same_rows(bits, training_state, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)
    net, path = make_net(), tmp_path / "m"
    net.save(path)
    assert "split_start" not in parts(path)[1]
    assert fnn.load(path).split_start is None
    net.fit(X, y, epochs=1, validation_split=0.25, seed=np.random.Generator(bits(5)))
    net.save(path, training_state=training_state)
    seen = []
    whole = fnn.training.data.Dataset.hold_out
    monkeypatch.setattr(
        fnn.training.data.Dataset, "hold_out", lambda self, *a: (whole(self, *a), seen.append(self.rows.tolist()))
    )
    for other in (net, fnn.load(path)):
        other.fit(X, y, epochs=1, validation_split=0.25)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (3, "split_start cannot be 3"),
        ({}, "split_start"),
        ({"bit_generator": "os"}, "split_start.bit_generator cannot be 'os'"),
        ({"bit_generator": "PCG64", "state": {"state": 1, "inc": 2}, "has_uint32": 0, "uinteger": 0}, "must be odd"),
    ],
)
def test_forged_starts_of_the_split(start, message, saved):
    _, path = saved
    tensors, description = parts(path)
    rewrite(path, tensors, {**description, "split_start": start})
    with pytest.raises(ValueError, match=message):
        fnn.load(path)
