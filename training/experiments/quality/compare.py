"""Compare published versions of one dataset with each other and with the training set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from service.format.manifest import Manifest
from service.format.versions import read_manifest, verify_files
from training.data import Dataset, load_dataset
from training.data.options import DataOptions
from training.export.beside import data_of, measure_version
from training.metrics.evaluators import QualityReport
from training.metrics.measure import make_evaluator
from training.report.comparison import TRAINING_SET, comparison_page
from training.report.page import render


class ComparisonError(RuntimeError):
    """Versions cannot be compared; the message says why and what to do."""


def compare_versions(folders: Sequence[Path], seed: int = 0) -> tuple[Dataset, dict[str, QualityReport]]:
    """Measure the training set, then versions, named NAME/VERSION; all must be of the same data.

    Raises:
        ClassifierError: The classifier's file is not the recorded one.
        ComparisonError: The versions are of different data, or there is too little of it.
        DataError: The data cannot be had.
        InvalidVersion: A folder is not a valid version.
    """
    manifests = {folder: read_manifest(folder) for folder in folders}
    dataset = load_dataset(_common_data(manifests))
    evaluator = make_evaluator(dataset, seed)
    if evaluator is None:
        raise ComparisonError(f"{dataset.name} has {len(dataset.items['test'])} test items; wanted hundreds")
    measured = {TRAINING_SET: evaluator.measure(evaluator.stand_in)}
    for folder, manifest in manifests.items():
        verify_files(folder, manifest)
        measured[f"{manifest.name}/{manifest.version}"] = measure_version(folder, manifest, evaluator, seed)
    return dataset, measured


def write_comparison(
    path: Path, dataset: Dataset, measured: Mapping[str, QualityReport], seed: int
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
        asked = {folder: data_of(manifest) for folder, manifest in manifests.items()}
    except ValidationError as error:
        raise ComparisonError(f"a version's [data] is not of this program: {error}") from error
    first, *others = asked.values()
    if any(other != first for other in others):
        data = "; ".join(f"{folder}: {options!r}" for folder, options in asked.items())
        raise ComparisonError(f"the versions were trained on different data, so measure them apart: {data}")
    return first


def _as_json(measured: QualityReport) -> dict[str, object]:
    counts = measured.class_counts
    return {
        "metrics": {name: metric.model_dump() for name, metric in measured.metrics.items()},
        "class_counts": None if counts is None else counts.tolist(),
    }
