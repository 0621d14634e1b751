"""Bundled data, IDX files good and damaged, where files are looked for, downloads."""

import gzip
import hashlib
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnn import datasets

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array):
    array = np.asarray(array)
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_set(folder, n_train=12, n_test=11, compress=True, seed=0):
    """Write four small files in the layout of MNIST; return the arrays in the order that `load_mnist` gives."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = []
    for stems, n in ((STEMS[:2], n_train), (STEMS[2:], n_test)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for stem, array in zip(stems, (images, labels), strict=True):
            data = idx_bytes(array)
            if compress:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / stem).write_bytes(data)
        arrays += [images.reshape(n, 784), labels.astype(np.int64)]
    return arrays


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path, request):
    """No test sees the user's data (but those that want MNIST) or cache, and none reaches the network."""
    if "mnist_dir" not in request.fixturenames:
        monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_MNIST", local_source(datasets._MNIST, tmp_path / "mirror"))
    monkeypatch.setattr(datasets, "_FASHION", local_source(datasets._FASHION, tmp_path / "mirror-fashion"))


def local_source(source, *folders, files=None):
    """The description of a data set with file: mirrors."""
    mirrors = tuple(folder.as_uri() + "/" for folder in folders)
    return datasets._ImageSet(source.title, source.folders, mirrors, files or source.files, source.first_test_labels)


def described(folder):
    """Sizes and checksums of the four files in a folder."""
    content = {stem: (folder / f"{stem}.gz").read_bytes() for stem in STEMS}
    return {stem: (len(data), hashlib.sha256(data).hexdigest()) for stem, data in content.items()}


# ------------------------------------------------------------------ bundled


def test_iris():
    X, y, features, classes = datasets.load_iris(return_names=True)
    assert X.shape == (150, 4)
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    assert y.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(y), [50, 50, 50])
    # means printed in Fisher (1936), table 2 (versicolor) and in every textbook for the rest
    np.testing.assert_allclose(X[y == 0].mean(axis=0), [5.006, 3.428, 1.462, 0.246])
    np.testing.assert_allclose(X[y == 1].mean(axis=0), [5.936, 2.770, 4.260, 1.326])
    np.testing.assert_allclose(X[y == 2].mean(axis=0), [6.588, 2.974, 5.552, 2.026])
    assert classes == ["setosa", "versicolor", "virginica"]
    assert features == ["sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm"]
    assert len(datasets.load_iris()) == 2


def test_digits():
    X, y, features, classes = datasets.load_digits(return_names=True)
    assert X.shape == (1797, 64)
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    assert y.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert X.min() == 0
    assert X.max() == 16
    assert features[:2] == ["pixel_0_0", "pixel_0_1"]
    assert len(features) == 64
    assert classes == list("0123456789")
    assert len(datasets.load_digits()) == 2


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_bundled_agrees_with_scikit_learn(name):
    sklearn = pytest.importorskip("sklearn.datasets")
    X, y = getattr(datasets, f"load_{name}")()
    expected_X, expected_y = getattr(sklearn, f"load_{name}")(return_X_y=True)
    np.testing.assert_array_equal(X, expected_X)
    np.testing.assert_array_equal(y, expected_y)


def test_bundled_calls_do_not_share_memory():
    first, _ = datasets.load_iris()
    first[:] = -1
    assert datasets.load_iris()[0].min() > 0


# ------------------------------------------------------------------ IDX


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (1,), (3, 4), (2, 3, 4), (0, 3), (2, 1, 1, 2)])
@pytest.mark.parametrize("compress", [False, True])
def test_read_idx_all_types(tmp_path, dtype, shape, compress):
    array = (np.arange(np.prod(shape)).reshape(shape) * 37 - 11).astype(dtype)
    data = idx_bytes(array)
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(data) if compress else data)
    result = datasets.read_idx(path)
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.writeable


