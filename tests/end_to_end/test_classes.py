"""A version with a class condition: the label is a part of a sample's address, in every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from pushforward import Client
from pushforward.command.app import app
from pushforward.local import LocalModels
from service.errors import Unfit
from service.numerics.noise import Stream, normals
from tests.serving import RunningService, as_npy, npy, running_service
from tests.toy import exact_log_evidence, items, publish_toy
from tests.toy_conditional import CLASSES, SHIFTS, publish_conditional, publish_conditional_vae, turned

NAME, VAE = "classes-gan", "classes-vae"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_conditional(models)
    publish_conditional_vae(models)
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


def inferred(served: RunningService, seed: int, indices: list[int], **parameters: Any) -> np.ndarray:
    """Samples by the Open Inference Protocol."""
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [len(numbers)], "data": numbers}
        for name, numbers in (("seed", [seed] * len(indices)), ("index", indices))
    ]
    body = {"inputs": inputs, "parameters": parameters}
    answer = served.client.post(f"{served.url}/v2/models/{NAME}.sample/infer", json=body).json()
    return np.array(answer["outputs"][0]["data"], np.float32).reshape(-1, 2)


def run_command(*arguments: object) -> None:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output


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


def test_a_sample_of_a_batch_of_several_classes_is_that_of_its_class_alone(
    served: RunningService, folder: Path
) -> None:
    labels = [2, 0, 0, 1, 2]
    expected = np.concatenate([wanted(7, 1, label, 4 + row) for row, label in enumerate(labels)])
    text, names = ",".join(map(str, labels)), [CLASSES[label] for label in labels]
    query: dict[str, Any] = {"seed": 7, "offset": 4}
    np.testing.assert_array_equal(npy(get(served, **query, labels=text)), expected)
    np.testing.assert_array_equal(npy(get(served, seed=7, offset=6, count=2, labels="0, 1")), expected[2:4])
    body = {**query, "labels": names, "count": None}
    answer = served.client.post(f"{served.url}/v1/models/{NAME}/sample", json=body).json()
    np.testing.assert_array_equal(np.float32(answer["samples"]), expected)
    assert (answer["labels"], answer["shape"]) == (names, [5, 2])
    assert "label" not in answer
    np.testing.assert_array_equal(inferred(served, 7, [4, 5, 6, 7, 8], labels=text), expected)
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            np.testing.assert_array_equal(each.sample(NAME, **query, label=np.array(labels)), expected)
            chunks = list(each.iter_samples(NAME, **query, count=5, label=names, chunk_rows=2))
            assert [*map(len, chunks)] == [2, 2, 1]
            np.testing.assert_array_equal(np.concatenate(chunks), expected)


def test_without_a_label_the_classes_come_in_turn_by_the_numbers_of_the_samples(
    served: RunningService, folder: Path, tmp_path: Path
) -> None:
    expected = np.concatenate([wanted(7, 1, number % 3, number) for number in range(2_000)])
    np.testing.assert_array_equal(npy(get(served, seed=7, count=2_000)), expected)  # streamed
    np.testing.assert_array_equal(npy(get(served, seed=7, count=9, offset=5)), expected[5:14])
    answer = served.client.get(f"{served.url}/v1/models/{NAME}/sample?seed=7&offset=1&count=3").json()
    assert answer["labels"] == [CLASSES[1], CLASSES[2], CLASSES[0]]
    np.testing.assert_array_equal(inferred(served, 7, [8, 1, 8]), expected[[8, 1, 8]])
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            np.testing.assert_array_equal(each.sample(NAME, seed=7, count=9, offset=5), expected[5:14])
    line = f"bulk sample {NAME} --count 9 --offset 5 --seed 7 --part-rows 4".split()
    run_command(*line, "--local", folder, "--out", tmp_path / "samples")
    table = parquet.read_table(tmp_path / "samples")
    assert table["label"].to_pylist() == [CLASSES[number % 3] for number in range(5, 14)]
    np.testing.assert_array_equal(np.float32(table["sample"].to_pylist()), expected[5:14])


@pytest.mark.parametrize("method", ["rejection", "resample", "metropolis"])
def test_a_sample_is_chosen_among_proposals_of_its_class_in_every_protocol(
    method: str, served: RunningService, folder: Path, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"seed": 7, "method": method, "budget": 6}
    of_each = [npy(get(served, **how, label=label, count=20)) for label in CLASSES]
    if method != "metropolis":  # whose chains start from items of the class
        for label in (1, 2):
            np.testing.assert_allclose(of_each[label] - SHIFTS[label], of_each[0], atol=1e-5)
    expected = np.stack([of_each[number % 3][number] for number in range(20)])
    np.testing.assert_array_equal(npy(get(served, **how, count=20)), expected)
    body = {**how, "offset": 4, "labels": [2, 2, 0], "return_latents": True}
    answer = served.client.post(f"{served.url}/v1/models/{NAME}/sample", json=body).json()
    mixed = np.stack([of_each[2][4], of_each[2][5], of_each[0][6]])
    np.testing.assert_array_equal(np.float32(answer["samples"]), mixed)
    decoded = {"latents": answer["latents"], "labels": [2, 2, 0]}
    again = served.client.post(f"{served.url}/v1/models/{NAME}/decode", json=decoded).json()
    np.testing.assert_array_equal(np.float32(again["samples"]), mixed)
    found = inferred(served, 7, [4, 12, 13, 4], method=method, budget=6, labels="2,0,1,1")
    rows = [of_each[2][4], of_each[0][12], of_each[1][13], of_each[1][4]]
    np.testing.assert_array_equal(found, np.stack(rows))
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            np.testing.assert_array_equal(each.sample(NAME, **how, offset=4, label=[2, 2, 0]), mixed)
            chunks = each.iter_samples(NAME, **how, count=20, chunk_rows=7)
            np.testing.assert_array_equal(np.concatenate([*chunks]), expected)
    line = f"bulk sample {NAME} --count 20 --seed 7 --part-rows 9 --method {method} --budget 6".split()
    run_command(*line, "--local", folder, "--out", tmp_path / "samples")
    table = parquet.read_table(tmp_path / "samples")
    np.testing.assert_array_equal(np.float32(table["sample"].to_pylist()), expected)


def test_many_labelled_samples_are_drawn_in_pieces(served: RunningService, folder: Path) -> None:
    labels = np.arange(70_000) * 7 % 3
    expected = 2 * normals(7, Stream.LATENT, 0, len(labels), 2) + 1 + SHIFTS[labels]
    with LocalModels(folder) as local:
        np.testing.assert_array_equal(local.sample(NAME, seed=7, label=labels), np.float32(expected))
    with Client(served.url) as client:
        found = client.sample(NAME, seed=7, label=labels[:2_500])
        np.testing.assert_array_equal(found, np.float32(expected[:2_500]))
        with pytest.raises(Unfit) as error:
            client.sample(NAME, seed=7, label=[*labels[:1_030].tolist(), "shoe"])
        assert error.value.flaws[0].row == 1_030


def test_classes_go_beside_samples_that_are_a_table(
    served: RunningService, folder: Path, tmp_path: Path
) -> None:
    url = f"{served.url}/v1/models/{NAME}/sample"
    lines = served.client.get(f"{url}?seed=7&count=4", headers={"Accept": "text/csv"}).text.splitlines()
    assert [each.split(",")[0] for each in lines] == ["label", *CLASSES, CLASSES[0]]
    lines = served.client.get(f"{url}?seed=7&label=1", headers={"Accept": "text/csv"}).text.splitlines()
    assert [each.split(",")[0] for each in lines] == ["label", "bag"]
    for where in (("--url", served.url), ("--local", str(folder))):
        for asked, names in (
            (["--labels", "bag, 2,0"], ["bag", "7", "sneaker"]),
            (["--count", "3", "--offset", "1"], ["bag", "7", "sneaker"]),
            (["--label", "bag"], ["bag"]),
        ):
            out = tmp_path / "samples.csv"
            run_command("sample", NAME, *asked, "--out", out, *where)
            assert [each.split(",")[0] for each in out.read_text().splitlines()] == ["label", *names]
        for kind in ("npy", "csv", "parquet"):  # an option that is refused with the first of many samples
            many = ["--count", str(10**15), "--budget", "4", "--out", str(tmp_path / f"many.{kind}")]
            result = CliRunner().invoke(app, ["sample", NAME, *many, *where])
            assert isinstance(result.exception, Unfit), result.output
        run_command("sample", NAME, "--count", 3_000, "--offset", 2, "--out", tmp_path / "long.csv", *where)
        lines = (tmp_path / "long.csv").read_text().splitlines()[1:]
        assert [each.split(",")[0] for each in lines] == [CLASSES[number % 3] for number in range(2, 3_002)]


def test_labels_of_samples_that_do_not_fit_are_refused(served: RunningService, folder: Path) -> None:
    for query, words in (
        ({"labels": "0,1", "count": 3}, "`labels` has 2 for 3 rows"),
        ({"labels": "0,1", "label": 0}, "give one of the two"),
        ({"labels": "0,shoe"}, "no such class as the label of row 1"),
        ({"labels": ""}, "wanted a class by its number"),
    ):
        answer = get(served, seed=7, **query)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    other = served.client.get(f"{served.url}/v1/models/toy-vae/sample?labels=1")
    assert "toy-vae takes no `labels`" in other.json()["detail"]
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            for labels, words in (([0, 1], "2 labels came for 3 samples"), ([], "0 labels came for 3")):
                with pytest.raises(Unfit, match=words):
                    each.sample(NAME, count=3, label=labels)
    result = CliRunner().invoke(
        app, ["sample", NAME, "--label", "0", "--labels", "0", "--local", str(folder)]
    )
    assert isinstance(result.exception, Unfit)
    assert "give one of the two" in str(result.exception)


def test_a_label_is_one_of_the_classes_where_there_are_some_and_refused_elsewhere(
    served: RunningService,
) -> None:
    for query in ({"label": "shirt"}, {"label": 3}, {"label": "8"}):
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
    np.testing.assert_array_equal(inferred(served, 3, [0, 1, 2, 3], label="bag"), samples)
    latents = normals(3, Stream.LATENT, 0, 4, 2)
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            np.testing.assert_array_equal(each.sample(NAME, count=4, seed=3, label="bag"), samples)
            chunks = list(each.iter_samples(NAME, count=4, seed=3, label=1, chunk_rows=3))
            np.testing.assert_array_equal(np.concatenate(chunks), samples)
            np.testing.assert_array_equal(each.decode(NAME, latents, label=1), samples)
            path = each.interpolate(NAME, (3, 0), (3, 1), steps=2, label="bag")
            np.testing.assert_array_equal(path.samples, samples[:2])
            judged = each.discriminate(NAME, samples, label="bag")
            np.testing.assert_allclose(judged.logit, (samples - SHIFTS[1]).sum(1), rtol=1e-5)


def test_the_commands_take_a_label(served: RunningService, folder: Path, tmp_path: Path) -> None:
    for where in (("--url", served.url), ("--local", str(folder))):
        out = tmp_path / f"{where[0][2:]}.npy"
        run_command("sample", NAME, "--count", 4, "--seed", 3, "--label", "bag", "--out", out, *where)
        np.testing.assert_array_equal(np.load(out), wanted(3, 4, 1))


@pytest.mark.parametrize("operation", ["score", "encode", "reconstruct"])
def test_the_commands_on_items_take_a_label(
    operation: str, served: RunningService, folder: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "items.npy", ITEMS)
    written = []
    for number, where in enumerate((("--url", served.url), ("--local", str(folder)))):
        out = tmp_path / f"{number}.npz"
        run_command(operation, VAE, tmp_path / "items.npy", "--label", "bag", "--out", out, *where)
        with np.load(out) as arrays:
            written.append({name: arrays[name] for name in arrays})
    name = {"score": "surprise", "encode": "mean", "reconstruct": "reconstructions"}[operation]
    with LocalModels(folder) as local:
        expected = getattr(local, operation)(VAE, ITEMS, label=1)
    expected = expected if operation == "reconstruct" else getattr(expected, name)
    for arrays in written:
        np.testing.assert_array_equal(arrays[name], expected)


def test_rows_of_several_classes_share_a_batch_unmixed(served: RunningService) -> None:
    bodies = [as_npy(np.full((40, 2), label, np.float32)) for label in range(3)]
    with httpx.Client() as client:
        for label, body in enumerate(bodies):
            answer = client.post(
                f"{served.url}/v1/models/{NAME}/decode?label={label}", content=body,
                headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
            )  # fmt: skip
            np.testing.assert_array_equal(npy(answer), np.tile(2 * label + 1 + SHIFTS[label], (40, 1)))


ITEMS, LABELS = items(40, seed=3), np.arange(40) * 7 % len(CLASSES)
"""Items, and the classes that they are called."""
PLAIN = turned(ITEMS, LABELS)
"""The items that the toy without classes has in their place."""


def test_items_of_a_class_are_scored_encoded_and_reconstructed_as_such(folder: Path) -> None:
    with LocalModels(folder) as local:
        scores, plain = local.score(VAE, ITEMS, label=LABELS), local.score("toy-vae", PLAIN)
        for name in ("elbo", "importance_bound", "kl"):
            np.testing.assert_allclose(scores.columns[name], plain.columns[name], rtol=1e-5)
        encoding, other = local.encode(VAE, ITEMS, label=LABELS), local.encode("toy-vae", PLAIN)
        np.testing.assert_allclose(encoding.mean, other.mean, rtol=1e-5, atol=1e-6)
        rebuilt = local.reconstruct(VAE, ITEMS, label=LABELS)
        np.testing.assert_allclose(turned(rebuilt, LABELS), local.reconstruct("toy-vae", PLAIN), atol=1e-6)


def test_the_bounds_are_on_the_evidence_given_the_class(folder: Path) -> None:
    with LocalModels(folder) as local:
        scores = local.score(VAE, ITEMS, label=LABELS, draws=5000, seed=1)
    exact = np.array([exact_log_evidence(item) for item in PLAIN])
    assert (scores.columns["elbo"] <= exact + 5 * scores.columns["standard_error"]).all()


def test_a_row_has_the_same_score_whatever_the_labels_beside_it(served: RunningService, folder: Path) -> None:
    with LocalModels(folder) as local:
        together = local.score(VAE, ITEMS, label=LABELS)
    with Client(served.url) as client:
        by_client = client.score(VAE, ITEMS, label=[CLASSES[number] for number in LABELS])
        for number, name in enumerate(CLASSES):
            chosen = number == LABELS
            alone = client.score(VAE, ITEMS[chosen], label=name)
            for found in (together, by_client):
                np.testing.assert_array_equal(found.surprise[chosen], alone.surprise)
                np.testing.assert_array_equal(found.p_value[chosen], alone.p_value)  # type: ignore[index]


def test_every_protocol_takes_a_label_for_each_row(served: RunningService) -> None:
    url, rows = f"{served.url}/v1/models/{VAE}", {"inputs": ITEMS.tolist()}
    one = served.client.post(f"{url}/encode", json={**rows, "labels": LABELS.tolist()}).json()["mean"]
    named = {**rows, "labels": [CLASSES[number] for number in LABELS]}
    assert served.client.post(f"{url}/encode", json=named).json()["mean"] == one
    text = ",".join(map(str, LABELS))
    headers = {"Content-Type": "application/x-npy"}
    query = served.client.post(f"{url}/encode?labels={text}", content=as_npy(ITEMS), headers=headers)
    assert query.json()["mean"] == one
    tensor = {"name": "inputs", "datatype": "FP32", "shape": list(ITEMS.shape), "data": ITEMS.tolist()}
    asked: dict[str, Any] = {"inputs": [tensor], "parameters": {"labels": text}}
    answer = served.client.post(f"{served.url}/v2/models/{VAE}.encode/infer", json=asked).json()
    np.testing.assert_array_equal(np.float32(answer["outputs"][0]["data"]).reshape(-1, 2), np.float32(one))
    with Client(served.url) as client:
        np.testing.assert_array_equal(client.encode(VAE, ITEMS, label=LABELS).mean, np.float32(one))


def test_labels_that_do_not_fit_are_refused(served: RunningService) -> None:
    url, rows = f"{served.url}/v1/models/{VAE}", {"inputs": ITEMS[:2].tolist()}
    for asked, words in (
        ({}, "takes a `label`, and none came"),
        ({"label": 0, "labels": [0, 1]}, "give one of the two"),
        ({"labels": [0]}, "`labels` has 1 for 2 rows"),
        ({"labels": [0, "shoe"]}, "no such class as the label of row 1"),
    ):
        for operation in ("score", "encode", "reconstruct"):
            answer = served.client.post(f"{url}/{operation}", json={**rows, **asked})
            assert answer.status_code == 422
            assert words in answer.json()["detail"]
    other = {**rows, "labels": [0, 1]}
    answer = served.client.post(f"{served.url}/v1/models/toy-vae/score", json=other)
    assert answer.status_code == 422
    assert "toy-vae takes no `labels`" in answer.json()["detail"]
    with Client(served.url) as client:
        for label, words in (([0], "1 labels came for 2 rows"), ([0, 1.5], "the label of row 1 is 1.5")):
            with pytest.raises(Unfit, match=words):
                client.score(VAE, ITEMS[:2], label=label)  # type: ignore[arg-type]


def test_many_labelled_rows_are_sent_in_pieces_and_corrected_together(
    served: RunningService, folder: Path
) -> None:
    rows = np.tile(ITEMS, (60, 1, 1, 1))
    labels = np.tile(LABELS, 60)
    with Client(served.url) as client, LocalModels(folder) as local:
        for each in (client, local):
            found = each.score(VAE, rows, label=labels, alpha=0.5, correction="benjamini-hochberg")
            assert len(found.surprise) == len(rows)
            np.testing.assert_array_equal(found.surprise[:40], found.surprise[-40:])
            np.testing.assert_array_equal(found.anomaly[:40], found.anomaly[-40:])  # type: ignore[index]


def test_drawn_samples_are_of_the_class(folder: Path) -> None:
    with LocalModels(folder) as local:
        plain = local.sample("toy-vae", count=30, seed=5, output="draw")
        for number in range(len(CLASSES)):
            drawn = local.sample(VAE, count=30, seed=5, output="draw", label=number)
            np.testing.assert_array_equal(turned(drawn, np.full(30, number)), plain)


def test_a_path_between_items_encodes_them_as_of_its_class(folder: Path) -> None:
    with LocalModels(folder) as local:
        ends = [{"input": item} for item in ITEMS[:2]]
        walk = local.interpolate(VAE, *ends, steps=2, label=1)
        expected = local.reconstruct(VAE, ITEMS[:2], label=1)
        np.testing.assert_allclose(walk.samples, expected, atol=1e-6)


def test_the_examples_that_the_documentation_proposes_have_a_label(served: RunningService) -> None:
    paths = served.client.get("/openapi.json").json()["paths"]
    for operation in ("score", "encode", "reconstruct", "discriminate", "interpolate", "decode", "sample"):
        content = paths[f"/v1/models/{{model}}/{operation}"]["post"]["requestBody"]["content"]
        for model, example in content["application/json"]["examples"].items():
            url = f"{served.url}/v1/models/{model}/{operation}"
            assert served.client.post(url, json=example["value"]).status_code == 200, (url, example)
