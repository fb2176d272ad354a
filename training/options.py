"""The tables of a recipe, each with what its values mean; the data's table lies beside the data."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.format.manifest import Objective, Statistic

Width = Annotated[int, Field(ge=1, le=65_536)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Frequency = Annotated[float, Field(gt=0)]


class Options(BaseModel):
    """A table of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NetworkOptions(Options):
    """The shape of both networks; the decoder mirrors the encoder."""

    kind: Literal["convolutional", "dense"]
    latent: int = Field(ge=1, le=1024)
    """D, the number of latent dimensions."""
    channels: tuple[Width, ...] = ()
    """Convolutional networks: output channels of each stride-2 layer, from the image inwards."""
    hidden: tuple[Width, ...] = (128,)
    """Widths of the dense layers, from the item's side inwards."""
    gated: bool = False
    """Whether the dense layers are gated, a * sigmoid(b), instead of leaky rectifiers. Source: Dauphin et
    al. 2017, arXiv:1612.08083."""
    fourier_features: int = Field(default=0, ge=0, le=64)
    """Dense encoders and discriminators: at how many frequencies they see the sine and cosine of every value
    too, without which a network is slow to learn what changes within a short distance."""
    fourier_frequencies: tuple[Frequency, Frequency] = (0.5, 100.0)
    """The lowest and the highest of those, radians per unit; the others lie evenly between on a log-scale."""

    @model_validator(mode="after")
    def _channels_belong_to_convolutions(self) -> NetworkOptions:
        if (self.kind == "convolutional") != bool(self.channels):
            raise ValueError(
                f"network.kind {self.kind!r} came with channels {list(self.channels)}; "
                "give channels to a convolutional network, and to no other"
            )
        return self


class VaeOptions(Options):
    """The variational autoencoder's likelihood and objective."""

    likelihood: Literal["bernoulli", "continuous-bernoulli", "discretised-logistic", "gaussian"]
    """Of binary pixels; of pixels in [0, 1]; of pixels with 256 levels; of tables."""
    logit_bound: float = Field(default=50.0, gt=0)
    """Continuous Bernoulli: logits are squashed smoothly into (-bound, bound). Its density at a pixel of
    exactly 0 or 1 is about |logit|: without a bound it grows for ever, though pixels have but 256 levels."""
    prior: Literal["standard-normal", "mixture", "vamp"] = "standard-normal"
    """`mixture`: of Gaussians that are learned as they are; `vamp`: of the posteriors of learned
    pseudo-inputs, which each step has to encode. Source: Tomczak & Welling 2018, arXiv:1705.07120, where the
    former is the MoG prior."""
    prior_components: int = Field(default=500, ge=2, le=4096)
    """How many Gaussians, or pseudo-inputs, the prior has; the latter begin as training items."""
    draws: int = Field(default=1, ge=1)
    """Monte Carlo draws per item of the ELBO in training."""
    kl_weight: float = Field(default=1.0, gt=0)
    """beta, the weight of the KL term in the training objective; 1 is the ELBO. Above 1 the posteriors
    overlap more, so latents from the prior decode to likelier items, at the price of a lower ELBO. Every
    published figure is the plain ELBO. Source: Higgins et al. 2017, "beta-VAE", section 2."""
    kl_warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the weight of the KL term grows linearly from 0 to `kl_weight`."""
    free_bits: float = Field(default=0.0, ge=0)
    """Nats of KL that each latent dimension has for nothing, per item: below, it is not pressed further.
    Source: Kingma et al. 2016, arXiv:1606.04934, appendix C.8."""
    importance_from: float = Field(default=1.0, ge=0, le=1)
    """From this share of the steps on, the importance-weighted bound is trained instead of the ELBO; 1 is
    never. Source: Burda et al. 2016, arXiv:1509.00519."""
    importance_draws: int = Field(default=5, ge=2)
    """K of the importance-weighted bound in training."""
    importance_gradient: Literal["doubly-reparametrised", "plain"] = "doubly-reparametrised"
    """How the encoder learns from that bound; `plain` has a signal-to-noise ratio that falls with K.
    Source: Tucker et al. 2019, arXiv:1810.04152."""

    @model_validator(mode="after")
    def _free_bits_need_an_analytic_kl(self) -> VaeOptions:
        if self.free_bits and self.prior != "standard-normal":
            raise ValueError(
                f"vae.free_bits {self.free_bits:g} came with prior {self.prior!r}, under which the KL has no "
                "part for each dimension; set free_bits to 0 or use the prior 'standard-normal'"
            )
        return self


class GanOptions(Options):
    """The generative adversarial network's game and what steadies it."""

    objective: Objective = "non-saturating"
    """What discriminator and generator minimise: see `training/losses/gan.py`."""
    r1_weight: float = Field(default=1.0, ge=0)
    """gamma of the R1 penalty gamma / 2 |grad_x logit|^2 on real items."""
    r2_weight: float = Field(default=0.0, ge=0)
    """gamma of the same penalty on generated items, R2."""
    penalty_every: int = Field(default=1, ge=1)
    """The penalties are applied, times this number, at every so-manieth step."""
    penalty_final_ratio: float = Field(default=1.0, gt=0, le=1)
    """The weights of the penalties fall geometrically to this share of what they begin with: strong ones
    spread the generator evenly over the data, weak ones let the discriminator see details."""
    penalty_settled: float = Field(default=0.0, ge=0, lt=1)
    """The share of the steps, at the end, with the weights of the penalties where they fall to."""
    slope_weight: float = Field(default=10.0, ge=0)
    """`wasserstein`: weight of the penalty on slopes other than 1, WGAN-GP. No other objective has it."""
    packing: int = Field(default=1, ge=1)
    """How many items the discriminator judges together."""
    prior: Literal["standard-normal", "mixture"] = "standard-normal"
    """`mixture`: of narrow Gaussians, whose means and weights are learned: for data in separate clusters,
    between which a generator of N(0, I) leaves bridges."""
    prior_components: int = Field(default=256, ge=2, le=4096)
    """How many Gaussians the mixture has."""
    prior_deviation: float = Field(default=0.1, gt=0)
    """Their standard deviation; their means begin as drawn from N(0, I)."""
    prior_learning_rate_ratio: float = Field(default=2.0, gt=0)
    """The learning rate of the logarithms of their weights over that of their means, which at first is the
    generator's."""
    prior_learning_rate_growth: float = Field(default=1.0, gt=0)
    """By what factor the learning rate of both over the generator's grows to the last step, geometrically:
    weights that have to be put right late need not be as slow as the generator then is."""
    prior_evenness: float = Field(default=0.0, ge=0)
    """What KL(even weights || weights) weighs at the first step, falling linearly to 0 at the last. It keeps
    every Gaussian in play: one without any weight cannot move to a cluster that none has found."""
    discriminator_learning_rate_ratio: float = Field(default=1.0, gt=0)
    """The discriminator's learning rate over the generator's, at the first step."""
    discriminator_learning_rate_growth: float = Field(default=1.0, gt=0)
    """By what factor that ratio grows to the last step, geometrically. A discriminator that stays fast while
    the generator slows down knows where it is, and the two stop circling each other: two time scales, Heusel
    et al. 2017, arXiv:1706.08500."""

    @model_validator(mode="after")
    def _one_item_one_component(self) -> GanOptions:
        if self.prior == "mixture" and self.packing > 1:
            raise ValueError(
                f"gan.packing {self.packing} came with the prior 'mixture', whose weights are learned from "
                "judgements of single items; set one of the two back"
            )
        return self


