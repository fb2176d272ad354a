"""Reading requests: raw bytes to typed options and arrays, by content type; limited before parsing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from pydantic import Field, ValidationError, create_model

from service.api.answer import CSV, FORM, JSON, NPY, PARQUET, PICTURES, PNG, ZIP
from service.api.body import ENVELOPE_BYTES, JSON_BYTES_PER_VALUE, SHORT_BYTES, check_numbers, query_pairs
from service.api.json_bodies import check_json, cut_lists, cut_records, json_text, read_list
from service.api.operations.call import RowIds
from service.api.operations.options import Body, Options, RowLabelOptions
from service.api.problems import unfit
from service.api.v1.named import NamedRows, TableReader
from service.api.v1.negotiation import negotiate
from service.api.v1.operation import ItemsRequest, Operation, Sizes
from service.api.v1.picture_files import PictureFiles, PictureReader
from service.errors import LimitExceeded, NotAcceptable, ServiceError, Unfit, UnsupportedMedia
from service.format.manifest import is_picture
from service.media import codecs
from service.numerics.noise import Floats
from service.observe.metrics import Metrics
from service.runtime.model import LoadedModel
from service.settings import Settings

_FORM: Final = "application/x-www-form-urlencoded"
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80}")
_NPY_BYTES_PER_VALUE: Final = 16
_SHORT_BYTES: Final = {CSV: 2**12, PARQUET: 0, **dict.fromkeys(PICTURES, 2**12)}


def nested(shape: Sequence[int], *, max_rows: int = 0, or_null: bool = False) -> Any:
    """Return the type of nested lists of a shape, or of up to `max_rows` such; reading stops at a misfit.

    Their numbers may be null if `or_null`.
    """
    kind: Any = float | None if or_null else float
    for size in reversed(shape):
        kind = Annotated[list[kind], Field(min_length=size, max_length=size, fail_fast=True)]
    most = Field(min_length=1, max_length=max_rows, fail_fast=True)
    return Annotated[list[kind], most] if max_rows else kind


@lru_cache(maxsize=256)
def typed_request(operation: Operation, sizes: Sizes) -> type[Body]:
    """Return the operation's JSON body for a model of these sizes: every list has its length.

    Without the lengths, a small body of wrong values costs seconds and gigabytes: one error per value.
    """
    if operation.typed is not None:
        return operation.typed(sizes)
    if operation.array is None:
        return operation.request
    or_null = sizes.takes_missing and operation.array == "inputs"
    kind = nested(sizes.row(operation.array), max_rows=sizes.max_rows, or_null=or_null)
    fields: Any = {operation.array: (kind, ...), **_without(operation, "records")}
    return create_model(operation.request.__name__, __base__=operation.request, **fields)


def _without(operation: Operation, *names: str) -> dict[str, Any]:
    """Return those fields of an operation's body as ones that have to be null."""
    return {name: (None, None) for name in names if name in operation.request.model_fields}


class ReadRequest(NamedTuple):
    """The content of a request: its options, its arrays, and what is known of its rows."""

    options: Any
    arrays: dict[str, Floats]
    ids: RowIds | None = None
    conversions: Sequence[Sequence[str]] | None = None
    """For each row, what was done to its picture; None if no pictures came, or the version has no rule."""


