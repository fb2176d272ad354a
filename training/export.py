"""From a run's checkpoint to a published version: graphs, parity, calibration, manifest, card, one rename.

Shapes: B rows, K draws, D latent dimensions; items (B, C, H, W).
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import onnxscript
import torch
from torch import Tensor

from service.calibration import Bounds, Calibration, bounds_from_terms, surprise
from service.contract import (
    CalibratedStatistic,
    CalibrationSpec,
    FileSpec,
    GraphName,
    GraphSpec,
    Manifest,
    Metric,
    Parity,
    Provenance,
    ScoreDefaults,
    Statistic,
    publish,
    read_manifest,
    sha256_of,
    stage,
    verify_files,
)
from service.noise import NOISE, Stream, normals, scoring_noise
from training.card import write_card
from training.data import Dataset
from training.gan import Gan, GanStep
from training.graphs import Graph, GraphError, check_graph, example_inputs, export_graph, graphs_of
from training.pictures import write_grid
from training.recipe import CalibrationOptions, Recipe
from training.step import Step
from training.vae import Vae, VaeStep

PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5
"""Largest allowed |onnx - torch| / (1 + |torch|)."""
_PARITY_DRAWS = 3
_SELF_TEST_ROWS = 2
_SCORING_ROWS = 100
_NOISE_ROWS = 1000
_SAMPLES = 64
_STATISTICS: tuple[Statistic, ...] = ("elbo", "importance_bound")

Arrays = tuple[npt.NDArray[np.float32], ...]
Say = Callable[[str], None]


class ParityError(RuntimeError):
    """An exported graph does not compute what the trained model computes."""


@dataclass(frozen=True)
class _Exported:
    """A graph that has been written, with its session on the CPU."""

    graph: Graph
    session: onnxruntime.InferenceSession
    parity: Parity

    def run(self, inputs: Sequence[npt.NDArray[np.float32]]) -> Arrays:
        """Inputs and outputs in the graph's order."""
        feeds = {spec.name: array for spec, array in zip(self.graph.inputs, inputs, strict=True)}
        return tuple(self.session.run(None, feeds))


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
    model = step.model
    staging = stage(models, recipe.name)
    try:
        exported: dict[GraphName, _Exported] = {}
        for graph in graphs_of(model, dataset.item_shape):
            say(f"exporting {graph.name}")
            exported[graph.name] = _export_checked(graph, staging / f"{graph.name}.onnx", dataset)
        calibration = None
        if "score" in exported:
            say(f"calibrating on {len(dataset.images['calibration'])} items")
            calibration, rates = _calibrate(
                exported["score"], model.latent, recipe.calibration, dataset, staging
            )
            metrics = {**metrics, **rates}
        _write_self_test(exported, staging / "self_test.npz", dataset)
        manifest = _manifest(recipe, dataset, model, exported, calibration, metrics, staging)
        latents = normals(0, Stream.LATENT, 0, _SAMPLES, model.latent)
        write_grid(staging / "samples.png", exported["decode"].run([latents])[0])
        write_card(staging / "README.md", manifest, dataset)
        say("publishing")
        return publish(staging, manifest)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def verify_version(folder: Path) -> Manifest:
    """Check a published version: manifest, hashes, the rules for graphs, and its stored self-test.

    Raises:
        service.errors.InvalidVersion: The manifest or a hash is wrong.
        GraphError: A graph breaks a rule of the contract.
        ParityError: A graph does not reproduce the stored example.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    with np.load(folder / manifest.self_test.file, allow_pickle=False) as stored:
        example = dict(stored)
    for name, spec in manifest.graphs.items():
        check_graph(name, onnx.load(folder / spec.file))
        session = _session(folder / spec.file)
        feeds = {tensor.name: example[f"{name}.inputs.{tensor.name}"] for tensor in spec.inputs}
        for tensor, got in zip(spec.outputs, session.run(None, feeds), strict=True):
            error = _relative_error(got, example[f"{name}.outputs.{tensor.name}"])
            if not error <= PARITY_TOLERANCE:
                raise ParityError(
                    f"{folder}: {name}.{tensor.name} is off by {error:.1e} of the stored example; "
                    f"at most {PARITY_TOLERANCE:.0e} is allowed"
                )
    return manifest


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _export_checked(graph: Graph, path: Path, dataset: Dataset) -> _Exported:
    export_graph(graph, path, dataset.binary)
    session = _session(path)
    return _Exported(graph, session, _measure_parity(_Exported(graph, session, _NO_PARITY), dataset))


_NO_PARITY = Parity(largest_error=0.0, tolerance=PARITY_TOLERANCE, batches=())


def _measure_parity(exported: _Exported, dataset: Dataset) -> Parity:
    """Compare with torch at every batch size, and each row across batch sizes."""
    largest = 0.0
    for seed, real in ((0, False), (1, True), (2, True)):
        most = _inputs(exported.graph, dataset, max(PARITY_BATCHES), _PARITY_DRAWS, seed, real)
        whole = exported.run([tensor.numpy() for tensor in most])
        for rows in PARITY_BATCHES:
            inputs = [tensor[:rows] for tensor in most]
            with torch.no_grad():
                expected = exported.graph.module(*inputs)
            expected = expected if isinstance(expected, tuple) else (expected,)
            got = exported.run([tensor.numpy() for tensor in inputs])
            for spec, ours, theirs, all_rows in zip(
                exported.graph.outputs, got, expected, whole, strict=True
            ):
                error = _relative_error(ours, theirs.numpy())
                where = f"graph {exported.graph.name}, output {spec.name}, {rows} rows"
                if not error <= PARITY_TOLERANCE:
                    raise ParityError(f"{where}: ONNX Runtime and torch differ by {error:.1e} (1 + |value|)")
                if not np.array_equal(ours, all_rows[:rows]):
                    raise ParityError(f"{where}: a row's result depends on how many rows stand beside it")
                largest = max(largest, error)
    return Parity(largest_error=largest, tolerance=PARITY_TOLERANCE, batches=PARITY_BATCHES)


def _inputs(graph: Graph, dataset: Dataset, rows: int, draws: int, seed: int, real: bool) -> list[Tensor]:
    tensors = list(example_inputs(graph, rows, draws, dataset.binary, seed))
    for index, spec in enumerate(graph.inputs):
        if real and spec.name == "inputs":
            tensors[index] = torch.from_numpy(dataset.images["test"][seed * rows : (seed + 1) * rows])
    return tensors


def _relative_error(got: npt.NDArray[np.float32], want: npt.NDArray[np.float32]) -> float:
    return float(np.max(np.abs(got - want) / (1 + np.abs(want))))


def _score(exported: _Exported, items: npt.NDArray[np.float32], eps: npt.NDArray[np.float32]) -> Bounds:
    """Bounds of items (N, C, H, W) with the same eps (K, D) for each, as the service computes them."""
    parts = []
    for first in range(0, len(items), _SCORING_ROWS):
        batch = items[first : first + _SCORING_ROWS]
        shared = np.ascontiguousarray(np.broadcast_to(eps, (len(batch), *eps.shape)))
        parts.append(exported.run([batch, shared]))
    return bounds_from_terms(*(np.concatenate(terms) for terms in zip(*parts, strict=True)))


def _calibrate(
    exported: _Exported, latent: int, options: CalibrationOptions, dataset: Dataset, staging: Path
) -> tuple[CalibrationSpec, dict[str, Metric]]:
    """Store the sorted surprises of the calibration split, and measure how often test items are flagged."""
    eps = scoring_noise(options.seed, options.draws, latent)
    bounds = _score(exported, dataset.images["calibration"], eps)
    surprises = {statistic: np.sort(surprise(bounds, statistic)) for statistic in _STATISTICS}
    path = staging / "calibration.npz"
    np.savez(path, allow_pickle=False, **surprises)
    spec = CalibrationSpec(
        file=path.name,
        sha256=sha256_of(path),
        statistics={
            statistic: CalibratedStatistic(n=len(values), draws=options.draws, seed=options.seed)
            for statistic, values in surprises.items()
        },
    )
    calibration = Calibration(surprises[options.statistic])
    noise = np.random.default_rng(0).random((_NOISE_ROWS, *dataset.item_shape), dtype=np.float32)
    rates = {}
    for name, items, what in (
        ("flagged_test", dataset.images["test"], "test items"),
        ("flagged_noise", noise.round() if dataset.binary else noise, "items of uniform noise"),
    ):
        p_values = calibration.p_values(surprise(_score(exported, items, eps), options.statistic))
        share = float((p_values <= options.alpha).mean())
        rates[name] = Metric(
            value=share,
            standard_error=float(np.sqrt(share * (1 - share) / len(items))),
            unit="share",
            note=f"of {len(items)} {what}, flagged at alpha {options.alpha:g} by {options.statistic} "
            f"with {options.draws} draws",
        )
    return spec, rates


def _write_self_test(exported: dict[GraphName, _Exported], path: Path, dataset: Dataset) -> None:
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    for name, one in exported.items():
        inputs = [
            t.numpy() for t in _inputs(one.graph, dataset, _SELF_TEST_ROWS, _PARITY_DRAWS, seed=0, real=True)
        ]
        outputs = one.run(inputs)
        arrays |= {f"{name}.inputs.{s.name}": a for s, a in zip(one.graph.inputs, inputs, strict=True)}
        arrays |= {f"{name}.outputs.{s.name}": a for s, a in zip(one.graph.outputs, outputs, strict=True)}
    np.savez(path, allow_pickle=False, **arrays)


def _manifest(
    recipe: Recipe,
    dataset: Dataset,
    model: Vae | Gan,
    exported: dict[GraphName, _Exported],
    calibration: CalibrationSpec | None,
    metrics: dict[str, Metric],
    staging: Path,
) -> Manifest:
    options = recipe.calibration
    return Manifest(
        name=recipe.name,
        version=1,
        family=recipe.family,
        description=recipe.title,
        item_shape=dataset.item_shape,
        support="binary" if dataset.binary else "unit_interval",
        value_range=(0.0, 1.0),
        class_names=dataset.class_names,
        latent_size=model.latent,
        prior="standard_normal",
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
        parity={name: one.parity for name, one in exported.items()},
        self_test=FileSpec(file="self_test.npz", sha256=sha256_of(staging / "self_test.npz")),
    )


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


__all__ = ["GraphError", "ParityError", "export", "verify_version"]
