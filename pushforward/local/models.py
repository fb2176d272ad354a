"""All versions of a models folder in the caller's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pushforward.checks import check_names
from pushforward.folder import Version, model_folder, model_names, version_folder
from pushforward.local.host import Hosted
from pushforward.local.model import LocalModel
from pushforward.results import Encoding, Floats, Interpolation, ItemScores, Judgement
from service.errors import InvalidAliases, InvalidVersion
from service.format.aliases import read_aliases
from service.format.versions import read_manifest, verify_files, version_folders
from service.settings import Device


class LocalModels(Hosted):
    """The versions of a models folder, with the methods of `Client` and answers that are equal bit for bit.

    A version is loaded when it is first used. Names, numbers and aliases are read from the folder at each
    call, so that a new version or a moved alias is followed. Several threads may call it. As a context
    manager it ends its threads and frees the versions on the way out, as `close` does. A pickle is made as
    that of a `LocalModel`, which has the options of each operation.
    """

    def __init__(self, folder: str | os.PathLike[str], device: Device = "cpu", cores: int = 0) -> None:
        """Take the folder of models.

        Raises:
            UnknownModel: there is no such folder.
        """
        super().__init__(folder, device, cores, None)
        self._opened: dict[Path, LocalModel] = {}
        model_names(self.folder)

    def __repr__(self) -> str:
        return f"<LocalModels of {self.folder}>"

    def open(self, name: str, *, version: Version = None) -> LocalModel:
        """Return one version, which shares the threads of this object.

        Raises:
            UnknownModel, UnknownVersion: there is no such version; says which there are.
            InvalidVersion: its manifest cannot be read.
        """
        check_names(name, version)
        folder = version_folder(model_folder(self.folder, name), version)
        if folder not in self._opened:
            self._opened[folder] = LocalModel(folder, self.device, self.cores, host=self._host)
        return self._opened[folder]

    def models(self) -> list[dict[str, Any]]:
        """Return an entry for each model, as the service's catalogue has it, by name.

        The state is `ready` if the files of the version that answers are complete, else `failed`.
        """
        return [self._summary(self.folder / name) for name in model_names(self.folder)]

    def model(self, name: str, *, version: Version = None) -> dict[str, Any]:
        """Return the manifest of a version, as the service answers it."""
        return self.open(name, version=version).manifest()

    def sample(self, name: str, *, version: Version = None, **options: Any) -> Floats:
        """Draw samples (count, *item), see `LocalModel.sample`."""
        return self.open(name, version=version).sample(**options)

    def iter_samples(
        self, name: str, *, count: int, version: Version = None, **options: Any
    ) -> Iterator[Floats]:
        """Yield samples in chunks (rows, *item), see `LocalModel.iter_samples`."""
        return self.open(name, version=version).iter_samples(count=count, **options)

    def interpolate(
        self, name: str, start: Any, end: Any, *, version: Version = None, **options: Any
    ) -> Interpolation:
        """Return the items on a path through the latent space, see `LocalModel.interpolate`."""
        return self.open(name, version=version).interpolate(start, end, **options)

    def read(self, name: str, inputs: Any, *, id: str | None = None, version: Version = None) -> Floats:
        """Return items as the version takes them, see `LocalModel.read`."""
        return self.open(name, version=version).read(inputs, id=id)

    def encode(self, name: str, inputs: Any, *, version: Version = None, **options: Any) -> Encoding:
        """Return the posteriors of B items, see `LocalModel.encode`."""
        return self.open(name, version=version).encode(inputs, **options)

    def decode(self, name: str, latents: Any, *, version: Version = None, **options: Any) -> Floats:
        """Return the items (B, *item) at latents (B, D), see `LocalModel.decode`."""
        return self.open(name, version=version).decode(latents, **options)

    def reconstruct(self, name: str, inputs: Any, *, version: Version = None, **options: Any) -> Floats:
        """Return items (B, *item) decoded from their encodings, see `LocalModel.reconstruct`."""
        return self.open(name, version=version).reconstruct(inputs, **options)

    def score(self, name: str, inputs: Any, *, version: Version = None, **options: Any) -> ItemScores:
        """Score B items, see `LocalModel.score`."""
        return self.open(name, version=version).score(inputs, **options)

    def surprise_map(self, name: str, inputs: Any, *, version: Version = None, **options: Any) -> Floats:
        """Return how surprising each value of B items is, see `LocalModel.surprise_map`."""
        return self.open(name, version=version).surprise_map(inputs, **options)

    def discriminate(self, name: str, inputs: Any, *, version: Version = None, **options: Any) -> Judgement:
        """Return the judgement of a GAN's discriminator on B items, see `LocalModel.discriminate`."""
        return self.open(name, version=version).discriminate(inputs, **options)

    def _summary(self, model: Path) -> dict[str, Any]:
        try:
            aliases = read_aliases(model)
            folder = version_folder(model)
        except InvalidAliases:  # a service then has none, and logs why
            aliases, folder = {}, version_folders(model)[-1]
        entry: dict[str, Any] = {
            "name": model.name,
            "version": int(folder.name),
            "versions": [int(each.name) for each in reversed(version_folders(model))],
            "aliases": aliases,
            "family": None,
            "operations": [],
            "item_shape": None,
            "state": "failed",
            "provider": None,
            "reason": None,
        }
        try:
            manifest = read_manifest(folder)
            verify_files(folder, manifest)
        except InvalidVersion as error:
            return {**entry, "reason": error.detail}
        return {
            **entry,
            "family": manifest.family,
            "operations": list(manifest.operations),
            "item_shape": list(manifest.item_shape),
            "state": "ready",
            "provider": self._host.provider(folder),
        }