class RequestReader:
    """Reads the requests for one operation of one version, and holds the meter that counts them.

    It holds no reference to the loaded version.
    """

    def __init__(
        self, operation: Operation, loaded: LoadedModel, metrics: Metrics, settings: Settings
    ) -> None:
        manifest = loaded.manifest
        manifest.require(operation.name)
        self.meter = metrics.meter(manifest.name, operation.name)
        self._operation = operation
        self._item_shape = manifest.item_shape
        self._answers = operation.answers
        if not loaded.makes_pictures:
            self._answers = tuple(kind for kind in operation.answers if kind != PNG)
        self._max_npy_inputs = settings.max_npy_inputs
        sizes = Sizes(
            manifest.latent_size, manifest.item_shape, settings.max_json_inputs, manifest.takes_missing
        )
        self._types = {int, float, type(None)} if manifest.takes_missing else {int, float}
        self._row = sizes.row(operation.array) if operation.array else ()
        self._json_rows = (sizes.max_rows, self._row) if operation.array else (2, sizes.item)
        self._model = typed_request(operation, sizes)
        self._limits = body_limits(operation, sizes, settings)
        self._takes = operation.takes
        self._pictures = None
        if is_picture(manifest.item_shape) and operation.array == "inputs":
            self._pictures = PictureReader(manifest, settings)
            self._limits |= self._pictures.limits
        else:
            self._takes = tuple(kind for kind in self._takes if kind not in (FORM, ZIP))
        self._table = None
        if not manifest.columns:
            self._takes = tuple(kind for kind in self._takes if kind not in (CSV, PARQUET))
        if manifest.columns and operation.array == "inputs":
            self._table = TableReader(manifest, settings)
            for kind, most in self._table.limits.items():
                most = min(settings.max_body_bytes, ENVELOPE_BYTES + most)
                self._limits[kind] = max(most, self._limits.get(kind, 0))

    def accepted(self, accept: str) -> str:
        """Return the media type of the answer; a picture only if items can be shown as one.

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

    def body_limit(self, content_type: ContentType) -> tuple[int, str]:
        """Return the most bytes a body of that type can sensibly have, and what to do about one of more.

        Parsing holds the GIL, so a body that cannot be valid is refused by its length; never over
        `max_body_bytes`.
        """
        kind = content_type.media_type
        advice = "send less at a time"
        if kind in PICTURES and self._pictures is not None and not self._pictures.any_size:
            *_, height, width = self._item_shape
            advice = f"send a picture of the {width} x {height} pixels (width x height) that the model takes"
        return self._limits.get(kind, self._limits[JSON]), advice

    def unpacks(self, content_type: ContentType) -> bool:
        """Return True if bodies of that type are pictures for which `files` is to be called."""
        return self._pictures is not None and self._pictures.unpacks(content_type.media_type)

    def files(self, content_type: ContentType, body: bytes) -> PictureFiles:
        """Return the pictures in a body, and the memory that it takes to read them.

        Raises:
            LimitExceeded, Malformed, Unfit: they are too many or too large, or cannot be read.
        """
        return self._of_pictures().files(content_type.media_type, content_type.header, body)

    def read(
        self, content_type: ContentType, query: bytes, body: bytes, files: PictureFiles | None = None
    ) -> ReadRequest:
        """Return the options, the arrays by name, and the ids of the rows of a POST request.

        `files` are those of the body, if it `unpacks`.

        Raises:
            Malformed, UnsupportedMedia, Unfit, LimitExceeded: the request cannot be read, or does not fit.
        """
        operation, (kind, charset, _) = self._operation, content_type
        name = operation.array
        if kind == JSON:
            if charset not in ("", "utf-8", "utf8"):
                raise UnsupportedMedia("JSON is read as UTF-8 only")
            if query:
                raise Unfit("with a JSON body every option is in the body; the query must be empty")
            return self._read_json(json_text(body))
        if name is None or kind not in self._takes:
            came = kind if _MEDIA_TYPE.fullmatch(kind) else "another type"
            hint = (
                " (as curl says of any data; use --json, or -H 'Content-Type: ...')" if came == _FORM else ""
            )
            raise UnsupportedMedia(f"{operation.name} takes {', '.join(self._takes)}; {came} came{hint}")
        if kind in (CSV, PARQUET):
            if kind == CSV and charset not in ("", "utf-8", "utf8", "utf-16", "us-ascii"):
                raise UnsupportedMedia("CSV is read as UTF-8 or UTF-16")
            options = from_query(_options_with_id(operation.options), query)
            return self._named(options, self._of_table().from_file(body, kind, getattr(options, "id", None)))
        options = from_query(operation.options, query)
        if kind == NPY:
            return ReadRequest(options, {name: codecs.from_npy(body, self._row, self._max_npy_inputs, name)})
        pictures = self._of_pictures()
        rows, conversions, ids = pictures.rows(files or pictures.alone(body))
        return ReadRequest(options, {name: rows}, ids, conversions)

    def _read_json(self, body: bytes) -> ReadRequest:
        name = self._operation.array
        mark, pieces = "", list[bytes]()
        if name == "inputs":
            most = (1, 1) if self._table is None else self._table.most_records
            body, mark, pieces = cut_records(body, *most)
        if mark:
            self._of_table()
        check_json(body, *self._json_rows)
        body, lists = cut_lists(body) if name is not None else (body, {})
        model = (
            _request_of_cut_list(self._operation, "records" if mark else name)
            if lists or mark
            else self._model
        )
        request: Any
        try:
            request = model.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise self._with_form(unfit(error, "the body", model), body, name) from error
        if name is None:
            return ReadRequest(request, {})
        if mark:
            if lists or request.records != [mark]:
                raise Unfit("`records` came twice, or in another object")
            return self._named(request, self._of_table().from_records(pieces, request.id))
        if lists:
            return ReadRequest(request, {name: self._long_list(lists, getattr(request, name), name)})
        return ReadRequest(request, {name: codecs.from_lists(getattr(request, name), self._row, name)})

    def _with_form(self, error: ServiceError, body: bytes, name: str | None) -> ServiceError:
        """Return an error, with the form in which rows come if the body has none, or has others."""
        if name is None or not error.flaws:
            return error
        has_rows = any(f'"{key}"'.encode() in body for key in (name, "records"))
        if error.flaws[0].pointer != f"/{name}" and has_rows:
            return error
        form = f'{{"{name}": [...]}}'
        if self._table is not None:
            form = f'{{"records": [{{"column": value, ...}}, ...]}} or {form}'
        return Unfit(f"{error}; send {form}", flaws=error.flaws)

    def _of_table(self) -> TableReader:
        if self._table is None:
            raise Unfit(
                f"this model has no named columns; send `inputs` of the shape {list(self._item_shape)}"
            )
        return self._table

    def _of_pictures(self) -> PictureReader:
        if self._pictures is None:
            raise Unfit(f"this model takes no pictures; send `inputs` of the shape {list(self._item_shape)}")
        return self._pictures

    def _named(self, options: Any, came: NamedRows) -> ReadRequest:
        """Return a request whose rows came by name: items are answered so too unless it asks for arrays."""
        if getattr(options, "form", ...) is None:
            options = options.model_copy(update={"form": "records"})
        unlabelled = isinstance(options, RowLabelOptions) and options.label is None and options.labels is None
        if unlabelled and came.labels is not None:
            options = options.model_copy(update={"labels": came.labels})
        return ReadRequest(options, {"inputs": came.rows}, came.ids)

    def _long_list(self, lists: Mapping[str, bytes], marks: Sequence[str], name: str) -> Floats:
        """Return the rows of a list that was cut out of the body, which stands there by its mark."""
        if len(marks) != 1 or marks[0] not in lists:
            raise Unfit(f"`{name}` came twice, or holds text")
        values = read_list(lists[marks[0]], self._row, np.dtype(np.float32), self._types, name, flat=False)
        if len(values) > self._json_rows[0] * math.prod(self._row):
            raise LimitExceeded(
                f"`{name}` has more rows than are taken in JSON; send more as application/x-npy"
            )
        return values.reshape(-1, *self._row)


@lru_cache(maxsize=64)
def _options_with_id(options: type[Body]) -> type[Body]:
    """Return the options of rows that come by name, as a file: with the name of the column of their ids."""
    fields: Any = {"id": (ItemsRequest.model_fields["id"].annotation, None)}
    return create_model(f"{options.__name__}OfTable", __base__=options, **fields)


@lru_cache(maxsize=64)
def _request_of_cut_list(operation: Operation, name: str) -> type[Body]:
    """Return the operation's JSON body with a mark in the place of the rows in a field."""
    other = {"inputs": "records", "records": "inputs"}.get(name, "")
    fields: Any = {name: (list[str], ...), **_without(operation, other)}
    return create_model(operation.request.__name__, __base__=operation.request, **fields)


