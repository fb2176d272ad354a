"""The remote VAEs of diffusers: what its `remote_decode` and `remote_encode` send, for `decode` and `encode`.

A body is the bytes of a tensor, or a picture; the query has the tensor's shape and dtype, and an answer has
them as headers. Latents are flat rows (B, D) in the graphs, and (B, C, H, W) here, or packed as for Flux:
(B, H W / 4, 4 C). Pictures are (B, C, H, W), in [-1, 1] as diffusers' networks have them. Source:
`diffusers.utils.remote_utils` of diffusers 0.42.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from service.api.answer import JPEG, PNG, Answer
from service.api.body import ENVELOPE_BYTES, PICTURE_BYTES_PER_VALUE, check_numbers, query_pairs, read_body
from service.api.exchange import Exchange
from service.api.operations import code
from service.api.operations.call import Call
from service.api.operations.options import Body
from service.api.paths import PREFIXES, model_path
from service.api.problems import unfit
from service.errors import LimitExceeded, MethodNotAllowed, OperationNotOffered, Unfit
from service.format.manifest import Manifest
from service.format.specs import LatentPicture
from service.lifecycle.registry import Registry
from service.media import pictures
from service.media.fitting import item_of_file
from service.numerics.noise import Floats
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings

TENSOR: Final = "tensor/binary"
"""The media type of the bytes of a tensor: little-endian, rows first."""
_STORED_AS: Final = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "uint8": "u1"}
"""The form of its values; those of bfloat16 are the upper halves of float32."""
_PACKED_AXES: Final = 3
Factor = Annotated[float, Field(gt=0, le=1e6)]
Shift = Annotated[float, Field(ge=-1e6, le=1e6)]
Shape = Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(min_length=1, max_length=5)]


class RemoteDecodeOptions(Body):
    """The query of `remote_decode`."""

    shape: Shape
    """The shape of the latents: B, C, H, W; or B, H W / 4, 4 C if they are packed."""
    dtype: Literal["float16", "bfloat16", "float32"]
    """Their type."""
    scaling_factor: Factor | None = None
    """The latents are divided by it."""
    shift_factor: Shift | None = None
    """It is added to them then."""
    do_scaling: bool = False
    """True to take both factors from the model, if no `scaling_factor` came."""
    output_type: Literal["pil", "pt"] = "pil"
    """`pt` asks for a tensor; `pil` for one picture, or for a tensor in [0, 1] if `Accept` says so."""
    image_format: Literal["jpg", "png"] = "jpg"
    """The format of a picture."""
    partial_postprocess: bool = False
    """True for a tensor of pixels, (B, H, W, C) uint8, rather than (B, C, H, W) float32 in [-1, 1]."""
    height: int | None = None
    """The height of the pictures in pixels, which comes with packed latents; the model knows it."""
    width: int | None = None
    """Their width."""


class RemoteEncodeOptions(Body):
    """The query of `remote_encode`."""

    shape: Shape | None = None
    """The shape of a tensor of pictures: B, C, H, W. Without it the body is a PNG or a JPEG."""
    dtype: Literal["float16", "bfloat16", "float32", "uint8"] = "float32"
    """The tensor's type: numbers in [-1, 1], or 0 to 255 of `uint8`."""
    scaling_factor: Factor | None = None
    """The latents are multiplied by it."""
    shift_factor: Shift | None = None
    """It is subtracted from them before."""


class Side(NamedTuple):
    """One of the two functions of diffusers, and the operation that it needs."""

    operation: str
    summary: str
    description: str
    options: type[Body]
    read: Callable[[bytes, Any, Manifest, LatentPicture, int], dict[str, Floats]]
    answer: Callable[[Call[Any], LatentPicture, str], Awaitable[Answer]]
    answers: tuple[str, ...]


