"""Schemas of what is read, text that a terminal does not obey, states of generators, and containers of arrays."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fastnn.array_files import read_npz, read_tensors
from fastnn.generators import check_generator, describe_generator, restore_generator
from fastnn.schema import (
    FLAG,
    NUMBER,
    TEXT,
    VALUE,
    Anything,
    Array,
    Choice,
    Items,
    Maybe,
    OneOf,
    Real,
    Record,
    Whole,
    decode,
    encode,
    parse,
    printable,
)

# Text.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain größe 日本 ½", "plain größe 日本 ½"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("bell\a tab\t line\n", r"bell\x07 tab\t line\n"),
        ("c1\x9b31m", r"c1\x9b31m"),
        ("\x7f\0", r"\x7f\x00"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800", r"\ud800"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner that words need
        ("a\u00a0b", "a\u00a0b"),
        ("back\\slash 'quote'", "back\\slash 'quote'"),
    ],
)
def test_text_that_a_terminal_does_not_obey(text: str, shown: str) -> None:
    assert printable(text) == shown


# JSON.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("1e999", "expected a finite number, got 1e999"),
        ("1" * 40, "expected an integer of at most 39 digits"),
        ("1" * 10_000, "expected an integer of at most 39 digits"),
        ('{"a": 1, "a": 2}', "key 'a' appears twice"),
        ("[" * 66 + "]" * 66, "at most 64 levels"),
        ('{"a":' * 66 + "1" + "}" * 66, "at most 64 levels"),
        ("[" * 100_000, "at most 64 levels|Expecting value"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_json_within_the_limits() -> None:
    assert parse("[" * 64 + "]" * 64)
    assert parse(str(2**128 - 1)) == 2**128 - 1
    assert parse('{"a": [-1.5e-300, true, null, "x"]}') == {"a": [-1.5e-300, True, None, "x"]}


# Schemas.

SCHEMA = Record(
    {"count": Whole(1, 9), "rate": Real(0.0, 1.0)},
    {"names": Items(TEXT, 2), "kind": Choice(("a", "b")), "flag": FLAG, "best": Maybe(NUMBER), "some": Items(Whole())},
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"names": ["a", "b"], "kind": "a", "flag": False, "best": None, "some": []}, None),
        ({"best": {"__float__": "-inf"}, "some": [0, 2**53]}, None),
        ({"count": 0}, "x.count cannot be 0: expected an integer from 1 to 9"),
        ({"count": True}, "x.count cannot be True"),
        ({"count": 1.0}, "x.count cannot be 1.0"),
        ({"rate": 2}, "x.rate cannot be 2: expected a number from 0 to 1"),
        ({"rate": {"__float__": "nan"}}, "x.rate cannot be"),
        ({"names": ["a"]}, r"x.names cannot be \['a'\]: expected a list of 2"),
        ({"names": ["a", 1]}, r"x.names\[1\] cannot be 1: expected text"),
        ({"kind": "c"}, "x.kind cannot be 'c': expected one of 'a', 'b'"),
        ({"kind": ["a"]}, "x.kind cannot be"),
        ({"flag": 1}, "x.flag cannot be 1: expected one of True, False"),
        ({"best": "1"}, "x.best cannot be '1': expected None or a number"),
        ({"best": {"__float__": "1.0"}}, "x.best cannot be"),
        ({"some": [1, -1]}, r"x.some\[1\] cannot be -1"),
        ({"other\x1b": 1}, r"unknown x.other\\x1b"),
        ({"count": None}, "x.count cannot be None"),
    ],
)
def test_a_record(change: dict[str, Any], message: str | None) -> None:
    value = {"count": 3, "rate": 0.5, **change}
    if message is None:
        SCHEMA.check(value, "x")
    else:
        with pytest.raises(ValueError, match=message):
            SCHEMA.check(value, "x")


def test_what_is_missing_and_what_is_no_object() -> None:
    with pytest.raises(ValueError, match="rate is missing"):
        SCHEMA.check({"count": 1}, "")
    with pytest.raises(ValueError, match=r"x cannot be \[\]: expected an object"):
        SCHEMA.check([], "x")
    with pytest.raises(ValueError, match=r"x cannot be 1\.5: expected text or an integer"):
        OneOf((TEXT, Whole())).check(1.5, "x")


@pytest.mark.parametrize(
    "array",
    [
        ["<i8", [2], [1]],
        ["<i8", [1], [2**63]],
        ["|u1", [1], [-1]],
        ["|u1", [1], [1.0]],
        ["|b1", [1], [1]],
        ["<f8", [1], ["1"]],
        ["<f8", [1], [True]],
        ["<f8", [-1, -1], [1.0]],
        ["<f8", [1.0], [1.0]],
        ["<f8", [0, 2**52], []],
        ["<f8", [1] * 40, [1.0]],
        ["<U1000000000", [1], ["a"]],
        ["<U9999999", [100], ["a"] * 100],
        ["<U1", [1], ["ab"]],
        ["<U", [1], [1]],
        ["O", [1], [1]],
        ["V8", [1], [1]],
        ["<c16", [1], [1]],
        ["<M8[s]", [1], [1]],
        ["f8,(2,", [1], [1]],
        ["f8", [1], [1.0]],
        ["", [0], []],
        [["<f8"], [0], []],
        ["<f8", [0]],
        {},
        None,
    ],
    ids=repr,
)
def test_arrays_that_encode_does_not_write_are_refused(array: Any) -> None:
    for value in ({"__array__": array}, [{"x": {"__array__": array}}], {"__array__": array, "y": 1}):
        with pytest.raises(ValueError, match="expected an array of numbers or str"):
            decode(value)


@pytest.mark.parametrize("special", [1.0, "NaN", "1", None, ["nan"]])
def test_numbers_that_encode_does_not_write_are_refused(special: Any) -> None:
    with pytest.raises(ValueError, match="as fastnn writes them"):
        decode({"a": {"__float__": special}})


def test_kinds_and_shapes_of_arrays() -> None:
    two = encode(np.zeros((2, 3), np.float32))
    for good in (Array(), Array("f"), Array("f", (2, 3)), Array("f", (None, 3)), Array("f", None, "float32")):
        good.check(two, "x")
        VALUE.check(two, "x")
    for bad in (Array("iu"), Array("f", (3, 2)), Array("f", (2,)), Array("f", (2, 3), "float64"), Array("O")):
        with pytest.raises(ValueError, match="x cannot be"):
            bad.check(two, "x")


# States of generators.

GENERATORS = ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"]


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_goes_on_from_its_state(name: str) -> None:
    generator = np.random.Generator(getattr(np.random, name)(3))
    generator.integers(2**20, size=7, dtype=np.int32)
    data = json.loads(json.dumps(describe_generator(generator)))
    again = restore_generator(data)
    for draw in (lambda g: g.normal(size=700), lambda g: g.permutation(50), lambda g: g.integers(7, dtype=np.int32)):
        np.testing.assert_array_equal(draw(again), draw(generator))


def states(data: Any) -> list[tuple[str, Any]]:
    """Places of numbers in a state, and the containers that they are in."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, (dict, list)):
            found += states(value)
        elif type(value) is int:
            found.append((key, data))
    return found


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("wrong", [-1, 625, 2**31, 2**32, 2**64, 2**128, 10**400, 1.5, "1", None, True, [1]])
def test_no_number_out_of_range_reaches_numpy(name: str, wrong: Any) -> None:
    """Each would be a crash, an endless draw, or an error of many kinds."""
    for place in range(min(len(states(describe_generator(np.random.Generator(getattr(np.random, name)(0))))), 8)):
        data: Any = describe_generator(np.random.Generator(getattr(np.random, name)(0)))
        key, inside = states(data)[place if name != "MT19937" else -1 - place % 3]
        inside[key] = wrong
        try:
            again = restore_generator(data)
        except ValueError:
            continue
        assert wrong in (625, 2**31, 2**32, 2**64)  # where the range allows it
        again.integers(100, size=1000)


