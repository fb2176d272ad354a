import numpy as np
import pytest

from service.errors import NotAcceptable
from service.media.pictures import heat_of


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


@pytest.mark.parametrize("shape", [(2,), (4, 5), (2, 5, 5)])
def test_what_is_no_picture_has_no_heat(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotAcceptable):
        heat_of(np.zeros((1, *shape), np.float32))
