"""Codecs of the API: lists and npy to arrays, arrays to npy; and the check of values.

Shapes: B rows of an item, whose shape the model's manifest gives. Arrays are float32, C order.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from service.errors import MOST_FLAWS, Flaw, LimitExceeded, Malformed, Unfit
from service.format.columns import Column, column_places
from service.format.manifest import Support
from service.format.support import in_support, one_hot_rows
from service.media.items import rows_of, wanted
from service.numerics.noise import Floats

Shape = tuple[int, ...]
LARGEST_LATENT = 1e6
"""Larger latents are refused: no prior draws them, and graphs would overflow."""
_VALUES: Mapping[Support | Literal["latent"], str] = {
    "unit_interval": "numbers in [0, 1]",
    "eight_bit": "numbers in [0, 1]",
    "binary": "zeros and ones",
    "real": "numbers that are finite in float32",
    "latent": f"numbers from {-LARGEST_LATENT:g} to {LARGEST_LATENT:g}",
}
"""The values that each support allows, in words."""
_TAKES = "the model takes {}"
_MOST_AXES = 8
_NPY_LENGTH_BYTES = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
"""The size of the field with the header's length, by the magic string and version before it."""
_MOST_NPY_HEADER_BYTES = 2**10
_NO_NPY = "the body is not an npy document of version 1.0 or 2.0"


def from_lists(value: Sequence[Any], item_shape: Shape, name: str) -> Floats:
    """Read nested lists of numbers as (B, *item_shape).

    Raises:
        Unfit: ragged, empty, or of another shape; says which came and which fits.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is refused by its value
            array = np.array(value, dtype=np.float32)
    except ValueError as error:
        raise Unfit(f"`{name}` is ragged; {wanted(item_shape)}") from error
    if array.shape[1:] != item_shape or not len(array):
        raise Unfit(f"`{name}` has shape {list(array.shape)}; {wanted(item_shape)}")
    return array


def from_npy(body: bytes, item_shape: Shape, max_rows: int, name: str) -> Floats:
    """Read an npy document as (B, *item_shape); a single item without the row axis is one row.

    Any real number type is read by the rule of `service.media.items`, and converted to float32.

    Raises:
        Malformed: not an npy document, or its length does not fit its header.
        Unfit: not real numbers, or another shape.
        LimitExceeded: more than `max_rows` rows.
    """
    length_bytes = _NPY_LENGTH_BYTES.get(body[:8], 0)
    begin = 8 + length_bytes
    end = begin + int.from_bytes(body[8:begin], "little")
    if not length_bytes or end > min(len(body), _MOST_NPY_HEADER_BYTES):
        raise Malformed(_NO_NPY)
    shape, fortran_order, dtype = _npy_header(body[:end])
    if dtype.kind not in "fiub" or not dtype.itemsize:
        raise Unfit(f"`{name}` does not hold real numbers; send them best as float32")
    if len(shape) > _MOST_AXES or not all(type(size) is int and 0 <= size <= len(body) for size in shape):
        raise Malformed("the npy header's shape is not one that the body could hold")
    count = math.prod(shape)
    if len(body) - end != count * dtype.itemsize:
        raise Malformed("the npy header promises more or fewer bytes of data than came")
    flat = np.frombuffer(body, dtype, count, end)
    array = flat.reshape(shape, order="F" if fortran_order else "C")
    if array.ndim and array.shape[1:] in (item_shape, item_shape[1:]) and len(array) > max_rows:
        raise LimitExceeded(f"{len(array)} rows came, at most {max_rows} are taken in one npy request")
    return rows_of(array, item_shape, f"the `{name}`")


@lru_cache(maxsize=64)
def _npy_header(header: bytes) -> tuple[Shape, bool, np.dtype[Any]]:
    """Parse shape, Fortran order and dtype; cached, since numpy is slow and a client's headers are alike."""
    file = io.BytesIO(header)
    try:
        with warnings.catch_warnings(action="ignore"):
            read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
            return read_header[npy_format.read_magic(file)](file)
    except Exception as error:  # numpy evaluates the header as a literal, which can fail in any way
        raise Malformed(_NO_NPY) from error


def check_support(
    array: Floats,
    support: Support | Literal["latent"],
    name: str,
    columns: Sequence[Column] = (),
    *,
    takes_missing: bool = False,
) -> None:
    """Refuse rows with values outside the support of the model, or of latents, named in error messages.

    Every categorical column among the `columns` of a table must be one-hot. If the model `takes_missing`
    values, NaN is one, and all features of a category are.

    Raises:
        Unfit: with one flaw per bad row, or per row and bad column (the first 16).
    """
    if support == "latent":
        fits = np.abs(array) <= LARGEST_LATENT
    else:
        fits = in_support(array, support, takes_missing)
    if not fits.all():
        values = _VALUES[support]
        bad = np.flatnonzero(~fits.reshape(len(array), -1).all(axis=1))
        flaws = tuple(
            Flaw(f"/{name}/{row}", _misfit(array[row], values, fits[row], columns), int(row))
            for row in bad[:MOST_FLAWS]
        )
        detail = f"{len(bad)} of {len(array)} rows of `{name}` are not {values}"
        if flaws[0].message != _TAKES.format(values):
            detail += f"; in row {bad[0]} {flaws[0].message}"
        raise Unfit(detail, flaws=flaws)
    _check_one_hot(array, columns, name, takes_missing)


def _misfit(item: Floats, wanted: str, fits: NDArray[np.bool_], columns: Sequence[Column]) -> str:
    """Return the values that a model takes; if a table's first misfit is a missing value, its column too."""
    place = int(np.flatnonzero(~fits)[0])
    for column, features in column_places(columns):
        if features.start <= place < features.stop and np.isnan(item[place]):
            return (
                f"column `{column.name}` is missing; the model was trained without missing values and takes "
                f"{wanted}: fill it in, or train with rows that lack values"
            )
    return _TAKES.format(wanted)


def _check_one_hot(array: Floats, columns: Sequence[Column], name: str, takes_missing: bool) -> None:
    flaws: list[Flaw] = []
    misfits: list[str] = []
    for column, place in column_places(columns):
        if column.categories:
            start, last = place.start, place.stop - 1
            bad = np.flatnonzero(~one_hot_rows(array[:, place], takes_missing))
            message = f"the column `{column.name}` takes a 1 and else zeros at its features {start} to {last}"
            flaws += [Flaw(f"/{name}/{row}/{start}", message, int(row)) for row in bad[:MOST_FLAWS]]
            misfits += [f"`{column.name}`"] if len(bad) else []
    if misfits:
        flaws.sort(key=lambda flaw: flaw.row or 0)
        raise Unfit(
            f"rows of `{name}` are not one-hot in {', '.join(misfits[:MOST_FLAWS])}: a categorical column "
            "takes a 1 at the feature of its category and else zeros, in the order of the model's `columns`",
            flaws=tuple(flaws[:MOST_FLAWS]),
        )


@lru_cache(maxsize=1024)
def npy_header(shape: Shape) -> bytes:
    """Return the header of a float32 npy document of that shape, little-endian, C order."""
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def npy_in_pieces(array: Floats) -> list[bytes | memoryview]:
    """Encode a float32 array as one npy document: its header, and its bytes, which are not copied."""
    return [npy_header(array.shape), np.ascontiguousarray(array, dtype="<f4").data.cast("B")]
