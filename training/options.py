"""The tables of a recipe and the meaning of their keys; the [data] table is in `training.data.options`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.format.specs import Objective
from service.format.statistics import Statistic

Width = Annotated[int, Field(ge=1, le=65_536)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Frequency = Annotated[float, Field(gt=0)]


class Options(BaseModel):
    """A table of a recipe: frozen; unknown keys and infinite numbers, which JSON lacks, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NetworkOptions(Options):
    """The shape of both networks; the decoder mirrors the encoder."""

    kind: Literal["convolutional", "residual", "dense"]
    """`convolutional` and `residual` for pictures, the latter with more layers at each size; `dense` for
    tables and small pictures."""
    latent: int = Field(ge=1, le=1024)
    """D, the number of latent dimensions."""
    channels: tuple[Width, ...] = ()
    """Convolutional and residual networks: the output channels of each stride-2 layer, from the image
    inwards."""
    blocks: int = Field(default=1, ge=1, le=16)
    """Residual networks: the number of residual blocks, of two layers each, at every size."""
    hidden: tuple[Width, ...] = (128,)
    """Widths of the dense layers, from the item's side inwards."""
    gated: bool = False
    """True for gated dense layers, a * sigmoid(b), instead of leaky rectifiers. Source: Dauphin et al.
    2017."""
    fourier_features: int = Field(default=0, ge=0, le=64)
    """Dense encoders and discriminators: the number of frequencies at which they also see the sine and cosine
    of every value. Without them a network is slow to learn what changes within a short distance. 0: none."""
    fourier_frequencies: tuple[Frequency, Frequency] = (0.5, 100.0)
    """The lowest and the highest of those frequencies, in radians per unit, evenly spaced on a log scale."""

    @model_validator(mode="after")
    def _channels_belong_to_convolutions(self) -> NetworkOptions:
        if (self.kind != "dense") != bool(self.channels):
            raise ValueError(
                f"network.kind {self.kind!r} came with channels {list(self.channels)}; "
                "give channels to a convolutional or residual network, and to no other"
            )
        return self


class VaeOptions(Options):
    """The variational autoencoder's likelihood, prior and objective."""

    likelihood: Literal["bernoulli", "continuous-bernoulli", "discretised-logistic", "gaussian"]
    """The likelihood: `bernoulli` for binary pixels, `continuous-bernoulli` for pixels in [0, 1],
    `discretised-logistic` for pixels with 256 levels, `gaussian` for tables."""
    logit_bound: float = Field(default=50.0, gt=0)
    """Continuous Bernoulli: logits are squashed smoothly into (-bound, bound). Without a bound the density at
    a pixel of exactly 0 or 1, about |logit|, would grow for ever."""
    prior: Literal["standard-normal", "mixture", "vamp"] = "standard-normal"
    """The prior of latents. `standard-normal`: N(0, I); `mixture`: Gaussians with learned means and
    variances; `vamp`: the posteriors of learned pseudo-inputs, which are encoded in every step. Source:
    Tomczak & Welling 2018, arXiv:1705.07120, where `mixture` is called MoG."""
    prior_components: int = Field(default=500, ge=2, le=4096)
    """Mixture and vamp: the number of Gaussians or pseudo-inputs; the latter begin as training items."""
    conditional: bool = False
    """Data with classes: true for a VAE of p(x | class), whose networks both see the class of an item. Items
    are then sampled, scored, encoded and reconstructed as those of a class. Source: Sohn et al. 2015,
    "Learning structured output representation using deep conditional generative models", NeurIPS 28."""
    draws: int = Field(default=1, ge=1)
    """Monte Carlo draws per item of the ELBO in training."""
    kl_weight: float = Field(default=1.0, gt=0)
    """beta, the weight of the KL term in the training objective; 1 is the ELBO. Above 1 the posteriors
    overlap more, so latents from the prior decode to likelier items, but the ELBO is lower. Published figures
    are always of the plain ELBO. Source: Higgins et al. 2017, "beta-VAE", section 2."""
    kl_warmup_steps: int = Field(default=0, ge=0)
    """Optimiser steps over which the weight of the KL term grows linearly from 0 to `kl_weight`; 0: none."""
    free_bits: float = Field(default=0.0, ge=0)
    """Free bits: nats of KL per latent dimension and item below which the KL is not penalised; 0: none.
    Source: Kingma et al. 2016, arXiv:1606.04934, appendix C.8."""
    importance_from: float = Field(default=1.0, ge=0, le=1)
    """The share of the steps after which the importance-weighted bound is trained instead of the ELBO; 1:
    never. Source: Burda et al. 2016, arXiv:1509.00519."""
    importance_draws: int = Field(default=5, ge=2)
    """K, the draws per item of the importance-weighted bound in training."""
    importance_gradient: Literal["doubly-reparametrised", "plain"] = "doubly-reparametrised"
    """The encoder's gradient of that bound; the signal-to-noise ratio of `plain` falls with the draws.
    Source: Tucker et al. 2019, arXiv:1810.04152."""

    @model_validator(mode="after")
    def _pseudo_inputs_have_no_class(self) -> VaeOptions:
        if self.conditional and self.prior == "vamp":
            raise ValueError(
                "vae.conditional came with the prior 'vamp', whose pseudo-inputs are of no class; use the "
                "prior 'mixture' or 'standard-normal'"
            )
        return self

    @model_validator(mode="after")
    def _free_bits_need_an_analytic_kl(self) -> VaeOptions:
        if self.free_bits and self.prior != "standard-normal":
            raise ValueError(
                f"vae.free_bits {self.free_bits:g} came with prior {self.prior!r}, under which the KL has no "
                "part for each dimension; set free_bits to 0 or use the prior 'standard-normal'"
            )
        return self


