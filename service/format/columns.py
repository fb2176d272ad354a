"""The columns of a table, as a manifest describes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from service.format.specs import Frozen

LONGEST_NAME: Final = 200
"""The largest number of characters of a column's name."""
ColumnName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
LARGEST_WHOLE: Final = 2**53
"""The largest number up to which all readers of JSON tell whole numbers apart."""
MOST_DECIMALS: Final = 6
"""The largest number of digits after the decimal point that float32 may hold."""
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")
TRUTH_VALUES: Final = frozenset({"false", "true"})
"""The categories of a column of truth values, as they are read."""
OTHER: Final = "other"
"""The category of all that a column has not seen, if the model has such a one."""


class Column(Frozen):
    """A column of a table: a number, or a category in one-hot encoding."""

    name: ColumnName
    """The name in the header of the training table."""
    categories: tuple[str, ...] = ()
    """Empty for a number; else the column has one feature per category: one is 1, the others are 0."""
    unseen: Literal["refuse", "other", "missing"] = "refuse"
    """The treatment of any other category: its row is refused, or it becomes `other`, one of the categories,
    or `missing`."""
    codes: tuple[float | str, ...] = ()
    """Values that stand for missing ones, such as 999999999 or `?`."""
    value_range: tuple[float, float] | None = None
    """The least and the largest number of the training rows; a draw beyond them becomes the nearer of both.
    None for categories, and if draws have no bounds."""
    decimals: Annotated[int, Field(ge=0, le=MOST_DECIMALS)] | None = None
    """The digits after the decimal point that the numbers learned have at most, 0 if all are whole; draws are
    rounded to as many. 0 also if all categories but `other`, which is never drawn, are whole numbers or
    truth values, so that draws are such. None for other categories, and if draws stay as they are."""

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

    @model_validator(mode="after")
    def _bounds_numbers(self) -> Self:
        if self.categories:
            if self.value_range is not None:
                raise ValueError(f"column {self.name} holds categories, which have no value_range")
            if self.decimals is not None and not have_values({*self.categories} - {OTHER}):
                raise ValueError(
                    f"column {self.name} has decimals, but categories neither of numbers nor truth values"
                )
        elif self.value_range is None:
            if self.decimals is not None:
                raise ValueError(f"column {self.name} has decimals, but no value_range")
        elif self.value_range[0] > self.value_range[1]:
            raise ValueError(f"column {self.name}: value_range goes from a smaller to a larger number")
        elif self.decimals == 0 and max(map(abs, self.value_range)) > LARGEST_WHOLE:
            raise ValueError(f"column {self.name}: whole numbers go up to 2^53, or have no decimals")
        return self


def have_values(categories: Collection[str]) -> bool:
    """Return True if categories are truth values, or whole numbers as Python writes them, of 15 digits."""
    return TRUTH_VALUES.issuperset(categories) or all(map(_WHOLE.fullmatch, categories))


def column_places(columns: Sequence[Column]) -> Iterator[tuple[Column, slice]]:
    """Yield each column of a table with the slice of an item that holds its features."""
    start = 0
    for column in columns:
        yield column, slice(start, start + column.features)
        start += column.features
