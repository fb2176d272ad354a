"""Answers of operations as arrays and results. Shapes: B rows, D latent dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pushforward.client.npy import from_npy
from pushforward.client.wire import HttpAnswer
from pushforward.results import SCORE_FIELDS, Floats, ItemScores

Columns: TypeAlias = dict[str, NDArray[Any]]
"""Arrays (B,) by name."""
_NULL_IN_SOME_ROWS: Final = "importance_bound_standard_error"
"""The score that is there also if all of these rows have none, since others may."""


def array_of(answer: HttpAnswer) -> Floats:
    """Return the array of an npy answer."""
    return from_npy(answer.body)


def encoding_of(answer: HttpAnswer) -> tuple[Floats, Floats | None]:
    """Return the means and log-variances (B, D) of an answer."""
    document = answer.document()
    variance = document["log_variance"]
    mean = np.array(document["mean"], np.float32)
    return mean, None if variance is None else np.array(variance, np.float32)


def judgements_of(answer: HttpAnswer) -> Columns:
    """Return the columns of an answer of `discriminate`."""
    return _columns(answer.document()["scores"])


def _columns(scores: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the fields of all scores by name, each (B,), with NaN for null.

    A field that the version, the statistic or the draws do not give, which is null in every row, is left out.
    """
    columns = {name: [score[name] for score in scores] for name in scores[0]}
    return {
        name: np.array(values, bool if isinstance(values[0], bool) else np.float64)
        for name, values in columns.items()
        if name == _NULL_IN_SOME_ROWS or any(value is not None for value in values)
    }


def joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Columns:
    """Join the rows of parts that have the same columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def item_scores_of(answer: HttpAnswer) -> ItemScores:
    """Return the scores of an answer."""
    document = answer.document()
    scores = document["scores"]
    single = [score.pop("columns", None) for score in scores]
    columns = _columns(scores)
    return ItemScores(
        **{name: document[name] for name in SCORE_FIELDS},
        surprise=columns.pop("surprise"),
        p_value=columns.pop("p_value", None),
        anomaly=columns.pop("anomaly", None),
        columns=columns,
        column_p_values=None if single[0] is None else _column_p_values(single),
    )


def _column_p_values(single: Sequence[Mapping[str, float | None]]) -> Columns:
    """Return the p-values of columns of rows by column, each (B,); those that are null are NaN."""
    return {name: np.array([row[name] for row in single], np.float64) for name in single[0]}
