"""Augmentation: what happens to a row and how often, what the draws depend on, and trainings that use it."""

from __future__ import annotations

import copy
import math

import knobs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from other_sets import examples

import fastnn as fnn
from fastnn import reference
from fastnn.plan import ROW_AUGMENTATIONS

pytestmark = pytest.mark.every_simd


@pytest.fixture(params=["compiled", "reference"])
def augment(request):
    """The function of both modules."""
    if request.param == "reference":
        return reference.augment_rows
    request.getfixturevalue("compiled")
    return fnn.kernels.augment_rows


def images(n: int, height: int, width: int, channels: int = 1, dtype: str = "float32") -> np.ndarray:
    """Rows whose elements are all different, none of them 0."""
    return np.arange(1, n * height * width * channels + 1).reshape(n, -1).astype(dtype)


def shift_of(before: np.ndarray, after: np.ndarray, most: int) -> tuple[int, int]:
    """By how much an image with a border of zeros was shifted."""
    for dy in range(-most, most + 1):
        for dx in range(-most, most + 1):
            if np.array_equal(np.roll(before, (dy, dx), (0, 1)), after):
                return dy, dx
    raise AssertionError("not a shift")


def test_shifts_are_uniform_and_independent(augment) -> None:
    n, most = 9000, 1
    image = np.zeros((5, 5), np.float32)
    image[2, 1:4] = 1, 2, 3
    image[1, 2] = 4
    out = augment(np.tile(image.ravel(), (n, 1)), "shift", 5, 5, most, 1.0, 0.0, 7)
    found, counts = np.unique(out, axis=0, return_counts=True)
    assert {shift_of(image, x.reshape(5, 5), most) for x in found} == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    chi2 = ((counts - n / 9) ** 2 / (n / 9)).sum()
    assert chi2 < 26.1  # 0.999 quantile of chi² with 8 degrees of freedom


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["flip", "erase"])
def test_flips_and_erasures_come_as_often_as_they_should(augment, kind, probability) -> None:
    n = 4000
    X = images(n, 3, 4)
    changed = (augment(X, kind, 3, 4, 1, probability, 0.0, 3) != X).any(axis=1)
    assert abs(changed.sum() - n * probability) <= 4 * math.sqrt(n * probability * (1 - probability))


def test_flips_mirror_lines_and_keep_channels(augment) -> None:
    X = images(3, 4, 5, 3)
    out = augment(X, "flip", 4, 5, 0.0, 1.0, 0.0, 0)
    np.testing.assert_array_equal(out.reshape(3, 4, 5, 3), X.reshape(3, 4, 5, 3)[:, :, ::-1])


def test_erasures_are_squares_of_uniform_centres(augment) -> None:
    n = 4000
    out = augment(np.ones((n, 30), np.float64), "erase", 5, 6, 3, 1.0, 0.0, 11).reshape(n, 5, 6)
    erased = (out == 0).sum(axis=(1, 2))
    assert set(erased) == {4, 6, 9}  # in a corner, at an edge, inside
    counts = (out == 0).mean(axis=0)
    expected = np.outer([2, 3, 3, 3, 2], [2, 3, 3, 3, 3, 2]) / 30
    assert np.abs(counts - expected).max() < 4 * math.sqrt(0.25 / n)


def test_noise_is_normal_and_independent(augment) -> None:
    z = augment(np.zeros((500, 40)), "noise", 1, 40, 1.0, 1.0, 0.0, 5)
    stats = pytest.importorskip("scipy.stats")
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    products = np.corrcoef(z.T) - np.eye(40)
    assert np.abs(products).max() < 5 / math.sqrt(500)


def test_quantiles_of_the_normal_distribution() -> None:
    special = pytest.importorskip("scipy.special")
    from fastnn.reference.augment import _normal

    words = np.concatenate([np.arange(64), 2**32 - 1 - np.arange(64), np.linspace(0, 2**32 - 1, 20001)])
    words = words.astype(np.uint32)
    expected = special.ndtri((words + 0.5) / 2**32)
    np.testing.assert_allclose(_normal(words, np.dtype(np.float64)), expected, rtol=4e-7, atol=1e-8)
    np.testing.assert_allclose(_normal(words, np.dtype(np.float32)), expected, rtol=4e-6, atol=1e-6)


