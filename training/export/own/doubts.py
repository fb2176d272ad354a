"""Doubts about how a publisher reads a VAE's networks, by the ELBO of items that came.

Shapes: B rows, D latent dimensions, n values of an item; items (B, *item).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.numerics.noise import Floats
from training.export.own.algebra import NumpyAlgebra, Tensor
from training.export.own.formulas import OwnVae
from training.export.own.likelihoods import LOG_FURTHEST, LocationScaleFormulas
from training.export.own.priors import prior_kl

_DRAWS = 2
_LEAST_NATS = 1.0
"""The difference of ELBOs, in nats per item, below which two readings are alike."""
_ERRORS = 5.0
"""The standard errors by which the ELBO of another reading has to be larger."""
Reading = tuple[str, OwnVae, Tensor, Tensor]
"""The networks' outputs as others may have meant them: advice, VAE, means and log-variances (B, D)."""


def doubts(vae: OwnVae, batches: Sequence[list[Floats]]) -> list[str]:
    """Return why the networks are perhaps not what their publisher says, from batches of items and classes.

    A VAE is trained to have a large ELBO, so another reading of the same outputs has a smaller one.
    """
    elbos: dict[str, list[NDArray[np.float64]]] = {}
    with np.errstate(all="ignore"):  # what is read wrongly may overflow
        for items, *labels in batches:
            for advice, read, mean, log_variance in _readings(vae, items.astype(np.float64), labels):
                elbos.setdefault(advice, []).append(_elbo(read, items, mean, log_variance, labels))
    given, *others = (np.concatenate(each) for each in elbos.values())
    found = []
    for advice, other in zip([*elbos][1:], others, strict=True):
        if len(other) < len(given) or not np.isfinite(other - given).all():
            continue
        gain = other - given
        if gain.mean() > max(_LEAST_NATS, _ERRORS * gain.std() / np.sqrt(len(gain))):
            found.append(
                f"{advice}: the mean ELBO of {len(gain)} normal items would be {other.mean():.1f} nats, and "
                f"is {given.mean():.1f} as published"
            )
    return found


def _readings(vae: OwnVae, items: Tensor, labels: Sequence[Floats]) -> Iterator[Reading]:
    """Yield the reading as given, and then those that mistakes would make of the right one."""
    mean, log_variance = vae.posterior(NumpyAlgebra(), items, *labels)
    yield "", vae, mean, log_variance
    yield (
        "the encoder's log-variances seem to have the wrong sign, as those of precisions; negate them",
        vae, mean, -log_variance,
    )  # fmt: skip
    if vae.encoder_gives in ("log_variance", "log_scale"):
        factor = 1.0 if vae.encoder_gives == "log_variance" else 2.0
        exchanged = np.clip(factor * mean, -2 * LOG_FURTHEST, 2 * LOG_FURTHEST)
        yield (
            "the encoder seems to give its mean second; give the mean first",
            vae, log_variance / factor, exchanged,
        )  # fmt: skip
    if not isinstance(vae.likelihood, LocationScaleFormulas) and vae.likelihood.gives == "logits":
        latents = np.concatenate([mean, *labels], -1) if labels else mean
        values = vae.decoder.apply(NumpyAlgebra(), latents)[0]
        if vae.likelihood.bound is None and values.min() >= 0 and values.max() <= 1:
            read = replace(vae, likelihood=replace(vae.likelihood, gives="probabilities"))
            yield "the decoder seems to give probabilities; say so by decoder_gives", read, mean, log_variance


def _elbo(
    vae: OwnVae, items: Floats, mean: Tensor, log_variance: Tensor, labels: Sequence[Floats]
) -> NDArray[np.float64]:
    """Return the ELBO of each item in nats, (B,), with the same noise for every reading."""
    f, random = NumpyAlgebra(), np.random.default_rng(0)
    values, n = items.reshape(len(items), -1).astype(np.float64), vae.units.size
    likelihoods = []
    for _ in range(_DRAWS):
        latents = mean + np.exp(0.5 * log_variance) * random.standard_normal(mean.shape)
        log_prob = vae.likelihood.log_prob(f, vae.parameters(f, latents, *labels), values)
        likelihoods.append(f.sum(log_prob, n))
    elbo: NDArray[np.float64] = np.mean(likelihoods, 0) - prior_kl(
        f, mean, log_variance, vae.latent, vae.prior
    )
    return elbo
