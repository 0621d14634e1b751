"""Images resized and shown with predictions, decision boundaries, confusion matrices."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.pictures import plot_confusion_matrix, plot_decision_boundary, plot_images, resize_images

PNG = b"\x89PNG"


def test_whole_blocks_are_averaged():
    X = np.random.default_rng(0).normal(size=(5, 28 * 28))
    expected = X.reshape(5, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(5, -1)
    np.testing.assert_allclose(resize_images(X, (28, 28), (14, 14)), expected, rtol=1e-12)
    np.testing.assert_allclose(resize_images(X, (28, 28), (28, 28)), X, rtol=1e-15)


def test_parts_of_pixels_count_by_their_area():
    X = np.random.default_rng(0).normal(size=(4, 7 * 5 * 3))
    # Each pixel repeated 4 and 3 times, then averaged in blocks: 28 = 4·7 lines make 4, 15 = 3·5 columns make 3.
    large = X.reshape(4, 7, 5, 3).repeat(4, axis=1).repeat(3, axis=2)
    expected = large.reshape(4, 4, 7, 3, 5, 3).mean(axis=(2, 4)).reshape(4, -1)
    found = resize_images(X, (7, 5, 3), (4, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.mean() == pytest.approx(X.mean())


@pytest.mark.parametrize(
    ("dtype", "result"), [("uint8", "float32"), ("float32", "float32"), ("int64", "float64"), ("float64", "float64")]
)
def test_dtypes_of_resized_images(dtype, result):
    X = np.array([[0, 255, 254, 0]], dtype=dtype)
    found = resize_images(X, (2, 2), (1, 2))
    assert found.dtype == result
    np.testing.assert_array_equal(found, [[127, 127.5]])


@pytest.mark.parametrize(
    ("X", "shape", "to", "error", "text"),
    [
        (np.ones((2, 5)), (2, 2), (1, 1), ValueError, r"X: expected rows of 4 pixels \(2×2\), got shape \(2, 5\)"),
        (np.ones((2, 4)), (2, 2), (3, 1), ValueError, r"to: expected at most the images' \(2, 2\), got \(3, 1\)"),
        (np.ones((2, 4)), 4, (1, 1), ValueError, r"shape: expected a tuple \(H, W\) or \(H, W, C\), got 4"),
        (np.ones((2, 4)), (2, 2), (0, 1), ValueError, r"to\[0\]"),
        (np.array([["a"] * 4]), (2, 2), (1, 1), TypeError, "X: expected real numbers"),
    ],
)
def test_bad_sizes(X, shape, to, error, text):
    with pytest.raises(error, match=text):
        resize_images(X, shape, to)


def test_images_with_predictions(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = fnn.datasets.load_digits()
    predictions = y.copy()
    predictions[1] = 7
    axes = plot_images(X, y, predictions, n=6, path=tmp_path / "x.png", title="digits")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    assert [axis.get_title() for axis in axes] == ["0", "7\n(is 1)", "2", "3", "4", "5"]
    assert [axis.title.get_color() for axis in axes] == ["black", "#d62728", *["black"] * 4]
    np.testing.assert_array_equal(axes[2].images[0].get_array(), X[2].reshape(8, 8))
    named = plot_images(X, predictions=predictions, n=2, names=[f"n{k}" for k in range(10)], path=tmp_path / "y.png")
    assert [axis.get_title() for axis in named] == ["n0", "n7"]
    assert plot_images(X[:3], path=tmp_path / "z.png").shape == (3,)


def test_coloured_images(tmp_path):
    pytest.importorskip("matplotlib")
    X = np.random.default_rng(0).integers(0, 256, (2, 4 * 3 * 3), dtype=np.uint8)
    axes = plot_images(X, shape=(4, 3, 3), path=tmp_path / "x.png")
    np.testing.assert_array_equal(axes[1].images[0].get_array(), X[1].reshape(4, 3, 3))


@pytest.mark.parametrize(
    ("given", "drawn"), [((4, 9), (4, 9)), ((4, 9, 3), (4, 9, 3)), ((5, 5, 1), (5, 5)), ((75,), (5, 5, 3))]
)
def test_images_come_with_their_shapes(given, drawn, tmp_path):
    """36 pixels are no 6×6 image where they are given as 4×9."""
    pytest.importorskip("matplotlib")
    X = np.random.default_rng(0).random((2, *given))
    axes = plot_images(X, path=tmp_path / "x.png")
    np.testing.assert_array_equal(axes[1].images[0].get_array(), X[1].reshape(drawn))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"X": np.ones((1, 5))}, "shape: needed for images of 5 pixels, which are no square"),
        ({"X": np.ones((1, 8)), "shape": (2, 2, 2)}, "shape: expected 1 or 3 channels, got 2"),
        ({"X": np.ones((2, 4)), "y": [1]}, r"y: expected shape \(2,\), got \(1,\)"),
        ({"X": np.ones((2, 4)), "y": [1, 3], "names": ["a", "b"]}, "names: expected one for the class 3, got 2"),
        ({"X": np.ones((2, 4)), "n": 0}, "n must be"),
        ({"X": np.ones((0, 4))}, "X: expected at least one image"),
    ],
)
def test_bad_images(options, text, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=text):
        plot_images(path=tmp_path / "x.png", **options)
    assert list(tmp_path.iterdir()) == []


def test_areas_of_classes(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    X, y = fnn.datasets.load_iris()
    X = X[:, 2:]
    net = fnn.Sequential([fnn.Dense(3)], input_size=2, loss="cross_entropy", seed=0)
    net.fit(X, y, optimizer=fnn.LBFGS())
    axis = figure.subplots()
    assert plot_decision_boundary(net, X, y, resolution=20, ax=axis, path=tmp_path / "x.png") is axis
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    low, high = X.min(axis=0), X.max(axis=0)
    across, up = np.linspace(*(low + [-0.1, 1.1][0] * (high - low), high + 0.1 * (high - low)), 20).T
    expected = net.predict(np.stack([a.ravel() for a in np.meshgrid(across, up)], axis=1))
    np.testing.assert_array_equal(axis.collections[0].get_array().ravel(), expected)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0", "1", "2"]
    assert [len(points.get_offsets()) for points in axis.collections[1:]] == [50] * 3
    alone = plot_decision_boundary(net, X, resolution=5, ax=figure.subplots(), title="iris")
    assert alone.get_title() == "iris"


def test_levels_of_values():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    net = fnn.Sequential([fnn.Dense(4, "tanh"), fnn.Dense(1)], input_size=2, loss="squared_error", seed=0)
    X = np.random.default_rng(0).normal(size=(30, 2))
    axis = plot_decision_boundary(net, X, np.arange(30), resolution=10, ax=figure.subplots())
    assert len(axis.collections[-1].get_offsets()) == 30
    assert axis.get_legend() is None
    plot_decision_boundary(net, X, resolution=10, ax=figure.subplots())


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_estimators_and_texts():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = np.where(X[:, 0] > 0.0, "right", "left")
    model = fnn.MLPClassifier(max_iter=50, random_state=0).fit(X, y)
    axis = plot_decision_boundary(model, X, y, resolution=10, ax=figure.subplots())
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["left", "right"]
    with pytest.raises(ValueError, match="y: expected what net predicts, such as"):
        plot_decision_boundary(model, X, np.zeros(60, int), resolution=10, ax=figure.subplots())
    of_floats = fnn.MLPClassifier(max_iter=5, random_state=0).fit(X, (X[:, 0] > 0.0).astype(float))
    axis = plot_decision_boundary(of_floats, X, resolution=10, ax=figure.subplots())
    assert axis.get_legend() is not None


@pytest.mark.parametrize(
    ("X", "options", "error", "text"),
    [
        (np.ones((3, 3)), {}, ValueError, r"X: expected at least one row of two features, got shape \(3, 3\)"),
        (np.array([["a", "b"]]), {}, TypeError, "X: expected real numbers"),
        (np.ones((3, 2)), {"y": [1]}, ValueError, r"y: expected shape \(3,\)"),
        (np.ones((3, 2)), {"resolution": 1}, ValueError, "resolution"),
        (np.ones((3, 2)), {"margin": -1}, ValueError, "margin"),
    ],
)
def test_bad_boundaries(X, options, error, text):
    net = fnn.Sequential([fnn.Dense(2)], input_size=2, loss="cross_entropy", seed=0)
    with pytest.raises(error, match=text):
        plot_decision_boundary(net, X, **options)


def test_more_than_one_prediction_a_row_is_refused():
    net = fnn.Sequential([fnn.Dense(2)], input_size=2, loss="squared_error", seed=0)
    with pytest.raises(ValueError, match=r"net: expected one prediction a row, got shape \(9, 2\)"):
        plot_decision_boundary(net, np.ones((3, 2)), resolution=3)


def test_confusion_matrix(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    pytest.importorskip("sklearn")
    y, predictions = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    axis = plot_confusion_matrix(y, predictions, ax=figure.subplots(), path=tmp_path / "x.png", title="three")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    assert [text.get_text() for text in axis.texts] == ["1", "1", "0", "0", "1", "0", "1", "0", "2"]
    axis = plot_confusion_matrix(y, predictions, names=["a", "b", "c", "d"], normalize=True, path=tmp_path / "y.png")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c", "d"]
    assert axis.texts[8 + 2].get_text() == "0.67"
    texts = plot_confusion_matrix(["x", "y"], ["y", "y"], path=tmp_path / "z.png")
    assert [label.get_text() for label in texts.get_yticklabels()] == ["x", "y"]
    with pytest.raises(ValueError, match=r"predictions: expected shape \(6,\)"):
        plot_confusion_matrix(y, [1])
    with pytest.raises(ValueError, match=r"y: expected labels of shape \(N,\), got \(2, 2\)"):
        plot_confusion_matrix(np.ones((2, 2)), [1, 2])
    with pytest.raises(TypeError, match="normalize"):
        plot_confusion_matrix(y, predictions, normalize=1)
