"""Data sets to start with: iris and digits (bundled), MNIST and Fashion-MNIST (IDX files).

MNIST and Fashion-MNIST are searched for in the folder that the environment variable ``FASTNN_DATA`` names, then in the
cache (`cache_folder`); if neither has them, they are downloaded into the cache.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike

from ._typing import ArrayLike, Data, Seed
from .array_files import check_expansion, check_regular
from .bars import Bar
from .checks import check_seed
from .files import write_aside
from .names import listing

__all__ = [
    *("FASHION_MNIST_CLASSES", "cache_folder", "load_digits", "load_fashion_mnist", "load_iris", "load_mnist"),
    *("read_idx", "split"),
]
__dir__ = listing(__all__)

_BUNDLED = Path(__file__).parent / "data"

# IDX type codes; multi-byte values are stored big-endian.
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class _ImageSet:
    """Where an MNIST-like data set comes from and how its files are recognised."""

    title: str
    folders: tuple[str, ...]  # names of its sub-folder; the first one is used in the cache
    mirrors: tuple[str, ...]
    files: dict[str, tuple[int, str]]  # stem -> (bytes, sha256) of the .gz that the mirrors serve
    first_test_labels: tuple[int, ...]  # tells the sets apart: their files have the same names


_Data: TypeAlias = tuple[np.ndarray, np.ndarray]  # X, y
_NamedData: TypeAlias = tuple[np.ndarray, np.ndarray, list[str], list[str]]  # and names of features and classes
_Images: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # X_train, y_train, X_test, y_test


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_MNIST = _ImageSet(
    title="MNIST",
    folders=("mnist", "MNIST"),
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    files={
        _STEMS[0]: (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _STEMS[1]: (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        _STEMS[2]: (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _STEMS[3]: (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    first_test_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
)

_FASHION = _ImageSet(
    title="Fashion-MNIST",
    folders=("fashion", "fashion_mnist", "fashion-mnist", "FashionMNIST"),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    files={
        _STEMS[0]: (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        _STEMS[1]: (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        _STEMS[2]: (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        _STEMS[3]: (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    first_test_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
)


@overload
def load_iris(*, return_names: Literal[False] = False) -> _Data: ...
@overload
def load_iris(*, return_names: Literal[True]) -> _NamedData: ...
@overload
def load_iris(*, return_names: bool) -> _Data | _NamedData: ...
def load_iris(*, return_names: bool = False) -> _Data | _NamedData:
    """Fisher's iris data: 150 flowers, 4 lengths in cm, 3 species with 50 flowers each.

    Parameters
    ----------
    return_names : bool, default False
        Also return the names of features and classes.

    Returns
    -------
    X : ndarray of float64, shape (150, 4)
        Sepal length, sepal width, petal length, petal width, in cm.
    y : ndarray of int64, shape (150,)
        0 setosa, 1 versicolor, 2 virginica.
    feature_names, class_names : list of str
        Only with ``return_names=True``.

    References
    ----------
    R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7 (1936) 179-188.
    UCI Machine Learning Repository, https://doi.org/10.24432/C56C76 (CC BY 4.0).
    """
    lines = (_BUNDLED / "iris.csv").read_text(encoding="ascii").split()
    *features, _ = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    X = np.array([row[:-1] for row in rows], dtype=np.float64)
    names = [row[-1] for row in rows]
    classes = sorted(set(names))
    y = np.array([classes.index(name) for name in names], dtype=np.int64)
    return (X, y, features, classes) if return_names else (X, y)


@overload
def load_digits(*, return_names: Literal[False] = False) -> _Data: ...
@overload
def load_digits(*, return_names: Literal[True]) -> _NamedData: ...
@overload
def load_digits(*, return_names: bool) -> _Data | _NamedData: ...
def load_digits(*, return_names: bool = False) -> _Data | _NamedData:
    """Handwritten digits: 1,797 images of 8×8 pixels with values 0 to 16, 10 classes.

    Parameters
    ----------
    return_names : bool, default False
        Also return the names of features and classes.

    Returns
    -------
    X : ndarray of float64, shape (1797, 64)
        Pixels, row by row.
    y : ndarray of int64, shape (1797,)
        The digit, 0 to 9.
    feature_names, class_names : list of str
        Only with ``return_names=True``.

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49 (CC BY 4.0); the same rows as in scikit-learn.
    """
    import gzip

    with gzip.open(_BUNDLED / "digits.csv.gz", "rt", encoding="ascii") as file:
        *features, _ = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",", dtype=np.float64)
    X = np.ascontiguousarray(table[:, :-1])
    y = table[:, -1].astype(np.int64)
    return (X, y, features, [str(k) for k in range(10)]) if return_names else (X, y)


def load_mnist(*, dtype: DTypeLike = "uint8", download: bool = True) -> _Images:
    """MNIST: 28×28 images of handwritten digits, 60,000 to train and 10,000 to test.

    The four IDX files, plain or ``.gz``, are taken from the first of these that has all of them: the sub-folder
    ``mnist`` of the folder named by the environment variable ``FASTNN_DATA``, that folder itself, the folder ``mnist``
    in `cache_folder`. If there is none, they are downloaded into the latter; a download is accepted only if its SHA-256
    is the known one.

    Parameters
    ----------
    dtype : {"uint8", "float32", "float64"}, default "uint8"
        uint8 gives pixels 0 to 255 as stored; a floating type gives them divided by 255.
    download : bool, default True
        Whether missing files may be downloaded.

    Returns
    -------
    X_train : ndarray, shape (60000, 784)
    y_train : ndarray of int64, shape (60000,)
    X_test : ndarray, shape (10000, 784)
    y_test : ndarray of int64, shape (10000,)

    Raises
    ------
    FileNotFoundError
        The files are nowhere and `download` is False.
    ConnectionError
        They could not be downloaded: no network, or what came has another checksum.
    ValueError
        A file is damaged (the message says which and how), or `dtype` is not one of the three.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proceedings of
    the IEEE 86 (1998) 2278-2324.
    """
    return _load_images(_MNIST, dtype, download)


def load_fashion_mnist(*, dtype: DTypeLike = "uint8", download: bool = True) -> _Images:
    """Fashion-MNIST: 28×28 images of clothing in 10 classes, 60,000 to train and 10,000 to test.

    Like `load_mnist` in everything else; the sub-folder is ``fashion`` (``fashion_mnist`` works too).

    Parameters
    ----------
    dtype : {"uint8", "float32", "float64"}, default "uint8"
        uint8 gives pixels 0 to 255 as stored; a floating type gives them divided by 255.
    download : bool, default True
        Whether missing files may be downloaded.

    Returns
    -------
    X_train : ndarray, shape (60000, 784)
    y_train : ndarray of int64, shape (60000,)
    X_test : ndarray, shape (10000, 784)
    y_test : ndarray of int64, shape (10000,)

    Raises
    ------
    FileNotFoundError
        The files are nowhere and `download` is False.
    ConnectionError
        They could not be downloaded: no network, or what came has another checksum.
    ValueError
        A file is damaged (the message says which and how), or `dtype` is not one of the three.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms,
    arXiv:1708.07747 (2017). MIT licence.
    """
    return _load_images(_FASHION, dtype, download)


def split(
    X: Data, y: ArrayLike, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: Seed = 0
) -> tuple[tuple[Any, Any], ...]:
    """Divide rows at random into parts, such as training, development and test rows; each class alike.

    Parameters
    ----------
    X : array_like (N, D), DataFrame or sparse matrix
    y : array_like
        Labels (N,) that are integers, booleans or texts are stratified: each part has its share of every class, to a
        row, and the first part at least one row of it. Other targets are not looked at.
    fractions : sequence of float, default=(0.8, 0.1, 0.1)
        Of at least two parts; positive, with the sum 1.
    seed : int, numpy.random.Generator or None, default=0

    Returns
    -------
    tuple of tuple (X, y)
        One of each part, copies, with the rows in their order. Standardise by the first part alone, as the layer
        ``Standardize`` does when it is trained on it.

    Raises
    ------
    ValueError, TypeError
        If an argument does not fit, or a part would have no row.

    Examples
    --------
    >>> import fastnn as fnn
    >>> train, dev, test = fnn.datasets.split(*fnn.datasets.load_iris())
    >>> [len(y) for X, y in (train, dev, test)]
    [120, 15, 15]
    """
    from .training.classes import labels_of
    from .training.data import stratified_split, take_rows

    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or len(shares) < 2 or not (shares > 0.0).all() or abs(shares.sum() - 1.0) > 1e-9:
        raise ValueError(f"fractions: expected at least two positive numbers whose sum is 1, got {fractions!r:.80}")
    targets = np.asarray(y)
    shape = X.shape if hasattr(X, "shape") else np.shape(X)
    n_rows = shape[0] if shape else 0
    if targets.ndim == 0 or len(targets) != n_rows:
        raise ValueError(f"y: expected one target for each of the {n_rows} rows of X, got shape {targets.shape}")
    labels = labels_of(targets)
    rng = check_seed(seed)
    parts: list[np.ndarray] = []
    left = np.arange(n_rows)
    # The last part is taken first, as a share of what is left for it and those before it.
    for place in range(len(shares) - 1, 0, -1):
        of_these = None if labels is None else labels[left]
        kept, taken = stratified_split(of_these, len(left), shares[place] / shares[: place + 1].sum(), rng)
        parts.append(left[taken])
        left = left[kept]
    parts.append(left)
    if not all(map(len, parts)):
        sizes = [len(part) for part in parts[::-1]]
        raise ValueError(f"fractions: {tuple(shares.tolist())} of {n_rows} rows leave a part empty, with sizes {sizes}")
    return tuple((take_rows(X, rows), take_rows(y, rows)) for rows in reversed(parts))


def cache_folder() -> Path:
    """Folder where downloads are kept (it may not exist yet).

    The environment variable ``FASTNN_CACHE`` names it; otherwise it is ``fastnn`` in the platform's cache folder:
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, else ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns
    -------
    pathlib.Path
    """
    own = os.environ.get("FASTNN_CACHE")
    if own:
        return Path(own).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        # The XDG specification: a relative path in the variable is invalid and must be ignored.
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
    return base / "fastnn"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array from an IDX file (the format of MNIST), plain or compressed with gzip.

    The format: two zero bytes, one byte for the type (0x08 uint8, 0x09 int8, 0x0B int16, 0x0C int32, 0x0D float32,
    0x0E float64), one byte for the number of dimensions, a big-endian 32-bit size for each dimension, then the values,
    big-endian, in C order. Whether the file is compressed is seen from its first bytes, not from its name.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        C-contiguous, writable, in the machine's byte order.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        The file is damaged or of another format; the message names it and says what is wrong.
    """
    import gzip
    import zlib

    path = Path(path)
    check_regular(path)
    with open(path, "rb") as raw:
        compressed, size = raw.read(2) == b"\x1f\x8b", os.fstat(raw.fileno()).st_size
        raw.seek(0)
        if not compressed:
            return _parse_idx(path, raw, None)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse_idx(path, stream, size)  # reads to the end, where gzip checks its own checksum
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip data: {error}") from error