def test_a_rotation_by_a_right_angle_turns_the_image(augment) -> None:
    """The angle of the only row is found by its draw: α = (2 u − 1) amount."""
    from fastnn.reference.augment import _row_words

    word = int(_row_words(0, 1, 9, 0, 2**31)[0][0])
    amount = math.pi / 2 / (2 * (word + 0.5) / 2**32 - 1)
    X = images(1, 6, 6, 2, "float64")
    out = augment(X, "rotate", 6, 6, abs(amount), 1.0, 0.0, 9).reshape(6, 6, 2)
    np.testing.assert_allclose(out, np.rot90(X.reshape(6, 6, 2), -1 if amount > 0 else 1), atol=1e-12)


def test_a_rotation_of_a_plane_is_the_turned_plane(augment) -> None:
    """Bilinear interpolation is exact for linear functions, inside of the image."""
    i, j = np.mgrid[0:9, 0:9] - 4.0
    X = np.tile((2 * i - 3 * j).ravel(), (50, 1))
    out = augment(X, "rotate", 9, 9, 0.5, 1.0, 0.0, 2).reshape(50, 9, 9)
    for image in out:
        a, b = image[5, 4] - image[4, 4], image[4, 5] - image[4, 4]  # the turned gradient
        assert math.hypot(a, b) == pytest.approx(math.hypot(2, 3))
        np.testing.assert_allclose(image[2:7, 2:7], (a * i + b * j)[2:7, 2:7], atol=1e-12)


def test_a_crop_of_a_plane_is_a_magnified_plane(augment) -> None:
    """Bilinear interpolation is exact for linear functions; the slopes are s times those of the image."""
    i, j = np.mgrid[0:9, 0:12].astype(float)
    out = augment(np.tile((2 * i - 3 * j).ravel(), (400, 1)), "crop", 9, 12, 0.5, 1.0, 0.0, 2).reshape(400, 9, 12)
    shares = (out[:, 5, 5] - out[:, 4, 5]) / 2
    np.testing.assert_allclose(out[:, 4, 5] - out[:, 4, 6], 3 * shares, atol=1e-12)
    stats = pytest.importorskip("scipy.stats")
    assert stats.kstest((shares - 0.5) / 0.5, "uniform").pvalue > 1e-3
    assert ((out >= (2 * i - 3 * j).min()) & (out <= (2 * i - 3 * j).max())).all()
    centres = (out[:, 3:6, 4:8].mean(axis=(1, 2)) - (2 * 4 - 3 * 5.5)) / (1 - shares)
    assert abs(centres.mean()) < 4 * centres.std() / 20  # the place is uniform: in the middle on average


CASES = st.tuples(
    st.sampled_from(ROW_AUGMENTATIONS),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.14, 7.0, 100.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, -1.5]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**40),
    st.integers(0, 5),
    st.integers(0, 2**40),
    st.sampled_from(["float32", "float64"]),
)


