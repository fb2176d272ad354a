"""The promises of the service that need a server: equal rows and scores, kept limits, a graceful end."""

import asyncio
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from pushforward import Client
from service.errors import ProviderUnavailable
from service.format.specs import GraphName
from service.numerics.noise import Stream, normals
from service.runtime.engine import Engine
from tests import toy
from tests.conftest import PUBLISHED
from tests.end_to_end.connections import everything, given_up
from tests.published import each, manifest_of, newest
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

without_nvidia = pytest.mark.skipif(
    Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA device"
)
SCORED = [name for name in PUBLISHED if "score" in manifest_of(name).operations]


@pytest.mark.parametrize("model", each())
def test_a_row_is_bit_for_bit_the_same_in_every_batch_of_1_to_64_and_any_order(model: str) -> None:
    manifest = manifest_of(model)
    engine = Engine(newest(model), manifest, "cpu", 64)
    latents = normals(1, Stream.LATENT, 0, 64, manifest.latent_size)
    items = np.random.default_rng(1).random((64, *manifest.item_shape), dtype=np.float32)
    given: dict[GraphName, np.ndarray] = {
        "decode": latents,
        "generate_scored": latents,
        "discriminate": items,
        "statistics": items,
        "map": items,
    }
    classes: tuple[np.ndarray, ...] = ()
    if manifest.conditional:
        names = len(manifest.class_names)
        classes = (np.eye(names, dtype=np.float32)[np.arange(64) % names],)
    for graph in manifest.graphs.keys() & given.keys():
        rows = (given[graph], *classes)
        whole = engine.run(graph, rows)
        for size in range(1, 65):
            start = (size * 7) % (65 - size)
            part = engine.run(graph, tuple(array[start : start + size] for array in rows))
            for one, other in zip(part, whole, strict=True):
                np.testing.assert_array_equal(one, other[start : start + size])
        order = np.random.default_rng(0).permutation(64)
        reordered = engine.run(graph, tuple(array[order] for array in rows))
        for one, other in zip(reordered, whole, strict=True):
            np.testing.assert_array_equal(one, other[order])


@pytest.mark.parametrize("model", each(SCORED))
def test_the_same_input_has_the_same_score_wherever_it_stands(python_client: Client, model: str) -> None:
    manifest = python_client.model(model)
    inputs = np.random.default_rng(1).random((9, *manifest["item_shape"])).astype(np.float32)
    if manifest["support"] == "binary":
        inputs = inputs.round()
    together = python_client.score(model, inputs).table()
    for rows in ([*reversed(range(9))], *([row] for row in range(9))):
        for name, scores in python_client.score(model, inputs[rows]).table().items():
            np.testing.assert_array_equal(scores, together[name][rows])


def test_a_row_the_model_cannot_compute_harms_no_batch_mate(service: RunningService) -> None:
    path = "/v1/models/poisoned-vae/decode"

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            latents = [[500.0 if number % 8 == 0 else 0.0, float(number)] for number in range(64)]
            return await asyncio.gather(*(client.post(path, json={"latents": [row]}) for row in latents))

    for number, response in enumerate(asyncio.run(together())):
        assert response.status_code == (500 if number % 8 == 0 else 200)
        if response.status_code == 500:
            assert response.json()["code"] == "engine_failed"


def test_a_deadline_is_kept_and_the_service_goes_on(client: httpx.Client) -> None:
    body = {"inputs": toy.items(100).tolist(), "draws": 5000}
    late = client.post("/v1/models/toy-vae/score", json=body, headers={"x-request-timeout-seconds": "0.001"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert client.post("/v1/models/toy-vae/score", json={"inputs": toy.items(1).tolist()}).status_code == 200


def test_rows_of_a_client_that_left_are_given_up(service: RunningService) -> None:
    body = json.dumps({"inputs": toy.items(200).tolist(), "draws": 5000}).encode()

    before = given_up(service)
    with service.connect() as connection:
        head = f"POST /v1/models/toy-vae/score HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
    wait_until(lambda: given_up(service) > before)
    # read anew: one text is not read at one instant, and its queue comes before its rejections
    assert service.metric("pushforward_queue_items", model="toy-vae", stage="score") == 0


def test_a_full_queue_answers_429_and_when_to_come_back(models: Path) -> None:
    path = "/v1/models/toy-vae/sample"

    async def together(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            return await asyncio.gather(*(client.post(path, json={"count": 900}) for _ in range(64)))

    with running_service(models, "--max-waiting-rows", "1000") as service:
        refused = [answer for answer in asyncio.run(together(service.url)) if answer.status_code != 200]
        assert refused
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        never = service.client.post(path, json={"count": 1001})
        assert (never.status_code, never.json()["code"]) == (422, "limit_exceeded")
        assert service.client.post(path, json={"count": 1000}).status_code == 200


@without_nvidia
def test_asking_for_cuda_where_there_is_none_refuses_to_start(models: Path) -> None:
    service = RunningService(models, "--device", "cuda")
    assert service.process.wait(timeout=60) == 2
    service.stop()
    assert "the device asked for is cuda" in "".join(service.lines)


@without_nvidia
def test_auto_says_in_the_log_the_catalogue_and_a_metric_that_it_fell_back(service: RunningService) -> None:
    assert any("running on the CPU" in line for line in service.lines)
    assert {model["provider"] for model in service.client.get("/v1/models").json()["models"]} == {"cpu"}
    assert service.metric("pushforward_provider_active", provider="cpu") == 1


@without_nvidia
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")  # by the build without CUDA
def test_cuda_is_refused_by_the_engine_itself_where_there_is_none() -> None:
    with pytest.raises(ProviderUnavailable):
        Engine(newest("digits-vae"), manifest_of("digits-vae"), "cuda", 64)


def test_sigterm_drains_answers_what_is_in_flight_and_exits_0(models: Path) -> None:
    with running_service(models, "--drain-delay-seconds", "0.5") as service:
        body = {"inputs": toy.items(200).tolist(), "draws": 5000}

        def not_ready() -> httpx.Response | None:
            ready = service.client.get("/readyz")
            return None if ready.status_code == 200 else ready

        with ThreadPoolExecutor(1) as thread, httpx.Client(base_url=service.url, timeout=60) as other:
            long = thread.submit(other.post, "/v1/models/toy-vae/score", json=body)
            wait_until(lambda: service.metric("pushforward_inflight_requests") == 2)
            service.process.send_signal(signal.SIGTERM)
            ready = wait_until(not_ready)
            assert ready is not None
            assert ready.json()["status"] == "draining"
            last = service.client.post("/v1/models/toy-vae/sample")
            assert (last.status_code, last.headers["connection"]) == (200, "close")
            assert len(long.result().json()["scores"]) == 200
        assert service.process.wait(timeout=60) == 0


def test_requests_that_come_upon_one_another_are_answered_in_their_order(service: RunningService) -> None:
    def request(seed: int, *more: str) -> bytes:
        body = json.dumps({"seed": seed})
        head = ("POST /v1/models/toy-vae/sample HTTP/1.1", "host: x", f"content-length: {len(body)}", *more)
        return "\r\n".join([*head, "", body]).encode()

    with service.connect() as connection:
        requests = [*map(request, range(4)), request(4, "connection: close")]
        connection.sendall(b"".join(requests))
        answers = everything(connection)
    bodies = [json.loads(part[: part.index(b"}") + 1]) for part in answers.split(b"\r\n\r\n")[1:]]
    assert [body["seed"] for body in bodies] == [0, 1, 2, 3, 4]
    alone = [
        service.client.post("/v1/models/toy-vae/sample", json={"seed": seed}).json() for seed in range(5)
    ]
    assert bodies == alone
