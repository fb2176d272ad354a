"""Every operation as a script: which requests are sent, and what their answers become.

Shapes: B rows, D latent dimensions; items as the model's manifest says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import numpy as np

from pushforward.checks import Label, RowLabel, check_names, check_options, label_options, plain_number
from pushforward.client.answers import array_of, encoding_of, item_scores_of, joined, judgements_of
from pushforward.client.chunks import Take
from pushforward.client.known import KnownModel
from pushforward.client.npy import NpyRows
from pushforward.client.sending import Deadline, Sender
from pushforward.client.versions import MOST_LABELLED, RowsRequest, Version, Versions
from pushforward.client.wire import (
    JSON,
    NPY,
    BrokenConnection,
    HttpAnswer,
    HttpRequest,
    ReadPiece,
    Script,
    T,
    YieldRows,
    operation_path,
)
from pushforward.reading import as_point, as_rows, ids_of, labels_in
from pushforward.results import Encoding, Floats, Interpolation, ItemScores, Judgement, joined_scores
from service.errors import BodyTooLarge, DeadlineExceeded, Unfit

_MAX_SEED: Final = 2**53 - 1  # as in service.numerics.noise, which imports more than a client needs
_ROWS_OF_NPY: Final = ("npy_inputs", "npy_samples")
"""The limits of rows that come and go as npy."""


class Operations:
    """Makes the scripts of all operations of one service."""

    def __init__(self, sender: Sender) -> None:
        self.url = sender.url
        self._sender = sender
        self._versions = Versions(sender)

    def models(self) -> Script[list[dict[str, Any]]]:
        """Return the entries of the catalogue."""
        answer = yield from self._sender.answer(HttpRequest("/v1/models"), self._sender.deadline())
        models: list[dict[str, Any]] = answer.document("models")["models"]
        return models

    def model(self, name: str, version: Version) -> Script[dict[str, Any]]:
        """Return the manifest of a version, with its state and the limits of its requests."""
        check_names(name, version)
        return (yield from self._versions.described(name, version, self._sender.deadline()))

    def samples(
        self, name: str, version: Version, count: int, seed: int | None, offset: int, options: Any, take: Take
    ) -> Script[None]:
        """Give `take` the samples offset .. offset + count - 1 in order, and yield the rows that it returns.

        A broken stream continues at the row where it broke. All rows are of the version that answers first.
        """
        labels, options = options["labels"], {**options, "labels": None}
        check_options(count=count, seed=seed, offset=offset, **options)
        if offset + count > _MAX_SEED + 1:  # else many requests would come before the one that is refused
            raise Unfit(
                f"`offset` {offset} and `count` {count} end at sample {offset + count - 1}; the last one "
                f"has the number 2^53 - 1, {_MAX_SEED}"
            )
        deadline = self._sender.deadline()
        model, is_fresh = yield from self._versions.known(name, version, deadline)
        if seed is None:
            seed = self._sender.randomness.randint(0, _MAX_SEED)
        done = failures = 0
        while True:
            size = min(count - done, model.most_samples(options))
            if labels is not None:
                size = min(size, MOST_LABELLED)
                options["labels"] = model.labels_text(labels[done : done + size])
            query = {"count": size, "seed": seed, "offset": offset + done, **options}
            request = HttpRequest(operation_path(name, version, "sample"), NPY, query)
            answer = yield from self._sender.sent(request, deadline, streamed=True)
            if isinstance(answer, HttpAnswer) and answer.status == HTTPStatus.OK:
                if labels is not None and answer.version not in (None, model.version):
                    # another version has answered, whose classes may have other numbers
                    model, is_fresh = yield from self._versions.known(name, version, deadline, fresh=True)
                    version = model.version  # else replicas that do not agree would never be done with
                    continue
                version = answer.version
                came, broken = yield from self._streamed(size, take, deadline)
                done, failures = done + came, 0 if came else failures
                if done >= count:
                    return
                if broken is None:
                    continue
                answer = broken
            failures += 1
            error = self._sender.error_of(answer, deadline)
            error.flaws = tuple(flaw.after(done) for flaw in error.flaws)
            if isinstance(error, Unfit) and not is_fresh:  # perhaps of the limits, or the classes, of before
                known = model
                model, is_fresh = yield from self._versions.known(name, version, deadline, fresh=True)
                if model != known:
                    continue
            pinned = done > 0 or version == model.version
            yield from self._sender.recover(error, failures, deadline, pinned=pinned)

    def _streamed(
        self, most: int, take: Take, deadline: Deadline
    ) -> Script[tuple[int, BrokenConnection | None]]:
        """Give `take` the rows of a streamed answer; return how many came, and what ended it too early."""
        reader, came = NpyRows(), 0
        while came < most:
            piece = yield ReadPiece(deadline.left_seconds())
            piece = piece or BrokenConnection("the answer ended too early")
            if isinstance(piece, BrokenConnection):
                return came, piece
            rows = reader.feed(piece)
            self._sender.check(deadline)
            if rows is not None:
                came += len(rows)
                for chunk in take(rows):
                    yield YieldRows(chunk)
                    deadline.restart()
        yield ReadPiece(deadline.left_seconds())  # the end, after which the connection can be used again
        return came, None

    def encode(
        self, name: str, version: Version, inputs: Any, id_name: str | None, label: RowLabel
    ) -> Script[Encoding]:
        """Return the encodings of items."""
        query, ids = label_options(label), ids_of(inputs, id_name)
        parts = yield from self._on_rows(name, version, "encode", inputs, encoding_of, JSON, query)
        means, variances = zip(*parts, strict=True)
        is_gan = variances[0] is None
        return Encoding(np.concatenate(means), None if is_gan else np.concatenate(variances), *ids)

    def arrays(
        self, name: str, version: Version, operation: str, given: Any, label: RowLabel, **query: Any
    ) -> Script[Floats]:
        """Return the array (B, *item) of `decode`, `reconstruct`, or `score` with a map."""
        query |= label_options(label)
        parts = yield from self._on_rows(name, version, operation, given, array_of, NPY, query)
        return np.concatenate(parts)

    def discriminate(
        self, name: str, version: Version, inputs: Any, id_name: str | None, label: RowLabel
    ) -> Script[Judgement]:
        """Return the judgement of the discriminator."""
        query, ids = label_options(label), ids_of(inputs, id_name)
        parts = yield from self._on_rows(name, version, "discriminate", inputs, judgements_of, JSON, query)
        columns = joined(parts)
        ratio = columns.get("log_density_ratio")
        return Judgement(columns["logit"], columns["probability"], ratio, *ids)

    def read(self, name: str, version: Version, inputs: Any, id_name: str | None) -> Script[Floats]:
        """Return items as the service reads them; a file is sent as it is, if the service takes such."""
        from pushforward.client.bodies import body_of_file  # few callers send files
        from pushforward.files import ItemLayout, rows_of

        deadline, body = self._sender.deadline(), body_of_file(inputs)

        def work(model: KnownModel, version: Version) -> Script[Floats]:
            if body is not None:
                path, query = operation_path(name, version, "read"), {"id": id_name}
                sent = HttpRequest(path, NPY, query, body.data, body.content_type)
                return array_of((yield from self._versions.answer_of(model, version, sent, deadline)))
            layout = ItemLayout(model.item_shape, model.columns, id_name or "", model.picture, model.classes)
            rows, size = rows_of(inputs, layout), min(map(model.limits.__getitem__, _ROWS_OF_NPY))
            request = RowsRequest("read", {}, NPY, size, array_of)
            return np.concatenate(
                (yield from self._versions.in_pieces(model, version, request, rows, deadline))
            )

        return (yield from self._versions.on_known(name, version, deadline, work))

    def interpolate(
        self, name: str, version: Version, start: Any, end: Any, steps: int, path: str | None, label: Label
    ) -> Script[Interpolation]:
        """Return the points of a path, and their latents."""
        check_options(steps=steps, path=path, label=label)
        deadline = self._sender.deadline()

        def work(model: KnownModel, version: Version) -> Script[HttpAnswer]:
            sizes, forms = (model.item_shape, model.latent_size), (model.columns, model.picture)
            ends = {
                "from": as_point(start, *sizes, "start", *forms),
                "to": as_point(end, *sizes, "end", *forms),
            }
            given = {"path": path, "label": label}
            body = {**ends, "steps": int(steps), **{key: it for key, it in given.items() if it is not None}}
            request = HttpRequest(
                operation_path(name, version, "interpolate"),
                JSON,
                {},
                json.dumps(body, default=plain_number).encode(),
                JSON,
            )
            return (yield from self._versions.answer_of(model, version, request, deadline))

        document = (yield from self._versions.on_known(name, version, deadline, work)).document()
        arrays = (np.array(document[each], np.float32) for each in ("samples", "latents"))
        return Interpolation(*arrays)

    def score(
        self,
        name: str,
        version: Version,
        inputs: Any,
        options: Mapping[str, Any],
        correction: str,
        id_name: str | None,
        label: RowLabel,
    ) -> Script[ItemScores]:
        """Return the scores of items. A correction is over all of them, whatever the number of requests."""
        check_options(**options, correction=correction)
        given, deadline, ids = label_options(label), self._sender.deadline(), ids_of(inputs, id_name)

        def work(model: KnownModel, version: Version) -> Script[ItemScores]:
            size, classes = model.most_scored(options), _with_own_labels(given, inputs, model)

            def scored(rows: Floats, correction: str, **changes: Any) -> Script[ItemScores]:
                query = {**options, **_first(classes, len(rows)), "correction": correction, **changes}
                divisible = correction == "none"
                request = RowsRequest("score", query, JSON, size, item_scores_of, divisible)
                parts = yield from self._versions.in_pieces(model, version, request, rows, deadline)
                return joined_scores(parts)

            rows = model.rows(inputs)
            _check_labels(classes, rows)
            if classes["labels"] is not None:
                size = min(size, MOST_LABELLED)
            if correction == "none":
                return (yield from scored(rows, correction))
            if len(rows) <= size:
                with suppress(DeadlineExceeded, BodyTooLarge):  # then in smaller pieces
                    return (yield from scored(rows, correction))
                self._sender.check(deadline)
            yield from scored(rows[:1], correction)  # refuses one that cannot be made, before the work
            scores = replace((yield from scored(rows, "none")), correction=correction)
            level = _level(scores)
            if not level:
                return replace(scores, threshold=None, anomaly=np.zeros(len(rows), bool))
            threshold = (yield from scored(rows[:1], "none", alpha=level)).threshold
            assert threshold is not None, "its p-values are calibrated"
            return replace(scores, threshold=threshold, anomaly=scores.surprise > threshold)

        scores = yield from self._versions.on_known(name, version, deadline, work)
        return replace(scores, ids=ids[0], id_name=ids[1])

    def _on_rows(
        self,
        name: str,
        version: Version,
        operation: str,
        given: Any,
        read: Callable[[HttpAnswer], T],
        accept: str,
        query: Mapping[str, Any],
    ) -> Script[list[T]]:
        """Return the results of an operation on rows, in order: one, unless the rows are over a limit."""
        deadline = self._sender.deadline()

        def work(model: KnownModel, version: Version) -> Script[list[T]]:
            options = query
            if operation == "decode":
                rows, size = as_rows(given, (model.latent_size,)), model.limits["npy_latents"]
            else:
                rows = model.rows(given)
                size = model.limits["npy_inputs"]
                options = _with_own_labels(query, given, model)
            if operation == "score":
                size = model.most_scored(options)
            elif accept == NPY:
                size = min(size, model.limits["npy_samples"])
            _check_labels(options, rows)
            request = RowsRequest(operation, options, accept, size, read)
            return (yield from self._versions.in_pieces(model, version, request, rows, deadline))

        return (yield from self._versions.on_known(name, version, deadline, work))


def _with_own_labels(options: Mapping[str, Any], inputs: Any, model: KnownModel) -> Mapping[str, Any]:
    """Return options with the classes that a table holds itself, unless others were given."""
    if options.get("label") is not None or options.get("labels") is not None:
        return options
    own = labels_in(inputs, model.classes)
    return options if own is None else {**options, "labels": own}


def _check_labels(options: Mapping[str, Any], rows: Floats) -> None:
    """Raise Unfit unless there are as many labels as rows, if there is one for each."""
    labels = options.get("labels")
    if labels is not None and len(labels) != len(rows):
        raise Unfit(f"{len(labels)} labels came for {len(rows)} rows; give one for each, or one for all")


def _first(options: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return the options with the labels of the first rows."""
    labels = options["labels"]
    return {**options, "labels": labels if labels is None else labels[:rows]}


def _level(scores: ItemScores) -> float:
    """Return the level of the p-values that keeps the false discovery rate; 0 if no item is to be flagged."""
    from service.numerics.calibration import false_discovery_level  # imports numpy.random, which takes long

    assert scores.p_value is not None
    return false_discovery_level(scores.p_value, scores.alpha)
