"""Bounds on tables in small files of unknown content, which are checked before memory is spent.

pyarrow believes what a Parquet file says of the size of its pages, and does not show it; asked about a column
of a damaged footer, it may end the process (26.0.1). So the footer and the headers of pages, structures of
Thrift's compact protocol, are read here first. Sources:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from service.errors import LimitExceeded, Malformed, ServiceError, Unfit


class TableBounds(NamedTuple):
    """The most that a table may have."""

    rows: int
    """The rows of text that are blank, one after the other."""
    row_characters: int
    """The characters of a row of text."""
    footer_bytes: int
    """The bytes of Parquet's footer, whose parsed objects are a hundred times as large."""
    page_bytes: int
    """The bytes of all pages of Parquet together, once they are decompressed."""


_MAGIC: Final = b"PAR1"
_LENGTH_BYTES: Final = 4
_DELTA_BYTE_ARRAY: Final = 7
"""An encoding in which a value of one byte may repeat all of the value before."""
_LONGEST_FIXED: Final = 32
"""Most bytes of a value of fixed length, such as a decimal or a UUID."""
_LEAST_PAGE_BYTES: Final = 512
"""The least number of bytes that a page counts for, so that there are not very many pages."""
_MOST_NESTING: Final = 8
_NO_PARQUET: Final = (
    "it cannot be read as Parquet: its footer, or the header of a page, is damaged; save it anew"
)

# fields by number: of the footer, of an element of the schema, of a row group, of a column in it, of a page
_SCHEMA, _GROUPS = 2, 4
_TYPE, _TYPE_LENGTH, _REPETITION, _NAME, _CHILDREN = 1, 2, 3, 4, 5
_COLUMNS, _ABOUT = 1, 3
_VALUES, _DATA_PAGE, _DICTIONARY_PAGE = 5, 9, 11
_UNCOMPRESSED, _COMPRESSED, _PAGE, _DICTIONARY, _PAGE_V2 = 2, 3, 5, 7, 8
_ENCODINGS: Final = {_PAGE: 2, _DICTIONARY: 2, _PAGE_V2: 4}
"""The field of the encoding in the header of each kind of page; the first field is the number of values."""
_BYTE_ARRAY, _FIXED, _REPEATED = 6, 7, 2
# Thrift's kinds of values
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = (4, 5, 6)

Fields = dict[int, Any]


def check_parquet(body: bytes, bounds: TableBounds, wanted: Collection[str] | None = None) -> list[str]:
    """Refuse a Parquet file that is damaged or grows too large, before pyarrow sees it.

    Only columns that are `wanted`, by default all, may be read then: others may hold anything.

    Returns:
        The names of those columns of text that have a dictionary, which are to be read as such: a row of
        theirs takes a few bytes, though its text may be long.

    Raises:
        Malformed: it is no such file, or is damaged.
        LimitExceeded: its footer is too long, or its pages are too large together.
        Unfit: a column holds lists, or is encoded so that its size is not known before it is read.
    """
    end = len(body) - len(_MAGIC) - _LENGTH_BYTES
    if not body.endswith(_MAGIC) or end < 0:
        raise Malformed("it cannot be read as Parquet: it does not end with PAR1; save it anew")
    length = int.from_bytes(body[end : end + _LENGTH_BYTES], "little")
    if length > bounds.footer_bytes:
        raise LimitExceeded(
            f"the Parquet's footer has {length} bytes, at most {bounds.footer_bytes} are read; save it with "
            "fewer row groups, or the columns of the model alone"
        )
    try:
        footer, _ = _structure(body, end - length)
        leaves = _leaves(footer[_SCHEMA], wanted)
        dictionaries, left = dict[str, None](), bounds.page_bytes
        for group in footer.get(_GROUPS, ()):
            for (name, leaf), column in zip(leaves, group[_COLUMNS], strict=True):
                if not _is_wanted(name, wanted):
                    continue
                size, has_dictionary = _pages(body, column[_ABOUT], left)
                left -= size
                if has_dictionary and leaf[_TYPE] == _BYTE_ARRAY:
                    dictionaries[name] = None
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ServiceError):
            raise
        raise Malformed(_NO_PARQUET) from error
    return [*dictionaries]