def body_limits(operation: Operation, sizes: Sizes, settings: Settings) -> dict[str, int]:
    """Return the most bytes of a body by its media type; see `RequestReader.body_limit`."""
    row = math.prod(sizes.row(operation.array)) if operation.array else 0
    beside_rows = 2 * math.prod(sizes.item) if operation.typed is not None else 0  # the ends of a path
    wanted = {
        JSON: (settings.max_json_inputs * row or beside_rows) * JSON_BYTES_PER_VALUE,
        NPY: settings.max_npy_inputs * row * _NPY_BYTES_PER_VALUE,
        **dict.fromkeys(PICTURES, ENVELOPE_BYTES),
    }
    return {kind: min(settings.max_body_bytes, ENVELOPE_BYTES + most) for kind, most in wanted.items()}


@lru_cache(maxsize=64)
def from_query(model: type[Options], query: bytes) -> Options:
    """Return the request in a query string; of repeated keys the last one wins.

    Raises:
        Malformed: the query cannot be decoded, or has too many keys.
        Unfit: a key is unknown, or a value does not fit.
    """
    pairs = query_pairs(query)
    try:
        options = model.model_validate_strings(dict(pairs), strict=False)
    except ValidationError as error:
        raise unfit(error, "the query", model) from error
    check_numbers(pairs, options)
    return options


class ContentType(NamedTuple):
    """The header `Content-Type` of a request."""

    media_type: str
    """JSON if there is none."""
    charset: str
    """Empty if there is none."""
    header: str
    """The header as it came."""


@lru_cache(maxsize=64)
def content_type_of(header: str) -> ContentType:
    """Return the parts of the header `Content-Type`, which may be empty."""
    media_type, _, parameters = header.lower().partition(";")
    charsets = [text for text in map(str.strip, parameters.split(";")) if text.startswith("charset=")]
    return ContentType(media_type.strip() or JSON, charsets[0][8:].strip('"') if charsets else "", header)


def short_bytes(content_type: ContentType) -> int:
    """Return the length, in bytes, up to which a body of that type is read in less than a millisecond."""
    return _SHORT_BYTES.get(content_type.media_type, SHORT_BYTES)
