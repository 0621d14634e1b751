"""Tables for the tests of the command line."""

import csv
import re

import numpy as np


def table(text):
    """The rows of the result table: {"test": [numbers]}."""
    return {
        line.split()[0]: [float(number) for number in re.findall(r"-?\d+\.\d+", line)]
        for line in text.splitlines()
        if line.split()[:1] in (["train"], ["test"])
    }


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def flowers(n=60, seed=0):
    """A small table with two easy classes: header, rows."""
    rng = np.random.default_rng(seed)
    rows = [[f"{rng.normal(3 * (i % 2)):.4f}", f"{rng.normal():.4f}", 7, ["no", "yes"][i % 2]] for i in range(n)]
    return ["length", "width", "constant", "blooms"], rows


def line_data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-5, 5, (n, 2))
    y = 1e4 + 1e3 * (x[:, 0] - 0.5 * x[:, 1])
    return ["a", "b", "price"], [[f"{a:.6f}", f"{b:.6f}", f"{p:.4f}"] for (a, b), p in zip(x, y, strict=True)]
