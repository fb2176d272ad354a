"""Published versions of one dataset, measured side by side with the training set itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from service.contract import Manifest
from service.errors import InvalidVersion
from service.noise import Stream, uniforms
from service.prior import read_prior
from service.versions import read_manifest, verify_files, version_folders
from training.data import Dataset, Items, load_dataset
from training.data.options import DataOptions
from training.parity import open_session
from training.quality.measure import make_yardstick
from training.quality.yardsticks import Measured, Yardstick
from training.report.comparison import TRAINING_SET, comparison_page
from training.report.page import render

_ROWS = 500


class ComparisonError(RuntimeError):
    """Versions cannot be measured side by side; the message says why and what to do."""


def compare_versions(folders: Sequence[Path], seed: int = 0) -> tuple[Dataset, dict[str, Measured]]:
    """Measure versions, named NAME/VERSION, after the training set; all have to be of the same data.

    Raises:
        ClassifierError: The classifier's file is not the recorded one.
        ComparisonError: The versions are of different data, or there is too little of it.
        DataError: The data cannot be had.
        InvalidVersion: A folder is no sound version.
    """
    manifests = {folder: read_manifest(folder) for folder in folders}
    dataset = load_dataset(_common_data(manifests))
    yardstick = make_yardstick(dataset, seed)
    if yardstick is None:
        raise ComparisonError(f"{dataset.name} has {len(dataset.items['test'])} test items; wanted hundreds")
    measured = {TRAINING_SET: yardstick.measure(yardstick.stand_in)}
    for folder, manifest in manifests.items():
        verify_files(folder, manifest)
        measured[f"{manifest.name}/{manifest.version}"] = _measured(folder, manifest, yardstick, seed)
    return dataset, measured


def measure_beside(
    models: Path, name: str, data: DataOptions, dataset: Dataset, seed: int = 0
) -> dict[str, Measured]:
    """Measure the newest version of every other model in a folder that was trained on the same data.

    Folders that are no sound versions are left out.

    Args:
        models: The folder of published models.
        name: The model that is left out.
        data: What the others have to have been trained on.
        dataset: That data, loaded.
        seed: Of the samples and of all resampling.
    """
    found = {}
    for model in sorted(path for path in models.iterdir() if path.is_dir() and path.name != name):
        for folder in version_folders(model)[-1:]:
            # a neighbour that is broken, or not of this program, is no reason to lose a new version
            with contextlib.suppress(InvalidVersion, ValidationError):
                manifest = read_manifest(folder)
                verify_files(folder, manifest)
                if _data_of(manifest) == data:
                    found[folder] = manifest
    yardstick = make_yardstick(dataset, seed) if found else None
    if yardstick is None:
        return {}
    return {
        f"{manifest.name}/{manifest.version}": _measured(folder, manifest, yardstick, seed)
        for folder, manifest in found.items()
    }


def write_comparison(
    path: Path, dataset: Dataset, measured: Mapping[str, Measured], seed: int
) -> tuple[Path, Path]:
    """Write the figures as `path`.json and a page about them as `path`.html, and return both paths."""
    document, page = path.with_suffix(".json"), path.with_suffix(".html")
    content = {
        "data": dataset.source,
        "seed": seed,
        "class_names": dataset.class_names,
        "measured": {name: _as_json(each) for name, each in measured.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    page.write_text(render(comparison_page(dataset, measured, seed)), encoding="utf-8")
    return document, page


def _common_data(manifests: Mapping[Path, Manifest]) -> DataOptions:
    try:
        asked = {folder: _data_of(manifest) for folder, manifest in manifests.items()}
    except ValidationError as error:
        raise ComparisonError(f"a version's [data] is not of this program: {error}") from error
    first, *others = asked.values()
    if any(other != first for other in others):
        told = "; ".join(f"{folder}: {options!r}" for folder, options in asked.items())
        raise ComparisonError(f"the versions were trained on different data, so measure them apart: {told}")
    return first


def _data_of(manifest: Manifest) -> DataOptions:
    return DataOptions.model_validate(manifest.provenance.recipe.get("data"))


def _measured(folder: Path, manifest: Manifest, yardstick: Yardstick, seed: int) -> Measured:
    return yardstick.measure(draw_samples(folder, manifest, yardstick.rows, seed))


def draw_samples(folder: Path, manifest: Manifest, count: int, seed: int) -> Items:
    """Samples 0 .. count - 1 of a seed, (count, *item), as the service draws them.

    Binary pictures and tables are drawn from the likelihood, whose mean is no such item; all else is decoded.
    """
    draws = "draw" in manifest.graphs and manifest.support in ("binary", "real")
    session = open_session(folder / manifest.graphs["draw" if draws else "decode"].file)
    prior, size, parts = read_prior(folder, manifest), int(np.prod(manifest.item_shape)), []
    for first in range(0, count, _ROWS):
        rows = min(_ROWS, count - first)
        feeds = {"latents": prior.latents(seed, first, rows, 1.0)}
        if draws:
            noise = uniforms(seed, Stream.OBSERVATION, first, rows, size)
            feeds["uniforms"] = noise.reshape(rows, *manifest.item_shape)
        parts.append(session.run(None, feeds)[0])
    return np.concatenate(parts)


def _as_json(measured: Measured) -> dict[str, object]:
    counts = measured.class_counts
    return {
        "metrics": {name: metric.model_dump() for name, metric in measured.metrics.items()},
        "class_counts": None if counts is None else counts.tolist(),
    }
