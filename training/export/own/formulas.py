"""The formulas of VAEs and GANs over their networks: every output of every graph.

Shapes: B rows, K draws, D latent dimensions, n values of an item, C classes; items (B, *item). Of a model
with a class condition, every operation takes `labels` (B, C), the class of each row, one-hot, as its last
input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from training.anomaly.path import Whitening
from training.export.own.algebra import Algebra, Tensor
from training.export.own.halves import axis_of_forms, axis_of_latents, divided
from training.export.own.likelihoods import (
    FURTHEST,
    LOG_FURTHEST,
    LikelihoodFormulas,
    LocationScaleFormulas,
    Parameters,
)
from training.export.own.networks import OwnNetwork, Units
from training.export.own.priors import MixtureOfGaussians, normal_log_prob, prior_kl, prior_log_prob

_FURTHEST_GAP = 1e16
"""The most by which a value differs from its reconstruction: float32 can add a million squares."""
EncoderGives = Literal["log_variance", "variance", "scale", "log_scale", "distribution"]
"""The meaning of an encoder's second output; from a torch distribution mean and scale are taken."""


@dataclass(frozen=True)
class OwnVae:
    """A VAE made of two networks, a likelihood and a prior."""

    encoder: OwnNetwork
    decoder: OwnNetwork
    units: Units
    likelihood: LikelihoodFormulas
    latent: int
    encoder_gives: EncoderGives
    prior: MixtureOfGaussians | None = None
    classes: int = 0
    """C, if both networks take rows with the class after the values; else 0."""
    whitening: Whitening | None = None
    """The fit of the statistic `path`; None if there were no items to fit it on."""

    @property
    def statistics(self) -> tuple[Literal["corrected", "path"], ...]:
        """Return the noise-free statistics that it has."""
        corrected: tuple[Literal["corrected"], ...] = ("corrected",) if self.has_best else ()
        return corrected if self.whitening is None else (*corrected, "path")

    @property
    def has_best(self) -> bool:
        """Return True if a perfect reconstruction has a likelihood."""
        return self.has_constant_scale or not isinstance(self.likelihood, LocationScaleFormulas)

    @property
    def has_constant_scale(self) -> bool:
        """Return True if the likelihood has one scale for all latents."""
        return isinstance(self.likelihood, LocationScaleFormulas) and self.likelihood.outputs == 1

    def posterior(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log-variance, each (B, D), within what float32 can square."""
        seen = _beside(f, self.units.to_network(f, items), self.units.size, labels)
        D, outputs = self.latent, self.encoder.apply(f, seen)
        if len(outputs) == 1:
            row = self.encoder.output_shapes[0]
            outputs = divided(f, row, axis_of_latents(row, self.units.channels) or 0, outputs[0])
        mean, second = outputs
        logs = second if self.encoder_gives in ("log_variance", "log_scale") else f.log(second, D)
        log_variance = logs if self.encoder_gives in ("log_variance", "variance") else 2.0 * logs
        return (
            f.clip(mean, -FURTHEST, FURTHEST),
            f.clip(log_variance, -2 * LOG_FURTHEST, 2 * LOG_FURTHEST),
        )

    def parameters(self, f: Algebra, latents: Tensor, *labels: Tensor) -> Parameters:
        """Return the likelihood's parameters for latents (B, D), each (B, n)."""
        outputs = self.decoder.apply(f, _beside(f, latents, self.latent, labels))
        if len(outputs) < self.likelihood.outputs:
            row = self.decoder.output_shapes[0]
            outputs = divided(f, row, axis_of_forms(row, self.units.forms) or 0, outputs[0])
        return self.likelihood.parameters(f, [self.units.in_order(f, each) for each in outputs])

    def decode(self, f: Algebra, latents: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return the likelihood's mean, (B, *item)."""
        return (self._shaped(f, self.likelihood.mean(f, self.parameters(f, latents, *labels))),)

    def draw(self, f: Algebra, latents: Tensor, uniforms: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return items (B, *item) drawn from the likelihood."""
        parameters = self.parameters(f, latents, *labels)
        drawn = self.likelihood.draw(f, parameters, f.reshape(uniforms, (-1, self.units.size)))
        return (self._shaped(f, drawn),)

    def score(self, f: Algebra, items: Tensor, eps: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return log-likelihood, log-prior and log-posterior, each (B, K), and the KL, (B,)."""
        D, n = self.latent, self.units.size
        mean, log_variance = self.posterior(f, items, *labels)
        latents = f.insert_axis(mean, 1) + f.insert_axis(f.exp(0.5 * log_variance), 1) * eps
        # the sum gives labels the draws' axis
        of_draws = [f.insert_axis(each, 1) + 0.0 * f.part(eps, 0, 1) for each in labels]
        of_draws = [f.reshape(each, (-1, self.classes)) for each in of_draws]
        flat = self.parameters(f, f.reshape(latents, (-1, D)), *of_draws)
        # a constant scale has one parameter for all rows
        parameters = (f.per_draw(flat[0], eps, n), *self._rest_per_draw(f, flat, eps))
        values = f.insert_axis(f.reshape(items, (-1, n)), 1)
        log_likelihood = f.sum(self.likelihood.log_prob(f, parameters, values), n)
        log_prior = prior_log_prob(f, latents, D, self.prior)
        half_log_determinant = f.insert_axis(0.5 * f.sum(log_variance, D), 1)
        log_posterior = normal_log_prob(f, eps, D) - half_log_determinant
        if self.prior is None:
            kl = prior_kl(f, mean, log_variance, D, None)
        else:
            kl = f.mean_of_draws(log_posterior - log_prior)
        return log_likelihood, log_prior, log_posterior, kl

    def _rest_per_draw(self, f: Algebra, flat: Parameters, eps: Tensor) -> list[Tensor]:
        if self.has_constant_scale:
            return list(flat[1:])
        return [f.per_draw(each, eps, self.units.size) for each in flat[1:]]

    def _forward(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean and log-variance, each (B, D), the residual and the surprise of values, each (B, n)."""
        mean, log_variance = self.posterior(f, items, *labels)
        parameters, values = self.parameters(f, mean, *labels), f.reshape(items, (-1, self.units.size))
        surprise = -self.likelihood.log_prob(f, parameters, values)
        best = self.likelihood.best(f, values)
        surprise = surprise if best is None else best + surprise
        return mean, log_variance, self.likelihood.residual(f, parameters, values), surprise

    def surprise_map(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return the surprise of each value at the posterior mean, in nats, (B, *item)."""
        return (self._shaped(f, self._forward(f, items, *labels)[3]),)

    def features(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the statistic `path`, (B, 5)."""
        return (f.singled(self._features(f, items, *labels)[0]),)

    def _features(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features, and the noise-free surprise in nats plus the KL, (B, 1), both in float64.

        The distance `path` magnifies the last digits of features that hardly vary, or follow from the others.
        """
        n, D = self.units.size, self.latent
        mean, log_variance, residual, surprise = map(f.doubled, self._forward(f, items, *labels))
        kl = f.insert_axis(prior_kl(f, mean, log_variance, D, self.prior), 1)
        total = f.insert_axis(f.sum(surprise, n), 1)
        norms = ((residual, n), (mean, D), (f.exp(0.5 * log_variance), D))
        lengths = [f.insert_axis(f.sqrt(f.sum(each * each, width)), 1) for each, width in norms]
        return f.concat([*lengths, total, kl]), total + kl

    def noise_free(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return the columns of `statistics`, (B, S)."""
        features, corrected = self._features(f, items, *labels)
        columns = [corrected] if "corrected" in self.statistics else []
        if self.whitening is not None:
            centre, matrix = self.whitening
            whitened = f.matmul(features - f.constant(centre), f.constant(matrix.T))
            columns.append(f.insert_axis(f.sqrt(f.sum(whitened * whitened, len(centre))), 1))
        return (f.singled(columns[0] if len(columns) == 1 else f.concat(columns)),)

    def _shaped(self, f: Algebra, values: Tensor) -> Tensor:
        return f.reshape(values, (-1, *self.units.item_shape))


@dataclass(frozen=True)
class OwnGan:
    """A GAN made of a generator, and perhaps a discriminator and an encoder."""

    generator: OwnNetwork
    units: Units
    latent: int
    discriminator: OwnNetwork | None = None
    encoder: OwnNetwork | None = None
    classes: int = 0
    """C, if the networks take rows with the class after the values; else 0."""
    calibration: tuple[float, float] = (1.0, 0.0)
    """Slope and intercept that make its logits log density ratios."""

    def decode(self, f: Algebra, latents: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return items (B, *item)."""
        given = self.generator.apply(f, _beside(f, latents, self.latent, labels))
        generated = self.units.from_network(f, given[0])
        return (f.reshape(generated, (-1, *self.units.item_shape)),)

    def encode(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return latents (B, D)."""
        assert self.encoder is not None
        return (self.encoder.apply(f, self._seen(f, items, labels))[0],)

    def discriminate(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return calibrated logits (B,)."""
        assert self.discriminator is not None
        outputs = self.discriminator.apply(f, self._seen(f, items, labels))[0]
        assert self.discriminator.export is not None
        if self.discriminator.probabilities and not self.discriminator.export.logits:
            probabilities = f.clip(outputs, 1e-7, 1 - 1e-7)
            outputs = f.log(probabilities, 1) - f.log(1.0 - probabilities, 1)
        slope, intercept = self.calibration
        return (f.reshape(slope * outputs + intercept, (-1,)),)

    def generate_scored(self, f: Algebra, latents: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return items (B, *item) and their calibrated logits (B,)."""
        (items,) = self.decode(f, latents, *labels)
        return items, *self.discriminate(f, items, *labels)

    def noise_free(self, f: Algebra, items: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return the column `residual`, (B, 1): the mean square of items minus their reconstructions."""
        (latents,) = self.encode(f, items, *labels)
        n = self.units.size
        gap = f.reshape(items - self.decode(f, latents, *labels)[0], (-1, n))
        gap = f.clip(gap, -_FURTHEST_GAP, _FURTHEST_GAP)
        return (f.insert_axis(f.sum(gap * gap, n), 1) / float(n),)

    def _seen(self, f: Algebra, items: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """Return items (B, *item) as the discriminator and the encoder take them."""
        return _beside(f, self.units.to_network(f, items), self.units.size, labels)


def _beside(f: Algebra, values: Tensor, width: int, labels: Sequence[Tensor]) -> Tensor:
    """Return a network's input: values (B, ...) of that width, followed by the labels if there are any."""
    return f.concat([f.reshape(values, (-1, width)), *labels]) if labels else values


Formula = Callable[..., tuple[Tensor, ...]]
"""Takes an algebra and a graph's inputs; returns its outputs."""
