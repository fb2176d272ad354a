"""The operations of bulk work: those of the service, called without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.rows import RowForm, items_of, labelled_items_of, latents_of
from service.api.operations import code, sample, score
from service.api.operations.call import Call, Result
from service.api.operations.labels import labels_of_samples, numbered
from service.api.operations.options import Body, RowLabelOptions
from service.errors import Unfit
from service.format.manifest import Manifest
from service.format.specs import GraphName
from service.format.statistics import Bound
from service.format.versions import read_manifest
from service.numerics.noise import Floats
from service.observe.timing import Timing
from service.runtime.loader import load
from service.runtime.session import Provider
from service.settings import Settings

Operation = Literal["score", "sample", "encode", "reconstruct", "decode"]
_OPTIONS: Final[Mapping[Operation, type[Body]]] = {
    "score": score.ScoreOptions,
    "sample": sample.SampleOptions,
    "encode": RowLabelOptions,
    "reconstruct": RowLabelOptions,
    "decode": RowLabelOptions,
}
_COLUMNS: Final = {"samples": "sample", "reconstructions": "sample"}
"""Names of columns that differ from the operation's arrays."""
_LEFT_OUT: Final = {"reconstruct": ("latents",), "sample": ("latents",)}
_UNBOUNDED: Final = 2**50


def form_of(operation: Operation, options: Body, manifest: Manifest) -> RowForm | None:
    """Return the rows that an operation takes; None for `sample`."""
    if operation == "sample":
        return None
    if operation == "decode":
        return latents_of(manifest)
    return labelled_items_of(manifest) if _reads_classes(operation, options, manifest) else items_of(manifest)


def _reads_classes(operation: Operation, options: Body, manifest: Manifest) -> bool:
    """Return True if the class of each row is in a column of the input: no class came for all of them."""
    takes_items = operation not in ("sample", "decode")
    assert isinstance(options, RowLabelOptions), "every operation of bulk work may be of a class"
    return takes_items and options.label is None and manifest.label_column is not None


def typed_options(operation: Operation, given: Mapping[str, Any]) -> Body:
    """Return the options as the operation's own model checks them. Raises BulkMistake if they do not fit."""
    try:
        return _OPTIONS[operation].model_validate(given)
    except ValidationError as error:
        flaw = error.errors(include_url=False)[0]
        raise BulkMistake(f"{'.'.join(map(str, flaw['loc']))}: {flaw['msg']}") from error


def completed_options(operation: Operation, options: Body, manifest: Manifest) -> dict[str, Any]:
    """Return all options of an operation, with the version's defaults for those left out.

    Raises:
        service.errors.Unfit: the version lacks the statistic, or the statistic has no draws.
    """
    of_class = _of_class(operation, options, manifest)
    if isinstance(options, score.ScoreOptions):
        completed = score.completed(options, manifest).model_dump(mode="json") | of_class
        return {**completed, "columns": True} if options.columns else completed
    completed = options.model_dump(mode="json", exclude={"label", "labels"}) | of_class
    if isinstance(options, sample.SampleOptions) and options.method != "direct" and options.budget is None:
        completed["budget"] = sample.DEFAULT_BUDGET
    return completed


def _of_class(operation: Operation, options: Body, manifest: Manifest) -> dict[str, Any]:
    """Return what says of which class the rows are: nothing of samples of all classes in turn.

    Raises:
        service.errors.Unfit: the version needs a class and none came, or it has no such class, or takes none.
    """
    assert isinstance(options, RowLabelOptions), "every operation of bulk work may be of a class"
    if _reads_classes(operation, options, manifest):
        return {"label_column": manifest.label_column}
    if operation == "sample" and options.label is None and options.labels is None:
        return {}
    by_number = numbered(manifest, options, len(options.labels or ()))
    return by_number.model_dump(include={"label", "labels"}, exclude_none=True)


def _graphs_of(operation: Operation, options: Body, manifest: Manifest) -> set[GraphName]:
    """Return the graphs that an operation needs with these options; each takes a part of the start.

    Raises:
        service.errors.Unfit: the version lacks the statistic, or the statistic has no draws.
    """
    if isinstance(options, sample.SampleOptions):
        chosen: GraphName = "decode" if options.method == "direct" else "generate_scored"
        return {"decode", "draw", chosen} if options.output == "draw" else {"decode", chosen}
    if isinstance(options, score.ScoreOptions):
        how = score.completed(options, manifest)
        needed: Mapping[GraphName, bool] = {
            "score": how.draws is not None,
            "statistics": how.statistic not in get_args(Bound),
            "columns": bool(options.columns),
        }
        return {graph for graph, is_needed in needed.items() if is_needed}
    if operation == "reconstruct":
        return {"encode", "decode"}
    return {"encode" if operation == "encode" else "decode"}