def test_a_position_beyond_the_buffer_is_refused() -> None:
    for name, change in (
        ("MT19937", lambda data: data["state"].update(pos=625)),
        ("MT19937", lambda data: data["state"].update(pos=10**9)),
        ("Philox", lambda data: data.update(buffer_pos=5)),
        ("Philox", lambda data: data.update(buffer_pos=-(2**31))),
    ):
        data = describe_generator(np.random.Generator(getattr(np.random, name)(0)))
        change(data)
        with pytest.raises(ValueError, match=r"pos cannot be .* expected an integer from 0 to (624|4)"):
            check_generator(data, "generator")


def test_states_that_never_change_are_refused() -> None:
    data = describe_generator(np.random.Generator(np.random.MT19937(0)))
    data["state"]["key"]["__array__"][2] = [2**31 - 1] + [0] * 623
    with pytest.raises(ValueError, match="key cannot be zeros"):
        restore_generator(data)
    data["state"]["key"]["__array__"][2] = [2**31] + [0] * 623
    restore_generator(data).integers(7, size=100)
    data = describe_generator(np.random.Generator(np.random.PCG64(0)))
    data["state"].update(state=0, inc=0)
    with pytest.raises(ValueError, match="inc must be odd"):
        restore_generator(data)


def test_a_state_that_cannot_be_read_again_is_not_written() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    state = generator.bit_generator.state
    state["state"]["inc"] = 2
    generator.bit_generator.state = state
    with pytest.raises(ValueError, match="inc must be odd"):
        describe_generator(generator)


