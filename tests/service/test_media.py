import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service import media
from service.api.exchange import JSON, NPY, PNG, negotiate
from service.errors import NotAcceptable, ServiceError, Unfit


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)))
def test_npy_is_what_numpy_writes_and_comes_back(array: np.ndarray) -> None:
    document = media.npy(array)
    np.testing.assert_array_equal(np.load(io.BytesIO(document)), array)
    back = media.from_npy(document, array.shape[1:], 10, "inputs")
    np.testing.assert_array_equal(back, array)


@given(st.binary(max_size=300))
def test_any_bytes_as_npy_are_read_or_refused_never_a_crash(body: bytes) -> None:
    for prefix in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"):
        with pytest.raises(ServiceError):
            media.from_npy(prefix + body, (2,), 10, "inputs")


@given(st.binary(max_size=300))
def test_any_bytes_as_a_picture_are_refused_never_a_crash(body: bytes) -> None:
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        with pytest.raises(ServiceError):
            media.from_picture(prefix + body, (1, 4, 4))


def test_every_integer_type_is_read_as_numbers() -> None:
    for dtype in ("u1", "i2", ">i4", "<u8", "f2", ">f8"):
        file = io.BytesIO()
        np.save(file, np.array([[0, 1]], dtype=dtype))
        np.testing.assert_array_equal(media.from_npy(file.getvalue(), (2,), 1, "inputs"), [[0, 1]])


def test_a_single_item_is_one_row() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((1, 2, 3), np.float32))
    assert media.from_npy(file.getvalue(), (1, 2, 3), 1, "inputs").shape == (1, 1, 2, 3)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_is_scaled_to_the_unit_interval(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(file, "PNG")
    item = media.from_picture(file.getvalue(), (channels, 5, 4))
    np.testing.assert_array_equal(item[0], pixels.transpose(2, 0, 1) / np.float32(255))
    assert Image.open(io.BytesIO(file.getvalue())).mode == mode


def test_colour_grids_keep_their_colours() -> None:
    samples = np.zeros((2, 3, 2, 2), np.float32)
    samples[0, 0], samples[1, 2] = 1, 1
    grid = np.asarray(Image.open(io.BytesIO(media.png_grid(samples))))
    assert grid[2, 2].tolist() == [255, 0, 0]
    assert grid[2, 6].tolist() == [0, 0, 255]


def test_tables_are_no_pictures() -> None:
    with pytest.raises(NotAcceptable):
        media.png_grid(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.001, 1.001])
def test_values_outside_the_support_are_refused(value: float) -> None:
    array = np.array([[0.5], [value]], np.float32)
    with pytest.raises(Unfit) as caught:
        media.check_support(array, "unit_interval", "inputs")
    assert [flaw.row for flaw in caught.value.flaws] == [1]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/png", PNG),
        ("image/*", PNG),
        ("application/x-npy, application/json;q=0.5", NPY),
        ("application/json;q=0.2, image/*;q=0.9", PNG),
        ("text/html, */*;q=0.1", JSON),
        ("*/*, application/json;q=0", NPY),
        ("IMAGE/PNG", PNG),
    ],
)
def test_the_media_type_accept_likes_best_is_answered(accept: str, chosen: str) -> None:
    assert negotiate(accept, (JSON, NPY, PNG)) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png;q=0", "application/json;q=nonsense", "image/webp"]
)
def test_what_cannot_be_made_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept, (JSON, NPY, PNG))
