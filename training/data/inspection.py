"""Looks at a file or folder that nobody has described, and decides the [data] table of a recipe for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from service.errors import ServiceError
from service.media.tables.matching import has_no_name
from service.media.tables.opening import ending_of, is_folder_of_parts
from service.media.tables.sources import TextTable, open_table, whole
from service.numerics.noise import Doubles
from training.data.arrays import read_arrays_file, repacking
from training.data.cache import default_cache
from training.data.columns import ColumnRole, class_column, column_roles, missing_words, names_are_a_row
from training.data.dataset import SPLITS, DataError, Dataset, Rows
from training.data.folder import FolderFlaws, Misfit, read_pictures
from training.data.foreign import foreign_file
from training.data.listing import GOOD, holds_pictures, list_pictures, some
from training.data.loading import load_dataset
from training.data.options import DataOptions
from training.data.reading import TextColumn
from training.data.splits import Classes, classes_of, named, no_classes, partition
from training.data.table import open_own
from training.data.table_columns import blocks_of

_FEWEST_ROWS: Final = 20
_FEW_ROWS: Final = 100
"""Below so many rows more of them go to calibration and testing, or these would mean nothing."""
_MANY_ROWS: Final = 1000
_RESOLVING_ROWS: Final = (4, 9, 19, 99)
"""The fewest calibration rows that resolve the levels 0.2, 0.1, 0.05 and 0.01."""
_MOST_HELD_OUT: Final = 10_000
"""Rows for calibration, and for testing, that are enough."""
_LARGEST_SIDE: Final = 128
"""Pictures with a longer side are resized: a CPU takes hours to learn them."""
_RESIZED_SIDE: Final = 64
_LOOKED_AT: Final = (8, 8)
"""The size of pictures that are only looked at."""
_WHITE: Final = (255, 255, 255)
_MOST_SHOWN: Final = 20
_ONE_COLUMN: Final = (
    "If its rows hold several values, save it with commas, semicolons, tabs or bars between them"
)
_REMOVE_BLANK: Final = "rows of missing values; better remove them"
MOST_SEEN_CELLS: Final = 2**25
"""The largest number of values of a table that are looked at."""

Kind = Literal["arrays", "images", "table"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was seen, and what follows from it."""

    subject: str
    seen: str
    settled: str


@dataclass
class Inspection:
    """The contents of a file or folder, and the keys of [data] for it."""

    path: Path
    kind: Kind
    rows: int
    """All rows, also those that were only counted."""
    data: dict[str, Any] = field(default_factory=dict)
    """Keys of [data] in the order in which a recipe has them, without `dataset` and `path`."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Reasons by the names of columns that are not learned."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, subject: str, seen: str, settled: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(subject, seen, settled))

    def add_some(self, findings: Sequence[tuple[str, str, str]], rest: str, seen: str, settled: str) -> None:
        """Add the first of the findings on columns, and one on the rest of them."""
        for finding in findings[:_MOST_SHOWN]:
            self.add(*finding)
        if (more := len(findings) - _MOST_SHOWN) > 0:
            self.add(f"  {more} more {rest}", seen, settled)

    def load(self) -> Dataset:
        """Load the dataset as training will.

        Raises:
            DataError: It cannot be trained on, for a reason that was not foreseen.
        """
        return load_dataset(
            DataOptions.model_validate({"dataset": self.kind, "path": self.path, **self.data})
        )


def inspect(
    path: Path, label: str | None = None, keep: Sequence[str] = (), most_cells: int = MOST_SEEN_CELLS
) -> Inspection:
    """Look at a table, an array file or a folder of pictures.

    `label` is a table's column of classes, by default one with a usual name; `keep` the classes to learn. Of
    a table's first rows so many values are looked at, and further rows only counted.

    Raises:
        DataError: It cannot be read or trained on; says what to do.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder, seen from {Path.cwd()}; correct the path")
    if path.is_dir():
        is_table = is_folder_of_parts(path) and not holds_pictures(path)
    else:
        is_table = ending_of(path.name) not in (".npy", ".npz")
    if label is not None and not is_table:
        raise DataError(
            f"{path}: a label came, {label!r}, but only tables have columns of classes; leave it out"
        )
    if not is_table:
        return _pictures(path, keep) if path.is_dir() else _arrays(path, keep)
    if flaw := foreign_file(path):
        raise DataError(f"{path}: {flaw}")
    return _table(path, label, keep, most_cells)


