"""Trials: one recipe trained repeatedly, each time on other normal items, and scored on the other items."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from service.format.versions import read_manifest
from training.data import load_dataset
from training.data.fashion import FASHION_CLASSES
from training.experiments.anomalies.baselines import PEERS, Peer, peer_auroc, write_tumours
from training.experiments.results import ResultError, read_results, write_results
from training.export.publish import export
from training.loop.loop import train
from training.loop.runs import restore_published
from training.metrics.names import MetricName
from training.recipe import RECIPES, Recipe, read_recipe

_KIND = "kept_out"


@dataclass(frozen=True)
class Experiment:
    """A recipe and its trials."""

    recipe: str
    title: str
    trial: str
    """The meaning of a trial's name, in one word."""
    overrides: Mapping[str, tuple[str, ...]]
    """The changes to the recipe for every trial, by its name."""
    tumours: bool = False
    """True if the recipe's data is the breast-cancer table; other detectors then learn it too."""


EXPERIMENTS: dict[str, Experiment] = {
    "one-class": Experiment(
        recipe="fashion-one-class-vae",
        title="Fashion-MNIST, one class normal: its test items against those of the other nine",
        trial="class",
        overrides={name: (f'data.keep=["{name}"]',) for name in FASHION_CLASSES},
    ),
    "breast-cancer": Experiment(
        recipe="breast-cancer-vae",
        title="Breast cancer, benign rows normal: held-out ones against all malignant ones",
        trial="seed",
        overrides={str(seed): (f"seed={seed}", f"data.split_seed={seed}") for seed in range(10)},
        tumours=True,
    ),
}


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial."""

    recipe_sha256: str
    """Hash of the recipe with the trial's values; a result of another recipe is refused."""
    default: str
    """The version's default statistic, which was chosen without any outlier of the trial."""
    normal_rows: int
    outlier_rows: int
    auroc: dict[str, float]
    """AUROC by the names of statistics and of other detectors."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the other detectors' libraries."""


class Interrupted(Exception):
    """SIGINT or SIGTERM ended a training."""


def missing(experiment: Experiment, results: Mapping[str, TrialResult]) -> list[str]:
    """Return the trials that have no result, in order."""
    return [name for name in experiment.overrides if name not in results]


def perform(experiment: Experiment, name: str, baselines: Sequence[Peer] = PEERS) -> TrialResult:
    """Train, export and score a trial's model, and `baselines` on the same items; only the result is kept.

    Raises:
        Interrupted: SIGINT or SIGTERM ended the training.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = _recipe(experiment, name, write_tumours(folder) if experiment.tumours else folder)
        torch.set_num_threads(recipe.loop.threads)
        dataset = load_dataset(recipe.data)
        if train(recipe, dataset, folder / "run").interrupted:
            raise Interrupted
        task, _ = restore_published(recipe, dataset, folder / "run")
        manifest = read_manifest(export(task, recipe, dataset, {}, folder / "models", lambda _line: None))
    assert manifest.calibration is not None
    assert manifest.defaults is not None
    assert dataset.outliers is not None
    areas: dict[str, float] = {
        statistic: manifest.metrics[str(MetricName("auroc", _KIND, statistic))].value
        for statistic in manifest.calibration.statistics
    }
    peers = baselines if experiment.tumours else ()
    return TrialResult(
        recipe_sha256=_digest(recipe),
        default=manifest.defaults.statistic,
        normal_rows=len(dataset.items["test"]),
        outlier_rows=len(dataset.outliers),
        auroc=areas | {peer.name: peer_auroc(peer, dataset, recipe.seed) for peer in peers},
        versions={peer.library: version(peer.library) for peer in peers},
    )


def _recipe(experiment: Experiment, name: str, table: Path) -> Recipe:
    """Return a trial's recipe; `table` is the file of the breast-cancer table."""
    place = [f"data.path={json.dumps(str(table))}"] if experiment.tumours else []
    return read_recipe(RECIPES / f"{experiment.recipe}.toml", [*experiment.overrides.get(name, ()), *place])


def _digest(recipe: Recipe) -> str:
    """Hash what a recipe sets, without the path of its data; newer keys with defaults change nothing."""
    table = recipe.model_dump(mode="json", exclude_unset=True)
    table["data"].pop("path", None)
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def read_trials(path: Path, experiment: Experiment) -> dict[str, TrialResult]:
    """Read the results by trial; empty if there is no such file yet.

    Raises:
        ResultError: The file holds something else, or a result has another recipe than the trial now has.
    """
    if not path.exists():
        return {}
    results = read_results(path, lambda written: {name: TrialResult(**row) for name, row in written.items()})
    for name, result in results.items():
        if _digest(_recipe(experiment, name, path)) != result.recipe_sha256:
            raise ResultError(
                f"{path}: {experiment.trial} {name!r} was trained by another recipe than "
                f"{experiment.recipe} is now; move the file away to train anew"
            )
    return results


def write_trials(path: Path, results: Mapping[str, TrialResult]) -> None:
    """Write the results by trial."""
    write_results(path, {name: asdict(result) for name, result in results.items()}, indent=1)


def perform_missing(
    experiment: Experiment, path: Path, results: dict[str, TrialResult], advance: Callable[[int], None]
) -> None:
    """Perform the trials that have no result yet; write all results and call `advance` after each."""
    for name in missing(experiment, results):
        results[name] = perform(experiment, name)
        write_trials(path, {each: results[each] for each in experiment.overrides if each in results})
        advance(1)
