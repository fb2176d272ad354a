"""Several files in one body: a form (`multipart/form-data`) or a zip. Bounds hold before files are made.

Sources: RFC 2046, section 5.1 (the grammar of multipart); RFC 7578 (forms).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from service.errors import LimitExceeded, Malformed, Unfit

_MOST_HEADER_BYTES: Final = 4_096
_LONGEST_NAME: Final = 255
_LONGEST_BOUNDARY: Final = 70
_ENTRY: Final = b"PK\x01\x02"
_OTHER_ENTRIES: Final = 1_024
"""Most entries of a zip that are no files of the user: folders, and what macOS adds."""
_ENCRYPTED: Final = 1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError)


class NamedFile(NamedTuple):
    """A file of a body."""

    name: str
    data: bytes


def files_of_form(body: bytes, content_type: str, most: int) -> list[NamedFile]:
    """Return the files of a form, in its order.

    Args:
        body: The whole body.
        content_type: The header of that name, which has the boundary.
        most: Most files.

    Raises:
        Malformed: it is no whole form.
        LimitExceeded: it has more than `most` files.
        Unfit: it has none, or a part that is no file.
    """
    header = Message()
    header["content-type"] = content_type
    try:
        boundary = header.get_boundary("")
    except Exception as error:
        raise Malformed("the parameters of the content type cannot be read") from error
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise Malformed(f"the content type has no boundary of 1 to {_LONGEST_BOUNDARY} characters")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    if body.count(delimiter) > most + 1:
        raise LimitExceeded(f"more than {most} files came; send several requests")
    return _some([_file_of_part(part) for part in _parts(body, delimiter)])


def _parts(body: bytes, delimiter: bytes) -> Iterator[bytes]:
    """Yield the parts between delimiters, each with its headers."""
    if not body.startswith(delimiter):
        raise Malformed("the form does not begin with the boundary of its content type")
    start = len(delimiter)
    while not body.startswith(b"--", start):
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0 or not body.startswith(b"\r\n", start):
            raise Malformed("the form ends before its last boundary")
        yield body[start + 2 : end]
        start = end + 2 + len(delimiter)


def _file_of_part(part: bytes) -> NamedFile:
    end = part.find(b"\r\n\r\n", 0, _MOST_HEADER_BYTES)
    if end < 0:
        raise Malformed(f"a part of the form has no headers that end within {_MOST_HEADER_BYTES} bytes")
    try:
        name = HeaderParser().parsestr(part[:end].decode()).get_filename()
    except Exception as error:  # Python's parser of headers fails in many ways
        raise Malformed("the headers of a part of the form cannot be read") from error
    if not name:
        raise Unfit("a part of the form is no file, with a file name; options go into the query")
    return NamedFile(_checked_name(name), part[end + 4 :])


def files_of_zip(body: bytes, most: int, most_bytes: int) -> list[NamedFile]:
    """Return the files of a zip, in its order, without folders, hidden ones and what macOS adds.

    Args:
        body: The whole archive.
        most: Most files.
        most_bytes: Most bytes of all files together once they are decompressed.

    Raises:
        Malformed: it cannot be read, is encrypted or compressed in another way than by deflate.
        LimitExceeded: it has more files or bytes.
        Unfit: it has no files.
    """
    if body.count(_ENTRY) > most + _OTHER_ENTRIES:
        raise LimitExceeded(f"more than {most} files came; send several requests")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            entries = [entry for entry in archive.infolist() if _is_of_the_user(entry)]
            _check_entries(entries, most, most_bytes)
            return _some([NamedFile(_checked_name(entry.filename), archive.read(entry)) for entry in entries])
    except _UNREADABLE as error:
        raise Malformed(f"the body cannot be read as a zip: {error}") from error


def _is_of_the_user(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    # of an entry without a name, `is_dir` raises an IndexError
    return (
        bool(entry.filename)
        and not entry.is_dir()
        and not any(part.startswith((".", "__MACOSX")) for part in parts)
    )


def _check_entries(entries: list[zipfile.ZipInfo], most: int, most_bytes: int) -> None:
    """Refuse entries before any is decompressed, which never gives more bytes than the entry says."""
    if len(entries) > most:
        raise LimitExceeded(f"{len(entries)} files came, at most {most} are taken; send several requests")
    if (total := sum(entry.file_size for entry in entries)) > most_bytes:
        raise LimitExceeded(f"the files of the zip have {total} bytes, at most {most_bytes} are taken")
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            raise Malformed("the zip is encrypted; send it without a password")
        if entry.compress_type not in _METHODS:
            raise Malformed("the zip is compressed in another way than by deflate; make it anew")


def _checked_name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise Unfit(f"the name of a file has over {_LONGEST_NAME} characters, or some that cannot be shown")
    return name


def _some(files: list[NamedFile]) -> list[NamedFile]:
    if not files:
        raise Unfit("no files came; send at least one")
    return files
