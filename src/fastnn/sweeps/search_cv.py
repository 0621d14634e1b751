"""``fnn.SweepSearchCV``: a search behind scikit-learn's interface, on worker threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

try:
    import joblib
    from sklearn.model_selection._search import BaseSearchCV
except ImportError as error:
    raise ImportError('SweepSearchCV needs scikit-learn: pip install "fastnn[sklearn]"') from error

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from .._core.threads import blas_held_to_one_thread, blas_threads
from .._typing import ArrayLike, Data, Options
from ..names import listing
from .space import settings_of

__all__ = ["SweepSearchCV"]
__dir__ = listing(__all__)


class SweepSearchCV(BaseSearchCV):
    """Search of hyper-parameters by cross-validation, with scikit-learn's interface and attributes.

    What ``GridSearchCV`` and ``RandomizedSearchCV`` do, on the threads of one process: fastnn's estimators release the
    GIL while they train, each on one thread, so that nothing is copied or sent to other processes.
    In a Pipeline the steps before the last are fitted once for each fold and setting of their own.

    Parameters
    ----------
    estimator : estimator
        Of fastnn, or any other; a Pipeline.
    space : dict, or list of dict
        Lists and distributions by name of parameter, as for :func:`fastnn.sweep`; a list holds several such spaces.
    n_iter : int, optional
        Draws; None takes the whole grid. Of a list of spaces, each draw is from one of them, at random; lists alone are
        drawn from without replacement.
    cv, scoring, refit, error_score, return_train_score
        As for ``sklearn.model_selection.GridSearchCV``: any splitter; one scorer or several; the name by which to
        refit, or a function.
    n_threads : int, optional
        Workers; None is the current limit of the BLAS libraries.
    verbose : int, default=0
    random_state : int, RandomState or None, default=None
        Of the draws.

    Attributes
    ----------
    cv_results_, best_estimator_, best_params_, best_score_, best_index_, n_splits_, scorer_, refit_time_, ...
        As scikit-learn's searches have them.

    Notes
    -----
    Weights, ``fit(X, y, sample_weight=...)``, go to each fit, and with scikit-learn 1.9 to the scorers that take them.
    :func:`fastnn.sweep` has what scikit-learn's interface has no place for: curves, patience, halving by epochs,
    checkpoints.

    Examples
    --------
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_iris()[:2]
    >>> space = {"alpha": fnn.LogUniform(1e-5, 1e-1), "hidden_layer_sizes": [(8,), (16,)]}
    >>> estimator = fnn.MLPClassifier(learning_rate_init=0.02, max_iter=60, n_iter_no_change=60, random_state=0)
    >>> search = fnn.SweepSearchCV(estimator, space, n_iter=4, cv=3, random_state=0)
    >>> len(search.fit(X, y).cv_results_["params"])
    4
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSearchCV._parameter_constraints,
        "space": [dict, list],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    # Parameters of the base class; here joblib's configuration, which `fit` sets, decides.
    n_jobs = None
    pre_dispatch = "2*n_jobs"

    def __init__(
        self,
        estimator: Any,
        space: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int | None = None,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.n_iter = n_iter
        self.scoring = scoring
        self.refit = refit
        self.cv = cv
        self.verbose = verbose
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.n_threads = n_threads
        self.random_state = random_state

    def fit(self, X: Data, y: ArrayLike | None = None, **params: Any) -> Self:
        """Search, and refit the best.

        Parameters
        ----------
        X : array_like (N, D)
        y : array_like
        **params
            Such as `sample_weight` and `groups`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit, the space is empty, or all fits failed.
        """
        self._validate_params()  # before the workers are made
        given = self.estimator
        cached = isinstance(given, Pipeline) and given.memory is None
        if cached:
            self.estimator = Pipeline(given.steps, memory=_FittedOnce(), verbose=given.verbose)
            if "transform_input" in given.get_params(deep=False):
                self.estimator.set_params(transform_input=given.transform_input)
        try:
            with (
                blas_held_to_one_thread(),
                joblib.parallel_config(backend="threading", n_jobs=self.n_threads or blas_threads()),
            ):
                super().fit(X, y, **params)
        finally:
            self.estimator = given
        if cached and hasattr(self, "best_estimator_"):
            self.best_estimator_.set_params(memory=None)
        return self

    def _run_search(self, evaluate_candidates: Callable[[list[Options]], Any]) -> None:
        evaluate_candidates(self._candidates())

    def _candidates(self) -> list[Options]:
        # A Generator on the RandomState's own stream.
        generator = np.random.Generator(check_random_state(self.random_state)._bit_generator)
        spaces = [self.space] if isinstance(self.space, Mapping) else list(self.space)
        if len(spaces) == 1:
            return settings_of(spaces[0], self.n_iter, generator)
        if not spaces:
            raise ValueError("space: expected at least one space, got an empty list")
        drawn = self.n_iter is not None and any(hasattr(v, "rvs") for space in spaces for v in space.values())
        if drawn:
            assert self.n_iter is not None
            picks = generator.integers(len(spaces), size=self.n_iter)
            return [settings_of(spaces[pick], 1, generator)[0] for pick in picks]
        every = [setting for space in spaces for setting in settings_of(space, None, generator)]
        return settings_of(every, self.n_iter, generator)


class _FittedOnce:
    """A memory for a Pipeline, within the process: equal steps on equal rows are fitted once."""

    location = "memory"  # not None: the Pipeline clones a step before it is fitted

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, tuple[threading.Lock, list[Any]]] = {}

    def __deepcopy__(self, memo: object) -> Self:
        return self  # clones of the Pipeline share it

    def cache(self, function: Callable[..., Any], ignore: Sequence[str] = ()) -> Callable[..., Any]:
        """The function, with results that are kept."""

        def call(*args: Any, **kwargs: Any) -> Any:
            counted = {name: value for name, value in kwargs.items() if name not in ignore}
            try:
                key = joblib.hash((args, counted))
            except Exception:  # what cannot be pickled cannot be recognised
                return function(*args, **kwargs)
            with self._lock:
                lock, found = self._results.setdefault(key, (threading.Lock(), []))
            with lock:
                if not found:
                    found.append(function(*args, **kwargs))
            return found[0]

        return call
