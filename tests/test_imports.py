"""Imports run one way, and the heavy ones wait until they are asked for."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastnn

ROOT = Path(fastnn.__file__).parent
CORE = Path(__file__).resolve().parents[1] / "src" / "fastnn" / "_core"  # an installation has no .pyx

# From the bottom up. A module may import what stands before it; members of one row may import each other.
LEVELS = [
    {"_version", "names"},
    {"plan", "files", "bars", "scalars", "schema", "array_files", "generators"},
    {"plotting", "pictures"},
    {"losses"},
    {"lowering"},
    {"reference"},
    {"_typing", "predictor"},
    {"_core"},
    {"kernels"},
    {"checks"},
    {"labels", "layout", "metrics", "outputs", "backends"},
    {"augment", "initializers", "layers", "optimizers", "schedules"},
    {"descriptions"},
    {"linalg"},
    {"prediction"},
    {"network"},
    {"training"},
    {"callbacks"},
    {"curvature", "gradcheck", "linear"},
    {"objective", "inspection"},
    {"solvers"},
    {"saved_training", "io"},
    {"sequential"},
    {"sweeps"},
    {"integrations"},
    {"datasets", "build_info", "estimators", "interop", "tables", "comparison", "curves", "diagnosis"},
    {"cli", "__main__"},
    {"__init__"},
]
RANK = {name: rank for rank, names in enumerate(LEVELS) for name in names}


def top_level(path: Path) -> str:
    """Member of the package that a file belongs to."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@functools.cache
def tree_of(text: str) -> ast.Module:
    """A file is parsed once for all tests."""
    return ast.parse(text)


def imports(path: Path) -> list[str]:
    """Absolute names that a file imports, those within functions and under TYPE_CHECKING included."""
    text = path.read_text(encoding="utf-8")
    package = ("fastnn", *path.relative_to(ROOT).parts[:-1])
    return list(imported(text if path.suffix == ".py" else cython_imports(text), package))


@functools.cache
def imported(text: str, package: tuple[str, ...]) -> tuple[str, ...]:
    """The same of a text of Python in a package."""
    found: list[str] = []
    for node in ast.walk(tree_of(text)):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            found.extend(f"{module}.{alias.name}" for alias in node.names)
    return tuple(found)


# A cimport counts as an import; both may be indented, and go on over lines within parentheses.
CYTHON_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+)?c?import[ \t]+(?:\([^)]*\)|[^(\n][^\n]*)", re.MULTILINE)


def cython_imports(text: str) -> str:
    """The import and cimport lines of a Cython file, as Python; those within functions too."""
    lines = (textwrap.dedent(match[0]) for match in CYTHON_IMPORT.finditer(text))
    return "\n".join(re.sub(r"\bcimport\b", "import", line) for line in lines)


def member(module: str) -> str | None:
    """Member of the package that an absolute name belongs to, None for other packages and the package's own names."""
    parts = module.split(".")
    if parts[0] != "fastnn" or len(parts) == 1:
        return None
    return parts[1] if parts[1] in RANK else None


def backward(path: Path) -> list[str]:
    """Arrows of a file that run from the bottom to the top."""
    here = top_level(path)
    arrows = [(here, member(module)) for module in imports(path)]
    return [f"{here} -> {there}" for here, there in arrows if there is not None and RANK[there] > RANK[here]]


FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def test_no_import_runs_backward() -> None:
    assert len(FILES) > 100  # they are found at all
    for path in FILES:
        assert top_level(path) in RANK, f"{path.name} has no place in LEVELS"
    assert {path.name: arrows for path in FILES if (arrows := backward(path))} == {}


def graph(root: Path) -> dict[str, set[str]]:
    """Modules of a package, each with those of them that it imports."""
    files = {".".join(("fastnn", *path.relative_to(root).with_suffix("").parts)): path for path in root.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if "__pycache__" not in name}
    return {
        name: {
            # The package itself has names of its own alone: `from . import x` asks for the module x.
            there if there in files else there.rpartition(".")[0]
            for there in imports(path)
            if there in files or there.rpartition(".")[0] in files.keys() - {"fastnn"}
        }
        - {name}
        for name, path in files.items()
    }


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    return sorted(name for name in arrows if name in reached(name))


def test_no_module_imports_itself_by_way_of_others() -> None:
    arrows = graph(ROOT)
    assert "fastnn.network" in arrows["fastnn.sequential"]  # they are read at all
    assert circles(arrows) == []


def test_a_circle_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "solvers").mkdir()
    for name, text in {
        "__init__": "from . import run\n",
        "solvers/__init__": "from .run import solve\n",
        "solvers/run": "from ..plan import OpSpec\ndef solve():\n    from .fitting import fit\n",
        "solvers/fitting": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .run import Solver\n",
        "plan": "import fastnn\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert circles(graph(tmp_path)) == ["fastnn.solvers.fitting", "fastnn.solvers.run"]


CYTHON = sorted(path for pattern in ("*.pyx", "*.pxd") for path in CORE.glob(pattern))


@pytest.mark.skipif(not CYTHON, reason="the Cython sources are not here")
def test_no_import_of_a_cython_file_runs_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", CORE.parent)
    assert {path.name: backward(path) for path in CYTHON} == {path.name: [] for path in CYTHON}
    found = {path.name: set(imports(path)) for path in CYTHON}
    assert "fastnn.plan.TrainResult" in found["engine.pyx"]  # they are read at all
    assert "fastnn._core.blas" in found["engine.pyx"]
    assert [name for name, modules in found.items() if any(m.startswith("scipy.") for m in modules)] == ["blas.pyx"]


def test_a_backward_import_of_a_cython_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "_core").mkdir()
    file = tmp_path / "_core" / "engine.pyx"
    file.write_text(
        '"""Imports the network\nfrom afar."""\n'
        "from libc.math cimport (\n    exp,\n    log)\nfrom ..plan import OpSpec  # (a tuple)\n"
        "from ..network cimport thing\ncdef class Plan:\n    def run(self):\n        from .. import training, kernels\n"
        'cdef extern from "x.h":\n    int f()\n'
    )
    assert backward(file) == ["_core -> network", "_core -> training", "_core -> kernels"]


