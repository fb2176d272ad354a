"""Trains a VAE by the ELBO with a weighted KL, then, if the recipe says so, the importance-weighted bound."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

from torch import Tensor

from service.format.manifest import Support
from training.loop.noise import Noise
from training.loop.task import Phase
from training.losses.terms import Terms
from training.losses.vae import elbo_objective, importance_objective
from training.models.priors import prior_latents
from training.models.vae import Vae, elbo, importance_bound, score_terms
from training.options import VaeOptions


class VaeTask:
    """Trains a VAE to maximise a bound on log p(x)."""

    has_calibrated_logits = False

    def __init__(self, model: Vae, options: VaeOptions, steps: int) -> None:
        """Train `model` for `steps` steps in all."""
        self.model = model
        self.classes = model.classes
        self._options = options
        self._importance_from = round(options.importance_from * steps)
        self.criterion: str | None = "elbo"
        if options.importance_from < 1:
            self.criterion = "importance_bound"
        elif options.kl_weight != 1:
            self.criterion = "weighted_elbo"

    def given(self, labels: Tensor) -> Self:
        """Return the task of rows of those classes, (B, C) one-hot."""
        task = copy.copy(self)
        task.model = self.model.given(labels)
        return task

    @property
    def support(self) -> Support:
        """The values that items may have."""
        return self.model.support

    def phases(self) -> list[Phase]:
        """Return one update of encoder, decoder and prior together."""
        return [Phase("vae", self.model, self._objective, given=lambda labels: self.given(labels)._objective)]

    def check(self, items: Tensor) -> None:
        """Refuse items outside the likelihood's support, by a SupportError."""
        self.model.likelihood.check_support(items)

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """Return the ELBO and its terms, with one draw per item, and the trained bound if it is another."""
        terms = score_terms(self.model, items, noise.normal(len(items), 1, self.model.latent))
        figures = {"elbo": elbo(terms), "log_likelihood": terms.log_likelihood.mean(1), "kl": terms.kl}
        if self.criterion == "weighted_elbo":
            figures["weighted_elbo"] = figures["log_likelihood"] - self._options.kl_weight * terms.kl
        if self.criterion == "importance_bound":
            eps = noise.normal(len(items), self._options.importance_draws, self.model.latent)
            figures["importance_bound"] = importance_bound(score_terms(self.model, items, eps))
        return figures

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """Return the likelihood's mean at latents from the prior."""
        normals, uniforms = noise.normal(rows, self.model.latent), noise.uniform(rows)
        latents = prior_latents(self.model.components(), normals, uniforms)
        return self.model.likelihood.mean(self.model.decode(latents))

    def _objective(self, items: Tensor, noise: Noise, step: int) -> Terms:
        options = self._options
        if step >= self._importance_from:
            eps = noise.normal(len(items), options.importance_draws, self.model.latent)
            return importance_objective(self.model, items, eps, plain=options.importance_gradient == "plain")
        eps = noise.normal(len(items), options.draws, self.model.latent)
        warmup = options.kl_warmup_steps
        kl_weight = options.kl_weight * (min(1.0, (step + 1) / warmup) if warmup else 1.0)
        return elbo_objective(self.model, items, eps, kl_weight, options.free_bits)