def _is_wanted(path: str, wanted: Collection[str] | None) -> bool:
    """Return True if a column is wanted, or one in which it lies; names may have points, as paths do."""
    if wanted is None:
        return True
    names = path.split(".")
    return any(".".join(names[:count]) in wanted for count in range(1, len(names) + 1))


def _leaves(schema: list[Fields], wanted: Collection[str] | None) -> list[tuple[str, Fields]]:
    """Return the columns of a schema, which lists its tree depth first, each with its path.

    Those that are wanted may hold neither lists nor long values.
    """
    leaves = list[tuple[str, Fields]]()
    open_groups: list[list[Any]] = []
    for place, element in enumerate(schema):
        name = element[_NAME].decode()
        path = ".".join([*(group[0] for group in open_groups[1:]), name])
        is_wanted = place > 0 and _is_wanted(path, wanted)
        if is_wanted and element.get(_REPETITION) == _REPEATED:
            raise Unfit(f"the column `{path[:200]}` holds lists; a column has one axis")
        if children := element.get(_CHILDREN, 0):
            open_groups.append([name, children + 1])
        elif place:
            leaves.append((path, element))
            if is_wanted and element[_TYPE] == _FIXED and element[_TYPE_LENGTH] > _LONGEST_FIXED:
                raise Unfit(f"the column `{path[:200]}` has values of {element[_TYPE_LENGTH]} bytes")
        while open_groups:
            open_groups[-1][1] -= 1
            if open_groups[-1][1]:
                break
            open_groups.pop()
        if len(open_groups) > _MOST_NESTING:
            raise Unfit("the columns of the Parquet are nested; a column has one axis")
    return leaves


def _pages(body: bytes, about: Fields, most: int) -> tuple[int, bool]:
    """Return the bytes of the pages of a column in a row group, decompressed, and if one is a dictionary."""
    place, values, total, has_dictionary = about[_DATA_PAGE], about[_VALUES], 0, False
    if 0 < about.get(_DICTIONARY_PAGE, 0) < place:
        place = about[_DICTIONARY_PAGE]
    while values > 0:
        header, place = _structure(body, place)
        size, compressed = header[_UNCOMPRESSED], header[_COMPRESSED]
        if size < 0 or compressed < 0:
            raise Malformed(_NO_PARQUET)
        total, place = total + max(size, _LEAST_PAGE_BYTES), place + compressed
        if total > most:
            raise LimitExceeded("the Parquet grows too large once it is decompressed; send several requests")
        for kind in header.keys() & _ENCODINGS.keys():
            page = header[kind]
            if page.get(_ENCODINGS[kind]) == _DELTA_BYTE_ARRAY:
                raise Unfit(
                    "a column is encoded as DELTA_BYTE_ARRAY, whose size is not known before it is read; "
                    "save it with dictionaries, or plain"
                )
            if kind == _DICTIONARY:
                has_dictionary = True
            else:
                values -= max(0, page[1])
    return total, has_dictionary


def _structure(data: bytes, place: int, depth: int = 0) -> tuple[Fields, int]:
    """Return the fields of a structure by number, and the place behind it."""
    fields: Fields = {}
    number = 0
    if depth > _MOST_NESTING or place < 0:
        raise Malformed(_NO_PARQUET)
    while data[place]:
        delta, kind = divmod(data[place], 16)
        place += 1
        if not delta:
            number, place = _integer(data, place)
        number += delta
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        else:
            fields[number], place = _value(data, place, kind, depth)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, place)
    if kind == _BINARY:
        length, place = _varint(data, place)
        return data[place : place + length], place + length
    if kind == _STRUCT:
        return _structure(data, place, depth + 1)
    if kind in (_LIST, _SET):
        count, kind = divmod(data[place], 16)
        place += 1
        if count == 15:
            count, place = _varint(data, place)
        values = list[Any]()
        for _ in range(count):  # each takes a byte at least, so that a count which is too large soon ends
            value, place = _value(data, place, kind, depth + 1)
            values.append(value)
        return values, place
    if kind in (_TRUE, _FALSE, _BYTE, _DOUBLE):  # a truth value has a byte in a list alone
        return data[place], place + (8 if kind == _DOUBLE else 1)
    raise Malformed(_NO_PARQUET)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[place]) >= 0x80 and shift < 63:
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | (byte & 0x7F) << shift, place + 1


def _integer(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return value >> 1 ^ -(value & 1), place
