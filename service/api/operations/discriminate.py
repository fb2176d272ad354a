"""The discriminator's judgements of items, by name."""

from __future__ import annotations

import numpy as np

from service.format.manifest import Manifest
from service.numerics.noise import Doubles, Floats
from service.observe.timing import Timing
from service.runtime.model import LoadedModel


async def judgements(loaded: LoadedModel, inputs: Floats, timing: Timing) -> dict[str, Doubles]:
    """What the discriminator says of items (B, *item), each (B,), by the names of `Judgement`.

    The optimal discriminator is p_data / (p_data + p_G), whose logit is the log density ratio; where the
    training gives none, that is left out. Source: Goodfellow et al. 2014, arXiv:1406.2661, proposition 1.
    """
    logits = (await loaded.discriminate(inputs, timing)).astype(np.float64)
    judged = {"logit": logits, "probability": np.exp(-np.logaddexp(0.0, -logits))}
    return judged | {"log_density_ratio": logits} if gives_ratios(loaded.manifest) else judged


def gives_ratios(manifest: Manifest) -> bool:
    """Whether the discriminator's logits are log density ratios."""
    return manifest.discriminator is not None and manifest.discriminator.flaw is None
