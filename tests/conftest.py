import os
import signal
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

# before the imports, so that what tests share checks also under `python -O`, which leaves assertions out
pytest.register_assert_rewrite(
    *(
        f"tests.{name}"
        for name in (
            "browser",
            "deploy",
            "end_to_end",
            "performance",
            "pushforward",
            "serving",
            "soak",
            "training",
        )
    )
)

from tests.serving import RunningService, running_service  # noqa: E402
from tests.toy import publish_toy  # noqa: E402
from tests.toy_table import publish_table  # noqa: E402

REPOSITORY = Path(__file__).parent.parent
PUBLISHED = tuple(sorted(path.name for path in (REPOSITORY / "models").iterdir() if path.is_dir()))


def pytest_configure() -> None:
    """Let SIGINT interrupt tests and their processes, even if a shell started pytest in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
    settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all services of a run remember in which versions passed a trial."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    os.environ["PUSHFORWARD_CACHE"] = str(folder / "cache")
    return folder / "cache"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's published models, and the toys beside them."""
    folder = tmp_path_factory.mktemp("models")
    for name in PUBLISHED:
        (folder / name).symlink_to(REPOSITORY / "models" / name)
    publish_toy(folder)
    publish_toy(folder, "poisoned-vae", poisoned=True)
    publish_toy(folder, "mixture-vae", mixture=True)
    publish_table(folder)
    return folder


@pytest.fixture(scope="session")
def service(models: Path) -> Iterator[RunningService]:
    """One real server with every model and port, for all tests that leave it as it was."""
    with running_service(models, "--grpc-port", "0") as running:
        yield running


@pytest.fixture(scope="session")
def noise_free_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and published VAE, made once for all workers: its export takes longest of all."""
    from tests.training.publishing import noise_free_recipe, publish_recipe  # not for tests of the service

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers have
    folder /= "noise-free"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        made = list(folder.glob("models/*/1"))
        return made[0] if made else publish_recipe(folder, noise_free_recipe())


@pytest.fixture
def client(service: RunningService) -> httpx.Client:
    return service.client
