"""Pictures: PNG files, the density of points, and the heat of surprise."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import NotAcceptable
from service.media.pictures import LONGER_SIDE_PIXELS, View, density_png, heat_of, write_png

VIEW = ((-2.0, 2.0), (-2.0, 2.0))


def drawn(points: np.ndarray, view: View | None = VIEW) -> np.ndarray:
    """The lightness of the picture, (H, W), the top row first."""
    picture = Image.open(io.BytesIO(density_png(points.astype(np.float32), view)))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("L")).astype(int)


def lit(picture: np.ndarray) -> tuple[float, float]:
    """Return the centre of the light, from left to right and from top to bottom, in 0 .. 1."""
    above = picture - picture.min()
    rows, columns = above.sum(axis=1), above.sum(axis=0)
    places = [np.arange(len(part)) @ part / part.sum() / len(part) for part in (columns, rows)]
    return places[0], places[1]


def test_the_first_number_goes_right_and_the_second_up() -> None:
    across, down = lit(drawn(np.array([[1.0, 1.5]])))
    assert across == pytest.approx(0.75, abs=0.02)
    assert down == pytest.approx(0.125, abs=0.02)


def test_the_fullest_place_is_lightest_and_thin_modes_still_show() -> None:
    points = np.repeat([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [3_000, 30, 1], axis=0)
    picture = drawn(points)
    size = len(picture)
    thick, thin, lone = (
        picture[row : row + 24, column : column + 24].max()
        for row, column in (
            (size // 2 - 12, size // 4 - 12),
            (size // 2 - 12, 3 * size // 4 - 12),
            (116, 244),
        )
    )
    empty = picture.min()
    assert thick > thin + 60 > thin > empty + 60
    assert lone > empty + 5


def test_lightness_grows_with_the_count() -> None:
    counts = [1, 4, 16, 64, 256]
    places = np.linspace(-1.6, 1.6, len(counts))
    picture = drawn(np.repeat(np.stack([places, np.zeros(5)], axis=1), counts, axis=0))
    peaks = [picture[:, int(column) - 8 : int(column) + 8].max() for column in (places + 2) / 4 * 512]
    assert peaks == sorted(set(peaks))


@pytest.mark.parametrize(
    ("view", "size"),
    [
        (VIEW, (512, 512)),
        (((0, 4), (0, 1)), (512, 128)),
        (((0, 1), (0, 2)), (256, 512)),
        (((0, 99), (0, 1)), (512, 128)),
    ],
)
def test_the_picture_has_the_proportions_of_its_view(view: View, size: tuple[int, int]) -> None:
    picture = drawn(np.random.default_rng(0).random((500, 2)), view)
    assert picture.shape == size[::-1]


def test_points_outside_the_view_are_left_out() -> None:
    inside = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    outside = np.array([[2.0, 0], [0, 2.0], [-2.1, 0], [0, -3e38], [3e38, 3e38]])
    np.testing.assert_array_equal(drawn(np.concatenate([inside, outside])), drawn(inside))
    assert np.ptp(drawn(outside)) == 0


NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(max_examples=30)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_without_a_view_any_points_can_be_seen(points: list[tuple[float, float]]) -> None:
    picture = drawn(np.array(points), None)
    assert picture.shape == (LONGER_SIDE_PIXELS, LONGER_SIDE_PIXELS)
    assert picture.max() == 249  # the lightest colour


def test_the_more_surprising_a_pixel_the_brighter_it_is_and_black_is_none() -> None:
    nats = np.array([-1e-6, 0, 0.1, 0.5, 1, 3, 20, 1e6], np.float32)
    colours = heat_of(nats.reshape(1, 1, 1, -1))
    assert colours.shape == (1, 3, 1, len(nats))
    assert colours.dtype == np.float32
    np.testing.assert_array_equal(colours[0, :, 0, :2], 0)
    assert (np.diff(colours[0].sum(0)[0][1:]) > 0).all()
    np.testing.assert_allclose(colours[0, :, 0, -1], 1, atol=1e-5)
    assert (np.diff(colours, axis=1) <= 0).all()  # red before yellow before white


def test_a_pixels_channels_are_added_and_its_neighbours_do_not_matter() -> None:
    nats = np.random.default_rng(0).exponential(2, (4, 3, 5, 6)).astype(np.float32)
    together = heat_of(nats)
    np.testing.assert_allclose(heat_of(nats.sum(1, keepdims=True)), together, atol=1e-6)
    np.testing.assert_array_equal(heat_of(nats[2:3, :, 1:2, 3:4]), together[2:3, :, 1:2, 3:4])


def test_heat_is_on_the_version_s_scale() -> None:
    maps = np.array([0.1, 1, 2], np.float32).reshape(1, 1, 1, -1)
    np.testing.assert_allclose(heat_of(7 * maps, 7.0), heat_of(maps, 1.0), rtol=1e-6)
    calm, scale, twice = heat_of(7 * maps, 7.0)[0].sum(0)[0] / 3
    assert calm < 0.01
    assert scale == pytest.approx(0.2)
    assert twice == pytest.approx(0.5)


def test_over_an_item_heat_leaves_what_is_calm_in_grey() -> None:
    items = np.full((1, 3, 1, 2), 0.5, np.float32)
    maps = np.array([0, 1e6], np.float32).reshape(1, 1, 1, -1)
    calm, hot = heat_of(maps, 1.0, items)[0, :, 0].T
    np.testing.assert_allclose(calm, 0.3)
    np.testing.assert_allclose(hot, 1.0, atol=1e-3)


@pytest.mark.parametrize("shape", [(2,), (4, 5), (2, 5, 5)])
def test_what_is_no_picture_has_no_heat(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotAcceptable):
        heat_of(np.zeros((1, *shape), np.float32))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (3,)]), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_again_by_pillow(
    height: int, width: int, channels: tuple[int, ...], seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    picture = Image.open(io.BytesIO(write_png(pixels)))
    assert picture.mode == ("RGB" if channels else "L")
    np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_places_in_a_palette_become_its_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    places = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.open(io.BytesIO(write_png(places, colours.tobytes())))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours[places])


@pytest.mark.parametrize("step", [-1, 1])
def test_views_of_an_array_are_written_as_they_look(step: int) -> None:
    pixels = np.arange(120, dtype=np.uint8).reshape(10, 12)[::step, ::2]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(write_png(pixels)))), pixels)


def test_smooth_pictures_become_small() -> None:
    ramp = np.add.outer(np.arange(200), np.arange(200)).astype(np.uint8)
    assert len(write_png(ramp)) < ramp.size / 20
