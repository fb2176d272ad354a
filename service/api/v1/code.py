"""Encoding items, decoding latents, and both in turn."""

from __future__ import annotations

from typing import Any

from service.api.answer import JSON, NPY, PNG, Answer, json_in_pieces
from service.api.operations import code
from service.api.operations.call import Call
from service.api.operations.options import Body, Inputs, NoOptions
from service.api.v1.operation import (
    ArraysAnswer,
    ModelAnswer,
    Operation,
    arrays_answer,
    check_count,
    identity,
)


class EncodeRequest(Body):
    """Rows of items to encode."""

    inputs: Inputs


class EncodeAnswer(ModelAnswer):
    """The posterior of each item, a diagonal Gaussian. A GAN's encoder gives a point, without a variance."""

    mean: list[list[float]]
    """The mean of each item's posterior: rows of D numbers."""
    log_variance: list[list[float]] | None
    """The natural logarithm of its variance in each dimension; null for a GAN."""


class DecodeRequest(Body):
    """Rows of latents to decode."""

    latents: list[Any]
    """Rows of D numbers."""


class DecodeAnswer(ArraysAnswer):
    """The items at the latents."""

    samples: list[Any]
    """The items, in the order of the latents."""


class ReconstructRequest(Body):
    """Rows of items to reconstruct."""

    inputs: Inputs


class ReconstructAnswer(ArraysAnswer):
    """The items decoded from their encodings, and these encodings."""

    reconstructions: list[Any]
    """The reconstructed items, in the order of the inputs."""
    latents: list[list[float]]
    """The encoding of each item, rows of D numbers; a VAE's is its posterior mean."""


async def _encode(call: Call[NoOptions], _: str) -> Answer:
    result = await code.encode(call)
    body = await json_in_pieces(identity(call), result.arrays)
    return Answer(JSON, body, len(body), rows=len(call.arrays["inputs"]))


async def _decode(call: Call[NoOptions], accepted: str) -> Answer:
    check_count(len(call.arrays["latents"]), accepted, call.settings)
    return await arrays_answer(call, accepted, (await code.decode(call)).arrays)


async def _reconstruct(call: Call[NoOptions], accepted: str) -> Answer:
    check_count(len(call.arrays["inputs"]), accepted, call.settings)
    return await arrays_answer(call, accepted, (await code.reconstruct(call)).arrays)


_ARRAYS = (JSON, NPY, PNG)
ENCODE = Operation("encode", "Encode items", EncodeRequest, (JSON,), _encode, EncodeAnswer, "inputs")
DECODE = Operation("decode", "Decode latents", DecodeRequest, _ARRAYS, _decode, DecodeAnswer, "latents")
RECONSTRUCT = Operation(
    "reconstruct",
    "Encode and decode items",
    ReconstructRequest,
    _ARRAYS,
    _reconstruct,
    ReconstructAnswer,
    "inputs",
)
