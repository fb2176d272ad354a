"""The models folder: which version a name, a number or an alias stands for, as in the service."""

from __future__ import annotations

from pathlib import Path

from service.errors import UnknownModel, UnknownVersion
from service.format.aliases import CHAMPION, read_aliases
from service.format.versions import MANIFEST, version_folders

Version = int | str | None
"""A number, an alias, or None for the version that answers requests which name none."""


def model_names(folder: Path) -> list[str]:
    """Return the names of the models in a folder that have a version, sorted.

    Raises:
        UnknownModel: there is no such folder.
    """
    if not folder.is_dir():
        raise UnknownModel(f"there is no folder {folder}, seen from {Path.cwd()}; name a folder of models")
    return sorted(model.name for model in folder.iterdir() if _is_model(model))


def _is_model(folder: Path) -> bool:
    """Return True if a folder has versions; a `lost+found`, which may not be listed, counts as none."""
    try:
        return folder.is_dir() and bool(version_folders(folder))
    except PermissionError:
        return False


def model_folder(folder: Path, name: str) -> Path:
    """Return the folder of a model. Raise UnknownModel, which says what there is, if there is none."""
    model = folder / name
    if model.is_dir() and version_folders(model):
        return model
    names = ", ".join(model_names(folder)) or "none"
    hint = f"; {folder} is the folder of one model, and {folder.parent} that of models"
    raise UnknownModel(
        f"there is no model of that name; there are: {names}{hint if _is_model(folder) else ''}"
    )


def version_folder(model: Path, version: Version = None) -> Path:
    """Return the folder of a version: by number, by alias, or else the champion or the newest one.

    Raises:
        UnknownVersion: there is no such version; says which there are.
        InvalidAliases: the aliases of the model cannot be read.
    """
    known = {folder.name: folder for folder in reversed(version_folders(model))}
    aliases = {alias: str(number) for alias, number in read_aliases(model).items()}
    if version is None:
        return known.get(aliases.get(CHAMPION, ""), next(iter(known.values())))
    number = aliases.get(str(version), str(version))
    if number not in known:
        raise UnknownVersion(f"{model.name} has no such version; it has: {', '.join((*known, *aliases))}")
    return known[number]


def version_at(folder: Path, version: Version = None) -> Path:
    """Return the folder of a version, given its own folder, NAME/VERSION, or that of its model, NAME.

    Raises:
        UnknownModel, UnknownVersion: there is no such version; says which there are.
        InvalidAliases: as `version_folder`.
    """
    if (folder / MANIFEST).is_file():
        if version is None:
            return folder
        raise UnknownVersion(
            f"{folder} is the folder of a version itself; leave `version` out, or give {folder.parent}"
        )
    if not folder.is_dir() and not any(folder.parent.glob(f"*/*/{MANIFEST}")):
        raise UnknownModel(f"there is no folder {folder}")
    if folder.is_dir() and not version_folders(folder) and (names := model_names(folder)):
        raise UnknownModel(f"{folder} is a folder of models; load one of them: {', '.join(names)}")
    return version_folder(model_folder(folder.parent, folder.name), version)
