"""Parts that the model cards of all versions share; they need no torch."""

from __future__ import annotations

from collections.abc import Mapping, Set

from service.format.manifest import Manifest, is_picture
from service.format.specs import Metric
from training.metrics.names import figure_texts

_PICTURES = """![{what}](samples.png)

These are samples 0 to {last} of seed 0{same}

```
curl -H 'Accept: image/png' 'localhost:8000/v1/models/{name}/sample?{query}' -o samples.png
```

"""
_CHOSEN = """Scores are by `{}` unless a request says otherwise. It was chosen by these figures, of the
validation split and of outliers planted in it; nothing tested was looked at."""


def pictures_section(manifest: Manifest) -> str:
    """Return the section that shows samples; empty if the items are neither pictures nor points."""
    same, label = ". The running service draws the same:", ""
    if manifest.conditional:
        same = (
            f". The classes take turns: sample i is of class i modulo {len(manifest.class_names)}. The "
            "running service draws those of a class:"
        )
        label = "&label=0"
    if is_picture(manifest.item_shape):
        query = f"count=64&seed=0{label}"
        return _PICTURES.format(name=manifest.name, what="64 samples", last=63, query=query, same=same)
    if manifest.item_shape == (2,):
        what = "The density of 4096 samples"
        return _PICTURES.format(name=manifest.name, what=what, last=4095, query=f"seed=0{label}", same=same)
    return ""


def figures_table(metrics: Mapping[str, Metric]) -> str:
    """Tabulate metrics, a line each."""
    lines = ["| figure | value | standard error | unit | how |", "|---|---|---|---|---|"]
    for name, metric in metrics.items():
        value, error = figure_texts(metric)
        lines.append(f"| {name} | {value} | {error} | {metric.unit} | {escaped(metric.note)} |")
    return "\n".join(lines)


def escaped(note: str) -> str:
    """Return a note as the cell of a table."""
    return note.replace("|", "\\|")


def choice_section(manifest: Manifest, names: Set[str]) -> str:
    """Show the figures by which the default statistic was chosen, if it was."""
    if not names or manifest.defaults is None:
        return ""
    figures = figures_table({name: m for name, m in manifest.metrics.items() if name in names})
    return f"\n## The anomaly statistic\n\n{_CHOSEN.format(manifest.defaults.statistic)}\n\n{figures}\n"
