"""``fastnn info``: this installation, or a saved network."""

from __future__ import annotations

import argparse

from ..build_info import show_config
from ..layers import Standardize
from .console import Output
from .encoding import Encoding
from .predict import load_model
from .tables import listed

__all__ = ["run_info"]


def run_info(args: argparse.Namespace) -> int:
    """Describe the installation or a saved network; returns the exit code."""
    if args.model is None:
        show_config()
        return 0
    net, metadata = load_model(args.model)
    out = Output(quiet=False)
    out.line(net.summary())
    if "task" not in metadata:
        for name, value in metadata.items():
            out.line(f"{name:<16}{value!s:.100}".replace("\n", " "))
        return 0
    encoding = Encoding.from_metadata(args.model, net, metadata)
    out.line()
    facts = [["task", encoding.task], ["target", encoding.target or "-"]]
    if encoding.classes is not None:
        facts.append(["classes", f"{len(encoding.classes)}: {listed(encoding.classes, 12)}"])
    features = f": {listed(encoding.features)}" if encoding.features else ""
    facts.append(["features", f"{net.input_size}{features}"])
    outside = encoding.scaling is not None and encoding.scaling.mean is not None
    standardised = outside or isinstance(net.layers[0], Standardize)
    facts.append(["inputs", "standardised" if standardised else "as they are"])
    training = metadata.get("training")
    if isinstance(training, dict):
        facts.append(["trained on", ", ".join(f"{key} {value}" for key, value in training.items())])
    for name, value in facts:
        out.line(f"{name:<16}{value}".replace("\n", " "))
    return 0