def test_read_idx_is_big_endian(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE]))
    np.testing.assert_array_equal(datasets.read_idx(str(path)), [258, -2])


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "shorter than the 4-byte magic"),
        (b"\0\0\x08", "shorter than the 4-byte magic"),
        (b"\x89PNG" + GOOD[4:], "magic number 89504e47"),
        (b"\0\x01" + GOOD[2:], "magic number 00010802"),
        (b"\0\0\x0a" + GOOD[3:], "magic number 00000a02"),
        (b"\0\0\x08\0" + GOOD[4:], "magic number 00000800"),
        (GOOD[:9], "truncated: the header of 2 dimensions has 9 bytes"),
        (GOOD[:-1], r"truncated: shape \(3, 4\) of uint8 needs 12 bytes, got 11"),
        (GOOD[:12], r"truncated: shape \(3, 4\) of uint8 needs 12 bytes, got 0"),
        (GOOD + b"\0", "trailing bytes after the 12"),
        (b"\0\0\x0e\x04" + b"\xff" * 16 + b"abc", "truncated: shape .4294967295"),
        (b"\0\0\x08\xff" + b"\0" * (4 * 255), "bad shape"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damaged_idx_is_refused(tmp_path, data, what, compress):
    path = tmp_path / "damaged.idx"
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(ValueError, match=what) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


def test_damaged_gzip_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    whole = gzip.compress(idx_bytes(rng.integers(0, 256, 5000, dtype=np.uint8)))
    path = tmp_path / "x.gz"
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the stored checksum
    body = bytearray(whole)
    body[2000:2040] = bytes(40)
    for data in (whole[: len(whole) // 2], whole[:-4], whole[:5], bytes(flipped), bytes(body), whole + b"rubbish"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.gz: damaged gzip data|x\.gz: truncated"):
            datasets.read_idx(path)


def test_read_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.read_idx(tmp_path / "absent")


# ------------------------------------------------------------------ MNIST from local files


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("sub", ["", "mnist"])
def test_mnist_from_data_folder(tmp_path, monkeypatch, compress, sub):
    expected = write_set(tmp_path / "data" / sub, compress=compress)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "data"))
    result = datasets.load_mnist()
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert result[0].shape == (12, 784)
    assert result[0].dtype == np.uint8
    assert result[1].dtype == np.int64


def test_fashion_has_its_own_folder(tmp_path, monkeypatch):
    write_set(tmp_path / "mnist", seed=1)
    expected = write_set(tmp_path / "fashion", seed=2)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    np.testing.assert_array_equal(datasets.load_fashion_mnist()[0], expected[0])


def test_the_other_set_is_not_taken_for_it(tmp_path, monkeypatch):
    write_set(tmp_path)
    labels = np.array([7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0], dtype=np.uint8)  # how MNIST's test labels begin
    (tmp_path / f"{STEMS[3]}.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert len(datasets.load_mnist()) == 4
    with pytest.raises(FileNotFoundError, match="Fashion-MNIST"):
        datasets.load_fashion_mnist(download=False)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32])
def test_float_images_are_scaled(tmp_path, monkeypatch, dtype):
    expected = write_set(tmp_path)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    X, _, X_test, _ = datasets.load_mnist(dtype=dtype)
    assert X.dtype == X_test.dtype == np.dtype(dtype)
    np.testing.assert_allclose(X, expected[0] / 255, rtol=1e-6)
    np.testing.assert_allclose(X_test, expected[2] / 255, rtol=1e-6)
    assert X.max() <= 1


@pytest.mark.parametrize("dtype", ["int8", "float16", "no such", ">f4", object])
def test_bad_dtype(dtype):
    with pytest.raises(ValueError, match="dtype must be 'uint8', 'float32' or 'float64'"):
        datasets.load_mnist(dtype=dtype)


@pytest.mark.parametrize(
    ("stem", "array", "what"),
    [
        (STEMS[0], np.zeros((12, 28, 27), np.uint8), "expected images of shape"),
        (STEMS[0], np.zeros((12, 784), np.uint8), "expected images of shape"),
        (STEMS[0], np.zeros((12, 28, 28), np.int16), "expected images of shape"),
        (STEMS[2], np.zeros((0, 28, 28), np.uint8), "expected images of shape"),
        (STEMS[1], np.zeros(13, np.uint8), "13 labels for 12 images"),
        (STEMS[3], np.zeros((11, 1), np.uint8), "expected labels of shape"),
        (STEMS[1], np.array([3] * 11 + [10], np.uint8), "label 10 at position 11 is not in 0..9"),
    ],
)
def test_inconsistent_files_are_refused(tmp_path, monkeypatch, stem, array, what):
    write_set(tmp_path)
    path = tmp_path / f"{stem}.gz"
    path.write_bytes(gzip.compress(idx_bytes(array)))
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=what) as caught:
        datasets.load_mnist()
    assert str(path) in str(caught.value)


