"""Bounds on tables of which nothing is known but that they are small, which hold before memory is spent.

pyarrow believes what a Parquet file says of the size of its pages, and does not show it. So the headers of
the pages are read here first: structures of Thrift's compact protocol. Sources:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from service.errors import LimitExceeded, Malformed, Unfit


class TableBounds(NamedTuple):
    """The most that a table may have."""

    row_characters: int
    """Of a row of text."""
    footer_bytes: int
    """Of Parquet's footer, of which objects are made that are a hundred times as large."""
    page_bytes: int
    """Of all pages of Parquet together, once they are decompressed."""


_MAGIC: Final = b"PAR1"
_LENGTH_BYTES: Final = 4
_DELTA_BYTE_ARRAY: Final = 7
"""An encoding in which a value of one byte may repeat all of the value before."""
_LONGEST_FIXED: Final = 32
"""Most bytes of a value of fixed length, such as a decimal or a UUID."""
_UNCOMPRESSED, _COMPRESSED, _PAGE, _DICTIONARY, _PAGE_V2 = 2, 3, 5, 7, 8
"""Fields of a page's header by number: two sizes, and the headers of the kinds of pages."""
_VALUES: Final = 1
_ENCODINGS: Final = {_PAGE: 2, _DICTIONARY: 2, _PAGE_V2: 4}
"""The field of the encoding in the header of each kind of page."""
_LEAST_PAGE_BYTES: Final = 512
"""A page counts for as many at least, so that there are not very many."""
_MOST_NESTING: Final = 4
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS: Final = (4, 5, 6)
_NO_PAGE: Final = "it cannot be read as Parquet: the header of a page is damaged; save it anew"


def check_footer(body: bytes, bounds: TableBounds) -> None:
    """Refuse a Parquet file whose footer is too long, before it is parsed.

    Raises:
        Malformed: it does not end as such a file.
        LimitExceeded: its footer is too long.
    """
    if not body.endswith(_MAGIC):
        raise Malformed("it cannot be read as Parquet: it does not end with PAR1; save it anew")
    end = len(body) - len(_MAGIC)
    length = int.from_bytes(body[end - _LENGTH_BYTES : end], "little")
    if length > bounds.footer_bytes:
        raise LimitExceeded(
            f"the Parquet's footer has {length} bytes, at most {bounds.footer_bytes} are read; save it with "
            "fewer row groups, or the columns of the model alone"
        )


def check_pages(body: bytes, metadata: Any, bounds: TableBounds) -> list[str]:
    """Refuse a Parquet file that grows too large, before a page of it is decompressed.

    Args:
        body: The whole file.
        metadata: pyarrow's, of its footer.
        bounds: The most that it may have.

    Returns:
        The names of those columns of text that have a dictionary, which are to be read as such: a row of
        theirs takes a few bytes, though its text may be long.

    Raises:
        Malformed: a page's header cannot be read.
        LimitExceeded: the pages are too large together.
        Unfit: a column holds lists, or is encoded so that its size is not known before it is read.
    """
    dictionaries, left = dict[str, None](), bounds.page_bytes
    for place in range(metadata.num_columns):
        column = metadata.schema.column(place)
        if column.max_repetition_level:
            raise Unfit(f"the column `{column.path[:200]}` holds lists; a column has one axis")
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY" and column.length > _LONGEST_FIXED:
            raise Unfit(f"the column `{column.path[:200]}` has values of {column.length} bytes")
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(place)
            left -= _pages_bytes(body, chunk, left)
            if chunk.has_dictionary_page and column.physical_type == "BYTE_ARRAY":
                dictionaries[column.path] = None
    return [*dictionaries]


def _pages_bytes(body: bytes, chunk: Any, most: int) -> int:
    """Return the bytes that the pages of a column in a row group have together, decompressed."""
    place, values, total = chunk.data_page_offset, chunk.num_values, 0
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < place:
        place = chunk.dictionary_page_offset
    while values > 0:
        header, place = _structure(body, place)
        sizes = header.get(_UNCOMPRESSED), header.get(_COMPRESSED)
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise Malformed(_NO_PAGE)
        total += max(header[_UNCOMPRESSED], _LEAST_PAGE_BYTES)
        place += header[_COMPRESSED]
        if total > most:
            raise LimitExceeded("the Parquet grows too large once it is decompressed; send several requests")
        for kind, encoding in _ENCODINGS.items():
            page = header.get(kind)
            if isinstance(page, dict) and page.get(encoding) == _DELTA_BYTE_ARRAY:
                raise Unfit(
                    "a column is encoded as DELTA_BYTE_ARRAY, whose size is not known before it is read; "
                    "save it with dictionaries, or plain"
                )
            if isinstance(page, dict) and kind != _DICTIONARY:
                values -= max(0, page.get(_VALUES, 0))
    return total


def _structure(data: bytes, place: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Return the integers and structures of a structure by field, and the place behind it."""
    fields: dict[int, Any] = {}
    number = 0
    if depth > _MOST_NESTING or place < 0:
        raise Malformed(_NO_PAGE)
    try:
        while data[place]:
            delta, kind = divmod(data[place], 16)
            place += 1
            if not delta:
                number, place = _integer(data, place)
            number += delta
            if kind in _INTEGERS:
                fields[number], place = _integer(data, place)
            elif kind == _BINARY:
                length, place = _varint(data, place)
                place += length
            elif kind == _STRUCT:
                fields[number], place = _structure(data, place, depth + 1)
            elif kind in (_TRUE, _FALSE, _BYTE, _DOUBLE):
                place += {_BYTE: 1, _DOUBLE: 8}.get(kind, 0)
            else:
                raise Malformed(_NO_PAGE)
    except IndexError as error:
        raise Malformed(_NO_PAGE) from error
    return fields, place + 1


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[place]) >= 0x80 and shift < 63:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | (byte & 0x7F) << shift, place + 1


def _integer(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return value >> 1 ^ -(value & 1), place
