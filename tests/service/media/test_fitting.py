"""Files of pictures, read as items."""

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.errors import LimitExceeded, Malformed, ServiceError, Unfit
from service.media.fitting import FORMATS, PictureRule, header_of, item_of_file

RANDOM = np.random.default_rng(5)
SHAPE = (1, 4, 4)
ANY_SIZE = PictureRule(fit="stretch")


def as_file(picture: Image.Image, form: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, form, **options)
    file.seek(0)
    return file


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged TIFF
@given(st.binary(max_size=300))
def test_any_bytes_as_a_picture_are_refused_never_a_crash(body: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"BM", b"RIFF\x10\0\0\0WEBP"):
        for rule in (None, ANY_SIZE):
            with pytest.raises(ServiceError):
                item_of_file(io.BytesIO(prefix + body), SHAPE, rule)


@pytest.mark.parametrize("value", [0, 1, 2, 255])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about damaged TIFF
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_which_one_byte_is_another_is_read_or_refused(form: str, value: int) -> None:
    whole = as_file(noise(5, 4), form).getvalue()
    for place in range(len(whole)):
        changed = whole[:place] + bytes([value]) + whole[place + 1 :]
        with contextlib.suppress(ServiceError):
            header_of(io.BytesIO(changed), 2**20)
            item_of_file(io.BytesIO(changed), (3, 4, 5))


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_off_is_refused(form: str) -> None:
    data = as_file(noise(64, 64), form).getvalue()
    with pytest.raises(Malformed):
        item_of_file(io.BytesIO(data[: len(data) * 2 // 3]), SHAPE, ANY_SIZE)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_is_scaled_to_the_unit_interval(channels: int, mode: str) -> None:
    drawn = noise(4, 5, mode)
    item = item_of_file(as_file(drawn), (channels, 5, 4)).item
    pixels = np.asarray(drawn).reshape(5, 4, channels)
    np.testing.assert_array_equal(item, pixels.transpose(2, 0, 1) / np.float32(255))


def test_a_png_that_lacks_its_end_and_an_animated_one_are_refused() -> None:
    frames = [Image.new("L", (4, 4), level) for level in (0, 255)]
    still = as_file(frames[0])
    assert item_of_file(still, SHAPE).item.shape == SHAPE
    with pytest.raises(Malformed, match="ends before its end"):
        item_of_file(io.BytesIO(still.getvalue()[:-12]), SHAPE)
    for form in ("PNG", "WEBP", "TIFF"):
        moving = as_file(frames[0], form, save_all=True, append_images=frames[1:])
        with pytest.raises(Unfit, match="animated"):
            item_of_file(moving, SHAPE)


@pytest.mark.parametrize("rule", [None, PictureRule()])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_picture_is_turned_upright_in_every_format_with_or_without_a_rule(
    form: str, rule: PictureRule | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = noise(4, 4, "L")
    stored = item_of_file(as_file(turned, form), SHAPE, rule).item
    read, done = item_of_file(as_file(turned, form, exif=exif), SHAPE, rule)
    np.testing.assert_array_equal(read[0], np.rot90(stored[0], -1))
    assert done == ("turned upright, as its EXIF says",)


def test_without_a_rule_a_picture_of_another_size_or_depth_is_refused() -> None:
    for other in (noise(5, 4), Image.fromarray(np.full((4, 4), 40_000, np.uint16))):
        with pytest.raises(Unfit):
            item_of_file(as_file(other), SHAPE)


def test_a_picture_on_its_side_is_taken_if_it_has_the_size_once_it_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert item_of_file(as_file(noise(6, 3), exif=exif), (3, 6, 3), PictureRule()).item.shape == (3, 6, 3)
    for wrong in (as_file(noise(6, 3)), as_file(noise(3, 6), exif=exif)):
        with pytest.raises(Unfit, match="the model takes 3 x 6"):
            item_of_file(wrong, (3, 6, 3), PictureRule())


def test_a_crop_is_the_middle_and_keeps_proportions_and_a_stretch_keeps_everything() -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    wide = as_file(Image.fromarray(pixels))
    cropped, _ = item_of_file(wide, (1, 4, 4), PictureRule(fit="crop"))
    assert cropped.min() > 0.9  # the filter sees a little of what lies beside the crop
    stretched, done = item_of_file(wide, (1, 8, 12), PictureRule(fit="stretch"))
    assert stretched[0, :, 0].max() < 0.1
    assert stretched[0, :, 6].min() > 0.9
    assert done == ("its colours turned into grey", "resized to 12 x 8 pixels (width x height)")


def test_what_is_transparent_shows_the_background_and_is_refused_without_one() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (10, 20, 30, 255)
    clear = as_file(Image.fromarray(pixels))
    read = item_of_file(clear, (3, 4, 4), PictureRule(background=(255, 0, 51))).item
    np.testing.assert_array_equal(np.rint(read[:, 0, 0] * 255), [10, 20, 30])
    np.testing.assert_array_equal(np.rint(read[:, 3, 0] * 255), [255, 0, 51])
    with pytest.raises(Unfit, match="transparent in places"):
        item_of_file(clear, (3, 4, 4), PictureRule())


def test_of_16_bits_the_upper_8_are_kept_and_8_bits_that_came_as_16_are_refused() -> None:
    deep = Image.fromarray((RANDOM.integers(0, 256, (4, 4)) * 256 + 255).astype(np.uint16))
    read = item_of_file(as_file(deep), SHAPE, PictureRule()).item[0]
    np.testing.assert_array_equal(np.rint(read * 255), np.asarray(deep) >> 8)
    with pytest.raises(Unfit, match="8 bits that was saved as one of 16"):
        item_of_file(as_file(Image.fromarray(np.full((4, 4), 9, np.uint16))), SHAPE, PictureRule())


def with_tags(pixels: np.ndarray[Any, Any], **tags: int) -> io.BytesIO:
    return as_file(
        Image.fromarray(pixels), "TIFF", tiffinfo={int(name[1:]): each for name, each in tags.items()}
    )


@pytest.mark.parametrize("tag", ["_281", "_341"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15])
def test_a_tiff_of_fewer_significant_bits_is_read_by_the_tag_that_says_so(tag: str, bits: int) -> None:
    pixels = RANDOM.integers(0, 2**bits, (4, 4)).astype(np.uint16)
    read, done = item_of_file(with_tags(pixels, **{tag: 2**bits - 1}), SHAPE, PictureRule())
    np.testing.assert_array_equal(np.rint(read[0] * 255), pixels >> (bits - 8))
    assert done == ("8 of 16 bits a pixel taken" if bits == 8 else f"{bits} bits a pixel turned into 8",)


@pytest.mark.parametrize("most", [3977, 65535, 4095])
def test_a_tag_that_is_the_greatest_value_of_one_picture_or_not_true_scales_nothing(most: int) -> None:
    pixels = np.full((4, 4), 3977 if most == 3977 else 50_000, np.uint16)
    read, done = item_of_file(with_tags(pixels, _281=most), SHAPE, PictureRule())
    np.testing.assert_array_equal(np.rint(read[0] * 255), pixels >> 8)
    assert done == ("16 bits a pixel turned into 8",)


def test_a_tiff_that_packs_12_bits_or_whose_zero_is_white_is_read_as_such() -> None:
    packed = bytes.fromhex("fff000 800123")  # two pixels in three bytes
    fields = ((256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 6))
    ifd = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in fields)
    data = b"II*\0" + struct.pack("<I", 14) + packed + ifd + bytes(4)
    read, done = item_of_file(io.BytesIO(data), (1, 2, 2), PictureRule())
    np.testing.assert_array_equal(np.rint(read[0] * 255), [[0xFF, 0], [0x80, 0x12]])
    assert done == ("12 bits a pixel turned into 8",)
    pixels = np.array([[0, 65_535], [1024, 40_000]], np.uint16)
    read, _ = item_of_file(with_tags(pixels, _262=0), (1, 2, 2), PictureRule())
    np.testing.assert_array_equal(np.rint(read[0] * 255), 255 - (pixels >> 8))
    read, _ = item_of_file(with_tags(np.full((2, 2), 9, np.uint16), _262=0), (1, 2, 2), PictureRule())
    assert read.min() == 1, "it is nearly white"


def test_colours_that_use_fewer_than_16_bits_are_refused_because_the_upper_8_are_nearly_black() -> None:
    fields = (
        (256, 4, 1), (257, 4, 1), (258, 3, 16), (259, 4, 1), (262, 4, 2), (273, 4, 8), (277, 4, 3),
        (278, 4, 1), (279, 4, 6), (281, 4, 4095),
    )  # fmt: skip
    ifd = struct.pack("<H", len(fields))
    for tag, kind, value in fields:
        place, count = (140, 3) if tag == 258 else (value, 1)
        ifd += struct.pack("<HHII", tag, kind, count, place)
    data = b"II*\0" + struct.pack("<I", 14) + struct.pack("<3H", 4000, 9, 2000) + ifd + bytes(4)
    data = data.ljust(140, b"\0") + struct.pack("<3H", 16, 16, 16)
    for rule in (None, PictureRule()):
        with pytest.raises(Unfit, match="uses 12 of them"):
            item_of_file(io.BytesIO(data), (3, 1, 1), rule)
    full = data.replace(struct.pack("<HHII", 281, 4, 1, 4095), struct.pack("<HHII", 281, 4, 1, 65_535))
    assert item_of_file(io.BytesIO(full), (3, 1, 1), PictureRule()).item.shape == (3, 1, 1)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header() -> None:
    large = as_file(Image.new("L", (100, 100)))
    assert header_of(large, 10_000) == (10_000, 2 * 10_000)  # grey
    with pytest.raises(LimitExceeded, match="10000 pixels, at most 9999"):
        header_of(large, 9_999)
