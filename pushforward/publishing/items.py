"""Items that a publisher has in files: an array of numpy, or a folder of pictures. It needs no torch."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.dataset import DataError
from training.data.folder import FolderFlaws, Misfit, read_pictures
from training.data.listing import list_pictures
from training.data.options import DataOptions

_PICTURE_AXES = 3


def read_items(path: Path, shape: Sequence[int] | None = None) -> np.ndarray[Any, Any]:
    """Read an .npy, an .npz of one array or with `items`, or a folder of pictures of `shape` (C, H, W).

    Pictures are uint8 (N, C, H, W). Of MVTec's layout those of `train` are taken.

    Raises:
        ValueError: It cannot be read so; says what came and what to do.
    """
    if path.is_dir():
        return _pictures(path, shape)
    if not path.is_file():
        raise ValueError(f"{path} is not there")
    if not zipfile.is_zipfile(path):
        try:
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: not an .npy file of numbers ({error})") from None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = arrays.files
            name = "items" if "items" in names else names[0]
            array: np.ndarray[Any, Any] = arrays[name]
    except (OSError, ValueError, EOFError, LookupError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz of items ({error})") from None
    if len(names) > 1 and name != "items":
        raise ValueError(f"{path} has the arrays {', '.join(names)}; wanted one, or one called items")
    return array


def read_labels(path: Path) -> np.ndarray[Any, Any] | None:
    """Return the classes of items that `read_items` reads: `labels` of an .npz, or the names of sub-folders.

    None if there are no such.

    Raises:
        ValueError: They cannot be read so; says what came.
    """
    if path.is_dir():
        listing = list_pictures(path)
        folders = [name.rpartition("/")[0] for name in listing.names]
        return np.array(folders) if all(folders) and listing.test is None else None
    if not zipfile.is_zipfile(path):
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            labels: np.ndarray[Any, Any] | None = arrays["labels"] if "labels" in arrays.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} has `labels` that are no numbers or names ({error})") from None
    return labels


def _pictures(folder: Path, shape: Sequence[int] | None) -> np.ndarray[Any, Any]:
    if shape is None or len(shape) != _PICTURE_AXES or shape[0] not in (1, 3):
        raise ValueError(f"{folder} is a folder, of pictures at best; give the items as an .npy file")
    channels, height, width = shape
    options = DataOptions(dataset="images", path=folder, channels=1 if channels == 1 else 3)
    try:
        listing = list_pictures(folder)
        flaws, taken = FolderFlaws(listing), []
        for place, (name, read) in enumerate(read_pictures(listing, options)):
            if listing.test is not None and place in listing.test:
                continue
            if isinstance(read, Misfit):
                flaws.add(name, read.reason)
            elif read.size != (height, width):
                flaws.add(name, f"it has not {height}x{width} pixels (height x width); resize it")
            else:
                taken.append(read.pixels.transpose(2, 0, 1))
        flaws.refuse()
    except DataError as error:
        raise ValueError(str(error)) from None
    return np.stack(taken)
