"""The command line: ``fastnn train``, ``fastnn tune``, ``fastnn predict``, ``fastnn info``.

Exit codes: 0 done, 2 wrong input (one line on stderr), 130 interrupted by Ctrl-C, 141 nobody reads the output.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from ..files import MissingPackageError
from .arguments import parser
from .console import Failure, say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        Exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show "R²" gets an escape, not a UnicodeEncodeError.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        args = parser().parse_args(argv)
        code = _run(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help, --version
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt as stop:
        say(f"fastnn: {stop.args[0] if stop.args else 'interrupted'}")
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain again when it flushes stdout at exit.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except MissingPackageError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"this installation is incomplete: {error}")
    except OSError as error:
        what = error.strerror or str(error)
        return _fail(f"{error.filename}: {what}" if error.filename and error.strerror else what)
    except (Failure, ValueError, TypeError, ArithmeticError) as error:
        return _fail(str(error) or type(error).__name__)


def _run(args: argparse.Namespace) -> int:
    """Run a command; only what it needs is imported."""
    if args.command == "train":
        from .train import run_train

        return run_train(args)
    if args.command == "tune":
        from .tune import run_tune

        return run_tune(args)
    if args.command == "predict":
        from .predict import run_predict

        return run_predict(args)
    from .info import run_info

    return run_info(args)


def _fail(message: str) -> int:
    say("fastnn: error: " + " ".join(message.split()))
    return 2
