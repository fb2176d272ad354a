"""Trains a GAN: the game of discriminator and generator, then an encoder for the trained generator."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from service.format.manifest import Support
from service.format.specs import DiscriminatorSpec
from training.loop.noise import Noise
from training.loop.task import Phase, Rate
from training.losses.gan import LOSSES, gradient_penalty, packed, slope_penalty, value_function
from training.losses.terms import Terms
from training.metrics.monitor import SampleMonitor
from training.models.gan import Gan
from training.models.likelihoods import SupportError
from training.options import EncoderOptions, GanOptions


class GanTask:
    """Trains discriminator and generator in turn, by the recipe's objective."""

    criterion: str | None = None

    def __init__(
        self, model: Gan, options: GanOptions, steps: int, monitor: SampleMonitor | None = None
    ) -> None:
        """Train `model` for `steps` steps in all; `monitor` measures generated items at each validation."""
        self.model = model
        self.classes = model.classes
        self._options = options
        self._losses = LOSSES[options.objective]
        self._steps = steps
        self._monitor = monitor
        spec = DiscriminatorSpec(objective=options.objective, packing=options.packing)
        self.has_calibrated_logits = spec.flaw is None

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
        """Return the discriminator's update, then the generator's."""
        options, model = self._options, self.model
        rate = Rate(options.discriminator_learning_rate_ratio, options.discriminator_learning_rate_growth)
        prior = model.generator.prior
        apart = () if prior is None else ((prior, Rate(growth=options.prior_learning_rate_growth)),)
        return [
            Phase(
                "discriminator",
                model.discriminator,
                self._discriminator_terms,
                rate,
                given=lambda labels: self.given(labels)._discriminator_terms,
            ),
            Phase(
                "generator",
                model.generator,
                self._generator_terms,
                apart=apart,
                given=lambda labels: self.given(labels)._generator_terms,
            ),
        ]

    def check(self, items: Tensor) -> None:
        """Refuse items outside [0, 1], or numbers that are not finite, by a SupportError."""
        if self.model.support == "real" and not bool(items.isfinite().all()):
            raise SupportError("a GAN learns finite numbers; some are infinite or missing, so leave them out")
        if self.model.support != "real" and not bool(((items >= 0) & (items <= 1)).all()):
            raise SupportError(
                "a GAN learns pictures with values in [0, 1]; some lie outside, so scale the data"
            )

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        """Return both terms of V(G, D) on held-out and generated items, and the monitor's figures.

        `distance_ratio` is the mean distance between generated items over that between held-out ones.
        """
        generated = self.sample(noise, len(items))
        real, fake = value_function(self._judged(items), self._judged(generated))
        bound = math.log(2) + (real + fake) / 2
        found = {} if self._monitor is None else self._monitor(generated)
        ratio = _mean_distance(generated) / _mean_distance(items).clamp_min(torch.finfo(torch.float32).tiny)
        return {
            "log_d_real": real,
            "log_one_minus_d_fake": fake,
            "jsd_bound": bound,
            "distance_ratio": ratio,
            **found,
        }

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """Generate items (rows, *item)."""
        latents, _ = _latents(self.model, noise, rows)
        return self.model.decode(latents)

    def _judged(self, items: Tensor) -> Tensor:
        """Return the logits of items (B, *item), packed as the discriminator takes them: (B // m,)."""
        return self.model.discriminate(packed(items, self._options.packing))

    def _discriminator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:
        options = self._options
        with torch.no_grad():
            generated = self.sample(noise, len(items))
        real, fake = packed(items, options.packing), packed(generated, options.packing)
        weights = self._penalty_weights(step)
        real_logits, fake_logits, penalties = self._judged_both(real, fake, weights)
        loss = self._losses.discriminator(real_logits, fake_logits)
        report = {"discriminator_loss": loss, "real_logit": real_logits, "fake_logit": fake_logits}
        for name, weight in weights.items():
            if weight:
                loss = loss + weight * penalties[name]
                report[name] = penalties[name]
        if options.objective == "wasserstein" and options.slope_weight:
            slopes = slope_penalty(self.model.discriminate, real, fake, noise.uniform(len(real)))
            loss = loss + options.slope_weight * slopes
            report["slope_penalty"] = slopes
        return Terms(loss, report)

    def _judged_both(
        self, real: Tensor, fake: Tensor, weights: Mapping[str, float]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the logits of real and of generated items, packed, and the penalties that have a weight."""
        discriminate, r1, r2 = self.model.discriminate, weights["r1_penalty"], weights["r2_penalty"]
        penalties = {}
        if bool(r1) == bool(r2):
            both = torch.cat([real, fake]).requires_grad_(bool(r1))
            logits = discriminate(both)
            if r1:
                of_real, of_fake = torch.tensor_split(gradient_penalty(both, logits), 2)
                penalties = {"r1_penalty": of_real, "r2_penalty": of_fake}
            return logits[: len(real)], logits[len(real) :], penalties
        # apart, since a penalty takes several times as long as the logits
        real_logits = discriminate(real.requires_grad_(bool(r1)))
        fake_logits = discriminate(fake.requires_grad_(bool(r2)))
        if r1:
            penalties["r1_penalty"] = gradient_penalty(real, real_logits)
        else:
            penalties["r2_penalty"] = gradient_penalty(fake, fake_logits)
        return real_logits, fake_logits, penalties

    def _penalty_weights(self, step: int) -> dict[str, float]:
        """Return the weights of R1 and R2 at that step; 0 at steps that skip them."""
        options = self._options
        if step % options.penalty_every:
            return {"r1_penalty": 0.0, "r2_penalty": 0.0}
        fallen = min(1.0, step / self._steps / (1 - options.penalty_settled))
        now = options.penalty_every * math.pow(options.penalty_final_ratio, fallen)
        return {"r1_penalty": now * options.r1_weight, "r2_penalty": now * options.r2_weight}

    def _generator_terms(self, items: Tensor, noise: Noise, step: int) -> Terms:
        prior, options = self.model.generator.prior, self._options
        latents, components = _latents(self.model, noise, len(items))
        fake_logits = self._judged(self.model.decode(latents))
        real_logits = fake_logits
        if self._losses.generator_sees_real:
            with torch.no_grad():
                real_logits = self._judged(items)
        loss = self._losses.generator(real_logits, fake_logits)
        report = {"generator_loss": loss}
        if prior is not None and components is not None:
            loss = loss + prior.surrogate(loss.detach() - math.log(2), components)
            if options.prior_evenness:
                loss = loss + options.prior_evenness * (1 - step / self._steps) * prior.weight_kl()
        return Terms(loss, report)


def _mean_distance(items: Tensor) -> Tensor:
    """Return the mean Euclidean distance of successive items (B, *item), a scalar; 0 for a single one."""
    distances: Tensor = torch.linalg.vector_norm((items[1:] - items[:-1]).flatten(1), dim=1)
    return distances.sum() / max(1, len(distances))


def _latents(gan: Gan, noise: Noise, rows: int) -> tuple[Tensor, Tensor | None]:
    """Draw latents (rows, D) from the prior, and the component (rows,) of each if it is a mixture."""
    normals, prior = noise.normal(rows, gan.latent), gan.generator.prior
    if prior is None:
        return normals, None
    components = prior.choose(noise.uniform(rows))
    return prior.latents(normals, components), components


class EncoderTask:
    """Trains an encoder E for a generator and a discriminator that do not change.

    It minimises |x - G(E(x))|^2 / n + kappa |f(x) - f(G(E(x)))|^2 / n_f per item of the data and, if the
    recipe says so, |z - E(G(z))|^2 / D for latents from the prior. Source: Schlegl et al. 2019, "f-AnoGAN",
    Medical Image Analysis 54, section 3.2.3, izi_f and ziz.
    """

    criterion: str | None = None
    has_calibrated_logits = False

    def __init__(self, gan: Gan, options: EncoderOptions) -> None:
        assert gan.encoder is not None
        self.model: nn.Module = gan.encoder
        self.classes = gan.classes
        self._gan = gan
        self._options = options

    def given(self, labels: Tensor) -> Self:
        """Return the task of rows of those classes, (B, C) one-hot."""
        task = copy.copy(self)
        task._gan = self._gan.given(labels)
        return task

    @property
    def support(self) -> Support:
        """The values that items may have."""
        return self._gan.support

    def phases(self) -> list[Phase]:
        """Return one update of the encoder."""
        return [Phase("encoder", self.model, self._terms, given=lambda labels: self.given(labels)._terms)]

    def check(self, items: Tensor) -> None:
        """Accept all items: the GAN has been trained on them."""

    def validate(self, items: Tensor, noise: Noise) -> Mapping[str, Tensor]:  # noqa: ARG002 - one signature
        """Return both distances on held-out items."""
        return self._gan.distances(items)._asdict()

    def sample(self, noise: Noise, rows: int) -> Tensor:
        """Generate items, encode them and generate them again."""
        latents, _ = _latents(self._gan, noise, rows)
        return self._gan.decode(self._gan.encode(self._gan.decode(latents)))

    def _terms(self, items: Tensor, noise: Noise, step: int) -> Terms:  # noqa: ARG002 - one signature
        distances = self._gan.distances(items)
        loss = distances.residual + self._options.feature_weight * distances.feature_distance
        report = distances._asdict()
        if self._options.latent_weight:
            latents, _ = _latents(self._gan, noise, len(items))
            with torch.no_grad():
                generated = self._gan.decode(latents)
            missed = (self._gan.encode(generated) - latents).square().mean(1)
            loss = loss + self._options.latent_weight * missed
            report["latent_distance"] = missed
        return Terms(loss, report)
