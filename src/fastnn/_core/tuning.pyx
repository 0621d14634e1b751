"""Constants of scheduling, with what they were measured on, in one place.

`tuning` changes some for a while: for measurements, and for tests that want many workers or small chunks.
"""
from libc.math cimport INFINITY

import contextlib
import os

from . import kernels as _kernels

# Minimum multiplications per worker for which waking a second one pays. During training workers are awake: then a
# fifteenth of it for every batch, about the cost of the barriers, but no less than ten rows, for each worker fetches
# what the others wrote of the gradient and of the parameters, which costs about as much as those rows' work (measured
# on two cores from 4-10-10-3 to 784-256-256-10).
tuned.min_work, tuned.training_share, tuned.training_rows = 1.5e6, 1 / 15.0, 10.0

# One worker pays some per cent for two shards of few rows, and two seldom save anything there.
tuned.shard_rows = 24

# Beyond that, training takes a team only where it saves clearly more than its workers cost each other. That is measured
# in the process (fnn_pair_costs), for it differs by a factor of five between near and far cores, and virtual machines
# move between them. The time of a row and parameter is on the low side (0.05 to 0.09 ns with AVX-512, twice that with
# AVX2). A line of a training step takes 4 to 8 times as long as one of that test, which a prefetcher foresees
# (measured from 64-64-64-10 to 784-256-256-10, batches of 32 to 256).
tuned.product_ns, tuned.exchange = 0.05, 5.0

# Shards of a deterministic batch that is worth as many; no more workers are used then.
tuned.fixed_shards = 4

# chunk_bytes plus chunk_share times the parameters: each chunk re-reads the parameters and accumulates their gradient
# (measured with 784-64-64-10, 784-256-256-10 and 784-512-512-10 in both types). A forward pass alone does best with a
# part of a second-level cache; in a linearization, products of more rows pay for more than the first cache levels.
tuned.chunk_bytes, tuned.chunk_share, tuned.forward_bytes, tuned.linearize_bytes = 1 << 17, 2.0, 1 << 20, 1 << 21

# By feature: whole tiles, and a distance between the features with which they do not fall on the same sets of a cache.
# It pays where padded vectors make the products by row this much longer than those by feature, whose last vector of
# rows is partly filled as well, and whose sums over the lanes take as long as one vector more (measured from 4-10-10-3
# to 100-100-100 in both types, with 200 and 1,024 rows).
tuned.feature_rows, tuned.feature_chunk, tuned.feature_margin = 128, 7 * 64, 1.03

# Where much of X is zero, products with it skip that (csrc/kernels/gemm_sparse_body.h); the sample is of at
# least eight times as many rows.
tuned.zeros_sample, tuned.zeros_forward, tuned.zeros_gradient, tuned.zeros_apart = 32, 0, 0, 0

# Where our kernel has wide vectors and fma it is the faster one at every size that was measured
# (bench/test_kernels.py); elsewhere BLAS has code for the processor that it finds.
tuned.blas_work = 32.0**3 if _kernels.simd()["active"] in ("baseline", "generic") else INFINITY

# Past the caches: what the largest of them would keep of a smaller output is worth more to its reader than the fetched
# lines cost its writer (bench/test_curvature.py).
tuned.stream_bytes = 1e8

MAX_RED_ZONE = 2**20


def red_zone_of(text):
    """Bytes of the red zones that FASTNN_RED_ZONE asks for."""
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MAX_RED_ZONE):
        raise ValueError(f"FASTNN_RED_ZONE must be a whole number of bytes from 0 to {MAX_RED_ZONE}, got {text!r}")
    return int(text)


tuned.red_zone = red_zone_of(os.environ.get("FASTNN_RED_ZONE", "0"))


def values():
    """All constants, by name."""
    return dict(tuned)


def change(**changes):
    """Set some constants."""
    global tuned
    unknown = changes.keys() - values().keys()
    if unknown:
        raise TypeError(f"tuning: unknown constants {sorted(unknown)}; known: {', '.join(values())}")
    tuned = {**values(), **changes}


@contextlib.contextmanager
def tuning(**changes):
    """A context in which some constants are others; at its end all are as before."""
    before = values()
    change(**changes)
    try:
        yield
    finally:
        change(**before)
