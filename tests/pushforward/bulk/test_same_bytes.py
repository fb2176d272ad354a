"""The output is the same bytes however the work is shared, and has the service's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from pushforward.bulk.failures import BulkMistake
from pushforward.bulk.plan import Plan, Shard, rows_per_part, shard_from
from pushforward.local import load
from tests.pushforward.bulk.work import array, hashes, parts, started, table, work
from tests.serving import as_npy, npy, running_service
from tests.toy import items
from tests.toy_conditional import publish_conditional, publish_conditional_vae

NPY = {"accept": "application/x-npy", "content-type": "application/x-npy"}


@pytest.mark.bulk
def test_samples_are_the_same_bytes_for_any_number_of_shards(bulk_models: Path, tmp_path: Path) -> None:
    options = {"count": 1_000, "seed": 7, "part_rows": 150}
    for shards in (1, 2, 3):
        for index in range(shards):
            out = tmp_path / f"{shards}-shards"
            report = work("sample", bulk_models, "digits-vae", out, shard=Shard(index, shards), **options)
            assert report.complete is (index == shards - 1)
    one, *others = [hashes(out) for out in sorted(tmp_path.iterdir())]
    assert len(parts(tmp_path / "3-shards")) == 7
    assert "_manifest.json" in one
    assert others == [one] * 2


@pytest.mark.bulk
def test_two_shards_of_two_processes_each_at_once_make_the_same_bytes(
    bulk_models: Path, digits: Path, tmp_path: Path
) -> None:
    line = ["score", "digits-vae", digits, "--part-rows", 60, "--local", bulk_models]
    running = [
        started(*line, "--out", tmp_path / "shared", "--processes", 2, "--shard", f"{index}/2")
        for index in range(2)
    ]
    for process in running:
        errors = process.communicate(timeout=100)[1]
        assert process.returncode == 0, errors
    work("score", bulk_models, "digits-vae", tmp_path / "alone", input=str(digits), part_rows=60)
    assert hashes(tmp_path / "shared") == hashes(tmp_path / "alone")


@pytest.mark.bulk
def test_rows_of_a_class_have_the_answers_of_a_local_version(tmp_path: Path) -> None:
    version = publish_conditional_vae(tmp_path / "models")
    np.save(tmp_path / "items.npy", rows := items(40, seed=3))
    given: dict[str, Any] = {"input": str(tmp_path / "items.npy"), "options": {"label": "bag"}}
    for operation in ("score", "encode", "reconstruct"):
        work(operation, tmp_path / "models", "classes-vae", tmp_path / operation, **given)
    given |= {"input": str(tmp_path / "encode"), "column": "mean"}
    work("decode", tmp_path / "models", "classes-vae", tmp_path / "decode", **given)
    with load(version) as model:
        expected = model.reconstruct(rows, label=1)
        surprise = model.score(rows, label=1).surprise
    for out in ("reconstruct", "decode"):
        found = array(tmp_path / out, "sample")
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    np.testing.assert_array_equal(table(tmp_path / "score")["surprise"], surprise)
    with pytest.raises(BulkMistake, match="takes a `label`, and none came"):
        work("score", tmp_path / "models", "classes-vae", tmp_path / "none", input=given["input"])


def test_classes_of_samples_are_repeated_in_turn_however_the_work_is_cut(tmp_path: Path) -> None:
    version, labels = publish_conditional(tmp_path / "models"), ["7", "sneaker", "7", "1"]
    given: dict[str, Any] = {"count": 11, "seed": 3, "offset": 5, "options": {"labels": "7,sneaker,7,1"}}
    for part_rows in (3, 11):
        out = tmp_path / str(part_rows)
        work("sample", tmp_path / "models", "classes-gan", out, part_rows=part_rows, **given)
        with load(version) as model:
            expected = model.sample(count=11, seed=3, offset=5, label=(labels * 3)[:11])
        np.testing.assert_array_equal(array(out, "sample", 2), expected)
        assert table(out)["label"].to_pylist() == (["7", "sneaker", "7", "bag"] * 3)[:11]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "bag", "labels": "7,bag"}, "give one of the two"),
        ({"labels": "7,shoe"}, "no such class as the label of row 1"),
    ],
)
def test_classes_of_samples_that_do_not_fit_are_refused_before_any_work(
    tmp_path: Path, options: dict[str, str], said: str
) -> None:
    publish_conditional(tmp_path / "models")
    with pytest.raises(BulkMistake, match=said):
        work("sample", tmp_path / "models", "classes-gan", tmp_path / "out", count=4, options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.bulk
def test_the_answers_are_the_services_own_bit_for_bit(
    bulk_models: Path, digits: Path, table_items: np.ndarray, tmp_path: Path
) -> None:
    pictures = np.load(digits)[:40, None].astype(np.float32) / np.float32(255)
    np.save(tmp_path / "few.npy", pictures)
    np.save(tmp_path / "table.npy", table_items)
    few, options = str(tmp_path / "few.npy"), {"part_rows": 17}
    for operation in ("score", "encode", "reconstruct"):
        work(operation, bulk_models, "digits-vae", tmp_path / operation, input=few, **options)
    work("score", bulk_models, "toy-table", tmp_path / "table", input=str(tmp_path / "table.npy"))
    work("encode", bulk_models, "fashion-gan", tmp_path / "wide", input=_fashion(tmp_path))
    sampled = {"count": 50, "seed": 3, "offset": 5, **options}
    work("sample", bulk_models, "digits-vae", tmp_path / "drawn", options={"output": "draw"}, **sampled)
    work(
        "sample", bulk_models, "fashion-gan", tmp_path / "chosen", options={"method": "rejection"}, **sampled
    )
    work(
        "decode",
        bulk_models,
        "digits-vae",
        tmp_path / "decode",
        input=str(tmp_path / "encode"),
        column="mean",
    )
    with running_service(bulk_models) as service:
        client = service.client

        def answered(path: str, array: np.ndarray) -> np.ndarray:
            return npy(client.post(f"/v1/models/{path}", content=as_npy(array), headers=NPY))

        for name, inputs, out in (
            ("digits-vae", pictures, "score"),
            ("toy-table", table_items, "table"),
        ):
            headers = NPY | {"accept": "application/json"}
            scores = client.post(f"/v1/models/{name}/score", content=as_npy(inputs), headers=headers).json()
            made = table(tmp_path / out)
            for column in set(made.column_names) - {"row"}:
                values = made[column].to_numpy()  # NaN where JSON has null
                answered_values = np.array([item[column] for item in scores["scores"]], values.dtype)
                np.testing.assert_array_equal(values, answered_values, column)
            assert {"surprise", "p_value", "anomaly", "elbo"} <= set(made.column_names)
        reconstructed = answered("digits-vae/reconstruct", pictures)
        np.testing.assert_array_equal(array(tmp_path / "reconstruct", "sample", 1, 8, 8), reconstructed)
        np.testing.assert_array_equal(array(tmp_path / "decode", "sample", 1, 8, 8), reconstructed)
        json_body = {"inputs": pictures.tolist()}
        encoded = client.post("/v1/models/digits-vae/encode", json=json_body).json()
        for column in ("mean", "log_variance"):
            np.testing.assert_array_equal(
                array(tmp_path / "encode", column, 10), np.array(encoded[column], np.float32)
            )
        for name, query, out, shape in (
            ("digits-vae", "output=draw", "drawn", (1, 8, 8)),
            ("fashion-gan", "method=rejection", "chosen", (1, 28, 28)),
        ):
            url = f"/v1/models/{name}/sample?count=50&seed=3&offset=5&{query}"
            np.testing.assert_array_equal(
                array(tmp_path / out, "sample", *shape), npy(client.get(url, headers=NPY))
            )
    assert table(tmp_path / "drawn")["row"].to_pylist() == list(range(5, 55))
    assert table(tmp_path / "wide").column_names == ["row", "mean"]


def _fashion(folder: Path) -> str:
    np.save(folder / "fashion.npy", np.random.default_rng(1).random((5, 1, 28, 28), np.float32))
    return str(folder / "fashion.npy")


@pytest.mark.bulk
def test_variables_that_set_a_service_change_no_byte(
    bulk_models: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "few.npy", np.load(digits)[:30])
    options = {"input": str(tmp_path / "few.npy"), "options": {"draws": 80}}
    work("score", bulk_models, "digits-vae", tmp_path / "plain", **options)
    monkeypatch.setenv("PUSHFORWARD_MAX_BATCH_ROWS", "7")
    work("score", bulk_models, "digits-vae", tmp_path / "set", **options)
    assert hashes(tmp_path / "plain") == hashes(tmp_path / "set")


def test_a_part_describes_itself(bulk_models: Path, tmp_path: Path) -> None:
    work("sample", bulk_models, "digits-vae", tmp_path / "out", count=10)
    (path,) = parts(tmp_path / "out")
    schema = parquet.read_schema(path)
    assert json.loads(schema.metadata[b"sample.shape"]) == [1, 8, 8]
    described = json.loads(schema.metadata[b"pushforward"])
    assert (described["operation"], described["model"], described["version"]) == ("sample", "digits-vae", 3)
    assert schema.field("sample").type.list_size == 64
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["files"][0]["sha256"] == hashes(tmp_path / "out")[path.name]
    assert (manifest["rows"], manifest["options"]["seed"]) == (10, 0)


@pytest.mark.parametrize(("rows", "part_rows"), [(1, 5), (10, 5), (11, 5), (70_000, 2_048)])
def test_the_shards_of_a_plan_have_every_row_once(rows: int, part_rows: int) -> None:
    plan = Plan("sample", "m", 1, "", "cpu", {}, None, rows, part_rows, {})
    for count in (1, 2, 3, 50):
        ranges = [plan.rows_of(part) for index in range(count) for part in Shard(index, count).parts(plan)]
        assert sorted(row for each in ranges for row in each) == list(range(rows))
    assert plan.parts == math.ceil(rows / part_rows)


def test_a_part_is_bounded_in_bytes_and_in_draws() -> None:
    assert rows_per_part(6_272, 1) == 1_024
    assert rows_per_part(100, 1) == 65_536
    assert rows_per_part(100, 5_000) == 32
    assert rows_per_part(2**30, 1) == 16
    assert rows_per_part(100, 1, 3) == 3


def test_a_job_of_kubernetes_names_the_shard() -> None:
    job = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETION_COUNT": "8"}
    assert shard_from(None, {}) == Shard(0, 1)
    assert shard_from(None, job) == Shard(2, 8)
    assert shard_from("1/3", job) == Shard(1, 3)
    for text in ("3/3", "1", "-1/3", "a/b", "1/0"):
        with pytest.raises(BulkMistake, match="i from 0 to n - 1"):
            shard_from(text, {})
    with pytest.raises(BulkMistake, match="JOB_COMPLETION_COUNT"):
        shard_from(None, {"JOB_COMPLETION_INDEX": "2"})
