"""Sampling the prior: every sample kept, or chosen among proposals by the discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field

from service.api.operations.call import Call, Result
from service.api.operations.labels import labels_of_samples, numbered
from service.api.operations.options import Count, Label, Labels, RowLabelOptions
from service.errors import LimitExceeded, Unfit
from service.numerics import noise
from service.numerics.noise import Integers
from service.runtime.filtered_sampling import joined
from service.runtime.model import LoadedModel
from service.settings import Settings

DEFAULT_BUDGET: Final = 16
END: Final = noise.MAX_SEED + 1
"""The number after that of the last sample of a seed."""


class SampleOptions(RowLabelOptions):
    """Options of sampling."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"method": {"const": "direct"}}},
            "then": {"properties": {"budget": {"type": "null"}}},
            "else": {"properties": {"temperature": {"const": 1}}},
        }
    )
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Factor on the prior's standard deviation: below 1 for typical samples, above 1 for unusual ones."""
    output: Literal["mean", "draw"] = "mean"
    """`mean`: the likelihood's mean. `draw`: a random draw from the likelihood (VAE), or the same sample (GAN
    of a table); numbers of a table are rounded to the `decimals` of their column, in its `value_range`."""
    method: Literal["direct", "rejection", "resample", "metropolis"] = "direct"
    """`direct` pushes the prior forward and keeps every sample. The other methods choose each sample among
    its own proposals by the discriminator's logit (GAN): `rejection` takes the first accepted one,
    `resample` one by importance, `metropolis` the last accepted one of a chain that starts at a real item."""
    budget: Count | None = None
    """Proposals per sample; null means 16. Not for `direct`."""
    label: Label | None = None
    """The class of all samples, for versions with a class condition: a number from 0, or else one of
    `class_names`. Without `label` and `labels` the classes come in turn: sample i has class i modulo the
    number of classes."""
    labels: Labels | None = None
    """The class of each sample, instead of `label`: a list in JSON; in a query string and in `/v2` a
    text with commas between the labels."""


AnyOptions = TypeVar("AnyOptions", bound=SampleOptions)


def beyond_last(start: int, count: int) -> Unfit:
    """Return the error for samples start .. start + count - 1 that end after `END`."""
    return Unfit(
        f"`offset` {start} and `count` {count} end at sample {start + count - 1}; the last one has the "
        f"number 2^53 - 1, {noise.MAX_SEED}"
    )


def completed(
    options: AnyOptions, start: int, count: int, loaded: LoadedModel, settings: Settings
) -> AnyOptions:
    """Return the options with their budget filled in and labels as numbers, checked before any work.

    The samples are those numbered start .. start + count - 1.

    Raises:
        OperationNotOffered: the version has no discriminator to choose by.
        LimitExceeded: too many samples or proposals.
        Unfit: options that exclude each other, or samples beyond the last number.
    """
    if start + count > END:
        raise beyond_last(start, count)
    if count > settings.max_count:
        raise LimitExceeded(f"count is {count}, at most {settings.max_count} are taken")
    if options.label is not None or options.labels is not None:  # by numbers, so that the entity tag is one
        options = numbered(loaded.manifest, options, count)
    if options.method == "direct":
        if options.budget is not None:
            raise Unfit("`budget` is for the methods rejection, resample and metropolis; leave it out")
        return options
    loaded.filter(options.method)
    if options.temperature != 1.0:
        raise Unfit(
            f"`temperature` is {options.temperature:g}; the method {options.method} takes 1 alone, since the "
            "discriminator was calibrated for samples of the prior as it is"
        )
    if options.output != "mean" and not loaded.generates_rows:
        raise Unfit(f"the output `draw` is for the method direct; {options.method} takes `mean`")
    budget = options.budget or DEFAULT_BUDGET
    if budget > settings.max_budget:
        raise LimitExceeded(f"budget is {budget}, at most {settings.max_budget} are taken")
    if count * budget > settings.max_proposals:
        raise LimitExceeded(
            f"{count} samples of {budget} proposals are {count * budget}, over the limit of "
            f"{settings.max_proposals} a request; ask for fewer samples or a smaller budget"
        )
    return options.model_copy(update={"budget": budget})


