"""scikit-learn estimators on fastnn's networks: change one import line, and a pipeline runs on.

They follow scikit-learn 1.9's ``sklearn.neural_network``: names, order, defaults and meaning of the parameters,
attributes, methods and warnings; from the same ``random_state`` they draw the same initial weights, the same order of
the rows and the same validation rows, and end, in float64, at the same weights to rounding. docs/scikit-learn.md lists
what differs, and what there is more.
"""

from __future__ import annotations

try:
    import sklearn
except ImportError as error:
    raise ImportError('fastnn\'s estimators need scikit-learn: pip install "fastnn[sklearn]"') from error

if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
    raise ImportError(f"fastnn's estimators need scikit-learn 1.7 or later, got {sklearn.__version__}")

from ..names import listing
from ._linear import LinearRegression, SoftmaxRegression
from ._mlp import MLPClassifier, MLPRegressor

__all__ = ["LinearRegression", "MLPClassifier", "MLPRegressor", "SoftmaxRegression"]
__dir__ = listing(__all__)
