from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pushforward import Client
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.toy_gan import publish_gan


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that has one toy alone."""
    folder = tmp_path_factory.mktemp("toys")
    publish_toy(folder)
    return folder


@pytest.fixture(scope="session")
def gan_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one real server with every kind of the toy GAN, and small limits on proposals."""
    models = tmp_path_factory.mktemp("gans")
    publish_gan(models)
    publish_gan(models, "mixture-gan", mixture=True, view=None)
    publish_gan(models, "critic-gan", objective="wasserstein")
    publish_gan(models, "packed-gan", packing=2)
    with running_service(models, "--max-budget", "200", "--max-proposals", "400000") as service:
        yield service.client


@pytest.fixture
def gans(gan_client: httpx.Client) -> Iterator[Client]:
    """The project's own client of that server."""
    with Client(str(gan_client.base_url)) as client:
        yield client


@pytest.fixture
def python_client(service: RunningService) -> Iterator[Client]:
    """The project's own client, for tests that are not about the wire."""
    with Client(service.url) as client:
        yield client
