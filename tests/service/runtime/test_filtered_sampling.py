import asyncio

import numpy as np

from service.numerics.noise import Arrays
from service.numerics.prior import StandardNormalPrior
from service.observe.timing import Timing
from service.runtime.direct import Direct
from service.runtime.filtered_sampling import Filter


def test_the_item_that_a_chain_starts_at_has_no_part_in_what_it_accepts() -> None:
    """One proposal of logit 1: half of the chains start at a logit of 0, whence all go, half at one of 2."""

    def even(latents: Arrays) -> Arrays:
        return (latents[0], np.ones(len(latents[0]), np.float32))

    real = np.array([0, 2], np.float32)
    chains = Filter(StandardNormalPrior(2), real, 2.0, Direct(even, 64), 1_024)
    chosen = asyncio.run(chains.sample(0, 0, 4_000, "metropolis", 1, Timing()))
    rate = (1 + np.exp(-1)) / 2
    assert abs(chosen.filled.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 4_000)
