from collections.abc import Iterator
from pathlib import Path

import pytest

from pushforward import Client
from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.toy_gan import publish_gan
from tests.toy_table import publish_table

KEY = "a-key-of-a-test-that-is-long-enough"
SMALL_LIMITS = (
    *("--max-npy-inputs", "7"),
    *("--max-score-cost", "64"),
    *("--max-count", "1500"),
    *("--max-proposals", "320"),
)


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a table, two GANs, and a published model that has every graph of a VAE."""
    folder = tmp_path_factory.mktemp("models")
    publish_toy(folder)
    publish_table(folder)
    publish_gan(folder)
    publish_gan(folder, "packed-gan", packing=2)
    (folder / "digits-vae").symlink_to(REPOSITORY / "models" / "digits-vae")
    return folder


@pytest.fixture(scope="session")
def service(small_models: Path) -> Iterator[RunningService]:
    """A real server with the default limits."""
    with running_service(small_models) as running:
        yield running


@pytest.fixture(scope="session")
def limited_service(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that asks for a key, with such small limits that most calls take several requests."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(f"{KEY}\n")
    with running_service(small_models, *SMALL_LIMITS, "--keys-file", str(keys)) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture
def limited(limited_service: RunningService) -> Iterator[Client]:
    with Client(limited_service.url, key=KEY) as client:
        yield client
