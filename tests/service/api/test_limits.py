"""The limits that the catalogue says follow from the settings and from the sizes of a version."""

import numpy as np

from service.api.v1.catalogue import limits_of
from service.settings import Settings
from tests.published import manifest_of
from tests.serving import as_npy

DIGITS = manifest_of("digits-vae")


def test_the_limits_are_the_settings() -> None:
    settings = Settings(max_npy_inputs=3, max_json_count=4, max_score_cost=5, max_steps=6)
    limits = limits_of(DIGITS, settings)
    assert (limits.npy_inputs, limits.npy_latents, limits.json_samples) == (3, 3, 4)
    assert (limits.rows_times_draws, limits.steps) == (5, 6)
    assert (limits.body_bytes, limits.npy_samples) == (settings.max_body_bytes, settings.max_count)


def test_the_rows_of_an_npy_body_are_those_that_fit_into_its_bytes() -> None:
    body = len(as_npy(np.zeros((5, *DIGITS.item_shape), np.float32)))
    rows = [limits_of(DIGITS, Settings(max_body_bytes=most)).npy_inputs for most in (body, body - 1, 100)]
    assert rows == [5, 4, 0]