class RemoteVae:
    """Answers `remote_decode` and `remote_encode` of diffusers for versions whose latents are pictures."""

    def __init__(self, registry: Registry, metrics: Metrics, settings: Settings) -> None:
        self._registry = registry
        self._metrics = metrics
        self._settings = settings
        for prefix in PREFIXES:
            for action in SIDES:
                metrics.expect(f"{prefix}/{action}", "POST")

    async def serve(self, exchange: Exchange) -> bool:
        """Answer a request of diffusers. Return False, and do nothing, if the path is not of one."""
        path = model_path(exchange.scope["path"])
        side = None if path is None else SIDES.get(path.action)
        if path is None or side is None:
            return False
        exchange.route = path.template
        if exchange.scope["method"] != "POST":
            raise MethodNotAllowed(f"{path.action} takes POST", allowed=("POST",))
        with self._registry.get(path.model, path.version) as loaded:
            await self._operate(exchange, side, loaded)
        return True

    async def _operate(self, exchange: Exchange, side: Side, loaded: LoadedModel) -> None:
        started_at, settings, manifest = time.perf_counter(), self._settings, loaded.manifest
        exchange.identify(loaded.headers)
        latent = _latent_picture(loaded, side.operation)
        meter, timing = self._metrics.meter(manifest.name, side.operation), Timing()
        if exchange.trace is not None:
            timing, exchange.trace.meter = exchange.trace.timing, meter
        try:
            with exchange.request_scope(settings.deadline_seconds, settings.idle_seconds) as scope:
                options = _from_query(side.options, exchange.scope["query_string"])
                row = max(loaded.item_size, manifest.latent_size)
                most = row * max(4 * settings.max_npy_inputs, PICTURE_BYTES_PER_VALUE)
                body = await exchange.body(min(settings.max_body_bytes, ENVELOPE_BYTES + most))
                self._metrics.body_bytes.observe(len(body))
                read = partial(side.read, body, options, manifest, latent, settings.max_npy_inputs)
                arrays = await read_body(body, read)
                scope.listen()
                exchange.expect(4 * row * len(next(iter(arrays.values()))))
                call = Call(loaded, options, arrays, settings, timing)
                answer = await side.answer(call, latent, exchange.header(b"accept"))
            exchange.add_timing(timing)
            await exchange.answer(answer)
            meter.answered(timing.queue_seconds, answer.rows, answer.anomalies, answer.p_values)
        finally:
            meter.took(time.perf_counter() - started_at)


def _latent_picture(loaded: LoadedModel, operation: str) -> LatentPicture:
    """Return the form of the version's latents; raises OperationNotOffered if they are no pictures."""
    loaded.manifest.require(operation)
    latent = loaded.manifest.latent_picture
    if latent is None:
        raise OperationNotOffered(
            f"{loaded.manifest.name} is no remote VAE of diffusers: its latents are no pictures (C, H, W), "
            f"as those of an AutoencoderKL are; it offers {', '.join(loaded.operations)}",
            offered=loaded.operations,
        )
    return latent


@lru_cache(maxsize=64)
def _from_query(kind: type[Body], query: bytes) -> Body:
    """Return the options in a query string, in which `shape` comes once for each size.

    Raises:
        Malformed: the query cannot be decoded, or has too many keys.
        Unfit: a key is unknown, or a value does not fit.
    """
    pairs = query_pairs(query)
    sizes = [value for key, value in pairs if key == "shape"]
    values: dict[str, Any] = dict(pairs) | ({"shape": sizes} if sizes else {})
    try:
        options = kind.model_validate(values, strict=False)
    except ValidationError as error:
        raise unfit(error, "the query", kind) from error
    check_numbers(pairs, options)
    return options


