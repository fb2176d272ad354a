"""Results for people: readable tables, summaries and small pictures in a terminal.

Shapes: B rows of items, whose shape the model's manifest gives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pushforward.command.target import Model
from pushforward.results import BOUNDS, ItemScores
from service.format.manifest import is_picture
from service.media.pictures import grid_pixels

TOP_ROWS: Final = 10
"""Rows of a table in a terminal, unless a number is asked for."""
_MOST_LINES: Final = 40
_MOST_ACROSS: Final = 6
_WIDE: Final = 80
_VERDICT_COLUMNS: Final = (
    "surprise", "p_value", "anomaly", "odd_column", "logit", "probability",
    "log_density_ratio",
)  # fmt: skip
_HEADINGS: Final = {"anomaly": "verdict"}


def say(text: str) -> None:
    """Write a note for the user to standard error."""
    sys.stderr.write(f"{text}\n")


def show_models(entries: Sequence[Mapping[str, Any]]) -> None:
    """Show the catalogue as a table; a narrow terminal has no room for what the models offer."""
    is_wide = Console().width >= _WIDE
    table = _table("name", "version", "family", "item", *(["operations"] if is_wide else []), "state")
    for entry in entries:
        aliases = "".join(f" {alias}={number}" for alias, number in entry["aliases"].items())
        shape = entry["item_shape"]
        table.add_row(
            entry["name"],
            f"{entry['version']}{aliases}",
            entry["family"] or "-",
            "x".join(map(str, shape)) if shape else "-",
            *([", ".join(entry["operations"]) or "-"] if is_wide else []),
            entry["state"] + (f": {entry['reason']}" if entry["reason"] else ""),
        )
    _print(table)


def show_model(model: Model) -> None:
    """Show what a version is: its description, sizes, columns, defaults and metrics."""
    manifest = model.manifest
    table = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    defaults = {name: value for name, value in (manifest["defaults"] or {}).items() if value is not None}
    facts = {
        "model": f"{model}, a {manifest['family']}",
        "description": manifest["description"],
        "item": f"{'x'.join(map(str, model.item_shape))}, {model.support}",
        "columns": ", ".join(
            column["name"] + (f" ({'/'.join(column['categories'])})" if column["categories"] else "")
            for column in model.columns
        ),
        "classes": ", ".join(manifest["class_names"]),
        "latent": f"{model.latent_size} dimensions",
        "graphs": ", ".join(manifest["graphs"]),
        "scores by": ", ".join(f"{name} {value}" for name, value in defaults.items()),
        "provider": manifest["provider"],
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, str(fact))
    for name, metric in manifest["metrics"].items():
        error = f" +- {metric['standard_error']:.2g}" if metric["standard_error"] else ""
        table.add_row(name, f"{_cell(metric['value'])}{error} {metric['unit']}")
    _print(table)


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number of things, e.g. `1 item` or `2 items`."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def title_of(scores: ItemScores, model: str) -> str:
    """Return the line above a table of scores: how many anomalies there are, and how they were found."""
    is_drawn = scores.draws and scores.statistic in BOUNDS  # else the draws are those of further figures
    how = scores.statistic + (f", {scores.draws} draws, seed {scores.seed}" if is_drawn else "")
    title = f"{counted(len(scores), 'item')} scored by {model} ({how})"
    if scores.anomaly is None:
        return f"{title}; no p-values, since the statistic is not calibrated with these options"
    flagged = f"{counted(int(scores.anomaly.sum()), 'anomaly', 'anomalies')} at alpha {scores.alpha:g}"
    if scores.correction != "none":
        flagged += f", {scores.correction}"
    above = "" if scores.threshold is None else f", a surprise above {scores.threshold:.4g} {scores.unit}"
    return f"{title}: {flagged}{above}"


def show_verdicts(
    places: Mapping[str, NDArray[Any]],
    table: Mapping[str, NDArray[Any]],
    title: str,
    order: NDArray[np.intp],
) -> None:
    """Show some rows of a table of columns (B,), in an order: their places, figures and verdicts."""
    shown = {**places, **{name: table[name] for name in _VERDICT_COLUMNS if name in table}}
    view = _table(*(_HEADINGS.get(name, name) for name in shown))
    flags = table.get("anomaly")
    for row in order.tolist():
        flagged = flags is not None and bool(flags[row])
        view.add_row(*(_cell(values[row]) for values in shown.values()), style="red" if flagged else "")
    _print(title)
    _print(view)
    rows = len(next(iter(table.values())))
    if len(order) < rows:
        _print(f"{rows - len(order)} more; --top N shows N, --out FILE writes all with every figure")


def show_items(table: Mapping[str, NDArray[Any]], title: str) -> None:
    """Show the first rows of a table of columns (B,), a line for each column."""
    rows = len(next(iter(table.values())))
    view = _table("", *map(str, range(min(rows, _MOST_ACROSS))))
    for name, values in list(table.items())[:_MOST_LINES]:
        view.add_row(name, *map(_cell, values[:_MOST_ACROSS]))
    _print(title)
    _print(view)
    if rows > _MOST_ACROSS or len(table) > _MOST_LINES:
        _print(f"part of {rows} x {len(table)} numbers; --out FILE writes all")


def show_pictures(items: NDArray[Any], title: str) -> bool:
    """Show pictures (B, C, H, W), two pixels a character. Return False if it cannot be done."""
    if not is_picture(items.shape[1:]):
        return False
    console = Console()
    if console.no_color:  # in which a picture is one block
        return False
    across = min(len(items), (console.width - 2) // (items.shape[3] + 2))
    if not across or console.color_system not in ("256", "truecolor"):
        return False
    console.print(title, highlight=False)
    rows = max(1, 2 * _MOST_LINES // (items.shape[2] + 2))
    pixels = grid_pixels(items[: across * rows], across)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if len(pixels) % 2:
        pixels = np.pad(pixels, ((0, 1), (0, 0), (0, 0)))
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text()
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("\u2580", style=f"{_colour(above)} on {_colour(below)}")
        console.print(line, no_wrap=True, crop=True)
    if len(items) > across * rows:
        console.print(f"{len(items) - across * rows} more; --out grid.png writes all")
    return True


def _table(*columns: str) -> RichTable:
    table = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "anomaly" if value else "ordinary"
    if isinstance(value, float | np.floating):
        number = float(value)
        return f"{number:,.0f}" if 1_000 <= abs(number) < 1e9 else f"{number:.4g}"
    return str(value)


def _colour(pixel: Iterable[int]) -> str:
    red, green, blue = pixel
    return f"#{red:02x}{green:02x}{blue:02x}"


def _print(content: Any) -> None:
    Console().print(content, markup=False, highlight=False, soft_wrap=isinstance(content, str))
