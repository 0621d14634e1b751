"""The runs of tools/record.py, which starts this folder once per instruction set.

``machine`` prints what the bits depend on, ``hashes PATTERN ...`` a hash of every result of the runs of these names.
Public names only, so that the runs are the same for earlier and later revisions.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import curvature  # noqa: F401 (these modules register their runs)
import estimators  # noqa: F401
import numpy as np
import scipy.linalg
import threadpoolctl
import training  # noqa: F401
from cases import CASES

import fastnn as fnn


def machine() -> str:
    """What the bits depend on besides the instruction set in use and the versions of fastnn."""
    blas = sorted({f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in _blas()})
    numpy_sets = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    compiler = sorted(
        {found for path in _extensions() for found in re.findall(rb"GCC: [^\0]+|clang version [0-9.]+", path)}
    )
    return "; ".join(
        [
            f"{platform.system()} {platform.machine()}",
            " ".join(platform.libc_ver()),
            *(found.decode() for found in compiler),
            f"NumPy {np.__version__} {numpy_sets[-1] if numpy_sets else 'baseline'}",
            f"SciPy {scipy.__version__}",
            *blas,
        ]
    )


def _blas() -> list[dict[str, Any]]:
    return [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def _extensions() -> Iterator[bytes]:
    """The compiled modules of fastnn; compilers leave their name in them."""
    fnn.kernels.simd()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith("fastnn.") and file and not file.endswith(".py"):
            yield Path(file).read_bytes()


def digest(value: Any) -> str:
    """A hash of an array's element type, shape and bytes; all NaN are one."""
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a result must be numbers, got {value!r}")
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(math.nan), array)
    code = hashlib.blake2b(f"{array.dtype.str}{np.shape(value)}".encode(), digest_size=4)
    code.update(array.tobytes())
    return code.hexdigest()


def hashes(*patterns: str) -> dict[str, str]:
    """Hashes of all results of the runs of these names."""
    found = {}
    for name, run in CASES.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # estimators that have not converged
                results = run()
            found[name] = " ".join(f"{key.replace(' ', '_')}={digest(value)}" for key, value in results.items())
    return found


def main(command: str, *patterns: str) -> None:
    if command == "machine":
        simd = fnn.kernels.simd()
        answer: Any = {"machine": machine(), "active": simd["active"], "available": list(simd["available"])}
    else:
        answer = hashes(*patterns)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
