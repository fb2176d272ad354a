"""The work of the commands that use a model: read files, run an operation, write or show the result.

Shapes: B rows of items, whose shape the model's manifest gives; D latent dimensions.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from pushforward.checks import labelled_count
from pushforward.command import output, people
from pushforward.command.output import Destination, ItemsResult, Table, destination
from pushforward.command.target import Backend, Model, find_model, open_backend
from pushforward.display import named_table, whole_columns
from pushforward.files import STDIN, Inputs, ItemLayout, read_inputs
from pushforward.results import SCORE_FIELDS, Floats, draws_of, joined_scores, most_draws
from service.errors import ServiceError, Unfit, UnknownModel
from service.format.manifest import is_picture
from service.media.pictures import heat_of
from service.media.tables.matching import ClassColumn, numbers_by_label
from service.media.tables.writing import numbered_columns
from service.numerics.noise import MAX_SEED
from training.loop.progress import passing_counter

CHUNK_ROWS: Final = 1_024
"""Most rows of one call, after which the progress is shown. With more than 8 draws a row they are fewer."""
_MOST_ACROSS: Final = 16


class OutputOptions(NamedTuple):
    """The options on the output: `--out`, `--as` and `--scale`."""

    out: str | None
    form: str | None
    scale: int | None = None


@contextmanager
def use(
    name: str, version: str | None, url: str, local: str | None, key: str | None
) -> Iterator[ModelCommand]:
    """Find a version of a service or of a folder, and use it for a command."""
    with _opened(url, local, key) as backend:
        yield ModelCommand(backend, find_model(backend, name, version))


def list_models(url: str, local: str | None, key: str | None, out: str | None, form: str | None) -> None:
    """Write the catalogue: a table with the lists in its cells as text, or the whole in JSON."""
    where = destination(out, form, text="csv", forms=output.TABLE_FORMATS)
    with _opened(url, local, key) as backend:
        entries = backend.models()
        if not entries:
            raise UnknownModel("there are no models" + (f" in {local}" if local else " on the service"))
        if where.for_people:
            people.show_models(entries)
        elif where.form == "json":
            output.write_document(where, {"models": entries})
        else:
            table = {name: np.array([_text(entry[name]) for entry in entries]) for name in entries[0]}
            output.write_table(where, table, {}, "models")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


@contextmanager
def _opened(url: str, local: str | None, key: str | None) -> Iterator[Backend]:
    backend = open_backend(url, local, key)
    try:
        yield backend
    except BrokenPipeError:  # the reader has what it wanted, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at its end
        raise typer.Exit(1) from None
    finally:
        backend.close()


@dataclass(frozen=True, slots=True)
class ModelCommand:
    """One version, for one command; every call of the command is answered by this version."""

    backend: Backend
    model: Model

    def put_manifest(self, out: str | None, form: str | None) -> None:
        """Write the manifest."""
        where = destination(out, form, text="json", forms=("json",))
        if where.for_people:
            people.show_model(self.model)
        else:
            output.write_document(where, self.model.manifest)

    def read(
        self, files: Sequence[str], form: str | None, *, latents: bool = False, id_name: str | None = None
    ) -> Inputs:
        """Read the items of files, or latents, and the column of ids of tables; say what was left out."""
        model = self.model
        classes = ClassColumn.of(model.manifest)
        layout = ItemLayout(model.item_shape, model.columns, id_name or "", model.picture, classes)
        if latents:
            layout = ItemLayout((model.latent_size,))
        inputs = read_inputs(files, layout, form or "")
        for note in inputs.notes:
            people.say(note)
        return inputs

    def show(self, files: Sequence[str], id_name: str | None, wanted: OutputOptions) -> None:
        """Write the items of files as the backend reads them; a service gets the files unchanged."""
        where = self._destination(wanted)
        read = partial(self.backend.read, self.model.name, id=id_name, version=self.model.version)
        parts = []
        for file in files:
            try:
                parts.append(read(file))
            except ServiceError as error:
                if file not in error.detail:
                    error.detail = f"{file}: {error.detail}"
                raise
        items = np.concatenate(parts)
        title = f"{people.counted(len(items), 'item')} as {self.model} takes them"
        self._put(where, ItemsResult([items], len(items), title, "inputs"), wanted.scale)

    def sample(
        self,
        count: int | None,
        seed: int | None,
        offset: int,
        options: Mapping[str, Any],
        label: str | list[str] | None,
        wanted: OutputOptions,
    ) -> None:
        """Draw samples and write them; npy, CSV and Parquet as they are computed."""
        where = self._destination(wanted)
        if count is None and not isinstance(label, list):
            fills_plane = self.model.is_plane and where.form == "png"
            count = min(output.MOST_PICTURES, MAX_SEED + 1 - offset) if fills_plane else 1
        count, _ = labelled_count(count, label)
        output.check_pictures(where, count)
        is_fresh = seed is None
        seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
        chunks = self.backend.iter_samples(
            self.model.name,
            count=count,
            seed=seed,
            offset=offset,
            chunk_rows=CHUNK_ROWS,
            label=label,
            version=self.model.version,
            **options,
        )
        if is_fresh:
            people.say(f"the seed is {seed}")
        fields = {"seed": seed, "offset": offset, "method": options["method"]}
        title = f"{people.counted(count, 'sample')} of {self.model}, seed {seed}"
        places = partial(self._classes_of_samples, label, offset, where)
        chunks = _with_progress(chunks, "sample", count)
        whole = whole_columns(self.model.columns) if options["output"] == "draw" else ()
        drawn = ItemsResult(chunks, count, title, "samples", fields, places=places, whole=whole)
        self._put(where, drawn, wanted.scale)

    def interpolate(
        self, start: str, end: str, steps: int, path: str, label: str | None, wanted: OutputOptions
    ) -> None:
        """Decode a path between two points and write its items."""
        where = self._destination(wanted)
        ends = self._point(start), self._point(end)
        walk = self.backend.interpolate(
            self.model.name, *ends, steps=steps, path=path, label=label, version=self.model.version
        )
        title = f"{steps} points of {self.model}"
        others = {"latents": walk.latents}
        across = min(steps, _MOST_ACROSS)
        drawn = ItemsResult([walk.samples], steps, title, "samples", others=others, across=across)
        self._put(where, drawn, wanted.scale)

    def reconstruct(self, inputs: Inputs, label: str | None, wanted: OutputOptions, *, beside: bool) -> None:
        """Reconstruct items and write the reconstructions, in pictures perhaps beside the items.

        Raises:
            Unfit: `beside` is asked for where there is no picture.
        """
        where = self._destination(wanted)
        if beside and not (where.form == "png" or where.for_people):
            raise Unfit(
                f"--beside is for pictures; the output is {where.form}: write a .png, or leave it out"
            )
        items = np.concatenate(self._in_parts("reconstruct", inputs.rows, label=_classes(label, inputs)))
        across = None
        if beside:
            items = np.stack([inputs.rows, items], axis=1).reshape(-1, *self.model.item_shape)
            across = 2 * max(1, round((len(inputs.rows) / 2) ** 0.5))
        title = f"{people.counted(len(inputs.rows), 'reconstruction')} by {self.model}"
        names = {} if beside else inputs.names

        def places(first: int, last: int) -> Table:
            return {name: values[first:last] for name, values in names.items()}

        made = ItemsResult([items], len(items), title, "reconstructions", places=places, across=across)
        self._put(where, made, wanted.scale)

    def encode(self, inputs: Inputs, label: str | None, wanted: OutputOptions) -> None:
        """Encode items and write the encodings."""
        where = destination(wanted.out, wanted.form, text="csv", forms=output.TABLE_FORMATS)
        parts = self._in_parts("encode", inputs.rows, label=_classes(label, inputs))
        arrays = {"mean": np.concatenate([part.mean for part in parts])}
        if parts[0].log_variance is not None:
            arrays["log_variance"] = np.concatenate([part.log_variance for part in parts])
        if where.for_people:
            table = {**inputs.names, **numbered_columns(arrays)}
            people.show_items(table, f"{people.counted(len(inputs.rows), 'encoding')} by {self.model}")
        else:
            output.write_arrays(where, arrays, self.model.identity, inputs.names)

    def decode(self, latents: Inputs, label: str | None, wanted: OutputOptions) -> None:
        """Decode latents (B, D) and write the items."""
        where = self._destination(wanted)
        items = np.concatenate(self._in_parts("decode", latents.rows, label=label))
        title = f"{people.counted(len(items), 'item')} of {self.model}"
        self._put(where, ItemsResult([items], len(items), title, "samples"), wanted.scale)

    def score(
        self,
        inputs: Inputs,
        options: Mapping[str, Any],
        top: int | None,
        wanted: OutputOptions,
        map_output: OutputOptions | None,
        *,
        overlay: bool = False,
    ) -> None:
        """Score items and write the scores, and perhaps maps of the surprise, which are coloured in pictures.

        If only some scores are shown, these are the most surprising ones.
        """
        map_to = None
        if overlay and map_output is None:
            raise Unfit("--overlay lays a map over the items; name the file of the map by --map")
        if map_output is not None:
            forms = output.FORMATS if is_picture(self.model.item_shape) else output.TABLE_FORMATS
            map_to = destination(map_output.out, None, text="json", forms=forms)
        where = destination(wanted.out, wanted.form, text="csv", forms=output.TABLE_FORMATS)
        if where.for_people and {options[name] for name in ("statistic", "draws", "seed")} == {None}:
            # it shows no bounds beside the version's statistic, and their draws would take most of the time
            options = {**options, "statistic": (self.model.manifest["defaults"] or {}).get("statistic")}
        draws = draws_of(options["statistic"], options["draws"], most_draws(self.model.manifest))
        size = max(1, min(CHUNK_ROWS, 8 * CHUNK_ROWS // draws))
        if options["correction"] != "none":
            size = len(inputs.rows)  # which are corrected together
        columns = where.for_people and "columns" in self.model.manifest["graphs"]
        label = _classes(options["label"], inputs)
        options = {**options, "columns": options["columns"] or columns, "label": label}
        scores = joined_scores(self._in_parts("score", inputs.rows, size, **options))
        how = {name: getattr(scores, name) for name in SCORE_FIELDS}
        title = people.title_of(scores, str(self.model))
        self._put_rows(where, inputs, scores.table(), -scores.surprise, top, title, how)
        if map_output is not None and map_to is not None:
            maps = np.concatenate(self._in_parts("surprise_map", inputs.rows, label=label))
            if map_to.form == "png":
                beneath = inputs.rows if overlay else None
                maps = heat_of(maps, self.model.manifest.get("map_scale"), beneath)
            self._put(map_to, ItemsResult([maps], len(maps), "", "map"), map_output.scale)

    def discriminate(self, inputs: Inputs, top: int | None, label: str | None, wanted: OutputOptions) -> None:
        """Judge items and write the judgements; the least real ones first if only some are shown."""
        where = destination(wanted.out, wanted.form, text="csv", forms=output.TABLE_FORMATS)
        parts = self._in_parts("discriminate", inputs.rows, label=_classes(label, inputs))
        arrays = {
            name: np.concatenate(columns)
            for name, columns in zip(parts[0]._fields, zip(*parts, strict=True), strict=True)
            if columns[0] is not None
        }
        title = f"{people.counted(len(inputs.rows), 'item')} judged by {self.model}, the least real first"
        self._put_rows(where, inputs, arrays, arrays["logit"], top, title, {})

    def _destination(self, wanted: OutputOptions) -> Destination:
        """Return the destination of items, whose text is CSV if they are rows of numbers, else JSON."""
        text = "csv" if len(self.model.item_shape) == 1 else "json"
        forms = output.FORMATS if self.model.is_shown else output.TABLE_FORMATS
        return destination(wanted.out, wanted.form, text=text, forms=forms)

    def _classes_of_samples(
        self, label: str | list[str] | None, offset: int, where: Destination, first: int, last: int
    ) -> Table:
        """Return the names of the classes of samples, those of the rows first .. last - 1, if there are any.

        They are under the name of their column, or `labels` in JSON and npz, whose fields have names of their
        own.
        """
        manifest = self.model.manifest
        if not self.model.is_conditional:
            return {}
        names, places = np.array(manifest["class_names"]), numbers_by_label(tuple(manifest["class_names"]))
        if label is None:  # the classes come in turn
            column = names[np.arange(offset + first, offset + last) % len(names)]
        else:  # the backend refuses classes that there are not
            given = [
                places.get(each, 0) for each in (label[first:last] if isinstance(label, list) else [label])
            ]
            column = np.broadcast_to(names[given], last - first)
        if where.form in ("json", "npz"):
            return {"labels": column}
        return {manifest.get("label_column") or "label": column}

    def _point(self, text: str) -> Any:
        """Return the end of a path: SEED, SEED:INDEX, or the path of a file with one item or latent."""
        seed, colon, index = text.partition(":")
        if seed.isdecimal() and (index.isdecimal() or not colon):
            return int(seed), int(index or 0)
        if text != STDIN and not os.path.exists(text):
            raise Unfit(f"{text} is no point: wanted SEED, SEED:INDEX, or a file, and there is no such file")
        model = self.model
        layout = ItemLayout(model.item_shape, model.columns, picture=model.picture)
        try:
            field, rows = "input", read_inputs([text], layout).rows
        except Unfit as error:
            try:
                field, rows = "latent", read_inputs([text], ItemLayout((model.latent_size,))).rows
            except Unfit:
                raise error from None
        if len(rows) != 1:
            raise Unfit(f"{text}: a point is one item or latent; {len(rows)} came")
        return {field: rows[0]}

    def _in_parts(self, operation: str, rows: Floats, size: int = CHUNK_ROWS, **options: Any) -> list[Any]:
        """Return the results of an operation on rows (B, ...) in parts, with a progress bar."""
        label = options.pop("label", None)
        call = partial(
            getattr(self.backend, operation), self.model.name, version=self.model.version, **options
        )
        pieces = (rows[first : first + size] for first in range(0, len(rows), size))
        results: list[Any] = []
        for piece in _with_progress(pieces, operation, len(rows), size):
            first = len(results) * size
            try:
                of_piece = label if not isinstance(label, list) else label[first : first + size]
                results.append(call(piece, label=of_piece))
            except ServiceError as error:
                error.flaws = tuple(flaw.after(first) for flaw in error.flaws)
                raise
        return results

    def _put(self, where: Destination, result: ItemsResult, scale: int | None) -> None:
        """Write items, or show them in a terminal."""
        if not where.for_people:
            output.write_items(where, result, self.model, scale)
            return
        items = np.concatenate(list(result.chunks))
        if not people.show_pictures(items, result.title):
            table = named_table(items, self.model.columns, result.whole)
            people.show_items({**result.places(0, result.count), **table}, result.title)

    def _put_rows(
        self,
        where: Destination,
        inputs: Inputs,
        columns: Table,
        order: NDArray[Any],
        top: int | None,
        title: str,
        fields: Mapping[str, Any],
    ) -> None:
        """Write or show a table with a row for each item; `order` (B,) puts the rows to show first."""
        table = {**inputs.places, **columns}
        first = np.argsort(order, kind="stable")[: top or people.TOP_ROWS]
        if where.for_people:
            people.show_verdicts(inputs.places, columns, title, first)
            return
        if top is not None:
            table = {name: values[first] for name, values in table.items()}
        output.write_table(where, table, {**self.model.identity, **fields}, "scores")


def classes_of(label: str | None, labels: str | None) -> str | list[str] | None:
    """Return the class of all samples or of each, by the options `--label` and `--labels`."""
    if label is not None and labels is not None:
        raise Unfit("--label is for all samples, --labels has one for each; give one of the two")
    return label if labels is None else [each.strip() for each in labels.split(",")]


def _classes(label: str | None, inputs: Inputs) -> str | list[int] | None:
    """Return the class of all rows, if one was given; else those that their tables hold."""
    return inputs.labels if label is None else label


def _with_progress(
    chunks: Iterable[Floats], operation: str, rows: int, size: int = CHUNK_ROWS
) -> Iterator[Floats]:
    """Yield chunks of `size` of all `rows`, with a progress bar if there are several."""
    if rows <= size:
        yield from chunks
        return
    with passing_counter(operation.replace("_", " "), rows) as done:
        for chunk in chunks:
            yield chunk
            done(len(chunk))