def _split(
    inspection: Inspection,
    classes: Classes,
    keep: Sequence[str],
    *,
    pictures: bool,
    given_test: Rows | None = None,
) -> Rows:
    """Settle the classes to keep and the shares of the splits; return the rows of the training split.

    `given_test` are the rows of a test split that is there already, see `partition`.
    Where only the first rows have classes, since no more were looked at, it returns all of these to learn.

    Raises:
        DataError: There are too few rows, or a class to keep does not occur.
    """
    path, rows, seen = inspection.path, inspection.rows, np.arange(len(classes.of_row))
    if keep:
        if unknown := [name for name in keep if name not in classes.names]:
            if not classes.names:
                raise DataError(
                    f"{path}: no column of classes was found; name it with --label, or leave --keep out"
                )
            known = named(classes.names)
            raise DataError(f"{path}: no row has the class {unknown[0]!r}; the classes are {known}")
        seen = np.flatnonzero(np.isin(classes.of_row, [classes.names.index(name) for name in keep]))
        rows = round(len(seen) * rows / len(classes.of_row))
        inspection.data["keep"] = list(keep)
    if rows < _FEWEST_ROWS:
        raise DataError(f"{path}: {rows} rows are too few to learn from; give at least {_FEWEST_ROWS}")
    validation, calibration, test = _picture_shares(rows) if pictures else _table_shares(rows)
    shares = {"validation_share": validation, "calibration_share": calibration, "test_share": test}
    inspection.data |= shares
    about = ""
    if len(classes.of_row) < inspection.rows:
        about = "about "
        counts: dict[str, int] = {
            name.removesuffix("_share"): round(share * rows) for name, share in shares.items()
        }
        counts["train"] = rows - sum(counts.values())
    else:
        options = DataOptions(dataset=inspection.kind, path=path)
        split = partition(classes, options.model_copy(update={"keep": tuple(keep), **shares}), given_test)
        counts, seen = {name: len(each) for name, each in split.rows.items()}, split.rows["train"]
    inspection.add(
        "rows",
        f"{inspection.rows}"
        + (f", {about}{rows} of {', '.join(keep)}" if keep else "")
        + (f"; looked at the first {len(classes.of_row)}" if about else ""),
        about
        + "{train} to train on, {validation} to validate, {calibration} to calibrate, {test} to test".format(
            **counts
        ),
    )
    if classes.names and not keep:
        inspection.add("classes", named(classes.names), "all are learned; name the normal ones with --keep")
    return seen


def _picture_shares(rows: int) -> tuple[float, float, float]:
    if rows < _FEW_ROWS:
        return 0.15, 0.25, 0.25
    held_out = _rounded(min(0.2, _MOST_HELD_OUT / rows))
    return _rounded(min(0.1, _MOST_HELD_OUT / 2 / rows)), held_out, held_out


def _table_shares(rows: int) -> tuple[float, float, float]:
    """Return the shares to validate, calibrate and test on; all else is trained on, which scores need most.

    Calibration gets 15 % of the rows, or up to 20 % if that resolves a smaller level.
    """
    few = max(0.05, 2 / rows)  # a split has at least two rows
    levels = [needed for needed in _RESOLVING_ROWS if needed <= rows / 5]
    calibration = max(0.15, max(levels, default=2) / rows)
    test = 0.1 if rows >= _MANY_ROWS else few
    shares = (min(few, _MOST_HELD_OUT / 2 / rows), calibration, test)
    validation, calibration, test = (
        _rounded(min(share, _MOST_HELD_OUT / rows), up=rows < _MOST_HELD_OUT) for share in shares
    )
    return validation, calibration, test


def _rounded(share: float, up: bool = False) -> float:
    """Round down, or up, to three significant digits."""
    scale = 10.0 ** (2 - math.floor(math.log10(share)))
    return (math.ceil(share * scale - 1e-9) if up else math.floor(share * scale)) / scale


