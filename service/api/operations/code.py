"""Encoding items, decoding latents, and both in turn."""

from __future__ import annotations

from typing import Any

from service.api.operations.call import Call, Result


async def encode(call: Call[Any]) -> Result:
    """Return the mean and log-variance (B, D) of each item's posterior; a GAN's encoder has no variance."""
    items = call.items()
    mean, log_variance = await call.loaded.encode(items, call.timing, call.classes(len(items)))
    return Result({"mean": mean, "log_variance": log_variance})


async def decode(call: Call[Any]) -> Result:
    """Return the items (B, *item) at the latents (B, D), of the options' classes if there are any."""
    latents = call.latents()
    return Result({"samples": await call.loaded.decode(latents, call.timing, call.classes(len(latents)))})


async def reconstruct(call: Call[Any]) -> Result:
    """Return the items decoded from their own encodings, and these (B, D); deterministic."""
    items = call.items()
    classes = call.classes(len(items))
    latents, _ = await call.loaded.encode(items, call.timing, classes)
    reconstructions = await call.loaded.decode(latents, call.timing, classes)
    return Result({"reconstructions": reconstructions, "latents": latents})
