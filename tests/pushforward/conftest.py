from collections.abc import Iterator
from pathlib import Path

import pytest

from pushforward.client import Client
from pushforward.local import LocalModels
from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.toy_conditional import publish_conditional, publish_conditional_vae
from tests.toy_gan import publish_gan
from tests.toy_table import publish_table


@pytest.fixture(scope="session")
def few_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE in two versions, a mixture, a table, GANs, models with classes, and one that has every graph."""
    folder = tmp_path_factory.mktemp("few")
    publish_toy(folder)
    publish_toy(folder)
    publish_toy(folder, "mixture-vae", mixture=True)
    publish_table(folder)
    publish_gan(folder)
    publish_gan(folder, "packed-gan", packing=2)
    publish_conditional(folder)
    publish_conditional_vae(folder)
    (folder / "digits-vae").symlink_to(REPOSITORY / "models" / "digits-vae")
    (folder / "toy-vae" / "aliases.json").write_text('{"champion": 1, "challenger": 2}')
    return folder


@pytest.fixture(scope="session")
def few_served(few_models: Path) -> Iterator[RunningService]:
    """A real server of these models."""
    with running_service(few_models) as running:
        yield running


@pytest.fixture(scope="module")
def remote(few_served: RunningService) -> Iterator[Client]:
    """The client of that server."""
    with Client(few_served.url) as client:
        yield client


@pytest.fixture(scope="module")
def local(few_models: Path) -> Iterator[LocalModels]:
    """The same models in this process."""
    with LocalModels(few_models) as models:
        yield models
