"""Calls over the limits of one request give what a service without such limits gives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from pushforward import Client
from service.errors import Unfit
from tests import toy
from tests.pushforward.client.conftest import KEY
from tests.pushforward.client.equality import assert_equal
from tests.pushforward.client.flaky import flaky
from tests.serving import RunningService, as_npy

DIGITS = np.random.default_rng(3).random((40, 1, 8, 8), np.float32)
POINTS = np.random.default_rng(4).normal(size=(40, 2)).astype(np.float32)

CALLS: dict[str, Callable[[Client], Any]] = {
    "encode": lambda client: client.encode("digits-vae", DIGITS),
    "decode": lambda client: client.decode("toy-gan", POINTS),
    "reconstruct": lambda client: client.reconstruct("digits-vae", DIGITS),
    "surprise_map": lambda client: client.surprise_map("digits-vae", DIGITS),
    "score": lambda client: client.score("digits-vae", DIGITS),
    "score without draws": lambda client: client.score("digits-vae", DIGITS, statistic="path", alpha=0.3),
    "score by draws": lambda client: client.score("toy-vae", toy.items(40), draws=20, seed=3),
    "discriminate": lambda client: client.discriminate("toy-gan", POINTS),
    "sample": lambda client: client.sample("toy-vae", count=4000, seed=3, offset=11),
    "sample by rejection": lambda client: client.sample(
        "toy-gan", count=100, seed=3, method="rejection", budget=8
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_in_several_requests_equals_that_in_one(
    call: Callable[[Client], Any], client: Client, limited: Client
) -> None:
    assert_equal(call(limited), call(client))


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.7])  # the last flags toys, and others tie with its threshold
def test_a_correction_is_over_all_rows_whatever_the_number_of_requests(
    alpha: float, client: Client, limited: Client
) -> None:
    inputs = np.concatenate([toy.items(100), np.ones((6, 1, 2, 2))])
    options: dict[str, Any] = {"alpha": alpha, "correction": "benjamini-hochberg"}
    assert_equal(limited.score("toy-vae", inputs, **options), client.score("toy-vae", inputs, **options))
    points = np.concatenate([POINTS, np.full((10, 2), 40.0)])
    one, other = (each.score("toy-gan", points, **options) for each in (limited, client))
    assert_equal(one, other)
    assert one.anomaly is not None
    assert one.anomaly.any() == (alpha > 0.02)  # for less, the calibration has too few items


def test_a_correction_of_what_has_no_p_values_is_refused_as_in_one_request(
    client: Client, limited: Client
) -> None:
    for each in (client, limited):
        with pytest.raises(Unfit, match="leave `statistic`, `draws` and `seed` out"):
            each.score("toy-vae", toy.items(40), draws=3, correction="benjamini-hochberg")


def test_a_flaw_names_the_row_of_the_whole_input(limited: Client) -> None:
    inputs = toy.items(40)
    inputs[[24, 26]] = 0.5
    with pytest.raises(Unfit) as raised:
        limited.score("toy-vae", inputs)
    assert [(flaw.row, flaw.pointer) for flaw in raised.value.flaws] == [
        (24, "/inputs/24"),
        (26, "/inputs/26"),
    ]


def test_the_limits_that_are_said_are_those_that_hold(limited_service: RunningService) -> None:
    http = limited_service.client
    limits = http.get("/v1/models/toy-gan").json()["limits"]
    npy = {"accept": "application/x-npy, */*;q=0.5", "content-type": "application/x-npy"}

    def posted(operation: str, rows: int) -> int:
        body = as_npy(np.zeros((rows, 2), "f4"))
        return http.post(f"/v1/models/toy-gan/{operation}", content=body, headers=npy).status_code

    def sampled(count: int, query: str = "") -> int:
        return http.get(f"/v1/models/toy-gan/sample?count={count}{query}", headers=npy).status_code

    chosen = partial(sampled, query="&method=rejection&budget=8")
    for ask, most in (
        (partial(posted, "encode"), limits["npy_inputs"]),
        (partial(posted, "score"), limits["npy_inputs"]),
        (partial(posted, "decode"), limits["npy_latents"]),
        (sampled, limits["npy_samples"]),
        (chosen, limits["samples_times_budget"] // 8),
    ):
        assert (ask(most), ask(most + 1)) == (200, 422)


def test_a_client_that_outlives_a_service_takes_the_limits_of_the_next_one(
    service: RunningService, limited_service: RunningService
) -> None:
    items = toy.items(20)
    with flaky(service.url) as proxy, Client(proxy.url, key=KEY) as client:
        wanted = client.encode("toy-vae", items).mean, client.sample("toy-vae", count=4000, seed=7)
        proxy.target = limited_service.url
        np.testing.assert_array_equal(client.sample("toy-vae", count=4000, seed=7), wanted[1])
        np.testing.assert_array_equal(client.encode("toy-vae", items).mean, wanted[0])
