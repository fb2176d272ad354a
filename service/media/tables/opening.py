"""Opens files of tables: finds their kind by the name, decompresses them, and reads any Unicode encoding.

The ending of a name says what a file is, in upper or lower case; its first bytes say how it is compressed.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final
from urllib.parse import unquote

from service.errors import Malformed, NotEnabled, Unfit

COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_COMPRESSED_STARTS: Final = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
}
TABLES: Final = (".csv", ".tsv", ".parquet")
USUAL_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_OTHER_NAMES: Final = {".txt": ".csv", ".tab": ".tsv", ".pq": ".parquet", ".parq": ".parquet"}
UNREADABLE: Final = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE_AS_UTF_8: Final = "save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
SAMPLE_BYTES: Final = 2**18
"""The number of bytes at the beginning of a text that show its encoding and its separator."""


def ending_of(name: str) -> str:
    """Return the ending of a file's name without that of its compression, in lower case, e.g. `.csv`."""
    path = PurePath(name.lower())
    while path.suffix in COMPRESSED:
        path = path.with_suffix("")
    return _OTHER_NAMES.get(path.suffix, path.suffix)


def stem_of(name: str) -> str:
    """Return a file's name without its endings: `wells` of `wells.CSV.gz`."""
    path = PurePath(name)
    while path.suffix.lower() in (*COMPRESSED, *TABLES, *_OTHER_NAMES, ".npy", ".npz", ".snappy"):
        path = path.with_suffix("")
    return path.name


def kind_of_file(path: Path) -> str:
    """Return the ending that says what a file is; that of a .zip may be the name's inside."""
    ending = ending_of(path.name)
    if not ending and path.suffix.lower() == ".zip" and path.is_file():
        with _archive(path) as archive:
            return ending_of(_only_member(archive).filename)
    return ending


def compression_of(start: bytes) -> str:
    """Return the compression of content by its first six bytes, as the ending of a name; empty if none."""
    return next((ending for magic, ending in _COMPRESSED_STARTS.items() if start.startswith(magic)), "")


def uncompressed(file: BinaryIO) -> BinaryIO:
    """Return the content of an open file, which stays seekable, with its compression undone.

    Raises:
        Malformed: it is not what its first bytes say.
        NotEnabled: the library that reads it is not installed.
        Unfit: an archive with several files.
    """
    ending = compression_of(file.read(6))
    file.seek(0)
    return _OPENERS[ending](file) if ending else file


def _archive(file: Path | BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise Malformed(f"it cannot be read as .zip: {error}; save it anew") from error


def _unzipped(file: BinaryIO) -> Any:
    archive = _archive(file)
    return archive.open(_only_member(archive))


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        each
        for each in archive.infolist()
        if not each.is_dir() and not any(part.startswith((".", "__")) for part in each.filename.split("/"))
    ]
    if len(members) != 1:
        names = ", ".join(each.filename for each in members[:6]) or "no files"
        raise Unfit(f"the archive holds {names}; one table is read, so take it out, or put it alone in one")
    return members[0]


def _zstandard(file: BinaryIO) -> BinaryIO:
    """Return the content of a .zst, in memory, because it cannot be sought in."""
    try:
        import pyarrow
    except ImportError:
        raise NotEnabled(".zst is read by pyarrow, which is not installed: pip install pyarrow") from None
    try:
        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as stream:
            return io.BytesIO(stream.read())
    except (pyarrow.ArrowException, OSError) as error:
        raise Malformed(f"it cannot be read as .zst: {error}; save it anew") from error


_OPENERS: Final[Mapping[str, Callable[[BinaryIO], Any]]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstandard, ".zip": _unzipped,
}  # fmt: skip


def encoding_of(start: bytes) -> str:
    """Return the encoding of a text by its first bytes: UTF-8, or UTF-16 with or without a mark.

    Raises:
        Malformed: it is UTF-32.
    """
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or b"\0\0\0" in start[:8]:
        raise Malformed(f"it is text in UTF-32; wanted UTF-8 or UTF-16: {_SAVE_AS_UTF_8}")
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    zeros = [start[place::2].count(0) for place in (0, 1)]
    if max(zeros) * 4 > len(start):  # every other byte of plain letters and digits in UTF-16
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8"


def as_text(file: BinaryIO) -> tuple[io.TextIOWrapper, str, bool]:
    """Return an open file as text with its line ends as they are, and the text that it begins with.

    The third value is False if that is all of the text.
    """
    start = file.read(SAMPLE_BYTES)
    file.seek(0)
    encoding = encoding_of(start)
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        sample = decoder.decode(start, final=False)
    except UnicodeDecodeError as error:
        raise no_text(error) from error
    return io.TextIOWrapper(file, encoding, newline=""), sample, len(start) == SAMPLE_BYTES


def no_text(error: UnicodeDecodeError) -> Malformed:
    """Return the error for bytes that are no text."""
    return Malformed(
        f"it is no text in UTF-8 or UTF-16: byte {error.start} is {error.object[error.start]:#04x}; "
        f"{_SAVE_AS_UTF_8}"
    )


def utf8_of(file: BinaryIO) -> BinaryIO:
    """Return an open text as a seekable file in UTF-8, recoded in memory if it is in another encoding."""
    start = file.read(SAMPLE_BYTES)
    file.seek(0)
    encoding = encoding_of(start)
    if encoding in ("utf-8", "utf-8-sig"):
        return file
    try:
        return io.BytesIO(file.read().decode(encoding).removeprefix("\ufeff").encode())
    except UnicodeDecodeError as error:
        raise no_text(error) from error


def parts_of(folder: Path) -> list[Path]:
    """Return the tables in a folder of parts by name, without hidden files and marks such as `_SUCCESS`.

    Raises:
        Unfit: there are none, or of several kinds.
    """
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    visible = [
        path
        for path in inside
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
    endings = sorted({ending_of(path.name) for path in visible})
    if not visible or not set(endings) <= set(TABLES):
        came = ", ".join(endings) or "no files"
        raise Unfit(f"the folder holds {came}; wanted parts of one table: {', '.join(TABLES)}")
    if len(endings) > 1:
        raise Unfit(f"the folder holds parts of several kinds, {', '.join(endings)}; wanted one kind")
    return visible


def partition_values(part: str) -> dict[str, str]:
    """Return the columns that the names of a part's folders give, as Hive and Spark do, with their values.

    They are year and kind in `year=2024/kind=lime/part-0.parquet`; a missing value is empty.
    """
    pairs = (folder.split("=", 1) for folder in part.split("/")[:-1] if "=" in folder)
    return {unquote(key): "" if value == _NO_VALUE else unquote(value) for key, value in pairs}


def is_folder_of_parts(folder: Path) -> bool:
    """Return True if a folder holds tables."""
    return folder.is_dir() and any(
        ending_of(path.name) in TABLES and not path.name.startswith((".", "_")) for path in folder.rglob("*")
    )


def sentence(error: Exception) -> str:
    """Return an error of a library as words for a message."""
    text: Any = " ".join(str(error).split())
    return text or type(error).__name__
