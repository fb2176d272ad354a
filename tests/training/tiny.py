"""Recipes that train in well under a second, for tests of everything around the training."""

from typing import Any

from training.data import Dataset, load_dataset
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
