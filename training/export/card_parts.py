"""Parts that the model cards of all versions share; they need no torch."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np

from service.format.manifest import Manifest, is_picture
from service.format.specs import Metric, MixturePriorSpec
from service.numerics.classes import one_hot
from service.numerics.prior import read_prior
from training.anomaly.choose import FEWEST_ROWS, OF_TABLES
from training.anomaly.path import FITTED
from training.anomaly.running import RunGraph
from training.data.png import write_samples
from training.metrics.names import figure_texts

_PICTURES = """![{what}](samples.png)

These are samples 0 to {last} of seed 0{same}

```
curl -H 'Accept: image/png' 'localhost:8000/v1/models/{name}/sample?{query}' -o samples.png
```

"""
_CHOSEN = f"""Scores are by `{{}}` unless a request says otherwise. It was chosen by these figures, of the
validation split and of outliers planted in it; nothing tested was looked at. `{FITTED}` takes part if it was
fitted on {FEWEST_ROWS} rows or more."""
_OF_TABLES = """Scores are by `{}` unless a request says otherwise, as those of every table that has it: on
tables with real outliers it is better than the choice by these figures, of the validation split and of
outliers planted in it. Nothing tested was looked at."""


_SAMPLES, _POINTS = 64, 4096
"""The numbers of samples on a card: pictures, and points in the plane."""


def write_card_samples(staging: Path, manifest: Manifest, decode: RunGraph) -> None:
    """Write `samples.png`, which `pictures_section` shows, if items are pictures or points.

    `decode` runs the graph of that name; the prior of the version is staged.
    """
    count = _POINTS if manifest.item_shape == (2,) else _SAMPLES
    inputs = [read_prior(staging, manifest).latents(0, 0, count, 1.0)]
    if manifest.conditional:  # in turn
        classes = len(manifest.class_names)
        inputs.append(one_hot(np.arange(count) % classes, count, classes))
    write_samples(staging / "samples.png", decode(inputs)[0], manifest.view)


def model_sentence(manifest: Manifest) -> str:
    """Return a sentence on a model's family, latent dimensions, prior and likelihood."""
    family = "variational autoencoder" if manifest.family == "vae" else "generative adversarial network"
    prior = "prior N(0, I)"
    if isinstance(manifest.prior, MixturePriorSpec):
        prior = f"a mixture of {manifest.prior.components} Gaussians as prior"
    likelihood = f", {manifest.likelihood} likelihood" if manifest.likelihood else ""
    return f"A {family} with {manifest.latent_size} latent dimensions, {prior}{likelihood}."


def pictures_section(manifest: Manifest) -> str:
    """Return the section that shows samples; empty if the items are neither pictures nor points."""
    same = ". The running service draws the same:"
    if manifest.conditional:
        turns = f"The classes take turns: sample i is of class i modulo {len(manifest.class_names)}"
        same = f". {turns}. The running service draws the same, and with `label=0` those of the first class:"
    if is_picture(manifest.item_shape):
        what, last, query = f"{_SAMPLES} samples", _SAMPLES - 1, f"count={_SAMPLES}&seed=0"
    elif manifest.item_shape == (2,):
        what, last, query = f"The density of {_POINTS} samples", _POINTS - 1, "seed=0"
    else:
        return ""
    return _PICTURES.format(name=manifest.name, what=what, last=last, query=query, same=same)


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
    text = _OF_TABLES if manifest.defaults.statistic == OF_TABLES else _CHOSEN
    return f"\n## The anomaly statistic\n\n{text.format(manifest.defaults.statistic)}\n\n{figures}\n"
