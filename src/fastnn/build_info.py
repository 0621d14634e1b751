"""What this installation consists of: version, instruction set, BLAS, threads."""

from __future__ import annotations

from typing import Any

from .names import listing

__all__ = ["show_config"]
__dir__ = listing(__all__)


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print, or return, the version, instruction sets, BLAS libraries and number of threads.

    Parameters
    ----------
    mode : {"stdout", "dict"}
        ``"dict"`` returns the facts instead of printing them.

    Returns
    -------
    dict or None
        ``fastnn``, ``python``, ``numpy``, ``scipy``: versions. ``simd``: ``active``, the instruction set in use, and
        ``available``, those that this machine can run (the environment variable FASTNN_SIMD forces a lower one; set it
        before the import). ``blas``: a list of dicts, per loaded library its name, version, threads and file.
        ``threads``: what ``threads=None`` means now.

    Raises
    ------
    ValueError
        If `mode` is unknown.
    """
    if mode not in ("stdout", "dict"):
        raise ValueError(f"mode must be 'stdout' or 'dict', got {mode!r}")
    import platform

    import numpy as np
    import scipy
    import threadpoolctl

    from ._core.threads import blas_threads
    from ._version import __version__

    try:
        from ._core.kernels import simd as instruction_sets

        simd: dict[str, Any] = dict(instruction_sets())
    except ImportError as error:
        simd = {"active": None, "available": [], "error": str(error)}
    blas = [
        {
            "library": library["internal_api"],
            "version": library["version"],
            "threads": library["num_threads"],
            "file": library["filepath"],
        }
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    facts: dict[str, Any] = {
        "fastnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "simd": simd,
        "blas": blas,
        "threads": blas_threads(),
    }
    if mode == "dict":
        return facts
    lines = [f"fastnn {facts['fastnn']} (Python {facts['python']}, NumPy {facts['numpy']}, SciPy {facts['scipy']})"]
    if simd["active"] is None:
        lines.append(f"instruction set: none, the compiled part is missing ({simd['error']})")
    else:
        lines.append(f"instruction set: {simd['active']} (available: {', '.join(simd['available'])})")
    lines += [f"BLAS: {lib['library']} {lib['version']}, {lib['threads']} threads, {lib['file']}" for lib in blas]
    lines.append(f"threads: {facts['threads']}")
    print("\n".join(lines))
    return None
