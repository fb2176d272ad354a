"""The user's own folder of pictures."""

import re
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
from training.data import SPLITS


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


def spoil_by_another_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("not a picture")
    return folder / "notes.txt"


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
        (spoil_by_another_file, "not a file of a picture .* move it out"),
        (spoil_by_sub_folder, "sub-folders, e.g. inner, and files beside them, e.g. 000.png; use one"),
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
    assert str(culprit) in message
    assert re.search(words, message), message


def test_a_picture_that_unpacks_to_far_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pictures(tmp_path / "pictures", random_pixels(3, 4, 4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert "bomb" in refusal("images", folder)