class GanOptions(Options):
    """The generative adversarial network's game, its penalties and its prior."""

    objective: Objective = "non-saturating"
    """The losses of discriminator and generator: see `training/losses/gan.py`."""
    conditional: bool = False
    """Data with classes: true for a generator that makes items of the class that it is asked for. It takes
    the class beside its latents; the discriminator projects it on its last hidden layer. Source: Miyato &
    Koyama 2018, "cGANs with projection discriminator", arXiv:1802.05637."""
    r1_weight: float = Field(default=1.0, ge=0)
    """gamma of the R1 penalty gamma / 2 |grad_x logit|^2 on real items; 0: none."""
    r2_weight: float = Field(default=0.0, ge=0)
    """gamma of the same penalty on generated items, R2; 0: none."""
    penalty_every: int = Field(default=1, ge=1)
    """n: apply the penalties only at every n-th step, multiplied by n."""
    penalty_final_ratio: float = Field(default=1.0, gt=0, le=1)
    """The penalties' final weights over their first ones, reached geometrically; 1: constant. Strong
    penalties spread the generator evenly over the data; weak ones let the discriminator see details."""
    penalty_settled: float = Field(default=0.0, ge=0, lt=1)
    """The share of the steps, at the end, during which the penalties keep their final weights."""
    slope_weight: float = Field(default=10.0, ge=0)
    """`wasserstein` only: the weight of the WGAN-GP penalty on slopes other than 1."""
    packing: int = Field(default=1, ge=1)
    """The number of items that the discriminator judges together."""
    prior: Literal["standard-normal", "mixture"] = "standard-normal"
    """The prior of latents. `standard-normal`: N(0, I); `mixture`: narrow Gaussians with learned means and
    weights, for data in separate clusters, between which a generator of N(0, I) leaves bridges."""
    prior_components: int = Field(default=256, ge=2, le=4096)
    """Mixture: the number of Gaussians."""
    prior_deviation: float = Field(default=0.1, gt=0)
    """Mixture: the standard deviation of each Gaussian; the means begin as draws from N(0, I)."""
    prior_learning_rate_ratio: float = Field(default=2.0, gt=0)
    """Mixture: the learning rate of the logarithms of the weights over that of the means."""
    prior_learning_rate_growth: float = Field(default=1.0, gt=0)
    """Mixture: the factor by which the learning rate of means and weights over the generator's grows until
    the last step, geometrically, so that weights can be corrected late. 1: no growth."""
    prior_evenness: float = Field(default=0.0, ge=0)
    """Mixture: the weight of KL(even weights || weights) at the first step; it falls linearly to 0. It keeps
    every Gaussian in use: one without weight cannot move to a cluster that no other has found."""
    discriminator_learning_rate_ratio: float = Field(default=1.0, gt=0)
    """The discriminator's learning rate over the generator's at the first step."""
    discriminator_learning_rate_growth: float = Field(default=1.0, gt=0)
    """The factor by which that ratio grows until the last step, geometrically. A discriminator that stays
    fast while the generator slows down keeps up with it, and the two stop circling each other: two time
    scales, Heusel et al. 2017, arXiv:1706.08500. 1: no growth."""

    @model_validator(mode="after")
    def _one_item_one_class(self) -> GanOptions:
        if self.conditional and self.packing > 1:
            raise ValueError(
                f"gan.packing {self.packing} came with gan.conditional, whose discriminator judges single "
                "items of a class; set one of the two back"
            )
        return self

    @model_validator(mode="after")
    def _one_item_one_component(self) -> GanOptions:
        if self.prior == "mixture" and self.packing > 1:
            raise ValueError(
                f"gan.packing {self.packing} came with the prior 'mixture', whose weights are learned from "
                "judgements of single items; set one of the two back"
            )
        return self


