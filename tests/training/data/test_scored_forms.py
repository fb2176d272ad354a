"""The file that a model was trained on scores as it is: its bytes are the body of a request."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pushforward.files import ItemLayout, read_inputs
from service.format.versions import read_manifest
from tests.serving import as_npy, running_service
from tests.training.data.table_forms import FORMS, TABLE, as_csv
from tests.training.publishing import publish_recipe
from training.recipe import parse_recipe

pytestmark = pytest.mark.exports
COMPRESSED = [name for name in FORMS if name.endswith((".gz", ".bz2", ".xz", ".zst", ".zip"))]
BODIES = [name for name in FORMS if name not in (*COMPRESSED, "spark.parquet")]  # a folder is no body
SCORE = "/v1/models/wells/score"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wells")
    path = folder / "t.csv"
    path.write_text(as_csv(TABLE))
    recipe = {
        "name": "wells",
        "data": {"dataset": "table", "path": str(path), "one_hot": ["rock"]},
        "network": {"kind": "dense", "latent": 2, "hidden": [16]},
        "vae": {"likelihood": "gaussian", "kl_warmup_steps": 50},
        "loop": {"steps": 200, "batch_rows": 16, "validate_every": 200},
        "calibration": {"statistic": "elbo", "alpha": 0.2},
    }
    publish_recipe(folder, parse_recipe(recipe))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with running_service(folder / "models") as service:
        yield service.client


@pytest.mark.parametrize("name", [*BODIES, "t.csv.gz"])
def test_the_bytes_of_a_table_in_any_form_score_as_its_numbers_do(
    client: httpx.Client, folder: Path, tmp_path: Path, name: str
) -> None:
    manifest = read_manifest(folder / "models/wells/1")
    columns = [column.model_dump() for column in manifest.columns]
    rows = read_inputs([str(folder / "t.csv")], ItemLayout(manifest.item_shape, columns)).rows
    FORMS[name](tmp_path / name)
    kind = "application/vnd.apache.parquet" if name.endswith("parquet") else "text/csv"
    encoding = {"content-encoding": "gzip"} if name.endswith(".gz") else {}
    content = (tmp_path / name).read_bytes()
    answers = [
        client.post(SCORE, content=content, headers={"content-type": kind} | encoding),
        client.post(SCORE, content=as_npy(rows), headers={"content-type": "application/x-npy"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    table, numbers = (answer.json()["scores"] for answer in answers)
    assert len(table) == len(rows)
    assert len(np.unique([each["surprise"] for each in table])) > 1
    assert table == numbers


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_file_without_its_encoding_is_refused_with_what_to_send(
    client: httpx.Client, tmp_path: Path, name: str
) -> None:
    FORMS[name](tmp_path / name)
    answer = client.post(SCORE, content=(tmp_path / name).read_bytes(), headers={"content-type": "text/csv"})
    assert answer.status_code == 415
    assert (
        "as a .zip or an .xlsx is; send it as CSV or Parquet, or as gzip with `Content-Encoding`"
        in answer.json()["detail"]
    )
