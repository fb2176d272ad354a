"""Recipes that train in well under a second, for tests of everything around the training."""

from pathlib import Path
from typing import Any

import torch

from training.data import Dataset, load_dataset
from training.data.toml import as_toml
from training.loop.checkpoint import Checkpoint
from training.recipe import Recipe, parse_recipe


def tiny_table(family: str = "vae", **loop: Any) -> dict[str, Any]:
    """A recipe as parsed TOML; keyword arguments replace values of its [loop] table."""
    objective: dict[str, Any] = (
        {"likelihood": "continuous-bernoulli"} if family == "vae" else {"penalty_every": 2}
    )
    return {
        "name": f"tiny-{family}",
        "data": {"dataset": "digits"},
        "network": {"kind": "convolutional", "latent": 3, "channels": [4, 8], "hidden": [16]},
        family: objective,
        "loop": {
            "steps": 12, "batch_rows": 300, "warmup_steps": 2,
            "log_every": 3, "validate_every": 6, "checkpoint_every": 4,
        } | loop,
        "evaluation": {"draws": 4, "rows": 50},
    }  # fmt: skip


def tiny_recipe(family: str = "vae", **loop: Any) -> Recipe:
    return parse_recipe(tiny_table(family, **loop))


def digits(recipe: Recipe) -> Dataset:
    return load_dataset(recipe.data)


def write_recipe(path: Path, recipe: Recipe | dict[str, Any]) -> Path:
    """Write a recipe, or what one is parsed from, as TOML."""
    table = recipe if isinstance(recipe, dict) else recipe.model_dump(mode="json", exclude_none=True)
    path.write_text("\n".join(f"{key} = {as_toml(value)}" for key, value in table.items()), encoding="utf-8")
    return path


def require_same_weights(one: Checkpoint, other: Checkpoint) -> None:
    assert one.step == other.step
    for name, tensor in one.tensors.items():
        if not name.startswith("optimiser"):  # squares of nearly vanishing gradients: all rounding
            assert torch.allclose(tensor, other.tensors[name], atol=5e-4), name
