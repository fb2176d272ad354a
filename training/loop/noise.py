"""The random numbers of training, by seed, stream and step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from training.loop.distributed import ALONE, ProcessGroup


class Noise:
    """The random numbers of one training step, a function of (seed, stream, step) alone.

    No state is carried from step to step, so a resumed run draws what an uninterrupted one would have drawn.
    The first axis of every draw is rows; with several processes each gets the rows of its share of the batch,
    which together are those of a single process.
    """

    TRAINING, VALIDATION, WEIGHTS, ORDER, AUGMENTATION = range(5)

    def __init__(self, seed: int, stream: int, step: int, group: ProcessGroup = ALONE) -> None:
        self._group = group
        (state,) = np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal float32 of that shape; each call continues the stream."""
        return self._group.share(torch.randn(self._of_all(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform float32 in [0, 1) of that shape."""
        return self._group.share(torch.rand(self._of_all(shape), generator=self._generator))

    def words(self, count: int) -> list[int]:
        """Draw whole numbers in 0 .. 2^31 - 1."""
        return [int(word) for word in torch.randint(2**31, (count,), generator=self._generator)]

    def permutation(self, length: int) -> Tensor:
        """Draw a random order of the numbers 0 .. length - 1, int64."""
        return torch.randperm(length, generator=self._generator)

    @contextmanager
    def seeding_torch(self) -> Iterator[None]:
        """Seed torch's global generator, which the initialisation of layers reads, in a `with` block."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._generator.initial_seed())
            yield

    def _of_all(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._group.size, *shape[1:])
