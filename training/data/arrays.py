"""The user's arrays: an .npy or .npz file of pictures or of a table of numbers."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import Unfit
from service.format.columns import Column
from service.media.items import checked_unit_interval
from training.data.archive import bytes_of_arrays, mapped_arrays
from training.data.dataset import SPLITS, DataError, Dataset, Items
from training.data.features import check_numbers, table_dataset
from training.data.flaws import Flaws
from training.data.options import MEMORY_MIB, DataOptions
from training.data.pictures import picture_dataset, picture_source
from training.data.splits import Partition, check_sizes, classes_of, no_classes, partition
from training.data.stored import StoredPictures, in_blocks

NumberArray = npt.NDArray[Any]
"""An array as stored, of any numeric dtype."""

_MOST_CHANNELS = 4
_LABELS = re.compile(r"(?i)label|target|class|(?:^|_)y(?:$|_)")
"""Names of arrays that have the classes of items."""


def load_arrays(options: DataOptions, cache: Path) -> Dataset:
    """Load an .npy (the items) or an .npz (`items` and perhaps `labels`, or the four splits).

    Items (N, H, W) and (N, C, H, W) are pictures, uint8 or floats in [0, 1]; items (N, F) are a table of
    numbers in their own units, with columns `feature-0`, `feature-1`, ...; NaN is a missing value. What an
    .npz compresses of more than `memory_mib` is unpacked into `cache` once, and read from there.

    Raises:
        DataError: The file cannot be read, or its arrays do not fit.
    """
    path = options.own_path
    arrays = read_arrays_file(path, cache, options.memory_mib)
    items, rows = (_joined if set(arrays) == set(SPLITS) else _split)(arrays, path, options)
    if items.ndim > 2:
        images = _stored(items, path) if isinstance(items, np.memmap) else _images(items, path)
        return picture_dataset(path.stem, picture_source(images, path.name), images, rows, options)
    if options.binarise != "none":
        raise DataError(
            f"{path}: binarise = {options.binarise!r} came with a table of shape {list(items.shape)}; "
            "leave it out, or give pictures as (N, H, W)"
        )
    values = items.astype(np.float64)
    columns = [Column(name=f"feature-{index}") for index in range(values.shape[1])]
    flaws = Flaws(path)
    for column, numbers in zip(columns, values.T, strict=True):
        check_numbers(numbers, flaws, column.name, options)
    flaws.refuse()
    return table_dataset(path, values, columns, rows, options)


def read_arrays_file(path: Path, cache: Path, memory_mib: int = MEMORY_MIB) -> Mapping[str, NumberArray]:
    """Read the arrays by name; that of an .npy is called `items`. Nothing is unpickled.

    Arrays of more than `memory_mib` MiB are mapped, and read when they are used; compressed ones are unpacked
    into `cache` for that.

    Raises:
        DataError: The file is missing, damaged or of another kind, or holds Python objects.
    """
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path}: dataset 'arrays' reads .npy and .npz files; save the array with numpy")
    try:
        if path.suffix == ".npy" and path.stat().st_size > memory_mib * 2**20:
            return {"items": np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix == ".npz" and bytes_of_arrays(path) > memory_mib * 2**20:
            return mapped_arrays(path, cache)
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"items": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, seen from {Path.cwd()}; correct `path`") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        if "pickled" in str(error):  # which numpy supposes of all that it does not know
            raise DataError(f"{path} is no file of numpy's, though so named; save it by np.save") from error
        if "pickle" in str(error) or "Python objects" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are never unpickled, since that can run any code; save "
                "an array of numbers, e.g. by np.stack of equally large items"
            ) from error
        raise DataError(f"{path} cannot be read as numpy's {path.suffix}: {error}; save it anew") from error


def _joined(
    arrays: Mapping[str, NumberArray], path: Path, options: DataOptions
) -> tuple[NumberArray, Partition]:
    """Return the items of all splits, and the splits as they came."""
    parts = {split: _checked(arrays[split], split, path) for split in SPLITS}
    if len({(part.shape[1:], part.dtype) for part in parts.values()}) > 1:
        came = ", ".join(f"{split} {part.dtype} {list(part.shape)}" for split, part in parts.items())
        raise DataError(f"{path}: the splits differ in the shape or type of their items: {came}")
    first = next(iter(parts.values()))
    # slices of one mapped array, end to end and in this order, or arrays of their own
    items = first.base if isinstance(first, np.memmap) else np.concatenate(list(parts.values()))
    assert isinstance(items, np.ndarray)
    ends = np.cumsum([len(part) for part in parts.values()])
    # shuffled, because the rows may be sorted by class, and then the first rows are no sample
    shuffle = np.random.default_rng(options.split_seed)
    rows = {
        split: shuffle.permutation(np.arange(end - len(parts[split]), end))
        for split, end in zip(SPLITS, ends, strict=True)
    }
    check_sizes(rows, str(path))
    if options.keep:
        raise DataError(f"{path}: keep came, but an .npz with its own splits has no classes; leave keep out")
    return items, Partition(rows, no_classes(len(items)))


def _split(
    arrays: Mapping[str, NumberArray], path: Path, options: DataOptions
) -> tuple[NumberArray, Partition]:
    """Return the items, and splits of them."""
    if "items" not in arrays or set(arrays) - {"items", "labels"}:
        raise DataError(
            f"{path} has the keys {', '.join(map(repr, arrays)) or '(none)'}; wanted `items` and perhaps "
            f"`labels`, or `train`, `validation`, `calibration` and `test`{repacking(arrays, path)}"
        )
    items, labels = _checked(arrays["items"], "items", path), arrays.get("labels")
    if labels is None:
        return items, partition(no_classes(len(items)), options)
    if labels.shape != (len(items),) or labels.dtype.kind not in "iubU":
        raise DataError(
            f"{path}: labels are {labels.dtype} of shape {list(labels.shape)}; wanted one whole number or "
            f"text for each of the {len(items)} items"
        )
    return items, partition(classes_of([str(label) for label in labels.tolist()]), options)


def repacking(arrays: Mapping[str, NumberArray], path: Path) -> str:
    """Return the end of a message on arrays of other names: the line that saves the likeliest ones anew."""
    numbers = {name: each for name, each in arrays.items() if each.dtype.kind in "fiub"}
    rows = [name for name in numbers if numbers[name].ndim > 1]
    items = max(rows, key=lambda name: numbers[name].size, default="")
    if not items:
        return ""
    array = numbers[items]
    last = array.ndim == 4 and array.shape[1] > _MOST_CHANNELS >= array.shape[3]
    taken = f'items=data["{items}"]' + (".transpose(0, 3, 1, 2)" if last else "")
    for name, each in arrays.items():
        of_rows = each.shape in ((len(array),), (len(array), 1)) and each.dtype.kind in "iubU"
        if of_rows and _LABELS.search(name):
            taken += f', labels=data["{name}"]' + ("[:, 0]" if each.ndim > 1 else "")
            break
    return (
        f'. Save them so: import numpy as np; data = np.load("{path.name}"); np.savez("items.npz", {taken})'
    )


def _checked(array: NumberArray, key: str, path: Path) -> NumberArray:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: {key} holds {array.dtype}, not numbers; save uint8 or floats")
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DataError(
            f"{path}: {key} has shape {list(array.shape)}; wanted pictures (N, H, W) or (N, C, H, W), or a "
            "table (N, F), none of them 0"
        )
    return array


def _stored(array: NumberArray, path: Path) -> StoredPictures:
    """Return mapped pictures as they are, after a look at all of them in blocks."""
    if array.dtype == np.uint8:
        largest = max(int(block.max()) for block in in_blocks(array))
        _images(np.full((1, *array.shape[1:]), largest, np.uint8), path)
    else:
        first = 0
        for block in in_blocks(array):
            _images(block, path, first)
            first += len(block)
    return StoredPictures(array[:, None] if array.ndim == 3 else array)


def _images(array: NumberArray, path: Path, first: int = 0) -> Items:
    """Convert pictures to float32 (N, C, H, W) in [0, 1]; the number of the first is for messages."""
    if array.ndim == 3:  # of one channel
        array = array[:, None]
    if array.shape[1] > _MOST_CHANNELS:
        last = array.shape[3] <= _MOST_CHANNELS
        raise DataError(
            f"{path}: pictures of shape {list(array.shape[1:])} have {array.shape[1]} channels, at most "
            f"{_MOST_CHANNELS} are taken; "
            + ("put channels first: items.transpose(0, 3, 1, 2)" if last else "the order is (N, C, H, W)")
        )
    if array.dtype == np.uint8:
        try:
            return checked_unit_interval(array)
        except Unfit as error:
            raise DataError(f"{path}: {error}") from error
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype.kind in "iu":
        raise DataError(
            f"{path}: pictures came as {array.dtype}; wanted uint8 (0 to 255) or floats in [0, 1]"
        )
    inside = (array >= 0) & (array <= 1)  # False for NaN
    if not inside.all():
        raise DataError(
            f"{path}: {int((~inside).sum())} values of the pictures lie outside [0, 1], the first is "
            f"{array[~inside][0]:g}, in item {first + int(np.argwhere(~inside)[0][0])}; scale them, or save "
            "uint8 for 0 to 255"
        )
    return array.astype(np.float32)
