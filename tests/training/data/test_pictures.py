"""The user's own folder of pictures."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.own_data import (
    load,
    random_pixels,
    refusal,
    same,
    stacked,
    write_pictures,
)
from tests.training.data.picture_files import write_files
from training.data import SPLITS, DataError, load_dataset
from training.data.draft import write_recipe
from training.recipe import parse_recipe


def test_a_folder_of_pngs_and_an_npz_of_its_pixels_give_equal_items(tmp_path: Path) -> None:
    pixels = random_pixels(20, 4, 6)
    folder = write_pictures(tmp_path / "pictures", pixels)
    np.savez(tmp_path / "pixels.npz", items=pixels)
    np.save(tmp_path / "pixels.npy", pixels[:, None])
    from_folder = load("images", folder)
    assert from_folder.item_shape == (1, 4, 6)
    assert from_folder.class_names == ()
    assert from_folder.source == "20 grey pictures of 4x6 pixels from the folder pictures"
    assert same(from_folder, load("arrays", tmp_path / "pixels.npz"))
    assert same(from_folder, load("arrays", tmp_path / "pixels.npy"))


def test_colour_pictures_have_three_channels_unless_grey_is_asked_for(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "colour", random_pixels(20, 4, 4, 3))
    Image.fromarray(random_pixels(4, 4)).save(folder / "grey.png")
    assert load("images", folder).item_shape == (3, 4, 4)
    assert load("images", folder, channels=1).item_shape == (1, 4, 4)


def test_grey_pictures_saved_as_rgb_count_as_grey(tmp_path: Path) -> None:
    pixels = random_pixels(20, 4, 4)
    as_rgb = write_pictures(tmp_path / "rgb", np.repeat(pixels[..., None], 3, axis=3))
    as_grey = write_pictures(tmp_path / "grey", pixels)
    assert same(load("images", as_rgb), load("images", as_grey))
    assert load("images", as_grey, channels=3).item_shape == (3, 4, 4)


def test_an_alpha_channel_that_hides_nothing_is_left_out(tmp_path: Path) -> None:
    pixels = random_pixels(20, 4, 4, 3)
    opaque = np.concatenate([pixels, np.full((20, 4, 4, 1), 255, np.uint8)], axis=3)
    plain = load("images", write_pictures(tmp_path / "rgb", pixels))
    assert same(plain, load("images", write_pictures(tmp_path / "rgba", opaque)))


def test_jpegs_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "jpegs", random_pixels(20, 8, 8, 3), "JPG")
    (folder / ".hidden").write_text("not a picture")
    assert load("images", folder).item_shape == (3, 8, 8)


def test_pictures_of_many_sizes_are_resized_to_the_one_asked_for(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", np.full((20, 9, 9), 51, np.uint8))
    Image.fromarray(np.full((30, 12), 51, np.uint8)).save(folder / "tall.png")
    dataset = load("images", folder, size=[4, 6])
    assert dataset.item_shape == (1, 4, 6)
    assert np.allclose(stacked(dataset), 0.2)


def test_a_fine_chessboard_is_made_smaller_into_its_mean_and_not_into_one_of_its_colours(
    tmp_path: Path,
) -> None:
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    folder = write_pictures(tmp_path / "boards", np.stack([board] * 20))
    inner = load("images", folder, size=[4, 4]).items["test"][:, :, 1:3, 1:3]
    assert np.allclose(inner, 0.5, atol=0.02)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for value, name in enumerate(["cat", "ant", "bee"]):
        write_pictures(tmp_path / "animals" / name, np.full((10, 2, 2), value, np.uint8))
    dataset = load("images", tmp_path / "animals")
    assert dataset.class_names == ("ant", "bee", "cat")
    value_of = np.array([1, 2, 0])
    for split in SPLITS:
        pixels = np.rint(dataset.items[split][:, 0, 0, 0] * 255)
        assert np.array_equal(pixels, value_of[dataset.labels[split]])


def spoil_by_size(folder: Path) -> Path:
    Image.fromarray(random_pixels(5, 4)).save(folder / "zz.png")
    return folder / "zz.png"


def spoil_by_truncation(folder: Path) -> Path:
    (folder / "zz.png").write_bytes((folder / "000.png").read_bytes()[:60])
    return folder / "zz.png"


def spoil_by_text(folder: Path) -> Path:
    (folder / "zz.jpg").write_text("not a picture")
    return folder / "zz.jpg"


def spoil_by_sub_folder(folder: Path) -> Path:
    write_pictures(folder / "inner", random_pixels(1, 4, 4))
    return folder


def spoil_by_transparency(folder: Path) -> Path:
    Image.fromarray(random_pixels(4, 4, 4)).save(folder / "zz.png")
    return folder / "zz.png"


def spoil_by_depth(folder: Path) -> Path:
    Image.fromarray(np.full((4, 4), 60, np.uint16)).save(folder / "zz.png")
    return folder / "zz.png"


def spoil_by_emptiness(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    return folder


def spoil_by_an_empty_class(folder: Path) -> Path:
    spoil_by_emptiness(folder)
    write_pictures(folder / "cat", random_pixels(3, 4, 4))
    (folder / "dog").mkdir()
    return folder / "dog"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_by_size, "has 5x4 pixels, but .* has 4x4 .* size = "),
        (spoil_by_truncation, "ends before its end; repair or remove it"),
        (spoil_by_text, "cannot be read .* repair or remove it"),
        (spoil_by_sub_folder, "sub-folders, e.g. inner, and pictures beside them, e.g. 000.png; use one"),
        (spoil_by_transparency, "transparent in places.* background"),
        (spoil_by_depth, "8 bits that was saved as one of 16"),
        (spoil_by_emptiness, "is empty; put"),
        (spoil_by_an_empty_class, "is empty; put"),
    ],
)
def test_a_folder_with_a_flaw_is_refused_naming_the_file(
    tmp_path: Path, spoil: Callable[[Path], Path], words: str
) -> None:
    folder = write_pictures(tmp_path / "pictures", random_pixels(20, 4, 4))
    culprit = spoil(folder)
    message = refusal("images", folder)
    assert culprit.name in message
    assert re.search(words, message), message


def test_all_flaws_of_a_folder_are_told_at_once_and_equal_ones_together(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures" / "good", random_pixels(20, 4, 4)).parent
    spoil_by_size(folder / "good")
    spoil_by_text(folder / "good")
    (folder / "empty").mkdir()
    (folder / "good" / "notes.txt").touch()
    for number in range(5):
        Image.fromarray(random_pixels(4, 4, 4)).save(folder / "good" / f"clear-{number}.png")
    message = refusal("images", folder)
    for words in (
        "4 things are wrong",
        "empty is empty",
        "good/zz.jpg: the picture cannot be read",
        "good/clear-0.png, good/clear-1.png, good/clear-2.png and 2 more: the picture is transparent",
        "good/zz.png has 5x4 pixels, but good/000.png has 4x4",
    ):
        assert words in message, message
    assert "notes.txt" not in message


def test_files_that_are_no_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", random_pixels(20, 4, 4))
    expected = load("images", folder)
    for name in ("notes.txt", "Thumbs.db"):
        (folder / name).touch()
    dataset = load("images", folder)
    assert same(dataset, expected)
    assert dataset.notes == ("Files that are no pictures were left out (2): Thumbs.db, notes.txt.",)


def mvtec(folder: Path) -> Path:
    """MVTec's layout: pictures of 1 .. 40 to learn, of 50 .. 57 to test, and defects of 100 and more."""
    for part, first, count in (
        ("train/good", 1, 40), ("test/good", 50, 8), ("test/scratch", 100, 5), ("test/hole", 110, 4),
        ("ground_truth/hole", 255, 4),
    ):  # fmt: skip
        pixels = np.arange(first, first + count)[:, None, None].repeat(4, 1).repeat(4, 2) % 256
        write_pictures(folder / part, pixels.astype(np.uint8))
    (folder / "license.txt").touch()
    return folder


