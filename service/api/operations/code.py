"""Encoding items, decoding latents, and both in turn."""

from __future__ import annotations

from typing import Any

from service.api.operations.call import Call, Result
from service.api.operations.labels import label_of


async def encode(call: Call[Any]) -> Result:
    """Return the mean and log-variance (B, D) of each item's posterior; a GAN's encoder has no variance."""
    mean, log_variance = await call.loaded.encode(call.items(), call.timing)
    return Result({"mean": mean, "log_variance": log_variance})


async def decode(call: Call[Any]) -> Result:
    """Return the items (B, *item) at the latents (B, D), of the class of the options if there are classes."""
    label = label_of(call.loaded.manifest, getattr(call.options, "label", None))
    return Result({"samples": await call.loaded.decode(call.latents(), call.timing, label)})


async def reconstruct(call: Call[Any]) -> Result:
    """Return the items decoded from their own encodings, and these (B, D); deterministic."""
    latents, _ = await call.loaded.encode(call.items(), call.timing)
    reconstructions = await call.loaded.decode(latents, call.timing)
    return Result({"reconstructions": reconstructions, "latents": latents})