def test_damaged_cached_file_says_what_to_do(tmp_path):
    write_set(tmp_path / "cache" / "mnist")
    (tmp_path / "cache" / "mnist" / f"{STEMS[2]}.gz").write_bytes(b"oops, an error page")
    with pytest.raises(ValueError, match=f"{STEMS[2]}.*delete it, and it will be downloaded again"):
        datasets.load_mnist()


def test_nowhere_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="no MNIST files") as caught:
        datasets.load_mnist(download=False)
    assert str(tmp_path / "absent") in str(caught.value)
    assert str(tmp_path / "cache") in str(caught.value)
    assert not (tmp_path / "cache").exists()


# ------------------------------------------------------------------ cache folder


def test_cache_folder(monkeypatch, tmp_path):
    assert datasets.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("FASTNN_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert datasets.cache_folder() == tmp_path / "xdg" / "fastnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert datasets.cache_folder() == tmp_path / "home" / ".cache" / "fastnn"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert datasets.cache_folder() == tmp_path / "home" / "Library" / "Caches" / "fastnn"
    monkeypatch.setattr(sys, "platform", "win32")
    assert datasets.cache_folder() == tmp_path / "local" / "fastnn"


# ------------------------------------------------------------------ downloads (from file: addresses)


def test_download(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    expected = write_set(mirror)
    monkeypatch.setattr(datasets, "_MNIST", local_source(datasets._MNIST, mirror, files=described(mirror)))
    for _ in range(2):
        for a, b in zip(datasets.load_mnist(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    names = sorted(os.listdir(tmp_path / "cache" / "mnist"))
    assert names == sorted(f"{stem}.gz" for stem in STEMS)  # and nothing left over
    (mirror / f"{STEMS[0]}.gz").unlink()
    datasets.load_mnist()  # from the cache


def test_download_goes_on_to_the_next_mirror(tmp_path, monkeypatch):
    good, bad = tmp_path / "good", tmp_path / "bad"
    expected = write_set(good)
    write_set(bad, seed=5)
    monkeypatch.setattr(
        datasets, "_MNIST", local_source(datasets._MNIST, tmp_path / "absent", bad, good, files=described(good))
    )
    np.testing.assert_array_equal(datasets.load_mnist()[0], expected[0])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
        (lambda data: data[:-1], "incomplete"),
        (lambda data: data + b"x", "more than the expected"),
        (lambda data: None, "No such file"),
    ],
)
def test_bad_download_is_refused(tmp_path, monkeypatch, change, what):
    mirror = tmp_path / "mirror"
    write_set(mirror)
    files = described(mirror)
    path = mirror / f"{STEMS[1]}.gz"
    data = change(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    monkeypatch.setattr(datasets, "_MNIST", local_source(datasets._MNIST, mirror, files=files))
    with pytest.raises(ConnectionError, match=what) as caught:
        datasets.load_mnist()
    message = str(caught.value)
    assert f"{STEMS[1]}.gz" in message
    assert "FASTNN_DATA" in message
    assert mirror.as_uri() in message
    assert os.listdir(tmp_path / "cache" / "mnist") == [f"{STEMS[0]}.gz"]  # only what came intact


def test_no_network(monkeypatch):
    import urllib.error
    import urllib.request

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError(OSError("Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(ConnectionError, match=r"could not download .* of Fashion-MNIST .*Name or service not known"):
        datasets.load_fashion_mnist()


# ------------------------------------------------------------------ the real files


def test_real_mnist(mnist_dir):
    X, y, X_test, y_test = datasets.load_mnist(download=False)
    assert X.shape == (60000, 784)
    assert X_test.shape == (10000, 784)
    np.testing.assert_array_equal(np.bincount(y), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    np.testing.assert_array_equal(np.bincount(y_test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert X.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert X.std() / 255 == pytest.approx(0.3081, abs=5e-5)
