"""The list of models, and the manifest of each version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from fastapi import APIRouter

from service.api.answer import NPY
from service.api.v1.code import DECODE, ENCODE
from service.api.v1.operation import Operation, Sizes
from service.api.v1.request import body_limits
from service.format.documented import Documented
from service.format.manifest import Manifest
from service.format.statistics import Statistic
from service.lifecycle.entries import Entry, State
from service.lifecycle.registry import Registry
from service.media import codecs
from service.settings import Settings

_FLOAT32_BYTES: Final = 4


class ModelSummary(Documented):
    """One model: the version that answers by default, and all its versions."""

    name: str
    """The model's name."""
    version: int
    """The version that answers a request that names none."""
    versions: list[int]
    """All versions in the models folder, newest first."""
    aliases: dict[str, int]
    """The version of each alias, which a path may name in place of a number."""
    family: str | None
    """`vae` or `gan`; null if the version is not loaded."""
    operations: list[str]
    """The operations that the version offers; empty if it is not loaded."""
    item_shape: list[int] | None
    """The shape of one item; null if the version is not loaded."""
    state: State
    """The state of the version here."""
    provider: str | None
    """The execution provider of ONNX Runtime in use, `cpu` or `cuda`; null if the version is not loaded."""
    reason: str | None
    """The reason why the newest version is not served, if it failed; else null."""


class UnfetchedVersion(Documented):
    """A version of the source that could not be fetched; it is tried again at each poll."""

    name: str
    """The model's name."""
    version: int
    """The number of the version."""
    reason: str
    """The reason why it could not be fetched."""


class Catalogue(Documented):
    """Every model in the models folder, and what could not be had."""

    models: list[ModelSummary]
    """Each model that was found."""
    unfetched: list[UnfetchedVersion]
    """The versions of the source (`--source`) that could not be fetched at the last poll."""
    poll_failure: str | None
    """The reason why the folder or its source could not be read at the last poll; null if it could."""


class Limits(Documented):
    """The most that one request for this version may ask for; larger work takes several requests."""

    body_bytes: int
    """Most bytes of a request body."""
    json_rows: int
    """Most inputs or latents of a JSON body."""
    npy_inputs: int
    """Most inputs of an npy body, of float32; 0 if a single one has more bytes than a body."""
    npy_latents: int
    """Most latents of an npy body, of float32."""
    json_samples: int
    """Most samples, reconstructions or maps of a JSON or PNG answer."""
    npy_samples: int
    """Most samples of an npy answer."""
    draws: int
    """Most draws per scored input."""
    rows_times_draws: int
    """Most inputs times draws of a score request. A statistic without draws counts as one draw."""
    budget: int
    """Most proposals for each sample that the discriminator chooses."""
    samples_times_budget: int
    """Most samples times budget of such a request."""
    steps: int
    """Most points on an interpolation path."""


class ModelDetail(Manifest):
    """A version's manifest, its state, provider and calibration here, and the limits of its requests."""

    state: State
    """The state of the version here."""
    provider: str
    """The execution provider of ONNX Runtime in use: `cpu` or `cuda`."""
    limits: Limits
    """The most that one request may ask for."""
    calibration_quantiles: dict[Statistic, list[float]]
    """For each calibrated statistic, the surprises that 0, 1, ... 100 per cent of the calibration items do
    not exceed: 101 numbers, in the unit of the statistic. Empty if the version has no calibration."""


class UnservedVersion(Documented):
    """A version that is not served, or not yet, and why."""

    name: str
    """The model's name."""
    version: int
    """The number of the version."""
    state: State
    """The state of the version here."""
    provider: str | None = None
    """Null, as the version is not loaded."""
    reason: str
    """The reason why it is not served."""


def catalogue_router(registry: Registry, settings: Settings) -> APIRouter:
    """Return the routes under `/v1/models`."""
    router = APIRouter(prefix="/v1/models", tags=["catalogue"])

    @router.get("", operation_id="list_models")
    async def list_models() -> Catalogue:
        """List the models."""
        by_name = groupby(registry.entries(), key=attrgetter("name"))
        unfetched = sorted(registry.unfetched.items())
        return Catalogue(
            models=[_summary(registry, name, list(versions)) for name, versions in by_name],
            unfetched=[UnfetchedVersion(name=n, version=v, reason=reason) for (n, v), reason in unfetched],
            poll_failure=registry.poll_failure or None,
        )

    @router.get("/{model}", operation_id="show_model")
    async def show_model(model: str) -> ModelDetail | UnservedVersion:
        """Show the version of a model that answers a request that names none."""
        return _detail(registry.entry(model), settings)

    @router.get("/{model}/versions/{version}", operation_id="show_version")
    async def show_version(model: str, version: str) -> ModelDetail | UnservedVersion:
        """Show one version of a model, by number or alias."""
        return _detail(registry.entry(model, version), settings)

    return router


def _summary(registry: Registry, name: str, versions: Sequence[Entry]) -> ModelSummary:
    """Return what the catalogue says of a model, whose `versions` come newest first."""
    entry, newest = registry.entry(name), versions[0]
    loaded = entry.loaded
    return ModelSummary(
        name=name,
        version=entry.version,
        versions=[each.version for each in versions],
        aliases=dict(registry.aliases(name)),
        family=loaded.manifest.family if loaded else None,
        operations=list(loaded.manifest.operations) if loaded else [],
        item_shape=list(loaded.manifest.item_shape) if loaded else None,
        state=entry.state,
        provider=loaded.provider if loaded else None,
        reason=newest.reason if newest.state == "failed" else None,
    )


def _detail(entry: Entry, settings: Settings) -> ModelDetail | UnservedVersion:
    loaded = entry.loaded
    if loaded is None:
        return UnservedVersion(
            name=entry.name, version=entry.version, state=entry.state, reason=entry.reason or entry.state
        )
    manifest = loaded.manifest
    limits = limits_of(manifest, settings)
    quantiles = {name: values.tolist() for name, values in loaded.scorer.calibration_quantiles().items()}
    return ModelDetail(
        **{name: getattr(manifest, name) for name in Manifest.model_fields},
        state=entry.state,
        provider=loaded.provider,
        limits=limits,
        calibration_quantiles=quantiles,
    )


def limits_of(manifest: Manifest, settings: Settings) -> Limits:
    """Return the limits of the requests for a version."""
    sizes = Sizes(manifest.latent_size, manifest.item_shape, settings.max_json_inputs)
    items = settings.max_answered_rows(_FLOAT32_BYTES * math.prod(manifest.item_shape))
    return Limits(
        body_bytes=settings.max_body_bytes,
        json_rows=settings.max_json_inputs,
        npy_inputs=_npy_rows(ENCODE, sizes, settings),
        npy_latents=min(_npy_rows(DECODE, sizes, settings), items),
        json_samples=min(settings.max_json_count, items),
        npy_samples=settings.max_count,
        draws=settings.max_draws,
        rows_times_draws=settings.max_score_cost,
        budget=settings.max_budget,
        samples_times_budget=settings.max_proposals,
        steps=min(settings.max_steps, items),
    )


def _npy_rows(operation: Operation, sizes: Sizes, settings: Settings) -> int:
    """Return the most rows of a float32 npy body of an operation."""
    assert operation.array is not None
    row = sizes.row(operation.array)
    most_bytes = body_limits(operation, sizes, settings)[NPY] - len(
        codecs.npy_header((settings.max_npy_inputs, *row))
    )
    return max(0, min(settings.max_npy_inputs, most_bytes // (_FLOAT32_BYTES * math.prod(row))))
