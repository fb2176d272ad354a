"""The model card: what a person should know of a published version, as Markdown beside its manifest."""

from __future__ import annotations

from pathlib import Path

from service.contract import Manifest, Metric
from training.data import Dataset

_SOURCES = {
    "digits": "scikit-learn's handwritten digits (UCI Optical Recognition of Handwritten Digits), 8x8 pixels",
    "fashion-mnist": "Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), 28x28 pixels",
}


def write_card(path: Path, manifest: Manifest, dataset: Dataset) -> None:
    """Write the card of a version; `samples.png` lies beside it."""
    path.write_text(_card(manifest, dataset), encoding="utf-8")


def _card(manifest: Manifest, dataset: Dataset) -> str:
    rows = {split: len(images) for split, images in dataset.images.items()}
    family = "variational autoencoder" if manifest.family == "vae" else "generative adversarial network"
    pixels = "pixels 0 or 1" if dataset.binary else "grey pixels in [0, 1]"
    likelihood = f", {manifest.likelihood} likelihood" if manifest.likelihood else ""
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

![64 samples](samples.png)

These are samples 0 to 63 of seed 0. The running service draws the same:

```
curl -H 'Accept: image/png' 'localhost:8000/v1/models/{manifest.name}/sample?count=64&seed=0' -o samples.png
```

## Data

{_SOURCES[dataset.name]}, {pixels}.
Items have the shape {list(manifest.item_shape)}: {rows["train"]} to train on,
{rows["validation"]} to watch, {rows["calibration"]} to calibrate with, {rows["test"]} to test with.

## Model

A {family} with {manifest.latent_size} latent dimensions, prior N(0, I){likelihood}.
Train it again with

```
python -m training run training/recipes/{manifest.name}.toml
```

The manifest holds the whole recipe, the commit and the library versions.

## Figures

Measured on the test split, on averaged weights.

| figure | value | standard error | unit | how |
|---|---|---|---|---|
{figures}
{calibration}"""


def _figure(name: str, metric: Metric) -> str:
    error = "" if metric.standard_error is None else f"{metric.standard_error:.2g}"
    value = f"{metric.value:,.0f}" if float(metric.value).is_integer() else f"{metric.value:.6g}"
    note = metric.note.replace("|", "\\|")
    return f"| {name} | {value} | {error} | {metric.unit} | {note} |"
