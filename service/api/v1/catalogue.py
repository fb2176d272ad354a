"""The list of models, and the manifest of each version."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.answer import Document
from service.format.manifest import Manifest
from service.lifecycle.registry import Entry, Registry, State


class ModelSummary(Document):
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


class Catalogue(Document):
    """Every model in the models folder."""

    models: list[ModelSummary]
    """Each model that was found."""


class ModelDetail(Manifest, Document):
    """A version's manifest, its state here, and the execution provider in use."""

    state: State
    """The state of the version here."""
    provider: str
    """The execution provider of ONNX Runtime in use: `cpu` or `cuda`."""


class UnservedVersion(Document):
    """A version that is not served, or not yet, and why."""

    name: str
    """The model's name."""
    version: int
    """The number of the version."""
    state: State
    """The state of the version here."""
    provider: None = None
    """Null, as the version is not loaded."""
    reason: str
    """The reason why it is not served."""


def catalogue_router(registry: Registry) -> APIRouter:
    """Return the routes under `/v1/models`."""
    router = APIRouter(prefix="/v1/models", tags=["catalogue"])

    @router.get("", operation_id="list_models")
    async def list_models() -> Catalogue:
        """List the models."""
        names = dict.fromkeys(entry.name for entry in registry.entries())
        return Catalogue(models=[_summary(registry, name) for name in names])

    @router.get("/{model}", operation_id="show_model")
    async def show_model(model: str) -> ModelDetail | UnservedVersion:
        """Show the version of a model that answers a request that names none."""
        return _detail(registry.entry(model))

    @router.get("/{model}/versions/{version}", operation_id="show_version")
    async def show_version(model: str, version: str) -> ModelDetail | UnservedVersion:
        """Show one version of a model, by number or alias."""
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