@settings(max_examples=examples(150), deadline=None)
@given(CASES)
def test_compiled_against_reference(case) -> None:
    kind, n, height, width, channels, amount, probability, fill, seed, step, place, first, dtype = case
    amount = min(amount, 1.0) if kind == "crop" else amount
    X = np.random.default_rng(seed % 1000).normal(size=(n, height * width * channels)).astype(dtype)
    before = X.copy()
    arguments = X, kind, height, width, amount, probability, fill, seed, step, place, first
    ours, theirs = fnn.kernels.augment_rows(*arguments), reference.augment_rows(*arguments)
    np.testing.assert_array_equal(X, before)
    assert ours.dtype == X.dtype
    if kind in ("noise", "rotate", "crop"):
        tolerance = 2e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, amount))
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ROW_AUGMENTATIONS)
def test_parts_of_a_batch_have_the_draws_of_the_whole(augment, kind) -> None:
    X = images(50, 4, 5)
    amount = 0.4 if kind == "crop" else 2.0
    whole = augment(X, kind, 4, 5, amount, 0.5, 0.0, 3, 8, 1)
    parts = [
        augment(X[a:b], kind, 4, 5, amount, 0.5, 0.0, 3, 8, 1, a) for a, b in [(0, 3), (3, 20), (20, 21), (21, 50)]
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for other in ({"seed": 4}, {"step": 9}, {"place": 2}):
        changed = {"seed": 3, "step": 8, "place": 1, **other}
        assert (augment(X, kind, 4, 5, amount, 0.5, 0.0, **changed) != whole).any()


# -- trainings ---------------------------------------------------------------------------------------------------------

ALL = [
    fnn.augment.Shift(2),
    fnn.augment.HorizontalFlip(),
    fnn.augment.Rotation(20.0),
    fnn.augment.Erase(3, fill=1.0),
    fnn.augment.Crop(0.7),
    fnn.augment.Mixup(0.5),
    fnn.augment.Noise(0.1),
]
EXACT = [fnn.augment.Shift(2), fnn.augment.HorizontalFlip(), fnn.augment.Erase(3, fill=1.0)]


def digits(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    X, y = fnn.datasets.load_digits()
    return X[:n].astype("float32") / 16, y[:n]


def network(backend: str = "compiled", dtype: str = "float32", **options) -> fnn.Sequential:
    layers = [fnn.Dense(24, "relu"), fnn.Dense(10)]
    return fnn.Sequential(layers, input_size=64, loss="cross_entropy", seed=1, backend=backend, dtype=dtype, **options)


def trained(
    *, augment=(), epochs=3, X=None, backend="compiled", dtype="float32", net=None, **options
) -> fnn.Sequential:
    data, y = digits()
    net = net or network(backend, dtype)
    net.fit(data if X is None else X, y, epochs=epochs, batch_size=50, augment=augment, **options)
    return net


NOTHING = [
    [],
    [fnn.augment.Shift(0)],
    [fnn.augment.HorizontalFlip(0.0)],
    [fnn.augment.Erase(4, 0.0)],
    [fnn.augment.Rotation(0.0)],
    [fnn.augment.Noise(0.0)],
    [fnn.augment.Crop(1.0)],
]


@pytest.mark.parametrize("nothing", NOTHING, ids=repr)
def test_augmentation_by_nothing_changes_no_bit(nothing, compiled) -> None:
    first = trained(augment=nothing, epochs=1, deterministic=True)
    order = np.random.default_rng(0).permutation(300)
    X, y = digits()
    nets = [network(), network()]
    for net, augment in zip(nets, ([], nothing), strict=True):
        net.fit(X[order], y[order], epochs=1, shuffle=False, augment=augment, deterministic=True)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert np.isfinite(first.theta).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("augment", [EXACT, ALL], ids=["exact", "all"])
def test_both_backends_train_alike(augment, dtype, compiled) -> None:
    ours, theirs = (trained(augment=augment, backend=backend, dtype=dtype) for backend in ("compiled", "reference"))
    tolerance = 2e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(ours.theta, theirs.theta, atol=tolerance)
    np.testing.assert_allclose(ours.history["loss"], theirs.history["loss"], rtol=tolerance)


@pytest.mark.parametrize("kind", ["uint8", "float64", "sparse", "iterator"])
def test_rows_of_every_kind_are_augmented_alike(kind, compiled) -> None:
    X, y = fnn.datasets.load_digits()
    X, y = X[:300].astype(np.uint8), y[:300]
    augment = [fnn.augment.Shift(1), fnn.augment.Rotation(15.0, fill=3.0), fnn.augment.Erase(3, fill=16.0)]
    options = {"epochs": 2, "augment": augment, "shuffle": False, "deterministic": True}
    expected = network(dtype="float64", input_scale=1 / 16).fit(X.astype(np.float64), y, batch_size=50, **options)
    net = network(dtype="float64", input_scale=1 / 16)
    if kind == "sparse":
        sparse = pytest.importorskip("scipy.sparse")
        got = net.fit(sparse.csr_matrix(X.astype(np.float64)), y, batch_size=50, **options)
    elif kind == "iterator":
        del options["shuffle"]
        got = net.fit([(X[i : i + 50], y[i : i + 50]) for i in range(0, 300, 50)], **options)
    else:
        got = net.fit(X.astype(kind), y, batch_size=50, **options)
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-12)


def test_fill_and_noise_are_in_the_units_of_x(compiled) -> None:
    X, y = digits()
    augment = [fnn.augment.Shift(2, fill=0.5), fnn.augment.Noise(0.25)]
    scaled = [fnn.augment.Shift(2, fill=8.0), fnn.augment.Noise(4.0)]
    a = network(dtype="float64").fit(X, y, augment=augment, epochs=1)
    b = network(dtype="float64", input_scale=1 / 16).fit(X * 16, y, augment=scaled, epochs=1)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-12)


