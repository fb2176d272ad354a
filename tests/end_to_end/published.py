"""The published models that the default tests take."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.conftest import PUBLISHED

DEFAULT = ("digits-vae", "fashion-gan")
"""A VAE, and a GAN that has every graph."""


def each(models: Iterable[str] = PUBLISHED) -> list[object]:
    """Return these models as parameters of a test; all but the default ones need `-m published`."""
    return [
        model if model in DEFAULT else pytest.param(model, marks=pytest.mark.published) for model in models
    ]
