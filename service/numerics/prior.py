"""Priors, which latents are drawn from: a standard normal, or a mixture of diagonal Gaussians.

Sample i of seed s owns item i of the streams of s (`service.numerics.noise`), so its latent does not depend
on how many are drawn together, nor on the first index. Shapes: D latent dimensions, M components.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.specs import MixturePriorSpec
from service.format.versions import read_arrays
from service.numerics.noise import (
    Arrays,
    Floats,
    Integers,
    Stream,
    contiguous_words,
    normals_from,
    scattered_words,
    uniforms_from,
)

WEIGHTS_TOLERANCE = 1e-6
"""Largest difference from 1 of the sum of a mixture's weights, which are then scaled to a sum of 1."""


class Streams(NamedTuple):
    """The streams that latents are drawn from: the noise, and the components of a mixture."""

    latent: Stream
    component: Stream


SAMPLES: Final = Streams(Stream.LATENT, Stream.COMPONENT)
"""Streams of plain samples."""
PROPOSALS: Final = Streams(Stream.PROPOSAL, Stream.PROPOSAL_COMPONENT)
"""Streams of proposals, among which filtered sampling chooses."""


class Prior(ABC):
    """A distribution of latents."""

    _noise_sizes: tuple[int, ...]
    """The count of numbers that a latent takes from each of its streams."""

    def latents(
        self, seed: int, start: int, count: int, temperature: float, streams: Streams = SAMPLES
    ) -> Floats:
        """Return the latents of samples start .. start + count - 1 of a seed, (count, D) float32.

        `temperature` scales the standard deviations; means and chosen components stay.
        """
        return self.latents_from(self.words(seed, start, count, streams), temperature)

    def words(self, seed: int, start: int, count: int, streams: Streams = SAMPLES) -> Arrays:
        """Return the noise of those latents, arrays of `count` rows."""
        sizes = zip(streams, self._noise_sizes, strict=False)
        return tuple([contiguous_words(seed, stream, start, count, size) for stream, size in sizes])

    def words_at(self, seeds: Integers, indices: Integers) -> Arrays:
        """Return the noise of samples indices[n] of seeds[n], in any order."""
        sizes = zip(SAMPLES, self._noise_sizes, strict=False)
        return tuple([scattered_words(seeds, stream, indices, size) for stream, size in sizes])

    @abstractmethod
    def latents_from(self, words: Arrays, temperature: float = 1.0) -> Floats:
        """Return the latents of rows of `words`; each depends on its own row alone."""


class StandardNormalPrior(Prior):
    """N(0, I) in D dimensions."""

    def __init__(self, latent_size: int) -> None:
        self._size = latent_size
        self._noise_sizes = (latent_size,)

    def latents_from(self, words: Arrays, temperature: float = 1.0) -> Floats:
        """Return the latents of rows of `words`; each depends on its own row alone."""
        drawn = normals_from(words[0], self._size)
        return drawn if temperature == 1.0 else drawn * np.float32(temperature)


class GaussianMixturePrior(Prior):
    """A mixture of M diagonal Gaussians in D dimensions.

    One uniform of the stream COMPONENT chooses the component of a sample, and its noise is that of the stream
    LATENT: latent = mean + temperature * standard deviation * noise, elementwise in float32. Proposals have
    their own pair of streams.
    """

    def __init__(self, weights: NDArray[np.float64], means: Floats, log_variances: Floats) -> None:
        """Take weights (M,), means (M, D) and log-variances (M, D).

        Raises:
            ValueError: they do not describe a mixture; says why.
        """
        count, size = means.shape
        if weights.shape != (count,) or log_variances.shape != (count, size):
            raise ValueError(
                f"weights {list(weights.shape)}, means {list(means.shape)} and log_variances "
                f"{list(log_variances.shape)} do not fit; wanted [M], [M, D] and [M, D]"
            )
        for name, values in (("weights", weights), ("means", means), ("log_variances", log_variances)):
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds values that are not finite")
        if (weights < 0).any() or abs(weights.sum() - 1.0) > WEIGHTS_TOLERANCE:
            raise ValueError(
                f"the weights are from {weights.min():g} and add up to {weights.sum():.9g}; "
                f"wanted none below 0, and a sum within {WEIGHTS_TOLERANCE:g} of 1"
            )
        with np.errstate(over="ignore", under="ignore"):
            deviations = np.exp(log_variances.astype(np.float64) / 2).astype(np.float32)
        if not (np.isfinite(deviations) & (deviations > 0)).all():
            raise ValueError(
                f"log_variances are from {log_variances.min():g} to {log_variances.max():g}; "
                "wanted ones whose standard deviations float32 can hold"
            )
        cumulative = np.cumsum(weights, dtype=np.float64)
        self._cumulative = cumulative / cumulative[-1]  # the last is 1 exactly, above every uniform
        self._means = means.astype(np.float32)
        self._deviations = deviations
        self._noise_sizes = (means.shape[1], 1)

    def latents_from(self, words: Arrays, temperature: float = 1.0) -> Floats:
        """Return the latents of rows of `words`; each depends on its own row alone."""
        chosen = self.components_from(words)
        drawn = normals_from(words[0], self._means.shape[1])
        drawn *= self._deviations.take(chosen, axis=0)
        if temperature != 1.0:
            drawn *= np.float32(temperature)
        drawn += self._means.take(chosen, axis=0)
        return drawn

    def components_from(self, words: Arrays) -> NDArray[np.intp]:
        """Return the components that rows of `words` choose, each in 0 .. M - 1."""
        chosen = uniforms_from(words[1], 1)[:, 0].astype(np.float64)
        # "right": a component of weight 0 is never chosen
        return np.searchsorted(self._cumulative, chosen, side="right")


def read_prior(folder: Path, manifest: Manifest) -> Prior:
    """Read the prior of a version, whose files are already verified.

    Raises:
        InvalidVersion: the file is not the mixture that the manifest describes; says what is wrong.
    """
    spec = manifest.prior
    if not isinstance(spec, MixturePriorSpec):
        return StandardNormalPrior(manifest.latent_size)
    path, matrix = folder / spec.file, ((spec.components, manifest.latent_size), np.float32)
    weights = ((spec.components,), np.float64)
    stored = read_arrays(path, {"weights": weights, "means": matrix, "log_variances": matrix})
    try:
        return GaussianMixturePrior(**stored)
    except ValueError as error:
        raise InvalidVersion(f"{path}: {error}; publish the version again") from error
