"""The newest versions of the published models, and those that the default tests take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from service.format.manifest import Manifest
from service.format.versions import read_manifest, version_folders
from tests.conftest import PUBLISHED, REPOSITORY

DEFAULT = ("digits-vae", "fashion-gan")
"""A VAE, and a GAN that has every graph."""


def newest(model: str) -> Path:
    """The folder of the newest published version."""
    return version_folders(REPOSITORY / "models" / model)[-1]


def manifest_of(model: str) -> Manifest:
    """The manifest of the newest published version."""
    return read_manifest(newest(model))


def class_option(model: str) -> dict[str, int]:
    """The option that names a class, if the published model takes one."""
    return {"label": 3} if model in PUBLISHED and manifest_of(model).conditional else {}


def each(models: Iterable[str] = PUBLISHED) -> list[object]:
    """Return these models as parameters of a test; all but the default ones need `-m published`."""
    return [
        model if model in DEFAULT else pytest.param(model, marks=pytest.mark.published) for model in models
    ]
