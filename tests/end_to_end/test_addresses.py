"""A sample depends on its seed and number alone: not on its batch, its request, or other clients."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from pushforward import Client
from tests.conftest import PUBLISHED
from tests.published import class_option, each, manifest_of
from tests.serving import RunningService

NPY = {"accept": "application/x-npy"}
TOYS = ("toy-vae", "mixture-vae", "toy-table")
TOY_GANS = ("toy-gan", "mixture-gan")
METHODS = ("rejection", "resample", "metropolis")
FILTERED = [name for name in PUBLISHED if "generate_scored" in manifest_of(name).graphs]
BY_METHOD = pytest.mark.parametrize("method", METHODS)


def draw(client: Client, model: str, count: int, offset: int, **options: Any) -> np.ndarray:
    return client.sample(model, count=count, offset=offset, seed=12, **options)


def require_alike_in_few(client: Client, model: str, **options: Any) -> None:
    """The law on ten samples, as published models are large."""
    ten = draw(client, model, 10, 0, **options)
    for count, offset in ((5, 0), (5, 5), (1, 7)):
        part = draw(client, model, count, offset, **options)
        np.testing.assert_array_equal(part, ten[offset : offset + count])


def require_alike(client: Client, model: str, **options: Any) -> None:
    """The law on more samples than are computed at once, in pieces of many sizes, and far from the first."""
    many = draw(client, model, 300, 0, **options)
    for count, offset in ((1, 0), (5, 0), (10, 0), (5, 5), (1, 299), (64, 100), (230, 70), (50, 50), (7, 31)):
        part = draw(client, model, count, offset, **options)
        np.testing.assert_array_equal(part, many[offset : offset + count])
    for size in (1, 3, 7):
        alone = [draw(client, model, size, start, **options) for start in range(0, 28, size)]
        joined = np.concatenate(alone)
        np.testing.assert_array_equal(joined, many[: len(joined)])
    far = draw(client, model, 3, 2**53 - 4, **options)
    np.testing.assert_array_equal(draw(client, model, 1, 2**53 - 2, **options), far[2:])
    streamed = draw(client, model, 3000, 0, **options)
    np.testing.assert_array_equal(streamed[:300], many)
    np.testing.assert_array_equal(streamed[2000:], draw(client, model, 1000, 2000, **options))


@pytest.mark.parametrize("model", each())
def test_a_published_sample_depends_on_its_seed_and_number_alone(python_client: Client, model: str) -> None:
    require_alike_in_few(python_client, model, **class_option(model))


@BY_METHOD
@pytest.mark.parametrize("model", each(FILTERED))
def test_a_published_filtered_sample_depends_on_its_seed_and_number_alone(
    python_client: Client, model: str, method: str
) -> None:
    require_alike_in_few(python_client, model, method=method, budget=8)


@pytest.mark.parametrize("output", ["mean", "draw"])
@pytest.mark.parametrize("model", TOYS)
def test_a_sample_depends_on_its_seed_and_number_alone(
    python_client: Client, model: str, output: str
) -> None:
    require_alike(python_client, model, output=output)


@BY_METHOD
@pytest.mark.parametrize("model", TOY_GANS)
def test_a_filtered_sample_depends_on_its_seed_and_number_alone(
    gans: Client, model: str, method: str
) -> None:
    require_alike(gans, model, method=method, budget=5)


@pytest.mark.parametrize("model", [*each(), *TOYS])
def test_64_concurrent_clients_get_bit_for_bit_what_each_gets_alone(
    service: RunningService, model: str
) -> None:
    path, options = f"/v1/models/{model}/sample", class_option(model)

    async def ask(client: httpx.AsyncClient, seed: int) -> bytes:
        response = await client.post(path, json={"seed": seed, **options}, headers=NPY)
        assert response.status_code == 200
        assert response.headers["x-pushforward-seed"] == str(seed)
        return response.content

    async def together() -> list[bytes]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=60) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(64)))

    for seed, content in enumerate(asyncio.run(together())):
        alone = service.client.post(path, json={"seed": seed, **options}, headers=NPY)
        assert content == alone.content
