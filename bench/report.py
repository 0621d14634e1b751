"""Compare fastnn with its rivals, as ratios of times measured in one run.

python bench/report.py                              measure everything with every installed engine, print the tables
python bench/report.py --save RUN.json              the same, and keep its ratios and medians
python bench/report.py --compare OLD.json           the same, and say what became slower since
python bench/report.py RUN.json                     print the ratios of a file
python bench/report.py NEW.json --compare OLD.json  what became slower between two files

A file is one that --save wrote or the JSON of pytest-benchmark.
"""

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OURS = "fastnn"
DTYPES = ("float32", "float64")
SECTIONS = (
    "workers",
    "deterministic",
    "prediction",
    "calls",
    "normalised",
    "estimators",
    "sweeps",
    "curvature",
    "training",
)  # fastnn alone first, before a rival is loaded
WORKERS_TASKS = ("mnist-256", "wide-256")
DETERMINISTIC_TASKS = ("mnist-1024",)


def main(argv=None):
    """Run the command line."""
    options = parse(argv)
    old = load(options.compare) if options.compare else None
    if options.file:
        run = load(options.file)
        if not old:
            show(run)
    else:
        run = live(options)
        if not run.ratios:
            print("nothing was measured", file=sys.stderr)
            return 2
        if options.save:
            run.save(options.save)
    return compare(run, old, options.tolerance) if old else 0


