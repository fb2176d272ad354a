"""The results of the trials as Markdown: a row for each, and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping

from training.experiments.anomalies.baselines import PEERS
from training.experiments.anomalies.trials import EXPERIMENTS, Experiment, TrialResult
from training.experiments.results import Mean, mean_of

_HEAD = """# Anomaly scores, trial by trial

AUROC: the probability that an outlier scores higher than a held-out normal item. The number of training steps
is in the recipes and was fixed beforehand. The column in bold is the default statistic of every model; it was
chosen without any of these outliers. `make anomalies` writes this page.
"""


def markdown(results: Mapping[str, Mapping[str, TrialResult]]) -> str:
    """Return the page of all experiments that have results."""
    parts = [_section(EXPERIMENTS[name], found) for name, found in results.items() if found]
    return "\n".join([_HEAD, *parts])


def mean_area(results: Mapping[str, TrialResult], column: str) -> Mean:
    """Return the mean AUROC of the trials that have it; NaN if none has."""
    return mean_of(result.auroc.get(column, math.nan) for result in results.values())


def _section(experiment: Experiment, results: Mapping[str, TrialResult]) -> str:
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


def _versioned(column: str, result: TrialResult) -> str:
    library = {peer.name: peer.library for peer in PEERS}.get(column)
    return column if library is None else f"{column} ({library} {result.versions[library]})"
