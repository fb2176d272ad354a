"""The call and the result of every operation. Shapes: B rows, D latent; items as the manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, NamedTuple

from numpy.typing import NDArray

from service.api.operations.labels import labels_of
from service.api.operations.options import Options, RowLabelOptions
from service.media import codecs
from service.numerics.noise import Arrays, Floats
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings


class RowIds(NamedTuple):
    """The column of a table that tells its rows apart, and that no model sees."""

    name: str
    values: Sequence[Any]
    """(B,), as they came."""


@dataclass(slots=True)
class Call(Generic[Options]):
    """One call of an operation: its options, and its arrays by name, whose shapes are checked."""

    loaded: LoadedModel
    options: Options
    arrays: Mapping[str, NDArray[Any]]
    settings: Settings
    timing: Timing
    ids: RowIds | None = None
    """The ids of the rows, which are answered beside them."""
    conversions: Sequence[Sequence[str]] | None = None
    """For each row, what was done to its picture; None if no pictures came, or the version has no rule."""

    def items(self) -> Floats:
        """Return the array `inputs`, (B, *item). Raises Unfit if a value is outside the model's support."""
        manifest, items = self.loaded.manifest, self.arrays["inputs"]
        codecs.check_support(
            items, manifest.support, "inputs", manifest.columns, takes_missing=manifest.takes_missing
        )
        return items

    def classes(self, rows: int) -> Arrays:
        """Return the classes of so many rows as graphs take them: (B, C) one-hot, or nothing without classes.

        Raises:
            Unfit: the version needs labels and none came, or it has no such class, or takes none.
        """
        options = self.options if isinstance(self.options, RowLabelOptions) else RowLabelOptions()
        return self.loaded.one_hot(labels_of(self.loaded.manifest, options, rows), rows)

    def latents(self) -> Floats:
        """Return the array `latents`, (B, D). Raises Unfit if a value is not finite."""
        latents = self.arrays["latents"]
        codecs.check_support(latents, "latent", "latents")
        return latents


class Result(NamedTuple):
    """The result of an operation."""

    arrays: Mapping[str, NDArray[Any] | None]
    """Arrays of B rows by name; None where this version or these options give none."""
    fields: Mapping[str, Any] = MappingProxyType({})
    """Values that hold for all rows, by name."""
    anomalies: int = 0
    """Number of rows flagged as anomalies."""
    p_values: Sequence[float] = ()
    """The p-value of each row, if the scores are calibrated."""
