"""Scoring items by a GAN's discriminator."""

from __future__ import annotations

import numpy as np

from service.api.operations.call import Call, Result
from service.api.operations.options import RowLabelOptions
from service.format.manifest import Manifest


async def discriminate(call: Call[RowLabelOptions]) -> Result:
    """Return the discriminator's logit and probability of each item (B, *item), each (B,).

    The optimal discriminator is p_data / (p_data + p_G), whose logit is the log density ratio; it is None
    if the discriminator was trained in a way that gives none. Source: Goodfellow et al. 2014,
    arXiv:1406.2661, proposition 1.
    """
    items = call.items()
    found = await call.loaded.discriminate(items, call.timing, call.classes(len(items)))
    logits = found.astype(np.float64)
    ratios = logits if gives_ratios(call.loaded.manifest) else None
    probabilities = np.exp(-np.logaddexp(0.0, -logits))
    return Result({"logit": logits, "probability": probabilities, "log_density_ratio": ratios})


def gives_ratios(manifest: Manifest) -> bool:
    """Return True if the discriminator's logits are log density ratios."""
    return manifest.discriminator is not None and manifest.discriminator.flaw is None