def part_of(call: Call[AnyOptions], first: int, count: int) -> Call[AnyOptions]:
    """Return the call of `count` samples of a call from its row `first` on: with the labels of these."""
    if call.options.labels is None:
        return call
    labels = call.options.labels[first : first + count]
    return replace(call, options=call.options.model_copy(update={"labels": labels}))


async def sample(
    call: Call[AnyOptions], seed: int, start: int, count: int, *, admitted: bool = False
) -> Result:
    """Return the samples start .. start + count - 1 of a seed, (B, *item), by completed options.

    Samples that were chosen come with their latents (B, D) and the fields of `SampleAnswer` on the choice.
    `admitted` samples belong to an answer that has begun: a full queue does not refuse them.
    """
    options = call.options
    labels = labels_of_samples(call.loaded.manifest, options, range(start, start + count))
    if options.method != "direct":
        return await _filtered(call, options, [(seed, start, count)], labels, admitted=admitted)
    samples = await call.loaded.sample(
        seed,
        start,
        count,
        options.temperature,
        options.output,
        call.timing,
        labels=labels,
        admitted=admitted,
    )
    return Result({"samples": samples})


async def sample_at(call: Call[SampleOptions]) -> Result:
    """Return the samples (B, *item) that the rows of the arrays `seed` and `index` name, as `sample` does.

    Raises:
        OperationNotOffered, LimitExceeded, Unfit: as `completed`; also Unfit for seeds out of range.
    """
    seeds, indices, timing = call.arrays["seed"], call.arrays["index"], call.timing
    run = noise.only_run(seeds, indices)  # nearly always
    for name, values in (("seed", seeds), ("index", indices)):
        lowest, highest = (values[0], values[-1]) if run else (values.min(), values.max())
        if lowest < 0 or highest > noise.MAX_SEED:
            raise Unfit(f"`{name}` takes integers from 0 to 2^53 - 1")
    options = completed(call.options, 0, len(seeds), call.loaded, call.settings)
    labels = labels_of_samples(call.loaded.manifest, options, indices)
    if options.method != "direct":
        return await _filtered(call, options, noise.runs_of(seeds, indices), labels)
    how = options.temperature, options.output, timing
    if run is not None:
        return Result({"samples": await call.loaded.sample(*run, *how, labels=labels)})
    return Result({"samples": await call.loaded.sample_at(seeds, indices, *how, labels=labels)})


async def _filtered(
    call: Call[Any],
    options: SampleOptions,
    runs: Sequence[tuple[int, int, int]],
    labels: int | Integers | None,
    *,
    admitted: bool = False,
) -> Result:
    """Return the samples of runs (seed, start, count), each chosen among its proposals.

    `labels` is the class of all samples, or of each.
    """
    method, budget = options.method, options.budget
    assert method != "direct"
    assert budget is not None, "the options are completed"
    chooser = call.loaded.filter(method)
    of_runs: Sequence[Integers | None] = [None] * len(runs)
    if labels is not None:
        ends = np.cumsum([count for _, _, count in runs])
        of_runs = np.split(np.broadcast_to(labels, ends[-1]), ends[:-1])
    chosen = joined(
        [
            await chooser.sample(*run, method, budget, call.timing, labels=of_run, admitted=admitted)
            for run, of_run in zip(runs, of_runs, strict=True)
        ]
    )
    fields: dict[str, Any] = {"method": method, "budget": budget}
    if method != "resample":
        fields["acceptance_rate"] = float(chosen.accepted.mean()) / budget
    fields["effective_sample_size"] = float(chosen.effective_sample_sizes.mean())
    fields["unfilled"] = int((~chosen.filled).sum())
    samples = call.loaded.in_form(chosen.samples, options.output)
    return Result({"samples": samples, "latents": chosen.latents}, fields)
