"""One model version, loaded: what it offers, each of its graphs behind a batcher of its own.

Shapes: B rows, K draws, D latent; items as the manifest says.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from service import noise
from service.batching import Batcher, Limits
from service.calibration import Bounds, Calibration, Doubles, bounds_from_terms, surprise
from service.contract import Manifest, Statistic, is_picture, read_manifest, verify_files
from service.engine import Arrays, Engine, Provider
from service.errors import InvalidVersion, LimitExceeded, OperationNotOffered
from service.metrics import Metrics
from service.prior import Prior, read_prior
from service.settings import Settings
from service.turns import Timing

Floats = NDArray[np.float32]
Output = Literal["mean", "draw"]

INLINE_SECONDS: Final = 0.001
"""Batches expected to take less than this run in the event loop, which saves a thread hop."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of B rows, in nats per item; the last three only where the request was calibrated."""

    bounds: Bounds
    surprise: Doubles
    bits_per_dimension: Doubles | None
    p_value: Doubles | None
    anomaly: NDArray[np.bool_] | None
    threshold: float | None


class Served:
    """A loaded version. Make one with `load`, then `start` it in the event loop."""

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        prior: Prior,
        calibrations: dict[Statistic, Calibration],
        batchers: dict[str, Batcher],
        max_batch_cost: int,
    ) -> None:
        self.manifest = manifest
        self.provider: Provider = engine.provider
        self.prior = prior
        self._calibrations = calibrations
        self._batchers = batchers
        self._max_batch_cost = max_batch_cost
        self.operations = manifest.operations
        self._eps = lru_cache(maxsize=8)(self._scoring_noise)

    @property
    def healthy(self) -> bool:
        """False once a batcher keeps dying."""
        return all(batcher.healthy for batcher in self._batchers.values())

    def start(self) -> None:
        """Starts the batchers."""
        for batcher in self._batchers.values():
            batcher.start()

    async def stop(self) -> None:
        """Stops the batchers; waiting calls fail with `Draining`."""
        for batcher in self._batchers.values():
            await batcher.stop()

    @property
    def makes_pictures(self) -> bool:
        """Whether its items can be shown: grey or RGB images."""
        return is_picture(self.manifest.item_shape)

    def require(self, operation: str) -> None:
        """Raises OperationNotOffered, naming what is offered, unless the version offers the operation."""
        if operation not in self.operations:
            raise OperationNotOffered(
                f"{self.manifest.name} is a {self.manifest.family} that does not offer {operation}; "
                f"it offers {', '.join(self.operations)}",
                offered=self.operations,
            )

    async def sample(
        self,
        latents: Floats,
        seed: int,
        start: int,
        output: Output,
        timing: Timing,
        *,
        admitted: bool = False,
    ) -> Floats:
        """Samples of the given latents, which are items start .. of the seed: (B, *item) float32.

        `admitted` samples belong to an answer that has begun, which a full queue must not cut short.
        """
        if output == "mean":
            return await self.decode(latents, timing, admitted=admitted)
        if "draw" not in self.manifest.graphs:
            raise OperationNotOffered(
                f"{self.manifest.name} has no likelihood to draw from; ask for the output `mean`",
                offered=self.operations,
            )
        shape = self.manifest.item_shape
        uniforms = noise.uniforms(
            seed, noise.Stream.OBSERVATION, start, len(latents), math.prod(shape)
        ).reshape(-1, *shape)
        (samples,) = await self._batchers["draw"].submit((latents, uniforms), timing, admitted=admitted)
        return samples

    async def decode(self, latents: Floats, timing: Timing, *, admitted: bool = False) -> Floats:
        """The items (B, *item) at the latents (B, D): the likelihood's mean, or the generator's output."""
        (samples,) = await self._batchers["decode"].submit((latents,), timing, admitted=admitted)
        return samples

    async def encode(self, inputs: Floats, timing: Timing) -> tuple[Floats, Floats]:
        """Mean and log-variance (B, D) of the posterior of each item."""
        mean, log_variance = await self._batchers["encode"].submit((inputs,), timing)
        return mean, log_variance

    async def score(
        self, inputs: Floats, statistic: Statistic, draws: int, seed: int, alpha: float, timing: Timing
    ) -> Scores:
        """Bounds on log p(x) of each item with `draws` draws, the same for every row.

        Raises:
            LimitExceeded: alpha is below what the calibration can resolve.
        """
        calibration = self._calibrated(statistic, draws, seed)
        threshold = None
        if calibration is not None:
            if alpha < calibration.smallest_alpha:
                raise LimitExceeded(
                    f"alpha is {alpha:g}; the smallest this model is calibrated for is "
                    f"{calibration.smallest_alpha:.6g}"
                )
            threshold = calibration.threshold(alpha)
        terms = await self._terms(inputs, draws, seed, timing)
        bounds = bounds_from_terms(*terms, analytic_kl=self.manifest.prior == "standard_normal")
        surprises = surprise(bounds, statistic)
        p_value = None if calibration is None else calibration.p_values(surprises)
        return Scores(
            bounds,
            surprises,
            self._bits_per_dimension(bounds.elbo),
            p_value,
            None if threshold is None else surprises > threshold,
            threshold,
        )

    async def _terms(self, inputs: Floats, draws: int, seed: int, timing: Timing) -> Arrays:
        """The score graph's terms: three of (B, K) and the KL (B,), averaged over all draws.

        Draws are cut into pieces by their number alone, so an item's score does not depend on its
        batch-mates; the pieces of one request run one after the other, to leave room for others.
        """
        eps = self._eps(seed, draws)
        pieces = []
        for first in range(0, draws, self._max_batch_cost):
            piece = eps[first : first + self._max_batch_cost]
            shared = np.broadcast_to(piece, (len(inputs), *piece.shape))
            pieces.append(
                await self._batchers["score"].submit((inputs, shared), timing, cost_per_row=len(piece))
            )
        if len(pieces) == 1:
            return pieces[0]
        log_likelihood, log_prior, log_posterior = (
            np.concatenate([piece[term] for piece in pieces], axis=1) for term in range(3)
        )
        sizes = [piece[0].shape[1] for piece in pieces]
        kl = np.average([piece[3] for piece in pieces], axis=0, weights=sizes)
        return log_likelihood, log_prior, log_posterior, kl

    def _scoring_noise(self, seed: int, draws: int) -> Floats:
        return noise.scoring_noise(seed, draws, self.manifest.latent_size)

    def _calibrated(self, statistic: Statistic, draws: int, seed: int) -> Calibration | None:
        spec = self.manifest.calibration
        how = spec.statistics.get(statistic) if spec is not None else None
        if how is None or (how.draws, how.seed) != (draws, seed):
            return None
        return self._calibrations[statistic]

    def _bits_per_dimension(self, elbo: Doubles) -> Doubles | None:
        if not self.manifest.discrete:
            return None
        return -elbo / (math.prod(self.manifest.item_shape) * math.log(2.0))


