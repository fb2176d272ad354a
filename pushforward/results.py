"""Results of operations, by the client and by a local version alike. Shapes: B rows, D latent dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
IdName: TypeAlias = str | tuple[Any, ...] | None
"""The name of a column or index; of an index of several levels, the names of these."""
SCORE_FIELDS: Final = ("statistic", "draws", "seed", "alpha", "correction", "threshold", "unit")
"""The fields of `ItemScores` that hold for all items, as answers of the service have them, too."""
BOUNDS: Final = ("elbo", "importance_bound")
"""The statistics that are made of latent draws."""
_DEFAULT_DRAWS: Final = 16
"""Draws of versions whose descriptions name none, as in the service."""


@dataclass(frozen=True, slots=True, repr=False)
class ItemScores:
    """Scores of B items, and how they were made."""

    statistic: str
    """The statistic behind `surprise`."""
    draws: int | None
    """Latent draws per item for the bounds; None without bounds."""
    seed: int | None
    """Seed of the draws; None without bounds."""
    alpha: float
    """The share of ordinary items that may be flagged or, with a correction, of flagged items that may be
    ordinary."""
    correction: str
    """The correction of the p-values for the number of items."""
    threshold: float | None
    """The surprise above which items are flagged; None if none was calibrated, or a correction flags none."""
    unit: str
    """The unit of `surprise` and `threshold`."""
    columns: Mapping[str, Doubles]
    """Every score by name, each (B,): the bounds and their terms, and the deterministic statistics."""
    surprise: Doubles
    """The surprise of each item, (B,): the larger, the more anomalous."""
    p_value: Doubles | None
    """The p-value of each item, (B,); None if the statistic is not calibrated."""
    anomaly: NDArray[np.bool_] | None
    """True for the items that are flagged, (B,); None without p-values."""
    ids: NDArray[Any] | None = None
    """The ids of the rows, (B,): the column that `id` named, the index of a DataFrame, or paths of files."""
    id_name: IdName = None
    """The name of that column or index, if it has one."""
    column_p_values: Mapping[str, Doubles] | None = None
    """The p-value of each column of a table by itself, each (B,), NaN where a value is missing; None unless
    asked for."""

    def __len__(self) -> int:
        return len(self.surprise)

    def __repr__(self) -> str:
        found = "no p-values"
        if self.anomaly is not None:
            found = f"{int(self.anomaly.sum())} flagged at alpha {self.alpha:g}"
        return f"<scores of {len(self)} items by {self.statistic}, in {self.unit}: {found}>"

    def table(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name: the p-values and flags if there are any, `surprise`, and the columns.

        With p-values of a table's columns, `odd_column` names the column with the least, and `p_value.NAME`
        has those of the column NAME.
        """
        verdicts = {"p_value": self.p_value, "anomaly": self.anomaly, "odd_column": self.odd_column}
        known = {name: array for name, array in verdicts.items() if array is not None}
        single = {f"p_value.{name}": array for name, array in (self.column_p_values or {}).items()}
        return {**known, "surprise": self.surprise, **self.columns, **single}

    @property
    def odd_column(self) -> NDArray[Any] | None:
        """The column with the least p-value by name, (B,), empty if all are missing; None without them."""
        if self.column_p_values is None:
            return None
        names, p_values = np.array([*self.column_p_values, ""]), np.stack([*self.column_p_values.values()])
        known = np.where(np.isnan(p_values), np.inf, p_values)
        chosen: NDArray[Any] = names[np.where(np.isfinite(known).any(axis=0), known.argmin(axis=0), -1)]
        return chosen

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a DataFrame of B rows, indexed by the ids; pandas has to be installed."""
        import pandas as pd

        index: pd.Index | None = None
        if isinstance(self.id_name, tuple) and self.ids is not None and isinstance(self.ids[0], tuple):
            index = pd.MultiIndex.from_tuples(self.ids, names=self.id_name)
        elif self.ids is not None:
            index = pd.Index(self.ids, name=self.id_name)
        return pd.DataFrame(self.table(), index=index)


def joined_scores(parts: Sequence[ItemScores]) -> ItemScores:
    """Join the scores of consecutive rows, made in the same way."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def whole(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        if isinstance(arrays[0], Mapping):
            return {key: np.concatenate([array[key] for array in arrays]) for key in arrays[0]}
        return None if arrays[0] is None else np.concatenate(arrays)

    names = ("columns", "surprise", "p_value", "anomaly", "column_p_values")
    return replace(first, **{name: whole(name) for name in names})


def most_draws(described: Mapping[str, Any]) -> int:
    """Return the most draws that a score of a described version takes if the request names none."""
    calibrated = (described["calibration"] or {}).get("statistics", {}).values()
    return max(_DEFAULT_DRAWS, *(how.get("draws") or 0 for how in (described["defaults"] or {}, *calibrated)))


def draws_of(statistic: str | None, draws: int | None, most: int) -> int:
    """Return the draws that a score with these options takes at most; 1 for a statistic without noise.

    `most` are those of the version, by `most_draws`.
    """
    return draws or most if statistic in (None, *BOUNDS) else 1


class Encoding(NamedTuple):
    """The posteriors of B items, or a GAN's latents that come nearest to them."""

    mean: Floats
    """Posterior means, (B, D)."""
    log_variance: Floats | None
    """Log-variances of the posteriors, (B, D); None for a GAN."""
    ids: NDArray[Any] | None = None
    """The ids of the rows, (B,), as those of `ItemScores`."""
    id_name: IdName = None
    """The name of the column or index that they are from, if it has one."""


class Interpolation(NamedTuple):
    """The samples on a path between two points, and their latents."""

    samples: Floats
    """(steps, *item)."""
    latents: Floats
    """(steps, D)."""


class Judgement(NamedTuple):
    """The judgement of a GAN's discriminator on B items, each array (B,)."""

    logit: Doubles
    probability: Doubles
    """The probability that the item is real."""
    log_density_ratio: Doubles | None
    """An estimate of log p_data(x) / p_G(x); None if the objective of the GAN gives none."""
    ids: NDArray[Any] | None = None
    """The ids of the rows, (B,), as those of `ItemScores`."""
    id_name: IdName = None
    """The name of the column or index that they are from, if it has one."""
