"""The record of a run's publication, so that a finished run that is resumed is not published twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from service.errors import InvalidVersion
from service.format.versions import read_manifest
from training.loop.checkpoint import Checkpoint
from training.recipe import Recipe

_FILE: Final = "published.json"
"""The file in a run's folder."""


def note_published(run: Path, recipe: Recipe, checkpoint: Checkpoint, version: Path) -> None:
    """Write down in a run's folder that a checkpoint was published by a recipe, and as which version."""
    content = {**_published(recipe, checkpoint), **_identity(version)}
    (run / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def published_version(run: Path, recipe: Recipe, checkpoint: Checkpoint, models: Path) -> Path | None:
    """Return the folder of the version as which a checkpoint was published by this very recipe.

    Returns None if it was not published, or if the version is not under `models` any more.
    """
    try:
        noted = json.loads((run / _FILE).read_text(encoding="utf-8"))
        version = models / recipe.name / str(noted["version"])
        expected = {**_published(recipe, checkpoint), **_identity(version)}
    except (OSError, ValueError, KeyError, TypeError, InvalidVersion):
        return None
    return version if noted == expected else None


def _published(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    return {"weights": checkpoint.fingerprint, "recipe": recipe.model_dump(mode="json")}


def _identity(version: Path) -> dict[str, Any]:
    return {"version": int(version.name), "sha256": read_manifest(version).sha256}