def row_cost(completed: Mapping[str, Any]) -> int:
    """Return the draws or proposals of a row."""
    return completed.get("draws") or completed.get("budget") or 1


class Operator:
    """A loaded version in this process, and one of its operations with options.

    Its batches have the size and order of the service's, and are computed in this thread: a process uses one
    core.
    """

    def __init__(
        self, folder: Path, provider: Provider, operation: Operation, options: Body, seed: int | None
    ) -> None:
        """Load the version and check the options.

        Raises:
            service.errors.ServiceError: the version cannot be loaded, or does not offer this.
        """
        # the limits of requests bound what a client may ask for at once, not the rows of a file; and the
        # environment variables of a service must not change what is written
        limits: dict[str, Any] = dict.fromkeys(
            ("max_waiting_rows", "max_score_cost", "max_count", "max_proposals"), _UNBOUNDED
        )
        self._settings = Settings.model_construct(processes=1, cores=1, lanes=1, device=provider, **limits)
        self._operation, self._options, self._seed = operation, options, seed
        graphs = _graphs_of(operation, options, read_manifest(folder))
        self._loaded = load(folder, provider, self._settings, graphs=graphs)
        self._loaded.manifest.require(operation)
        self._labelled = _reads_classes(operation, options, self._loaded.manifest)
        if isinstance(options, sample.SampleOptions):
            count = 1 if options.labels is None else len(options.labels)
            self._options = sample.completed(options, 0, count, self._loaded, self._settings)
        if isinstance(options, score.ScoreOptions):
            self._loaded.scorer.check(score.completed(options, self._loaded.manifest), options.correction)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Close the event loop, which otherwise complains at the end of the process."""
        self._loop.close()

    def rows(self, inputs: Floats) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        """Compute rows (B, ...): the columns of the output, and values that hold for all rows.

        Raises:
            service.errors.ServiceError: the rows do not fit the model, or the computation failed.
        """
        return self._columns(self._loop.run_until_complete(self._called(inputs)))

    def samples(self, offset: int, rows: range) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        """Draw the samples of these rows, row 0 being the sample `offset`: the columns of the output."""
        options, start, count = self._options, offset + rows.start, len(rows)
        assert isinstance(options, sample.SampleOptions), "these are samples"
        if options.labels is not None:
            in_turn = [options.labels[row % len(options.labels)] for row in rows]
            options = options.model_copy(update={"labels": in_turn})
        call = Call(self._loaded, options, {}, self._settings, Timing())
        assert self._seed is not None, "sampling has a seed"
        columns, _ = self._columns(
            self._loop.run_until_complete(sample.sample(call, self._seed, start, count))
        )
        manifest = self._loaded.manifest
        labels = labels_of_samples(manifest, call.options, range(start, start + count))
        if labels is not None:
            names = np.array(manifest.class_names)
            columns = {"label": names[np.broadcast_to(labels, count)], **columns}
        return columns, {}  # rates of acceptance are of these samples alone

    async def _called(self, inputs: Floats) -> Result:
        array = "latents" if self._operation == "decode" else "inputs"
        options = self._options
        if self._labelled:
            inputs, classes = map(np.ascontiguousarray, np.split(inputs, [self._loaded.item_size], axis=1))
            if np.isnan(classes).any():
                raise Unfit(
                    f"row {int(np.isnan(classes).any(1).argmax())} has no class; give it one, or leave it out"
                )
            options = options.model_copy(update={"labels": classes.argmax(1).tolist()})
        call: Call[Any] = Call(self._loaded, options, {array: inputs}, self._settings, Timing())
        if self._operation == "score":
            return await score.score(call)
        if self._operation == "encode":
            return await code.encode(call)
        return await (code.decode(call) if self._operation == "decode" else code.reconstruct(call))

    def _columns(self, result: Result) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
        left_out = _LEFT_OUT.get(self._operation, ())
        columns = {
            _COLUMNS.get(name, name): array
            for name, array in result.arrays.items()
            if array is not None and name not in left_out
        }
        return columns, result.fields