def load(folder: Path, provider: Provider, settings: Settings, metrics: Metrics, threads: Executor) -> Served:
    """Verifies, loads, warms and self-tests a version. Blocks; the batchers are not started.

    Raises:
        InvalidVersion: the version is damaged, or does not compute what it says.
        ProviderUnavailable: a graph does not run on the provider.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    if manifest.defaults is not None and manifest.defaults.draws > settings.max_draws:
        raise InvalidVersion(
            f"its default of {manifest.defaults.draws} draws is over the limit of {settings.max_draws}"
        )
    calibrations: dict[Statistic, Calibration] = {}
    if manifest.calibration is not None:
        with np.load(folder / manifest.calibration.file, allow_pickle=False) as stored:
            calibrations = {name: Calibration(stored[name]) for name in manifest.calibration.statistics}
    prior = read_prior(folder, manifest)
    engine = Engine(folder, manifest, provider, settings.max_batch_rows)
    engine.self_test(folder)
    batchers = {}
    for graph, seconds_per_row in engine.warm_up().items():
        limits = Limits(
            settings.max_batch_rows, settings.max_waiting_rows, int(INLINE_SECONDS / seconds_per_row)
        )
        batchers[graph] = Batcher(
            partial(engine.run, graph),
            limits,
            lanes=settings.granted_lanes if provider == "cpu" else 1,
            threads=threads,
            watcher=metrics.watch(manifest.name, graph, provider, limits.max_waiting_rows),
            name=f"{manifest.name}/{manifest.version} {graph}",
        )
        log.debug("%s: %.0f us a row, up to %d inline", graph, seconds_per_row * 1e6, limits.inline_cost)
    return Served(manifest, engine, prior, calibrations, batchers, settings.max_batch_rows)
