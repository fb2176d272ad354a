from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.toy_table import items, publish_table


@pytest.fixture(scope="session")
def bulk_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE and a GAN of pictures, and a VAE of a table."""
    folder = tmp_path_factory.mktemp("bulk-models")
    for name in ("digits-vae", "fashion-gan"):
        (folder / name).symlink_to(REPOSITORY / "models" / name)
    publish_table(folder)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 pictures of noise, as uint8 (N, H, W)."""
    path = tmp_path_factory.mktemp("digits") / "digits.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (1_000, 8, 8), np.uint8))
    return path


@pytest.fixture(scope="session")
def table_items() -> np.ndarray:
    """300 items (300, 4) of the table: a height, and a colour one-hot."""
    return items(300)
