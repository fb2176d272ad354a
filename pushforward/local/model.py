"""One version in the caller's own process.

Shapes: B rows, D latent dimensions; items as the manifest says.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pushforward.checks import RowLabel, check_options, label_options, labelled_count
from pushforward.folder import Version, version_at
from pushforward.local.host import Host, Hosted
from pushforward.reading import as_point, as_rows, ids_of, labels_in
from pushforward.results import Encoding, Floats, Interpolation, ItemScores, Judgement, joined_scores
from service.api.operations import code
from service.api.operations.call import Call, Result
from service.api.operations.discriminate import discriminate
from service.api.operations.interpolate import InterpolateRequest, interpolate
from service.api.operations.labels import labels_of
from service.api.operations.options import Body, Count, RowLabelOptions, Seed
from service.api.operations.sample import SampleOptions, part_of, sample
from service.api.operations.sample import completed as completed_sampling
from service.api.operations.score import ScoreOptions, score, surprise_map
from service.api.operations.score import completed as completed_scoring
from service.api.problems import unfit
from service.format.manifest import Manifest
from service.format.versions import read_manifest
from service.media.tables.matching import ClassColumn
from service.numerics.noise import MAX_SEED
from service.observe.timing import Timing
from service.settings import Device

CHUNK_ROWS: Final = 8_192
"""Most samples, or proposals for them, that are computed in one piece."""
_CHUNK_COST: Final = 1_000_000
"""Most rows times draws of a score that are computed in one piece, whose terms are in memory together."""

AnyOptions = TypeVar("AnyOptions", bound=Body)


class _Samples(SampleOptions):
    count: Count = 1
    seed: Seed | None = None
    offset: Seed = 0


class LocalModel(Hosted):
    """One version, with the operations of the service; its answers are those of the service bit for bit.

    It is loaded at the first call of an operation. Several threads may call it, also while an event loop
    runs. As a context manager it ends its threads and frees its memory on the way out, as `close` does.

    A pickle holds the path of the folder alone. All pickles of a version become one object in a process,
    which loads it once, however many tasks bring one.

    Inputs may be an array or nested lists of B items or of one item, a table whose columns are named
    (pandas, polars), or pictures (Pillow). Errors are the classes of `service.errors`: Unfit for values that
    do not fit the version, OperationNotOffered for operations that it has no graph for.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        device: Device = "cpu",
        cores: int = 0,
        *,
        host: Host | None = None,
    ) -> None:
        """Take the folder of one version, NAME/VERSION.

        Raises:
            InvalidVersion: the manifest cannot be read.
        """
        super().__init__(folder, device, cores, host)
        self._manifest = read_manifest(self.folder)
        columns, picture = [column.model_dump() for column in self._manifest.columns], self._manifest.picture
        self._item = self._manifest.item_shape, columns, None if picture is None else picture.model_dump()

    def __repr__(self) -> str:
        return f"<{self._manifest.name} {self._manifest.version} from {self.folder}>"

    def warm_up(self) -> Self:
        """Load the version now, verified and self-tested, and return it.

        Raises:
            InvalidVersion: the version is damaged, or does not reproduce its stored example.
            ProviderUnavailable: the device is `cuda`, and CUDA cannot be used here.
        """
        self._host.loaded(self.folder)
        return self

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self._manifest.name

    @property
    def version(self) -> int:
        """Return the number of the version."""
        return self._manifest.version

    def manifest(self) -> dict[str, Any]:
        """Return the manifest as the service answers it: with the state `ready`, and the provider in use."""
        provider = self._host.loaded(self.folder).provider
        return {**self._manifest.model_dump(mode="json"), "state": "ready", "provider": provider}

    def sample(
        self,
        *,
        count: int | None = None,
        seed: int | None = None,
        offset: int = 0,
        temperature: float = 1.0,
        output: str = "mean",
        method: str = "direct",
        budget: int | None = None,
        label: RowLabel = None,
    ) -> Floats:
        """Draw the samples offset .. offset + count - 1 of a seed; without a seed, of a fresh one.

        Sample i of a seed depends on the version, the seed, the method, its class and i alone. The options
        are those of `SampleOptions`; `label` is the class of all samples or one for each, whose number
        `count` then is if it is left out.

        Returns:
            Samples, (count, *item).
        """
        count, of_class = labelled_count(count, label)
        chunks = self._chunks(
            CHUNK_ROWS,
            count=count,
            seed=seed,
            offset=offset,
            temperature=temperature,
            output=output,
            method=method,
            budget=budget,
            **of_class,
        )
        samples, done = np.empty((count, *self._manifest.item_shape), np.float32), 0
        for chunk in chunks:
            samples[done : done + len(chunk)] = chunk
            done += len(chunk)
        return samples

    def iter_samples(
        self,
        *,
        count: int,
        chunk_rows: int = CHUNK_ROWS,
        seed: int | None = None,
        offset: int = 0,
        temperature: float = 1.0,
        output: str = "mean",
        method: str = "direct",
        budget: int | None = None,
        label: RowLabel = None,
    ) -> Iterator[Floats]:
        """Yield the samples of `sample` in chunks (rows, *item), each computed when it is asked for.

        The options are checked at once, before the first chunk.
        """
        check_options(chunk_rows=chunk_rows)
        count, of_class = labelled_count(count, label)
        return self._chunks(
            chunk_rows,
            count=count,
            seed=seed,
            offset=offset,
            temperature=temperature,
            output=output,
            method=method,
            budget=budget,
            **of_class,
        )

    def _chunks(self, chunk_rows: int, **given: Any) -> Iterator[Floats]:
        """Check the options of samples, and return an iterator over these."""
        asked = _options(_Samples, **given)
        call = self._call("sample", asked)
        call.options = options = completed_sampling(
            asked, asked.offset, asked.count, call.loaded, call.settings
        )
        chosen = secrets.randbelow(MAX_SEED + 1) if options.seed is None else options.seed
        rows = max(1, chunk_rows // (options.budget or 1))

        def chunk(start: int) -> Floats:
            size = min(rows, options.count - start)
            part = sample(part_of(call, start, size), chosen, options.offset + start, size)
            return _array(self._host.run(part), "samples")

        return map(chunk, range(0, options.count, rows))

    def interpolate(
        self,
        start: Any,
        end: Any,
        *,
        steps: int = 8,
        path: str | None = None,
        label: int | str | None = None,
    ) -> Interpolation:
        """Return the items on a path through the latent space, which includes both ends exactly.

        An end is a pair (seed, index), which stands for a sample; D numbers, a latent; or an item to encode.
        `{"seed": 7, "index": 0}`, `{"latent": ...}` or `{"input": ...}` says which it is.

        Args:
            start: The first point of the path.
            end: The last point of the path.
            steps: Number of points on the path, at least 2.
            path: `spherical` (if left out), along the great circle, or `linear`.
            label: The class, for versions with a class condition.
        """
        ends = {"from": self._point(start, "start"), "to": self._point(end, "end")}
        named = {} if path is None else {"path": path}
        options = _options(InterpolateRequest, **ends, steps=steps, label=label, **named)
        result = self._host.run(interpolate(self._call("interpolate", options)))
        return Interpolation(_array(result, "samples"), _array(result, "latents"))

    def read(self, inputs: Any, *, id: str | None = None) -> Floats:
        """Return items as the version takes them, (B, *item): those of a file by its path, or of the caller.

        `id` names a column of the file that the model does not know, and that is left out.
        """
        from pushforward.files import ItemLayout, rows_of  # few callers bring files

        shape, columns, picture = self._item
        return rows_of(inputs, ItemLayout(shape, columns, id or "", picture))

    def encode(self, inputs: Any, *, id: str | None = None, label: RowLabel = None) -> Encoding:
        """Return the posteriors of B items; a GAN's encoder gives latents without a variance.

        `label`, here and below, is the class of all rows, or one for each, for versions with a class
        condition. `id` names a column of a table that tells its rows apart, and that the model does not know.
        """
        ids = ids_of(inputs, id)
        call = self._call("encode", self._labelled(label, inputs), inputs=inputs)
        result = self._host.run(code.encode(call))
        return Encoding(_array(result, "mean"), result.arrays["log_variance"], *ids)

    def decode(self, latents: Any, *, label: RowLabel = None) -> Floats:
        """Return the items (B, *item) at latents (B, D)."""
        call = self._call("decode", self._labelled(label), latents=latents)
        result = self._host.run(code.decode(call))
        return _array(result, "samples")

    def reconstruct(self, inputs: Any, *, label: RowLabel = None) -> Floats:
        """Return the items (B, *item) decoded from their own encodings, in their order and without ids."""
        call = self._call("reconstruct", self._labelled(label, inputs), inputs=inputs)
        result = self._host.run(code.reconstruct(call))
        return _array(result, "reconstructions")

    def score(
        self,
        inputs: Any,
        *,
        statistic: str | None = None,
        draws: int | None = None,
        seed: int | None = None,
        alpha: float | None = None,
        correction: str = "none",
        id: str | None = None,
        columns: bool = False,
        label: RowLabel = None,
    ) -> ItemScores:
        """Score B items by bounds on log p(x), deterministic statistics or distances, with p-values.

        The options are those of `ScoreOptions`. Those left out have the values in the manifest. `id` names a
        column of a table that tells its rows apart, and that the model does not know: the scores' `ids`.
        """
        asked = {
            "statistic": statistic,
            "draws": draws,
            "seed": seed,
            "alpha": alpha,
            "correction": correction,
            "columns": columns,
            **self._classes(label, inputs),
        }
        ids = ids_of(inputs, id)
        call = self._call("score", _options(ScoreOptions, **asked), inputs=inputs)
        items = call.items()  # all of them are checked, so that an error names the right rows
        draws = completed_scoring(call.options, self._manifest).draws or 1
        # a correction is for all items together
        rows = len(items) if correction != "none" else max(1, _CHUNK_COST // draws)
        labels_of(self._manifest, call.options, len(items))  # and all labels
        labels, parts = call.options.labels, []
        for first in range(0, len(items), rows):
            call.arrays = {"inputs": items[first : first + rows]}
            if labels is not None:
                call.options = call.options.model_copy(update={"labels": labels[first : first + rows]})
            parts.append(_scores(self._host.run(score(call)), self._manifest))
        return replace(joined_scores(parts), ids=ids[0], id_name=ids[1])

    def surprise_map(self, inputs: Any, *, label: RowLabel = None) -> Floats:
        """Return how surprising each value of B items is at the posterior mean, (B, *item) in nats."""
        options = _options(ScoreOptions, map=True, **self._classes(label, inputs))
        return self._host.run(surprise_map(self._call("score", options, inputs=inputs)))

    def discriminate(self, inputs: Any, *, id: str | None = None, label: RowLabel = None) -> Judgement:
        """Return the judgement of a GAN's discriminator on B items."""
        ids = ids_of(inputs, id)
        call = self._call("discriminate", self._labelled(label, inputs), inputs=inputs)
        result = self._host.run(discriminate(call))
        ratio = result.arrays["log_density_ratio"]
        return Judgement(_array(result, "logit"), _array(result, "probability"), ratio, *ids)

    def _labelled(self, label: RowLabel, inputs: Any = None) -> RowLabelOptions:
        return _options(RowLabelOptions, **self._classes(label, inputs))

    def _classes(self, label: RowLabel, inputs: Any) -> dict[str, Any]:
        """Return the options of a class for all rows or one for each, else those that a table holds."""
        given, manifest = label_options(label), self._manifest
        if label is None and manifest.label_column is not None:
            given["labels"] = labels_in(inputs, ClassColumn(manifest.label_column, manifest.class_names))
        return given

    def _call(self, operation: str, options: AnyOptions, **given: Any) -> Call[AnyOptions]:
        """Return the call of an operation that the version offers, with its inputs or latents as arrays."""
        loaded = self._host.loaded(self.folder)
        loaded.manifest.require(operation)
        arrays = {}
        for name, rows in given.items():
            sizes = ((self._manifest.latent_size,),) if name == "latents" else self._item
            arrays[name] = as_rows(rows, *sizes)
        return Call(loaded, options, arrays, self._host.settings, Timing())

    def _point(self, end: Any, name: str) -> dict[str, Any]:
        shape, columns, picture = self._item
        return as_point(end, shape, self._manifest.latent_size, name, columns, picture)


def load(
    folder: str | os.PathLike[str], *, version: Version = None, device: Device = "cpu", cores: int = 0
) -> LocalModel:
    """Load a version into this process, verified and self-tested.

    Args:
        folder: The folder of a version, NAME/VERSION, or of a model, NAME.
        version: A number or an alias, if the folder is that of a model; without it, the version is the one
            that a service would answer with: the champion, or else the newest.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        cores: Cores to compute with; 0 means all that the process may use.

    Raises:
        UnknownModel, UnknownVersion: there is no such version.
        InvalidVersion: the version is damaged, or does not reproduce its stored example.
        ProviderUnavailable: the device is `cuda`, and CUDA cannot be used here.
    """
    return LocalModel(version_at(Path(os.path.abspath(folder)), version), device, cores).warm_up()


def _options(kind: type[AnyOptions], **values: Any) -> AnyOptions:
    """Return checked options; numbers of numpy are taken too. Raise Unfit as the service does."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    labels = plain.pop("labels", None)  # checked already, and as many as there are rows
    try:
        options = kind.model_validate(plain)
    except ValidationError as error:
        raise unfit(error, "the call", kind) from error
    return options if labels is None else options.model_copy(update={"labels": labels})


def _array(result: Result, name: str) -> NDArray[Any]:
    array = result.arrays[name]
    assert array is not None, f"every version that is asked for {name} has them"
    return array


def _scores(result: Result, manifest: Manifest) -> ItemScores:
    """Return a result as scores; columns that the version lacks are left out."""
    arrays = {name: array for name, array in result.arrays.items() if array is not None}
    single = arrays.pop("columns", None)
    return ItemScores(
        surprise=arrays.pop("surprise"),
        p_value=arrays.pop("p_value", None),
        anomaly=arrays.pop("anomaly", None),
        columns=arrays,
        column_p_values=None
        if single is None
        else {column.name: single[:, place] for place, column in enumerate(manifest.columns)},
        **result.fields,
    )
