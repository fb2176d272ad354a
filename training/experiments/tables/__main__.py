"""The command line of the trials: `python -m training.experiments.tables FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.anomaly.auroc import auroc
from training.experiments.results import read_results, run, write_results
from training.experiments.tables.detectors import DETECTORS, SEEDLESS
from training.experiments.tables.page import draw, markdown
from training.experiments.tables.tables import read_one_class_table, table_names
from training.loop.progress import counter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_console = Console(stderr=True, markup=False)


@app.command()
def tables(
    folder: Annotated[Path | None, typer.Argument(help="The folder of tables NAME.npz with X and y.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of every detector that has a seed.", min=1)] = 3,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(DETECTORS)}; else all.")] = None,
    results: Annotated[Path, typer.Option(help="The results.")] = Path("docs/tables/tables.json"),
    page: Annotated[Path, typer.Option(help="The page to write; the picture lies beside it.")] = Path(
        "docs/tables.md"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Measure how well the scores of drafted recipes, and other detectors, find the anomalies of real tables.

    What has a result is not measured again: an interrupted command continues,
    and without a folder the page is only written anew. PyOD comes with
    `pip install 'pushforward[peers]'`.
    """
    if only is not None and only not in DETECTORS:
        raise typer.BadParameter(f"{only}; known are {', '.join(DETECTORS)}", param_hint="--only")
    found: dict[str, dict[str, dict[str, float]]] = read_results(results, dict) if results.exists() else {}
    names = [] if folder is None else table_names(folder)
    wanted = [
        (detector, name, seed)
        for detector in DETECTORS
        for seed in range(1 if detector in SEEDLESS else seeds)
        for name in names
        if only in (None, detector) and str(seed) not in found.get(detector, {}).get(name, {})
    ]
    with counter("tables", len(wanted), quiet) as advance:
        for detector, name, seed in wanted:
            assert folder is not None
            table = read_one_class_table(folder / f"{name}.npz")
            surprises = DETECTORS[detector](table.learned, table.scored, seed)
            area = float(auroc(surprises[table.anomalous], surprises[~table.anomalous]))
            found.setdefault(detector, {}).setdefault(name, {})[str(seed)] = round(area, 6)
            write_results(results, found, indent=1)
            advance(1)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(markdown(found, page.with_suffix(".png").name), encoding="utf-8")
    draw(found, page.with_suffix(".png"))
    _console.print(f"wrote {page}", soft_wrap=True)


if __name__ == "__main__":
    run(app, _console)