@pytest.mark.parametrize("augment", [EXACT, ALL], ids=["exact", "all"])
def test_results_do_not_depend_on_threads(augment, compiled) -> None:
    with knobs.changed(
        min_work=1.0,
        shard_rows=1e-6,
        exchange=0.0,
        training_share=1e-6,
        training_rows=1e-6,
        chunk_bytes=4096,
        chunk_share=0.0,
    ):
        nets = [trained(augment=augment, threads=threads, deterministic=True) for threads in (1, 2, 4)]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.theta, nets[0].theta)


def test_chunks_and_zero_skipping_change_nothing(compiled) -> None:
    """Skipping the zeros of the augmented rows gives the same sums."""
    with knobs.changed(zeros_sample=0):
        dense = trained(augment=EXACT, threads=1, dtype="float64")
    with knobs.changed(zeros_sample=16, zeros_forward=4, zeros_gradient=4, zeros_apart=1, chunk_bytes=4096):
        skipping = trained(augment=EXACT, threads=1, dtype="float64")
    np.testing.assert_allclose(skipping.theta, dense.theta, atol=1e-12)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_resumed_training_has_the_same_bits(backend, tmp_path) -> None:
    whole = trained(augment=ALL, epochs=4, backend=backend, threads=1)
    half = trained(augment=ALL, epochs=2, backend=backend, threads=1)
    half.save(tmp_path / "net.safetensors", training_state=True)
    for net in (fnn.load(tmp_path / "net.safetensors", backend=backend), copy.deepcopy(half)):
        trained(augment=ALL, epochs=4, net=net, resume=True, threads=1)
        np.testing.assert_array_equal(net.theta, whole.theta)
    with pytest.raises(ValueError, match="resume: expected augment="):
        trained(augment=EXACT, epochs=4, net=half, resume=True)
    with pytest.raises(ValueError, match="resume: expected augment="):
        trained(epochs=4, net=half, resume=True)


def test_partial_fit_goes_on_with_the_draws(compiled) -> None:
    X, y = digits()
    a, b = network(), network()
    for _ in range(3):
        a.partial_fit(X, y, augment=ALL, threads=1)
    b.fit(X, y, augment=ALL, epochs=3, threads=1)
    np.testing.assert_array_equal(a.theta, b.theta)
    trainer = fnn.Trainer(c := network(), X, y, augment=ALL, threads=1)
    for _ in trainer.epochs(3):
        pass
    np.testing.assert_array_equal(c.theta, b.theta)


def test_validation_and_evaluation_see_the_rows_as_they_are(compiled) -> None:
    X, y = digits()
    net = network()
    history = net.fit(X, y, augment=ALL, epochs=2, validation_data=(X, y))
    before = X.copy()
    assert history["val_loss"][-1] == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-6)
    assert history["loss"][-1] > history["val_loss"][-1]
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("optimizer", "norm"),
    [(fnn.KFAC(), fnn.LayerNorm()), (fnn.SGD(0.05, momentum=0.9), fnn.BatchNorm())],
    ids=["kfac", "sgd"],
)
def test_weights_norms_and_other_optimizers(optimizer, norm, compiled) -> None:
    X, y = digits()
    losses = []
    for backend in ("compiled", "reference"):
        layers = [fnn.Standardize(), fnn.Dense(12), norm, fnn.Activation("tanh"), fnn.Dense(10)]
        net = fnn.Sequential(layers, input_size=64, loss="cross_entropy", seed=1, dtype="float64", backend=backend)
        weight = np.linspace(0.1, 1.0, 300)
        options = {"sample_weight": weight, "class_weight": {3: 2.0}, "augment": EXACT, "optimizer": optimizer}
        losses.append(net.fit(X, y, epochs=2, **options)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-7)