# Safetensors, against the library.


def test_tensors_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "b": rng.normal(size=(3, 5)).astype(np.float32),
        "a": rng.normal(size=7),
        "empty": np.zeros((0, 4)),
        "number": np.array(2.5),
        "name with \x1b": np.ones(1, np.float32),
    }
    path = tmp_path / "x"
    path.write_bytes(save_tensors(tensors, {"fastnn": "{}", "other": "größe"}))
    metadata, found = read_tensors(path)
    assert metadata == {"fastnn": "{}", "other": "größe"}
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        np.testing.assert_array_equal(found[name], values)
        assert not found[name].flags.writeable


def test_what_the_library_refuses_is_refused(tmp_path: Path) -> None:
    """Random damages of the header: nothing is accepted that the library does not accept, with other values least."""
    rng = np.random.default_rng(1)
    content = save_tensors({"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, np.float32)}, {"fastnn": "{}"})
    size = int.from_bytes(content[:8], "little")
    path, accepted = tmp_path / "x", 0
    for _ in range(800):
        damaged = bytearray(content)
        for at in rng.integers(0, 8 + size, rng.integers(1, 4)):
            damaged[at] = (
                rng.choice(list(b'{}[]":,0123456789aFx \x00\xff')) if rng.random() < 0.9 else rng.integers(256)
            )
        if rng.random() < 0.2:
            del damaged[rng.integers(len(damaged)) :]
        path.write_bytes(damaged)
        try:
            _, found = read_tensors(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 (both outcomes are right)
            continue
        if found:
            accepted += 1
            expected = load_tensors(bytes(damaged))
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values)
    assert accepted
    assert safetensors.SafetensorError


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    import fastnn as fnn

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for read in (fnn.load, fnn.datasets.read_idx, fnn.read_metadata):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)
        with pytest.raises(OSError, match="not a regular file"):
            read_npz(str(path), ())


# .npz.


def npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + data


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_is_read_as_numpy_reads_it(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "X": rng.normal(size=(4, 3)),
        "F": np.asfortranarray(rng.normal(size=(4, 3))),
        "big": rng.normal(size=3).astype(">f4"),
        "u": rng.integers(0, 9, (2, 2, 2)).astype(np.uint8),
        "t": np.array(["a", "größe"]),
        "s": np.array([b"a", b"bc"]),
        "b": np.array([True, False]),
        "n": np.array(3),
        "e": np.zeros((0, 4), np.int16),
    }
    path = tmp_path / "x.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    found = read_npz(str(path), [name.lower() for name in arrays])
    for name, values in arrays.items():
        again = found[name.lower()]
        assert again is not None
        assert again.flags.writeable
        assert again.dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(again, values)
    assert read_npz(str(path), ["x"])["f"] is None
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, arrays["X"], version=(2, 0))
    np.testing.assert_array_equal(read_npz(npz(path, {"X.npy": buffer.getvalue()}), ["x"])["x"], arrays["X"])


