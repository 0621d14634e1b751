"""Second-order kernels against the reference, and those that do nothing but write against filling the same array."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn._core.tuning import tuning

pytestmark = [
    pytest.mark.benchmark(max_time=1.0, min_rounds=5, warmup=True, warmup_iterations=1),
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),  # said again of every test that has failed
]

MODULES = {"fastnn": fnn.kernels, "reference": fnn.reference}
RTOL = {np.float32: 1e-5, np.float64: 1e-13}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

# samples and widths of a chain of dense layers
NETWORKS = {
    "64-32-10": (1797, (64, 32, 10)),
    "64-32-32-10": (1797, (64, 32, 32, 10)),
    "196-10-10-10-10": (1000, (196, 10, 10, 10, 10)),
}


class Chain:
    """Inputs, slopes, deltas and weights of a chain of dense layers, at random, and the Hessian's recursion."""

    def __init__(self, name, dtype):
        rng = np.random.default_rng(0)
        self.N, self.widths = NETWORKS[name]

        def normal(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.X = [normal(self.N, n) for n in self.widths[:-1]]
        self.W = [normal(*pair) * dtype(pair[0] ** -0.5) for pair in zip(self.widths, self.widths[1:], strict=False)]
        self.slope, self.bend, self.delta = ([normal(self.N, n) for n in self.widths[1:]] for _ in range(3))
        self.P = fnn.reference.softmax(normal(self.N, self.widths[-1]))
        self.offsets = np.cumsum([0] + [(i + 1) * o for i, o in zip(self.widths, self.widths[1:], strict=False)])
        self.H = np.empty((self.offsets[-1], self.offsets[-1]), dtype)

    def hessian(self, module, **options):
        """Return the Hessian of a sum over samples, all by the kernels."""
        H, last = self.H, len(self.W) - 1
        H[...] = 0
        below = module.loss_hessian(self.P, True)
        cross, jacobian = {}, {}  # A_lm and J_lm of each later layer m, transposed
        for l in range(last, -1, -1):  # noqa: E741
            at = int(self.offsets[l])
            if l < last:
                W, slope = self.W[l + 1], self.slope[l]
                cross[l + 1] = below
                below = module.curvature_backward(below, W, slope, self.bend[l], **options)
                cross = {m: module.cross_backward(M, W, slope, **options) for m, M in cross.items()}
                jacobian = {m: module.cross_backward(M, W, slope, **options) for m, M in jacobian.items()}
                for m, M in cross.items():
                    J = slope if m == l + 1 else jacobian[m].transpose(0, 2, 1)
                    module.hessian_block_acc(
                        *(self.X[l], M.transpose(0, 2, 1), H, at, int(self.offsets[m])),
                        *(self.X[m], J, self.delta[m]),
                        **options,
                    )
                jacobian[l + 1] = slope
            module.hessian_block_acc(self.X[l], below, H, at, at, **options)
        module.symmetrize(H, **options)
        return H


@pytest.mark.parametrize("engine", MODULES)
@DTYPES
@pytest.mark.parametrize("network", NETWORKS)
def test_hessian(benchmark, network, dtype, engine, threads):
    """Time all kernels of a network's Hessian, forward and backward pass apart."""
    chain = Chain(network, dtype)
    expected = chain.hessian(fnn.reference).copy()
    tolerance = RTOL[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(chain.hessian(MODULES[engine], threads=threads), expected, rtol=0, atol=tolerance)
    benchmark.group = f"kernels of the Hessian of {network}, {chain.N} rows {np.dtype(dtype)}"
    benchmark.extra_info["engine"] = engine
    benchmark(chain.hessian, MODULES[engine], threads=threads)


def probabilities(rng, N, K):
    return fnn.reference.softmax(rng.standard_normal((N, K)))


# name -> kernel, its arguments, shape of what it writes
WRITERS = {
    "per_sample_outer 1024 rows 784-64": (
        "per_sample_outer",
        lambda rng: (rng.standard_normal((1024, 784)), rng.standard_normal((1024, 64))),
        (1024, 785 * 64),
    ),
    "per_sample_outer 1024 rows 64-10": (
        "per_sample_outer",
        lambda rng: (rng.standard_normal((1024, 64)), rng.standard_normal((1024, 10))),
        (1024, 65 * 10),
    ),
    "per_sample_hessian_blocks 64 rows 64-32": (
        "per_sample_hessian_blocks",
        lambda rng: (probabilities(rng, 64 * 32, 32).reshape(64, 32, 32), rng.standard_normal((64, 64))),
        (64, 65 * 32, 65 * 32),
    ),
    "per_sample_hessian_blocks 256 rows 32-10": (
        "per_sample_hessian_blocks",
        lambda rng: (probabilities(rng, 2560, 10).reshape(256, 10, 10), rng.standard_normal((256, 32))),
        (256, 330, 330),
    ),
    "softmax_jacobian 4096x64": ("softmax_jacobian", lambda rng: (probabilities(rng, 4096, 64),), (4096, 64, 64)),
}


@pytest.mark.parametrize("engine", ["fastnn", "reference", "past the caches", "through the caches", "fill"])
@pytest.mark.parametrize("case", WRITERS)
def test_writer(benchmark, case, engine, threads):
    """Time kernels that write much more than they read, into an array that is there, and writing it alone."""
    name, make, shape = WRITERS[case]
    arguments = [array.astype(np.float32) for array in make(np.random.default_rng(0))]
    out = np.ones(shape, np.float32)
    benchmark.group = f"{case} float32, {out.nbytes / 1e6:.0f} MB"
    benchmark.extra_info["engine"] = engine
    if engine == "fill":
        benchmark(out.fill, 1.0)
        return
    kernel = getattr(MODULES["reference" if engine == "reference" else "fastnn"], name)
    limits = {"past the caches": {"stream_bytes": 0}, "through the caches": {"stream_bytes": np.inf}}
    with tuning(**limits.get(engine, {})):
        kernel(*arguments, out=out, threads=threads)
        some = slice(0, 3)
        expected = getattr(fnn.reference, name)(*(array[some] for array in arguments))
        np.testing.assert_allclose(out[some], expected, rtol=1e-5, atol=1e-6)
        benchmark(kernel, *arguments, out=out, threads=threads)
