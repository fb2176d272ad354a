"""The model card: what a person should know of a published version, as Markdown beside its manifest."""

from __future__ import annotations

from pathlib import Path

from service.contract import Manifest, Metric, MixturePrior, Support, is_picture
from training.data import Dataset
from training.evaluation import figure_texts
from training.recipe import shipped_recipe

_VALUES: dict[Support, str] = {
    "binary": "pixels 0 or 1",
    "eight_bit": "pixels with 256 levels in [0, 1]",
    "unit_interval": "pixels in [0, 1]",
    "real": "columns in their own units",
}


def write_card(path: Path, manifest: Manifest, dataset: Dataset) -> None:
    """Write the card of a version; `samples.png` lies beside it."""
    path.write_text(_card(manifest, dataset), encoding="utf-8")


def _card(manifest: Manifest, dataset: Dataset) -> str:
    rows = {split: len(items) for split, items in dataset.items.items()}
    family = "variational autoencoder" if manifest.family == "vae" else "generative adversarial network"
    values = _VALUES[manifest.support]
    likelihood = f", {manifest.likelihood} likelihood" if manifest.likelihood else ""
    prior = "prior N(0, I)"
    if isinstance(manifest.prior, MixturePrior):
        prior = f"a mixture of {manifest.prior.components} Gaussians as prior"
    pictures = _PICTURES.format(name=manifest.name) if is_picture(manifest.item_shape) else ""
    figures = "\n".join(_figure(name, metric) for name, metric in manifest.metrics.items())
    calibration = ""
    if manifest.defaults is not None:
        calibration = (
            f"\nScores are calibrated on the {rows['calibration']} items of the calibration split, "
            "which nothing was trained or\nchosen on: at level alpha at most that share of normal items "
            "is flagged, in expectation.\n"
        )
    return f"""# {manifest.name}

{manifest.description}

{pictures}## Data

{dataset.source}, {values}.
Items have the shape {list(manifest.item_shape)}: {rows["train"]} to train on,
{rows["validation"]} to watch, {rows["calibration"]} to calibrate with, {rows["test"]} to test with.
{_columns(manifest)}
## Model

A {family} with {manifest.latent_size} latent dimensions, {prior}{likelihood}.
{_again(manifest.name)}The manifest holds the whole recipe, the commit and the library versions.

## Figures

Measured on the test split, on averaged weights.

| figure | value | standard error | unit | how |
|---|---|---|---|---|
{figures}
{calibration}"""


_PICTURES = """![64 samples](samples.png)

These are samples 0 to 63 of seed 0. The running service draws the same:

```
curl -H 'Accept: image/png' 'localhost:8000/v1/models/{name}/sample?count=64&seed=0' -o samples.png
```

"""


def _again(name: str) -> str:
    """How to train it again, if its recipe comes with the program."""
    recipe = shipped_recipe(name)
    return f"Train it again with\n\n```\npython -m training run {recipe}\n```\n\n" if recipe else ""


def _columns(manifest: Manifest) -> str:
    """A table's columns in the order in which an item has them."""
    lines = [
        f"- {column.name}" + (f", one-hot: {', '.join(column.categories)}" if column.categories else "")
        for column in manifest.columns
    ]
    return "\n".join(["\nThe columns of an item, in order:\n", *lines, ""]) if lines else ""


def _figure(name: str, metric: Metric) -> str:
    value, error = figure_texts(metric)
    note = metric.note.replace("|", "\\|")
    return f"| {name} | {value} | {error} | {metric.unit} | {note} |"
