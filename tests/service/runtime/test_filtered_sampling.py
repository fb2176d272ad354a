"""Samples chosen by the discriminator: the starts of chains, and items of classes."""

from __future__ import annotations

import asyncio
from typing import get_args

import numpy as np
import pytest

from service.numerics.noise import Arrays, Integers
from service.numerics.prior import StandardNormalPrior
from service.numerics.rejection import RealLogits
from service.observe.timing import Timing
from service.runtime.direct import Direct
from service.runtime.filtered_sampling import Filter, FilteredSamples, Method

CLASSES, LARGEST, BUDGET = 3, 2.0, 5
SHIFTS = np.array([[0, 0], [10, -20], [30, 5]], np.float32)
REAL = np.random.default_rng(0).normal(1.5, 2, 400).astype(np.float32)
REAL_LABELS = np.random.default_rng(1).choice(CLASSES, len(REAL), p=[0.7, 0.2, 0.1])


def of_class(number: int, seed: int, start: int, count: int, method: Method) -> FilteredSamples:
    """The samples of one class, by a filter that knows no others."""

    def generate_scored(inputs: Arrays) -> Arrays:
        (latents,) = inputs
        return latents + SHIFTS[number], latents.sum(axis=1)

    real = RealLogits(REAL[number == REAL_LABELS])
    chooser = Filter(StandardNormalPrior(2), real, LARGEST, Direct(generate_scored, 64), 10_000)
    return asyncio.run(chooser.sample(seed, start, count, method, BUDGET, Timing()))


def of_classes(labels: Integers, seed: int, start: int, method: Method) -> FilteredSamples:
    def generate_scored(inputs: Arrays) -> Arrays:
        latents, classes = inputs
        return latents + classes @ SHIFTS, latents.sum(axis=1)

    real = RealLogits(REAL, REAL_LABELS, CLASSES)
    chooser = Filter(StandardNormalPrior(2), real, LARGEST, Direct(generate_scored, 64), 10_000)
    count = len(labels)
    return asyncio.run(chooser.sample(seed, start, count, method, BUDGET, Timing(), labels=labels))


def test_the_item_that_a_chain_starts_at_has_no_part_in_what_it_accepts() -> None:
    """One proposal of logit 1: half of the chains start at a logit of 0, whence all go, half at one of 2."""

    def even(latents: Arrays) -> Arrays:
        return (latents[0], np.ones(len(latents[0]), np.float32))

    real = RealLogits(np.array([0, 2], np.float32))
    chains = Filter(StandardNormalPrior(2), real, 2.0, Direct(even, 64), 1_024)
    chosen = asyncio.run(chains.sample(0, 0, 4_000, "metropolis", 1, Timing()))
    rate = (1 + np.exp(-1)) / 2
    assert abs(chosen.filled.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 4_000)


@pytest.mark.parametrize("method", get_args(Method))
def test_a_sample_of_a_class_is_chosen_as_if_there_were_no_other_class(method: Method) -> None:
    labels = np.random.default_rng(2).integers(CLASSES, size=600)  # more than are computed at once
    found = of_classes(labels, seed=7, start=11, method=method)
    for number in range(CLASSES):
        chosen = labels == number
        alone = of_class(number, 7, 11, len(labels), method)
        for name in FilteredSamples._fields:
            np.testing.assert_array_equal(getattr(found, name)[chosen], getattr(alone, name)[chosen])


def test_real_items_of_each_class_and_of_no_other_are_needed() -> None:
    for labels, classes in (([0, 0, 2], 3), ([0, 1, 2], 2), ([0, 1, -1], 2)):
        with pytest.raises(ValueError, match=f"each of {classes} classes"):
            RealLogits(REAL[:3], np.array(labels), classes)
