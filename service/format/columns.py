"""The columns of a table, as a manifest describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from service.format.specs import Frozen

LONGEST_NAME: Final = 200
"""The largest number of characters of a column's name."""
ColumnName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
OTHER: Final = "other"
"""The category of all that a column has not seen, if the model has such a one."""


class Column(Frozen):
    """A column of a table: a number, or a category in one-hot encoding."""

    name: ColumnName
    """The name in the header of the training table."""
    categories: tuple[str, ...] = ()
    """Empty for a number; else the column has one feature per category: one is 1, the others are 0."""
    unseen: Literal["refuse", "other", "missing"] = "refuse"
    """The fate of any other category: its row is refused, or it becomes `other`, one of the categories, or
    `missing`."""
    codes: tuple[float | str, ...] = ()
    """Values that stand for missing ones, such as 999999999 or `?`."""

    @property
    def features(self) -> int:
        """Return the number of features of an item that the column takes."""
        return len(self.categories) or 1

    @model_validator(mode="after")
    def _names_each_category_once(self) -> Self:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"column {self.name} names a category twice")
        if self.unseen != "refuse" and not self.categories:
            raise ValueError(f"column {self.name} holds numbers, for which `unseen` means nothing")
        if self.unseen == "other" and OTHER not in self.categories:
            raise ValueError(f"column {self.name} has no category `{OTHER}` for those that are unseen")
        return self


def column_places(columns: Sequence[Column]) -> Iterator[tuple[Column, slice]]:
    """Yield each column of a table with the slice of an item that holds its features."""
    start = 0
    for column in columns:
        yield column, slice(start, start + column.features)
        start += column.features
