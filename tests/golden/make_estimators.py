"""Files of estimators as fastnn 0.1.0 wrote them before estimators and checkpoints had one JSON form (commit b1bf2a4).

Run with that version installed: ``python make_estimators.py``. It writes estimator_NAME_0.1.safetensors and their
predictions, estimators_0.1.json, beside this file.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

import fastnn as fnn

FOLDER = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).round(3)
    y = np.digitize(X @ [1.0, -2.0, 0.5], [-0.7, 0.7])
    options = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0, "n_iter_no_change": np.inf}
    schedule = fnn.AdamW(fnn.CosineDecay(0.05, 40))
    models = {
        "binary": (fnn.MLPClassifier(**options, early_stopping=True), y > 0),
        "names": (
            fnn.MLPClassifier(**options, optimizer=schedule, class_weight={"a": 2.0, "b": 1.0}),
            np.array(["a", "b", "c"], dtype=object)[y],
        ),
        "labels": (fnn.MLPClassifier(**options), np.c_[y == 1, y > 0].astype(int)),
        "softmax": (fnn.SoftmaxRegression(max_iter=5), y - 1),
        "regressor": (fnn.MLPRegressor(**options), X @ [1.0, -2.0, 0.5]),
        "linear": (fnn.LinearRegression(0.1), X @ [1.0, -2.0, 0.5]),
    }
    expected = {}
    for name, (model, targets) in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, targets)
        model.save(FOLDER / f"estimator_{name}_0.1.safetensors")
        expected[name] = {"class": type(model).__name__, "predicted": model.predict(X[:9]).tolist()}
        if hasattr(model, "classes_"):
            expected[name]["dtype"] = model.classes_.dtype.str
            expected[name]["classes"] = model.classes_.tolist()
    text = json.dumps({"X": X[:9].tolist(), "models": expected})
    (FOLDER / "estimators_0.1.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
