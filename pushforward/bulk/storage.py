"""Files by path or URL: local ones without fsspec, all others through it."""

from __future__ import annotations

import os
import secrets
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from pushforward.bulk.failures import BulkMistake
from service.format.versions import flush_to_disk

PARTIAL: Final = ".partial"
"""Ending of the names of files that are being written, which begin with a dot."""


class FileFacts(NamedTuple):
    """The facts about a file that change with its content."""

    size_bytes: int
    changed: str
    """The time of the last change, or what else the storage has to tell versions of a file apart."""


class Storage(ABC):
    """The file operations that bulk work needs. Every path is absolute, or relative to the process."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file for reading at any place."""

    @abstractmethod
    def facts(self, path: str) -> FileFacts:
        """Return the facts about a file."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Return True if the path is a folder."""

    @abstractmethod
    def names(self, folder: str, *, recursive: bool = False) -> list[str]:
        """Return the names of the files in a folder, relative to it and sorted; none if it is not there."""

    @abstractmethod
    def write(self, path: str, content: bytes | memoryview) -> None:
        """Write a file aside and rename it into place, so that no reader sees half of it."""

    @abstractmethod
    def write_new(self, path: str, content: bytes | memoryview) -> bool:
        """Write a file as a whole unless there is one of this name. Return True if it was written."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""

    def flush(self, folder: str, name: str) -> None:  # noqa: B027
        """Return once a file of a folder is on the disk; object stores answer only then."""

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        with self.open(path) as file:
            return file.read()


class LocalStorage(Storage):
    """Files of this machine's file system."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading at any place."""
        return Path(path).open("rb")

    def facts(self, path: str) -> FileFacts:
        """Return the size and the time of the last change in nanoseconds."""
        stat = Path(path).stat()
        return FileFacts(stat.st_size, str(stat.st_mtime_ns))

    def is_folder(self, path: str) -> bool:
        """Return True if the path is a folder."""
        return Path(path).is_dir()

    def names(self, folder: str, *, recursive: bool = False) -> list[str]:
        """Return the names of the files in a folder, relative to it and sorted; none if it is not there."""
        root, pattern = Path(folder), "**/*" if recursive else "*"
        return sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file())

    def write(self, path: str, content: bytes | memoryview) -> None:
        """Write a file aside and rename it into place, so that no reader sees half of it."""
        aside = self._written_aside(path, content)
        aside.replace(path)

    def write_new(self, path: str, content: bytes | memoryview) -> bool:
        """Write a file as a whole unless there is one of this name. Return True if it was written."""
        aside = self._written_aside(path, content)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        return True

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        Path(path).unlink(missing_ok=True)

    def flush(self, folder: str, name: str) -> None:
        """Return once a file of a folder is on the disk.

        The system need not keep it in memory too: its pages are there for the next file, where new ones may
        take the time of a tenth of the work.
        """
        path = Path(folder, name)
        flush_to_disk(path)
        flush_to_disk(path.parent)
        if sys.platform == "linux":
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    @staticmethod
    def _written_aside(path: str, content: bytes | memoryview) -> Path:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL}")
        try:
            aside.write_bytes(content)
        except BaseException:
            aside.unlink(missing_ok=True)  # its bytes may be what fills the disk
            raise
        return aside


class RemoteStorage(Storage):
    """Files of any file system that fsspec knows. Object stores show a file only once it is whole."""

    def __init__(self, file_system: Any) -> None:
        self._fs = file_system

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading at any place."""
        return cast("BinaryIO", self._fs.open(path, "rb"))

    def facts(self, path: str) -> FileFacts:
        """Return the size, and the entity tag or the time of the last change."""
        found = self._fs.info(path)
        keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
        changed = next((str(found[key]) for key in keys if found.get(key)), "")
        return FileFacts(int(found["size"]), changed)

    def is_folder(self, path: str) -> bool:
        """Return True if the path is a folder."""
        return bool(self._fs.isdir(path))

    def names(self, folder: str, *, recursive: bool = False) -> list[str]:
        """Return the names of the files in a folder, relative to it and sorted; none if it is not there."""
        self._fs.invalidate_cache()
        if not self._fs.isdir(folder):
            return []
        root = self._fs._strip_protocol(folder).rstrip("/")
        found = self._fs.find(folder, maxdepth=None if recursive else 1)
        return sorted(self._fs._strip_protocol(path)[len(root) + 1 :] for path in found)

    def write(self, path: str, content: bytes | memoryview) -> None:
        """Write a file aside and rename it into place, so that no reader sees half of it."""
        folder, _, name = path.rpartition("/")
        aside = f"{folder}/.{name}.{secrets.token_hex(4)}{PARTIAL}"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.pipe_file(aside, bytes(content))
            self._fs.mv(aside, path)
        except BaseException:
            if self._fs.exists(aside):
                self._fs.rm_file(aside)
            raise

    def write_new(self, path: str, content: bytes | memoryview) -> bool:
        """Write a file as a whole unless there is one of this name. Return True if it was written."""
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._fs.pipe_file(path, bytes(content), mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        if self._fs.exists(path):
            self._fs.rm_file(path)


def storage_of(location: str) -> Storage:
    """Return the storage of a path or URL.

    Raises:
        BulkMistake: it is a URL, and fsspec or what it needs for this kind is not installed.
    """
    if "://" not in location:
        return LocalStorage()
    try:
        import fsspec

        return RemoteStorage(fsspec.core.url_to_fs(location)[0])
    except (ImportError, ValueError) as error:
        raise BulkMistake(
            f"{location}: {error}; URLs need fsspec and its part for this kind of storage: "
            "pip install 'pushforward[bulk]', and s3fs for s3://, gcsfs for gs://"
        ) from error


def joined(folder: str, *names: str) -> str:
    """Return the path of a file in a folder."""
    return "/".join([folder.rstrip("/"), *names])
