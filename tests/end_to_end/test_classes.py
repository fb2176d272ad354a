"""A version with a class condition: the label is a part of a sample's address, in every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from pushforward import Client
from pushforward.command.app import app
from pushforward.local import LocalModels
from service.numerics.noise import Stream, normals
from tests.serving import RunningService, as_npy, npy, running_service
from tests.toy import publish_toy
from tests.toy_conditional import CLASSES, SHIFTS, publish_conditional

NAME = "classes-gan"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_conditional(models)
    publish_toy(models)
    return models


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[RunningService]:
    with running_service(folder) as service:
        yield service


def wanted(seed: int, count: int, label: int, offset: int = 0) -> np.ndarray:
    """The samples that the toy's formula gives."""
    latents = normals(seed, Stream.LATENT, offset, count, 2)
    return np.asarray(2 * latents + 1 + SHIFTS[label], np.float32)


def get(served: RunningService, **query: Any) -> httpx.Response:
    accept = {"Accept": "application/x-npy"}
    return served.client.get(f"{served.url}/v1/models/{NAME}/sample", params=query, headers=accept)


@pytest.mark.parametrize("number", range(len(CLASSES)))
def test_a_sample_depends_on_seed_index_and_label_alone(number: int, served: RunningService) -> None:
    whole = npy(get(served, seed=7, count=50, label=number))
    np.testing.assert_array_equal(whole, wanted(7, 50, number))
    np.testing.assert_array_equal(npy(get(served, seed=7, count=50, label=CLASSES[number])), whole)
    np.testing.assert_array_equal(npy(get(served, seed=7, count=3, offset=20, label=number)), whole[20:23])
    body = {"seed": 7, "count": 2, "label": CLASSES[number], "temperature": 0.5}
    answer = served.client.post(f"{served.url}/v1/models/{NAME}/sample", json=body).json()
    assert answer["label"] == CLASSES[number]
    latents = 0.5 * normals(7, Stream.LATENT, 0, 2, 2)
    np.testing.assert_allclose(answer["samples"], 2 * latents + 1 + SHIFTS[number], rtol=1e-6)


def test_the_entity_tag_is_that_of_the_label(served: RunningService) -> None:
    tags = [get(served, seed=7, label=label).headers["etag"] for label in (*CLASSES, *range(3))]
    assert tags[:3] == tags[3:]
    assert len(set(tags)) == 3
    other = {"If-None-Match": tags[0], "Accept": "application/x-npy"}
    path = f"{served.url}/v1/models/{NAME}/sample?seed=7&label="
    assert served.client.get(f"{path}{CLASSES[0]}", headers=other).status_code == 304
    assert served.client.get(f"{path}{CLASSES[1]}", headers=other).status_code == 200


def test_a_label_is_needed_where_there_are_classes_and_refused_elsewhere(served: RunningService) -> None:
    for query in ({}, {"label": "shirt"}, {"label": 3}, {"label": "8"}):
        answer = get(served, seed=7, **query)
        assert answer.status_code == 422
        assert "a number from 0 to 2, or a name: sneaker, bag, 7" in answer.json()["detail"]
    assert get(served, seed=7, label=-1).status_code == 422
    body = {"latents": [[0.0, 0.0]]}
    assert served.client.post(f"{served.url}/v1/models/{NAME}/decode", json=body).status_code == 422
    other = served.client.get(f"{served.url}/v1/models/toy-vae/sample?label=1")
    assert other.status_code == 422
    assert "toy-vae takes no `label`" in other.json()["detail"]


def test_every_protocol_gives_the_same_bytes(served: RunningService, folder: Path) -> None:
    samples = wanted(3, 4, 1)
    path = f"{served.url}/v2/models/{NAME}"
    numbers = [
        {"name": "seed", "datatype": "INT64", "shape": [4], "data": [3] * 4},
        {"name": "index", "datatype": "INT64", "shape": [4], "data": [0, 1, 2, 3]},
    ]
    asked: dict[str, Any] = {"inputs": numbers, "parameters": {"label": "bag"}}
    answer = served.client.post(f"{path}.sample/infer", json=asked).json()
    np.testing.assert_array_equal(np.float32(answer["outputs"][0]["data"]).reshape(4, 2), samples)
    latents = normals(3, Stream.LATENT, 0, 4, 2)
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            np.testing.assert_array_equal(each.sample(NAME, count=4, seed=3, label="bag"), samples)
            chunks = list(each.iter_samples(NAME, count=4, seed=3, label=1, chunk_rows=3))
            np.testing.assert_array_equal(np.concatenate(chunks), samples)
            np.testing.assert_array_equal(each.decode(NAME, latents, label=1), samples)
            path_ = each.interpolate(NAME, (3, 0), (3, 1), steps=2, label="bag")
            np.testing.assert_array_equal(path_.samples, samples[:2])
            judged = each.discriminate(NAME, samples, label="bag")
            np.testing.assert_allclose(judged.logit, (samples - SHIFTS[1]).sum(1), rtol=1e-5)


def test_the_commands_take_a_label(served: RunningService, folder: Path, tmp_path: Path) -> None:
    for where in (("--url", served.url), ("--local", str(folder))):
        out = tmp_path / f"{where[0][2:]}.npy"
        arguments = [
            "sample",
            NAME,
            "--count",
            "4",
            "--seed",
            "3",
            "--label",
            "bag",
            "--out",
            str(out),
            *where,
        ]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(np.load(out), wanted(3, 4, 1))


def test_rows_of_several_classes_share_a_batch_unmixed(served: RunningService) -> None:
    bodies = [as_npy(np.full((40, 2), label, np.float32)) for label in range(3)]
    with httpx.Client() as client:
        for label, body in enumerate(bodies):
            answer = client.post(
                f"{served.url}/v1/models/{NAME}/decode?label={label}", content=body,
                headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
            )  # fmt: skip
            np.testing.assert_array_equal(npy(answer), np.tile(2 * label + 1 + SHIFTS[label], (40, 1)))
