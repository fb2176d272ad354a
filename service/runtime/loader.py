"""From the folder of a version to one that serves: verified, checked, warmed and self-tested."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from service.format.manifest import LogitsSpec, Manifest, Statistic, check_statistics, check_tensors
from service.format.versions import read_arrays, read_manifest, verify_files
from service.numerics.calibration import Calibration, bounds_from_terms
from service.numerics.noise import Arrays, Floats
from service.numerics.prior import Prior, read_prior
from service.observe.metrics import Metrics
from service.runtime.batcher import Batcher, Compute
from service.runtime.engine import Engine
from service.runtime.filtered_sampling import Filter
from service.runtime.model import SAMPLE_STAGE, LoadedModel
from service.runtime.queue import Limits
from service.runtime.scorer import BOUNDS_STAGE, Scorer
from service.runtime.session import Provider
from service.settings import Settings

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


def load(
    folder: Path, provider: Provider, settings: Settings, metrics: Metrics, threads: Executor
) -> LoadedModel:
    """Verifies, loads, warms and self-tests a version. Blocks; the batchers are not started.

    Raises:
        InvalidVersion: the version is damaged, or does not compute what it says.
        ProviderUnavailable: a graph does not run on the provider.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    check_tensors(manifest)
    check_statistics(manifest, settings.max_draws)
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
    return LoadedModel(manifest, provider, prior, batchers, scorer, chooser)


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
