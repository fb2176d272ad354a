"""From raw bytes to a typed request and an array, by content type; bounded before anything is parsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from pydantic import FailFast, Field, ValidationError, create_model

from service.api.answer import JPEG, JSON, NPY, PNG
from service.api.exchange import ENVELOPE_BYTES, check_json
from service.api.operations.options import ArrayField, Body, Request
from service.api.problems import unfit
from service.api.v1.operation import Operation, Sizes
from service.errors import Malformed, Unfit, UnsupportedMedia
from service.format.manifest import Manifest
from service.media import codecs
from service.numerics.noise import Floats
from service.settings import Settings

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


class Reader:
    """Reads the requests for one operation of one version."""

    def __init__(self, operation: Operation, manifest: Manifest, settings: Settings) -> None:
        self._operation = operation
        self._manifest = manifest
        self._max_npy_inputs = settings.max_npy_inputs
        sizes = Sizes(manifest.latent_size, manifest.item_shape, settings.max_json_inputs)
        self._row = sizes.row(operation.array) if operation.array else ()
        self._json_rows = (sizes.max_rows, self._row) if operation.array else (2, sizes.item)
        self._model = typed_request(operation, sizes)
        self._limits = _body_limits(operation, sizes, settings)

    def body_limit(self, content_type: str) -> int:
        """The most bytes a body of that kind can sensibly have; never over `max_body_bytes`.

        Parsing holds the interpreter, so what cannot be valid is refused by its length.
        """
        kind, _ = media_type(content_type)
        return self._limits.get(kind, self._limits[JSON])

    def read(self, content_type: str, query: bytes, body: bytes) -> tuple[Body, Floats | None]:
        """The options and the array of a POST request, checked.

        Raises:
            Malformed, UnsupportedMedia, Unfit, LimitExceeded: the request cannot be read, or does not fit.
        """
        operation, (kind, charset) = self._operation, media_type(content_type)
        if kind == JSON:
            if charset not in ("", "utf-8", "utf8"):
                raise UnsupportedMedia("JSON is read as UTF-8 only")
            if query:
                raise Unfit("with a JSON body every option is in the body; the query must be empty")
            return self._from_json(body)
        if operation.array is None or kind not in operation.takes:
            raise UnsupportedMedia(f"{operation.name} takes {', '.join(operation.takes)}")
        assert operation.options is not None, "what takes arrays has options apart from them"
        options = from_query(operation.options, query)
        if kind == NPY:
            array = codecs.from_npy(body, self._row, self._max_npy_inputs, operation.array)
        else:
            array = codecs.from_picture(body, self._row)
        return options, self._checked(operation.array, array)

    def _from_json(self, body: bytes) -> tuple[Body, Floats | None]:
        check_json(body, *self._json_rows)
        try:
            request = self._model.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise unfit(error, "the body", self._model) from error
        name = self._operation.array
        if name is None:
            return request, None
        return request, self._checked(name, codecs.from_lists(getattr(request, name), self._row, name))

    def _checked(self, name: ArrayField, array: Floats) -> Floats:
        if name == "latents":
            codecs.check_support(array, "latent", name)
        else:
            codecs.check_support(array, self._manifest.support, name, self._manifest.columns)
        return array


def _body_limits(operation: Operation, sizes: Sizes, settings: Settings) -> dict[str, int]:
    row = math.prod(sizes.row(operation.array)) if operation.array else 0
    picture = row * _PICTURE_BYTES_PER_VALUE
    wanted = {
        JSON: (settings.max_json_inputs * row or 2 * math.prod(sizes.item)) * _JSON_BYTES_PER_VALUE,
        NPY: settings.max_npy_inputs * row * _NPY_BYTES_PER_VALUE,
        PNG: picture,
        JPEG: picture,
    }
    return {kind: min(settings.max_body_bytes, ENVELOPE_BYTES + most) for kind, most in wanted.items()}


@lru_cache(maxsize=64)
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


@lru_cache(maxsize=64)
def media_type(content_type: str) -> tuple[str, str]:
    """The media type that the header names, JSON if none, and its charset or nothing."""
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
