"""A table with a class condition: rows that come with their column of classes are of those classes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from sklearn.datasets import load_iris
from typer.testing import CliRunner

from pushforward import Client
from pushforward.bulk.failures import BulkMistake
from pushforward.command.app import app
from pushforward.local import LocalModels, load
from service.format.versions import read_manifest
from tests.pushforward.bulk.work import array, table, work
from tests.serving import running_service
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]

NAMES = ("5", "2", "7")
"""Names of the species; the name `2` is also the number of another class."""
COLUMNS = ("sepal length", "sepal width", "petal length", "petal width")


def text_of(rows: np.ndarray, species: list[str] | None) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, *(["species"] if species else [])])
    for place, row in enumerate(rows):
        writer.writerow([*row, *([species[place]] if species else [])])
    return file.getvalue()


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, list[str]]:
    iris = load_iris()
    return iris.data, [NAMES[number] for number in iris.target]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, rows: tuple[np.ndarray, list[str]]) -> Path:
    folder = tmp_path_factory.mktemp("iris")
    (folder / "iris.csv").write_text(text_of(*rows))
    recipe: dict[str, Any] = {
        "name": "iris",
        "data": {"dataset": "table", "path": str(folder / "iris.csv"), "label": "species"},
        "network": {"kind": "dense", "latent": 2, "hidden": [32]},
        "vae": {"likelihood": "gaussian", "conditional": True},
        "loop": {"steps": 400, "batch_rows": 64, "ema_decay": 0.9},
        "calibration": {"statistic": "auto", "draws": 8, "alpha": 0.1},
    }
    return publish_recipe(folder, parse_recipe(recipe))


def test_the_column_of_classes_is_read_by_name(version: Path, rows: tuple[np.ndarray, list[str]]) -> None:
    manifest = read_manifest(version)
    assert manifest.label_column == "species"
    assert "kernel_density" not in manifest.statistics
    values, species = rows
    numbers = [manifest.class_names.index(name) for name in species]
    with load(version) as model:
        expected = model.score(values.astype(np.float32), label=numbers)
    with running_service(version.parents[1]) as service:
        url = f"{service.url}/v1/models/iris/score"
        headers = {"Content-Type": "text/csv"}
        whole = service.client.post(url, content=text_of(values, species), headers=headers).json()
        found = [each["surprise"] for each in whole["scores"]]
        np.testing.assert_allclose(found, expected.surprise, rtol=1e-5)
        records = [
            {**dict(zip(COLUMNS, map(float, row), strict=True)), "species": int(name)}
            for row, name in zip(values[:5], species[:5], strict=True)
        ]
        by_name = service.client.post(url, json={"records": records}).json()
        np.testing.assert_allclose([each["surprise"] for each in by_name["scores"]], found[:5], rtol=1e-6)
        of_one = service.client.post(
            f"{url}?label=1", content=text_of(values[:5], species[:5]), headers=headers
        ).json()
        with load(version) as model:
            alone = model.score(values[:5].astype(np.float32), label=1).surprise
        np.testing.assert_allclose([each["surprise"] for each in of_one["scores"]], alone, rtol=1e-5)
        document = service.client.get("/openapi.json").json()
        content = document["paths"]["/v1/models/{model}/score"]["post"]["requestBody"]["content"]
        example = content["text/csv"]["examples"]["iris"]["value"]
        assert service.client.post(url, content=example, headers=headers).status_code == 200
        without = service.client.post(url, content=text_of(values, None), headers=headers)
        assert without.status_code == 422
        assert "takes a `label`, and none came" in without.json()["detail"]
        other = service.client.post(url, content=text_of(values[:2], ["5", "3"]), headers=headers)
        assert other.status_code == 422
        assert (
            "the column `species` has '3' in row 1; the classes are 2, 5, 7. Correct it"
            in other.json()["detail"]
        )


def test_a_file_that_was_trained_on_is_scored_as_it_is_everywhere(
    version: Path, rows: tuple[np.ndarray, list[str]], tmp_path: Path
) -> None:
    values, species = rows
    models, numbers = version.parents[1], [sorted(NAMES).index(name) for name in species]
    (tmp_path / "iris.csv").write_text(text_of(values, species))
    frame = pyarrow.csv.read_csv(tmp_path / "iris.csv")
    with running_service(models) as service, Client(service.url) as client, LocalModels(models) as local:
        expected = local.score("iris", values.astype(np.float32), label=numbers).surprise
        for each in (client, local):
            np.testing.assert_allclose(each.score("iris", frame).surprise, expected, rtol=1e-6)
            records = frame.to_pylist()
            np.testing.assert_allclose(each.score("iris", records).surprise, expected, rtol=1e-6)
            mean = each.encode("iris", frame).mean
            np.testing.assert_allclose(each.encode("iris", values, label=numbers).mean, mean, rtol=1e-5)
            of_one = each.score("iris", frame, label=1).surprise
            np.testing.assert_allclose(of_one, each.score("iris", values, label=1).surprise, rtol=1e-5)
        for where in (("--url", service.url), ("--local", str(models))):
            out = tmp_path / "scores.csv"
            line = ["score", "iris", str(tmp_path / "iris.csv"), "--out", str(out), *where]
            done = CliRunner().invoke(app, line, catch_exceptions=False)
            assert done.exit_code == 0, done.output
            assert "left out" not in done.output
            np.testing.assert_allclose(pyarrow.csv.read_csv(out)["surprise"], expected, rtol=1e-6)


def test_bulk_work_reads_the_classes_of_a_table(
    version: Path, rows: tuple[np.ndarray, list[str]], tmp_path: Path
) -> None:
    values, species = rows
    numbers = [sorted(NAMES).index(name) for name in species]
    (tmp_path / "iris.csv").write_text(text_of(values, species))
    np.save(tmp_path / "iris.npy", values)
    given: dict[str, Any] = {"input": str(tmp_path / "iris.csv"), "part_rows": 40}
    with load(version) as model:
        expected = model.score(values, label=numbers).surprise
        mean = model.encode(values, label=numbers).mean
        alone = model.score(values, label="5").surprise
    work("score", version.parents[1], "iris", tmp_path / "scores", **given)
    np.testing.assert_array_equal(table(tmp_path / "scores")["surprise"], expected)
    work("encode", version.parents[1], "iris", tmp_path / "codes", **given)
    np.testing.assert_array_equal(array(tmp_path / "codes", "mean").reshape(mean.shape), mean)
    work("score", version.parents[1], "iris", tmp_path / "alone", options={"label": "5"}, **given)
    np.testing.assert_array_equal(table(tmp_path / "alone")["surprise"], alone)
    with pytest.raises(BulkMistake, match="an array, which holds no classes; give --label, or a table with"):
        work("score", version.parents[1], "iris", tmp_path / "none", input=str(tmp_path / "iris.npy"))


@pytest.mark.parametrize("name", ["row", "sample", "model", "samples"])
def test_a_column_of_classes_takes_the_place_of_no_other_name(
    name: str, version: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "iris" / "1"
    shutil.copytree(version, folder)
    manifest = json.loads((folder / "manifest.json").read_text()) | {"label_column": name}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    work("sample", tmp_path, "iris", tmp_path / "bulk", count=4, seed=1)
    drawn = table(tmp_path / "bulk")
    assert drawn["row"].to_pylist() == [0, 1, 2, 3]
    assert drawn["label"].to_pylist() == ["2", "5", "7", "2"]
    line = ["sample", "iris", "--count", "4", "--seed", "1", "--local", str(tmp_path), "--as"]
    answer = json.loads(CliRunner().invoke(app, [*line, "json"], catch_exceptions=False).stdout)
    assert (answer["model"], answer["labels"]) == ("iris", ["2", "5", "7", "2"])
    np.testing.assert_array_equal(np.float32(answer["samples"]), array(tmp_path / "bulk", "sample", 4))
    shown = CliRunner().invoke(app, [*line, "csv"], catch_exceptions=False).stdout
    assert [each.split(",")[0] for each in shown.splitlines()] == [name, "2", "5", "7", "2"]


def test_samples_of_a_class_are_like_its_rows(version: Path, rows: tuple[np.ndarray, list[str]]) -> None:
    values, species = rows
    with load(version) as model:
        for name in set(species):
            number = read_manifest(version).class_names.index(name)
            mean = model.sample(count=500, seed=0, label=number, output="draw").mean(0)
            own = values[[each == name for each in species]]
            others = values[[each != name for each in species]]
            assert np.abs(mean - own.mean(0)).max() < np.abs(mean - others.mean(0)).max()
