"""A residual network of pictures of 128 x 128 trains by `init`'s recipe, is published, and served."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.format.versions import read_manifest
from tests.serving import as_npy, npy, running_service
from tests.training.publishing import publish_recipe
from training.data.draft import write_recipe
from training.export.sessions import verify_version
from training.recipe import read_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(900)]
RANDOM = np.random.default_rng(3)
SIDE = 128
CHANGES = (
    "network.kind=residual", "network.channels=[8, 16, 16]", "loop.precision=bfloat16", "loop.steps=3",
    "loop.batch_rows=8", "loop.threads=1", "vae.kl_warmup_steps=2",
    "evaluation.draws=2", "calibration.draws=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    np.save(folder / "parts.npy", RANDOM.integers(0, 256, (40, 3, SIDE, SIDE), np.uint8))
    written, _ = write_recipe(folder / "parts.npy", folder / "parts.toml")
    recipe = read_recipe(written, CHANGES)
    publish_recipe(folder, recipe)
    return folder


@pytest.fixture(scope="module")
def client(trained: Path) -> Iterator[httpx.Client]:
    with running_service(trained / "models") as running:
        yield running.client


def test_what_was_trained_in_bfloat16_agrees_with_its_graphs_in_float32(trained: Path) -> None:
    version = trained / "models" / "parts" / "1"
    manifest = verify_version(version)
    assert manifest == read_manifest(version)
    assert all(parity.largest_error <= parity.tolerance for parity in manifest.parity.values())
    assert set(manifest.operations) >= {"sample", "score", "reconstruct", "encode"}


def test_a_picture_scores_alike_alone_and_beside_others(trained: Path, client: httpx.Client) -> None:
    pictures = np.load(trained / "parts.npy")[:3]
    headers = {"Content-Type": "application/x-npy"}
    for statistic in ("elbo", "path"):
        url = f"/v1/models/parts/score?statistic={statistic}"
        together = client.post(url, content=as_npy(pictures), headers=headers).json()["scores"]
        for picture, expected in zip(pictures, together, strict=True):
            (alone,) = client.post(url, content=as_npy(picture[None]), headers=headers).json()["scores"]
            assert alone["surprise"] == expected["surprise"]
            assert np.isfinite(alone["surprise"])


def test_samples_and_heat_maps_have_the_size_of_the_pictures(trained: Path, client: httpx.Client) -> None:
    pictures = np.load(trained / "parts.npy")[:2]
    accept = {"Accept": "application/x-npy"}
    samples = npy(client.post("/v1/models/parts/sample", json={"count": 2, "seed": 1}, headers=accept))
    assert samples.shape == (2, 3, SIDE, SIDE)
    headers = {**accept, "Content-Type": "application/x-npy"}
    maps = npy(client.post("/v1/models/parts/score?map=true", content=as_npy(pictures), headers=headers))
    assert maps.shape[-2:] == (SIDE, SIDE)