def parse(argv):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="an earlier run; without it, measure now")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the ratios and medians of this run")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="an earlier run: print what became slower since")
    parser.add_argument("--tolerance", type=float, default=0.05, help="loss of ratio that --compare reports (0.05)")
    parser.add_argument("--threads", type=int, default=1, help="threads for every engine (1, pinned to one core)")
    parser.add_argument("--dtype", choices=(*DTYPES, "both"), default="float32", help="of data and networks (float32)")
    parser.add_argument("--repeats", type=int, help="rounds of each interleaved comparison (7; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a fifth of the epochs per round")
    parser.add_argument("--only", action="append", metavar="NAME", help="only tasks whose name begins so; repeatable")
    parser.add_argument("--engine", action="append", metavar="NAME", help="besides fastnn only this one; repeatable")
    parser.add_argument(
        "--section", action="append", choices=SECTIONS, help="only this part (all; with --only training); repeatable"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    options = parser.parse_args(argv)
    if options.file and options.save:
        parser.error("--save is for a run measured now")
    options.dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    options.section = options.section or (["training"] if options.only else SECTIONS)
    options.repeats = options.repeats or (3 if options.quick else 7)
    return options


class Run:
    """What was measured: {group: {what: median seconds}}, and {group: {what: ratio}}, larger being better for us."""

    def __init__(self, medians=None, ratios=None):
        self.medians, self.ratios = medians or {}, ratios or {}

    def add(self, group, medians, ratios):
        """Keep the results of a group."""
        self.medians[group], self.ratios[group] = medians, ratios

    def save(self, path):
        """Write a file for ``load``."""
        path.write_text(json.dumps({"ratios": self.ratios, "medians": self.medians}, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------------ measuring now


def live(options):
    """Measure what is asked for, print it, and return the Run."""
    import measure  # here, so that reading a file needs no NumPy
    import rivals

    rivals.configure_process(options.threads)
    run, tasks = Run(), Tasks(rivals, options)
    parts = (
        workers_section,
        deterministic_section,
        prediction_section,
        calls_section,
        normalised_section,
        estimators_section,
        sweeps_section,
        curvature_section,
        training_section,
    )
    for name, part in zip(SECTIONS, parts, strict=True):
        if name in options.section:
            part(options, measure, tasks, run)
    return run


class Tasks:
    """The tasks that the options select, made one at a time, because they are large."""

    def __init__(self, rivals, options):
        self.rivals, self.options = rivals, options
        self.engines = [
            name for name in rivals.available() if name == OURS or not options.engine or name in options.engine
        ]

    def each(self, names=None):
        """Generate (key, task, epochs per call) for each dtype of each task of these names, of all by default."""
        for name in names or self.rivals.TASKS:
            if self.options.only and not name.startswith(tuple(self.options.only)):
                continue
            for dtype in self.options.dtypes:
                try:
                    task = {**self.rivals.TASKS, **self.rivals.NORMALISED_TASKS}[name](dtype=dtype)
                except OSError as error:
                    print(f"{name}: skipped, {error}", file=sys.stderr)
                    break
                yield name, task, max(1, task.epochs_per_call // (5 if self.options.quick else 1))


def training_section(options, measure, tasks, run):
    """Whole epochs against the rivals, a table for each dtype, and float64 against float32."""
    rows, peaks = ({dtype: [] for dtype in options.dtypes} for _ in range(2))
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    singles, doubles = {}, []
    for name, task, epochs in tasks.each():
        seconds, peak = measure.training(task, tasks.engines, options.threads, epochs, options.repeats)
        dtype, ours = str(task.X.dtype), seconds[OURS]
        share = task.gemm_flops / ours / 1e9 / (peak * options.threads)
        ratios = {engine: seconds[engine] / ours for engine in tasks.engines if engine != OURS}
        run.add(f"train {name} {dtype}, {threads}", seconds, {**ratios, "share of peak": share})
        others = [f"{duration(seconds[engine])} ({times(ratio)})" for engine, ratio in ratios.items()]
        rows[dtype].append([task.name, duration(ours), *others, duration(ours / task.steps), f"{share:.1%}"])
        peaks[dtype].append(peak)
        if dtype == "float32":
            singles[name] = ours
        elif name in singles:
            rate = singles[name] / ours
            doubles.append(f"{task.name}: float64 at {100 * rate:.0f} % of the float32 rate")
            run.add(f"float64 {name}, {threads}", {}, {"rate relative to float32": rate})
    for dtype in options.dtypes:
        if not rows[dtype]:
            continue
        heading(f"Training with Adam, {dtype}, {threads}: seconds per epoch, median of {options.repeats} rounds")
        print(f"(in brackets: times fastnn; above 1 fastnn is faster). {environment(tasks.engines)}.")
        print(f"Peak of one thread's 512x512x512 product of ours in this run: {range_of(peaks[dtype])} GFLOP/s;")
        print(f"shares are of {'that' if options.threads == 1 else f'{options.threads} times that'}, task by task.\n")
        header = ["network", *tasks.engines, "our step", "our share of peak"]
        print_table(header, rows[dtype], markdown=options.markdown)
    if doubles:
        print("", *doubles, sep="\n")


def workers_section(options, measure, tasks, run):
    """What a second worker gives fastnn."""
    rows = []
    for name, task, epochs in tasks.each(WORKERS_TASKS):
        medians = measure.workers(task, epochs, options.repeats)
        gain = medians["1 thread"] / medians["2 threads"]
        run.add(f"second worker {name} {task.X.dtype}", medians, {"gain": gain})
        rows.append([f"{task.name}, {task.X.dtype}", *map(duration, medians.values()), times(gain)])
    if rows:
        heading("The second worker: fastnn's seconds per epoch")
        print_table(["network", "1 thread", "2 threads", "gain"], rows, markdown=options.markdown)


def deterministic_section(options, measure, tasks, run):
    """The price of results that do not depend on the number of threads."""
    rows = []
    for name, task, epochs in tasks.each(DETERMINISTIC_TASKS):
        medians = measure.deterministic(task, epochs, options.repeats)
        if medians is None:
            print("deterministic: skipped, fit has no such keyword", file=sys.stderr)
            return
        ratio = medians["default"] / medians["deterministic"]
        run.add(f"deterministic {name} {task.X.dtype}, 2 threads", medians, {"rate relative to default": ratio})
        rows.append([f"{task.name}, {task.X.dtype}", *map(duration, medians.values()), f"{1 / ratio - 1:+.1%}"])
    if rows:
        heading("deterministic=True on two threads: fastnn's seconds per epoch")
        print_table(["network", "default", "deterministic", "price"], rows, markdown=options.markdown)


def normalised_section(options, measure, tasks, run):
    """What batch norm and dropout cost, and the same network in PyTorch."""
    rows, threads = [], f"{options.threads} thread{'s' * (options.threads > 1)}"
    for name, task, epochs in tasks.each(tasks.rivals.NORMALISED_TASKS):
        medians = measure.normalised(task, tasks.engines, options.threads, epochs, options.repeats)
        plain, ours, torch = medians["fastnn plain"], medians[OURS], medians.get("torch")
        ratios = {"rate relative to plain": plain / ours, **({"torch": torch / ours} if torch else {})}
        run.add(f"batch norm and dropout {name} {task.X.dtype}, {threads}", medians, ratios)
        theirs = f"{duration(torch)} ({times(torch / ours)})" if torch else "not measured"
        rows.append(
            [f"{task.name}, {task.X.dtype}", duration(plain), duration(ours), f"{ours / plain - 1:+.1%}", theirs]
        )
    if rows:
        heading(f"Batch norm and dropout, {threads}: seconds per epoch (in brackets: times fastnn with both)")
        header = ["network", "fastnn plain", "fastnn with both", "extra", "torch with both"]
        print_table(header, rows, markdown=options.markdown)


def estimators_section(options, measure, tasks, run):
    """Whole fits of fastnn's estimators and of scikit-learn's own, at their defaults."""
    if options.engine and "scikit-learn" not in options.engine:
        return
    import estimator_tasks

    rows, threads = [], f"{options.threads} thread{'s' * (options.threads > 1)}"
    for name, make in estimator_tasks.each(options.only, options.dtypes):
        try:
            task = make()
        except (ImportError, OSError) as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
            continue
        medians, scores = measure.estimators(task, options.threads, options.repeats)
        ratio = medians["scikit-learn"] / medians[OURS]
        run.add(f"fit {name} {task.X.dtype}, {threads}", medians, {"scikit-learn": ratio})
        both = [f"{sum(values) / len(values):.4f}" for values in (scores[OURS], scores["scikit-learn"])]
        rows.append([f"{task.name}, {task.X.dtype}", *map(duration, medians.values()), times(ratio), *both])
    if rows:
        heading(f"Estimators, {threads}: seconds of a fit with the same parameters; mean score over five seeds")
        print_table(["task", OURS, "scikit-learn", "ratio", "our score", "its score"], rows, markdown=options.markdown)


def sweeps_section(options, measure, tasks, run):
    """Members of sweeps, against fits in a loop and scikit-learn's grid search."""
    if options.engine and "scikit-learn" not in options.engine:
        return
    import sweeps

    rows, threads = [], f"{options.threads} thread{'s' * (options.threads > 1)}"
    for name in ("iris", "digits"):
        make, title, settings, epochs = sweeps.TASKS[name]
        ways = make(settings, epochs // 5 if options.quick else epochs, share=16)
        medians = measure.members(ways, min(3, options.repeats))
        ours, *others = medians
        ratios = {way: medians[way] / medians[ours] for way in others}
        run.add(f"sweep {name}, {threads}", medians, ratios)
        rows += [[title, way, duration(seconds), times(seconds / medians[ours])] for way, seconds in medians.items()]
    heading(f"Sweeps of 64 settings, float32, {threads}: seconds for a member, in interleaved rounds")
    print_table(["work", "way", "time", "times ours"], rows, markdown=options.markdown)


def curvature_section(options, measure, tasks, run):
    """Hessians, their products and what is kept for every row, against the rivals and against filling the result."""
    import second_order

    rows, threads = [], f"{options.threads} thread{'s' * (options.threads > 1)}"
    rivals = [name for name in second_order.rival_names() if not options.engine or name in options.engine]
    for title, reference, make in second_order.works(options.threads, rivals):
        if options.only and not title.startswith(tuple(options.only)):
            continue
        medians = measure.curvature(title, make, options.repeats)
        ratios = {name: seconds / medians[reference] for name, seconds in medians.items() if name != reference}
        run.add(f"{title}, {threads}", medians, ratios)
        for name, seconds in medians.items():
            rows.append([title, name, duration(seconds), times(seconds / medians[reference])])
    if rows:
        heading(f"Curvature, float32, {threads}: seconds of a call, median of {options.repeats} rounds")
        print_table(["work", "call", "time", "times ours"], rows, markdown=options.markdown)


def prediction_section(options, measure, tasks, run):
    """Latency and throughput of prediction."""
    rows = []
    for dtype in options.dtypes:
        one = measure.predicting_one_row(dtype, options.repeats)
        many = measure.predicting_many_rows(dtype, options.threads, options.repeats)
        for group, medians in (("one row", one), (f"a million rows, {options.threads} thread(s)", many)):
            *ours, reference = medians
            ratios = {name: medians[reference] / medians[name] for name in ours}
            run.add(f"predict {group}, {dtype}", medians, ratios)
            for name in ours:
                rate = f"{1e-6 / medians[name]:.3g} million/s"
                rows.append([f"{name}, {group}, {dtype}", duration(medians[name]), rate, times(ratios[name])])
    heading("Prediction through 64-32-10 relu: time per row")
    print_table(["call", "per row", "rows", "times the reference"], rows, markdown=options.markdown)


def calls_section(options, measure, tasks, run):
    """What small calls cost, relative to a gradient in NumPy, and to scikit-learn's estimators."""
    import small_calls

    medians = measure.calling_a_network(options.repeats)
    yardstick = medians[small_calls.YARDSTICK]
    ratios = {name: yardstick / seconds for name, seconds in medians.items() if name != small_calls.YARDSTICK}
    run.add("small calls, 8-16-3, 256 rows", medians, ratios)
    rows = [[name, duration(medians[name]), times(ratio)] for name, ratio in ratios.items()]
    heading(f"Small calls of a network 8-16-3 on 256 rows; its gradient by hand in NumPy takes {duration(yardstick)}")
    print_table(["call", "time", "times as fast as that"], rows, markdown=options.markdown)
    if options.engine and "scikit-learn" not in options.engine:
        return
    rows = []
    for name, seconds in measure.calling_estimators(options.repeats).items():
        ratio = seconds["scikit-learn"] / seconds[OURS]
        run.add(name, seconds, {"scikit-learn": ratio})
        rows.append([name, *map(duration, seconds.values()), times(ratio)])
    heading("One row through an estimator")
    print_table(["call", OURS, "scikit-learn", "ratio"], rows, markdown=options.markdown)


def environment(engines):
    """Return one line with the versions that were compared."""
    versions = []
    for name in engines:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # the reference is not a package
            continue
    return f"{', '.join(versions)}; Python {platform.python_version()}, {platform.machine()}"


# ------------------------------------------------------------------------------------------------------ reading files


def load(path):
    """Return the Run of a file of ours or of pytest-benchmark."""
    content = json.loads(path.read_text())
    if "benchmarks" not in content:
        return Run(content["medians"], content["ratios"])
    medians = {}
    for entry in content["benchmarks"]:
        engine = entry["extra_info"].get("engine")
        if engine:
            medians.setdefault(entry["group"], {})[engine] = entry["stats"]["median"]
    ratios = {
        group: {engine: value / seconds[OURS] for engine, value in seconds.items() if engine != OURS}
        for group, seconds in medians.items()
        if OURS in seconds
    }
    return Run(medians, ratios)


def show(run):
    """Print the ratios of one run, group by group."""
    rows = []
    for group, ratios in run.ratios.items():
        medians = {what: duration(seconds) for what, seconds in run.medians[group].items()}
        rows += [[group, medians.get(OURS, ""), what, medians.get(what, ""), times(r)] for what, r in ratios.items()]
    print_table(["group", OURS, "compared with, or figure", "its time", "ratio"], rows)


def compare(new, old, tolerance):
    """Print the ratios that fell from the old run to the new by more than the tolerance; return the exit status."""
    before = {(group, what): ratio for group, ratios in old.ratios.items() for what, ratio in ratios.items()}
    now = {(group, what): ratio for group, ratios in new.ratios.items() for what, ratio in ratios.items()}
    common = [key for key in now if key in before]
    if not common:
        print("The two runs have no ratio in common: compare runs of the same tasks, dtype and threads.")
        return 2
    slower = [[*key, times(before[key]), times(now[key])] for key in common if now[key] < before[key] * (1 - tolerance)]
    print(f"\n{len(common)} ratios in both runs; {len(slower)} fell by more than {100 * tolerance:.0f} %")
    if slower:
        print_table(["group", "compared with, or figure", "ratio before", "ratio now"], slower)
    return 1 if slower else 0


# --------------------------------------------------------------------------------------------------------- printing


def heading(text):
    """Print the first line of a section."""
    print(f"\n{text}")


def range_of(values):
    """Return the smallest and the largest of some rates."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


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
