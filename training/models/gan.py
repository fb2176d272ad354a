"""The generative adversarial network: a generator, a discriminator and, if trained, an encoder.

With classes, generator and discriminator take the class y of a row as well, and D(x) below is D(x, y).
D(x) = sigmoid(logit(x)) is the discriminator's probability that x is real. Shapes: B rows, D latent
dimensions, F features; items (B, *item); logits (B,). Source: Goodfellow et al. 2014, arXiv:1406.2661.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.format.manifest import Support
from service.format.statistics import Distance
from training.data import Dataset, Scaling
from training.models.conditions import classes_of_condition
from training.models.likelihoods import SupportError, item_sum
from training.models.networks import (
    Projection,
    Standardise,
    Unstandardise,
    WithClass,
    beside,
    initialise_orthogonally,
    make_decoder,
    make_encoder,
)
from training.models.priors import MixturePrior
from training.recipe import Recipe

STATISTICS: tuple[Distance, ...] = ("residual", "feature_distance", "f_anogan")
"""The anomaly statistics of a GAN with an encoder."""


class Discriminator(nn.Module):
    """A network that maps items to one logit, and gives access to its last hidden layer."""

    def __init__(self, network: nn.Module, scaling: Scaling | None) -> None:
        """Take a network with `features`, and the scaling of items in their own units."""
        super().__init__()
        self.standardise = nn.Identity() if scaling is None else Standardise(scaling)
        self.network = network

    def features(self, items: Tensor) -> Tensor:
        """Return the last hidden layer: (B, *item) -> (B, F)."""
        features: Tensor = self.network.features(self.standardise(items))  # type: ignore[operator]
        return features

    def forward(self, items: Tensor, *labels: Tensor) -> Tensor:
        """(B, *item), and with classes labels (B, C) -> (B,)."""
        logits: Tensor = self.network(self.standardise(items), *labels)
        return logits.squeeze(1)


class Distances(NamedTuple):
    """Distances of items from their reconstructions G(E(x)), each (B,): mean squares."""

    residual: Tensor
    """|x - G(E(x))|^2, in the units that the networks see."""
    feature_distance: Tensor
    """|f(x) - f(G(E(x)))|^2, where f is the discriminator's last hidden layer."""


class Generator(nn.Module):
    """A network that maps latents to items, and the prior of latents unless it is N(0, I)."""

    def __init__(
        self, network: nn.Module, scaling: Scaling | None, prior: MixturePrior | None = None
    ) -> None:
        """Take a network to unbounded values, and the scaling of items in their own units."""
        super().__init__()
        self.network = network
        self.finish = nn.Sigmoid() if scaling is None else Unstandardise(scaling)
        self.prior = prior

    def forward(self, latents: Tensor, *labels: Tensor) -> Tensor:
        """(B, D), and with classes labels (B, C) -> (B, *item)."""
        items: Tensor = self.finish(self.network(latents, *labels))
        return items