def _parse_idx(path: Path, stream: _Readable, compressed: int | None) -> np.ndarray:
    """The array in a stream, of a compressed file of so many bytes."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path}: not an IDX file: {len(magic)} bytes, shorter than the 4-byte magic number")
    if magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES or magic[3] == 0:
        raise ValueError(
            f"{path}: not an IDX file: magic number {magic.hex()}, expected 0000, a type 08, 09, 0b, 0c, 0d or 0e, "
            "and a number of dimensions from 01 up"
        )
    dtype, ndim = np.dtype(_IDX_DTYPES[magic[2]]), magic[3]
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError(f"{path}: truncated: the header of {ndim} dimensions has {4 + len(sizes)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    expected = math.prod(shape) * dtype.itemsize
    # In pieces: a damaged header may claim far more than memory holds. Reading one byte more finds the end.
    data = bytearray()
    while len(data) <= expected and (chunk := stream.read(min(_CHUNK, expected + 1 - len(data)))):
        data += chunk
        if compressed is not None:
            check_expansion(path, len(data), compressed)
    if len(data) < expected:
        raise ValueError(f"{path}: truncated: shape {shape} of {dtype.name} needs {expected} bytes, got {len(data)}")
    if len(data) > expected:
        raise ValueError(f"{path}: trailing bytes after the {expected} that shape {shape} of {dtype.name} needs")
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # more dimensions than NumPy has, or an empty array with absurd sizes
        raise ValueError(f"{path}: bad shape {shape}: {error}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _load_images(source: _ImageSet, dtype: DTypeLike, download: bool) -> _Images:
    kind: np.dtype | None
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.name not in ("uint8", "float32", "float64") or not kind.isnative:
        raise ValueError(f"dtype must be 'uint8', 'float32' or 'float64', got {dtype!r}")
    paths = _locate(source, download)
    parts: list[np.ndarray] = []
    try:
        for images, labels in (paths[:2], paths[2:]):
            parts += _read_pair(images, labels)
    except ValueError as error:
        if cache_folder() in paths[0].parents:
            raise ValueError(f"{error} (a cached file: delete it, and it will be downloaded again)") from error
        raise
    X_train, y_train, X_test, y_test = parts
    if kind.name != "uint8":
        X_train, X_test = X_train.astype(kind), X_test.astype(kind)
        X_train /= 255
        X_test /= 255
    return X_train, y_train, X_test, y_test


def _read_pair(image_path: Path, label_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 784) uint8 and labels (N,) int64 of one part, checked against each other."""
    images = read_idx(image_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        raise ValueError(
            f"{image_path}: expected images of shape (N, 28, 28) uint8, got {images.shape} {images.dtype.name}"
        )
    labels = read_idx(label_path)
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise ValueError(f"{label_path}: expected labels of shape (N,) uint8, got {labels.shape} {labels.dtype.name}")
    if len(labels) != len(images):
        raise ValueError(f"{label_path}: {len(labels)} labels for {len(images)} images in {image_path.name}")
    if labels.max() > 9:
        row = int(labels.argmax())
        raise ValueError(f"{label_path}: label {labels[row]} at position {row} is not in 0..9")
    return images.reshape(len(images), 784), labels.astype(np.int64)


def _find(folder: Path) -> list[Path] | None:
    """The four files in `folder`, or None unless all are there."""
    found = []
    for stem in _STEMS:
        # Both "train-images-idx3-ubyte" and "train-images.idx3-ubyte" are in circulation.
        names = (stem, stem + ".gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz")
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found


def _is_other_set(source: _ImageSet, paths: list[Path]) -> bool:
    """Whether the test labels are those of the other data set, whose files have the same names."""
    other = _FASHION if source is _MNIST else _MNIST
    try:
        labels = read_idx(paths[3])
    except ValueError:
        return False  # damaged: reported when it is read in earnest
    return tuple(labels.ravel()[:10].tolist()) == other.first_test_labels


def _locate(source: _ImageSet, download: bool) -> list[Path]:
    """Paths of the four files, in the order of `_STEMS`; downloads what is missing if allowed."""
    looked = []
    root = os.environ.get("FASTNN_DATA")
    if root:
        base = Path(root).expanduser()
        for folder in (*(base / name for name in source.folders), base):
            paths = _find(folder)
            if paths is not None and not _is_other_set(source, paths):
                return paths
        looked.append(f"{base} (FASTNN_DATA; also its sub-folder {source.folders[0]})")
    cache = cache_folder() / source.folders[0]
    paths = _find(cache)
    if paths is not None:
        return paths
    looked.append(str(cache))
    if not download:
        raise FileNotFoundError(f"no {source.title} files ({', '.join(_STEMS)}; plain or .gz) in {', '.join(looked)}")
    cache.mkdir(parents=True, exist_ok=True)
    for stem in _STEMS:
        if not (cache / f"{stem}.gz").is_file():
            _download(source, f"{stem}.gz", cache / f"{stem}.gz")
    paths = _find(cache)
    assert paths is not None
    return paths


def _download(source: _ImageSet, name: str, target: Path) -> None:
    """Fetch one file from the first mirror that has it intact; `target` appears complete or not at all."""
    size, sha256 = source.files[name.removesuffix(".gz")]
    failures = []
    for mirror in source.mirrors:
        try:
            with write_aside(target) as temporary, open(temporary, "wb") as file:
                _fetch(mirror + name, file, size, sha256)
            return
        except (OSError, ValueError) as error:  # URLError and timeouts are OSErrors
            failures.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
    raise ConnectionError(
        f"could not download {name} of {source.title} ({'; '.join(failures)}); without a network, put the four files "
        f"into {target.parent}, or into a folder named by the environment variable FASTNN_DATA"
    )


def _fetch(url: str, file: BinaryIO, size: int, sha256: str) -> None:
    import hashlib  # slow to import, like urllib.request; few runs need them
    import http.client
    import urllib.request

    digest, count = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "fastnn"})
    try:
        with (
            urllib.request.urlopen(request, timeout=30) as response,
            # disable=None: no bar unless stderr is a terminal
            Bar(size, "B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=None, leave=False) as bar,
        ):
            while chunk := response.read(_CHUNK):
                count += len(chunk)
                if count > size:
                    raise ValueError(f"more than the expected {size} bytes came")
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
    except http.client.HTTPException as error:
        raise ConnectionError(f"broken transfer: {error!r}") from error
    if count < size:
        raise ValueError(f"incomplete: {count} of {size} bytes came")
    if digest.hexdigest() != sha256:
        raise ValueError(f"checksum (SHA-256) {digest.hexdigest()} came, expected {sha256}")