def test_mvtec_s_layout_is_learned_from_its_good_pictures_and_tested_on_its_test(tmp_path: Path) -> None:
    dataset = load("images", mvtec(tmp_path / "tile"))
    values = {split: sorted(np.rint(dataset.items[split][:, 0, 0, 0] * 255).tolist()) for split in SPLITS}
    assert sorted(values["train"] + values["validation"] + values["calibration"]) == [*range(1, 41)]
    assert values["test"] == [*range(50, 58)]
    assert dataset.outliers is not None
    assert sorted(np.rint(dataset.outliers[:, 0, 0, 0] * 255)) == [*range(100, 105), *range(110, 114)]
    assert dataset.class_names == ("good",)
    assert "MVTec AD" in dataset.notes[1]


def test_a_recipe_for_mvtec_s_layout_loads_as_the_folder_does(tmp_path: Path) -> None:
    written, findings = write_recipe(mvtec(tmp_path / "tile"), tmp_path / "recipe.toml")
    recipe = parse_recipe(tomllib.loads(written.read_text()))
    assert recipe.data.keep == ("good",)
    dataset = load_dataset(recipe.data)
    assert [len(dataset.items[split]) for split in ("test", "train")] == [8, 40 - 6 - 10]
    assert "MVTec" in " ".join(finding.seen for finding in findings)


def test_a_mixed_folder_gets_a_recipe_that_settles_all_that_can_be_settled(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "pictures")
    (folder / "notes.txt").touch()
    written, findings = write_recipe(folder, tmp_path / "recipe.toml")
    recipe = parse_recipe(tomllib.loads(written.read_text()))
    assert recipe.data.size is not None
    assert recipe.data.background == (255, 255, 255)
    assert load_dataset(recipe.data).item_shape == (3, *recipe.data.size)
    told = " ".join(f"{finding.subject} {finding.seen} {finding.settled}" for finding in findings)
    for words in ("6 sizes", "notes.txt", "16 bits a pixel turned into 8", "CMYK turned into RGB", "white"):
        assert words in told, told
    for name in ("broken.png", "torn.jpg"):
        (folder / name).write_text("no picture")
    with pytest.raises(DataError, match=r"broken\.png, torn\.jpg: the picture cannot be read"):
        write_recipe(folder, tmp_path / "other.toml")


def test_a_folder_of_12_bits_saved_as_16_is_told_of_and_one_whose_tags_say_so_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 4096, (40, 8, 8)).astype(np.uint16)
    for name, tags in (("plain", {}), ("tagged", {281: 4095})):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pixels):
            Image.fromarray(picture).save(tmp_path / name / f"{number:03}.tif", tiffinfo=tags)
    note = r"No value of 40 pictures is above 0\.059, .*12 bits and were saved as 16"
    assert re.search(note, " ".join(load("images", tmp_path / "plain").notes))
    _, findings = write_recipe(tmp_path / "plain", tmp_path / "plain.toml")
    assert any("12 bits and were saved as 16" in finding.seen for finding in findings)
    tagged = load("images", tmp_path / "tagged")
    assert tagged.notes == ()
    assert tagged.items["train"].max() == 1.0
    _, findings = write_recipe(tmp_path / "tagged", tmp_path / "tagged.toml")
    assert any("12 bits a pixel turned into 8" in finding.seen + finding.settled for finding in findings)


def test_a_picture_that_unpacks_to_far_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pictures(tmp_path / "pictures", random_pixels(3, 4, 4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "bomb" in refusal("images", folder)
