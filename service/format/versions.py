"""Versions on disk: how one is read, verified and published.

A version is the folder `models/NAME/VERSION/`. It is written once, by rename, and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import InvalidVersion
from service.format.manifest import Manifest

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json` of a version folder.

    Raises:
        InvalidVersion: it is missing, unreadable, or does not describe this very folder.
    """
    path = folder / MANIFEST
    try:
        document = path.read_bytes()
    except OSError as error:
        raise InvalidVersion(f"{path}: cannot be read ({error.strerror})") from error
    manifest = parse_manifest(document, str(path))
    if (manifest.name, str(manifest.version)) != (folder.parent.name, folder.name):
        raise InvalidVersion(
            f"{path} describes {manifest.name}/{manifest.version}, but stands in "
            f"{folder.parent.name}/{folder.name}"
        )
    return manifest


def parse_manifest(document: bytes, source: str) -> Manifest:
    """A manifest of its bytes; raises InvalidVersion, which names the source and the first flaw."""
    try:
        return Manifest.model_validate_json(document)
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in flaw["loc"]) or "the document"
        raise InvalidVersion(f"{source}: {where}: {flaw['msg']}") from error


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Checks that every file of the version is there, is a plain file, and has its hash.

    Raises:
        InvalidVersion: naming the first file that is not as the manifest says.
    """
    for spec in manifest.files:
        path = folder / spec.file
        if path.is_symlink() or not path.is_file():
            raise InvalidVersion(f"{path}: missing, or not a plain file; publish the version again")
        if sha256_of(path) != spec.sha256:
            raise InvalidVersion(f"{path}: its SHA-256 is not the manifest's; publish the version again")


def magnitude(output: str, values: NDArray[Any]) -> NDArray[Any]:
    """What an error in a graph's output is relative to, of its values (B, ...): 1 + |value|.

    A value of a map is a part of its item's score and no more precise than that: where a likelihood is
    narrow, the last digit of a location is a milli-nat of one pixel. There it is 1 + the sum of the item's.
    """
    sizes: NDArray[Any] = np.abs(values)
    if output == "map":
        sizes = sizes.sum(axis=tuple(range(1, sizes.ndim)), keepdims=True)
    larger: NDArray[Any] = 1 + sizes
    return larger


def read_arrays(
    path: Path, wanted: Mapping[str, tuple[tuple[int, ...], type[np.floating[Any]]]]
) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, each of the shape and dtype that is wanted of it.

    Raises:
        InvalidVersion: the file cannot be read, or lacks such an array; says what is wrong.
    """
    try:
        # opened here, since numpy leaves a file open that it finds broken
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: _array(stored, name, *form) for name, form in wanted.items()}
    except OSError as error:
        raise InvalidVersion(f"{path}: cannot be read ({error.strerror})") from error
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidVersion(f"{path}: {error.args[0]}; publish the version again") from error


def _array(stored: Any, name: str, shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    array: NDArray[Any] = stored[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} is {array.dtype} {list(array.shape)}; wanted {np.dtype(dtype)} {list(shape)}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array


def version_folders(model: Path) -> list[Path]:
    """The version folders of a model, oldest first; anything not named like a version is ignored."""
    names = [path.name for path in model.iterdir() if path.is_dir() and not path.is_symlink()]
    versions = sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0")
    return [model / str(version) for version in versions]


def stage(models: Path, name: str) -> Path:
    """Makes an empty folder beside the versions of a model, to be filled and given to `publish`."""
    staging = models / name / f".partial-{secrets.token_hex(4)}"
    staging.mkdir(parents=True)
    return staging


def publish(staging: Path, manifest: Manifest) -> Path:
    """Turns a staged folder into the model's next version, by one rename, and returns its folder.

    `manifest.version` is replaced by the next free number. Everything is flushed to disk first, so
    that a crash leaves either no new version or a whole one.

    Raises:
        InvalidVersion: the staged files are not as the manifest says.
    """
    verify_files(staging, manifest)
    model = staging.parent
    while True:
        existing = version_folders(model)
        version = int(existing[-1].name) + 1 if existing else 1
        numbered = manifest.model_copy(update={"version": version})
        document = json.dumps(numbered.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (staging / MANIFEST).write_text(document + "\n", encoding="utf-8")
        for path in (*staging.iterdir(), staging):
            flush_to_disk(path)
        try:
            staging.rename(model / str(version))
        except OSError:
            if not (model / str(version)).exists():
                raise
            continue  # another publisher took the number between the look and the rename
        flush_to_disk(model)
        return model / str(version)


def flush_to_disk(path: Path) -> None:
    """Returns once a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
