"""Copies of the pixels of large folders, each in a file that is mapped, and kept for the next time.

A copy's name follows from the names, sizes and times of the files, and from what is done to them.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.lib import format as npy_format

from training.data import cache
from training.data.dataset import Pixels
from training.data.listing import Listing
from training.data.options import DataOptions

_FORMAT: Final = 1
_COLOURS, _GREY = "colours.npy", "grey.npy"


class CopiedPixels(ExitStack):
    """The copy of a folder's pixels, (N, C, H, W); as a context manager it leaves no half of one.

    Raises:
        DataError: It cannot be written.
    """

    def __init__(self, listing: Listing, options: DataOptions, kept: Path) -> None:
        super().__init__()
        self._options = options
        how = options.model_dump(mode="json", include={"size", "fit", "channels", "background"})
        states = [(name, (listing.folder / name).stat()) for name in listing.names]
        files = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
        self._folder = cache.place_of([_FORMAT, how, files], kept)
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()

    def known(self) -> Pixels | None:
        """Return the copy that was made before, or None."""
        for name, channels in ((_COLOURS, slice(None)), (_GREY, slice(1))):
            if (self._folder / name).is_file():
                cache.use(self._folder)
                pixels: Pixels = np.load(self._folder / name, mmap_mode="r")[:, channels]
                return pixels
        return None

    def begins(self, shape: tuple[int, int, int, int]) -> bool:
        """Begin a copy of pixels of that shape and return True, if they are too many for memory."""
        if math.prod(shape) <= self._options.memory_mib * 2**20:
            return False
        self._shape = shape
        failure = f"{self._options.own_path} cannot be copied to"
        staging = self.enter_context(cache.written(self._folder, failure))
        self._file = self.enter_context((staging / "pixels").open("wb"))
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(self._file, header)
        return True

    def add(self, pixels: Pixels) -> None:
        """Add the next picture, (C, H, W), or (1, H, W) if it is grey."""
        assert self._file is not None
        self._file.write(np.broadcast_to(pixels, self._shape[1:]).tobytes())

    def finish(self, has_colours: bool) -> None:
        """Name the copy, which is `known` once the block ends; of pictures without colours one channel is."""
        assert self._file is not None
        file = Path(self._file.name)
        file.rename(file.with_name(_COLOURS if has_colours else _GREY))
