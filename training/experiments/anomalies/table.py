"""The results of the trials, as markdown: a row for each, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from training.experiments.anomalies.baselines import PEERS
from training.experiments.anomalies.trials import EXPERIMENTS, Experiment, Result

_HEAD = """# Anomaly scores, trial by trial

AUROC: the chance that an outlier scores higher than a held-out normal item. The steps of training stand in
the recipes and were fixed beforehand; the column in bold is what every model scores by unless told, which no
outlier of these had a say in. Written by `make anomalies`.
"""


def markdown(results: Mapping[str, Mapping[str, Result]]) -> str:
    """The page of all experiments that have results."""
    parts = [_section(EXPERIMENTS[name], found) for name, found in results.items() if found]
    return "\n".join([_HEAD, *parts])


def mean_area(results: Mapping[str, Result], column: str) -> tuple[float, float]:
    """The mean AUROC of the trials and its standard error; NaN where a trial lacks it."""
    areas = np.array([result.auroc.get(column, math.nan) for result in results.values()])
    error = areas.std(ddof=1) / math.sqrt(len(areas)) if len(areas) > 1 else math.nan
    return float(areas.mean()), float(error)


def _section(experiment: Experiment, results: Mapping[str, Result]) -> str:
    first = next(iter(results.values()))
    columns = list(first.auroc)
    defaults = {result.default for result in results.values()}
    heads = [f"**{name}**" if defaults == {name} else _versioned(name, first) for name in columns]
    lines = [
        f"## {experiment.title}",
        "",
        f"Recipe `{experiment.recipe}`.",
        "",
        f"| {experiment.trial} | normal | outliers | {' | '.join(heads)} |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for name, result in results.items():
        cells = " | ".join(f"{result.auroc.get(column, math.nan):.3f}" for column in columns)
        lines.append(f"| {name} | {result.normal_rows:,} | {result.outlier_rows:,} | {cells} |")
    means = [mean_area(results, column) for column in columns]
    cells = " | ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in means)
    return "\n".join([*lines, f"| mean | | | {cells} |", ""])


def _versioned(column: str, result: Result) -> str:
    library = {peer.name: peer.library for peer in PEERS}.get(column)
    return column if library is None else f"{column} ({library} {result.versions[library]})"
