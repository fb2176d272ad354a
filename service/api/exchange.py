"""What an operation is given and what it answers: reading by content type, writing by `Accept`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from service import media
from service.api.problems import unfit
from service.batching import Timing
from service.errors import LimitExceeded, Malformed, NotAcceptable, Unfit, UnsupportedMedia
from service.served import Served
from service.settings import Settings

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"

BESIDE_THE_LOOP_SIZE: Final = 2**18
"""JSON of more bytes is parsed, and arrays of more values are encoded, in a thread beside the event loop."""

Floats = NDArray[np.float32]
ArrayField = Literal["inputs", "latents"]
Result = TypeVar("Result")
Seed = Annotated[int, Field(ge=0, lt=2**53, description="0 .. 2^53 - 1, exact in every JSON client")]


class Body(BaseModel):
    """Base of all request bodies: strict, closed, finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Request = TypeVar("Request", bound=Body)


@dataclass(frozen=True, slots=True)
class Answer:
    """A body ready to be sent, or a stream of known length, with the headers the operation adds."""

    media_type: str
    body: bytes | AsyncIterator[bytes]
    length: int
    headers: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    anomalies: int = 0


@dataclass(slots=True)
class Call(Generic[Request]):
    """One request for one operation: what was asked of which version, and how to answer."""

    served: Served
    request: Request
    array: Floats | None
    accepted: str
    settings: Settings
    timing: Timing = field(default_factory=Timing)

    @property
    def identity(self) -> dict[str, Any]:
        """The model and version that answer."""
        manifest = self.served.manifest
        return {"model": manifest.name, "version": manifest.version}


@dataclass(frozen=True, slots=True)
class Operation:
    """One POST operation of the API; the dispatcher and the OpenAPI document are built from these."""

    name: str
    summary: str
    options: type[Body]
    array: ArrayField | None
    answers: tuple[str, ...]
    handle: Callable[[Call[Any]], Awaitable[Answer]]
    answer_schema: type[BaseModel]


def _nested(rank: int) -> Any:
    return float if rank == 0 else list[_nested(rank - 1)]  # type: ignore[misc]


@cache
def request_model(options: type[Body], array: ArrayField | None, item_rank: int) -> type[Body]:
    """The JSON body of an operation: its options and, if it takes arrays, their nested lists."""
    if array is None:
        return options
    title = options.__name__.replace("Options", "Request")
    fields: Any = {array: (_nested(item_rank + 1), Field(description="rows, each nested by its shape"))}
    return create_model(title, __base__=options, **fields)


async def read_request(
    operation: Operation, content_type: str, query: bytes, body: bytes, served: Served, settings: Settings
) -> tuple[Body, Floats | None]:
    """The options and the array of a POST request, checked.

    Raises:
        Malformed, UnsupportedMedia, Unfit, LimitExceeded: the request cannot be read, or does not fit.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind in ("", JSON):
        if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
            raise UnsupportedMedia("JSON is read as UTF-8 only")
        if query:
            raise Unfit("with a JSON body every option is in the body; the query must be empty")
        return await _run(lambda: _from_json(operation, body, served, settings), len(body))
    if operation.array is None or kind not in (NPY, PNG, JPEG):
        takes = (JSON,) if operation.array is None else (JSON, NPY, PNG, JPEG)
        raise UnsupportedMedia(f"{operation.name} takes {', '.join(takes)}")
    options = from_query(operation.options, query)
    shape = _row_shape(operation, served)
    if kind == NPY:
        array = media.from_npy(body, shape, settings.max_npy_inputs, operation.array)
    elif operation.array == "latents":
        raise UnsupportedMedia("latents are no pictures; send application/json or application/x-npy")
    else:
        array = media.from_picture(body, shape)
    return options, _checked(operation, array, served)


def _from_json(
    operation: Operation, body: bytes, served: Served, settings: Settings
) -> tuple[Body, Floats | None]:
    shape = _row_shape(operation, served)
    model = request_model(operation.options, operation.array, len(shape))
    try:
        request = model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise unfit(error, "the body", model.model_fields) from error
    if operation.array is None:
        return request, None
    rows = getattr(request, operation.array)
    if len(rows) > settings.max_json_inputs:
        raise LimitExceeded(
            f"{len(rows)} rows came, at most {settings.max_json_inputs} are taken in JSON; send more as {NPY}"
        )
    return request, _checked(operation, media.from_lists(rows, shape, operation.array), served)


def from_query(model: type[Request], query: bytes) -> Request:
    """A request given as a query string; of repeated keys the last wins.

    Raises:
        Unfit: unknown keys or values that do not fit.
    """
    try:
        pairs = parse_qsl(
            query.decode(), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=64
        )
        return model.model_validate_strings(dict(pairs), strict=False)
    except ValidationError as error:
        raise unfit(error, "the query", model.model_fields) from error
    except ValueError as error:
        raise Malformed("the query string cannot be read") from error


def _row_shape(operation: Operation, served: Served) -> media.Shape:
    manifest = served.manifest
    return (manifest.latent_size,) if operation.array == "latents" else manifest.item_shape


def _checked(operation: Operation, array: Floats, served: Served) -> Floats:
    assert operation.array is not None
    media.check_support(
        array, "real" if operation.array == "latents" else served.manifest.support, operation.array
    )
    return array


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """The offered media type that `Accept` likes best (RFC 9110, section 12.5.1); the first if all alike.

    Raises:
        NotAcceptable: it likes none.
    """
    best, best_quality = "", 0.0
    for media_type in offered:
        quality = _quality(accept, media_type)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if not best:
        raise NotAcceptable(f"this operation answers {', '.join(offered)}")
    return best


def _quality(accept: str, media_type: str) -> float:
    """The q of the most specific range that covers the media type; 1 for an absent header."""
    if not accept.strip():
        return 1.0
    found = (-1, 0.0)
    for entry in accept.lower().split(","):
        wanted, *parameters = (part.strip() for part in entry.split(";"))
        family = media_type.split("/")[0]
        if wanted not in (media_type, f"{family}/*", "*/*"):
            continue
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            quality = min(1.0, max(0.0, float(weight)))
        except ValueError:
            quality = 0.0
        found = max(found, (2 - wanted.count("*"), quality))
    return found[1]


async def arrays_answer(
    call: Call[Any],
    fields: Mapping[str, Any],
    arrays: Mapping[str, Floats],
    *,
    headers: tuple[tuple[str, str], ...] = (),
    columns: int | None = None,
) -> Answer:
    """The arrays as the client accepts them: all in JSON; the first alone as npy or as a picture grid."""
    first = next(iter(arrays.values()))

    def encode() -> bytes:
        if call.accepted == NPY:
            return media.npy(first)
        if call.accepted == PNG:
            return media.png_grid(first, columns)
        return to_json({**fields, **arrays})

    body = await _run(encode, first.size)
    return Answer(call.accepted, body, len(body), headers, len(first))


def to_json(document: Mapping[str, Any]) -> bytes:
    """JSON of a document that may hold float32 arrays."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


async def _run(work: Callable[[], Result], size: int) -> Result:
    """Small work at once; large work in a thread, so that others are answered meanwhile."""
    return work() if size <= BESIDE_THE_LOOP_SIZE else await asyncio.to_thread(work)