class LoopOptions(Options):
    """The training loop; all counts are in optimiser steps unless they say otherwise."""

    steps: int = Field(ge=1)
    """Optimiser steps in all."""
    stop_after: int | None = Field(default=None, ge=1)
    """The step after which training ends, before its schedules do: these span `steps`. A GAN's averaged
    weights may be at their best while its learning rate is still high."""
    batch_rows: int = Field(default=128, ge=1)
    """Items per step, over all processes; at most the size of the training split."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's largest learning rate, after the warm-up."""
    schedule: Literal["cosine", "geometric"] = "cosine"
    """The fall of the learning rate: along a half cosine, or by the same factor at every step."""
    final_learning_rate_ratio: float = Field(default=0.01, ge=0, le=1)
    """The final learning rate over `learning_rate`."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up before the learning rate falls."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's two decay rates."""
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    """The share of each weight, times the learning rate, that is taken off it in each step; 0: none. Source:
    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2."""
    gradient_clip: float = Field(default=1e6, gt=0)
    """The largest gradient norm of one phase; longer gradients are scaled down to it."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """The decay per step of the averaged weights, which are evaluated and exported."""
    log_every: int = Field(default=100, ge=1)
    """Steps between lines of the log."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations, each of which writes a grid of samples; if not set, a twentieth of the
    steps, but at least 50 and at most 1 000. A VAE publishes the weights of the validation with the
    best bound."""
    patience: int = Field(default=0, ge=0)
    """VAEs: the number of validations in a row without a better bound after which training ends; 0: never."""
    validation_rows: int = Field(default=1000, ge=1)
    """Items of the validation split that each validation uses."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints; one is also written at the end."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of each process; results are repeatable bit for bit with the same number of threads."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision of products in networks. `bfloat16` keeps all else in float32, also weights, and is
    faster for networks with many channels on processors made for it: GPUs, and CPUs with AMX."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The device; `auto`: CUDA if there is any. Under `torchrun` each process has its own device."""

    @model_validator(mode="after")
    def _geometric_never_ends_at_nothing(self) -> LoopOptions:
        if self.schedule == "geometric" and not self.final_learning_rate_ratio:
            raise ValueError("final_learning_rate_ratio is 0, which no geometric schedule reaches; raise it")
        return self

    @property
    def last_step(self) -> int:
        """Return the number of steps after which training ends at the latest."""
        return min(self.steps, self.stop_after or self.steps)

    @property
    def validation_steps(self) -> int:
        """Return the number of steps between validations."""
        return self.validate_every or min(1000, max(50, self.steps // 20))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step (from 0): linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        floor = self.final_learning_rate_ratio
        if self.schedule == "geometric":
            return self.learning_rate * math.pow(floor, share)
        return self.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))


class AugmentationOptions(Options):
    """Small changes of training items, others in each step, that keep their meaning; none unless set."""

    flip: bool = False
    """Pictures: mirror each left to right with probability one half."""
    shift: int = Field(default=0, ge=0)
    """Pictures: the most pixels by which each is moved along either axis."""
    noise: float = Field(default=0.0, ge=0)
    """The standard deviation of normal noise on each value: on a pixel as one of [0, 1], on a table's column
    in its own standard deviations."""


class EncoderOptions(Options):
    """An encoder for a GAN, trained after it to minimise the distance between x and G(E(x)).

    Source: Schlegl et al. 2019, "f-AnoGAN", Medical Image Analysis 54, section 3.2.3, izi_f.
    """

    feature_weight: float = Field(default=1.0, ge=0)
    """kappa, the weight of the distance between the discriminator's features of x and of G(E(x))."""
    latent_weight: float = Field(default=0.0, ge=0)
    """The weight of the distance between z and E(G(z)), z from the prior; it keeps E near the prior. 0:
    none."""
    loop: LoopOptions


class EvaluationOptions(Options):
    """The measurement of the published figures on the test split."""

    draws: int = Field(default=64, ge=1)
    """K, the draws per item of the importance-weighted bound and of the ELBO."""
    rows: int = Field(default=10_000, ge=2)
    """The most test items to measure."""
    likelihood_draws: int = Field(default=0, ge=0)
    """K, the draws per item of the importance-sampled log-likelihood; thousands take minutes. 0: none."""
    likelihood_rows: int = Field(default=10_000, ge=2)
    """The most test items for the log-likelihood; at most `rows`."""

    @model_validator(mode="after")
    def _one_draw_is_no_estimate(self) -> EvaluationOptions:
        if self.likelihood_draws == 1:
            raise ValueError("likelihood_draws is 1, which has no error; give 0 for none, or some hundreds")
        return self

    seed: int = Field(default=0, ge=0, lt=2**53)


class CalibrationOptions(Options):
    """The calibration of anomaly scores; these become the version's defaults."""

    statistic: Statistic | Literal["auto"] | None = None
    """The default anomaly statistic of the version; if not set, `elbo` for a VAE and `f_anogan` for a GAN.
    `auto`: the statistic that best separates synthetic outliers from the validation split."""
    draws: int = Field(default=16, ge=2)
    """Monte Carlo draws per item of a VAE's bounds; the other statistics are without noise."""
    seed: int = Field(default=0, ge=0, lt=2**53)
    """The seed of those draws."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """The share of normal items that may be flagged as anomalies."""
