"""Arrays of one part as the bytes of a Parquet file, always the same for the same arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pushforward.bulk.failures import BulkMistake

_OPTIONS: Final = {
    "use_dictionary": False,
    "write_statistics": ["row"],
    "write_batch_size": 2**14,
    "data_page_size": 2**18,
    "version": "2.6",
    "data_page_version": "1.0",
}
"""Options of the writer; what it works on at a time fits into a processor's cache, which saves a sixth.

Columns of numbers are compressed. Those of lists are not: items that a network computed shrink by a sixth,
and that would take a twentieth of the time in which they are computed.
"""

_MARGIN_BYTES: Final = 2**21
"""Room for the column `row`, names and metadata. A page that is not touched takes no memory."""


class Encoder:
    """Encodes parts one after the other into one place in memory.

    The pages of a part are not given back to the system, which would zero new ones for the next part.
    """

    def __init__(self) -> None:
        self._room: Any = None

    def parquet_bytes(
        self,
        first_row: int,
        columns: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, Any],
        ids: Mapping[str, Any],
    ) -> memoryview:
        """Encode arrays (B, ...) as the columns of a Parquet file, after the column `row` and that of ids.

        Arrays of several axes become fixed-size lists. The schema's metadata hold the shape of the items in
        such a column as `COLUMN.shape`, and under `pushforward` the given metadata, both as JSON. `ids` are
        Arrow's arrays (B,), one or none.

        Returns:
            The bytes of the file, which stay until the next part is encoded.

        Raises:
            BulkMistake: the column of ids has the name of another one.
        """
        import pyarrow

        for name in ids:
            if name in {"row", *columns}:
                raise BulkMistake(f"--id {name}: the output has such a column itself; rename that of the ids")
        most = _MARGIN_BYTES + 2 * sum(array.nbytes for array in [*columns.values(), *ids.values()])
        if self._room is None or self._room.size < most:
            self._room = pyarrow.allocate_buffer(most)
        sink = pyarrow.FixedSizeBufferWriter(self._room)
        _write(sink, first_row, columns, metadata, ids)
        return memoryview(self._room)[: sink.tell()]


def _write(
    sink: Any,
    first_row: int,
    columns: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, Any],
    ids: Mapping[str, Any],
) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = len(next(iter(columns.values())))
    arrays = {"row": _flat(np.arange(first_row, first_row + rows, dtype=np.int64)), **ids}
    described = {"pushforward": json.dumps(metadata)}
    compression, floats = dict.fromkeys(arrays, "ZSTD"), []
    for name, array in columns.items():
        if array.ndim > 1:
            described[f"{name}.shape"] = json.dumps(array.shape[1:])
        arrays[name] = _column(array)
        path = name if array.ndim == 1 else f"{name}.list.element"
        compression[path] = "ZSTD" if array.ndim == 1 else "NONE"
        if array.ndim == 1 and array.dtype.kind == "f":
            floats.append(path)
    fields = [pyarrow.field(name, array.type, nullable=name in ids) for name, array in arrays.items()]
    table = pyarrow.Table.from_arrays([*arrays.values()], schema=pyarrow.schema(fields, metadata=described))
    parquet.write_table(
        table,
        sink,
        row_group_size=rows,
        compression=compression,
        use_byte_stream_split=floats or False,
        **_OPTIONS,
    )


def _column(array: NDArray[Any]) -> Any:
    import pyarrow

    flat = _flat(np.ascontiguousarray(array).reshape(-1))
    if array.ndim == 1:
        return flat
    values = pyarrow.field("element", flat.type, nullable=False)
    size = int(np.prod(array.shape[1:]))
    return pyarrow.FixedSizeListArray.from_arrays(flat, type=pyarrow.list_(values, size))


def _flat(array: NDArray[Any]) -> Any:
    """Return an array of one axis as Arrow's; of numbers without a copy.

    `pyarrow.array` imports pandas where it is installed, which would be half of the start of a shard.
    """
    import pyarrow

    if array.dtype.kind not in "biuf":
        return pyarrow.array(array)
    values = np.packbits(array, bitorder="little") if array.dtype == np.bool_ else array
    buffers = [None, pyarrow.py_buffer(values)]
    return pyarrow.Array.from_buffers(pyarrow.from_numpy_dtype(array.dtype), len(array), buffers)
