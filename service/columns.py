"""The columns of a table: what the features of an item mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Column(BaseModel):
    """A column of a table: a number, or one of several categories, one-hot."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    categories: tuple[str, ...] = ()
    """Empty for a number; else the column is as many features, of which one is 1 and the others are 0."""

    @property
    def features(self) -> int:
        """How many features of an item the column takes."""
        return len(self.categories) or 1

    @model_validator(mode="after")
    def _names_each_category_once(self) -> Self:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"column {self.name} names a category twice")
        return self


def column_places(columns: Sequence[Column]) -> Iterator[tuple[Column, slice]]:
    """Each column of a table, and where its features lie in an item."""
    start = 0
    for column in columns:
        yield column, slice(start, start + column.features)
        start += column.features
