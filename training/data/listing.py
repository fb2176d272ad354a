"""The pictures in a folder: flat, with one sub-folder per class, or in the layout of MVTec AD.

That layout has `train/good`, `test/good`, and in `test` one sub-folder for each kind of defect. Source:
Bergmann et al. 2019, "MVTec AD", CVPR.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from service.media.fitting import ENDINGS
from training.data.dataset import DataError, Rows
from training.data.options import DataOptions
from training.data.splits import Classes, Partition, classes_of, in_order, listed, no_classes, partition

GOOD: Final = "good"
"""The class of ordinary pictures in MVTec's layout."""
_TRAIN, _TEST, _MASKS = "train", "test", "ground_truth"
_MOST_NAMED: Final = 3
_PARTS: Final = frozenset(
    ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "holdout")
)
_IMAGE_FOLDERS: Final = frozenset(("image", "images", "img", "imgs", "pictures"))
_MASK_FOLDERS: Final = frozenset(
    ("mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "ground_truth")
)


@dataclass
class Listing:
    """The pictures in a folder, and what is wrong with it."""

    folder: Path
    names: list[str] = field(default_factory=list)
    """The paths of the pictures below the folder, in order."""
    classes: Classes = field(default_factory=lambda: no_classes(0))
    """The class of each picture: the sub-folder that it lies in."""
    test: Rows | None = None
    """The pictures of `test` in MVTec's layout, by number; None for other layouts."""
    skipped: list[str] = field(default_factory=list)
    """Files that are no pictures, by their endings."""
    flaws: list[str] = field(default_factory=list)

    def split(self, options: DataOptions) -> tuple[Partition, DataOptions]:
        """Return the splits, and the options by which they were made: MVTec's layout keeps the good pictures.

        Raises:
            DataError: see `partition`.
        """
        if self.test is not None and not options.keep:
            options = options.model_copy(update={"keep": (GOOD,)})
        return partition(self.classes, options, self.test), options

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences on what was left out, and on the layout that was found."""
        notes = []
        if self.skipped:
            notes.append(
                f"Files that are no pictures were left out ({len(self.skipped)}): {some(self.skipped)}."
            )
        if self.test is not None:
            notes.append(
                f"The folder has the layout of MVTec AD: {_TRAIN}/{GOOD} is learned, {_TEST}/{GOOD} is the "
                f"test split, and the other pictures of {_TEST} are outliers that test the anomaly scores."
            )
        return tuple(notes)


def list_pictures(folder: Path) -> Listing:
    """List the pictures of a folder, with all that is wrong with it. Hidden names are left out.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, seen from {Path.cwd()}; correct `path`")
    listing = Listing(folder)
    files, folders = _inside(folder)
    own = [name for name in files if _is_picture(name)]
    listing.skipped += [name for name in files if not _is_picture(name)]
    if {_TRAIN, _TEST} <= {*folders} and _inside(folder / _TRAIN)[1] == [GOOD]:
        _add_parts(listing, folders)
        return listing
    if folders and own:
        listing.flaws.append(
            f"it has sub-folders, e.g. {folders[0]}, and pictures beside them, e.g. {own[0]}; use one "
            "sub-folder per class, or none"
        )
    if flaw := _parts_flaw(folder, folders):
        listing.flaws.append(flaw)
        return listing
    if not folders:
        listing.names = own
        listing.classes = no_classes(len(own))
    for name in in_order(folders):
        _add_class(listing, name)
    if folders:
        listing.classes = classes_of([name.partition("/")[0] for name in listing.names])
    if not folders and not own:
        listing.flaws.append(_without_pictures("it", listing.skipped))
    return listing


def holds_pictures(folder: Path) -> bool:
    """Return True if there is a picture in a folder, by its ending, however deep."""
    return any(_is_picture(path.name) and not path.name.startswith(".") for path in folder.rglob("*"))


def some(names: list[str]) -> str:
    """List the first few names for a message."""
    return listed(names, _MOST_NAMED)


def _add_parts(listing: Listing, folders: list[str]) -> None:
    """Add the pictures of MVTec's layout."""
    _add_class(listing, f"{_TRAIN}/{GOOD}")
    first = len(listing.names)
    for kind in _inside(listing.folder / _TEST)[1]:
        _add_class(listing, f"{_TEST}/{kind}")
    listing.test = np.arange(first, len(listing.names))
    listing.classes = classes_of([name.split("/")[1] for name in listing.names])
    if others := [name for name in folders if name not in (_TRAIN, _TEST, _MASKS)]:
        listing.flaws.append(f"it has {_TRAIN} and {_TEST}, and beside them {some(others)}; move them out")


def _add_class(listing: Listing, name: str) -> None:
    """Add the pictures of a sub-folder."""
    files, folders = _inside(listing.folder / name)
    pictures = [f"{name}/{file}" for file in files if _is_picture(file)]
    listing.names += pictures
    listing.skipped += [f"{name}/{file}" for file in files if not _is_picture(file)]
    if folders:
        whole = f"give {listing.folder / name} as the path, or move them out"
        listing.flaws.append(f"{name} has sub-folders itself, e.g. {folders[0]}; {whole}")
    elif not pictures:
        others = [f"{name}/{file}" for file in files]
        listing.flaws.append(_without_pictures(name, others) + ("" if others else ", or remove it"))


def _without_pictures(what: str, others: list[str]) -> str:
    """Return the flaw of a folder without pictures, which may hold other files."""
    if not others:
        return f"{what} is empty; put pictures into it ({', '.join(ENDINGS)})"
    return (
        f"{what} holds no pictures ({', '.join(ENDINGS)}), but {some(others)}; convert pictures of other "
        "kinds to PNG, and give those without an ending theirs"
    )


def _parts_flaw(folder: Path, folders: list[str]) -> str | None:
    """Return a flaw if sub-folders are parts of a set, or pictures and their masks, instead of classes."""
    known = {name.lower(): name for name in folders}
    if len(folders) > 1 and known.keys() <= _PARTS:
        first = known.get("train", folders[0])
        return (
            f"its sub-folders {some(folders)} are parts of a set, and no classes; give {folder / first} as "
            "the path: held-out pictures are drawn from it"
        )
    pictures, masks = known.keys() & _IMAGE_FOLDERS, known.keys() & _MASK_FOLDERS
    if len(folders) > 1 and pictures and masks and known.keys() <= _IMAGE_FOLDERS | _MASK_FOLDERS:
        return (
            f"its sub-folders {some(folders)} are pictures and their masks, and no classes; give "
            f"{folder / known[min(pictures)]} as the path"
        )
    return None


def _inside(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the files and of the folders in a folder, sorted, without hidden ones."""
    entries = sorted((each.name, each.is_dir()) for each in folder.iterdir() if not each.name.startswith("."))
    return [name for name, is_dir in entries if not is_dir], [name for name, is_dir in entries if is_dir]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(ENDINGS)
