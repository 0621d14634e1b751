"""From a table as it comes to the numbers that a network takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._typing import JSON, ArrayLike
from ..checks import check_dtype, check_flag, check_integer, check_sample_weight
from .columns import Column, as_kind, column_of, n_rows_of, names_of, recognise
from .encodings import Codes, Dates, Encoding, Numeric, OneHot

__all__ = ["TableEncoder"]

_KINDS = ("numeric", "categorical", "date", "drop")
_SCALINGS = ("robust", "standard", "quantile", "none")


class TableEncoder(TransformerMixin, BaseEstimator):
    """Encode a table of numbers, texts, categories and dates, with missing values, as numbers for a network.

    A transformer of scikit-learn. What a column holds is recognised from its dtype and its values: numbers (texts that
    are all numbers too), dates (datetimes, ISO 8601), else categories (text, pandas' and polars' categories, True and
    False). Constant columns and ids are left out, and named in ``notes_``. The same values of another dtype, columns
    in another order and columns that were not there give the same result.

    Numbers, by default: with the median m and q, the distance of the quartiles (half the range where that is 0; 0 for a
    constant), z = (x − m)/q becomes z/√(1 + (z/3)²), between −3 and 3. A missing value gives 0.

    Categories: one column each, 0 or 1; two categories share one column, −1 and 1. Missing and unseen ones give zeros.

    Dates: days since 1970, scaled as numbers are; month, day of the week, day of the year and hour as sine and cosine,
    where they vary.

    Where values were missing in the rows learnt from, another column says where they are (1).

    Parameters
    ----------
    numeric : {"robust", "standard", "quantile", "none"}, default="robust"
        Scaling of numbers: as above; (x − mean)/deviation; quantiles to those of a normal; or as they are.
    embed_above : int, optional
        A column with more categories than this becomes one column of codes, for an embedding: 1, 2, …; 0 is missing or
        unseen. None: none does.
    integer_categories : int, default=0
        Whole numbers with at most so many different values are categories.
    kinds : dict of str, optional
        What columns hold, by name (or place, in a table without names), where it shall not be recognised: "numeric",
        "categorical", "date", or "drop".
    missing_indicator : bool, default=True
        Whether columns say where values are missing.
    dtype : {"float32", "float64"}, default="float32"
        Of the result.

    Attributes
    ----------
    encodings_ : tuple of Encoding
        What was learnt, one of each column that is used.
    notes_ : list of str
        Which columns are left out, and why.
    cardinalities_ : dict of int
        Of each column of codes, by its place in the result: the number of codes, 0 included.
    n_features_in_ : int
    feature_names_in_ : numpy.ndarray
        Only if the table had names.

    Notes
    -----
    Rows of weight 0 do not count, and whole weights count rows as often. Everything is deterministic.

    References
    ----------
    Holzmüller, D., Grinsztajn, L., Steinwart, I. (2024). Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data. *NeurIPS*. arXiv:2407.04491.

    Examples
    --------
    >>> import fastnn as fnn
    >>> import numpy as np
    >>> X = np.array([[1.0, "red"], [3.0, "blue"], [None, "red"], [2.0, "green"]], dtype=object)
    >>> encoder = fnn.TableEncoder()
    >>> encoder.fit_transform(X).round(2)
    array([[-0.95,  0.  ,  0.  ,  0.  ,  1.  ],
           [ 0.95,  0.  ,  1.  ,  0.  ,  0.  ],
           [ 0.  ,  1.  ,  0.  ,  0.  ,  1.  ],
           [ 0.  ,  0.  ,  0.  ,  1.  ,  0.  ]], dtype=float32)
    >>> list(encoder.get_feature_names_out())
    ['x0', 'x0_missing', 'x1_blue', 'x1_green', 'x1_red']
    """

    encodings_: tuple[Encoding, ...]
    notes_: list[str]
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        *,
        numeric: str = "robust",
        embed_above: int | None = None,
        integer_categories: int = 0,
        kinds: Mapping[str | int, str] | None = None,
        missing_indicator: bool = True,
        dtype: str = "float32",
    ) -> None:
        self.numeric = numeric
        self.embed_above = embed_above
        self.integer_categories = integer_categories
        self.kinds = kinds
        self.missing_indicator = missing_indicator
        self.dtype = dtype

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn kinds, scales and categories from the rows of a table.

        Parameters
        ----------
        X : table (N, D)
            A DataFrame of pandas or polars, a table of pyarrow, or an array of numbers or objects.
        y : ignored
        sample_weight : array_like (N,), optional

        Returns
        -------
        TableEncoder
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the table does not fit; the message names the column.
        TypeError
            If X is sparse, or has values that are neither numbers nor text nor dates.
        """
        self._check_parameters()
        names, n_rows = self._check_table(X)
        kinds = self._named_kinds(names)
        check_sample_weight(sample_weight, n_rows, np.dtype(np.float64))
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        keep = None if weight is None or (weight > 0.0).all() else weight > 0.0
        encodings: list[Encoding] = []
        notes: list[str] = []
        for index, name in enumerate(names):
            column = column_of(X, name, index)
            if keep is not None:
                column = column._replace(values=column.values[keep])
            encoding = self._fit_column(
                column, weight if keep is None or weight is None else weight[keep], kinds, notes
            )
            if encoding is not None:
                encodings.append(encoding)
        if not encodings:
            raise ValueError(f"X: no column is left (n_samples = {n_rows}): " + "; ".join(notes))
        self.encodings_, self.notes_ = tuple(encodings), notes
        self.n_features_in_ = len(names)
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        if _has_names(X):
            self.feature_names_in_ = np.array(names, dtype=object)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : table (N, D)
            With the columns of the table that it was fitted to, found by name where both have names.

        Returns
        -------
        numpy.ndarray, shape (N, number of encoded columns)
            Of `dtype`; a DataFrame after ``set_output(transform="pandas")``.

        Raises
        ------
        ValueError
            If a column is missing, or a value is not of its column's kind.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        columns = self._columns_of(X)
        parts = [encoding.transform(column) for encoding, column in zip(self.encodings_, columns, strict=True)]
        with np.errstate(over="ignore"):
            result = np.concatenate(parts, axis=1).astype(self.dtype)
        if not np.isfinite(result).all():
            row, place = np.argwhere(~np.isfinite(result))[0]
            raise ValueError(
                f"X: row {row} is beyond {self.dtype} in {self.get_feature_names_out()[place]!r} (infinity)"
            )
        return result

    def unseen(self, X: Any) -> dict[str, int]:
        """How many rows of each column have a category that was not there in `fit`; only columns with such rows."""
        pairs = zip(self.encodings_, self._columns_of(X), strict=True)
        counts = {encoding.name: encoding.unseen(as_kind(column, encoding.kind)) for encoding, column in pairs}
        return {name: count for name, count in counts.items() if count}

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Names of the encoded columns; `input_features` only checks, as in scikit-learn."""
        check_is_fitted(self)
        if input_features is not None:
            given = [str(name) for name in np.asarray(input_features, dtype=object)]
            if len(given) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), got "
                    f"{len(given)}"
                )
            if hasattr(self, "feature_names_in_") and given != list(self.feature_names_in_):
                raise ValueError("input_features is not equal to feature_names_in_")
        return np.array([name for encoding in self.encodings_ for name in encoding.all_names()], dtype=object)

    @property
    def cardinalities_(self) -> dict[int, int]:
        """Number of codes of each column of codes, by its place in the result."""
        check_is_fitted(self)
        place, found = 0, {}
        for encoding in self.encodings_:
            if isinstance(encoding, Codes):
                found[place] = len(encoding.categories) + 1
            place += len(encoding.all_names())
        return found

    def to_dict(self) -> JSON:
        """Parameters and what was learnt, as JSON can hold it; :meth:`from_dict` gives the encoder back."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return {
            "parameters": {**self.get_params(), "kinds": None if self.kinds is None else list(self.kinds.items())},
            "n_features": self.n_features_in_,
            "feature_names": None if names is None else [str(name) for name in names],
            "encodings": [encoding.to_json() for encoding in self.encodings_],
            "notes": list(self.notes_),
        }

    @classmethod
    def from_dict(cls, state: JSON) -> TableEncoder:
        """An encoder from what :meth:`to_dict` gave.

        Raises
        ------
        ValueError
            If the state does not describe an encoder; nothing is built then.
        """
        from .state import encoder_state

        parameters, n_features, names, encodings, notes = encoder_state(state)
        encoder = cls(**parameters)
        encoder._check_parameters()
        encoder.encodings_, encoder.notes_, encoder.n_features_in_ = encodings, notes, n_features
        if names is not None:
            encoder.feature_names_in_ = np.array(names, dtype=object)
        return encoder

    def _check_parameters(self) -> None:
        if self.numeric not in _SCALINGS:
            raise ValueError(f"numeric: expected one of {', '.join(_SCALINGS)}, got {self.numeric!r}")
        if self.embed_above is not None:
            check_integer("embed_above", self.embed_above, minimum=0)
        check_integer("integer_categories", self.integer_categories, minimum=0)
        check_flag("missing_indicator", self.missing_indicator)
        check_dtype(self.dtype)

    def _named_kinds(self, names: list[str]) -> dict[str, str]:
        """`kinds` by the names of the columns."""
        if self.kinds is None:
            return {}
        if not isinstance(self.kinds, Mapping):
            raise TypeError(f"kinds: expected a dict from columns to kinds, got {type(self.kinds).__name__}")
        found = {}
        for key, kind in self.kinds.items():
            name = names[key] if isinstance(key, int) and 0 <= key < len(names) else key
            if name not in names:
                raise ValueError(f"kinds: no column {key!r}; the columns are {', '.join(names):.200}")
            if kind not in _KINDS:
                raise ValueError(f"kinds: expected one of {', '.join(_KINDS)} for column {key!r}, got {kind!r}")
            found[str(name)] = kind
        return found

    def _fit_column(
        self, column: Column, weight: np.ndarray | None, kinds: dict[str, str], notes: list[str]
    ) -> Encoding | None:
        """What one column teaches; None, and a note, where it is left out."""
        kind, why = (kinds[column.name], "is dropped") if column.name in kinds else recognise(column)
        if kind in ("id", "constant", "drop"):
            notes.append(f"column {column.name!r} {why}: it is left out")
            return None
        if kind == "numeric" and column.name not in kinds and self.integer_categories:
            numbers = as_kind(column, "numeric").values
            present = numbers[~np.isnan(numbers)]
            if (present % 1.0 == 0.0).all() and len(np.unique(present)) <= self.integer_categories:
                kind = "categorical"
        if kind == "numeric":
            return Numeric.fit(as_kind(column, "numeric"), weight, self.numeric, self.missing_indicator)
        if kind == "date":
            return Dates.fit(as_kind(column, "date"), weight, self.numeric, self.missing_indicator)
        column = as_kind(column, "categorical")
        categories = tuple(sorted({value for value in column.values.tolist() if value is not None}))
        indicator = self.missing_indicator and bool(column.missing().any())
        if self.embed_above is not None and len(categories) > self.embed_above:
            return Codes(column.name, False, categories)  # code 0 tells
        return OneHot(column.name, indicator, categories)

    def _check_table(self, X: Any) -> tuple[list[str], int]:
        if hasattr(X, "tocsr"):
            raise TypeError("X: expected a table, got a sparse one; sparse input is not supported, use X.toarray()")
        if not hasattr(X, "shape") and not hasattr(X, "columns"):
            X = np.asarray(X, dtype=object)
        names, n_rows = names_of(X), n_rows_of(X)
        if n_rows == 0 or not names:
            what = "sample(s)" if n_rows == 0 else "feature(s)"
            shape = (n_rows, len(names))
            raise ValueError(f"X: Found array with 0 {what} (shape={shape}) while a minimum of 1 is required.")
        return names, n_rows

    def _columns_of(self, X: Any) -> list[Column]:
        """The columns that the encodings read, in their order."""
        check_is_fitted(self)
        names, _ = self._check_table(X)
        fitted = getattr(self, "feature_names_in_", None)
        if fitted is not None and _has_names(X):
            missing = [encoding.name for encoding in self.encodings_ if encoding.name not in names]
            if missing:
                raise ValueError(f"X: {len(missing)} missing column(s): {', '.join(missing):.200}")
            return [column_of(X, encoding.name, names.index(encoding.name)) for encoding in self.encodings_]
        if len(names) != self.n_features_in_:
            raise ValueError(
                f"X has {len(names)} features, but TableEncoder is expecting {self.n_features_in_} features as input"
            )
        if fitted is not None:
            warnings.warn(
                "X does not have valid feature names, but TableEncoder was fitted with feature names", stacklevel=3
            )
        elif _has_names(X):
            warnings.warn("X has feature names, but TableEncoder was fitted without feature names", stacklevel=3)
        order = list(fitted) if fitted is not None else [f"x{i}" for i in range(self.n_features_in_)]
        places = {str(name): i for i, name in enumerate(order)}
        found = []
        for encoding in self.encodings_:
            index = places[encoding.name]
            found.append(column_of(X, names[index], index)._replace(name=encoding.name))
        return found


def _has_names(X: Any) -> bool:
    """Whether the columns have names, all of them text."""
    names = getattr(X, "column_names", None)
    names = getattr(X, "columns", None) if names is None else names
    return names is not None and all(isinstance(name, str) for name in names)
