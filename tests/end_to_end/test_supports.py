"""The values that each support takes, and the likelihoods that have bits."""

import math
from collections.abc import Iterator
from typing import get_args

import httpx
import pytest

from service.format.manifest import Support
from tests import toy
from tests.serving import running_service

TAKEN: dict[Support, set[float]] = {
    "binary": {0, 1},
    "eight_bit": {0, 1, 0.3, 7 / 255},
    "unit_interval": {0, 1, 0.3, 7 / 255},
    "real": {0, 1, 0.3, 7 / 255, -2.5, 255},
}
"""The numbers, among those of the test, that each support takes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = tmp_path_factory.mktemp("supports")
    for support in get_args(Support):
        toy.publish_toy(models, support.replace("_", "-"), support=support)
    with running_service(models) as service:
        yield service.client


def score(client: httpx.Client, support: str, value: float) -> httpx.Response:
    body = {"inputs": [[[[value, 1], [0, 1]]]], "draws": 3}
    return client.post(f"/v1/models/{support.replace('_', '-')}/score", json=body)


@pytest.mark.parametrize("support", TAKEN)
def test_exactly_the_numbers_of_a_support_are_taken(server: httpx.Client, support: Support) -> None:
    numbers = set().union(*TAKEN.values())
    answers = {value: score(server, support, value).status_code for value in numbers}
    assert answers == {value: 200 if value in TAKEN[support] else 422 for value in numbers}


@pytest.mark.parametrize("support", TAKEN)
def test_only_discrete_supports_have_bits_per_dimension(server: httpx.Client, support: Support) -> None:
    (row,) = score(server, support, 1).json()["scores"]
    if support in ("binary", "eight_bit"):
        assert row["bits_per_dimension"] == pytest.approx(-row["elbo"] / (4 * math.log(2)))
    else:
        assert row["bits_per_dimension"] is None
