#!/usr/bin/env python3
"""Feed damaged and forged files to everything that reads files.

    tools/fuzz_files.py [--seconds 60] [--seed 0] [--keep FOLDER]

Files of networks with the state of a training, of estimators and of the command line, .npz and IDX files are changed:
bits, lengths and headers as an accident would, and tensors, descriptions, metadata and states of generators with a new
checksum, as an attacker would. Each is loaded, and what loads is used: predictions, training that goes on, saving.

Right is a ValueError or an OSError (training may also diverge), within 10 seconds of processor time and 3 GiB of
memory; or, for a change without a new checksum, a network that equals the one that was saved. Anything else is
reported with the file, which stays in FOLDER. A crash leaves the last file there.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import io as text_io
import json
import os
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as serialize

import fastnn as fnn
from fastnn import cli, io
from fastnn.cli import tables
from fastnn.cli.arguments import parser
from fastnn.cli.console import Failure
from fastnn.datasets import read_idx

SECONDS = 10.0
MEMORY = 3 << 30

X = np.random.default_rng(0).normal(size=(24, 3))
Y = np.arange(24) % 3
ESCAPE = "\x1b[31m\x07\u202e"
REFUSALS = (ValueError, OSError)

#: What a value of JSON is replaced by.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 4, 5, 255, 2**31, 2**32 - 1, 2**53, 2**63, 2**64, 2**127, 2**128, -(2**63)),
    *(10**400, 0.0, -0.0, 0.5, 1e-300, 1e300, 5e-324, "", "x", "0", "nan", "O", "<f8", ESCAPE, "\ud800", "a" * 5000),
    *([], {}, [[]], [{}], [0], [None], [1, 2, 3], ["a", "b", "c"], {"type": "Dense"}, {"type": "Adam"}, {"a": 1}),
    *({"__float__": "nan"}, {"__float__": "inf"}, {"__float__": "-inf"}, {"__float__": 1}, {"__float__": "x" * 99}),
    *(
        {"__array__": ["<f8", [1], [1.0]]},
        {"__array__": ["O", [1], ["a"]]},
        {"__array__": ["<U999999999", [1], ["a"]]},
    ),
    *({"__array__": ["<i8", [0, 2**60], []]}, {"__array__": ["f8,(2,", [1], [1]]}, {"__array__": 3}, {"__array__": []}),
    *({"type": "WarmUp", "then": 0.1, "length": 0}, {"type": "WarmUp", "then": {"type": "WarmUp", "then": 1}}),
    *({"type": "CosineDecay", "learning_rate": 0.1, "length": 1}, {"type": "ReduceOnPlateau", "learning_rate": 0.1}),
    *(
        {"type": "BatchNorm"},
        {"type": "Standardize"},
        {"type": "Dropout", "rate": 0.5},
        {"pairs": [[[], 1]]},
        {"pairs": 1},
    ),
    json.loads("[" * 200 + "]" * 200),
    json.loads('{"a":' * 100 + "1" + "}" * 100),
]
NAMES = ["x", "type", "bit_generator", "state", "epoch", "loss", "val_x", ESCAPE, "__array__", "__float__", "theta"]
FIT: dict[str, Any] = {"batch_size": 8, "validation_split": 0.25, "threads": 1, "l2": 1e-3}


class Case:
    """A file that was written, and what reads it and uses what was read."""

    def __init__(self, name: str, path: Path, use: Callable[[Path], object], equal: Callable[[Path], object]) -> None:
        self.name, self.content, self.use, self.equal = name, path.read_bytes(), use, equal
        self.original = equal(path)


def network(generator: str, optimizer: Any, layers: list[Any], stopped: bool = False) -> fnn.Sequential:
    seed = np.random.Generator(getattr(np.random, generator)(3))
    net = fnn.Sequential(layers, input_size=3, loss="cross_entropy", dtype="float64", seed=seed)
    net.feature_names = ("a", "b", ESCAPE)
    callbacks = [fnn.EarlyStopping(patience=1 if stopped else 5)]
    net.fit(X, Y, epochs=2, optimizer=optimizer, callbacks=callbacks, seed=7 if stopped else None, **FIT)
    return net


def use_network(path: Path) -> None:
    """Predict, go on training in every way, and save again."""
    net = fnn.load(path)
    repr(net), net.summary(), repr(net.history), repr(net.training_state)
    net.predict(np.zeros((2, net.input_size)))
    if net.training_state is not None:
        optimizer, epochs = net.training_state.optimizer, min(net.training_state.epoch, 10**6)
        again = fnn.load(path)
        with contextlib.suppress(fnn.DivergenceError, *REFUSALS):
            callbacks = [fnn.EarlyStopping(patience=5), fnn.Checkpoint(path.with_suffix(".again"))]
            again.fit(X, Y, epochs=epochs + 1, optimizer=optimizer, callbacks=callbacks, resume=True, **FIT)
            fnn.load(path.with_suffix(".again"))
        other = fnn.load(path)
        with contextlib.suppress(fnn.DivergenceError, *REFUSALS):
            other.partial_fit(X, Y, batch_size=8, threads=1)
            other.fit(X, Y, epochs=1, **FIT)
    net.save(path.with_suffix(".again"), training_state=True)
    fnn.load(path.with_suffix(".again"))


def equal_network(path: Path) -> object:
    net, metadata = fnn.load(path, return_metadata=True)
    return net.theta.tobytes(), net.state.tobytes(), repr(net.layers), net.feature_names, json.dumps(metadata)


def use_estimator(cls: Any) -> Callable[[Path], None]:
    def use(path: Path) -> None:
        model = cls.load(path)
        repr(model)
        model.predict(np.zeros((2, 3)))
        y = Y.astype(float) if not hasattr(model, "classes_") else model.predict(X)
        for attempt in (lambda m: m.partial_fit(X, y), lambda m: m.set_params(warm_start=True, max_iter=2).fit(X, y)):
            if hasattr(model, "partial_fit"):
                with contextlib.suppress(fnn.DivergenceError, *REFUSALS):
                    attempt(cls.load(path))
        model.save(path.with_suffix(".again"))
        cls.load(path.with_suffix(".again"))

    return use


def use_command_line(path: Path) -> None:
    table = path.parent / "table.csv"
    for arguments in (["info", str(path)], ["predict", str(path), str(table)]):
        out = text_io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            out.isatty = lambda: True  # type: ignore[method-assign]
            try:
                cli._run(parser().parse_args(arguments))
            except Failure as error:
                raise ValueError(str(error)) from error
            finally:
                shown = set(out.getvalue()) & set("\x1b\x07\u202e\x9b")
                if shown:
                    raise AssertionError(f"{shown!r} reaches the terminal")


def corpus(folder: Path) -> list[Case]:
    """Files of every kind."""
    cases = []

    def add(name: str, write: Callable[[Path], object], use: Any, equal: Any = equal_network) -> None:
        path = folder / "written"
        write(path)
        cases.append(Case(name, path, use, equal))

    dense = [fnn.Dense(4, "tanh"), fnn.Dense(3)]
    rich = [fnn.Standardize(), fnn.Dense(4), fnn.BatchNorm(), fnn.Activation("gelu"), fnn.Dropout(0.2)]
    rich += [fnn.LayerNorm(), fnn.Scale(), fnn.Dense(3, init=fnn.initializers.Normal(0.1))]
    rate = fnn.WarmUp(fnn.ReduceOnPlateau(0.01), 2)
    trained = [
        network("PCG64", fnn.AdamW(rate), rich),
        network("MT19937", fnn.SGD(fnn.CosineDecay(0.1, 5), momentum=0.9), dense),
        network("Philox", fnn.KFAC(), dense),
        network("SFC64", fnn.RMSProp(0.01), dense, stopped=True),
        network("PCG64DXSM", fnn.AdaGrad(fnn.StepDecay(0.1)), dense),
    ]
    for net in trained:
        kind = type(net.generator.bit_generator).__name__
        add(
            f"network {kind}", lambda path, net=net: net.save(path, training_state=True, metadata={"a": 1}), use_network
        )
    text = np.array(["a", "b", ESCAPE])[Y]
    several = np.c_[Y == 0, Y > 0].astype(int)
    weights = {"a": 1.0, "b": 2.0, ESCAPE: 1.0}
    fast = {"max_iter": 3, "hidden_layer_sizes": (4,), "random_state": 0}
    models: list[tuple[Any, Any]] = [
        (fnn.MLPClassifier(**fast, class_weight=weights, solver="sgd", learning_rate="adaptive"), text),
        (fnn.MLPClassifier(**fast, optimizer=fnn.Adam(fnn.CosineDecay(0.1, 3)), batch_norm=True, dropout=0.1), Y),
        (fnn.MLPClassifier(**fast, early_stopping=True, solver="sgd", learning_rate="invscaling"), Y == 1),
        (fnn.MLPClassifier(**fast), several),
        (fnn.MLPRegressor(**fast, early_stopping=True), Y.astype(float)),
        (fnn.SoftmaxRegression(), text),
        (fnn.LinearRegression(), Y.astype(float)),
    ]
    for model, y in models:
        model.fit(X, y)
        add(type(model).__name__, model.save, use_estimator(type(model)))
    (folder / "table.csv").write_text("a,b,c\n" + "\n".join("1,2,3" for _ in range(4)), encoding="utf-8")
    data = {
        "task": "classification",
        "target": "t" + ESCAPE,
        "features": ["a", "b", "c"],
        "classes": ["x", "y", ESCAPE],
    }
    data["training"] = {"epochs": 3, ESCAPE: ESCAPE}
    old = {"task": "regression", "target": "t", "features": None, "classes": None}
    old |= {"feature_mean": [0.0] * 3, "feature_scale": [1.0] * 3, "target_mean": 0.0, "target_scale": 1.0}
    single = fnn.Sequential([fnn.Dense(1)], input_size=3, loss="squared_error", seed=0)
    add("command line", lambda path: trained[1].save(path, metadata=data), use_command_line)
    add("command line, old", lambda path: single.save(path, metadata=old), use_command_line)
    return cases


def read_table(path: Path) -> object:
    """An .npz as the command line reads it."""
    return tables.read(str(path.rename(path.with_suffix(".npz"))))


def data_files(folder: Path) -> list[Case]:
    """Data: these have no checksum of their own."""
    cases = []
    for name in ("x.npz", "z.npz", "x.idx", "x.gz"):
        path = folder / name
        idx = b"\0\0\x0d\x02" + struct.pack(">2I", 24, 3) + X.astype(">f4").tobytes()
        if name.endswith(".npz"):
            (np.savez if name[0] == "x" else np.savez_compressed)(path, X=X, y=Y)
        else:
            path.write_bytes(idx if name == "x.idx" else gzip.compress(idx))
        read: Any = read_table if name.endswith(".npz") else read_idx
        cases.append(Case(name, path, read, lambda path: None))
    return cases


# ------------------------------------------------------------------ changes


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bits, bytes, pieces and lengths changed."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 400))
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.choice([1, 8, 100])]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice([1, 8, 100]))
        elif kind == 4:
            data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, len(data)]))
        elif kind == 5:
            data[at : at + 4] = rng.choice([b"null", b"1e99", b"{{{{", b"9999", b"-1, ", b'"": ', b"\xff\xff\xff\xff"])
        else:
            data = data[: rng.randrange(len(data)) + 1]
        if not data:
            return b""
    return bytes(data)


def split(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors.numpy import load

    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return json.loads(header["__metadata__"]["fastnn"]), load(content)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Containers and keys of everything within a value; the items of long lists are mostly left out."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys if len(keys) < 40 else list(keys)[:2]:
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            found += places(value[key])
    return found


def change_json(description: dict[str, Any], rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        all_places = places(description)
        inside, key = rng.choice(all_places)
        value, kind = inside[key], rng.randrange(8)
        if kind < 3:
            inside[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 3 and isinstance(value, (int, float)) and not isinstance(value, bool):
            inside[key] = rng.choice(
                [value + 1, value - 1, -value, value * 2, value * 10**9, float(value % 2**64), repr(value)]
            )
        elif kind == 4 and isinstance(inside, dict):
            del inside[key]
        elif kind == 5 and isinstance(value, list) and value:
            value.append(copy.deepcopy(rng.choice([value[0], *ODD[:30]]))) if rng.random() < 0.5 else value.pop()
        elif kind == 6 and isinstance(value, dict):
            value[rng.choice(NAMES)] = copy.deepcopy(rng.choice(ODD))
        else:
            other, place = rng.choice(all_places)
            inside[key] = copy.deepcopy(other[place])


def change_tensors(tensors: dict[str, np.ndarray], rng: random.Random) -> None:
    name = rng.choice(list(tensors))
    values = tensors[name].copy()
    kind = rng.randrange(6)
    if kind == 0:
        del tensors[name]
        return
    if kind == 1:
        values = values.astype(rng.choice([np.float32, np.float64, np.float16, np.int32, np.uint8, bool]))
    elif kind == 2:
        values = values.reshape(-1)[: rng.randrange(values.size + 1)]
    elif kind == 3 and values.size:
        values.flat[rng.randrange(values.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, -1.0])
    elif kind == 4:
        values = values.T.copy() if rng.random() < 0.5 else values[None]
    tensors[rng.choice([name, name, name + "x", "training.slots", "training.callbacks.0.theta", ESCAPE])] = values


def forged(content: bytes, rng: random.Random) -> bytes:
    """The file with a changed description or changed tensors, and a new checksum."""
    description, tensors = split(content)
    if rng.random() < 0.9:
        change_json(description, rng)
    if rng.random() < 0.2:
        change_tensors(tensors, rng)
    if isinstance(description, dict):
        with contextlib.suppress(ValueError, RecursionError, UnicodeError):
            description["sha256"] = io.checksum(description, tensors)
    text = json.dumps(description, ensure_ascii=False).encode(errors="replace").decode()
    return bytes(serialize(tensors, {"fastnn": text}))


def rezipped(content: bytes, rng: random.Random) -> bytes:
    """An .npz whose members are damaged and whose checksums are right."""
    out = text_io.BytesIO()
    with zipfile.ZipFile(text_io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(
                name if rng.random() < 0.9 else rng.choice(["x.npy", "y", ESCAPE]), damaged(old.read(name), rng)
            )
    return out.getvalue()


# ------------------------------------------------------------------ the run


class Fuzzer:
    """Cases, one after the other, and what came of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.cases, self.data = corpus(folder), data_files(folder)
        self.outcomes: Counter[str] = Counter()
        self.findings: list[str] = []
        self.slowest = 0.0

    def run(self, seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end and len(self.findings) < 20:
            is_data = self.rng.random() < 0.2
            case = self.rng.choice(self.data if is_data else self.cases)
            sealed = self.rng.random() < 0.75
            if not sealed:
                content = damaged(case.content, self.rng)
            elif is_data:
                content = rezipped(case.content, self.rng) if case.content[:2] == b"PK" else self._squeezed(case)
            else:
                content = forged(case.content, self.rng)
            self.one(case, content, whole=not (sealed or is_data))

    def _squeezed(self, case: Case) -> bytes:
        raw = gzip.decompress(case.content) if case.content[:2] == b"\x1f\x8b" else case.content
        return gzip.compress(damaged(raw, self.rng))

    def one(self, case: Case, content: bytes, *, whole: bool) -> None:
        """Read one file and use what was read; with `whole`, what loads must equal what was saved."""
        path = self.folder / "forged"
        path.write_bytes(content)
        start, outcome = time.process_time(), "taken"
        try:
            if whole:
                assert case.equal(path) == case.original, "a damage that goes unnoticed"
            with contextlib.redirect_stdout(text_io.StringIO()):
                case.use(path)
        except REFUSALS:
            outcome = "refused"
        except Exception as error:
            outcome = "wrong"
            self._found(case, content, f"{type(error).__name__}: {error!r:.200}", traceback.format_exc())
        used = time.process_time() - start
        self.slowest = max(self.slowest, used)
        if used > SECONDS:
            self._found(case, content, f"{used:.1f} s of processor time", "")
        self.outcomes[f"{case.name}: {outcome}"] += 1

    def _found(self, case: Case, content: bytes, what: str, where: str) -> None:
        kept = self.folder / f"finding-{len(self.findings)}"
        kept.write_bytes(content)
        self.findings.append(f"{case.name}, {kept}: {what}\n{where}")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60.0, help="of processor time (default: 60)")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="folder for the files, kept afterwards")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        fuzzer = Fuzzer(folder, given.seed)
        if os.name == "posix":
            import faulthandler
            import resource

            faulthandler.enable()
            if sys.platform == "linux":
                now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
        fuzzer.run(given.seconds)
        for outcome, count in sorted(fuzzer.outcomes.items()):
            print(f"{count:8,}  {outcome}")
        print(f"{fuzzer.outcomes.total():8,} files, the slowest took {fuzzer.slowest:.2f} s of processor time")
        for finding in fuzzer.findings:
            print(finding)
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