def test_a_backward_import_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "layers.py"
    file.write_text("from .network import Sequential\n")
    assert backward(file) == ["layers -> network"]
    file = tmp_path / "network.py"
    file.write_text(
        "from . import training\nif TYPE_CHECKING:\n    from .io import save\n"
        "def fit():\n    from .solvers import fit\n    import fastnn.cli\n"
    )
    assert sorted(backward(file)) == [f"network -> {name}" for name in ("cli", "io", "solvers", "training")]


def test_reference_needs_numpy_and_the_plan_alone() -> None:
    outside = {
        module.split(".")[0]
        for path in ROOT.joinpath("reference").rglob("*.py")
        for module in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names
    }
    assert outside == {"numpy", "fastnn"}
    inside = {member(m) for path in ROOT.joinpath("reference").rglob("*.py") for m in imports(path)} - {None}
    assert inside == {"names", "plan", "losses", "lowering", "reference"}


def test_plan_needs_the_standard_library_alone() -> None:
    assert {module.split(".")[0] for module in imports(ROOT / "plan.py")} <= sys.stdlib_module_names


def test_import_loads_nothing_at_all() -> None:
    code = "import sys, fastnn; print([name for name in ('numpy', 'scipy', 'fastnn.network') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_network_loads_nothing_heavy() -> None:
    heavy = ["sklearn", "pandas", "matplotlib", "tqdm", "torch", "jax", "safetensors", "threadpoolctl", "argparse"]
    code = f"import sys, fastnn; fastnn.Sequential; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    names = set(fastnn.__all__) - {"kernels"}
    assert [name for name in names if getattr(fastnn, name) is None] == []
    assert names <= set(dir(fastnn))


def test_kernels_are_public(compiled) -> None:
    assert fastnn.kernels.softmax.__name__ == "softmax"


def test_only_public_names_are_listed() -> None:
    assert dir(fastnn) == sorted(fastnn.__all__)
    assert set(fastnn.__all__) == {*fastnn._HOMES, *fastnn._MODULES, "__version__"} - {
        *("layers", "network", "plan", "training")  # can be asked for; their contents are public elsewhere
    }


def test_type_checkers_see_all_public_names() -> None:
    found = {module.rpartition(".")[2] for module in imports(ROOT / "__init__.py")}
    assert set(fastnn.__all__) <= found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Adm", "Adam"),
        ("adam", "Adam"),
        ("dense", "Dense"),
        ("Dens", "Dense"),
        ("Squential", "Sequential"),
        ("lbfgs", "LBFGS"),
        ("optimizer", "optimizers"),
        ("batchnorm", "BatchNorm"),
        ("MLPClasifier", "MLPClassifier"),
    ],
)
def test_a_misspelt_name_is_an_error_that_names_the_likely_one(name: str, meant: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(fastnn, name)
    assert str(caught.value) == f"module 'fastnn' has no attribute {name!r}; did you mean {meant!r}?"


def test_an_unknown_name_is_an_attribute_error() -> None:
    for name in ("nothing_alike", "__nothing__"):
        with pytest.raises(AttributeError, match=f"^module 'fastnn' has no attribute '{name}'$"):
            getattr(fastnn, name)


def test_a_suggestion_is_printed_once() -> None:
    done = subprocess.run([sys.executable, "-c", "import fastnn; fastnn.Adm"], capture_output=True, text=True)
    assert done.stderr.count("Adam") == 1


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    facts = fastnn.show_config(mode="dict")
    assert facts["fastnn"] == fastnn.__version__
    assert facts["threads"] >= 1
    assert set(facts["simd"]) >= {"active", "available"}
    assert all(set(library) == {"library", "version", "threads", "file"} for library in facts["blas"])
    assert fastnn.show_config() is None
    printed = capsys.readouterr().out
    assert fastnn.__version__ in printed
    assert "instruction set" in printed
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dict', got 'json'"):
        fastnn.show_config(mode="json")


def imported_by_string(path: Path) -> list[str]:
    """Arguments of the calls of import_module and __import__ in a file, as they are written."""
    return [
        ast.unparse(node.args[0])
        for node in ast.walk(tree_of(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
        and node.args
    ]


def test_two_modules_import_the_package_by_string() -> None:
    found = {path.relative_to(ROOT).as_posix(): names for path in FILES if (names := imported_by_string(path))}
    assert found == {
        "__init__.py": ["f'.{name}'", "f'.{_HOMES[name]}'"],  # public names, when they are asked for
        "network.py": ["'fastnn.sequential'"],  # pickles of earlier versions
        "files.py": ["module"],  # optional packages of others
    }
