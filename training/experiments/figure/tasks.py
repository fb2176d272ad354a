"""The tasks of the methods that play the game of the training loop itself. Shapes: B rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from training.data import Dataset, Scaling
from training.loop.gan import GanTask
from training.loop.noise import Noise
from training.loop.task import Phase
from training.losses.terms import Terms
from training.models.gan import Discriminator, make_gan
from training.models.networks import initialise_orthogonally, make_encoder
from training.recipe import Recipe

CRITIC_STEPS = 5
"""Discriminator steps before each generator step. Source: Gulrajani et al. 2017, algorithm 1."""


def recipe_task(recipe: Recipe, dataset: Dataset) -> GanTask:
    """Make the untrained GAN of a recipe, to train as the recipe says."""
    assert recipe.gan is not None
    return GanTask(make_gan(recipe, dataset), recipe.gan, recipe.loop.steps)


def packed_task(recipe: Recipe, dataset: Dataset) -> GanTask:
    """Make a GAN whose discriminator judges `gan.packing` points together.

    Source: Lin et al. 2018, arXiv:1712.04086, section 3.
    """
    assert recipe.gan is not None
    assert dataset.scaling is not None
    packing, (coordinates,) = recipe.gan.packing, dataset.item_shape
    single = recipe.model_copy(update={"gan": recipe.gan.model_copy(update={"packing": 1})})
    gan = make_gan(single, dataset)
    scaling = Scaling(np.tile(dataset.scaling.shift, packing), np.tile(dataset.scaling.scale, packing))
    network = make_encoder(recipe.network, (packing * coordinates,), outputs=1)
    gan.discriminator = Discriminator(network, scaling)
    initialise_orthogonally(gan.discriminator)
    return GanTask(gan, recipe.gan, recipe.loop.steps)


def critic_task(recipe: Recipe, dataset: Dataset) -> GanTask:
    """Make a GAN with several discriminator steps in each step, each on its share of the batch at random."""
    assert recipe.gan is not None
    return _CriticTask(make_gan(recipe, dataset), recipe.gan, recipe.loop.steps)


class _CriticTask(GanTask):
    def phases(self) -> list[Phase]:
        discriminator, generator = (_on_a_share(phase) for phase in super().phases())
        return [*[discriminator] * CRITIC_STEPS, generator]


def _on_a_share(phase: Phase) -> Phase:
    def objective(items: Tensor, noise: Noise, step: int) -> Terms:
        rows = noise.permutation(len(items))[: len(items) // CRITIC_STEPS]
        return phase.objective(items[rows], noise, step)

    return replace(phase, objective=objective)
