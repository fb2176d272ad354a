"""The model card: a description of a published version, as Markdown beside its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from service.format.manifest import Manifest, Support
from service.format.specs import Metric
from training.data import Dataset
from training.evaluation.discriminator import BUDGET, SELECTION_RULES
from training.export.card_parts import (
    choice_section,
    escaped,
    figures_table,
    model_sentence,
    pictures_section,
)
from training.loop.diagnostics import Diagnosis
from training.metrics.evaluators import QualityReport
from training.metrics.measure import quality_names
from training.metrics.names import Group, MetricName, figure_texts
from training.metrics.platt import ReliabilityRow
from training.recipe import RECIPES, read_recipe, shipped_recipe

_VALUES: dict[Support, str] = {
    "binary": "pixels 0 or 1",
    "eight_bit": "pixels with 256 levels in [0, 1]",
    "unit_interval": "pixels in [0, 1]",
    "real": "columns in their own units",
}
_MOST_COLUMNS = 100
_UNSEEN = """AUROC of every statistic, the chance that an outlier scores higher than a test item, with its
95 % confidence interval. Nothing was trained, chosen or calibrated on outliers of these kinds."""
_STANDS_IN = """How near its samples come to test items. The training set's figures are of training items in
a generator's place: no generator can be expected to beat them."""
_RELIABILITY = """Calibrated probabilities D(x) of being real, of test items and as many generated ones, in
bins of a tenth, against the share in each that is real."""


def write_card(
    path: Path,
    manifest: Manifest,
    dataset: Dataset,
    beside: Mapping[str, QualityReport],
    reliability: Sequence[ReliabilityRow],
    findings: Sequence[Diagnosis] = (),
) -> None:
    """Write the card of a version; `samples.png` is in the same folder.

    `beside` has the quality figures of other versions of the same data, `reliability` the rows of a
    calibrated discriminator's reliability table, `findings` the troubles of the run.
    """
    card = _card(manifest, dataset, beside) + _reliability(reliability) + _troubles(findings)
    path.write_text(card, encoding="utf-8")


def _card(manifest: Manifest, dataset: Dataset, beside: Mapping[str, QualityReport]) -> str:
    rows = {split: len(items) for split, items in dataset.items.items()}
    values = _VALUES[manifest.support]
    quality = quality_names(manifest.metrics)
    parsed = {name: MetricName.parse(name) for name in manifest.metrics}
    choosing = {name for name, parts in parsed.items() if parts.group == "validation_auroc"}
    unseen = {name for name, parts in parsed.items() if parts.group == "auroc"}
    apart = choosing | unseen | {name for name, parts in parsed.items() if parts.subject in quality}
    figures = figures_table({name: m for name, m in manifest.metrics.items() if name not in apart})
    scores = choice_section(manifest, choosing) + _unseen(manifest, unseen)
    calibration = ""
    if manifest.defaults is not None:
        calibration = (
            f"\nScores are calibrated on the {rows['calibration']} items of the calibration split, "
            "which nothing was trained or\nchosen on: at level alpha at most that share of normal items "
            "is flagged, in expectation.\n"
        )
    more = _condition(manifest) + _again(manifest)
    return f"""# {manifest.name}

{manifest.description}

{pictures_section(manifest)}## Data

{dataset.source}, {values}.
Items have the shape {list(manifest.item_shape)}: {rows["train"]} to train on,
{rows["validation"]} to watch, {rows["calibration"]} to calibrate with, {rows["test"]} to test with.
{_columns(manifest)}{_notes(dataset)}
## Model

{model_sentence(manifest)}
{more}The manifest holds the whole recipe, the commit and the library versions.

## Figures

Measured on the test split, on averaged weights.

{figures}
{_quality(manifest, quality, beside)}{scores}{calibration}"""


def _quality(manifest: Manifest, names: Set[str], beside: Mapping[str, QualityReport]) -> str:
    """Tabulate the quality figures of its samples, of other models and of training items."""
    if not names:
        return ""
    columns = {
        manifest.name: manifest.metrics,
        **{f"by `{rule}`, {BUDGET} proposals": _of_group(manifest, rule) for rule in SELECTION_RULES},
        "training set": _of_group(manifest, "floor"),
        **{name: measured.metrics for name, measured in beside.items()},
    }
    columns = {head: column for head, column in columns.items() if column}
    heads = list(columns)
    lines = [f"| figure | {' | '.join(heads)} | unit | how |", "|---" * (len(heads) + 3) + "|"]
    for name, metric in manifest.metrics.items():
        if name in names:
            cells = [_cell(column[name]) if name in column else "" for column in columns.values()]
            lines.append(f"| {name} | {' | '.join(cells)} | {metric.unit} | {escaped(metric.note)} |")
    table = "\n".join(lines)
    return f"\n## Quality and diversity\n\n{_STANDS_IN}\n\n{table}\n"


