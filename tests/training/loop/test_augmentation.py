"""Laws of augmentation: it keeps a picture's meaning and range, and differs from step to step by the seed."""

import numpy as np
import pytest
import torch

from tests.training.tiny import digits, tiny_recipe
from training.data import Dataset, load_dataset
from training.loop.augmentation import Augmentation
from training.loop.noise import Noise
from training.options import AugmentationOptions
from training.recipe import RecipeError, parse_recipe


def noise(step: int) -> Noise:
    return Noise(0, Noise.AUGMENTATION, step)


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    return digits(tiny_recipe())


@pytest.fixture(scope="module")
def points() -> Dataset:
    recipe = parse_recipe({
        "name": "points",
        "data": {"dataset": "grid"},
        "network": {"kind": "dense", "latent": 2},
        "gan": {},
        "loop": {"steps": 1},
    })  # fmt: skip
    return load_dataset(recipe.data)


def test_a_flip_mirrors_half_of_the_pictures_and_leaves_the_others(pictures: Dataset) -> None:
    items = torch.from_numpy(pictures.items["train"][:400])
    changed = Augmentation(AugmentationOptions(flip=True), pictures, "unit_interval")(items, noise(0))
    same = (changed == items).flatten(1).all(1)
    mirrored = (changed == items.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 150 < int(same.sum()) < 250


def test_a_shift_moves_each_picture_by_at_most_so_many_pixels_and_repeats_its_border(
    pictures: Dataset,
) -> None:
    items = torch.from_numpy(pictures.items["train"][:200])
    changed = Augmentation(AugmentationOptions(shift=1), pictures, "unit_interval")(items, noise(0))
    padded = np.pad(items.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    places = [
        (changed.numpy() == padded[:, :, down : down + 8, right : right + 8]).all((1, 2, 3))
        for down in range(3)
        for right in range(3)
    ]
    assert bool(np.logical_or.reduce(places).all())
    assert all(place.any() for place in places)


def test_noise_has_the_asked_deviation_in_a_column_s_own_units(points: Dataset) -> None:
    items = torch.from_numpy(points.items["train"][:4000])
    changed = Augmentation(AugmentationOptions(noise=0.1), points, "real")(items, noise(0))
    scale = 1.0 if points.scaling is None else points.scaling.scale
    deviations = ((changed - items).std(0).numpy() / scale).tolist()
    assert deviations == pytest.approx([0.1, 0.1], rel=0.1)


def test_pixels_stay_pixels_under_noise(pictures: Dataset) -> None:
    items = (torch.from_numpy(pictures.items["train"]) * 255).round() / 255
    changed = Augmentation(AugmentationOptions(noise=0.3), pictures, "eight_bit")(items, noise(0))
    assert bool(((changed >= 0) & (changed <= 1)).all())
    assert torch.equal((changed * 255).round() / 255, changed)


def test_each_step_has_changes_of_its_own_that_its_number_decides(pictures: Dataset) -> None:
    items = torch.from_numpy(pictures.items["train"][:50])
    augment = Augmentation(AugmentationOptions(flip=True, shift=2, noise=0.1), pictures, "unit_interval")
    assert torch.equal(augment(items, noise(3)), augment(items, noise(3)))
    assert not torch.equal(augment(items, noise(3)), augment(items, noise(4)))


@pytest.mark.parametrize("options", [{"flip": True}, {"shift": 1}])
def test_numbers_of_a_table_are_not_mirrored_or_moved(options: dict[str, int], points: Dataset) -> None:
    with pytest.raises(RecipeError, match="are for pictures"):
        Augmentation(AugmentationOptions.model_validate(options), points, "real")


def test_what_would_leave_no_picture_is_refused(pictures: Dataset) -> None:
    with pytest.raises(RecipeError, match="binary pixels"):
        Augmentation(AugmentationOptions(noise=0.1), pictures, "binary")
    with pytest.raises(RecipeError, match="8 x 8 pixels"):
        Augmentation(AugmentationOptions(shift=8), pictures, "unit_interval")
