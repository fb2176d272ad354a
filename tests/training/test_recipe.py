from pathlib import Path

import pytest

from service.format.versions import read_manifest
from tests.published import newest
from tests.training.tiny import tiny_table
from training.recipe import RECIPES, RecipeError, parse_recipe, read_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_package_is_read_and_named_like_its_file(path: Path) -> None:
    assert read_recipe(path).name == path.stem


@pytest.mark.parametrize("name", ["digits-gan", "digits-vae", "fashion-gan", "fashion-vae", "ring-gan"])
def test_a_recipe_knows_the_statistics_that_its_version_has(name: str) -> None:
    offered = read_manifest(newest(name)).offered_statistics
    assert read_recipe(RECIPES / f"{name}.toml").statistics == offered


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    table = tiny_table()
    table["loop"]["learning_rat"] = 0.1
    with pytest.raises(RecipeError, match=r"'loop\.learning_rat'; did you mean 'loop\.learning_rate'\?"):
        parse_recipe(table)


def test_an_unknown_table_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(RecipeError, match="'netwerk'; did you mean 'network'"):
        parse_recipe({"netwerk": {}})


def test_an_override_replaces_one_value_and_keeps_its_type() -> None:
    recipe = read_recipe(
        RECIPES / "digits-vae.toml",
        ["loop.steps=7", "network.hidden=[9, 8]", "vae.likelihood=continuous-bernoulli"],
    )
    assert (recipe.loop.steps, recipe.network.hidden) == (7, (9, 8))
    assert recipe.loop.batch_rows == read_recipe(RECIPES / "digits-vae.toml").loop.batch_rows


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.stepz=7", "did you mean 'loop.steps'"),
        ("loop.steps", "write it as table.key=value"),
        ("loop.steps=0", "loop.steps is 0: Input should be greater than or equal to 1"),
        ("loop=3", "loop is 3: Input should be a valid table"),
        ("loop.gradient_clip=inf", "loop.gradient_clip is inf: Input should be a finite number"),
        ("name.x=1", "'name' is a value, not a table"),
        (f"name={'x' * 64}", "name is 'x.*: String should match pattern"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(RECIPES / "digits-vae.toml", [override])


def test_a_missing_recipe_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"digits-vae\.toml"):
        read_recipe(tmp_path / "nothing.toml")


def test_a_recipe_has_exactly_one_family() -> None:
    table = tiny_table() | {"gan": {}}
    with pytest.raises(RecipeError, match=r"exactly one of the tables \[vae\] and \[gan\]"):
        parse_recipe(table)


def test_a_bernoulli_likelihood_needs_binarised_data() -> None:
    table = tiny_table()
    table["vae"]["likelihood"] = "bernoulli"
    with pytest.raises(RecipeError, match="it is for binary pixels"):
        parse_recipe(table)


def test_a_geometric_schedule_cannot_end_at_nothing() -> None:
    with pytest.raises(RecipeError, match="no geometric schedule reaches"):
        parse_recipe(tiny_table(schedule="geometric", final_learning_rate_ratio=0.0))


def test_an_encoder_is_for_a_gan() -> None:
    table = tiny_table()
    table["encoder"] = {"loop": table["loop"]}
    with pytest.raises(RecipeError, match=r"\[encoder\] came without \[gan\]"):
        parse_recipe(table)


def test_a_mixture_prior_and_packing_exclude_each_other() -> None:
    table = tiny_table("gan")
    table["gan"] = {"prior": "mixture", "packing": 2}
    with pytest.raises(RecipeError, match="judgements of single items"):
        parse_recipe(table)


def test_a_batch_is_of_whole_packs() -> None:
    table = tiny_table("gan", batch_rows=301)
    table["gan"] = {"packing": 2}
    with pytest.raises(RecipeError, match="does not divide"):
        parse_recipe(table)