def _unseen(manifest: Manifest, names: Set[str]) -> str:
    """Tabulate the AUROC of every statistic on unseen outliers, with a row for each kind."""
    if not names or manifest.calibration is None:
        return ""
    statistics = list(manifest.calibration.statistics)
    parsed = [MetricName.parse(name) for name in manifest.metrics if name in names]
    kinds = [parts.subject for parts in parsed if parts.statistic == statistics[0]]
    lines = [f"| | {' | '.join(statistics)} | how |", "|---" * (len(statistics) + 2) + "|"]
    for kind in kinds:
        metrics = [manifest.metrics[str(MetricName("auroc", kind, each))] for each in statistics]
        cells = " | ".join(map(_area, metrics))
        lines.append(f"| {kind} | {cells} | {escaped(metrics[0].note)} |")
    table = "\n".join(lines)
    return f"\n## Unseen outliers\n\n{_UNSEEN}\n\n{table}\n"


def _area(metric: Metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f} to {:.3f})".format(*metric.interval)
    return f"{metric.value:.3f}{interval}"


def _of_group(manifest: Manifest, group: Group) -> dict[str, Metric]:
    """Return the metrics whose names have that group, by their subjects."""
    parsed = {MetricName.parse(name): metric for name, metric in manifest.metrics.items()}
    return {parts.subject: metric for parts, metric in parsed.items() if parts.group == group}


def _reliability(rows: Sequence[ReliabilityRow]) -> str:
    """Tabulate the reliability of a discriminator's probabilities."""
    if not rows:
        return ""
    lines = [f"| {row.predicted:.3f} | {row.observed:.3f} | {row.rows:,} |" for row in rows]
    return f"\n## Reliability of the discriminator\n\n{_RELIABILITY}\n\n" + "\n".join(
        ["| mean D(x) | share real | items |", "|---|---|---|", *lines, ""]
    )


def _troubles(findings: Sequence[Diagnosis]) -> str:
    """List the troubles that the run's log and figures show."""
    lines = [f"- **{finding.trouble}**: {escaped(finding.text)}" for finding in findings]
    return "\n".join(["\n## Troubles of its training\n", *lines, ""]) if lines else ""


def _cell(metric: Metric) -> str:
    value, error = figure_texts(metric)
    return f"{value} ± {error}" if error else value


def _condition(manifest: Manifest) -> str:
    """Say what a class condition means."""
    if not manifest.conditional:
        return ""
    what = "its samples are of that class"
    if manifest.family == "vae":
        what += ", and all bounds are on log p(x | class)"
    return f"It takes the class of an item, one of {len(manifest.class_names)}: {what}.\n"


def _again(manifest: Manifest) -> str:
    """Return the command that trains it again, if its recipe is as it comes with the program."""
    path = shipped_recipe(manifest.name)
    if path is None:
        return ""
    shipped = read_recipe(RECIPES / Path(path).name).model_dump(mode="json", exclude_none=True)
    if shipped != manifest.provenance.recipe:
        return ""
    return f"Train it again with\n\n```\npushforward train {path}\n```\n\n"


def _notes(dataset: Dataset) -> str:
    """Return a paragraph for each note about the data."""
    return "".join(f"\n{escaped(note)}\n" for note in dataset.notes)


def _columns(manifest: Manifest) -> str:
    """List a table's columns in the order of an item's values."""
    lines = [
        f"- {column.name}" + (f", one-hot: {', '.join(column.categories)}" if column.categories else "")
        for column in manifest.columns[:_MOST_COLUMNS]
    ]
    if (more := len(manifest.columns) - _MOST_COLUMNS) > 0:
        lines.append(f"- and {more} more, which `manifest.json` names")
    return "\n".join(["\nThe columns of an item, in order:\n", *lines, ""]) if lines else ""
