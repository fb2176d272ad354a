"""The models that a command works on: those of a service, or those of a folder in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pushforward.display import view_of
from pushforward.reading import Column, PictureForm, Shape
from service.errors import Unfit, UnknownModel
from service.format.manifest import is_picture
from service.media.pictures import View

if TYPE_CHECKING:
    from pushforward.client import Client
    from pushforward.local import LocalModels

Backend: TypeAlias = "Client | LocalModels"


@dataclass(frozen=True, slots=True)
class Model:
    """The part of a version's manifest that commands need."""

    name: str
    version: int
    item_shape: Shape
    latent_size: int
    columns: Sequence[Column]
    picture: PictureForm | None
    support: str
    view: View | None
    manifest: dict[str, Any]
    """All of it."""

    @property
    def is_plane(self) -> bool:
        """Return True if its items are points of two numbers, which a density shows."""
        categorical = any(column["categories"] for column in self.columns)
        return self.item_shape == (2,) and self.support == "real" and not categorical

    @property
    def is_shown(self) -> bool:
        """Return True if its items can be shown: as grey or RGB images, or as a density of points."""
        return is_picture(self.item_shape) or self.is_plane

    @property
    def is_conditional(self) -> bool:
        """Return True if its graphs take the class of each row as well."""
        inputs = (each for graph in self.manifest["graphs"].values() for each in graph["inputs"])
        return any(each["name"] == "labels" for each in inputs)

    @property
    def identity(self) -> dict[str, Any]:
        """Return the fields that name the version, as the service's answers do."""
        return {"model": self.name, "version": self.version}

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_model(backend: Backend, name: str, version: str | None) -> Model:
    """Return a version by number or alias; without one, the version that answers for the model."""
    if "/" in name:  # which a service would take for a part of the path
        raise UnknownModel(
            f"{name}: the name of a model has no slash; give the version by --version, the folder by --local"
        )
    try:
        manifest = backend.model(name, version=version)
    except UnknownModel as error:  # which a service does not repeat
        raise UnknownModel(f"{name}: {error.detail}") from error
    return Model(
        name=manifest["name"],
        version=manifest["version"],
        item_shape=tuple(manifest["item_shape"]),
        latent_size=manifest["latent_size"],
        columns=manifest["columns"],
        picture=manifest.get("picture"),  # which older services do not have
        support=manifest["support"],
        view=view_of(manifest),
        manifest=manifest,
    )


def open_backend(url: str, local: str | None, key: str | None) -> Backend:
    """Return the versions of the folder `local` or, if it is None, the client of the service at `url`."""
    if local is not None:
        from pushforward.local import LocalModels

        return LocalModels(local)
    from pushforward.client import Client

    try:
        # without a deadline: the service has its own, and a command may take long
        return Client(url, key=key, timeout_seconds=None)
    except ValueError as error:
        raise Unfit(str(error)) from error
