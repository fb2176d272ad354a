"""One model version, loaded: what it offers, each of its graphs behind a batcher of its own.

Shapes: B rows, D latent; items as the manifest says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import OperationNotOffered, Unfit
from service.format.manifest import Manifest, is_picture
from service.numerics import noise
from service.numerics.noise import Floats
from service.numerics.prior import Prior
from service.observe.timing import Timing
from service.runtime.batcher import Batcher
from service.runtime.filtered_sampling import Filter
from service.runtime.scorer import Scorer
from service.runtime.session import Provider

Output = Literal["mean", "draw"]
SAMPLE_STAGE: Final = "sample"
"""The batcher from noise to samples, beside those of the graphs."""


class LoadedModel:
    """A loaded version. Make one with `service.runtime.loader.load`, then `start` it in the event loop.

    Whoever lets it answer does so in a block, `with served:`, so that it can be let go after the last.
    """

    def __init__(
        self,
        manifest: Manifest,
        provider: Provider,
        prior: Prior,
        batchers: Mapping[str, Batcher],
        scorer: Scorer,
        chooser: Filter | None,
    ) -> None:
        self.manifest = manifest
        self.provider = provider
        self.prior = prior
        self.scorer = scorer
        self._batchers = batchers
        self._filter = chooser
        self._item_size = math.prod(manifest.item_shape)
        self.operations = manifest.operations
        self.headers = [
            (b"x-pushforward-model", manifest.name.encode()),
            (b"x-pushforward-version", b"%d" % manifest.version),
        ]
        """What names it in an answer."""
        self._users = 0
        self._unused = asyncio.Event()

    def __enter__(self) -> Self:
        """Keeps the version as it is until the block ends, though another may have taken its place."""
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def drained(self) -> None:
        """Returns once no block uses the version; to be awaited when no new one can begin."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()

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
        """Whether its items can be shown: grey or RGB images, or points, whose density can."""
        return is_picture(self.manifest.item_shape) or self.makes_densities

    @property
    def makes_densities(self) -> bool:
        """Whether its items are shown together, by their density: two numbers each."""
        manifest = self.manifest
        categorical = any(column.categories for column in manifest.columns)
        return manifest.item_shape == (2,) and manifest.support == "real" and not categorical

    def require(self, operation: str) -> None:
        """Raises OperationNotOffered, naming what is offered, unless the version offers the operation."""
        if operation not in self.operations:
            raise OperationNotOffered(
                f"{self.manifest.name} is a {self.manifest.family} that does not offer {operation}; "
                f"it offers {', '.join(self.operations)}",
                offered=self.operations,
            )

    def filter(self, method: str) -> Filter:
        """What chooses samples by the discriminator.

        Raises:
            OperationNotOffered: the version has no discriminator whose logits could choose; says why.
        """
        discriminator = self.manifest.discriminator
        reason = "it has no graph that scores its samples" if discriminator is None else discriminator.flaw
        if reason is None and self._filter is not None:
            return self._filter
        raise OperationNotOffered(
            f"{self.manifest.name} does not offer the method {method}: "
            f"{reason or 'it has no graph that scores its samples'}; it offers the method direct",
            offered=self.operations,
        )

    async def sample(
        self,
        seed: int,
        start: int,
        count: int,
        temperature: float,
        output: Output,
        timing: Timing,
        *,
        admitted: bool = False,
    ) -> Floats:
        """Samples start .. start + count - 1 of a seed: (B, *item) float32.

        `admitted` samples belong to an answer that has begun, which a full queue must not cut short.
        """
        if output == "mean" and temperature == 1.0:  # nearly all: their latents are made a batch at a time
            words = self.prior.words(seed, start, count)
            (samples,) = await self._batchers[SAMPLE_STAGE].submit(words, timing, admitted=admitted)
            return samples
        latents = self.prior.latents(seed, start, count, temperature)
        if output == "mean":
            return await self.decode(latents, timing, admitted=admitted)
        self._require_draw()
        observation = noise.contiguous_words(seed, noise.Stream.OBSERVATION, start, count, self._item_size)
        return await self._draw(latents, observation, timing, admitted=admitted)

    async def sample_at(
        self,
        seeds: NDArray[np.int64],
        indices: NDArray[np.int64],
        temperature: float,
        output: Output,
        timing: Timing,
    ) -> Floats:
        """Samples indices[n] of seeds[n], each that of `sample`, which is for runs: (B, *item) float32."""
        words = self.prior.words_at(seeds, indices)
        if output == "mean" and temperature == 1.0:
            (samples,) = await self._batchers[SAMPLE_STAGE].submit(words, timing)
            return samples
        latents = self.prior.latents_from(words, temperature)
        if output == "mean":
            return await self.decode(latents, timing)
        self._require_draw()
        observation = noise.scattered_words(seeds, noise.Stream.OBSERVATION, indices, self._item_size)
        return await self._draw(latents, observation, timing)

    async def _draw(
        self, latents: Floats, words: noise.Words, timing: Timing, *, admitted: bool = False
    ) -> Floats:
        uniforms = noise.uniforms_from(words, self._item_size)
        inputs = (latents, uniforms.reshape(-1, *self.manifest.item_shape))
        (samples,) = await self._batchers["draw"].submit(inputs, timing, admitted=admitted)
        return samples

    def _require_draw(self) -> None:
        if "draw" not in self.manifest.graphs:
            raise OperationNotOffered(
                f"{self.manifest.name} has no likelihood to draw from; ask for the output `mean`",
                offered=self.operations,
            )

    async def decode(self, latents: Floats, timing: Timing, *, admitted: bool = False) -> Floats:
        """The items (B, *item) at the latents (B, D): the likelihood's mean, or the generator's output."""
        (samples,) = await self._batchers["decode"].submit((latents,), timing, admitted=admitted)
        return samples

    async def encode(self, inputs: Floats, timing: Timing) -> tuple[Floats, Floats | None]:
        """Mean and log-variance (B, D) of each item's posterior; a GAN's encoder has no variance."""
        mean, *log_variance = await self._batchers["encode"].submit((inputs,), timing)
        return mean, log_variance[0] if log_variance else None

    async def surprise_map(self, inputs: Floats, timing: Timing) -> Floats:
        """How surprising each value of the items (B, *item) is at the posterior mean: nats, shaped like them.

        Raises:
            Unfit: the version has no such graph; says what to do.
        """
        if "map" not in self.manifest.graphs:
            name = f"{self.manifest.name} {self.manifest.version}"
            way_out = "publish its run again with `pushforward-train export`, or leave `map` out"
            if self.manifest.family == "gan":
                way_out = "a GAN gives no likelihood; leave `map` out, and see `reconstruct`"
            raise Unfit(f"{name} has no graph `map`, which tells how surprising each value is: {way_out}")
        (surprises,) = await self._batchers["map"].submit((inputs,), timing)
        return surprises

    async def discriminate(self, inputs: Floats, timing: Timing) -> Floats:
        """The discriminator's calibrated logit of each item, (B,)."""
        (logit,) = await self._batchers["discriminate"].submit((inputs,), timing)
        return logit
