"""Load a version: verify its files, read them, warm up and self-test its graphs, and make its batchers."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.specs import CalibrationSpec, GraphName
from service.format.statistics import Statistic
from service.format.versions import read_arrays, read_manifest, verify_files
from service.numerics.calibration import Calibration, ColumnCalibration, bounds_from_terms
from service.numerics.noise import Arrays
from service.numerics.prior import Prior, read_prior
from service.numerics.rejection import RealLogits
from service.runtime.batcher import Batcher, Compute
from service.runtime.direct import Computation, Direct
from service.runtime.engine import Engine
from service.runtime.filtered_sampling import Filter
from service.runtime.lanes import Lanes
from service.runtime.model import SAMPLE_STAGE, LoadedModel
from service.runtime.queue import BatchLimits
from service.runtime.scorer import BOUNDS_STAGE, Scorer
from service.runtime.session import Provider
from service.settings import Settings

if TYPE_CHECKING:
    from service.observe.metrics import Metrics

INLINE_SECONDS: Final = 0.001
"""Batches on the CPU that take less time run in the event loop, which saves a thread hop."""
INLINE_SECONDS_OF_ONE_CORE: Final = 0.016
"""The same for a process with one core, whose threads would only take turns with the loop. Batches of short
calls are no longer than this either."""
QUICK_SECONDS: Final = 0.0015
"""Longest batch with slices of long calls on the CPU while short calls come, which have to wait for it."""
_FEWEST_ROWS: Final = 4
"""Fewest rows of these batches, however long they take: smaller ones would waste the processor."""
_FEWEST_ROWS_OF_ONE_CORE: Final = 8
"""The same for the batches of short calls in a process of one core."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version whose files are verified and read; its graphs passed the self-test and are not timed yet."""

    manifest: Manifest
    engine: Engine
    prior: Prior
    calibrations: Mapping[Statistic, Calibration]
    columns: ColumnCalibration | None
    real_logits: RealLogits | None
    """The discriminator's logits of real items, which filtered sampling starts its chains from."""

    def load(
        self, settings: Settings, lanes: Lanes | None = None, metrics: Metrics | None = None
    ) -> LoadedModel:
        """Time the graphs, and make the batchers, which are not started; see `load`."""
        manifest, engine, most_rows = self.manifest, self.engine, settings.max_batch_rows
        batchers: Mapping[str, Computation]
        if lanes is None:
            batchers = {
                stage: Direct(compute, most_rows) for stage, compute in _computed(engine, manifest).items()
            }
        else:
            batchers = _batchers(engine, manifest, self.prior, settings, lanes, metrics)
        scorer = Scorer(manifest, self.calibrations, self.columns, batchers, most_rows)
        proposals = None
        if self.real_logits is not None and "generate_scored" in batchers:
            assert manifest.discriminator is not None
            assert manifest.discriminator.logits is not None
            largest, scored = manifest.discriminator.logits.largest, batchers["generate_scored"]
            proposals = Filter(self.prior, self.real_logits, largest, scored, settings.max_waiting_rows)
        return LoadedModel(manifest, engine.provider, self.prior, batchers, scorer, proposals)


