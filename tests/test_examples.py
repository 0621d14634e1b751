"""The scripts in examples/ run, leave their files where they are told to, and show what they claim."""

from __future__ import annotations

import base64
import importlib.util
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from curvature_cases import BACKENDS

import fastnn as fnn

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def example(compiled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ModuleType]:
    """Loads a script by its name; the working folder is an empty one."""
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for the types they name
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.skipif("compiled" not in BACKENDS, reason="the compiled engine has no linearize")
def test_document_000(example, tmp_path, capsys):
    document = example("document_000")
    H = document.main([])
    manual, passes = document.by_hand()
    np.testing.assert_allclose(H, manual, rtol=1e-12)
    np.testing.assert_allclose(passes["∂δ/∂w"][0], [-0.1859, -0.0800, -0.0003, -0.0231], atol=5e-5)
    assert document.slips(H) == [(2, 4), (4, 4)]
    assert [path.name for path in tmp_path.rglob("*")] == ["figures", "document_000.png"]
    out = capsys.readouterr().out
    for text in ("0.19427682", "0.35757201", "entries that the document has wrong: (2, 4), (4, 4)", "passed"):
        assert text in out


def test_document_000_van_der_pol(example, tmp_path, capsys):
    document = example("document_000_van_der_pol")
    from scipy.integrate import solve_ivp

    start = np.array([[2.0, -1.5], [-2.9, 2.9]])
    for state, later in zip(start, document.after(start, 3), strict=True):
        exact = solve_ivp(lambda _, s: [s[1], (1 - s[0] ** 2) * s[1] - s[0]], (0, 0.3), state, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(later, exact.y[:, -1], atol=1e-7)
    found = document.main(["--quick"])
    assert (tmp_path / "figures" / "document_000_van_der_pol.png").read_bytes().startswith(PNG)
    best = max(found.runs, key=lambda run: run.validation["r2"])
    assert best.validation["r2"] > 0.9
    path = document.follow(best.net, start, 2)
    np.testing.assert_array_equal(path[1], start + 0.1 * best.net.predict(start))
    assert path.shape == (3, 2, 2)
    assert "after 100 steps" in capsys.readouterr().out


def test_document_001_in_full(example, tmp_path, capsys):
    curves = example("document_001").main(["--output", str(tmp_path / "out")])
    final = {method: values[:, :, -1] for method, values in curves.items()}
    assert final["NAG"].shape == (10, 3)
    assert np.median(final["NAG"][:, 1]) >= 0.98
    assert np.median(final["descent"][:, 1]) <= 0.9
    assert (final["NAG"][:, 0] < 0.2 * final["descent"][:, 0]).all()
    out = capsys.readouterr().out
    for text in ("passed", "0.807 / 0.825", "0.993 / 1.000", "10 starts"):
        assert text in out


def test_document_001_files(example, tmp_path):
    document = example("document_001")
    curves = document.main(["--seeds", "2", "--epochs", "60"])
    folder = tmp_path / "figures"
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "document_001.png",
        "document_001_descent.safetensors",
        "document_001_nag.safetensors",
    ]
    assert (folder / "document_001.png").read_bytes().startswith(PNG)
    X, y, X_test, y_test = document.split(0)
    assert (len(y), len(y_test)) == (110, 40)
    for method in ("descent", "NAG"):
        assert curves[method].shape == (2, 3, 60)
        net = fnn.load(folder / f"document_001_{method.lower()}.safetensors")
        expected = [*net.evaluate(X, y).values(), net.evaluate(X_test, y_test)["accuracy"]]
        np.testing.assert_allclose(curves[method][0, :, -1], expected, rtol=1e-13)
    assert (curves["NAG"][:, 0, -1] < curves["descent"][:, 0, -1]).all()


