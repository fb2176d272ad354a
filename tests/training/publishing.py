"""Tiny versions, published by the command line as a user would publish them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.training.tiny import tiny_recipe
from training.__main__ import app
from training.recipe import Recipe


def noise_free_recipe() -> Recipe:
    """A VAE whose default statistic is free of noise, and whose calibration differs from the defaults."""
    tiny = tiny_recipe()
    how = tiny.calibration.model_copy(update={"statistic": "path", "draws": 5, "seed": 3, "alpha": 0.1})
    return tiny.model_copy(update={"calibration": how})


def publish_recipe(folder: Path, recipe: Recipe) -> Path:
    """Trains and publishes a recipe below `folder`, and returns the version."""
    path = folder / "recipe.toml"
    path.write_text(toml(recipe.model_dump(mode="json", exclude_none=True)))
    return publish(folder, path)


def publish(folder: Path, recipe: Path) -> Path:
    """Runs the whole command line on a recipe and returns the published version."""
    arguments = [
        "run",
        str(recipe),
        "--quiet",
        "--runs",
        str(folder / "runs"),
        "--models",
        str(folder / "models"),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (version,) = (folder / "models").glob("*/1")
    return version


def toml(table: dict[str, object], prefix: str = "") -> str:
    plain = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    tables = [
        f"[{prefix}{key}]\n{toml(value, f'{prefix}{key}.')}"
        for key, value in table.items()
        if isinstance(value, dict)
    ]
    return "\n".join(plain + tables) + "\n"
