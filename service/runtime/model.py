"""A loaded version: its operations, and a batcher for each of its graphs.

Shapes: B rows, D latent dimensions; items as the manifest says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal, Self

from service.errors import OperationNotOffered, Unfit
from service.format.manifest import Manifest, is_picture
from service.numerics import noise
from service.numerics.classes import one_hot
from service.numerics.noise import Arrays, Floats, Integers, Stream
from service.numerics.prior import Prior
from service.observe.timing import Timing
from service.runtime.direct import Computation
from service.runtime.filtered_sampling import Filter
from service.runtime.observed import ObservedForm
from service.runtime.scorer import Scorer
from service.runtime.session import Provider

Output = Literal["mean", "draw"]
SAMPLE_STAGE: Final = "sample"
"""The stage from noise to samples, beside those of the graphs."""


class LoadedModel:
    """A loaded version. Make one with `service.runtime.loader.load`, then `start` it in the event loop.

    Use it inside a block `with loaded:`; it is stopped only after the last block has ended.
    """

    def __init__(
        self,
        manifest: Manifest,
        provider: Provider,
        prior: Prior,
        batchers: Mapping[str, Computation],
        scorer: Scorer,
        sample_filter: Filter | None,
    ) -> None:
        self.manifest = manifest
        self.provider = provider
        self.prior = prior
        self.scorer = scorer
        self._batchers = batchers
        self._filter = sample_filter
        self._observed = ObservedForm(manifest.columns)
        self.item_size = math.prod(manifest.item_shape)
        """Number of values of an item."""
        self.item_bytes = 4 * self.item_size
        """Bytes of an item of float32."""
        self.operations = manifest.operations
        self.headers = [
            (b"x-pushforward-model", manifest.name.encode()),
            (b"x-pushforward-version", b"%d" % manifest.version),
        ]
        """The headers that name the version in an answer."""
        self._users = 0
        self._unused = asyncio.Event()

    def __enter__(self) -> Self:
        """Keep the version until the block ends, even if another one replaces it."""
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def drained(self) -> None:
        """Wait until no block uses the version; no new block may begin meanwhile."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    @property
    def healthy(self) -> bool:
        """Return False once a batcher keeps failing or dying."""
        return all(batcher.healthy for batcher in self._batchers.values())

    def start(self) -> None:
        """Start the batchers."""
        for batcher in self._batchers.values():
            batcher.start()

    async def stop(self) -> None:
        """Stop the batchers; waiting calls fail with `Draining`."""
        for batcher in self._batchers.values():
            await batcher.stop()

    @property
    def makes_pictures(self) -> bool:
        """Return True if its items can be shown: as grey or RGB images, or as a density of points."""
        return is_picture(self.manifest.item_shape) or self.makes_densities

    @property
    def makes_densities(self) -> bool:
        """Return True if its items are points of two numbers, which a density shows."""
        manifest = self.manifest
        categorical = any(column.categories for column in manifest.columns)
        return manifest.item_shape == (2,) and manifest.support == "real" and not categorical

    @property
    def generates_rows(self) -> bool:
        """Return True if its samples are rows of a table, and no likelihood's mean to draw these from."""
        return self.manifest.family == "gan" and bool(self.manifest.columns)

    def filter(self, method: str) -> Filter:
        """Return the filter that chooses samples by the discriminator.

        Raises:
            OperationNotOffered: the discriminator has no logits to choose by; says why.
        """
        flaw = self.manifest.discriminator.flaw if self.manifest.discriminator is not None else None
        if flaw is None and self._filter is not None:
            return self._filter
        raise OperationNotOffered(
            f"{self.manifest.name} does not offer the method {method}: "
            f"{flaw or 'it has no graph that scores its samples'}; it offers the method direct",
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
        labels: int | Integers | None = None,
        admitted: bool = False,
    ) -> Floats:
        """Draw samples start .. start + count - 1 of a seed: (B, *item) float32.

        `labels` are their classes, as for `one_hot`. `admitted` is True for samples of an answer that has
        begun, which a full queue must not cut short.
        """
        words = self.prior.words(seed, start, count)
        draw = partial(noise.contiguous_words, seed, Stream.OBSERVATION, start, count, self.item_size)
        return await self._sample(words, draw, temperature, output, timing, labels, admitted=admitted)

    async def sample_at(
        self,
        seeds: Integers,
        indices: Integers,
        temperature: float,
        output: Output,
        timing: Timing,
        *,
        labels: int | Integers | None = None,
    ) -> Floats:
        """Draw samples indices[n] of seeds[n], in any order, each as by `sample`: (B, *item) float32."""
        words = self.prior.words_at(seeds, indices)
        draw = partial(noise.scattered_words, seeds, Stream.OBSERVATION, indices, self.item_size)
        return await self._sample(words, draw, temperature, output, timing, labels)

    async def _sample(
        self,
        words: Arrays,
        draw: Callable[[], noise.Words],
        temperature: float,
        output: Output,
        timing: Timing,
        labels: int | Integers | None,
        *,
        admitted: bool = False,
    ) -> Floats:
        plain = output == "mean" and temperature == 1.0
        if plain and SAMPLE_STAGE in self._batchers:  # nearly always: latents are made per batch
            inputs = (*words, *self.one_hot(labels, len(words[0])))
            (samples,) = await self._batchers[SAMPLE_STAGE].submit(inputs, timing, admitted=admitted)
            return samples
        latents = self.prior.latents_from(words, temperature)
        classes = self.one_hot(labels, len(latents))
        if output == "mean" or self.generates_rows:
            samples = await self.decode(latents, timing, classes, admitted=admitted)
            return self.in_form(samples, output)
        if "draw" not in self.manifest.graphs:
            raise OperationNotOffered(
                f"{self.manifest.name} has no likelihood to draw from; ask for the output `mean`",
                offered=self.operations,
            )
        uniforms = noise.uniforms_from(draw(), self.item_size)
        inputs = latents, uniforms.reshape(-1, *self.manifest.item_shape), *classes
        (samples,) = await self._batchers["draw"].submit(inputs, timing, admitted=admitted)
        return self.in_form(samples, output)

    def in_form(self, samples: Floats, output: Output) -> Floats:
        """Return samples (B, *item) as they are or, of the output `draw`, in the form of a table's rows."""
        return self._observed.apply(samples) if output == "draw" else samples

    async def decode(
        self, latents: Floats, timing: Timing, classes: Arrays = (), *, admitted: bool = False
    ) -> Floats:
        """Return the items (B, *item) at latents (B, D): the likelihood's mean, or the generator's output.

        `classes`, here and below, are those of the rows as `one_hot` gives them.
        """
        inputs = (latents, *classes)
        (samples,) = await self._batchers["decode"].submit(inputs, timing, admitted=admitted)
        return samples

    async def encode(
        self, inputs: Floats, timing: Timing, classes: Arrays = ()
    ) -> tuple[Floats, Floats | None]:
        """Return mean and log-variance (B, D) of each item's posterior; a GAN's encoder has no variance."""
        mean, *log_variance = await self._batchers["encode"].submit((inputs, *classes), timing)
        return mean, log_variance[0] if log_variance else None

    async def surprise_map(self, inputs: Floats, timing: Timing, classes: Arrays = ()) -> Floats:
        """Return the surprise of each value of the items at the posterior mean, (B, *item).

        It is in nats for a VAE, the squared difference from the reconstruction for a GAN.

        Raises:
            Unfit: the version has no graph `map`; says what to do.
        """
        if "map" not in self.manifest.graphs:
            name = f"{self.manifest.name} {self.manifest.version}"
            way_out = "publish its run again with `pushforward train export`, or leave `map` out"
            if "encode" not in self.manifest.graphs:
                way_out = "it has no encoder, so nothing to compare an item with; leave `map` out"
            raise Unfit(f"{name} has no graph `map`, which tells how surprising each value is: {way_out}")
        (surprises,) = await self._batchers["map"].submit((inputs, *classes), timing)
        return surprises

    async def discriminate(self, inputs: Floats, timing: Timing, classes: Arrays = ()) -> Floats:
        """Return the discriminator's calibrated logit of each item, (B,)."""
        (logit,) = await self._batchers["discriminate"].submit((inputs, *classes), timing)
        return logit

    def one_hot(self, labels: int | Integers | None, rows: int) -> Arrays:
        """Return the classes of rows as graphs take them: (B, C) one-hot, or nothing without labels.

        The labels are the number of the class of all B rows, or of each, (B,).
        """
        return () if labels is None else (one_hot(labels, rows, len(self.manifest.class_names)),)
