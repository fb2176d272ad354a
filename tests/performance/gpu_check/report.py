"""The findings of the check, as one JSON file and one page. Standard library alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .parts import PARTS
from .running import Outcome

NOT_A_GPU: Final = (
    "**No GPU was measured.** Everything ran on the CPU, which shows that the check itself works; no figure "
    "below is of a GPU."
)
_EXACT: Final = 1e-2
"""The number below which numbers are written with an exponent."""


@dataclass(frozen=True, slots=True)
class Found:
    """All parts so far, and how they were run."""

    device: str
    options: str
    measured_at: str
    missing: Sequence[str]
    parts: Sequence[Outcome]

    @property
    def gpu_measured(self) -> bool:
        """Return True if anything was computed on a GPU; parts fail rather than fall back to the CPU."""
        computing = [part.name for part in PARTS if part.computes]
        return self.device == "cuda" and any(part.rows and part.name in computing for part in self.parts)

    def write(self, stem: Path) -> None:
        """Writes `stem`.json and `stem`.md anew; called after every part, so that nothing is lost."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        _replace(stem.with_suffix(".json"), json.dumps(self._document(), indent=1) + "\n")
        _replace(stem.with_suffix(".md"), self._page())

    def _document(self) -> dict[str, Any]:
        return {"gpu_measured": self.gpu_measured, **asdict(self)}

    def _page(self) -> str:
        lines = ["# GPU check", ""]
        if self.device == "cpu":
            lines += [NOT_A_GPU, ""]
        elif not self.gpu_measured:
            lines += ["**Nothing was computed on a GPU.** The table says why.", ""]
        total = sum(part.seconds for part in self.parts)
        lines += [f"`DEVICE={self.device}`{self.options}, {self.measured_at}, {total:.0f} s.", ""]
        if self.missing:
            lines += [f"Missing, whatever needs it has failed: {', '.join(self.missing)}.", ""]
        heads = ("part", "what", "state", "seconds", "of at most", "why")
        table = [
            [part.name, part.what, part.state, f"{part.seconds:g}", f"{part.budget_seconds:g}", part.reason]
            for part in self.parts
        ]
        lines += _table(heads, table)
        for part in self.parts:
            lines += ["", f"## {part.name}: {part.what}", ""]
            lines += _rows(part.rows) if part.rows else ["No rows."]
            lines += ["", "The end of its log:", "", "```text", part.log, "```"] if part.log else []
        return "\n".join(lines) + "\n"


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = list(dict.fromkeys(name for row in rows for name in row))
    return _table(heads, [[_cell(row.get(head, "")) for head in heads] for row in rows])


def _cell(value: str | float) -> str:
    if not isinstance(value, float) or value == 0:
        return str(value) if not isinstance(value, float) else "0"
    return f"{value:.1e}" if abs(value) < _EXACT else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [list(heads), ["---"] * len(heads), *clean]]


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, even if this process is killed meanwhile."""
    partial = path.with_suffix(f"{path.suffix}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
