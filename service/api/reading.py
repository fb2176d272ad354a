"""From raw bytes to a typed request and an array, by content type; bounded before anything is parsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from pydantic import FailFast, Field, ValidationError, create_model

from service import media
from service.api.exchange import JPEG, JSON, NPY, PNG, ArrayField, Body, Floats, Operation, Request, Sizes
from service.api.problems import unfit
from service.errors import Malformed, Unfit, UnsupportedMedia
from service.served import Served
from service.settings import Settings

_ENVELOPE_BYTES: Final = 2**16
"""Room for everything in a body but its numbers."""
_JSON_BYTES_PER_VALUE: Final = 32
_NPY_BYTES_PER_VALUE: Final = 16
_PICTURE_BYTES_PER_VALUE: Final = 8


def nested(shape: Sequence[int], *, max_rows: int = 0) -> Any:
    """Nested lists of that shape, or of up to `max_rows` such; the first misfit ends the reading."""
    kind: Any = float
    for size in reversed(shape):
        kind = Annotated[list[kind], Field(min_length=size, max_length=size), FailFast()]
    return Annotated[list[kind], Field(min_length=1, max_length=max_rows), FailFast()] if max_rows else kind


@lru_cache(maxsize=256)
def typed_request(operation: Operation, sizes: Sizes) -> type[Body]:
    """The operation's JSON body for a model of these sizes: every list has its length.

    Without them a small body of wrong values costs seconds and gigabytes, an error for each value.
    """
    if operation.typed is not None:
        return operation.typed(sizes)
    if operation.array is None:
        return operation.request
    kind = nested(sizes.row(operation.array), max_rows=sizes.max_rows)
    fields: Any = {operation.array: (kind, ...)}
    return create_model(operation.request.__name__, __base__=operation.request, **fields)


def sizes_of(served: Served, settings: Settings) -> Sizes:
    """The sizes that a model's requests must have."""
    manifest = served.manifest
    return Sizes(manifest.latent_size, manifest.item_shape, settings.max_json_inputs)


def body_limit(operation: Operation, content_type: str, served: Served, settings: Settings) -> int:
    """The most bytes a body of that kind can sensibly have; never over `max_body_bytes`.

    Parsing holds the interpreter, so what cannot be valid is refused by its length.
    """
    kind, _ = _media_type(content_type)
    sizes = sizes_of(served, settings)
    row = math.prod(sizes.row(operation.array)) if operation.array else 0
    if kind == NPY:
        wanted = settings.max_npy_inputs * row * _NPY_BYTES_PER_VALUE
    elif kind in (PNG, JPEG):
        wanted = row * _PICTURE_BYTES_PER_VALUE
    else:
        values = settings.max_json_inputs * row or 2 * math.prod(sizes.item)
        wanted = values * _JSON_BYTES_PER_VALUE
    return min(settings.max_body_bytes, _ENVELOPE_BYTES + wanted)


def read_request(
    operation: Operation, content_type: str, query: bytes, body: bytes, served: Served, settings: Settings
) -> tuple[Body, Floats | None]:
    """The options and the array of a POST request, checked.

    Raises:
        Malformed, UnsupportedMedia, Unfit, LimitExceeded: the request cannot be read, or does not fit.
    """
    kind, charset = _media_type(content_type)
    if kind == JSON:
        if charset not in ("", "utf-8", "utf8"):
            raise UnsupportedMedia("JSON is read as UTF-8 only")
        if query:
            raise Unfit("with a JSON body every option is in the body; the query must be empty")
        return _from_json(operation, body, served, sizes_of(served, settings))
    if operation.array is None or kind not in operation.takes:
        raise UnsupportedMedia(f"{operation.name} takes {', '.join(operation.takes)}")
    assert operation.options is not None, "what takes arrays has options apart from them"
    options = from_query(operation.options, query)
    shape = sizes_of(served, settings).row(operation.array)
    if kind == NPY:
        array = media.from_npy(body, shape, settings.max_npy_inputs, operation.array)
    else:
        array = media.from_picture(body, shape)
    return options, _checked(operation.array, array, served)


def from_query(model: type[Request], query: bytes) -> Request:
    """A request given as a query string; of repeated keys the last wins.

    Raises:
        Malformed: the query cannot be decoded, or has too many keys.
        Unfit: unknown keys or values that do not fit.
    """
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=64)
    except ValueError as error:
        raise Malformed("the query string cannot be read") from error
    try:
        return model.model_validate_strings(dict(pairs), strict=False)
    except ValidationError as error:
        raise unfit(error, "the query", model) from error


def _media_type(content_type: str) -> tuple[str, str]:
    kind, _, parameters = content_type.lower().partition(";")
    charset = next(
        (
            text.strip()[8:].strip('"')
            for text in parameters.split(";")
            if text.strip().startswith("charset=")
        ),
        "",
    )
    return kind.strip() or JSON, charset


def _from_json(operation: Operation, body: bytes, served: Served, sizes: Sizes) -> tuple[Body, Floats | None]:
    model = typed_request(operation, sizes)
    try:
        request = model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise unfit(error, "the body", model) from error
    if operation.array is None:
        return request, None
    rows = media.from_lists(getattr(request, operation.array), sizes.row(operation.array), operation.array)
    return request, _checked(operation.array, rows, served)


def _checked(name: ArrayField, array: Floats, served: Served) -> Floats:
    if name == "latents":
        media.check_support(array, "latent", name)
    else:
        media.check_support(array, served.manifest.support, name, served.manifest.columns)
    return array
