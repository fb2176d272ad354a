import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.media.pictures import LONGER_SIDE_PIXELS, View, density_png

VIEW = ((-2.0, 2.0), (-2.0, 2.0))


def drawn(points: np.ndarray, view: View | None = VIEW) -> np.ndarray:
    """The lightness of the picture, (H, W), the top row first."""
    picture = Image.open(io.BytesIO(density_png(points.astype(np.float32), view)))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("L")).astype(int)


def lit(picture: np.ndarray) -> tuple[float, float]:
    """Where the light is, from left to right and from top to bottom, in 0 .. 1."""
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
