"""Which models there are, and each one's manifest."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from service.format.manifest import Manifest
from service.lifecycle.registry import Entry, Registry, State


class ModelSummary(BaseModel):
    """One model: the version that answers for it, and the versions there are."""

    name: str
    version: int
    versions: list[int]
    aliases: dict[str, int]
    family: str | None
    operations: list[str]
    item_shape: list[int] | None
    state: State
    provider: str | None
    reason: str | None
    """Why the newest version is not served, if it failed."""


class Catalogue(BaseModel):
    """Every model under the models folder."""

    models: list[ModelSummary]


class ModelDetail(Manifest):
    """A version's manifest, where it stands here, and the execution provider in use."""

    state: State
    provider: str


class UnservedVersion(BaseModel):
    """A version that is not served, or not yet, and why."""

    name: str
    version: int
    state: State
    provider: None = None
    reason: str


def catalogue_router(registry: Registry) -> APIRouter:
    """The routes under `/v1/models`."""
    router = APIRouter(prefix="/v1/models", tags=["catalogue"])

    @router.get("", operation_id="list_models")
    async def list_models() -> Catalogue:
        """Lists the models."""
        names = dict.fromkeys(entry.name for entry in registry.entries())
        return Catalogue(models=[_summary(registry, name) for name in names])

    @router.get("/{model}", operation_id="show_model")
    async def show_model(model: str) -> ModelDetail | UnservedVersion:
        """Shows the version of a model that answers where none is named."""
        return _detail(registry.entry(model))

    @router.get("/{model}/versions/{version}", operation_id="show_version")
    async def show_version(model: str, version: str) -> ModelDetail | UnservedVersion:
        """Shows one version of a model, by number or alias."""
        return _detail(registry.entry(model, version))

    return router


def _summary(registry: Registry, name: str) -> ModelSummary:
    entry = registry.entry(name)
    newest, *_ = versions = [each for each in registry.entries() if each.name == name]
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


def _detail(entry: Entry) -> ModelDetail | UnservedVersion:
    loaded = entry.loaded
    if loaded is None:
        return UnservedVersion(
            name=entry.name, version=entry.version, state=entry.state, reason=entry.reason or entry.state
        )
    return ModelDetail(**dict(loaded.manifest), state=entry.state, provider=loaded.provider)
