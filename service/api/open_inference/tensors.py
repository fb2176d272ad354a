"""Tensors of the protocol: their metadata, and the conversion of their contents to arrays and back.

Source: https://github.com/kserve/open-inference-protocol, and Triton's extension for binary data. The first
axis of every tensor is rows, and -1 in metadata.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.api.json_bodies import read_list
from service.errors import LimitExceeded, Unfit

Datatype = Literal["BOOL", "INT64", "FP32", "FP64"]
Array = NDArray[Any]

DTYPES: Final[dict[Datatype, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The protocol's datatypes, and the layout of their elements in a body."""
_JSON_TYPES: Final[dict[Datatype, set[type]]] = {
    "BOOL": {bool}, "INT64": {int}, "FP32": {int, float}, "FP64": {int, float},
}  # fmt: skip
"""Types of the JSON values that are taken for a datatype; integers are taken for floats."""
_DATATYPE: Final = re.compile(r"BOOL|BYTES|BF16|FP(16|32|64)|U?INT(8|16|32|64)")
"""The names of all datatypes of the protocol; an error repeats no others."""
_MOST_AXES_NAMED: Final = 16
"""Most axes of a shape that an error repeats."""


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or output of a model: rows of one shape."""

    name: str
    datatype: Datatype
    row: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with -1 for any number of rows."""
        return (-1, *self.row)

    @property
    def row_values(self) -> int:
        """Number of elements in a row."""
        return math.prod(self.row)

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes."""
        return self.row_values * DTYPES[self.datatype].itemsize

    def check(self, datatype: str, shape: Sequence[int], max_rows: int) -> None:
        """Check the declared datatype and shape of a tensor, before its contents are read.

        Raises:
            Unfit: another datatype or shape, or no rows.
            LimitExceeded: more rows than `max_rows`.
        """
        if datatype != self.datatype:
            came = datatype if _DATATYPE.fullmatch(datatype) else "another"
            raise Unfit(f"`{self.name}` takes the datatype {self.datatype}, and came as {came}")
        if tuple(shape[1:]) != self.row or len(shape) != len(self.row) + 1 or shape[0] < 1:
            wanted = ", ".join(("rows", *map(str, self.row)))
            came = f"shape {list(shape)}" if len(shape) <= _MOST_AXES_NAMED else f"{len(shape)} axes"
            raise Unfit(f"`{self.name}` has {came}; wanted [{wanted}] with at least one row")
        if shape[0] > max_rows:
            raise LimitExceeded(f"`{self.name}` has {shape[0]} rows, at most {max_rows} are taken")

    def from_bytes(self, data: bytes | memoryview, shape: Sequence[int]) -> Array:
        """Return a tensor from its bytes: row-major, little-endian, without padding.

        Raises:
            Unfit: more or fewer bytes than the shape has.
        """
        dtype = DTYPES[self.datatype]
        wanted = math.prod(shape) * dtype.itemsize
        if len(data) != wanted:
            raise Unfit(f"`{self.name}` has {len(data)} bytes; its shape and datatype have {wanted}")
        # a copy, because the address in the body may be unaligned, and sums then have another order
        return np.frombuffer(data, dtype).reshape(shape).copy()

    def from_values(self, values: Sequence[Any], shape: Sequence[int]) -> Array:
        """Return a tensor from its JSON: nested lists, or flat in row-major order.

        Raises:
            Unfit: the values do not have the datatype or the shape.
        """
        flat = values
        if values and isinstance(values[0], list):
            for size in self.row:
                if not all(isinstance(part, list) and len(part) == size for part in flat):
                    raise Unfit(
                        f"the data of `{self.name}` are ragged, or not of its shape {list(shape)}; send them "
                        "flat, or nested as its shape"
                    )
                flat = list(itertools.chain.from_iterable(flat))
        if len(flat) != math.prod(shape):
            raise self._other_number(len(flat), shape)
        # checked before numpy, which makes every text of a list as long as the longest
        if not set(map(type, flat)) <= _JSON_TYPES[self.datatype]:
            raise Unfit(f"the data of `{self.name}` are not all numbers of the datatype {self.datatype}")
        try:
            with np.errstate(over="ignore"):  # values that overflow float32 are refused later
                return np.array(flat, DTYPES[self.datatype]).reshape(shape)
        except OverflowError as error:
            raise Unfit(f"the data of `{self.name}` do not fit the datatype {self.datatype}") from error

    def from_list(self, text: bytes, shape: Sequence[int]) -> Array:
        """Return a tensor from the JSON text of its values, as by `from_values`, while other threads run.

        Raises:
            Malformed, Unfit: the values are not JSON, or do not have the datatype or the shape.
        """
        dtype, types = DTYPES[self.datatype], _JSON_TYPES[self.datatype]
        array = read_list(text, self.row, dtype, types, self.name, flat=True)
        if array.size != math.prod(shape):
            raise self._other_number(array.size, shape)
        return array.reshape(shape)

    def _other_number(self, count: int, shape: Sequence[int]) -> Unfit:
        return Unfit(
            f"the data of `{self.name}` are {count} numbers; its shape {list(shape)} has {math.prod(shape)}"
        )

    def to_bytes(self, array: Array) -> memoryview:
        """Return the bytes that `from_bytes` reads."""
        return np.ascontiguousarray(array, DTYPES[self.datatype]).data.cast("B")
