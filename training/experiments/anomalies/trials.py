"""Trials: one recipe trained again and again, each time on other normal items, and judged on the others."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from service.format.versions import read_manifest
from training.anomaly.auroc import auroc
from training.data import Dataset, load_dataset
from training.data.fashion import FASHION_CLASSES
from training.experiments.anomalies.baselines import PEERS, Peer, peer_surprises, write_tumours
from training.export.publish import export
from training.loop.loop import train
from training.loop.runs import restore_averaged
from training.metrics.names import MetricName
from training.recipe import RECIPES, Recipe, read_recipe

_KIND = "kept_out"


@dataclass(frozen=True)
class Experiment:
    """A recipe, and what changes from trial to trial."""

    recipe: str
    title: str
    trial: str
    """What a trial is named after."""
    overrides: Mapping[str, tuple[str, ...]]
    """Of every trial, by its name."""
    tumours: bool = False
    """Whether the recipe is of that table: it is written beforehand, and other detectors learn it too."""


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


class TrialError(RuntimeError):
    """Results cannot be read, or are of another recipe; the message says what to do."""


@dataclass(frozen=True)
class Result:
    """What came of a trial."""

    recipe_sha256: str
    """Of the recipe with the trial's values: tells whether the result still holds."""
    default: str
    """The statistic that the version scores by unless told, which no outlier of the trial had a say in."""
    normal_rows: int
    outlier_rows: int
    auroc: dict[str, float]
    """By statistic, and by other detectors' names."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the libraries that the other detectors come from."""


class Interrupted(Exception):
    """A training was told to stop."""


def missing(experiment: Experiment, results: Mapping[str, Result]) -> list[str]:
    """The trials that have no result, in order."""
    return [name for name in experiment.overrides if name not in results]


def perform(experiment: Experiment, name: str, baselines: Sequence[Peer] = PEERS) -> Result:
    """Train, export and judge a trial's model, and `baselines` beside it; nothing is kept but the result.

    Raises:
        Interrupted: By Ctrl-C, or an order to end.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = _recipe(experiment, name, write_tumours(folder) if experiment.tumours else folder)
        torch.set_num_threads(recipe.loop.threads)
        dataset = load_dataset(recipe.data)
        if train(recipe, dataset, folder / "run").interrupted:
            raise Interrupted
        task, _ = restore_averaged(recipe, dataset, folder / "run")
        manifest = read_manifest(export(task, recipe, dataset, {}, folder / "models", lambda _line: None))
    assert manifest.calibration is not None
    assert manifest.defaults is not None
    assert dataset.outliers is not None
    areas: dict[str, float] = {
        statistic: manifest.metrics[str(MetricName("auroc", _KIND, statistic))].value
        for statistic in manifest.calibration.statistics
    }
    others, versions = _others(baselines if experiment.tumours else (), dataset, recipe)
    return Result(
        recipe_sha256=_digest(recipe),
        default=manifest.defaults.statistic,
        normal_rows=len(dataset.items["test"]),
        outlier_rows=len(dataset.outliers),
        auroc=areas | others,
        versions=versions,
    )


def _others(
    baselines: Sequence[Peer], dataset: Dataset, recipe: Recipe
) -> tuple[dict[str, float], dict[str, str]]:
    """The areas of other detectors by their names, and the versions of their libraries."""
    areas, versions = {}, {}
    for peer in baselines:
        found = peer_surprises(peer, dataset, recipe.seed)
        areas[peer.name] = float(auroc(found.outliers, found.normal))
        versions[peer.library] = found.version
    return areas, versions


def _recipe(experiment: Experiment, name: str, table: Path) -> Recipe:
    """A trial's recipe, of the table at that place if it is of one."""
    place = [f"data.path={json.dumps(str(table))}"] if experiment.tumours else []
    return read_recipe(RECIPES / f"{experiment.recipe}.toml", [*experiment.overrides.get(name, ()), *place])


def _digest(recipe: Recipe) -> str:
    """Of all that a recipe says but the place where its data lay."""
    table = recipe.model_dump(mode="json", exclude_none=True)
    table["data"].pop("path", None)
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def read_results(path: Path, experiment: Experiment) -> dict[str, Result]:
    """The results by trial; empty if there is no such file yet.

    Raises:
        TrialError: The file is none of results, or one is of another recipe than the trial's today.
    """
    if not path.exists():
        return {}
    try:
        results = {name: Result(**row) for name, row in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise TrialError(f"{path} holds no results ({error}); move it away and train again") from error
    for name, result in results.items():
        if _digest(_recipe(experiment, name, path)) != result.recipe_sha256:
            raise TrialError(
                f"{path}: {experiment.trial} {name!r} was trained by another recipe than "
                f"{experiment.recipe} is now; move the file away to train anew"
            )
    return results


def write_results(path: Path, results: Mapping[str, Result]) -> None:
    """Write the results as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    text = json.dumps({name: asdict(result) for name, result in results.items()}, indent=1)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def perform_missing(
    experiment: Experiment, path: Path, results: dict[str, Result], advance: Callable[[int], None]
) -> None:
    """Perform what has no result yet, writing all after each; `advance` is told of each."""
    for name in missing(experiment, results):
        results[name] = perform(experiment, name)
        write_results(path, {each: results[each] for each in experiment.overrides if each in results})
        advance(1)
