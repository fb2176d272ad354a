"""The user's pictures: a folder of their files, read by several threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ServiceError, Unfit
from service.format.specs import PictureForm
from service.media.fitting import FittedPixels, PictureRule, fitted_pixels, opened
from service.media.items import unit_interval
from training.data.batches import cores_at_hand
from training.data.dataset import Dataset, Pixels
from training.data.flaws import Flaws
from training.data.listing import Listing, list_pictures, some
from training.data.options import DataOptions
from training.data.pictures import darkness_note, picture_dataset, picture_source
from training.data.pixel_cache import CopiedPixels
from training.data.stored import StoredPictures

_READ_AHEAD: Final = 64
"""The pictures that are read, by all threads together, before they are taken."""


class Misfit(NamedTuple):
    """A file that is not taken, and why."""

    reason: str


def load_folder(options: DataOptions, cache: Path) -> Dataset:
    """Load all pictures of a folder, in the order of their names, as `PictureForm` says.

    Pixels of more than `memory_mib` are copied into `cache` once, and read from there.

    Raises:
        DataError: All that is wrong with the folder and with its files.
    """
    listing = list_pictures(options.own_path)
    pixels = _pixels_of(listing, options, cache)
    images = StoredPictures(pixels) if isinstance(pixels, np.memmap) else unit_interval(pixels)
    split, kept = listing.split(options)
    source = picture_source(images, f"the folder {listing.folder.name}")
    dataset = picture_dataset(listing.folder.name, source, images, split, kept)
    dark = darkness_note(images)
    notes = (*listing.notes, *([dark] if dark else []), *dataset.notes)
    return replace(dataset, picture=picture_form(options), notes=notes)


def picture_form(options: DataOptions) -> PictureForm:
    """Return what is done to every picture, as the version will say."""
    return PictureForm(
        fit=None if options.size is None else options.fit,
        background=options.background,
        binary=options.binarise == "threshold",
    )


def _pixels_of(listing: Listing, options: DataOptions, cache: Path) -> Pixels:
    """Return the pixels (N, C, H, W) of all pictures of a folder, mapped if they are many.

    By default they have one channel if every picture is grey, also as RGB, and else three.
    """
    copied = CopiedPixels(listing, options, cache)
    if (known := copied.known()) is not None:
        return known
    whole: Pixels | None = None
    has_colours = options.channels == 3
    flaws, first, size = FolderFlaws(listing), "", (0, 0)
    with copied:
        for number, (name, read) in enumerate(read_pictures(listing, options)):
            if isinstance(read, Misfit):
                flaws.add(name, read.reason)
                continue
            flaws.saw(read.pixels)
            height, width, came = read.pixels.shape
            if not first:
                first, size = name, (height, width)
                shape = (len(listing.names), options.channels or 3, height, width)
                whole = None if copied.begins(shape) else np.empty(shape, np.uint8)
            if (height, width) != size:
                flaws.add_size(name, read.size)
                continue
            has_colours = has_colours or (came == 3 and bool((read.pixels != read.pixels[..., :1]).any()))
            pixels = read.pixels.transpose(2, 0, 1)
            if whole is None:
                copied.add(pixels)
            else:
                whole[number] = pixels
        flaws.refuse(first, size)
        if whole is not None:
            return whole[:, : 3 if has_colours else 1]
        copied.finish(has_colours)
    known = copied.known()
    assert known is not None
    return known


def read_pictures(listing: Listing, options: DataOptions) -> Iterator[tuple[str, FittedPixels | Misfit]]:
    """Yield the name of each picture of a folder, in order, and what was read."""
    rule = PictureRule.of(picture_form(options).model_dump())

    def read(name: str) -> FittedPixels | Misfit:
        try:
            with (listing.folder / name).open("rb") as file, opened(file) as picture:
                return fitted_pixels(picture, rule, options.channels, options.size)
        except Unfit as error:
            hint = "; or give background = [255, 255, 255] to have it put on white"
            return Misfit(f"{error}{hint if 'transparent' in str(error) else ''}")
        except (ServiceError, OSError) as error:
            return Misfit(f"{error}; repair or remove it")

    with ThreadPoolExecutor(cores_at_hand()) as pool:
        for start in range(0, len(listing.names), _READ_AHEAD):
            names = listing.names[start : start + _READ_AHEAD]
            yield from zip(names, pool.map(read, names), strict=True)


class FolderFlaws:
    """The flaws of a folder and of its files; files with the same flaw are reported together."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._by_reason: dict[str, list[str]] = {}
        self._of_other_sizes: list[str] = []
        self._largest = 0

    def saw(self, pixels: NDArray[np.uint8]) -> None:
        """Take note of the pixels of a picture that was read."""
        self._largest = max(self._largest, int(pixels.max()))

    def add(self, name: str, reason: str) -> None:
        """Add a file that is not taken."""
        self._by_reason.setdefault(reason, []).append(name)

    def add_size(self, name: str, size: tuple[int, int]) -> None:
        """Add a file whose size (height, width) is not that of the first."""
        self._of_other_sizes.append(f"{name} has {size[0]}x{size[1]}")

    def refuse(self, first: str = "", size: tuple[int, ...] = ()) -> None:
        """Raise a DataError with all flaws, if there are any; `size` is that of the first picture taken."""
        flaws = Flaws(self._listing.folder)
        for text in self._listing.flaws:
            flaws.add(text)
        if self._largest == 1:
            flaws.add(
                "no pixel is above 1 of 255: nearly black pictures, or masks of zeros and ones; save masks "
                "with 0 and 255, or as an array of booleans"
            )
        for reason, names in self._by_reason.items():
            flaws.add(f"{some(names)}: {reason}")
        if self._of_other_sizes:
            height, width = size
            flaws.add(
                f"{some(self._of_other_sizes)} pixels, but {first} has {height}x{width} (height x width); "
                f"make all of one size, or give size = [{height}, {width}] to have them resized"
            )
        flaws.refuse()
