"""One output that holds two: the axis along which it is divided, told by its shape, and the division.

Shapes: B rows; a row of the output has twice the values of each half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.export.own.algebra import Algebra, Tensor

Shape = tuple[int, ...]


def axis_of_forms(row: Shape, forms: Sequence[Shape]) -> int | None:
    """Return the axis of a row along which two of one of the forms lie; None if there is none, or two are."""
    axes: list[int] = []
    for form in forms:
        axes += [axis for axis in range(len(form)) if row == _doubled(form, axis)]
        axes += [axis for axis, stack in ((0, (2, *form)), (len(form), (*form, 2))) if row == stack]
    return _only(row, axes)


def _doubled(form: Shape, axis: int) -> Shape:
    return (*form[:axis], 2 * form[axis], *form[axis + 1 :])


def axis_of_latents(row: Shape, channels: str) -> int | None:
    """Return the axis of a row along which a mean and a spread lie; None if it could be one of several.

    It is that of the channels of a map, or the one of two, or the only even one.
    """
    if len(row) == 3:
        of_channels = 0 if channels == "first" else 2
        if row[of_channels] % 2 == 0:
            return of_channels
    pairs = [axis for axis in {0, len(row) - 1} if row[axis] == 2]
    return _only(row, pairs or [axis for axis, size in enumerate(row) if size % 2 == 0])


def _only(row: Shape, axes: Sequence[int]) -> int | None:
    """Return the first of axes that all divide a row alike; None if they do not."""
    return axes[0] if len({math.prod(row[:axis]) for axis in axes}) == 1 else None


def half_shapes(row: Shape, axis: int) -> list[Shape]:
    """Return the shapes that a half may have: with half of that axis, or without it if it is the pair."""
    halved = (*row[:axis], row[axis] // 2, *row[axis + 1 :])
    return [halved, (*row[:axis], *row[axis + 1 :])] if row[axis] == 2 else [halved]


def divided(f: Algebra, row: Shape, axis: int, values: Tensor) -> list[Tensor]:
    """Divide an output (B, n), flattened from rows of that shape, along an axis; returns (B, n / 2) twice."""
    size, before = math.prod(row), math.prod(row[:axis])
    if before > 1:
        rows = f.reshape(values, (-1, before, 2, size // (2 * before)))
        values = f.reshape(f.transpose(rows, (0, 2, 1, 3)), (-1, size))
    return [f.part(values, 0, size // 2), f.part(values, size // 2, size)]
