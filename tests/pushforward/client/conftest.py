from collections.abc import Iterator
from pathlib import Path

import pytest

from pushforward import Client
from tests.serving import RunningService, running_service

KEY = "a-key-of-a-test-that-is-long-enough"
SMALL_LIMITS = (
    *("--max-npy-inputs", "7"),
    *("--max-score-cost", "64"),
    *("--max-count", "1500"),
    *("--max-proposals", "320"),
)


@pytest.fixture
def service(few_served: RunningService) -> RunningService:
    """The server of a few models, with the default limits."""
    return few_served


@pytest.fixture(scope="session")
def limited_service(few_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that asks for a key, with such small limits that most calls take several requests."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(f"{KEY}\n")
    with running_service(few_models, *SMALL_LIMITS, "--keys-file", str(keys)) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture
def client(remote: Client) -> Client:
    """The client of that server."""
    return remote


@pytest.fixture(scope="module")
def limited(limited_service: RunningService) -> Iterator[Client]:
    with Client(limited_service.url, key=KEY) as client:
        yield client
