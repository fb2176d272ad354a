"""The variational autoencoder: model, ELBO and importance-weighted bound, all in nats per item.

Shapes: B rows, D latent dimensions, K draws; items (B, *item). Noise is always an argument.
Source: Kingma & Welling 2014, arXiv:1312.6114; Burda et al. 2016, arXiv:1509.00519.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.format.manifest import Support
from training.data import Dataset
from training.models.conditions import classes_of_condition
from training.models.likelihoods import Likelihood, item_sum, make_likelihood
from training.models.networks import Standardise, WithClass, beside, filled, make_decoder, make_encoder
from training.models.priors import (
    GaussianMixture,
    Gaussians,
    VampPrior,
    gaussian_kl,
    prior_log_prob,
    random_mixture,
)
from training.recipe import Recipe, RecipeError

LOG_VARIANCE_BOUND = 10.0
"""The bound of the encoder's log-variance, squashed smoothly: standard deviations of 0.0067 to 148."""


class Vae(nn.Module):
    """q(z | x) = N(mean, exp(log_variance)), p(z) = the prior, p(x | z) = likelihood(decoder(z)).

    With classes, both networks take the class y of a row as well. Then `given` makes the VAE of p(x | y), and
    all bounds are on log p(x | y); the prior of latents is the same for all classes. Source: Sohn et al.
    2015, "Learning structured output representation using deep conditional generative models", NeurIPS 28,
    section 4.1, with the roles of x and y exchanged and the relaxation p(z | y) = p(z).
    """

    labels: Tensor | None
    """The classes (B, C), one-hot, of the B rows that `given` made this model for."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent: int,
        prior: VampPrior | GaussianMixture | None = None,
        classes: int = 0,
    ) -> None:
        """Join an encoder to 2 D outputs, a decoder, a likelihood and a prior (None for N(0, I)).

        With C = `classes`, both networks take labels (B, C) as a second input.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent = latent
        self.prior = prior
        self.classes = classes
        self.labels = None

    def given(self, labels: Tensor) -> Vae:
        """Return the model of rows of those classes, (B, C) one-hot; it shares all weights."""
        model = copy.copy(self)
        model.labels = labels
        return model

    @property
    def support(self) -> Support:
        """The values that an item can have."""
        return self.likelihood.support

    def encode(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log-variance, each (B, D)."""
        outputs = self.encoder(items) if self.labels is None else self.encoder(items, self.labels)
        mean, raw = outputs[:, : self.latent], outputs[:, self.latent :]
        return mean, LOG_VARIANCE_BOUND * torch.tanh(raw / LOG_VARIANCE_BOUND)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the likelihood's parameters for latents (B, D); given classes, for (B K, D) too."""
        if self.labels is None:
            return self.likelihood.bounded(self.decoder(latents))
        draws = latents.shape[0] // self.labels.shape[0]  # no `len`, which an exporter takes for a constant
        labels = self.labels.unsqueeze(1).expand(-1, draws, -1).flatten(0, 1)
        return self.likelihood.bounded(self.decoder(latents, labels))

    def components(self) -> Gaussians | None:
        """Return the Gaussians of a mixture prior, or None for N(0, I)."""
        return None if self.prior is None else self.prior.gaussians(self.encode)


class ScoreTerms(NamedTuple):
    """The terms of both bounds; the `score` graph returns exactly these."""

    log_likelihood: Tensor
    """(B, K) nats: log p(x | z_k)."""
    log_prior: Tensor
    """(B, K) nats: log p(z_k)."""
    log_posterior: Tensor
    """(B, K) nats: log q(z_k | x)."""
    kl: Tensor
    """(B,) nats: KL(q(z | x) || p(z)), analytic for N(0, I), else the mean of the K draws' log q - log p."""

    @property
    def log_weights(self) -> Tensor:
        """(B, K) nats: the logarithms of the importance weights p(x, z_k) / q(z_k | x)."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class Draws(NamedTuple):
    """K draws from the posterior of each item, with their log-likelihoods and log-priors."""

    mean: Tensor
    """(B, D), the posterior's."""
    log_variance: Tensor
    """(B, D), the posterior's."""
    latents: Tensor
    """(B, K, D)."""
    log_likelihood: Tensor
    """(B, K) nats."""
    log_prior: Tensor
    """(B, K) nats."""


def draw_posterior(vae: Vae, items: Tensor, eps: Tensor) -> Draws:
    """Draw z = mean + std * eps for items (B, *item) and standard normal eps (B, K, D)."""
    components = vae.components()
    mean, log_variance = vae.encode(items)
    latents = mean.unsqueeze(1) + torch.exp(0.5 * log_variance).unsqueeze(1) * eps
    K = eps.shape[1]
    # the decoder sees one flat batch of B K rows
    repeated = items.unsqueeze(1).expand(-1, K, *items.shape[1:]).flatten(0, 1)
    log_likelihood = vae.likelihood.log_prob(vae.decode(latents.flatten(0, 1)), repeated)
    log_prior = prior_log_prob(latents, components)
    return Draws(mean, log_variance, latents, log_likelihood.reshape(-1, K), log_prior)


def posterior_log_prob(eps: Tensor, log_variance: Tensor) -> Tensor:
    """Return log q(z_k | x) in nats, (B, K), of draws made from eps (B, K, D), with log-variances (B, D)."""
    # (z - mean) / std is eps itself; computing it again would only lose digits
    return prior_log_prob(eps, None) - 0.5 * item_sum(log_variance).unsqueeze(-1)


def score_terms(vae: Vae, items: Tensor, eps: Tensor) -> ScoreTerms:
    """Return the terms of both bounds for items (B, *item) and standard normal eps (B, K, D)."""
    draws = draw_posterior(vae, items, eps)
    log_posterior = posterior_log_prob(eps, draws.log_variance)
    if vae.prior is None:
        kl = item_sum(gaussian_kl(draws.mean, draws.log_variance))
    else:
        kl = item_sum(log_posterior - draws.log_prior) / eps.shape[1]
    return ScoreTerms(draws.log_likelihood, draws.log_prior, log_posterior, kl)


def elbo(terms: ScoreTerms) -> Tensor:
    """Return the evidence lower bound with these K draws, (B,) nats."""
    return terms.log_likelihood.mean(1) - terms.kl


def importance_bound(terms: ScoreTerms) -> Tensor:
    """Return the importance-weighted bound on log p(x) with these K draws, (B,) nats.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8.
    """
    return torch.logsumexp(terms.log_weights, dim=1) - math.log(terms.log_likelihood.shape[1])


def reconstruct(vae: Vae, items: Tensor) -> Tensor:
    """Return the likelihood's mean at the posterior mean of items (B, *item), shaped like them."""
    mean, _ = vae.encode(items)
    return vae.likelihood.mean(vae.decode(mean))


def with_fixed_prior(vae: Vae) -> Vae:
    """Return the same model, its learned prior replaced by the mixture that it defines."""
    components = vae.components()
    if components is None:
        return vae
    fixed = GaussianMixture(components).requires_grad_(False)
    return Vae(vae.encoder, vae.decoder, vae.likelihood, vae.latent, fixed, vae.classes)


def _ignore(encoder: nn.Module, inputs: slice) -> None:
    """Set the first weights of those inputs to 0: masks mean nothing until an encoder has learned them."""
    first = next(module for module in encoder.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight[:, inputs] = 0


def _make_rare(decoder: nn.Module, features: Sequence[int], rows: int) -> None:
    """Have a decoder begin with 1 / `rows` of another category's probability for those that no row is of.

    That is about Laplace's rule of succession. From an equal share, training takes them down so slowly that
    they still had 1 % to 2 % after all steps of a drafted recipe.
    """
    last = [each for each in decoder.modules() if isinstance(each, nn.Linear) and each.bias is not None][-1]
    with torch.no_grad():
        last.bias[list(features)] = -math.log(rows)


def make_vae(recipe: Recipe, dataset: Dataset) -> Vae:
    """Make the untrained VAE of a recipe with a [vae] table.

    Raises:
        NetworkError: The networks do not fit the items.
        RecipeError: The prior has more pseudo-inputs than there are training items, or there are no classes
            to be a condition.
        SupportError: The likelihood does not fit the dataset.
    """
    assert recipe.vae is not None
    likelihood = make_likelihood(recipe.vae, dataset)
    masks = 0 if dataset.scaling is None else len(dataset.scaling.masked)
    values, *sides = dataset.item_shape
    classes = classes_of_condition(recipe, dataset)
    seen = (values + masks + beside(classes, tuple(sides)), *sides)
    encoder: nn.Module = make_encoder(recipe.network, seen, 2 * recipe.network.latent)
    if masks:
        _ignore(encoder, slice(values, values + masks))
    first = None if dataset.scaling is None else Standardise(dataset.scaling)
    if classes:
        encoder = WithClass(encoder, classes, tuple(sides), first)
    elif first is not None:
        encoder = nn.Sequential(first, encoder)
    shift, scale = torch.zeros(()), torch.ones(())
    if dataset.scaling is not None:
        shift, scale = torch.from_numpy(dataset.scaling.shift), torch.from_numpy(dataset.scaling.scale)
    prior: VampPrior | GaussianMixture | None = None
    if recipe.vae.prior == "mixture":
        prior = random_mixture(recipe.vae.prior_components, recipe.network.latent)
    if recipe.vae.prior == "vamp":
        count, rows = recipe.vae.prior_components, len(dataset.items["train"])
        if count > rows:
            raise RecipeError(
                f"vae.prior_components is {count}, but its pseudo-inputs begin as training items, of which "
                f"there are {rows}; lower it, or use the prior 'mixture'"
            )
        items = filled(torch.from_numpy(dataset.items["train"][:count]), shift)
        prior = VampPrior(items, likelihood.support, shift, scale)
    outputs = (values * likelihood.parameters_per_value, *sides)
    decoder = make_decoder(recipe.network, outputs, classes)
    if dataset.scaling is not None and dataset.scaling.absent:
        _make_rare(decoder, dataset.scaling.absent, len(dataset.items["train"]))
    return Vae(encoder, decoder, likelihood, recipe.network.latent, prior, classes)
