"""From a run's checkpoint to a published version: graphs, parity, calibration, manifest, card, one rename."""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from service.contract import (
    CalibrationSpec,
    FileSpec,
    GraphName,
    GraphSpec,
    Manifest,
    Metric,
    MixturePrior,
    Parity,
    Provenance,
    ScoreDefaults,
    is_picture,
    publish,
    sha256_of,
    stage,
)
from service.noise import NOISE
from service.prior import read_prior
from training.card import write_card
from training.data import Dataset
from training.gan import Gan, GanStep
from training.graphs import export_graph, graphs_of
from training.parity import Exported, measure_parity, open_session, write_self_test
from training.pictures import write_grid
from training.recipe import Recipe
from training.scoring import calibrate
from training.step import Step
from training.vae import Vae, with_fixed_prior
from training.vae_step import VaeStep

_SAMPLES = 64

Say = Callable[[str], None]
"""Receives a line of progress for a person."""


def export(
    step: Step, recipe: Recipe, dataset: Dataset, metrics: dict[str, Metric], models: Path, say: Say
) -> Path:
    """Export, check, calibrate and publish a trained model as the next version; returns the version's folder.

    Args:
        step: The model with its averaged weights, in evaluation mode.
        recipe: The recipe it was trained by.
        dataset: The recipe's data; the calibration split is used here for the first and only time.
        metrics: Figures measured on the test split.
        models: The folder of published models.
        say: Receives a line of progress.

    Raises:
        GraphError: A graph breaks a rule of the contract.
        ParityError: A graph does not compute what the model computes.
    """
    assert isinstance(step, VaeStep | GanStep)
    model = with_fixed_prior(step.model) if isinstance(step, VaeStep) else step.model
    staging = stage(models, recipe.name)
    try:
        exported: dict[GraphName, Exported] = {}
        parity: dict[GraphName, Parity] = {}
        for graph in graphs_of(model, dataset.item_shape):
            say(f"exporting {graph.name}")
            path = staging / f"{graph.name}.onnx"
            export_graph(graph, path)
            exported[graph.name] = Exported(graph, open_session(path))
            parity[graph.name] = measure_parity(exported[graph.name], dataset)
        calibration = None
        if "score" in exported:
            say(f"calibrating on {len(dataset.items['calibration'])} items")
            assert isinstance(model, Vae)
            calibration, rates = calibrate(exported["score"], model, recipe.calibration, dataset, staging)
            metrics = {**metrics, **rates}
        write_self_test(exported, staging / "self_test.npz", dataset)
        manifest = _manifest(recipe, dataset, model, exported, parity, calibration, metrics, staging)
        latents = read_prior(staging, manifest).latents(0, 0, _SAMPLES, 1.0)
        samples = exported["decode"].run([latents])[0]
        if is_picture(dataset.item_shape):
            write_grid(staging / "samples.png", samples)
        write_card(staging / "README.md", manifest, dataset)
        say("publishing")
        return publish(staging, manifest)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: it has older versions
            staging.parent.rmdir()
        raise


def _manifest(
    recipe: Recipe,
    dataset: Dataset,
    model: Vae | Gan,
    exported: dict[GraphName, Exported],
    parity: dict[GraphName, Parity],
    calibration: CalibrationSpec | None,
    metrics: dict[str, Metric],
    staging: Path,
) -> Manifest:
    options = recipe.calibration
    support = model.likelihood.support if isinstance(model, Vae) else "unit_interval"
    return Manifest(
        name=recipe.name,
        version=1,
        family=recipe.family,
        description=recipe.title,
        item_shape=dataset.item_shape,
        support=support,
        value_range=None if support == "real" else (0.0, 1.0),
        columns=dataset.columns,
        class_names=dataset.class_names,
        latent_size=model.latent,
        prior=_write_prior(model, staging / "prior.npz"),
        likelihood=model.likelihood.name if isinstance(model, Vae) else None,
        noise=NOISE,
        graphs={
            name: GraphSpec(
                file=f"{name}.onnx",
                sha256=sha256_of(staging / f"{name}.onnx"),
                inputs=one.graph.inputs,
                outputs=one.graph.outputs,
            )
            for name, one in exported.items()
        },
        calibration=calibration,
        defaults=calibration
        and ScoreDefaults(
            statistic=options.statistic, draws=options.draws, seed=options.seed, alpha=options.alpha
        ),
        metrics=metrics,
        provenance=Provenance(
            recipe=recipe.model_dump(mode="json", exclude_none=True),
            commit=_commit(),
            seed=recipe.seed,
            libraries={
                "python": platform.python_version(),
                "torch": torch.__version__,
                "onnx": onnx.__version__,
                "onnxscript": onnxscript.__version__,
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
            },
        ),
        parity=parity,
        self_test=FileSpec(file="self_test.npz", sha256=sha256_of(staging / "self_test.npz")),
    )


def _write_prior(model: Vae | Gan, path: Path) -> Literal["standard_normal"] | MixturePrior:
    """The prior as the manifest names it; a mixture's Gaussians go to `path`."""
    components = model.components() if isinstance(model, Vae) else None
    if components is None:
        return "standard_normal"
    means, log_variances = (tensor.numpy() for tensor in components)
    weights = np.full(len(means), 1 / len(means))
    np.savez(path, allow_pickle=False, weights=weights, means=means, log_variances=log_variances)
    return MixturePrior(file=path.name, sha256=sha256_of(path), components=len(means))


def _commit() -> str:
    """The commit of the training code, `-modified` if its files differ from it, else `unknown`."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD").strip()
        changed = _git(here, "status", "--porcelain", "--", ".").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-modified" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout
