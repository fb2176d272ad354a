"""Every operation of both clients gives the very numbers of the service's HTTP answer."""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pushforward import AsyncClient, Client
from pushforward.results import SCORE_FIELDS, ItemScores
from service.errors import Unfit
from tests import toy, toy_table
from tests.pushforward.client.equality import assert_equal
from tests.serving import RunningService, as_npy, npy

NPY = {"accept": "application/x-npy"}
SENT = {"content-type": "application/x-npy"}
few = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**53 - 1)
pixels = st.integers(0, 1).map(np.float32)
digits = arrays(
    np.float32, st.integers(1, 5).map(lambda rows: (rows, 1, 8, 8)), elements=st.floats(0, 1, width=32)
)


@pytest.fixture
def http(service: RunningService) -> httpx.Client:
    return service.client


class Both:
    """Calls each operation by both clients, which must agree bit for bit, and returns the result."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._aclient = AsyncClient(url)
        self._runner = asyncio.Runner()

    def __call__(self, operation: str, *arguments: Any, **options: Any) -> Any:
        result = getattr(self._client, operation)(*arguments, **options)
        again = self._runner.run(getattr(self._aclient, operation)(*arguments, **options))
        assert_equal(result, again)
        return result

    def close(self) -> None:
        self._client.close()
        self._runner.run(self._aclient.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def both(few_served: RunningService) -> Iterator[Both]:
    with contextlib.closing(Both(few_served.url)) as both:
        yield both


def scored(answer: dict[str, Any]) -> ItemScores:
    """The result for the JSON of a score."""
    columns = {
        name: np.array([score[name] for score in answer["scores"]], None if name == "anomaly" else np.float64)
        for name, value in answer["scores"][0].items()
        if value is not None or name == "importance_bound_standard_error"
    }
    return ItemScores(
        **{name: answer[name] for name in SCORE_FIELDS},
        surprise=columns.pop("surprise"),
        p_value=columns.pop("p_value", None),
        anomaly=columns.pop("anomaly", None),
        columns=columns,
    )


@few
@given(
    count=st.integers(1, 40),
    seed=seeds,
    offset=st.integers(0, 10**9),
    temperature=st.floats(0, 10),
    output=st.sampled_from(["mean", "draw"]),
)
def test_samples_are_those_of_the_npy_answer(
    both: Both, http: httpx.Client, count: int, seed: int, offset: int, temperature: float, output: str
) -> None:
    options: dict[str, Any] = {
        "count": count, "seed": seed, "offset": offset, "temperature": temperature, "output": output
    }  # fmt: skip
    answer = npy(http.post("/v1/models/toy-vae/sample", json=options, headers=NPY))
    assert_equal(both("sample", "toy-vae", **options), answer)


@pytest.mark.parametrize("method", ["rejection", "resample", "metropolis"])
def test_chosen_samples_are_those_of_the_npy_answer(both: Both, http: httpx.Client, method: str) -> None:
    options = {"count": 30, "seed": 5, "method": method, "budget": 8}
    answer = npy(http.post("/v1/models/toy-gan/sample", json=options, headers=NPY))
    assert_equal(both("sample", "toy-gan", **options), answer)


@few
@given(count=st.integers(1, 3000), chunk_rows=st.integers(1, 1500))
def test_chunks_are_the_samples_in_order_and_of_the_size_asked_for(
    client: Client, count: int, chunk_rows: int
) -> None:
    chunks = list(client.iter_samples("toy-vae", count=count, chunk_rows=chunk_rows, seed=3))
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_rows}
    assert 1 <= len(chunks[-1]) <= chunk_rows
    assert_equal(np.concatenate(chunks), client.sample("toy-vae", count=count, seed=3))


def test_the_asynchronous_client_yields_the_same_chunks(service: RunningService, client: Client) -> None:
    async def chunks() -> list[NDArray[Any]]:
        async with AsyncClient(service.url) as aclient:
            return [
                rows async for rows in aclient.iter_samples("toy-vae", count=2500, chunk_rows=999, seed=3)
            ]

    expected = list(client.iter_samples("toy-vae", count=2500, chunk_rows=999, seed=3))
    for one, other in zip(asyncio.run(chunks()), expected, strict=True):
        assert_equal(one, other)


@few
@given(inputs=digits)
def test_encodings_reconstructions_and_maps_are_those_of_the_answers(
    both: Both, http: httpx.Client, inputs: NDArray[np.float32]
) -> None:
    body, path = {"inputs": inputs.tolist()}, "/v1/models/digits-vae"
    encoded = http.post(f"{path}/encode", json=body).json()
    encoding = both("encode", "digits-vae", inputs)
    assert_equal(encoding.mean, np.array(encoded["mean"], np.float32))
    assert_equal(encoding.log_variance, np.array(encoded["log_variance"], np.float32))
    answer = npy(http.post(f"{path}/reconstruct", json=body, headers=NPY))
    assert_equal(both("reconstruct", "digits-vae", inputs), answer)
    maps = npy(http.post(f"{path}/score?map=true", content=as_npy(inputs), headers=NPY | SENT))
    assert_equal(both("surprise_map", "digits-vae", inputs), maps)


@few
@given(latents=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(-9, 9)))
def test_decoded_latents_are_those_of_the_answer(
    both: Both, http: httpx.Client, latents: NDArray[np.float64]
) -> None:
    answer = npy(http.post("/v1/models/toy-gan/decode", json={"latents": latents.tolist()}, headers=NPY))
    assert_equal(both("decode", "toy-gan", latents), answer)
    assert_equal(both("decode", "toy-gan", latents[0].tolist()), answer[:1])


@few
@given(
    inputs=digits,
    statistic=st.sampled_from([None, "elbo", "importance_bound", "path", "corrected"]),
    alpha=st.floats(0.01, 0.99),
    correction=st.sampled_from(["none", "benjamini-hochberg"]),
)
def test_scores_are_those_of_the_answer_to_the_last_bit(
    both: Both, http: httpx.Client, inputs: NDArray[np.float32], statistic: str, alpha: float, correction: str
) -> None:
    options = {"alpha": alpha, "correction": correction, **({"statistic": statistic} if statistic else {})}
    body = {"inputs": inputs.tolist(), **options}
    answer = http.post("/v1/models/digits-vae/score", json=body)
    result = both("score", "digits-vae", inputs, **options)
    assert_equal(result, scored(answer.json()))
    assert result.surprise.dtype == np.float64


def test_scores_by_other_draws_have_no_p_values_and_one_draw_no_standard_error(both: Both) -> None:
    result = both("score", "toy-vae", toy.items(3), draws=1, seed=2)
    assert (result.draws, result.seed, result.p_value, result.anomaly) == (1, 2, None, None)
    assert "standard_error" not in result.columns
    assert repr(result).endswith(" in nats: no p-values>")


def test_clients_and_scores_say_in_a_line_what_they_are(client: Client, service: RunningService) -> None:
    scores = client.score("digits-vae", np.zeros((9, 1, 8, 8)), alpha=0.5)
    assert repr(scores) == "<scores of 9 items by elbo, in nats: 9 flagged at alpha 0.5>"
    assert repr(client) == f"<Client of {service.url}>"
    assert repr(AsyncClient(service.url)) == f"<AsyncClient of {service.url}>"


def test_judgements_are_those_of_the_answer(both: Both, http: httpx.Client) -> None:
    inputs = np.random.default_rng(1).normal(size=(5, 2))
    answers = http.post("/v1/models/toy-gan/discriminate", json={"inputs": inputs.tolist()}).json()["scores"]
    judgement = both("discriminate", "toy-gan", inputs)
    for name in ("logit", "probability", "log_density_ratio"):
        assert_equal(getattr(judgement, name), np.array([answer[name] for answer in answers]))
    assert both("discriminate", "packed-gan", inputs).log_density_ratio is None


@pytest.mark.parametrize(
    ("end", "fields"),
    [
        ((7, 3), {"seed": 7, "index": 3}),
        (np.array([0.5, -1.25]), {"latent": [0.5, -1.25]}),
        (np.array([[[0, 1], [1, 1]]], bool), {"input": [[[0, 1], [1, 1]]]}),
        ({"latent": [1, 2]}, {"latent": [1, 2]}),
        ({"seed": 4}, {"seed": 4}),
    ],
)
def test_paths_are_those_of_the_answer(
    both: Both, http: httpx.Client, end: Any, fields: dict[str, Any]
) -> None:
    body = {"from": {"seed": 1, "index": 2}, "to": fields, "steps": 5, "path": "linear"}
    answer = http.post("/v1/models/toy-vae/interpolate", json=body).json()
    path = both("interpolate", "toy-vae", (1, 2), end, steps=5, path="linear")
    assert_equal(path.samples, np.array(answer["samples"], np.float32))
    assert_equal(path.latents, np.array(answer["latents"], np.float32))


def test_a_table_is_read_by_the_names_of_its_columns(both: Both) -> None:
    items = toy_table.items(20)
    colours = np.array(["red", "green", "blue"])[items[:, 1:].argmax(axis=1)]
    table = {"other": colours, "colour": colours, "height": items[:, 0]}
    assert_equal(both("score", "toy-table", table), both("score", "toy-table", items))


def test_scores_of_a_table_have_its_ids(both: Both) -> None:
    table = {"patient": ["b", "a"], "colour": ["blue", "red"], "height": [170, 180.5]}
    scores = both("score", "toy-table", table, id="patient")
    assert scores.id_name == "patient"
    assert scores.ids.tolist() == ["b", "a"]
    encoding = both("encode", "toy-table", table, id="patient")
    assert (encoding.id_name, encoding.ids.tolist()) == ("patient", ["b", "a"])
    assert both("score", "toy-table", toy_table.items(2)).ids is None
    with pytest.raises(Unfit, match="`nobody`, which the inputs have 0 times"):
        both("score", "toy-table", table, id="nobody")


def test_the_catalogue_and_the_manifest_are_those_of_the_answers(both: Both, http: httpx.Client) -> None:
    assert both("models") == http.get("/v1/models").json()["models"]
    assert both("model", "toy-vae") == http.get("/v1/models/toy-vae").json()
    assert both("model", "toy-vae", version=1) == http.get("/v1/models/toy-vae/versions/1").json()


def test_samples_without_a_seed_differ_from_call_to_call(client: Client) -> None:
    assert (client.sample("toy-vae") != client.sample("toy-vae")).any()


def test_threads_that_share_a_client_get_their_own_answers(client: Client) -> None:
    def ask(seed: int) -> NDArray[np.float32]:
        return client.sample("toy-vae", count=1100, seed=seed)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(16)))
    for seed, answer in enumerate(answers):
        assert_equal(answer, ask(seed))
