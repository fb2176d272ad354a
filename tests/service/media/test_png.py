import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.media.pictures import write_png


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
