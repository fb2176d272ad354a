from pathlib import Path

import pytest

from service.format.columns import Column
from tests.published import manifest_of
from training.data import load_dataset
from training.export.card import write_card
from training.recipe import RECIPES, read_recipe


@pytest.mark.parametrize("overrides", [[], ["loop.steps=3"]])
def test_a_card_says_to_train_by_a_shipped_recipe_only_if_the_version_was(
    overrides: list[str], tmp_path: Path
) -> None:
    manifest = manifest_of("digits-vae")
    recipe = read_recipe(RECIPES / "digits-vae.toml", overrides)
    table = recipe.model_dump(mode="json", exclude_none=True)
    provenance = manifest.provenance.model_copy(update={"recipe": table})
    made = manifest.model_copy(update={"provenance": provenance})
    write_card(tmp_path / "README.md", made, load_dataset(recipe.data), {}, ())
    command = "pushforward train training/recipes/digits-vae.toml"
    assert (command in (tmp_path / "README.md").read_text()) == (not overrides)


def test_a_card_names_the_first_columns_of_a_wide_table_and_counts_the_rest(tmp_path: Path) -> None:
    columns = tuple(Column(name=f"page {place}") for place in range(1555))
    manifest = manifest_of("digits-vae").model_copy(update={"columns": columns})
    recipe = read_recipe(RECIPES / "digits-vae.toml", [])
    write_card(tmp_path / "README.md", manifest, load_dataset(recipe.data), {}, ())
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("- page ")] == [f"- page {n}" for n in range(100)]
    assert "- and 1455 more, which `manifest.json` names" in lines
