"""Filtered sampling: samples chosen among proposals by the discriminator's logits.

Output i of a seed owns the proposals i * K .. i * K + K - 1 of the stream PROPOSAL and the uniforms with
the same indices of the stream ACCEPTANCE. It is chosen by these alone, so it does not depend on how many are
drawn together, nor on the first index. Shapes: B outputs, K proposals each (the budget), D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.numerics import noise
from service.numerics.classes import one_hot
from service.numerics.noise import Doubles, Floats, Integers, Stream
from service.numerics.prior import PROPOSALS, Prior
from service.numerics.rejection import (
    RealLogits,
    effective_sample_sizes,
    metropolis,
    rejection,
    resampling,
)
from service.observe.timing import Timing
from service.runtime.direct import Computation

Method = Literal["rejection", "resample", "metropolis"]

PROPOSALS_AT_ONCE: Final = 1_024
"""Most proposals of a request that are computed at once; larger requests are cut into pieces."""


class FilteredSamples(NamedTuple):
    """B outputs, each chosen among its K proposals."""

    samples: Floats
    """(B, *item)."""
    latents: Floats
    """(B, D)."""
    accepted: NDArray[np.intp]
    """(B,) number of accepted proposals."""
    filled: NDArray[np.bool_]
    """(B,) True if any was accepted; if not, the output is the proposal with the largest logit."""
    effective_sample_sizes: Doubles
    """(B,) number of equally weighted proposals that the K are worth."""


def joined(pieces: Sequence[FilteredSamples]) -> FilteredSamples:
    """Concatenate the outputs of several pieces."""
    return FilteredSamples(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


class Filter:
    """Chooses samples among the proposals of one version."""

    def __init__(
        self,
        prior: Prior,
        real_logits: RealLogits,
        largest_logit: float,
        batcher: Computation,
        max_waiting_rows: int,
    ) -> None:
        """Take logits of real items, the largest of generated ones, and the batcher of proposals."""
        self._prior = prior
        self._real_logits = real_logits
        self._largest_logit = largest_logit
        self._batcher = batcher
        self._most_rows = min(PROPOSALS_AT_ONCE, max_waiting_rows)

    async def sample(
        self,
        seed: int,
        start: int,
        count: int,
        method: Method,
        budget: int,
        timing: Timing,
        *,
        labels: Integers | None = None,
        admitted: bool = False,
    ) -> FilteredSamples:
        """Choose outputs start .. start + count - 1 of a seed, each among its `budget` proposals.

        `labels` (B,) are their classes, and so those of their proposals, for a version that takes labels.
        `admitted` is True for outputs of an answer that has begun, which a full queue must not cut short.
        """
        step, pieces = max(1, self._most_rows // budget), []
        for first in range(start, start + count, step):
            part = range(first, min(first + step, start + count))
            of_part = None if labels is None else labels[first - start : part.stop - start]
            has_begun = admitted or first > start
            pieces.append(await self._piece(seed, part, method, budget, timing, of_part, admitted=has_begun))
        return pieces[0] if len(pieces) == 1 else joined(pieces)

    async def _piece(
        self,
        seed: int,
        outputs: range,
        method: Method,
        budget: int,
        timing: Timing,
        labels: Integers | None,
        *,
        admitted: bool,
    ) -> FilteredSamples:
        start, count = outputs.start, len(outputs)
        first, rows = start * budget, count * budget
        latents = self._prior.latents(seed, first, rows, 1.0, PROPOSALS)
        inputs = [latents]
        if labels is not None:
            inputs.append(one_hot(np.repeat(labels, budget), rows, self._real_logits.classes))
        samples, flat_logits = await self._batcher.submit(tuple(inputs), timing, admitted=admitted)
        logits = flat_logits.reshape(count, budget)
        uniforms = noise.uniforms(seed, Stream.ACCEPTANCE, first, rows, 1).reshape(count, budget)
        if method == "rejection":
            selection = rejection(logits, uniforms, self._largest_logit)
        elif method == "resample":
            selection = resampling(logits, uniforms)
        else:
            places = noise.uniforms(seed, Stream.CHAIN_START, start, count, 1)[:, 0]
            selection = metropolis(logits, uniforms, self._real_logits.at(places, labels))
        rows_chosen = np.arange(count) * budget + selection.chosen
        return FilteredSamples(
            samples[rows_chosen],
            latents[rows_chosen],
            selection.accepted,
            selection.filled,
            effective_sample_sizes(logits),
        )
