"""Measure samples of published versions on the features of a classifier."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.versions import read_manifest, verify_files, version_folders
from service.numerics.classes import one_hot
from service.numerics.noise import Stream, uniforms
from service.numerics.prior import read_prior
from training.data import Dataset, Items
from training.data.options import DataOptions
from training.export.sessions import open_graph
from training.metrics.evaluators import Evaluator, QualityReport
from training.metrics.measure import make_evaluator

_ROWS = 500


def measure_beside(
    models: Path, name: str, data: DataOptions, dataset: Dataset, seed: int = 0
) -> dict[str, QualityReport]:
    """Measure the newest version of every other model in a folder that was trained on the same data.

    Damaged versions are left out.

    Args:
        models: The folder of published models.
        name: The model that is left out.
        data: The options of the data that the others must have been trained on.
        dataset: That data, loaded.
        seed: The seed of the samples and of all resampling.
    """
    found = {}
    for model in sorted(path for path in models.iterdir() if path.is_dir() and path.name != name):
        for folder in version_folders(model)[-1:]:
            # a damaged or foreign neighbour must not stop the export of a new version
            with contextlib.suppress(InvalidVersion, ValidationError):
                manifest = read_manifest(folder)
                if data_of(manifest) == data:
                    verify_files(folder, manifest)
                    found[folder] = manifest
    evaluator = make_evaluator(dataset, seed) if found else None
    if evaluator is None:
        return {}
    return {
        f"{manifest.name}/{manifest.version}": measure_version(folder, manifest, evaluator, seed)
        for folder, manifest in found.items()
    }


def data_of(manifest: Manifest) -> DataOptions:
    """Return the [data] table of a version's recipe.

    Raises:
        ValidationError: It is not of this program.
    """
    return DataOptions.model_validate(manifest.provenance.recipe.get("data"))


def measure_version(folder: Path, manifest: Manifest, evaluator: Evaluator, seed: int) -> QualityReport:
    """Measure samples of a version."""
    return evaluator.measure(draw_samples(folder, manifest, evaluator.rows, seed))


def draw_samples(folder: Path, manifest: Manifest, count: int, seed: int) -> Items:
    """Draw the samples 0 .. count - 1 of a seed, (count, *item), as the service does.

    Binary pictures and tables are drawn from the likelihood, since its mean is no such item; all others are
    decoded. Numbers of a table stay as the graph draws them, not rounded. With a class condition, the classes
    take turns.
    """
    draws = "draw" in manifest.graphs and manifest.support in ("binary", "real")
    session = open_graph(folder, "draw" if draws else "decode")
    prior, size, parts = read_prior(folder, manifest), int(np.prod(manifest.item_shape)), []
    for first in range(0, count, _ROWS):
        rows = min(_ROWS, count - first)
        feeds = {"latents": prior.latents(seed, first, rows, 1.0)}
        if manifest.conditional:
            classes = len(manifest.class_names)
            feeds["labels"] = one_hot(np.arange(first, first + rows) % classes, rows, classes)
        if draws:
            noise = uniforms(seed, Stream.OBSERVATION, first, rows, size)
            feeds["uniforms"] = noise.reshape(rows, *manifest.item_shape)
        parts.append(session.run(None, feeds)[0])
    return np.concatenate(parts)
