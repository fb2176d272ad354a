"""A page that compares the quality of several versions and of the training set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from service.format.specs import Metric
from training.data import Dataset
from training.metrics.classes import Counts
from training.metrics.classifier import CLASSIFIER, read_record
from training.metrics.evaluators import QualityReport
from training.metrics.names import figure_texts
from training.metrics.neighbours import K
from training.report.page import Page, Picture, Section, Table
from training.report.plotting import BLUE, GREEN, INK, ORANGE, PURPLE, legend_above, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING_SET = "training set"
"""The name of the column in which training items take the place of generated ones."""
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
_NEIGHBOURS = ("precision", "recall", "density", "coverage")
_BARS = 0.8
"""Share of the horizontal axis that bars cover."""
_MOST_LEVEL = 5
"""The most groups with horizontal names; the names of more are turned, so that they do not overlap."""
_SIZE = (5.4, 3.2)


def comparison_page(dataset: Dataset, measured: Mapping[str, QualityReport], seed: int) -> Page:
    """Make the page; `measured` begins with the training set, and all have the same figures."""
    metrics = {name: each.metrics for name, each in measured.items()}
    head = ("figure", *metrics, "unit")
    figures = Section(
        "Figures",
        (
            f"“{TRAINING_SET.capitalize()}” are training items in place of generated ones; no generator can "
            "be expected to do better. The numbers after ± are standard errors.",
        ),
        tables=(Table(head, tuple(figure_rows(metrics)), align="l" + "r" * len(metrics) + "l"),),
        plots=tuple(_plots(dataset, measured)),
    )
    facts = (("Data", dataset.source), ("Seed", str(seed)), ("Versions", str(len(measured) - 1)))
    title = "Samples of the versions, compared with test items."
    notes = Table(("figure", "how"), tuple(_note_rows(metrics)), align="ll")
    sections = (figures, Section("How they are measured", tables=(notes,)))
    return Page("Quality", title, facts, _settings(measured), sections, "comparison", "Settings")


def figure_rows(metrics: Mapping[str, Mapping[str, Metric]]) -> Iterator[tuple[str, ...]]:
    """Make a row for every figure: its name, its values with errors, its unit."""
    units = {name: metric.unit for each in metrics.values() for name, metric in each.items()}
    for name, unit in units.items():
        yield (_words(name), *(_text(each.get(name)) for each in metrics.values()), unit)


def _note_rows(metrics: Mapping[str, Mapping[str, Metric]]) -> Iterator[tuple[str, str]]:
    """Make a row for every figure's note; notes that differ name the columns that they belong to."""
    notes: dict[str, dict[str, list[str]]] = {}
    for column, each in metrics.items():
        for name, metric in each.items():
            notes.setdefault(name, {}).setdefault(metric.note, []).append(column)
    for name, columns_of in notes.items():
        for note, columns in columns_of.items():
            yield _words(name) if len(columns_of) == 1 else f"{_words(name)}, {', '.join(columns)}", note


def _settings(measured: Mapping[str, QualityReport]) -> Table:
    """Tabulate the settings that the figures depend on."""
    rows = [("neighbours (k)", str(K))]
    if any(each.class_counts is not None for each in measured.values()):
        record = read_record(CLASSIFIER)
        rows += [
            ("classifier", CLASSIFIER.stem),
            ("its sha256", record.sha256),
            ("its test accuracy", _text(record.test_accuracy)),
        ]
    return Table(("setting", "value"), tuple(rows), align="ll")


def _plots(dataset: Dataset, measured: Mapping[str, QualityReport]) -> Iterator[Picture]:
    names = [name for name in _NEIGHBOURS if all(name in each.metrics for each in measured.values())]
    if names:
        neighbours = {
            label: [(each.metrics[name].value, each.metrics[name].standard_error or 0.0) for name in names]
            for label, each in measured.items()
        }
        yield _bars("Nearest neighbours", "share; density: ratio", names, neighbours)
    counts = {label: each.class_counts for label, each in measured.items() if each.class_counts is not None}
    if counts:
        classes = {label: _shares(each) for label, each in counts.items()}
        yield _bars("Classes, as the classifier sees them", "share of items", dataset.class_names, classes)


def _shares(counts: Counts) -> list[tuple[float, float]]:
    """Return each class's share with its standard error."""
    shares = counts / counts.sum()
    return list(zip(shares.tolist(), np.sqrt(shares * (1 - shares) / counts.sum()).tolist(), strict=True))


def _bars(
    label: str, unit: str, groups: Sequence[str], series: Mapping[str, list[tuple[float, float]]]
) -> Picture:
    """Draw groups of bars, one for each series, with error bars of one standard error."""
    width = _BARS / len(series)

    def draw(axes: Axes) -> None:
        for index, (name, colour) in enumerate(zip(series, cycle(_COLOURS), strict=False)):
            heights, errors = zip(*series[name], strict=True)
            places = np.arange(len(groups)) + (index + 0.5) * width - _BARS / 2
            axes.bar(places, heights, width, yerr=errors, color=colour, ecolor=INK, label=name)
        turned = len(groups) > _MOST_LEVEL
        axes.set_xticks(
            range(len(groups)),
            groups,
            rotation=40 if turned else 0,
            ha="right" if turned else "center",
            rotation_mode="anchor",
        )
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(unit)
        legend_above(axes)

    listed = "; ".join(
        f"{name}: "
        + ", ".join(f"{group} {value:.3g}" for group, (value, _) in zip(groups, bars, strict=True))
        for name, bars in series.items()
    )
    return plot(draw, alt=f"{label}, {unit}. {listed}.", label=label, size=_SIZE)


def _text(metric: Metric | None) -> str:
    if metric is None:
        return ""
    if not metric.standard_error:
        return figure_texts(metric)[0]
    digits = max(0, 1 - math.floor(math.log10(metric.standard_error)))
    return f"{metric.value:.{digits}f} ± {metric.standard_error:.{digits}f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
