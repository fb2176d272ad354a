"""Pictures in the body of a request: one, or several in a form or a zip, read as items."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np

from service.api.answer import FORM, PICTURES, ZIP
from service.api.body import ENVELOPE_BYTES, PICTURE_BYTES_PER_VALUE, inflated_bytes
from service.api.operations.call import RowIds
from service.errors import MOST_FLAWS, Flaw, LimitExceeded, Malformed, Unfit
from service.format.manifest import Manifest
from service.media.fitting import PictureRule, header_of, item_of_file
from service.media.parts import NamedFile, files_of_form, files_of_zip
from service.numerics.noise import Floats
from service.settings import Settings

Result = TypeVar("Result")
ID_NAME: Final = "file"
"""The name of the ids of pictures that come as files, which are their names."""
_FLOAT32_BYTES: Final = 4
_WHOLE_PICTURES: Final = 4
"""The pixels of all pictures of a request together, over the most of one."""
_MEMORY_BYTES: Final = 40 * 2**20
_MEMORY_PER_BYTE: Final = 512
"""Most memory for the pictures of a body, or as many times its length if that is more: no photograph takes
so much, though a picture of one colour may."""


class PictureRows(NamedTuple):
    """Pictures as rows of a model."""

    rows: Floats
    """(B, C, H, W)."""
    conversions: Sequence[Sequence[str]] | None
    """For each row, what was done to its picture; None if the version has no rule for that."""
    ids: RowIds | None
    """The names of the files; None if the body is a picture itself."""


class PictureFiles(NamedTuple):
    """The pictures of a body, whose headers are read."""

    files: Sequence[NamedFile]
    are_named: bool
    """False if the body is a picture itself."""
    memory_bytes: int
    """The memory that it takes to read them, beside the body."""


class PictureReader:
    """Reads pictures for one version."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self._shape = manifest.item_shape
        self._rule = PictureRule.of(None if manifest.picture is None else manifest.picture.model_dump())
        self._most_bytes = settings.max_body_bytes
        self._most_pixels = settings.max_picture_pixels
        values = int(np.prod(self._shape))
        self._item_bytes = _FLOAT32_BYTES * values
        self._most_files = max(1, min(settings.max_npy_inputs, self._most_bytes // self._item_bytes))
        self.any_size = self._rule is not None and self._rule.fit is not None
        small = min(self._most_bytes, ENVELOPE_BYTES + PICTURE_BYTES_PER_VALUE * values)
        self.limits: Mapping[str, int] = {
            **dict.fromkeys(PICTURES, self._most_bytes if self.any_size else small),
            **dict.fromkeys((FORM, ZIP), self._most_bytes),
        }
        """Most bytes of a body, by its media type."""

    def unpacks(self, kind: str) -> bool:
        """Return True if bodies of a media type take memory of their own, so that `files` says how much."""
        return kind in (FORM, ZIP) or (kind in PICTURES and self.any_size)

    def files(self, kind: str, content_type: str, body: bytes) -> PictureFiles:
        """Return the pictures of a body, after a look at their headers.

        Raises:
            LimitExceeded, Malformed, Unfit: there are too many or too large ones, or they cannot be read.
        """
        if kind == FORM:
            files = files_of_form(body, content_type, self._most_files)
        elif kind == ZIP:
            most_bytes = min(self._most_bytes, inflated_bytes(len(body)))
            files = files_of_zip(body, self._most_files, most_bytes)
        else:
            files = [*self.alone(body).files]
        are_named = kind in (FORM, ZIP)
        most = self._most_pixels if self.any_size else None
        headers = _of_each(files, lambda _, data: header_of(io.BytesIO(data), most), are_named=are_named)
        pixels = sum(header.pixels for header in headers)
        if pixels > _WHOLE_PICTURES * self._most_pixels:
            raise LimitExceeded(
                f"the pictures have {pixels} pixels together, at most {_WHOLE_PICTURES * self._most_pixels} "
                "are taken; send several requests"
            )
        memory = max(header.memory_bytes for header in headers) + len(files) * self._item_bytes
        if are_named:
            memory += sum(len(file.data) for file in files)
        if memory > (taken := max(_MEMORY_BYTES, _MEMORY_PER_BYTE * len(body))):
            raise LimitExceeded(
                f"the pictures would take {memory} bytes of memory, at most {taken} are taken for a body of "
                f"{len(body)}; make them smaller, or send several requests"
            )
        return PictureFiles(files, are_named, memory)

    def alone(self, body: bytes) -> PictureFiles:
        """Return a body that is one small picture."""
        return PictureFiles([NamedFile("", body)], are_named=False, memory_bytes=0)

    def rows(self, pictures: PictureFiles) -> PictureRows:
        """Return pictures as rows.

        Raises:
            Malformed, Unfit: some cannot be read, or do not fit; of several, all of them are named.
        """
        rows = np.empty((len(pictures.files), *self._shape), np.float32)

        def read(row: int, data: bytes) -> Sequence[str]:
            rows[row], done = item_of_file(io.BytesIO(data), self._shape, self._rule)
            return done

        done = _of_each(pictures.files, read, are_named=pictures.are_named)
        ids = RowIds(ID_NAME, [file.name for file in pictures.files]) if pictures.are_named else None
        return PictureRows(rows, None if self._rule is None else done, ids)


def _of_each(
    files: Sequence[NamedFile], read: Callable[[int, bytes], Result], *, are_named: bool
) -> list[Result]:
    """Return what `read` returns of each file; name all files that it refuses, if they are named."""
    results, flaws = list[Result](), list[Flaw]()
    for row, file in enumerate(files):
        try:
            results.append(read(row, file.data))
        except (LimitExceeded, Malformed, Unfit) as error:
            if not are_named:
                raise
            flaws.append(Flaw(f"/files/{row}", f"{file.name}: {error}", row))
    if flaws:
        raise Unfit(
            f"{len(flaws)} of {len(files)} files are not taken, e.g. {flaws[0].message}",
            flaws=tuple(flaws[:MOST_FLAWS]),
        )
    return results