def _latents(
    body: bytes, options: RemoteDecodeOptions, manifest: Manifest, latent: LatentPicture, most: int
) -> dict[str, Floats]:
    """Return the latents (B, D) in a body, before scaling."""
    channels, height, width = latent.shape
    packed = (height * width // 4, 4 * channels)
    wanted: list[tuple[int, ...]] = [latent.shape]
    if height % 2 == width % 2 == 0:
        wanted.append(packed)
    array = _tensor(body, options.shape, options.dtype, wanted, most)
    if len(options.shape) == _PACKED_AXES:  # of squares of four pixels; diffusers' FluxPipeline._pack_latents
        squares = array.reshape(-1, height // 2, width // 2, channels, 2, 2)
        array = squares.transpose(0, 3, 1, 4, 2, 5)
    scaling, shift = options.scaling_factor, options.shift_factor
    if options.do_scaling and scaling is None:
        scaling = latent.scaling_factor
        shift = latent.shift_factor if shift is None else shift
    rows = array.reshape(len(array), manifest.latent_size) / np.float32(scaling or 1) + np.float32(shift or 0)
    return {"latents": np.ascontiguousarray(rows, np.float32)}


def _pictures(
    body: bytes, options: RemoteEncodeOptions, manifest: Manifest, _: LatentPicture, most: int
) -> dict[str, Floats]:
    """Return the items (B, *item) in a body: a tensor, or one picture."""
    if options.shape is None:
        return {"inputs": item_of_file(io.BytesIO(body), manifest.item_shape).item[None]}
    array = _tensor(body, options.shape, options.dtype, [manifest.item_shape], most)
    if options.dtype == "uint8":
        return {"inputs": array / np.float32(255)}
    return {"inputs": (array + np.float32(1)) / np.float32(2)}


def _tensor(
    body: bytes, shape: Sequence[int], dtype: str, wanted: Sequence[tuple[int, ...]], most: int
) -> Floats:
    """Return the tensor in a body as float32.

    Raises:
        Unfit: its shape is none of the wanted ones, or the body has not so many bytes.
        LimitExceeded: it has too many rows.
    """
    if tuple(shape[1:]) not in wanted:
        fits = " or ".join(f"[B, {', '.join(map(str, row))}]" for row in wanted)
        raise Unfit(f"the tensor has the shape {list(shape)}; this version takes {fits}")
    if shape[0] > most:
        raise LimitExceeded(f"{shape[0]} rows came, at most {most} are taken in one request")
    stored = np.dtype(_STORED_AS[dtype])
    size = math.prod(shape) * stored.itemsize
    if len(body) != size:
        raise Unfit(f"a tensor of shape {list(shape)} and {dtype} has {size} bytes; {len(body)} came")
    values = np.frombuffer(body, stored).reshape(shape)
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


async def _decoded(call: Call[RemoteDecodeOptions], _: LatentPicture, accept: str) -> Answer:
    options = call.options
    as_picture = options.output_type == "pil" and TENSOR not in accept
    if as_picture and len(call.arrays["latents"]) > 1:
        raise Unfit(
            f"{len(call.arrays['latents'])} latents came, and one picture can be answered; send them one by "
            "one, or ask for a tensor with output_type='pt'"
        )
    samples = (await code.decode(call)).arrays["samples"]
    assert samples is not None
    if as_picture:
        encode = pictures.png_grid if options.image_format == "png" else pictures.jpeg
        body = await asyncio.to_thread(encode, samples)
        return Answer(PNG if options.image_format == "png" else JPEG, body, len(body), rows=1)
    if options.output_type == "pil":
        return _tensor_answer(samples)
    if options.partial_postprocess:
        return _tensor_answer(np.rint(samples.transpose(0, 2, 3, 1) * 255).astype(np.uint8))
    return _tensor_answer(2 * samples - 1)


async def _encoded(call: Call[RemoteEncodeOptions], latent: LatentPicture, _: str) -> Answer:
    mean = (await code.encode(call)).arrays["mean"]
    assert mean is not None
    scaling, shift = call.options.scaling_factor, call.options.shift_factor
    rows = (mean - np.float32(shift or 0)) * np.float32(scaling or 1)
    return _tensor_answer(rows.reshape(len(rows), *latent.shape))


def _tensor_answer(array: NDArray[Any]) -> Answer:
    body = np.ascontiguousarray(array).tobytes()
    headers = ((b"shape", json.dumps(list(array.shape)).encode()), (b"dtype", str(array.dtype).encode()))
    return Answer(TENSOR, body, len(body), headers, len(array))


SIDES: Final = {
    "diffusers/decode": Side(
        "decode",
        "Decode latents for `remote_decode` of diffusers",
        "For versions of an `AutoencoderKL`. The body is a tensor of latents. The answer is one picture, or "
        "a tensor whose shape and type are in the headers `shape` and `dtype`.",
        RemoteDecodeOptions,
        _latents,
        _decoded,
        (TENSOR, JPEG, PNG),
    ),
    "diffusers/encode": Side(
        "encode",
        "Encode pictures for `remote_encode` of diffusers",
        "For versions of an `AutoencoderKL`. The body is a tensor of pictures, or one picture. The answer is "
        "the mean of the posterior, a tensor whose shape and type are in the headers `shape` and `dtype`.",
        RemoteEncodeOptions,
        _pictures,
        _encoded,
        (TENSOR,),
    ),
}
"""The two functions of diffusers by the ends of their paths."""


def described() -> dict[str, Any]:
    """Return the paths as OpenAPI describes them."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    paths: dict[str, Any] = {}
    for prefix in PREFIXES:
        names = re.findall(r"{(\w+)}", prefix)
        for action, side in SIDES.items():
            schema = side.options.model_json_schema()
            query = [
                {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
                for name, field in schema["properties"].items()
            ]
            path = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
            paths[f"{prefix}/{action}"] = {
                "post": {
                    "tags": ["diffusers"],
                    "operationId": "_".join(("diffusers", side.operation, *names[1:])),
                    "summary": side.summary,
                    "description": side.description,
                    "parameters": path + query,
                    "requestBody": {"required": True, "content": {"application/octet-stream": binary}},
                    "responses": {
                        "200": {"description": "The answer", "content": dict.fromkeys(side.answers, binary)}
                    },
                }
            }
    return paths
