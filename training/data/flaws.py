"""Everything that is wrong with a file, in one error that says what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from training.data.dataset import DataError

_MOST_TOLD: Final = 20


def way_out(column: str, path: Path) -> str:
    """Return the advice that ends an error message: how a column of that file is left out."""
    if path.suffix.lower() in (".npy", ".npz"):
        number = column.rpartition("-")[2]
        return f"leave out items[:, {number}] (or, if rows are pictures, reshape them to (N, H, W))"
    return f"leave it out with drop = [{column!r}]"


class Flaws:
    """The flaws of a file as they are found."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: list[str] = []
        self._columns: list[str] = []

    def add(self, text: str, column: str | None = None) -> None:
        """Add a flaw; if a `column` has it, the way out is added to its text."""
        self._told.append(text if column is None else f"{text}, or {way_out(column, self._path)}")
        if column is not None:
            self._columns.append(column)

    def refuse(self) -> None:
        """Raise a DataError with all flaws, if there are any."""
        if not self._told:
            return
        if len(self._told) == 1:
            raise DataError(f"{self._path}: {self._told[0]}")
        lines = [f"{self._path}: {len(self._told)} things are wrong:", *self._told[:_MOST_TOLD]]
        text = "\n  - ".join(lines)
        if len(self._told) > _MOST_TOLD:
            text += f"\n  - and {len(self._told) - _MOST_TOLD} more"
        columns = list(dict.fromkeys(self._columns))
        if len(columns) > 1 and self._path.suffix.lower() not in (".npy", ".npz"):
            text += f"\nTo leave out all of these columns: drop = {columns}"
        raise DataError(text)
