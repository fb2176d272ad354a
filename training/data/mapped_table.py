"""Tables larger than memory: read twice in blocks, and copied once into files of float32 that are mapped.

The first pass finds all that is wrong, the categories and the scaling; the second writes each row into the
file of its split. The files are kept, under a name that follows from the table and from the recipe's [data].
Training keeps scores and p-values of every held-out row, so of each held-out part a bounded number of rows is
used, drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from service.media.tables.opening import stem_of
from service.media.tables.sources import TableSource
from service.numerics.noise import Doubles
from training.data import cache
from training.data.dataset import SPLITS, Dataset, Items, Labels
from training.data.features import bounded, scaling_of, source_of, table_notes
from training.data.moments import Moments
from training.data.options import DataOptions
from training.data.reading import TextColumn
from training.data.splits import MOST_HELD_OUT_ROWS, Classes, check_sizes, cut_notes, kept_classes
from training.data.stored import chosen_rows
from training.data.table_columns import TableColumns, Values, blocks_of

Part = Literal["train", "validation", "calibration", "test", "outliers"]
PARTS: Final[tuple[Part, ...]] = (*SPLITS, "outliers")
_FORMAT: Final = 2


def part_of_rows(first: int, count: int, options: DataOptions) -> npt.NDArray[np.int64]:
    """Return the split of rows `first`, ... as places in `SPLITS`, by chance: `split_seed` and its number.

    Source of the mixing function: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators", OOPSLA, section 3 (SplitMix64).
    """
    shares = (options.validation_share, options.calibration_share, options.test_share)
    numbers = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(options.split_seed)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    uniform = mixed.astype(np.float64) / 2.0**64
    return (np.searchsorted(np.cumsum(shares), uniform, side="right") + 1) % len(SPLITS)


def load_large(table: TableSource, options: DataOptions, files: list[Path], kept: Path) -> Dataset:
    """Copy a table into files in `kept`, unless it has been, and return the dataset of these.

    Raises:
        DataError: All that is wrong with the table.
    """
    state = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    folder = cache.place_of([_FORMAT, state, options.model_dump(mode="json")], kept)
    read = TableColumns(table, options)
    moments, classes = _survey(table, read, options)
    columns = read.model_columns()
    counts = {part: int(moments.parts[place]) for place, part in enumerate(PARTS)}
    check_sizes({split: range(counts[split]) for split in SPLITS}, str(options.own_path))
    scaling = replace(scaling_of(moments, columns, options.own_path), absent=read.absent)
    if not folder.is_dir():
        _write(table, read, options, classes, folder)
    cache.use(folder)
    features = sum(column.features for column in columns)
    items: dict[Part, Items] = {}
    labels: dict[Part, Labels] = {}
    for part in PARTS:
        items[part] = _mapped(folder / f"{part}.f4", (counts[part], features))
        labels[part] = _labels(folder / f"{part}.i8", counts[part])
        if part != "train" and counts[part] > MOST_HELD_OUT_ROWS:
            generator = np.random.default_rng((options.split_seed, PARTS.index(part)))
            rows = np.sort(generator.choice(counts[part], MOST_HELD_OUT_ROWS, replace=False))
            items[part], labels[part] = chosen_rows(items[part], rows), labels[part][rows]
    notes = (
        *read.notes(),
        *table_notes(columns, scaling, moments),
        f"The table takes more than {options.memory_mib} MiB, so its rows were copied once into {folder} and "
        "are read from there; each row's split was chosen by chance.",
        *cut_notes(counts.items(), MOST_HELD_OUT_ROWS, "rows"),
    )
    return Dataset(
        name=stem_of(options.own_path.name),
        source=source_of(moments.rows, columns, options.own_path.name, options.keep),
        item_shape=(features,),
        class_names=classes.names,
        items={split: items[split] for split in SPLITS},
        labels={split: labels[split] for split in SPLITS},
        columns=bounded(columns, moments),
        scaling=scaling,
        left_out=read.left_out,
        outliers=items["outliers"] if options.keep else None,
        notes=notes,
        kind=options.dataset,
    )


def _survey(table: TableSource, columns: TableColumns, options: DataOptions) -> tuple[Moments, Classes]:
    """Read all rows, and return the moments of the training split's features and the classes.

    Numbers have moments; of a category those of its first feature count where it is missing.
    """
    moments = Moments(len(columns.learned), len(PARTS))
    for block in map(columns.add, blocks_of(table, options.own_path)):
        numbers = np.stack([_as_numbers(columns, name, block[name]) for name in columns.learned], axis=1)
        moments.add(numbers, _parts(columns, block, options, moments.rows))
    columns.check(options.own_path)
    names = columns.label.names if columns.label else ()
    if options.keep:
        names = kept_classes(names, options.keep, str(options.own_path))
    return moments, Classes(names, np.empty(0, np.int64))


def _as_numbers(columns: TableColumns, name: str, values: Values) -> Doubles:
    """Return a column's numbers; of categories 0, and NaN where they are missing."""
    if isinstance(columns.columns[name], TextColumn):
        return np.where(values < 0, np.nan, 0.0)
    return np.asarray(values, np.float64)


def _parts(
    columns: TableColumns, block: Mapping[str, Values], options: DataOptions, first: int
) -> npt.NDArray[np.int64]:
    """Return the place in `PARTS` of every row of a block."""
    rows = len(next(iter(block.values())))
    parts = part_of_rows(first, rows, options)
    if options.keep and columns.label:
        keep = {*options.keep, *(name.casefold() for name in options.keep)}
        kept = np.array([text in keep or text.casefold() in keep for text in columns.label.texts])
        parts[~kept[block[columns.label.name]]] = PARTS.index("outliers")
    return parts


def _write(
    table: TableSource, columns: TableColumns, options: DataOptions, classes: Classes, folder: Path
) -> None:
    """Write the files of all parts into a folder, which appears when they are whole.

    `columns` have read all rows.
    """
    again, first, label = TableColumns(table, options), 0, columns.label
    places = None
    if label is not None:
        index = {name: place for place, name in enumerate(classes.names)}
        kept = np.array([index.get(name, -1) for name in label.names], np.int64)
        places = kept[label.places()[:-1]]
    with cache.written(folder, f"{options.own_path} cannot be copied to") as staging, ExitStack() as stack:
        files = [stack.enter_context((staging / f"{part}.f4").open("wb")) for part in PARTS]
        labels = [stack.enter_context((staging / f"{part}.i8").open("wb")) for part in PARTS]
        for block in map(again.add, blocks_of(table, options.own_path)):
            parts = _parts(columns, block, options, first)
            items = np.concatenate([columns.features(name, block[name]) for name in columns.learned], axis=1)
            for place, (file, label_file) in enumerate(zip(files, labels, strict=True)):
                chosen = parts == place
                items[chosen].astype(np.float32).tofile(file)
                if label is not None and places is not None:
                    places[block[label.name][chosen]].tofile(label_file)
            first += len(parts)


def _mapped(path: Path, shape: tuple[int, int]) -> Items:
    """Return a file of float32 as an array that is read when it is used; writes never reach the file."""
    if not shape[0]:
        return np.empty(shape, np.float32)
    return np.memmap(path, np.float32, "c", shape=shape)


def _labels(path: Path, rows: int) -> Labels:
    if not path.stat().st_size:
        return np.zeros(rows, np.int64)  # pages of zeros take no memory
    return np.memmap(path, np.int64, "c", shape=(rows,))
