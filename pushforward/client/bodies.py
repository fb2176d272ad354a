"""Files as the bodies of requests: unchanged, but decompressed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from pushforward.client.wire import NPY
from service.errors import Malformed
from service.media.tables.opening import UNREADABLE, kind_of_file, uncompressed

_CONTENT_TYPES: Final = {  # of the files that the service takes
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".npy": NPY,
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
}


class RequestBody(NamedTuple):
    """The body of a request."""

    data: bytes
    content_type: str


def body_of_file(inputs: Any) -> RequestBody | None:
    """Return the content of a file, of the type that its ending says; None for all else than such a path.

    Raises:
        OSError: there is no such file.
        Malformed: its compression cannot be undone.
    """
    if not isinstance(inputs, str | os.PathLike):
        return None
    path = Path(inputs)
    content_type = _CONTENT_TYPES.get("" if path.is_dir() else kind_of_file(path))
    if content_type is None:
        return None
    with path.open("rb") as file:
        try:
            return RequestBody(uncompressed(file).read(), content_type)
        except UNREADABLE as error:
            raise Malformed(f"{path} cannot be read: {error}; save it anew") from error
