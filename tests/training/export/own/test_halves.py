"""One output that holds two is divided along the axis that its shape tells, as torch divides it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.export.own.algebra import NumpyAlgebra
from training.export.own.halves import axis_of_forms, axis_of_latents, divided, half_shapes
from training.export.own.networks import Units


@pytest.mark.parametrize(
    ("item", "channels", "row", "axis"),
    [
        ((3, 8, 8), "first", (6, 8, 8), 0),
        ((3, 8, 8), "first", (2, 3, 8, 8), 0),
        ((3, 8, 8), "first", (3, 8, 8, 2), 3),
        ((3, 8, 8), "first", (384,), 0),
        ((3, 8, 8), "first", (3, 8, 16), 2),
        ((3, 8, 8), "last", (8, 8, 6), 2),
        ((3, 8, 8), "last", (8, 16, 3), 1),
        ((3, 8, 8), "last", (6, 8, 8), None),
        ((1, 8, 8), "first", (2, 8, 8), 0),
        ((1, 8, 8), "first", (8, 8, 2), 2),
        ((5, 3), "first", (5, 6), 1),
        ((5, 3), "first", (10, 3), 0),
        ((4,), "first", (4, 2), 1),
        ((4,), "first", (2, 4), 0),
        ((2,), "first", (2, 2), None),
        ((3, 8, 8), "first", (8, 48), None),
    ],
)
def test_the_axis_is_that_along_which_two_items_lie(
    item: tuple[int, ...], channels: str, row: tuple[int, ...], axis: int | None
) -> None:
    units = Units(item, channels=channels)  # type: ignore[arg-type]
    assert axis_of_forms(row, units.forms) == axis


@pytest.mark.parametrize(
    ("row", "channels", "axis"),
    [
        ((8,), "first", 0),
        ((4, 7, 7), "first", 0),
        ((7, 7, 4), "last", 2),
        ((4, 2, 2), "first", 0),
        ((8, 1, 1), "first", 0),
        ((2, 5), "first", 0),
        ((5, 2), "first", 1),
        ((1, 8), "first", 1),
        ((5, 6), "first", 1),
        ((4, 6), "first", None),
        ((2, 2), "first", None),
        ((3, 5, 4), "first", 2),
    ],
)
def test_the_axis_of_latents_is_the_channels_or_the_only_even_one(
    row: tuple[int, ...], channels: str, axis: int | None
) -> None:
    assert axis_of_latents(row, channels) == axis


@pytest.mark.parametrize(("row", "axis"), [((6, 4, 4), 0), ((4, 4, 6), 2), ((5, 2), 1), ((8,), 0)])
def test_halves_are_those_of_torch(row: tuple[int, ...], axis: int) -> None:
    values = torch.randn(3, *row, generator=torch.Generator().manual_seed(0))
    wanted = [half.flatten(1).numpy() for half in values.chunk(2, axis + 1)]
    got = divided(NumpyAlgebra(), row, axis, values.flatten(1).numpy())
    assert all(map(np.array_equal, got, wanted))
    assert half_shapes(row, axis)[0] == values.chunk(2, axis + 1)[0].shape[1:]
