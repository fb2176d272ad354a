"""The options that a publisher gives for a model, and their checks, before its networks are run.

Every check returns its flaws, a sentence each: what came, what was expected, and what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from service.format.manifest import MODEL_NAME
from service.numerics.prior import GaussianMixturePrior
from training.export.own.conditions import Condition
from training.export.own.formulas import EncoderGives
from training.export.own.likelihoods import DECODER_WORDS, LIKELIHOODS, WITH_SCALE
from training.export.own.networks import VALUES, Channels, Units, Values, array_of
from training.export.own.priors import MixtureOfGaussians
from training.export.staging import place_flaw

_MOST_AXES = 3


@dataclass(frozen=True, kw_only=True)
class Words:
    """The publisher's words about a model of any family."""

    latent_size: int
    item_shape: tuple[int, ...]
    values: Values = "0..1"
    channels: Channels = "first"
    prior: MixtureOfGaussians | None = None
    condition: Condition | None = None
    """The classes that the networks take as a second input."""

    @property
    def units(self) -> Units:
        """The shape of items, and how the networks have their values."""
        return Units(self.item_shape, self.values, self.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty without a condition."""
        return () if self.condition is None else self.condition.names


def naming_flaws(name: str, models: Path, words: Words) -> list[str]:
    """Check a model's name and place, sizes, units, prior and classes."""
    flaws, units, latent = [], words.units, words.latent_size
    if not re.fullmatch(MODEL_NAME, name):
        flaws.append(
            f"the name {name!r} does not fit; use lower-case letters, digits and hyphens, at most 63"
        )
    elif flaw := place_flaw(models / name):
        flaws.append(flaw)
    shape = units.item_shape
    if not 1 <= len(shape) <= _MOST_AXES or not all(size >= 1 for size in shape):
        flaws.append(f"item_shape is {list(shape)}; wanted one to three sizes, (C, H, W) for pictures")
    if not 1 <= latent <= 4096:
        flaws.append(f"latent_size is {latent}; wanted 1 to 4096")
    if units.values not in VALUES:
        flaws.append(f"values is {units.values!r}; wanted one of {', '.join(map(repr, VALUES))}")
    if units.channels not in ("first", "last"):
        flaws.append(f"channels is {units.channels!r}; wanted 'first' or 'last'")
    elif units.channels == "last" and len(shape) != _MOST_AXES:
        flaws.append(f"channels is 'last', but items of shape {list(shape)} are no pictures (C, H, W)")
    of_classes = [] if words.condition is None else words.condition.flaws()
    return [*flaws, *prior_flaws(words.prior, latent), *of_classes]


def likelihood_flaws(
    likelihood: str, decoder_gives: str, encoder_gives: str, scale: object, units: Units
) -> list[str]:
    """Check the words for a VAE's likelihood and for what its networks give."""
    flaws = []
    if likelihood not in DECODER_WORDS:
        flaws.append(f"likelihood is {likelihood!r}; wanted one of {', '.join(map(repr, LIKELIHOODS))}")
    elif decoder_gives not in (words := DECODER_WORDS[likelihood]):
        flaws.append(
            f"decoder_gives is {decoder_gives!r}, which the likelihood {likelihood!r} does not take; wanted "
            f"{', '.join(map(repr, words))}"
        )
    if encoder_gives not in get_args(EncoderGives):
        wanted = ", ".join(map(repr, get_args(EncoderGives)))
        flaws.append(f"encoder_gives is {encoder_gives!r}; wanted one of {wanted}")
    if likelihood not in WITH_SCALE and units.values == "real":
        flaws.append(f"values is 'real', but the likelihood {likelihood!r} is for values in [0, 1]")
    if scale is None:
        return flaws
    if likelihood not in WITH_SCALE or decoder_gives != "mean":
        names = " or ".join(map(repr, WITH_SCALE))
        flaws.append(f"scale came, which is for the likelihood {names} of a decoder that gives 'mean'")
        return flaws
    try:
        array = array_of(scale).astype(np.float64)
    except ValueError as error:
        return [*flaws, f"scale is {error}"]
    if array.size not in (1, units.size) or not (np.isfinite(array) & (array > 0)).all():
        flaws.append(
            f"scale is {scale!r}; wanted a positive number, or one for each of the {units.size} values"
        )
    return flaws


def prior_flaws(prior: Any, latent: int) -> list[str]:
    """Check a mixture prior."""
    if prior is None:
        return []
    if not isinstance(prior, MixtureOfGaussians):
        came = type(prior).__name__
        return [
            f"prior is {came}; wanted a MixtureOfGaussians(weights, means, log_variances), or none: N(0, I)"
        ]
    if prior.means.ndim != 2 or prior.means.shape[1] != latent:
        return [f"the prior has means {list(prior.means.shape)}; wanted (M, {latent})"]
    try:
        GaussianMixturePrior(prior.weights, prior.means, prior.log_variances)
    except ValueError as error:
        return [f"the prior: {error}"]
    return []