class LoopOptions(Options):
    """How long and how fast to train; all counts in optimiser steps unless said otherwise."""

    steps: int = Field(ge=1)
    batch_rows: int = Field(default=128, ge=1)
    """Items of one step, over all processes; at most the training split."""
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["cosine", "geometric"] = "cosine"
    """How the learning rate falls; geometrically, by the same factor at every step."""
    final_learning_rate_ratio: float = Field(default=0.01, ge=0, le=1)
    """The schedule ends at this share of the learning rate."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up before that."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's two decay rates."""
    gradient_clip: float = Field(default=1e6, gt=0)
    """Largest gradient norm of one phase; longer gradients are scaled down to it."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay per step of the averaged weights; these are evaluated and exported."""
    log_every: int = Field(default=100, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    """Steps between validations, each with a grid of samples."""
    validation_rows: int = Field(default=1000, ge=1)
    """Items of the validation split looked at each time."""
    checkpoint_every: int = Field(default=1000, ge=1)

    threads: int = Field(default=1, ge=1)
    """CPU threads of each process; results are repeatable bit for bit for equal numbers of threads."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` is CUDA where there is one. Under `torchrun` each process has a device."""

    @model_validator(mode="after")
    def _geometric_never_ends_at_nothing(self) -> LoopOptions:
        if self.schedule == "geometric" and not self.final_learning_rate_ratio:
            raise ValueError("final_learning_rate_ratio is 0, which no geometric schedule reaches; raise it")
        return self

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, then by the schedule down to the final ratio."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        floor = self.final_learning_rate_ratio
        if self.schedule == "geometric":
            return self.learning_rate * math.pow(floor, share)
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


class EncoderOptions(Options):
    """An encoder for a GAN, trained after it: the least distance between x and G(E(x)).

    Source: Schlegl et al. 2019, "f-AnoGAN", Medical Image Analysis 54, section 3.2.3, izi_f.
    """

    feature_weight: float = Field(default=1.0, ge=0)
    """kappa, the weight of the distance between the discriminator's features of x and of G(E(x))."""
    latent_weight: float = Field(default=0.0, ge=0)
    """The weight of the distance between z and E(G(z)) for z from the prior, which holds E near it."""
    loop: LoopOptions


class EvaluationOptions(Options):
    """How the published figures are measured on the test split."""

    draws: int = Field(default=64, ge=1)
    """K of the importance-weighted bound (and draws of the ELBO)."""
    rows: int = Field(default=10_000, ge=2)
    """At most so many test items."""
    likelihood_draws: int = Field(default=0, ge=0)
    """K of the importance-sampled log-likelihood; 0 leaves it out. Thousands take minutes."""
    likelihood_rows: int = Field(default=10_000, ge=2)
    """At most so many test items for that, and no more than `rows`."""

    @model_validator(mode="after")
    def _one_draw_is_no_estimate(self) -> EvaluationOptions:
        if self.likelihood_draws == 1:
            raise ValueError("likelihood_draws is 1, which has no error; give 0 for none, or some hundreds")
        return self

    seed: int = Field(default=0, ge=0, lt=2**53)


class CalibrationOptions(Options):
    """How scores are calibrated; these become the version's defaults."""

    statistic: Statistic | Literal["auto"] | None = None
    """What scores are by unless a request says; unless told, `elbo` for a VAE and `f_anogan` for a GAN.
    `auto`: what best tells planted outliers from the validation split; see `training/anomaly/choose.py`."""
    draws: int = Field(default=16, ge=2)
    """Of a VAE's bounds; no other score has noise."""
    seed: int = Field(default=0, ge=0, lt=2**53)
    """Names those draws."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Share of normal items that may be flagged as anomalies."""
