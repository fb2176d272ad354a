"""Filtered sampling: samples chosen among proposals by the discriminator's logits.

Output i of a seed owns the proposals i * K .. i * K + K - 1 of the stream PROPOSAL and the uniforms of
the same numbers of the stream ACCEPTANCE, and decides from these alone, so it does not depend on how many
are drawn together, nor on where the drawing starts. Shapes: B outputs, K proposals each (the budget),
D latent; items as the manifest says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.numerics import noise
from service.numerics.noise import Doubles, Floats, Stream
from service.numerics.prior import PROPOSALS, Prior
from service.numerics.rejection import (
    Selection,
    effective_sample_sizes,
    metropolis,
    rejection,
    resampling,
)
from service.observe.timing import Timing
from service.runtime.batcher import Batcher

Method = Literal["rejection", "resample", "metropolis"]

PROPOSALS_AT_ONCE: Final = 1_024
"""A request's proposals are computed in pieces of about so many, one after the other."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """B outputs, and how each was chosen among its K proposals."""

    samples: Floats
    """(B, *item)."""
    latents: Floats
    """(B, D)."""
    accepted: NDArray[np.intp]
    """(B,) how many of the proposals were accepted."""
    filled: NDArray[np.bool_]
    """(B,) whether any was; where none was, the output is the proposal with the largest logit."""
    effective_sample_sizes: Doubles
    """(B,) how many equally weighted proposals the K are worth."""


class Filter:
    """Chooses samples among the proposals of one version."""

    def __init__(
        self, prior: Prior, real_logits: Floats, largest_logit: float, batcher: Batcher, max_waiting_rows: int
    ) -> None:
        """Takes the logits of real items (n,), a bound on those of generated ones, and who scores these."""
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
        admitted: bool = False,
    ) -> Filtered:
        """Outputs start .. start + count - 1 of a seed, each chosen among its `budget` proposals.

        `admitted` outputs belong to an answer that has begun, which a full queue must not cut short.
        """
        step = max(1, self._most_rows // budget)
        pieces = [
            await self._piece(
                seed,
                first,
                min(step, start + count - first),
                method,
                budget,
                timing,
                admitted=admitted or first > start,
            )
            for first in range(start, start + count, step)
        ]
        return pieces[0] if len(pieces) == 1 else joined(pieces)

    async def _piece(
        self,
        seed: int,
        start: int,
        count: int,
        method: Method,
        budget: int,
        timing: Timing,
        *,
        admitted: bool,
    ) -> Filtered:
        first, rows = start * budget, count * budget
        latents = self._prior.latents(seed, first, rows, 1.0, PROPOSALS)
        samples, flat_logits = await self._batcher.submit((latents,), timing, admitted=admitted)
        logits = flat_logits.reshape(count, budget)
        uniforms = noise.uniforms(seed, Stream.ACCEPTANCE, first, rows, 1).reshape(count, budget)
        if method == "rejection":
            selection = rejection(logits, uniforms, self._largest_logit)
        elif method == "resample":
            selection = resampling(logits, uniforms)
        else:
            selection = metropolis(logits, uniforms, self._starts(seed, start, count))
        return _taken(samples, latents, logits, selection)

    def _starts(self, seed: int, start: int, count: int) -> Floats:
        """The logit of a real item for each output, (count,), each chosen by a uniform of its own stream."""
        places = noise.uniforms(seed, Stream.CHAIN_START, start, count, 1)[:, 0].astype(np.float64)
        chosen: Floats = self._real_logits[(places * len(self._real_logits)).astype(np.intp)]
        return chosen


def _taken(samples: Floats, latents: Floats, logits: Floats, selection: Selection) -> Filtered:
    count, budget = logits.shape
    rows = np.arange(count) * budget + selection.chosen
    return Filtered(
        samples[rows], latents[rows], selection.accepted, selection.filled, effective_sample_sizes(logits)
    )


def joined(pieces: Sequence[Filtered]) -> Filtered:
    """One after the other."""
    return Filtered(
        np.concatenate([piece.samples for piece in pieces]),
        np.concatenate([piece.latents for piece in pieces]),
        np.concatenate([piece.accepted for piece in pieces]),
        np.concatenate([piece.filled for piece in pieces]),
        np.concatenate([piece.effective_sample_sizes for piece in pieces]),
    )