def test_document_003(example, tmp_path, capsys):
    document = example("document_003")
    table = document.main(["--seeds", "1", "--epochs", "3", "--trials", "2"])
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "document_003.csv",
        "document_003.png",
        "document_003_search.png",
    ]
    assert (tmp_path / "figures" / "document_003.png").read_bytes().startswith(PNG)
    lines = (tmp_path / "figures" / "document_003.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(table) + 1 == 19
    assert all(np.isfinite(row).all() and row.shape == (7,) for row in table.values())
    losses = {name: row[0] for (name, data), row in table.items() if data == "digits"}
    assert losses["… momentum"] < losses["deep, mini-batches"] < losses["deep, whole batch"]
    out = capsys.readouterr().out
    assert "the best of 2 by the first split's dev loss" in out
    assert out.count("passed") == 7
    assert out.count("failed, as it should") == 2
    assert "labels decoded" in out


def test_document_003_split_and_labels(example):
    document = example("document_003")
    X, y, encoder = document.load("iris, 1 class")
    assert list(encoder.inverse_transform([0, 1])) == ["other", "versicolor"]
    assert y.sum() == 50
    X, y, encoder = document.load("iris")
    assert list(encoder.classes_) == ["setosa", "versicolor", "virginica"]
    assert [len(part[1]) for part in document.split(X, y, 0)] == [90, 30, 30]
    y = np.arange(20_000) % 2
    large = document.split(np.zeros((20_000, 1)), y, 0)
    assert [len(part[1]) for part in large] == [19_600, 200, 200]


SCRIPTS = {
    "document_a": """
        from pathlib import Path
        def beside(found):
            return [("table 1", "<accuracy> of b & c", "0.5", f"{found:.2f}")]
        def main(argv):
            Path(argv[1], "a.png").write_bytes(b"picture")
            print("ran with", argv[2:])
            return 0.75
    """,
    "document_b": """
        def main(argv):
            print("so far")
            raise ValueError("a matrix <is> singular")
    """,
    "document_c": """
        def main(argv):
            raise SystemExit(3)
    """,
    "document_d": """
        def main(argv):
            print("the last")
    """,
}


def test_all_writes_one_page_and_goes_on_after_failures(example, tmp_path, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("tqdm")
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name, body in SCRIPTS.items():
        text = f'"""The system {name}.\n\nMore."""\n{textwrap.dedent(body)}'
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    runs = example("all").main(["--quick", "--folder", str(folder), "--output", str(tmp_path / "out")])
    assert [(run.name, run.status) for run in runs] == [
        ("document_a", 0),
        ("document_b", 1),
        ("document_c", 3),
        ("document_d", 0),
    ]
    assert runs[0].title == "The system document_a."
    assert runs[0].rows == [["table 1", "<accuracy> of b & c", "0.5", "0.75"]]
    page = (tmp_path / "out" / "all.html").read_text(encoding="utf-8")
    for text in (
        "ran with [&#39;--quick&#39;]",
        "&lt;accuracy&gt; of b &amp; c",
        '<td class="number">0.75</td>',
        f'src="data:image/png;base64,{base64.b64encode(b"picture").decode()}"',
        "so far",
        "ValueError: a matrix &lt;is&gt; singular",
        "failed, exit status 3",
        "the last",
    ):
        assert text in page, text
    assert "http" not in page  # one file that needs no other
    streams = capsys.readouterr()
    assert "4 scripts in" in streams.out
    assert "2 failed" in streams.out
    assert "document_b failed: ValueError" in streams.err


def test_all_knows_every_script(example, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("tqdm")
    module = example("all")
    found = module.scripts(EXAMPLES)
    assert {run.name for run in found} == {path.stem for path in EXAMPLES.glob("*.py")} - {"all"}
    assert all(
        run.title.startswith(("Document 00", "Documents 000")) and run.title.endswith((".", "?")) for run in found
    )
    assert [run.name for run in module.chosen(found, ["logistic", "001"])] == ["document_001", "document_002_logistic"]
    with pytest.raises(SystemExit):
        module.main(["--only", "document_007"])
    assert "document_007" in capsys.readouterr().err


def test_document_000_tables(example, mnist_dir, tmp_path, capsys):
    found = example("document_000_tables").main(["--quick"])
    assert (tmp_path / "figures" / "document_000_tables.png").read_bytes().startswith(PNG)
    assert len(found) == 10 + 4 + 2 + 20 + 6
    assert all(np.isfinite(result).all() for result in found.values())
    # Newton's method learns: the document's stays at 9 to 12 % and at 20 to 60 %.
    for (method, data, _), result in found.items():
        if method.startswith("Newton"):
            assert result.train > (90 if data.startswith("iris") else 30), (method, data)
    out = capsys.readouterr().out
    for text in ("table 2", "table 3", "96.85", "11.52", "93.33"):
        assert text in out


def test_document_002_rosenbrock(example, tmp_path, capsys):
    document = example("document_002_rosenbrock")
    f = document.rosenbrock
    theta, step = np.array([-0.7, 0.4]), np.array([1e-6, -2e-6])
    ahead, behind = (f(theta + sign * step) for sign in (1, -1))
    assert 2 * f(theta)[1] @ step == pytest.approx(ahead[0] - behind[0], rel=1e-6)
    np.testing.assert_allclose(2 * document.product(theta, step), ahead[1] - behind[1], rtol=1e-6)
    found = document.main(["--quick"])
    assert (tmp_path / "figures" / "document_002_rosenbrock.png").read_bytes().startswith(PNG)
    arrivals = {name: document.arrival(values) for name, (_, values, _) in found.items()}
    assert [name for name, at in arrivals.items() if at is None] == [
        "gradient descent, fixed step",
        "gradient descent, line search",
    ]
    assert arrivals["Newton, whole steps"] < arrivals["Newton, line search"] < arrivals["L-BFGS"]
    descends = found["Newton, line search"][1]
    assert (np.diff(descends) < 0).all()
    assert (np.diff(found["Newton, whole steps"][1]) > 0).any()
    out = capsys.readouterr().out
    assert "f ≤ 1e-10" in out
    for line in out.splitlines():  # rounding changes nothing but descent
        if line.startswith(("Newton", "L-BFGS", "cubic", "non-linear")):
            assert " to " not in line, line


def test_document_002_logistic(example, tmp_path, capsys):
    found = example("document_002_logistic").main(["--quick"])
    assert (tmp_path / "figures" / "document_002_logistic.png").read_bytes().startswith(PNG)
    fixed, drawn = found["fixed"], found["reshuffled"]
    losses = {name: row[1] for name, row in fixed.items()}
    short = losses.pop("Newton, short steps")
    np.testing.assert_allclose(list(losses.values()), min(losses.values()), rtol=1e-9)
    assert short > 0.5
    assert fixed["Newton, line search"][0] < fixed["L-BFGS"][0] < fixed["non-linear CG"][0]
    assert drawn["non-linear CG"][1] > 1.2 * losses["non-linear CG"]
    assert drawn["Newton, line search"][1] < 1.05 * losses["Newton, line search"]
    out = capsys.readouterr().out
    for text in ("passed", "0.4058", "0.6030", "document"):
        assert text in out


def test_document_002_networks(example, mnist_dir, tmp_path, capsys):
    document = example("document_002_networks")
    found = document.main(["--quick", "--data", "mnist"])
    assert (tmp_path / "figures" / "document_002_networks.png").read_bytes().startswith(PNG)
    for hidden in (1, 2):
        runs = {run.method: run for run in found[hidden].runs}
        assert len(runs) == 7
        for run in runs.values():
            assert len(run.net.layers) == hidden + 1
            assert run.history["loss"][-1] < run.history["loss"][0]
            assert len(run.history["right"]) == len(run.history["val_right"]) == len(run.history)
            assert run.history["val_right"] == run.history["val_accuracy"]
            assert run.history["right"][-1] == run.train["accuracy"] > 0.5
        assert runs["L-BFGS"].history["loss"][-1] < runs["gradient descent"].history["loss"][-1]
    rows = document.beside(found)
    assert len(rows) == 3 * 14
    assert [row[2] for row in rows if row[1] == "L-BFGS, 2 hidden: dev accuracy"] == ["0.7845"]
    out = capsys.readouterr().out
    for text in ("500 rows to train, 100 dev rows (split)", "0.8336", "0.7845", "24.3"):
        assert text in out


def test_document_002_networks_data(example, monkeypatch):
    def missing(download, **_):
        assert not download
        raise FileNotFoundError

    X, y = np.zeros((90, 4), np.float32), np.arange(90) % 10
    monkeypatch.setattr(fnn.datasets, "load_fashion_mnist", missing)
    monkeypatch.setattr(fnn.datasets, "load_mnist", lambda **_: (X, y, X[:20], y[:20]))
    document = example("document_002_networks")
    for dev, sizes in (("test", (60, 20, 20)), ("split", (50, 10, 20))):
        name, *parts = document.data(None, 60, dev)
        assert (name, *(len(labels) for _, labels in parts)) == ("mnist", *sizes)


@pytest.mark.parametrize("bundled", [False, True])
def test_document_002_bias_variance(example, bundled, tmp_path, monkeypatch, capsys):
    if bundled:  # neither its files nor a cache
        monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
        monkeypatch.setattr(fnn.datasets, "cache_folder", lambda: tmp_path / "none")
    report, curves = example("document_002_bias_variance").main(["--quick"])
    assert (tmp_path / "figures" / "document_002_bias_variance.png").read_bytes().startswith(PNG)
    assert report.rows == {"train": 500, "dev": 500}
    assert [curve.name for curve in curves.values()] == ["rows", "l2", "max_iter", "width", "batch_size"]
    gaps = {c.name: (c.scores("train") - c.scores("validation")).mean(axis=1) for c in curves.values()}
    assert gaps["rows"][0] > 0.05 + gaps["rows"][-1]
    assert gaps["batch_size"][0] > gaps["batch_size"][-1]  # fewer steps fit less
    out = capsys.readouterr().out
    assert "digits" in out or not bundled
    for text in (f"Diagnosis: {report.verdict}", "0.8363 / 0.8336", "train - dev"):
        assert text in out


def test_document_002_depth(example, mnist_dir, tmp_path, capsys):
    document = example("document_002_depth")
    found = document.main(["--quick"])
    assert (tmp_path / "figures" / "document_002_depth.png").read_bytes().startswith(PNG)
    assert list(found) == list(document.methods(1.0))
    assert all(values.shape == (2, 1, 3) and np.isfinite(values).all() for values in found.values())
    losses = {name: values[1, 0, 0] for name, values in found.items()}
    assert losses["L-BFGS"] < losses["gradient descent"] < losses["Adam"]
    assert losses["Newton, Hessian"] < losses["Gauss-Newton CG"]
    assert (tmp_path / "figures" / "document_002_depth_why.png").read_bytes().startswith(PNG)
    out = capsys.readouterr().out
    assert "2.303" in out
    assert "steps to e-fold" in out


def test_document_002_depth_says_why_descent_stalls(example, tmp_path, monkeypatch, capsys):
    document = example("document_002_depth")

    def missing(**_):
        raise FileNotFoundError

    monkeypatch.setattr(fnn.datasets, "load_fashion_mnist", missing)
    found, losses = document.explain([1, 6], 200, 100, 40, 30, tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes().startswith(PNG)
    shallow, deep = found[1], found[6]
    assert shallow.losses[-1] < 1.5 < 2.2 < deep.losses[-1]  # SGD learns with one hidden layer, stalls with six
    assert losses[-1] < 1.5  # Gauss-Newton does not
    assert np.isclose(deep.plateau_loss, np.log(10), atol=0.02)
    assert (np.diff(np.log(deep.spread[:6])) < -1.0).all()  # each layer makes the rows more alike
    assert deep.spread[-1] < 1e-3 < 1.0 < shallow.spread[-1]
    assert deep.gradients.max() < 1e-3 < 1e-2 < shallow.gradients.min()
    assert -1e-2 < deep.smallest < 0.0  # a saddle, but a flat one
    assert deep.steps == 1.0 / (document.RATE * -deep.smallest)
    assert deep.steps > 400.0  # SGD has done as many
    out = capsys.readouterr().out
    assert "digits of 8×8" in out
    assert "Gauss-Newton CG, 6 hidden layers" in out


def test_document_004(example, mnist_dir, tmp_path, capsys):
    document = example("document_004")
    found = document.main(["--quick", "--data", "mnist"])
    assert (tmp_path / "figures" / "document_004.png").read_bytes().startswith(PNG)
    steps = found["least squares"]
    assert (steps[:, 0] == 1).all()
    assert (steps[:, 2] < 1e-8 * (1 + steps[:, 1])).all()
    runs = {run.method: run for run in found["softmax"].runs}
    minima = [runs[name].history["loss"][-1] for name in ("L-BFGS", "Newton-CG", "Gauss-Newton CG")]
    np.testing.assert_allclose(minima, min(minima), rtol=1e-4)
    assert all(run.history["loss"][-1] >= min(minima) * (1 - 1e-6) for run in runs.values())
    # The document's rate on raw pixels: the same steps as of pixels to 1, but for the biases.
    raw, scaled = (runs[name].net for name in ("SGD, pixels to 255", "SGD, pixels to 1"))
    W, V = 255 * raw.theta[:-10], scaled.theta[:-10]
    assert np.linalg.norm(W - V) < 0.05 * np.linalg.norm(V)
    out = capsys.readouterr().out
    assert "84.26" in out
    assert "of the rate 0.0325" in out
    assert document.beside(found) == []
    rows = document.beside({**found, "data": "fashion"})
    assert [row[2] for row in rows] == ["0.4558", "84.26", "84.26"]


def test_document_mistakes(example, tmp_path, capsys):
    document = example("document_mistakes")
    found = document.main([])
    assert list(tmp_path.iterdir()) == []
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8").replace("\\|", "|")
    out = " ".join(capsys.readouterr().out.split())
    for mistake, shown in found:
        assert shown.holds, mistake.where
        for text in (mistake.where, mistake.says, mistake.right):
            assert text in readme
        assert shown.text in out
    assert {mistake.where[:3] for mistake, _ in found} == {"000", "001", "002", "003", "004"}
    assert ("002, section 2", "303,310", "238,510") in {(row[0], *row[2:]) for row in document.beside(found)}


def test_document_mistakes_says_what_does_not_hold(example, monkeypatch):
    document = example("document_mistakes")
    refuted = document.Mistake("005, page 1", "1 = 2", "1 = 1", lambda: document.Shown("1 is 1", False, "2", "1"))
    monkeypatch.setattr(document, "MISTAKES", [refuted])
    with pytest.raises(SystemExit, match="not shown: 005, page 1"):
        document.main([])


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("document_000_tables", "--seeds"),
        ("document_000_van_der_pol", "--states"),
        ("document_001", "--seeds"),
        ("document_002_bias_variance", "--seeds"),
        ("document_002_depth", "--depth"),
        ("document_002_logistic", "--draws"),
        ("document_002_networks", "--rows"),
        ("document_002_rosenbrock", "--iterations"),
        ("document_003", "--seeds"),
        ("document_004", "--epochs"),
    ],
)
def test_arguments_are_checked(example, name, option, capsys):
    with pytest.raises(SystemExit):
        example(name).main([option, "0"])
    assert "at least 1" in capsys.readouterr().err


def test_document_004_grid(example, mnist_dir, tmp_path, capsys):
    result = example("document_004_grid").main(["--quick", "--data", "mnist", "--threads", "2"])
    assert len(result) == 16
    assert result.to_dict()["trained_with"].count(None) == 8
    figures = tmp_path / "figures"
    assert (figures / "document_004_grid.png").read_bytes().startswith(PNG)
    assert len((figures / "document_004_grid.csv").read_text().splitlines()) == 17
    assert "16 settings in" in capsys.readouterr().out
