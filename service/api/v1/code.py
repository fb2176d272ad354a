"""Encoding items, decoding latents, and both in turn."""

from __future__ import annotations

from typing import Any

from service.api.answer import JSON, NPY, PNG, Answer, json_in_pieces
from service.api.operations.options import Body, Inputs, NoOptions
from service.api.operations.sample import check_count
from service.api.v1.operation import Call, Operation, arrays_answer
from service.numerics.noise import Floats


class EncodeRequest(Body):
    """Rows of items to encode."""

    inputs: Inputs


class EncodeAnswer(Body):
    """The posterior of each item, a diagonal Gaussian; a GAN's encoder gives a point, without a variance."""

    model: str
    version: int
    mean: list[list[float]]
    log_variance: list[list[float]] | None


class DecodeRequest(Body):
    """Rows of D latents to decode."""

    latents: list[Any]


class DecodeAnswer(Body):
    """The items at the latents."""

    model: str
    version: int
    shape: list[int]
    samples: list[Any]


class ReconstructRequest(Body):
    """Rows of items to reconstruct."""

    inputs: Inputs


class ReconstructAnswer(Body):
    """The items decoded from their encodings (a VAE's posterior means), and those."""

    model: str
    version: int
    shape: list[int]
    reconstructions: list[Any]
    latents: list[list[float]]


async def encode(call: Call[Any]) -> Answer:
    """Answers the mean and log-variance of each item's posterior; null for the variance a GAN lacks."""
    mean, log_variance = await call.loaded.encode(_array(call), call.timing)
    body = await json_in_pieces(call.identity, {"mean": mean, "log_variance": log_variance})
    return Answer(JSON, body, len(body), rows=len(mean))


async def decode(call: Call[Any]) -> Answer:
    """Answers the items at the given latents."""
    latents = _array(call)
    check_count(len(latents), call.accepted, call.settings)
    samples = await call.loaded.decode(latents, call.timing)
    return await arrays_answer(call, {"samples": samples})


async def reconstruct(call: Call[Any]) -> Answer:
    """Answers the items decoded from their own encodings; deterministic."""
    inputs = _array(call)
    check_count(len(inputs), call.accepted, call.settings)
    latents, _ = await call.loaded.encode(inputs, call.timing)
    reconstructions = await call.loaded.decode(latents, call.timing)
    return await arrays_answer(call, {"reconstructions": reconstructions, "latents": latents})


def _array(call: Call[Any]) -> Floats:
    assert call.array is not None, "the dispatcher reads an array for these operations"
    return call.array


ENCODE = Operation(
    "encode", "Encode items", EncodeRequest, (JSON,), encode, EncodeAnswer, "inputs", NoOptions
)
DECODE = Operation(
    "decode", "Decode latents", DecodeRequest, (JSON, NPY, PNG), decode, DecodeAnswer, "latents", NoOptions
)
RECONSTRUCT = Operation(
    "reconstruct",
    "Encode and decode items",
    ReconstructRequest,
    (JSON, NPY, PNG),
    reconstruct,
    ReconstructAnswer,
    "inputs",
    NoOptions,
)
