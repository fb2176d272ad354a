"""Reading requests: raw bytes to typed options and arrays, by content type; limited before parsing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from pydantic import FailFast, Field, ValidationError, create_model

from service.api.answer import JPEG, JSON, NPY, PNG
from service.api.body import ENVELOPE_BYTES, check_json
from service.api.operations.options import Body, Options
from service.api.problems import unfit
from service.api.v1.operation import Operation, Sizes, negotiate
from service.errors import Malformed, NotAcceptable, Unfit, UnsupportedMedia
from service.media import codecs
from service.numerics.noise import Floats
from service.observe.metrics import Metrics
from service.runtime.model import LoadedModel
from service.settings import Settings

_JSON_BYTES_PER_VALUE: Final = 32
_NPY_BYTES_PER_VALUE: Final = 16
_PICTURE_BYTES_PER_VALUE: Final = 8


def nested(shape: Sequence[int], *, max_rows: int = 0) -> Any:
    """Return the type of nested lists of a shape, or of up to `max_rows` such; reading stops at a misfit."""
    kind: Any = float
    for size in reversed(shape):
        kind = Annotated[list[kind], Field(min_length=size, max_length=size), FailFast()]
    return Annotated[list[kind], Field(min_length=1, max_length=max_rows), FailFast()] if max_rows else kind


@lru_cache(maxsize=256)
def typed_request(operation: Operation, sizes: Sizes) -> type[Body]:
    """Return the operation's JSON body for a model of these sizes: every list has its length.

    Without the lengths, a small body of wrong values costs seconds and gigabytes: one error per value.
    """
    if operation.typed is not None:
        return operation.typed(sizes)
    if operation.array is None:
        return operation.request
    kind = nested(sizes.row(operation.array), max_rows=sizes.max_rows)
    fields: Any = {operation.array: (kind, ...)}
    return create_model(operation.request.__name__, __base__=operation.request, **fields)


class RequestReader:
    """Reads the requests for one operation of one version, and holds the meter that counts them.

    It holds no reference to the loaded version.
    """

    def __init__(
        self, operation: Operation, loaded: LoadedModel, metrics: Metrics, settings: Settings
    ) -> None:
        loaded.require(operation.name)
        manifest = loaded.manifest
        self.meter = metrics.meter(manifest.name, operation.name)
        self._operation = operation
        self._item_shape = manifest.item_shape
        self._answers = operation.answers
        if not loaded.makes_pictures:
            self._answers = tuple(kind for kind in operation.answers if kind != PNG)
        self._max_npy_inputs = settings.max_npy_inputs
        sizes = Sizes(manifest.latent_size, manifest.item_shape, settings.max_json_inputs)
        self._row = sizes.row(operation.array) if operation.array else ()
        self._json_rows = (sizes.max_rows, self._row) if operation.array else (2, sizes.item)
        self._model = typed_request(operation, sizes)
        self._limits = _body_limits(operation, sizes, settings)

    def accepted(self, accept: str) -> str:
        """Return the media type of the answer; a picture only of what can be shown.

        Raises:
            NotAcceptable: this model answers none that `Accept` allows; the message names those it answers.
        """
        preferred = negotiate(accept, self._operation.answers)
        if preferred != PNG or self._answers == self._operation.answers:
            return preferred
        try:
            return negotiate(accept, self._answers)
        except NotAcceptable as error:
            raise NotAcceptable(
                f"this model's items, of shape {list(self._item_shape)}, are no pictures, nor points of a "
                f"plane; {self._operation.name} answers {', '.join(self._answers)}"
            ) from error

    def body_limit(self, content_type: str) -> int:
        """Return the most bytes a body of that type can sensibly have; never over `max_body_bytes`.

        Parsing holds the GIL, so a body that cannot be valid is refused by its length.
        """
        kind, _ = media_type(content_type)
        return self._limits.get(kind, self._limits[JSON])

    def read(self, content_type: str, query: bytes, body: bytes) -> tuple[Body, dict[str, Floats]]:
        """Return the options and the arrays by name of a POST request.

        Raises:
            Malformed, UnsupportedMedia, Unfit, LimitExceeded: the request cannot be read, or does not fit.
        """
        operation, (kind, charset) = self._operation, media_type(content_type)
        name = operation.array
        if kind == JSON:
            if charset not in ("", "utf-8", "utf8"):
                raise UnsupportedMedia("JSON is read as UTF-8 only")
            if query:
                raise Unfit("with a JSON body every option is in the body; the query must be empty")
            check_json(body, *self._json_rows)
            try:
                request = self._model.model_validate_json(body or b"{}")
            except ValidationError as error:
                raise unfit(error, "the body", self._model) from error
            if name is None:
                return request, {}
            return request, {name: codecs.from_lists(getattr(request, name), self._row, name)}
        if name is None or kind not in operation.takes:
            raise UnsupportedMedia(f"{operation.name} takes {', '.join(operation.takes)}")
        options = from_query(operation.options, query)
        if kind == NPY:
            return options, {name: codecs.from_npy(body, self._row, self._max_npy_inputs, name)}
        return options, {name: codecs.from_picture(body, self._row)}


def _body_limits(operation: Operation, sizes: Sizes, settings: Settings) -> dict[str, int]:
    row = math.prod(sizes.row(operation.array)) if operation.array else 0
    wanted = {
        JSON: (settings.max_json_inputs * row or 2 * math.prod(sizes.item)) * _JSON_BYTES_PER_VALUE,
        NPY: settings.max_npy_inputs * row * _NPY_BYTES_PER_VALUE,
        **dict.fromkeys((PNG, JPEG), row * _PICTURE_BYTES_PER_VALUE),
    }
    return {kind: min(settings.max_body_bytes, ENVELOPE_BYTES + most) for kind, most in wanted.items()}


@lru_cache(maxsize=64)
def from_query(model: type[Options], query: bytes) -> Options:
    """Return the request in a query string; of repeated keys the last one wins.

    Raises:
        Malformed: the query cannot be decoded, or has too many keys.
        Unfit: a key is unknown, or a value does not fit.
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
    """Return the media type in the header, JSON if there is none, and its charset or an empty string."""
    kind, _, parameters = content_type.lower().partition(";")
    charsets = [text for text in map(str.strip, parameters.split(";")) if text.startswith("charset=")]
    return kind.strip() or JSON, charsets[0][8:].strip('"') if charsets else ""
