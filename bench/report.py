"""Compare fastnn with its rivals, as ratios of times measured in one run.

python bench/report.py                              train on every task with every installed engine, print the table
python bench/report.py RUN.json                     ratios from a pytest-benchmark JSON file
python bench/report.py NEW.json --compare OLD.json  what became slower between two runs
"""

import argparse
import json
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OURS = "fastnn"


def main(argv=None):
    """Run the command line."""
    options = parse(argv)
    if options.file is None:
        return live(options)
    new = load_groups(options.file)
    return compare(new, load_groups(options.compare), options.tolerance) if options.compare else show(new)


def parse(argv):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="pytest-benchmark JSON; without it, measure now")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="an older JSON file: print what became slower")
    parser.add_argument("--tolerance", type=float, default=0.15, help="loss of ratio that --compare reports (0.15)")
    parser.add_argument("--threads", type=int, default=1, help="threads for every engine (1, pinned to one core)")
    parser.add_argument("--repeats", type=int, help="rounds of the interleaved comparison (7; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, one epoch per round")
    parser.add_argument("--only", action="append", metavar="NAME", help="only tasks whose name begins so; repeatable")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    options = parser.parse_args(argv)
    if options.compare and options.file is None:
        parser.error("--compare needs the file of the new run as well")
    return options


# ---------------------------------------------------------------------------------- measuring whole training epochs


def live(options):
    """Measure every task and print one table."""
    import rivals  # here, so that reading a JSON file needs no NumPy

    names = [name for name in rivals.TASKS if not options.only or name.startswith(tuple(options.only))]
    if not names:
        print(f"no task begins with {options.only}; there are {', '.join(rivals.TASKS)}", file=sys.stderr)
        return 2
    rivals.configure_process(options.threads)
    repeats = options.repeats or (3 if options.quick else 7)
    engines, rows, peaks = rivals.available(), [], []
    for name in names:
        try:
            task = rivals.TASKS[name]()
        except OSError as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
            continue
        epochs = 1 if options.quick else task.epochs_per_call
        seconds, peak = measure(rivals, task, engines, options.threads, epochs, repeats)
        rows.append(training_row(task, engines, seconds, peak * options.threads))
        peaks.append(peak)
    if not rows:
        return 1
    print(f"Training with Adam, float32, {options.threads} thread(s): seconds per epoch, median of {repeats} rounds")
    print(f"(in brackets: times fastnn). {environment(engines)}.")
    print(f"Peak of one thread's 512x512x512 product in this run: {statistics.median(peaks):.0f} GFLOP/s.\n")
    print_table(["network", *engines, "our step", "our share of peak"], rows, markdown=options.markdown)
    return 0


def measure(rivals, task, names, threads, epochs, repeats):
    """Return {engine: median seconds per epoch} and our peak GFLOP/s, everything interleaved round by round."""
    engines = {}
    for name in names:
        say(f"{task.name}: preparing {name}")
        rivals.check_same_work(task, name, threads)
        engines[name] = rivals.ENGINES[name](task, threads)
        engines[name].epochs(1)  # warm-up, compilation
    rounds, peak = {name: [] for name in names}, 0.0
    for turn in range(repeats):
        say(f"{task.name}: round {turn + 1} of {repeats}")
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            engines[name].epochs(epochs)
            rounds[name].append((time.perf_counter() - start) / epochs)
        peak = max(peak, gemm_gflops())
    say("")
    return {name: statistics.median(values) for name, values in rounds.items()}, peak


def gemm_gflops(size=512, calls=10):
    """Return the best rate of fastnn's own float32 matrix product on square matrices of this size."""
    import numpy as np

    import fastnn as fnn

    a, b = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        fnn.kernels.matmul(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def training_row(task, names, seconds, peak):
    """Return the table's row of one task."""
    ours = seconds[OURS]
    cells = [duration(ours)]
    cells += [f"{duration(seconds[name])} ({times(seconds[name] / ours)})" for name in names if name != OURS]
    cells += [duration(ours / task.steps)]
    return [task.name, *cells, f"{task.gemm_flops / ours / 1e9 / peak:.1%}"]


def environment(engines):
    """Return one line with the versions that were compared."""
    versions = []
    for name in engines:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # the twin is no package
            continue
    return f"{', '.join(versions)}; Python {platform.python_version()}, {platform.machine()}"


# -------------------------------------------------------------------------------------- reading pytest-benchmark JSON


def load_groups(path):
    """Return {group: {engine: median seconds}} of a pytest-benchmark JSON file."""
    groups = {}
    for entry in json.loads(path.read_text())["benchmarks"]:
        engine = entry["extra_info"].get("engine")
        if engine:
            groups.setdefault(entry["group"], {})[engine] = entry["stats"]["median"]
    return groups


def ratios(groups):
    """Return {(group, engine): how many times as long as fastnn it takes}."""
    return {
        (group, engine): seconds / medians[OURS]
        for group, medians in groups.items()
        if OURS in medians
        for engine, seconds in medians.items()
        if engine != OURS
    }


def show(groups):
    """Print the ratios of one run, group by group."""
    rows = [
        [group, duration(groups[group][OURS]), engine, duration(groups[group][engine]), times(ratio)]
        for (group, engine), ratio in ratios(groups).items()
    ]
    print_table(["group", OURS, "engine", "its time", "times fastnn"], rows)
    return 0


def compare(new, old, tolerance):
    """Print the ratios that fell from the old run to the new by more than the tolerance; return 1 if any did."""
    new, old = ratios(new), ratios(old)
    common = [key for key in new if key in old]
    slower = [
        [group, engine, times(old[group, engine]), times(new[group, engine])]
        for group, engine in common
        if new[group, engine] < old[group, engine] * (1 - tolerance)
    ]
    print(f"{len(common)} ratios in both runs; {len(slower)} fell by more than {100 * tolerance:.0f} %")
    if slower:
        print_table(["group", "engine", "ratio before", "ratio now"], slower)
    return 1 if slower else 0


# --------------------------------------------------------------------------------------------------------- printing


def say(text):
    """Show progress on stderr, on one line where that is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr)


def duration(seconds):
    """Return the time with a unit that suits it."""
    for unit, scale in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def times(ratio):
    """Return the ratio with three digits."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def print_table(header, rows, *, markdown=False):
    """Print rows of text under a header, aligned; in Markdown if wanted."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print(f"| {' | '.join(line)} |" if markdown else "  ".join(line).rstrip())


if __name__ == "__main__":
    sys.exit(main())
