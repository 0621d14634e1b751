"""Multi-layer perceptrons of scikit-learn as fastnn's, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..files import need
from ..sequential import Sequential
from .pipelines import converted, is_pipeline
from .steps import Affine, find_network, into_products, steps_of

__all__ = ["from_sklearn", "to_sklearn"]

LOSSES = {
    "cross_entropy": "log_loss",
    "binary_cross_entropy": "log_loss",
    "squared_error": "squared_error",
    "poisson": "poisson",
}
OUTPUTS = {"softmax": "softmax", "sigmoid": "logistic", "exp": "exp", "identity": "identity"}
ACTIVATIONS = {"linear": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
FITTED = (
    *("n_features_in_", "feature_names_in_", "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "classes_"),
    *("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"),
)


def from_sklearn(estimator: object) -> Any:
    """scikit-learn's ``MLPClassifier`` or ``MLPRegressor`` as fastnn's, with its parameters, fitted if it is.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor, or a Pipeline that ends in one

    Returns
    -------
    fastnn.MLPClassifier or fastnn.MLPRegressor, or a Pipeline that ends in one
        It predicts the same; `partial_fit` and ``warm_start`` continue with a fresh state of the optimizer.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        If it is another estimator.
    """
    sklearn = need("sklearn.neural_network", "from_sklearn", '"fastnn[sklearn]"')
    from .. import estimators

    if is_pipeline(estimator):
        return converted(estimator, from_sklearn)
    if isinstance(estimator, sklearn.MLPClassifier):
        cls: Any = estimators.MLPClassifier
    elif isinstance(estimator, sklearn.MLPRegressor):
        cls = estimators.MLPRegressor
    else:
        raise TypeError(f"expected scikit-learn's MLPClassifier or MLPRegressor, got {type(estimator).__name__}")
    ours = cls(**estimator.get_params(deep=False))
    if not hasattr(estimator, "coefs_"):
        return ours
    fitted = {name: value for name, value in vars(estimator).items() if name in FITTED}
    if "classes_" in fitted:
        several = fitted["out_activation_"] == "logistic" and fitted["n_outputs_"] > 1
        ours._kind = "multilabel" if several else "multiclass" if fitted["n_outputs_"] > 1 else "binary"
        ours._sparse_labels = bool(estimator._label_binarizer.sparse_input_)
    ours.__dict__.update(fitted, _waited=0)
    ours.network_ = Sequential(
        ours._layers(fitted["n_features_in_"], fitted["n_outputs_"]),
        input_size=fitted["n_features_in_"],
        loss=ours._loss(),
        dtype=estimator.coefs_[0].dtype,
        seed=0,
    )
    ours.coefs_, ours.intercepts_ = estimator.coefs_, estimator.intercepts_
    return ours


def to_sklearn(model: object) -> Any:
    """A network or a fitted estimator as scikit-learn's ``MLPClassifier`` or ``MLPRegressor``.

    Parameters
    ----------
    model : Sequential, estimator or a Pipeline that ends in an estimator
        With one activation of linear, sigmoid, tanh and relu in all hidden layers; batch norm, ``Standardize`` and
        `input_scale` are folded into the weights, dropout is left out. The loss is a cross-entropy, squared_error or
        poisson.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor, or a Pipeline that ends in one
        Fitted: it predicts the same; the other steps of a Pipeline are copied. A search stands for its best estimator.
        The classes of a Sequential are its ``classes_``, or 0 to K − 1.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError, TypeError
        If the model is none of fastnn's or not fitted, or has something without a counterpart.
    """
    model = getattr(model, "best_estimator_", model)
    if is_pipeline(model):
        return converted(model, to_sklearn)
    net, estimator = find_network(model)
    sklearn = need("sklearn.neural_network", "to_sklearn", '"fastnn[sklearn]"')
    from sklearn.preprocessing import LabelBinarizer

    if net.loss_name not in LOSSES:
        raise ValueError(f"scikit-learn has no counterpart of the loss {net.loss_name!r}")
    steps = steps_of(net)
    *hidden, last = products = into_products(steps, "scikit-learn")
    activations = {product.activation.name for product in hidden} or {"relu"}
    if len(activations) != 1 or last.activation.name != "linear" or not activations <= ACTIVATIONS.keys():
        found = ", ".join(product.activation.name for product in products)
        raise ValueError(
            "scikit-learn has one activation (identity, logistic, tanh or relu) in all hidden layers and none in the "
            f"last, got {found}"
        )
    W, b = [product.W for product in products], [product.b for product in products]
    classes = getattr(net if estimator is None else estimator, "classes_", None)
    k = net.n_outputs
    if net.loss_function.couples_outputs and k == 2:  # one logit: the difference of the two
        W[-1], b[-1], k = W[-1][:, 1:] - W[-1][:, :1], b[-1][1:] - b[-1][:1], 1
    shared: dict[str, Any] = {"hidden_layer_sizes": tuple(w.shape[1] for w in W[:-1]), "activation": None}
    shared["activation"] = ACTIVATIONS[activations.pop()]
    cls: Callable[..., Any] = sklearn.MLPRegressor
    if net.loss_function.classifies:
        cls = sklearn.MLPClassifier
    else:
        shared["loss"] = LOSSES[net.loss_name]
    result = cls(**shared)
    if estimator is not None:
        mine = {name: value for name, value in estimator.get_params(deep=False).items() if name not in shared}
        theirs = {name: mine[name] for name in result.get_params() if name in mine}
        known = {"solver": ("lbfgs", "sgd", "adam"), "learning_rate": ("constant", "invscaling", "adaptive")}
        for name, values in known.items():  # what only fastnn has stays at scikit-learn's default
            if not (isinstance(theirs.get(name), str) and theirs[name] in values):
                theirs.pop(name, None)
        result.set_params(**theirs)
        for name in FITTED:
            if name in vars(estimator):
                setattr(result, name, vars(estimator)[name])
    # Where a scaled input was folded in, float32 may not tell its large values apart.
    dtype = np.float64 if isinstance(steps[0], Affine) else net.dtype
    result.coefs_, result.intercepts_ = [w.astype(dtype) for w in W], [v.astype(dtype) for v in b]
    result.n_layers_, result.n_outputs_, result.n_features_in_ = len(W) + 1, k, net.input_size
    link = net.loss_function.inverse_link
    result.out_activation_ = "logistic" if k == 1 and net.loss_function.classifies else OUTPUTS[link]
    if net.loss_function.classifies:
        several = link == "sigmoid" and k > 1
        if classes is None:
            classes = np.arange(max(k, 2) if not several else k)
        binarizer = LabelBinarizer().fit(np.eye(k, dtype=np.int64) if several else classes)
        result._label_binarizer, result.classes_ = binarizer, classes
    for name, value in (
        *(("n_iter_", 0), ("t_", 0), ("loss_curve_", []), ("best_loss_", np.inf), ("validation_scores_", None)),
        *(("best_validation_score_", None), ("_no_improvement_count", 0)),
    ):
        if not hasattr(result, name):
            setattr(result, name, value)
    return result
