"""Versions on disk: read, verify, self-test and publish them.

A version is the folder `models/NAME/VERSION/`. It is written once, by rename, and never changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import InvalidVersion, NotLoadedNow
from service.format.manifest import VERSION, Manifest
from service.format.specs import GraphName, GraphSpec

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 4 * 2**20
SELF_TEST_TOLERANCE: Final = 1e-4
"""Largest error on the stored example, relative to `magnitude`, on a CPU, which may be of another kind."""
_LASTING: Final = (None, errno.ENOENT, errno.EISDIR, errno.EINVAL, errno.EACCES, errno.EPERM)
"""Numbers of the errors that stay until a file is another one, or has other rights."""
_Arrays = tuple[NDArray[Any], ...]
Weights = Mapping[str, bytes]
"""The files by name that graphs may keep initializers in: one, or none if each graph holds its own."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """Return the first `most_bytes` of a plain file. Raises OSError, also for a pipe, which would not end."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return file.read(most_bytes)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_manifest(folder: Path, name: str = "", version: str = "") -> Manifest:
    """Read `manifest.json` of a version's folder, which is NAME/VERSION unless these are given.

    Raises:
        InvalidVersion: it is missing, unreadable, or describes another version.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(read_plain_file(path, MAX_MANIFEST_BYTES))
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in flaw["loc"]) or "the document"
        raise InvalidVersion(f"{path}: {where}: {flaw['msg']}") from error
    described = f"{manifest.name}/{manifest.version}"
    expected = f"{name or folder.parent.name}/{version or folder.name}"
    if described != expected:
        raise InvalidVersion(f"{path}: the manifest describes {described}, but stands in {expected}")
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that every file of the version is there, is a plain file, and has its hash.

    Raises:
        InvalidVersion: a file is not as the manifest says, or cannot be read; names the first.
    """
    for spec in manifest.files:
        path = folder / spec.file
        if path.is_symlink():
            raise InvalidVersion(f"{path}: a symbolic link; a version has plain files, so copy them")
        if not path.is_file():
            raise InvalidVersion(f"{path}: missing, or not a plain file; publish the version again")
        try:
            came = sha256_of(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if came != spec.sha256:
            raise _altered(path)


def _unreadable(path: Path, error: OSError) -> InvalidVersion:
    """Return the error of a file that cannot be read: by a disk that fails or is far away, it may pass."""
    kind = InvalidVersion if error.errno in _LASTING else NotLoadedNow
    return kind(f"{path}: cannot be read ({error.strerror})")


def _altered(path: Path) -> InvalidVersion:
    return InvalidVersion(f"{path}: its SHA-256 is not the manifest's; publish the version again")


def read_weights(folder: Path, manifest: Manifest) -> Weights:
    """Read the version's file of weights, if it has one; its hash is that of the very bytes returned.

    Raises:
        InvalidVersion: it cannot be read, or is not as the manifest says.
    """
    if manifest.weights is None:
        return {}
    path = folder / manifest.weights.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest() != manifest.weights.sha256:
        raise _altered(path)
    return {path.name: content}


def magnitude(output: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return the scale for relative errors of a graph's output (B, ...): 1 + |value|.

    For the outputs `map` and `columns` it is 1 + the sum of |value| over the item. A value is a part of its
    item's score and not more precise than that: where a likelihood is narrow, the last digit of a location is
    a thousandth of a nat of one pixel.
    """
    sizes: NDArray[Any] = np.abs(values)
    if output in ("map", "columns"):
        sizes = sizes.sum(axis=tuple(range(1, sizes.ndim)), keepdims=True)
    larger: NDArray[Any] = 1 + sizes
    return larger


def read_arrays(
    path: Path, wanted: Mapping[str, tuple[tuple[int, ...], type[np.floating[Any]]]]
) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz file by name, each of which must have the wanted shape and dtype.

    Raises:
        InvalidVersion: the file cannot be read, or has no such array; says what is wrong.
    """
    try:
        # opened here, because numpy leaves a broken file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: _array(stored, name, *form) for name, form in wanted.items()}
    except OSError as error:
        raise _unreadable(path, error) from error
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


def check_self_test(
    folder: Path,
    manifest: Manifest,
    run: Callable[[GraphName, _Arrays], _Arrays],
    tolerance: float = SELF_TEST_TOLERANCE,
) -> None:
    """Run every graph on the example stored with the version, and compare the outputs.

    `run` computes a graph; inputs and outputs are in the manifest's order. `tolerance` is the largest error
    relative to `magnitude`.

    Raises:
        InvalidVersion: a shape is not the manifest's, or an output is too far from the stored one.
    """
    with np.load(folder / manifest.self_test.file, allow_pickle=False) as stored:
        example = dict(stored)
    for name, graph in manifest.graphs.items():
        try:
            inputs = tuple(example[f"{name}.inputs.{tensor.name}"] for tensor in graph.inputs)
            expected = tuple(example[f"{name}.outputs.{tensor.name}"] for tensor in graph.outputs)
        except KeyError as error:
            raise InvalidVersion(f"the self-test lacks {error}") from error
        outputs = run(name, inputs)
        _check_shapes(graph, inputs, outputs)
        _check_shapes(graph, inputs, expected)
        for tensor, got, want in zip(graph.outputs, outputs, expected, strict=True):
            gap = float(np.max(np.abs(got - want) / magnitude(tensor.name, want)))
            if not gap <= tolerance:
                raise InvalidVersion(
                    f"{name}.{tensor.name} is off by {gap:.1e} of the stored example; at most "
                    f"{tolerance:.0e} is allowed"
                )


def _check_shapes(graph: GraphSpec, inputs: _Arrays, outputs: _Arrays) -> None:
    """Raise InvalidVersion unless all tensors have the manifest's shapes, with equal sizes of a free axis."""
    sizes: dict[str, int] = {}
    for tensor, array in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        for axis, size in zip(tensor.shape, array.shape, strict=False):
            if isinstance(axis, str):
                sizes.setdefault(axis, size)
        if array.shape != (shape := tuple(sizes.get(str(axis), axis) for axis in tensor.shape)):
            raise InvalidVersion(
                f"{graph.file}: {tensor.name} is {list(array.shape)}, the manifest says {list(shape)}"
            )


def version_folders(model: Path, *, linked: bool = False) -> list[Path]:
    """Return the version folders of a model, oldest first; also symbolic links to folders if `linked`.

    Other names are ignored.
    """
    folders = [path for path in model.iterdir() if path.is_dir() and (linked or not path.is_symlink())]
    return sorted(
        (path for path in folders if re.fullmatch(VERSION, path.name)), key=lambda path: int(path.name)
    )


def stage(models: Path, name: str) -> Path:
    """Make an empty folder beside the versions of a model, to be filled and then published."""
    staging = models / name / f".partial-{secrets.token_hex(4)}"
    staging.mkdir(parents=True)
    return staging


def publish(staging: Path, manifest: Manifest) -> Path:
    """Publish a staged folder as the model's next version, by one rename, and return its folder.

    `manifest.version` is replaced by the next free number.

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
        try:
            put_in_place(staging, model / str(version))
        except OSError:
            if not (model / str(version)).exists():
                raise
            continue  # another publisher took the number in the meantime
        return model / str(version)


def put_in_place(staging: Path, folder: Path) -> None:
    """Rename a staged folder to a version's folder, flushed so that a crash leaves all of it or nothing.

    Raises:
        OSError: the version is there already, or cannot be written.
    """
    for path in (*staging.iterdir(), staging):
        flush_to_disk(path)
    staging.rename(folder)
    flush_to_disk(folder.parent)


def flush_to_disk(path: Path) -> None:
    """Return once a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