DESCR = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }\n"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': ((((((3,), }"), "header that is not understood"),
        (npy("(" * 5000), "header that is not understood"),
        (npy("__import__('os').abort()"), "header that is not understood"),
        (npy(DESCR % "3,", bytes(16)), "does not fit 16 bytes"),
        (npy(DESCR % "99999999999999999,", bytes(16)), "does not fit 16 bytes"),
        (npy(DESCR.replace("<f8", "|O") % "1,", bytes(8)), "holds Python objects"),
        (npy(DESCR.replace("'<f8'", "[('a', '<f8')]") % "1,", bytes(8)), "header that is not understood"),
        (npy(DESCR.replace("<f8", "<f9") % "1,", bytes(9)), "f9"),
        (npy(" " * 20_000), "header of 20000 bytes"),
        (npy(DESCR % "1,", bytes(8), 2)[:11], "header that is not understood"),
        (b"\x93NUMPY\x09\x00", "is no array"),
        (b"text", "is no array"),
        (b"", "is no array"),
    ],
)
def test_damaged_members_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    path = npz(tmp_path / "x.npz", {"x.npy": member, "y.npy": b"whatever"})
    with pytest.raises(ValueError, match=message) as caught:
        read_npz(path, ["x"])
    assert str(caught.value).startswith(f"{path}: ")
    assert read_npz(path, ["z"]) == {"x": None, "y": None}


def test_random_damage_of_npz_and_idx_gives_value_errors(tmp_path: Path) -> None:
    from fastnn.datasets import read_idx

    rng = np.random.default_rng(2)
    X = rng.normal(size=(5, 3))
    np.savez_compressed(tmp_path / "x.npz", X=X, y=np.arange(5))
    idx = b"\0\0\x0e\x02" + struct.pack(">2I", 5, 3) + X.astype(">f8").tobytes()
    contents = [(tmp_path / "x.npz").read_bytes(), idx]
    for round_ in range(600):
        content = bytearray(contents[round_ % 2])
        for at in rng.integers(0, len(content), rng.integers(1, 5)):
            content[at] = rng.integers(256)
        if rng.random() < 0.2:
            del content[rng.integers(len(content)) :]
        path = tmp_path / "damaged"
        path.write_bytes(content)
        try:
            if round_ % 2:
                read_idx(path)
            else:
                read_npz(str(path), ["x", "y"])
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 (both outcomes are right)


def test_a_small_file_that_expands_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """In a process that has no gigabytes."""
    import gzip

    zeros = bytes(1 << 20)
    head = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 300 << 20))
    (tmp_path / "x.gz").write_bytes(head + 300 * gzip.compress(zeros))  # parts one after the other are a file
    header = npy(DESCR % f"{300 << 17},")
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as member,
    ):
        member.write(header)
        for _ in range(300):
            member.write(zeros)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 << 20
    code = (
        "import sys, resource; from fastnn.datasets import read_idx; from fastnn.array_files import read_npz\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for read, name in ((read_idx, 'x.gz'), (lambda path: read_npz(path, ['x']), 'x.npz')):\n"
        "  try: read(sys.argv[1] + '/' + name)\n"
        "  except ValueError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    if os.name != "posix":
        pytest.skip("needs resource")
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    first, second, kilobytes = ran.stdout.splitlines()
    for line in (first, second):
        assert re.search(r"[\d,]+ bytes expand to [\d,]+ or more", line)
    assert int(kilobytes) < 500_000


@pytest.mark.parametrize("others", [TEXT, VALUE, Anything(), None])
def test_an_object_is_no_number_or_array_that_is_written_as_one(others):
    record = Record(others=others)
    for value in ({"__float__": "nan"}, {"__array__": ["<f8", [1], [1.0]]}):
        with pytest.raises(ValueError, match=r"options cannot be .* expected an object"):
            record.check(value, "options")
