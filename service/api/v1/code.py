"""Encoding items, decoding latents, both in turn, and reading items alone."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from service.api.answer import CSV, JSON, NPY, Answer, bytes_of, json_pieces
from service.api.operations import code
from service.api.operations.call import Call
from service.api.operations.options import RowLabelOptions
from service.api.v1.encoding import (
    ARRAYS_IN,
    after_ids,
    arrays_answer,
    check_items,
    csv_answer,
    identity,
    row_fields,
)
from service.api.v1.operation import (
    ArraysAnswer,
    Conversions,
    ItemsOptions,
    ItemsRequest,
    ModelAnswer,
    Operation,
)
from service.media.tables.writing import numbered_columns


class EncodeRequest(RowLabelOptions, ItemsRequest):
    """Rows of items to encode."""


class EncodeAnswer(ModelAnswer):
    """The posterior of each item, a diagonal Gaussian. A GAN's encoder gives a point, without a variance."""

    mean: list[list[float]]
    """The mean of each item's posterior: rows of D numbers."""
    log_variance: list[list[float]] | None
    """The natural logarithm of its variance in each dimension; null for a GAN."""
    ids: list[Any] | None = None
    """The id of each row, if the request names an `id`."""
    conversions: Conversions = None


class CodeOptions(ItemsOptions, RowLabelOptions):
    """Options of decoding, and of reconstructing."""


class DecodeRequest(CodeOptions):
    """Rows of latents to decode."""

    latents: Annotated[list[list[float]], Field(min_length=1)]
    """Rows of D numbers."""


class DecodeAnswer(ArraysAnswer):
    """The items at the latents."""

    samples: list[Any]
    """The items, in the order of the latents."""


class ReconstructRequest(CodeOptions, ItemsRequest):
    """Rows of items to reconstruct."""


class ReconstructAnswer(ArraysAnswer):
    """The items decoded from their encodings, and these encodings."""

    reconstructions: list[Any]
    """The reconstructed items, in the order of the inputs."""
    latents: list[list[float]]
    """The encoding of each item, rows of D numbers; a VAE's is its posterior mean."""


class ItemsReadRequest(ItemsOptions, ItemsRequest):
    """Rows of items to read."""


class ItemsReadAnswer(ArraysAnswer):
    """The items as the model takes them."""

    inputs: list[Any]
    """The items, in their order; null is a missing value."""


async def _encode(call: Call[RowLabelOptions], accepted: str) -> Answer:
    arrays = (await code.encode(call)).arrays
    details: dict[str, Any] = {"rows": len(call.arrays["inputs"]), "array_bytes": bytes_of(arrays)}
    if accepted == CSV:
        given = {name: array for name, array in arrays.items() if array is not None}
        return await csv_answer(after_ids(call, numbered_columns(given)), **details)
    pieces = json_pieces({**identity(call), **row_fields(call)}, arrays)
    return await Answer.of_text(JSON, pieces, **details)


async def _decode(call: Call[CodeOptions], accepted: str) -> Answer:
    check_items(len(call.arrays["latents"]), accepted, call.options, call.loaded, call.settings)
    return await arrays_answer(call, accepted, (await code.decode(call)).arrays)


async def _reconstruct(call: Call[CodeOptions], accepted: str) -> Answer:
    check_items(len(call.arrays["inputs"]), accepted, call.options, call.loaded, call.settings)
    return await arrays_answer(call, accepted, (await code.reconstruct(call)).arrays)


async def _read(call: Call[ItemsOptions], accepted: str) -> Answer:
    if accepted != NPY:
        check_items(len(call.arrays["inputs"]), accepted, call.options, call.loaded, call.settings)
    return await arrays_answer(call, accepted, {"inputs": call.items()})


ENCODE = Operation(
    "encode", "Encode items", EncodeRequest, (JSON, CSV), _encode, EncodeAnswer, "inputs", RowLabelOptions
)
DECODE = Operation(
    "decode", "Decode latents", DecodeRequest, ARRAYS_IN, _decode, DecodeAnswer, "latents", CodeOptions
)
RECONSTRUCT = Operation(
    "reconstruct",
    "Encode and decode items",
    ReconstructRequest,
    ARRAYS_IN,
    _reconstruct,
    ReconstructAnswer,
    "inputs",
    CodeOptions,
)
READ = Operation(
    "read",
    "Read items as the model takes them",
    ItemsReadRequest,
    ARRAYS_IN,
    _read,
    ItemsReadAnswer,
    "inputs",
    ItemsOptions,
    description="Nothing is computed: the answer shows how a file of rows, or a picture, is read.",
)
