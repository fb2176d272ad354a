"""A table in every form of file that people keep one in."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

ROWS = 60
RANDOM = np.random.default_rng(7)


def readings() -> dict[str, list[Any]]:
    return {
        "temperature": RANDOM.normal(20, 2, ROWS).round(3).tolist(),
        "flow": RANDOM.normal(5, 1, ROWS).round(3).tolist(),
        "rock": [["sand", "lime"][row % 2] for row in range(ROWS)],
    }


TABLE = readings()
ONE_HOT = {"one_hot": ["rock"]}
"""The options of a recipe that take its text for a category."""


def as_csv(table: dict[str, list[Any]], separator: str = ",", decimal: str = ".") -> str:
    rows = zip(
        *([str(value).replace(".", decimal) for value in values] for values in table.values()), strict=True
    )
    return "\n".join(separator.join(row) for row in [tuple(table), *rows]) + "\n"


def zipped(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, as_csv(TABLE))


def parts(path: Path) -> None:
    path.mkdir()
    table = pyarrow.table(TABLE)
    parquet.write_table(table.slice(0, 40), path / "part-00000.snappy.parquet")
    parquet.write_table(table.slice(40), path / "part-00001.snappy.parquet")
    (path / "_SUCCESS").touch()


def indexed(path: Path) -> None:
    table = pyarrow.table({**TABLE, "__index_level_0__": list(range(3, 3 + ROWS))})
    pandas = json.dumps({"index_columns": ["__index_level_0__"]}).encode()
    parquet.write_table(table.replace_schema_metadata({b"pandas": pandas}), path)


def zstandard(path: Path) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(as_csv(TABLE).encode())


FORMS: dict[str, Callable[[Path], Any]] = {
    "blank-below.csv": lambda path: path.write_text(as_csv(TABLE) + ",,\n" * 900 + "\n , ,\n,,"),
    "t.csv": lambda path: path.write_text(as_csv(TABLE)),
    "T.CSV": lambda path: path.write_text(as_csv(TABLE)),
    "t.tsv": lambda path: path.write_text(as_csv(TABLE, "\t")),
    "bars.csv": lambda path: path.write_text(as_csv(TABLE, "|")),
    "spaces.csv": lambda path: path.write_text(as_csv(TABLE, ", ")),
    "semicolons.csv": lambda path: path.write_text(as_csv(TABLE, ";", ",")),
    "excel.csv": lambda path: path.write_bytes(as_csv(TABLE, ";", ",").encode("utf-8-sig")),
    "utf16.csv": lambda path: path.write_bytes(as_csv(TABLE, "\t").encode("utf-16")),
    "utf16-unmarked.csv": lambda path: path.write_bytes(as_csv(TABLE).encode("utf-16-le")),
    "t.csv.gz": lambda path: path.write_bytes(gzip.compress(as_csv(TABLE).encode())),
    "t.csv.bz2": lambda path: path.write_bytes(bz2.compress(as_csv(TABLE).encode())),
    "t.csv.xz": lambda path: path.write_bytes(lzma.compress(as_csv(TABLE).encode())),
    "t.csv.zst": zstandard,
    "t.csv.zip": lambda path: zipped(path, "t.csv"),
    "t.zip": lambda path: zipped(path, "inside.csv"),
    "t.parquet": lambda path: parquet.write_table(pyarrow.table(TABLE), path),
    "index.parquet": indexed,
    "spark.parquet": parts,
}
