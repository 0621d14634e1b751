"""The program ``fastnn``, also as ``python -m fastnn``: the command line, and Ctrl-C while that is being imported."""

import sys


def main() -> int:
    """Run the command line; returns its exit code, 130 after Ctrl-C."""
    try:
        from .cli import main as run  # NumPy, SciPy and the rest: the longer part of a short run

        return run()
    except KeyboardInterrupt:
        print("fastnn: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