def test_other_draws_in_every_step_and_training(compiled) -> None:
    X, y = digits(50)
    nets = [network(), network()]
    losses = [net.fit(X, y, optimizer=fnn.SGD(1e-12), augment=[fnn.augment.Shift(2)], epochs=4) for net in nets]
    assert len(set(losses[0]["loss"])) == 4
    assert losses[0]["loss"] == losses[1]["loss"]
    again = nets[0].fit(X, y, optimizer=fnn.SGD(1e-12), augment=[fnn.augment.Shift(2)], epochs=4)
    assert not set(again["loss"]) & set(losses[0]["loss"])


# -- what is refused ---------------------------------------------------------------------------------------------------

A = fnn.augment


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: A.Shift(-1), ValueError, "pixels must be an integer >= 0"),
        (lambda: A.Shift(1.5), TypeError, "pixels must be an integer"),
        (lambda: A.Shift(2, shape=(8,)), TypeError, r"shape: expected \(H, W\)"),
        (lambda: A.Shift(2, shape=(0, 8)), ValueError, "shape must be an integer >= 1"),
        (lambda: A.Shift(2, fill=math.nan), ValueError, "fill must be a finite number"),
        (lambda: A.HorizontalFlip(1.5), ValueError, "probability must be a finite number >= 0 and <= 1"),
        (lambda: A.Rotation(200.0), ValueError, "degrees must be"),
        (lambda: A.Erase(2, -0.1), ValueError, "probability must be"),
        (lambda: A.Noise(-1.0), ValueError, "std must be"),
        (lambda: A.Crop(0.0), ValueError, "scale must be a finite number > 0 and <= 1"),
        (lambda: A.Mixup(0.0), ValueError, "alpha must be a finite number > 0"),
        (lambda: A.Mixup("1"), TypeError, "alpha must be"),
        (lambda: A.Shift(pixel=2), TypeError, "did you mean 'pixels'"),
    ],
)
def test_descriptions_that_are_refused(make, error, words) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("augment", "error", "words"),
    [
        (A.Shift(2), TypeError, r"augment must be a list .* did you mean \[Shift"),
        ("shift", TypeError, "augment must be a list"),
        (3, TypeError, "augment must be a list"),
        ([A.Shift], TypeError, r"augment\[0\]: .* did you mean Shift\(\)\?"),
        ([A.Mixup(), A.Mixup(1.0)], ValueError, "at most one Mixup"),
        ([A.Shift(1), None], TypeError, r"augment\[1\]"),
        ([A.Shift(2, shape=(7, 9))], ValueError, r"rows of 7 \* 9 \* 1 = 63 features, got 64"),
        ([A.Erase(2, shape=(8, 8, 3))], ValueError, "= 192 features, got 64"),
    ],
)
def test_what_fit_refuses_changes_nothing(augment, error, words, compiled) -> None:
    net = network()
    theta, generator = net.theta.copy(), net.generator.bit_generator.state
    X, y = digits()
    for call in (net.fit, net.partial_fit):
        with pytest.raises(error, match=words):
            call(X, y, augment=augment)
    np.testing.assert_array_equal(net.theta, theta)
    assert net.generator.bit_generator.state == generator


def test_shapes_that_cannot_be_guessed(compiled) -> None:
    spec = A.Shift(1).spec
    assert spec(784)[1:4] == (28, 28, 1)
    assert spec(3072)[1:4] == (32, 32, 3)
    assert A.Shift(1, shape=(4, 5, 3)).spec(60)[1:4] == (4, 5, 3)
    with pytest.raises(ValueError, match="needs the shape of the images: 60 features"):
        spec(60)
    with pytest.raises(ValueError, match="augment: LBFGS"):
        network().fit(*digits(), optimizer=fnn.LBFGS(), augment=[A.Shift(1)])
