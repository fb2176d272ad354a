"""From the folder of a version to one that serves: verified, checked, warmed and self-tested."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from service.batching import Batcher, Compute
from service.calibration import Calibration, bounds_from_terms
from service.contract import LogitsSpec, Manifest, Statistic
from service.engine import Engine
from service.errors import InvalidVersion
from service.filtering import Filter
from service.metrics import Metrics
from service.noise import Floats
from service.prior import Prior, read_prior
from service.provider import Provider
from service.scorer import BOUNDS_STAGE, Scorer, offered_statistics
from service.served import SAMPLE_STAGE, Served
from service.settings import Settings
from service.turns import Arrays, Limits
from service.versions import read_arrays, read_manifest, verify_files

INLINE_SECONDS: Final = 0.001
"""Batches that take less on the CPU run in the event loop, which saves a hop between threads."""
INLINE_SECONDS_OF_ONE_CORE: Final = 0.016
"""The same for a process of one core, whose threads would only take turns with the loop; of short calls it
makes no longer ones."""
QUICK_SECONDS: Final = 0.004
"""What long calls get of a batch on the CPU while short calls come, so that these do not wait for longer."""
_FEWEST_ROWS: Final = 8
"""However long they take: smaller batches would waste the processor."""

log = logging.getLogger(__name__)


def load(folder: Path, provider: Provider, settings: Settings, metrics: Metrics, threads: Executor) -> Served:
    """Verifies, loads, warms and self-tests a version. Blocks; the batchers are not started.

    Raises:
        InvalidVersion: the version is damaged, or does not compute what it says.
        ProviderUnavailable: a graph does not run on the provider.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    _check_tensors(manifest)
    _check_statistics(manifest, settings.max_draws)
    calibrations = _read_calibrations(folder, manifest)
    prior = read_prior(folder, manifest)
    logits = manifest.discriminator.logits if manifest.discriminator is not None else None
    real_logits = None if logits is None else _read_logits(folder, logits)
    engine = Engine(folder, manifest, provider, settings.max_batch_rows)
    engine.self_test(folder)
    batchers = _batchers(engine, manifest, prior, settings, metrics, threads)
    scorer = Scorer(manifest, calibrations, batchers, settings.max_batch_rows)
    chooser = None
    if logits is not None and real_logits is not None:
        scored = batchers["generate_scored"]
        chooser = Filter(prior, real_logits, logits.largest, scored, settings.max_waiting_rows)
    return Served(manifest, provider, prior, batchers, scorer, chooser)


def _check_tensors(manifest: Manifest) -> None:
    """Whether the graphs take and give items, latents and terms of the manifest's sizes."""
    items: tuple[int | str, ...] = ("rows", *manifest.item_shape)
    latents = ("rows", manifest.latent_size)
    terms = ("rows", "draws")
    shapes: dict[str, tuple[int | str, ...]] = {
        **dict.fromkeys(("inputs", "samples", "uniforms", "map"), items),
        **dict.fromkeys(("latents", "mean", "log_variance"), latents),
        **dict.fromkeys(("log_likelihood", "log_prior", "log_posterior"), terms),
        **dict.fromkeys(("kl", "logit"), ("rows",)),
        "eps": (*terms, manifest.latent_size),
    }
    for graph in manifest.graphs.values():
        for tensor in (*graph.inputs, *graph.outputs):
            wanted = shapes.get(tensor.name, tensor.shape)
            if tensor.shape != wanted:
                raise InvalidVersion(
                    f"{graph.file}: {tensor.name} is {list(tensor.shape)}, by the model's sizes it would be "
                    f"{list(wanted)}"
                )


def _check_statistics(manifest: Manifest, max_draws: int) -> None:
    if "statistics" in manifest.graphs:
        shapes = [tensor.shape for tensor in manifest.graphs["statistics"].outputs]
        if shapes != [("rows", len(manifest.statistics))]:
            raise InvalidVersion(
                f"the graph `statistics` gives {shapes}, the manifest names "
                f"{len(manifest.statistics)} columns"
            )
    defaults = manifest.defaults
    if defaults is None:
        return
    if defaults.statistic not in offered_statistics(manifest):
        raise InvalidVersion(f"its default statistic {defaults.statistic} is none that its graphs give")
    if defaults.draws is not None and defaults.draws > max_draws:
        raise InvalidVersion(f"its default of {defaults.draws} draws is over the limit of {max_draws}")


def _read_calibrations(folder: Path, manifest: Manifest) -> dict[Statistic, Calibration]:
    spec = manifest.calibration
    if spec is None:
        return {}
    wanted = {str(name): ((how.n,), np.float64) for name, how in spec.statistics.items()}
    stored = read_arrays(folder / spec.file, wanted)
    return {name: Calibration(stored[name]) for name in spec.statistics}


def _read_logits(folder: Path, spec: LogitsSpec) -> Floats:
    return read_arrays(folder / spec.file, {"real": ((spec.n,), np.float32)})["real"]


def _batchers(
    engine: Engine, manifest: Manifest, prior: Prior, settings: Settings, metrics: Metrics, threads: Executor
) -> dict[str, Batcher]:
    """A batcher for every graph, and for what is made of one; the warm-up told which batches are small."""

    def sampled(words: Arrays) -> Arrays:
        return engine.run("decode", (prior.latents_from(words),))

    def bounded(inputs_and_eps: Arrays) -> Arrays:
        terms = engine.run("score", inputs_and_eps)
        return bounds_from_terms(*terms, analytic_kl=manifest.analytic_kl)

    batchers = {}
    seconds_per_row = engine.warm_up()
    stages: dict[str, tuple[Compute, float]] = {
        graph: (partial(engine.run, graph), seconds) for graph, seconds in seconds_per_row.items()
    }
    stages[SAMPLE_STAGE] = (sampled, seconds_per_row["decode"])
    if "score" in seconds_per_row:
        stages[BOUNDS_STAGE] = (bounded, seconds_per_row["score"])
    for stage, (compute, seconds) in stages.items():
        limits = _limits(seconds, engine.provider, settings)
        batchers[stage] = Batcher(
            compute,
            limits,
            lanes=settings.granted_lanes if engine.provider == "cpu" else 1,
            cores=settings.own_cores if engine.provider == "cpu" else 1,
            threads=threads,
            watcher=metrics.watch(manifest.name, stage, engine.provider),
            name=f"{manifest.name}/{manifest.version} {stage}",
        )
        log.debug("%s: %.0f us a row, up to %d inline", stage, seconds * 1e6, limits.inline_cost)
    return batchers


def _limits(seconds_per_row: float, provider: Provider, settings: Settings) -> Limits:
    most = settings.max_batch_rows
    if provider != "cpu":  # whose calls take turns: the loop would wait for another's
        return Limits(most, settings.max_waiting_rows, most, most, inline_cost=0)
    inline = int(INLINE_SECONDS / seconds_per_row)
    quick = max(_FEWEST_ROWS, int(QUICK_SECONDS / seconds_per_row))
    short = most
    if settings.own_cores == 1:
        short = inline = max(_FEWEST_ROWS, int(INLINE_SECONDS_OF_ONE_CORE / seconds_per_row))
    return Limits(most, settings.max_waiting_rows, short, quick, inline)