def open_version(
    folder: Path, provider: Provider, settings: Settings, graphs: Container[GraphName] | None = None
) -> OpenedVersion:
    """Verify, read, open and self-test a version. Blocks, mostly without the interpreter's lock.

    `graphs` are those to open, of the ones that the version has; all of them if left out.

    Raises:
        InvalidVersion, ProviderUnavailable: as `load`.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    if graphs is not None:
        chosen = {name: graph for name, graph in manifest.graphs.items() if name in graphs}
        manifest = manifest.model_copy(update={"graphs": chosen})
    draws = manifest.defaults.draws if manifest.defaults is not None else None
    if draws is not None and draws > settings.max_draws:
        raise InvalidVersion(f"its default of {draws} draws is over the limit of {settings.max_draws}")
    calibrations, columns = _read_calibrations(folder, manifest.calibration)
    prior = read_prior(folder, manifest)
    real = _read_logits(folder, manifest)
    engine = Engine(folder, manifest, provider, settings.max_batch_rows)
    engine.self_test(folder)
    return OpenedVersion(manifest, engine, prior, calibrations, columns, real)


def load(
    folder: Path,
    provider: Provider,
    settings: Settings,
    lanes: Lanes | None = None,
    metrics: Metrics | None = None,
    *,
    graphs: Container[GraphName] | None = None,
) -> LoadedModel:
    """Verify, load, warm up and self-test a version. Blocks; the batchers are not started.

    Batches are computed in `lanes`, and counted by `metrics` if there are some. Without lanes the version is
    for a caller who is alone: each call is computed at once, and nothing is warmed up, nor counted. `graphs`
    are those to load, of the ones that the version has; all of them if left out.

    Raises:
        InvalidVersion: the version is damaged, or does not reproduce its stored example.
        ProviderUnavailable: a graph does not run on the provider.
    """
    return open_version(folder, provider, settings, graphs).load(settings, lanes, metrics)


def _read_logits(folder: Path, manifest: Manifest) -> RealLogits | None:
    """Return the logits that Metropolis chains start from, if the version has a graph of proposals.

    Raises:
        InvalidVersion: the file is not as the manifest says.
    """
    spec = None if manifest.discriminator is None else manifest.discriminator.logits
    if spec is None or "generate_scored" not in manifest.graphs:
        return None
    wanted: dict[str, Any] = {"real": ((spec.n,), np.float32)}
    if not manifest.conditional:
        return RealLogits(read_arrays(folder / spec.file, wanted)["real"])
    stored = read_arrays(folder / spec.file, wanted | {"labels": ((spec.n,), np.int64)})
    try:
        return RealLogits(stored["real"], stored["labels"], len(manifest.class_names))
    except ValueError as error:
        raise InvalidVersion(f"{spec.file}: {error}; publish the version again") from error


def _read_calibrations(
    folder: Path, spec: CalibrationSpec | None
) -> tuple[dict[Statistic, Calibration], ColumnCalibration | None]:
    """Return the calibration of each statistic, and that of single columns if the version has one.

    Raises:
        InvalidVersion: the file is not as the manifest says.
    """
    if spec is None:
        return {}, None
    wanted: dict[str, Any] = {str(name): ((how.n,), np.float64) for name, how in spec.statistics.items()}
    if spec.columns:
        wanted["columns"] = ((sum(spec.columns),), np.float64)
    stored = read_arrays(folder / spec.file, wanted)
    columns = None
    if spec.columns:
        columns = ColumnCalibration(np.split(stored["columns"], np.cumsum(spec.columns)[:-1]))
    return {name: Calibration(stored[name]) for name in spec.statistics}, columns


def _batchers(
    engine: Engine,
    manifest: Manifest,
    prior: Prior,
    settings: Settings,
    lanes: Lanes,
    metrics: Metrics | None,
) -> dict[str, Batcher]:
    """Make a batcher for every graph, and for the stages around two of them; the warm-up sets the limits."""
    takes_labels = manifest.conditional

    def samples(words: Arrays) -> Arrays:
        noise, labels = (words[:-1], words[-1:]) if takes_labels else (words, ())
        return engine.run("decode", (prior.latents_from(noise), *labels))

    batchers = {}
    provider, seconds_per_row = engine.provider, engine.warm_up()
    graph_of = {SAMPLE_STAGE: "decode", BOUNDS_STAGE: "score"}
    for stage, compute in {**_computed(engine, manifest), SAMPLE_STAGE: samples}.items():
        seconds = seconds_per_row[graph_of.get(stage, stage)]
        limits = _limits(seconds, provider, settings)
        name = f"{manifest.name}/{manifest.version} {stage}"
        batchers[stage] = Batcher(
            compute,
            limits,
            lanes=settings.granted_lanes if provider == "cpu" else 1,
            cores=settings.own_cores if provider == "cpu" else 1,
            threads=lanes.named(name),
            observer=None if metrics is None else metrics.stage_observer(manifest.name, stage, provider),
            name=name,
        )
        log.debug("%s: %.0f us a row, up to %d inline", stage, seconds * 1e6, limits.inline_cost)
    return batchers


def _computed(engine: Engine, manifest: Manifest) -> dict[str, Compute]:
    """Return the computation of every graph, and of the bounds that follow from `score`."""

    def bounds(inputs_and_eps: Arrays) -> Arrays:
        terms = engine.run("score", inputs_and_eps)
        return bounds_from_terms(*terms, analytic_kl=manifest.analytic_kl)

    stages: dict[str, Compute] = {graph: partial(engine.run, graph) for graph in manifest.graphs}
    return stages | {BOUNDS_STAGE: bounds} if "score" in manifest.graphs else stages


def _limits(seconds_per_row: float, provider: Provider, settings: Settings) -> BatchLimits:
    most = settings.max_batch_rows
    if provider != "cpu":  # its calls take turns, so the event loop would wait for another one
        return BatchLimits(most, settings.max_waiting_rows, most, most, inline_cost=0)
    inline = int(INLINE_SECONDS / seconds_per_row)
    quick = max(_FEWEST_ROWS, int(QUICK_SECONDS / seconds_per_row))
    short = most
    if settings.own_cores == 1:
        short = inline = max(_FEWEST_ROWS_OF_ONE_CORE, int(INLINE_SECONDS_OF_ONE_CORE / seconds_per_row))
    return BatchLimits(most, settings.max_waiting_rows, short, quick, inline)