class Gan(nn.Module):
    """A generator of items, a discriminator of items, and perhaps an encoder of items."""

    labels: Tensor | None
    """The classes (B, C), one-hot, of the B rows that `given` made this model for."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        latent: int,
        support: Support,
        feature_weight: float = 1.0,
        classes: int = 0,
    ) -> None:
        """Join a generator of D latents and a discriminator of items with that support.

        `feature_weight` is the weight of the features in the anomaly score. With C = `classes`, both take
        labels (B, C) as a second input.
        """
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.latent = latent
        self.feature_weight = feature_weight
        self.encoder: nn.Module | None = None
        """Maps items as the discriminator sees them, and with classes labels, to D latents; None until it has
        been trained."""
        self.support = support
        self.classes = classes
        self.labels = None

    def given(self, labels: Tensor) -> Gan:
        """Return the model of rows of those classes, (B, C) one-hot; it shares all weights.

        It takes B rows, or several times as many, whose classes begin again after each B.
        """
        model = copy.copy(self)
        model.labels = labels
        return model

    def draw(self, rows: int, random: torch.Generator) -> Tensor:
        """Draw latents (B, D) from the prior."""
        normals = torch.randn(rows, self.latent, generator=random)
        prior = self.generator.prior
        if prior is None:
            return normals
        return prior.latents(normals, prior.choose(torch.rand(rows, generator=random)))

    def decode(self, latents: Tensor) -> Tensor:
        """Return items (B, *item) for latents (B, D)."""
        items: Tensor = self.generator(latents, *self._labels(latents.shape[0]))
        return items

    def discriminate(self, items: Tensor) -> Tensor:
        """Return logits (B,): positive means more likely real than generated."""
        logits: Tensor = self.discriminator(items, *self._labels(items.shape[0]))
        return logits

    def _labels(self, rows: int) -> tuple[Tensor, ...]:
        """Return the classes of so many rows, or nothing without any."""
        if self.labels is None:
            return ()
        # no `len`, which an exporter takes for a constant
        return (self.labels.expand(rows // self.labels.shape[0], -1, -1).flatten(0, 1),)

    def encode(self, items: Tensor) -> Tensor:
        """Return latents (B, D) from which the generator makes the nearest items."""
        assert self.encoder is not None, "only a GAN with an encoder encodes"
        seen = self.discriminator.standardise(items)
        latents: Tensor = self.encoder(seen, *self._labels(items.shape[0]))
        return latents

    def distances(self, items: Tensor) -> Distances:
        """Return distances of items (B, *item) from G(E(x)). Source: Schlegl et al. 2019, f-AnoGAN, eq. 5."""
        nearest = self.decode(self.encode(items))
        standardise, features = self.discriminator.standardise, self.discriminator.features
        return Distances(
            residual=_mean_square(standardise(items) - standardise(nearest)),
            feature_distance=_mean_square(features(items) - features(nearest)),
        )

    def residual_map(self, items: Tensor) -> Tensor:
        """Return the squared difference of each value of items (B, *item) from G(E(x)), shaped like them."""
        return (items - self.decode(self.encode(items))).square()

    def statistics(self, items: Tensor) -> Tensor:
        """Return the columns of `STATISTICS` for items (B, *item): (B, 3)."""
        residual, feature_distance = self.distances(items)
        anomaly = residual + self.feature_weight * feature_distance
        return torch.stack([residual, feature_distance, anomaly], dim=1)


def _mean_square(values: Tensor) -> Tensor:
    rows = values.flatten(1)
    return item_sum(rows.square()) / rows.shape[1]


def make_gan(recipe: Recipe, dataset: Dataset) -> Gan:
    """Make the untrained GAN of a recipe with a [gan] table, without an encoder.

    Raises:
        NetworkError: The networks do not fit the items.
        RecipeError: There are no classes to be a condition.
        SupportError: The data is a table with categorical columns.
    """
    assert recipe.gan is not None
    categorical = [column.name for column in dataset.columns if column.categories]
    if categorical:
        raise SupportError(
            f"a [gan] came with the categorical column {categorical[0]!r}, which no generator's numbers can "
            "be; drop such columns, or give the table a [vae], likelihood 'gaussian'"
        )
    if dataset.scaling is not None and dataset.scaling.takes_missing:
        raise SupportError(
            f"a [gan] came with {dataset.name!r}, which lacks values, and no discriminator judges such rows; "
            "fill them in, or give the table a [vae], likelihood 'gaussian'"
        )
    options, latent = recipe.gan, recipe.network.latent
    if dataset.scaling is not None and options.packing > 1:
        raise SupportError("gan.packing is for pictures; with numbers set it to 1")
    first, *rest = dataset.item_shape
    together, prior = (first * options.packing, *rest), None
    if options.prior == "mixture":
        prior = MixturePrior(
            options.prior_components, latent, options.prior_deviation, options.prior_learning_rate_ratio
        )
    classes = classes_of_condition(recipe, dataset)
    decoder = make_decoder(recipe.network, dataset.item_shape, classes)
    judge = make_encoder(recipe.network, together, outputs=1)
    gan = Gan(
        generator=Generator(decoder, dataset.scaling, prior),
        discriminator=Discriminator(Projection(judge, classes) if classes else judge, dataset.scaling),
        latent=latent,
        support="unit_interval" if dataset.scaling is None else "real",
        feature_weight=1.0 if recipe.encoder is None else recipe.encoder.feature_weight,
        classes=classes,
    )
    if recipe.network.kind == "dense":
        initialise_orthogonally(gan)
    return gan


def make_gan_encoder(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """Make the untrained encoder of a recipe's GAN: the mirror image of the generator."""
    classes = classes_of_condition(recipe, dataset)
    values, *sides = dataset.item_shape
    seen = (values + beside(classes, tuple(sides)), *sides)
    encoder = make_encoder(recipe.network, seen, outputs=recipe.network.latent)
    return WithClass(encoder, classes, tuple(sides)) if classes else encoder
