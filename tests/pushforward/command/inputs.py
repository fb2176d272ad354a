"""The files that the commands read in tests: a table, pictures, and the same rows in every format."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
from pyarrow import csv as arrow_csv
from pyarrow import parquet

PICTURES = np.random.default_rng(3).integers(0, 256, (5, 8, 8), np.uint8)
TABLE = "height,colour,id\n171.5,blue,7\n168,red,8\n1e4,green,9\n"
HEIGHTS = np.array([[171.5, 0, 0, 1], [168, 1, 0, 0], [1e4, 0, 1, 0]], np.float32)


def as_files(folder: Path) -> None:
    """Write the same three rows in each format."""
    text = TABLE.replace("1e4", "10000")
    (folder / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (folder / "rows.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "rows.tsv").write_text(text.replace(",", "\t"))
    (folder / "bare.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in HEIGHTS.tolist()))
    np.save(folder / "rows.npy", HEIGHTS)
    np.savez(folder / "rows.npz", items=HEIGHTS, labels=np.arange(3))
    table = arrow_csv.read_csv(io.BytesIO(text.encode()))
    parquet.write_table(table, folder / "rows.parquet")
    (folder / "rows.json").write_text(json.dumps({"records": table.to_pylist()}))
    (folder / "list.json").write_text(json.dumps(HEIGHTS.tolist()))
    (folder / "body.json").write_text(json.dumps({"inputs": HEIGHTS.tolist(), "alpha": 0.5}))
