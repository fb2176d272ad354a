"""The user's table: CSV, TSV or Parquet with named columns, perhaps compressed or in parts.

Files are read by `service.media.tables`, the rule by which they are scored as well.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from service.errors import ServiceError
from service.format.columns import LONGEST_NAME
from service.media.tables.opening import parts_of, stem_of
from service.media.tables.sources import TableSource, TextTable, open_table
from training.data.dataset import DataError, Dataset
from training.data.features import table_dataset
from training.data.flaws import Flaws
from training.data.mapped_table import load_large
from training.data.options import DataOptions
from training.data.splits import named, partition
from training.data.table_columns import TableColumns, Values, blocks_of


def load_table(options: DataOptions, cache: Path) -> Dataset:
    """Load a table: numbers in their own units, categories one-hot, in the file's order.

    Integers and booleans are numbers. The categories of a column come from all rows of the file, not only
    from the training split, so a category that training does not see still has its feature. A table of more
    than `memory_mib` is copied into `cache` and read from there.

    Raises:
        DataError: Naming the file, all that is wrong with it, and what to do.
    """
    path = options.own_path
    table = open_own(options)
    files = parts_of(path) if path.is_dir() else [path]
    if sum(file.stat().st_size for file in files) > options.memory_mib * 2**20:
        return load_large(table, options, files, cache)
    read = TableColumns(table, options)
    parts: dict[str, list[Values]] = {name: [] for name in read.columns}
    for block in blocks_of(table, path):
        for name, values in read.add(block).items():
            parts[name].append(values)
    read.check(path)
    whole: dict[str, Values] = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    classes = read.classes(whole)
    features = np.concatenate([read.features(name, whole[name]) for name in read.learned], axis=1)
    dataset = table_dataset(path, features, read.model_columns(), partition(classes, options), options)
    assert dataset.scaling is not None
    return replace(
        dataset,
        name=stem_of(path.name),
        scaling=replace(dataset.scaling, absent=read.absent),
        left_out=read.left_out,
        notes=(*read.notes(), *dataset.notes),
    )


def open_own(options: DataOptions) -> TableSource:
    """Open the table at `path`, and check the names of its columns.

    Raises:
        DataError: It is missing or no such table, or names are doubled, too long, unknown, or numbers.
    """
    path = options.own_path
    if not path.exists():
        raise DataError(f"{path}: no such file, seen from {Path.cwd()}; correct `path`")
    wanted = {*options.one_hot, *options.column_roles["label"], *options.missing_codes}
    try:
        table = open_table(path, options.separator, options.decimal, wanted)
    except ServiceError as error:
        raise DataError(f"{path}: {error}") from error
    _check_names(table, options, path)
    return table


def _check_names(table: TableSource, options: DataOptions, path: Path) -> None:
    names, flaws = table.names, Flaws(path)
    for name, times in Counter(names).items():
        if times > 1 and name not in options.drop:
            flaws.add(f"column {name!r} is there {times} times; rename one")
    for option, chosen in {**options.column_roles, "missing_codes": tuple(options.missing_codes)}.items():
        for name in chosen:
            if name not in names and name not in table.left_out:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
                flaws.add(
                    f"{option} names {name!r}, but no column is called so; did you mean {near!r}? "
                    f"The columns are {named(names)}"
                )
    numbered = names == [str(place) for place in range(len(names))]
    if isinstance(table, TextTable) and table.first_line_is_numbers and not numbered:
        flaws.add(
            f"the first line, {named(names)}, holds numbers where column names should be; put a line with "
            "names above it"
        )
    for name in names:
        if name not in options.drop and not 1 <= len(name) <= LONGEST_NAME:
            flaws.add(
                f"the name of a column has {len(name)} characters ({name[:20]!r}), it may have 1 to "
                f'{LONGEST_NAME}; rename it, or leave it out, e.g. by drop = [""] for one without a name'
            )
    flaws.refuse()
