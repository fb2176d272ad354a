"""Sections with pictures: samples, also during training, and reconstructions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from service.format.manifest import is_picture
from training.data.png import grid_of
from training.loop.run_log import SAMPLES
from training.models.conditions import given_labels, in_batches
from training.models.vae import Vae, reconstruct
from training.report.page import Picture, Section
from training.report.reading import ReportError, Trained

_SAMPLES = 64
_COLUMNS = 10
_WIDEST = 960
"""The largest width in pixels; wider pictures are shrunk."""
_LARGEST_LOSSLESS = 250_000
"""The largest PNG in bytes; larger pictures, which are photographs, become JPEG."""


def samples_section(trained: Trained | None, folder: Path) -> Section:
    """Show samples of the newest model, and the same samples earlier in the run."""
    if trained is not None and not is_picture(trained.dataset.item_shape):
        return Section("Samples", (f"Items of shape {list(trained.dataset.item_shape)} are no pictures.",))
    newest = () if trained is None else (_newest_samples(trained),)
    earlier = tuple(_evolution(folder))
    course = "The small pictures are sixteen samples during training, with the same latents each time."
    return Section("Samples", (course,) if earlier else (), pictures=newest, thumbnails=earlier)


def reconstructions_section(vae: Vae, trained: Trained) -> Section:
    """Show items that the model was not trained on above their reconstructions."""
    groups = (
        ("test items", *trained.first("test", 2 * _COLUMNS)),
        ("items of the classes that were kept out", *trained.first("outliers", _COLUMNS)),
    )
    strips = tuple(
        _pairs(model, items[rows], name)
        for name, items, labels in groups
        for model, rows in in_batches(vae, labels, _COLUMNS)
    )
    return Section(
        "Reconstructions",
        ("Below each item is the likelihood's mean at the item's posterior mean.",),
        pictures=strips,
    )


def grid(images: Tensor, columns: int, alt: str, label: str = "", caption: str = "") -> Picture:
    """Arrange pictures (N, C, H, W) in [0, 1] in one, with rows of `columns`."""
    return Picture(_inlined(grid_of(images.numpy(), columns)), alt, label, caption)


def _newest_samples(trained: Trained) -> Picture:
    task, in_turn = trained.task, " The classes take turns." if trained.task.classes else ""
    samples = given_labels(task, np.arange(_SAMPLES) % max(1, task.classes)).sample(trained.noise(), _SAMPLES)
    what = "the likelihood's mean at latents" if trained.vae is not None else "the generator at latents"
    return grid(
        samples,
        columns=8,
        alt=f"{_SAMPLES} samples of the model after {trained.steps} steps, in a grid",
        label=f"After {trained.steps:,} steps",
        caption=f"Averaged weights: {what} from the prior.{in_turn}",
    )


def _evolution(folder: Path) -> Iterator[Picture]:
    """Show the upper left quarters of four grids: at the beginning, a quarter, a half and the end."""
    grids = sorted((folder / SAMPLES).glob("step-*.png"))
    last = len(grids) - 1
    for index in sorted({0, round(last / 4), round(last / 2), last} if grids else ()):
        steps = int(grids[index].stem.removeprefix("step-"))
        yield Picture(
            _quarter(grids[index]),
            f"16 samples of the model after {steps} steps",
            f"After {steps:,} steps",
        )


def _quarter(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            # Half of a grid ends with the line between two tiles.
            return _inlined(picture.crop((0, 0, picture.width // 2 - 1, picture.height // 2 - 1)))
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error}; remove it") from error


def _pairs(vae: Vae, items: Tensor, name: str) -> Picture:
    both = torch.cat([items, reconstruct(vae, items)])
    error = float((both[: len(items)] - both[len(items) :]).square().mean())
    return grid(
        both,
        columns=len(items),
        alt=f"{len(items)} {name} above their reconstructions; mean squared error {error:.3g}",
        label=f"{len(items)} {name}, mean squared error {error:.3g}",
    )


def _inlined(picture: Image.Image) -> str:
    """Encode a picture as a data: URI, as PNG unless that is large."""
    picture = picture.copy()
    picture.thumbnail((_WIDEST, picture.height), Image.Resampling.LANCZOS)
    file, kind = io.BytesIO(), "png"
    picture.save(file, "PNG", optimize=True)
    if file.tell() > _LARGEST_LOSSLESS:
        file, kind = io.BytesIO(), "jpeg"
        picture.save(file, "JPEG", quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
