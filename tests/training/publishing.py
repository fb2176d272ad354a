"""Tiny versions, published by the command line as a user would publish them."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from service.format.versions import read_manifest
from tests.training.tiny import tiny_recipe, write_recipe
from training.__main__ import app
from training.recipe import Recipe


def noise_free_recipe() -> Recipe:
    """A VAE whose default statistic is free of noise, and whose calibration differs from the defaults."""
    tiny = tiny_recipe()
    how = tiny.calibration.model_copy(update={"statistic": "path", "draws": 5, "seed": 3, "alpha": 0.1})
    return tiny.model_copy(update={"calibration": how})


def publish_recipe(folder: Path, recipe: Recipe) -> Path:
    """Trains and publishes a recipe below `folder`, and returns the version."""
    path = write_recipe(folder / "recipe.toml", recipe)
    arguments = ["run", path, "--quiet", "--runs", folder / "runs", "--models", folder / "models"]
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    (version,) = (folder / "models").glob("*/1")
    assert read_manifest(version).offered_statistics == recipe.statistics  # which the recipe tells before
    return version