def _table(path: Path, label: str | None, keep: Sequence[str], most_cells: int) -> Inspection:
    try:
        names = open_table(path).names
    except ServiceError as error:
        raise DataError(f"{path}: {error}") from error
    nameless = [name for name in dict.fromkeys(names) if has_no_name(name)]
    options = DataOptions(dataset="table", path=path)
    source = open_own(options.model_copy(update={"drop": tuple(nameless), "label": label}))
    blocks = blocks_of(source, path)
    raw = whole(source, most_cells // max(1, len(source.names)), lambda: blocks)
    table = {name: values for name, values in raw.items() if name not in nameless}
    if isinstance(source, TextTable):
        _check_first_line(source, table, path)
    rows = len(next(iter(raw.values()), ()))
    if not rows:
        raise DataError(f"{path} has column names but no rows; give it rows")
    all_rows = source.rows
    if all_rows is None:
        all_rows = rows + sum(len(next(iter(block.values()))) for block in blocks)
    inspection = Inspection(path, "table", all_rows)
    inspection.left_out |= dict.fromkeys(nameless, "has no name")
    if source.is_text:
        inspection.add("file", str(source.dialect), "; ".join(source.notes) or "as usual")
    elif source.notes:
        inspection.add("file", "; ".join(source.notes), "read as one table")
    if isinstance(source, TextTable) and (blank := _blank_rows(raw)):
        inspection.add(
            "  blank", f"{len(blank)} rows hold no value, the first is row {blank[0]}", _REMOVE_BLANK
        )
    for name, reason in source.left_out.items():
        inspection.add(f"  {name}", reason, "left out")
    label = label or class_column(table)
    classes = no_classes(rows)
    if label is not None:
        reader = TextColumn(label, ())
        codes = reader.add(table[label])
        if reader.missing.count:
            raise DataError(
                f"{path}: the column of classes {label!r} has {reader.missing.count} missing values"
                f"{missing_words(table[label])}, in {reader.missing}; fill them in, or remove these rows"
            )
        classes = Classes(reader.names, reader.places()[codes])
    train = _split(inspection, classes, keep, pictures=False)
    _settle_columns(inspection, column_roles(table, train, label, source.dialect.decimal))
    return inspection


def _blank_rows(table: Mapping[str, Sequence[str]]) -> list[int]:
    """Return the numbers, from 0, of the rows of a text all of whose cells are blank."""
    first, *others = table.values()
    places = [place for place, cell in enumerate(first) if not cell.strip()]
    for cells in others:
        places = [place for place in places if not cells[place].strip()]
    return places


def _check_first_line(source: TextTable, table: Mapping[str, Any], path: Path) -> None:
    """Refuse a text whose first line has no names; an index before these, and empty columns, need none."""
    index = next((place for place, name in enumerate(source.names) if name), 0)
    filled = [place for place, is_filled in source.nameless.items() if is_filled and place >= index]
    if filled and len(filled) >= sum(map(bool, source.names)):
        raise DataError(
            f"{path}: columns without a name hold values, the first is column {filled[0] + 1}, and the first "
            f"line is {named(source.names)}; if that is a title, remove the lines above the names of the "
            "columns, else name all columns"
        )
    if names_are_a_row(table, source.dialect.decimal):
        raise DataError(
            f"{path}: the first line, {named(source.names)}, looks like a row and not like names of columns; "
            "put a line with names above it"
        )


def _settle_columns(inspection: Inspection, roles: Sequence[ColumnRole]) -> None:
    for role in (role for role in roles if role.role in ("redundant", "unfit")):
        inspection.left_out[role.name] = f"{role.seen}; {role.advice}" if role.advice else role.seen
    categories = [role.name for role in roles if role.role == "category"]
    keys: dict[str, Any] = {
        "drop": [*inspection.left_out],
        "one_hot": categories,
        "missing_codes": {role.name: [*role.codes] for role in roles if role.codes},
    }
    numbers = [role for role in roles if role.role == "number"]
    if numbers:
        inspection.add("numbers", f"{len(numbers)} of {len(roles)} columns", "learned in their own units")
    advised = [(f"  {role.name}", role.seen, f"a number; {role.advice}") for role in numbers if role.advice]
    inspection.add_some(advised, "numbers", "of the same kinds", "numbers")
    for role in roles:
        if role.role == "category":
            inspection.add(f"  {role.name}", role.seen, f"one_hot: {role.features} features")
        elif role.role == "class":
            keys["label"] = role.name
            inspection.add(f"  {role.name}", role.seen, "label: not learned")
    left_out = [
        (f"  {name or '(no name)'}", reason, "left out") for name, reason in inspection.left_out.items()
    ]
    inspection.add_some(left_out, "columns", "as the recipe says", "left out")
    if not numbers and not categories:
        reasons = "; ".join(f"{name!r}: {why}" for name, why in [*inspection.left_out.items()][:_MOST_SHOWN])
        hint = f". {_ONE_COLUMN}" if len(roles) == 1 else ""
        raise DataError(f"{inspection.path}: no column can be learned ({reasons}){hint}")
    inspection.data = {key: value for key, value in keys.items() if value} | inspection.data


def _arrays(path: Path, keep: Sequence[str]) -> Inspection:
    arrays = read_arrays_file(path, default_cache("pictures"))
    if "items" not in arrays and set(arrays) != set(SPLITS):
        keys = ", ".join(map(repr, arrays)) or "(none)"
        raise DataError(
            f"{path} has the keys {keys}, which training does not read; wanted `items` and perhaps `labels`"
            f"{repacking(arrays, path)}"
        )
    if set(arrays) == set(SPLITS):
        inspection = Inspection(path, "arrays", sum(map(len, arrays.values())))
        counts = ", ".join(f"{split} {len(arrays[split])}" for split in SPLITS)
        inspection.add("rows", f"{inspection.rows}", f"the file's own splits: {counts}")
        inspection.data |= {"keep": [*keep]} if keep else {}  # which loading refuses
        return inspection
    items = arrays["items"]
    inspection = Inspection(path, "arrays", len(items) if items.ndim else 0)
    classes = no_classes(inspection.rows)
    if "labels" in arrays and arrays["labels"].shape == (inspection.rows,):
        classes = classes_of([str(label) for label in arrays["labels"].tolist()])
    train = _split(inspection, classes, keep, pictures=items.ndim != 2)
    if items.ndim == 2 and items.dtype.kind in "fiub":
        _check_array_columns(items.astype(np.float64), train, inspection)
    return inspection


def _check_array_columns(values: Doubles, train: Rows, inspection: Inspection) -> None:
    """Refuse a table (rows, F) some of whose columns cannot be learned; a recipe cannot leave them out."""
    missing = np.isnan(values)
    if missing.any():
        seen = f"{missing.sum()} values, in {missing.any(1).sum()} rows and {missing.any(0).sum()} columns"
        inspection.add("missing", seen, "learned from the values that are there")
    roles = column_roles({str(place): column.copy() for place, column in enumerate(values.T)}, train)
    advice = "learned; better leave it out"
    repeating = [
        (f"  items[:, {role.name}]", role.seen, advice) for role in roles if role.role == "redundant"
    ]
    inspection.add_some(repeating, "columns", "repeat others, too", "learned; better leave them out")
    if unfit := [role for role in roles if role.role == "unfit"]:
        reasons = "; ".join(f"{role.name}: {role.seen}" for role in unfit[:_MOST_SHOWN])
        more = f"; and {len(unfit) - _MOST_SHOWN} more" if len(unfit) > _MOST_SHOWN else ""
        raise DataError(
            f"{inspection.path}: columns that cannot be learned, numbered from 0: {reasons}{more}. Save the "
            f"array without them: items = np.delete(items, {[int(role.name) for role in unfit]}, axis=1)"
        )


def _pictures(folder: Path, keep: Sequence[str]) -> Inspection:
    """Look at all pictures of a folder, each as a small one on white.

    Raises:
        DataError: All that is wrong with the folder and with its files.
    """
    listing = list_pictures(folder)
    look = DataOptions(dataset="images", path=folder, size=_LOOKED_AT, background=_WHITE)
    flaws = FolderFlaws(listing)
    sizes: Counter[tuple[int, int]] = Counter()
    done: Counter[str] = Counter()
    for name, read in read_pictures(listing, look):
        if isinstance(read, Misfit):
            flaws.add(name, read.reason)
        else:
            flaws.saw(read.pixels)
            sizes[read.size] += 1
            done.update(phrase for phrase in read.conversions if not phrase.startswith("resized"))
    flaws.refuse()
    inspection = Inspection(folder, "images", len(listing.names))
    if listing.skipped:
        inspection.add("  left out", some(listing.skipped), "no pictures, by their endings")
    if listing.test is not None:
        inspection.add("layout", "train/good and test, as MVTec AD has", "test stays what it is")
        keep = keep or [GOOD]
    _split(inspection, listing.classes, keep, pictures=True, given_test=listing.test)
    (height, width), _ = sizes.most_common(1)[0]
    seen = f"{height}x{width} (height x width)"
    if len(sizes) > 1:
        seen = f"{len(sizes)} sizes, most often {seen}"
    if max(height, width) > _LARGEST_SIDE:
        shrink = _RESIZED_SIDE / max(height, width)
        height, width = (max(8, round(side * shrink / 8) * 8) for side in (height, width))
    resized = len(sizes) > 1 or (height, width) not in sizes
    if resized:
        inspection.data = {"size": [height, width]} | inspection.data
    inspection.add("pictures", seen, f"all resized to {height}x{width}" if resized else "as they are")
    for phrase, count in done.items():
        is_background = phrase.startswith("put on a background")
        if is_background:
            inspection.data = {"background": [*_WHITE]} | inspection.data
        settled = "put on white: background" if is_background else phrase
        inspection.add("", f"{count} of them", settled)
    return inspection
