"""The panel that scores pictures, drawings, rows and files of them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from service.media.tables.writing import csv_text
from tests import toy_table
from tests.browser.conftest import Opener, line, settle
from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service
from tests.toy_conditional import publish_conditional_vae

pytestmark = pytest.mark.browser


def test_an_item_is_scored_as_one_of_the_chosen_class(visit: Opener, tmp_path: Path) -> None:
    publish_conditional_vae(tmp_path)
    with running_service(tmp_path) as service:
        page = visit(service.url).go("score?model=classes-vae", "Score")
        page.locator(".verdict").wait_for()
        page.get_by_label("Class", exact=True).select_option("bag")
        with page.expect_response(lambda answer: answer.url.endswith("/score")) as asked:
            page.get_by_role("button", name="Try a sample").click()
        assert asked.value.ok
        assert json.loads(str(asked.value.request.post_data))["label"] == 1
        settle(page)
        assert 'Image.open("classes-vae-input.png"), label=1)' in line(page, "Python")
        assert "label=1" in page.url
        page.goto("about:blank")  # before the service ends


def test_a_picture_of_any_size_is_converted_scored_and_explained(visit: Opener, picture: Path) -> None:
    page = visit().go("score?model=fashion-vae", "Score")
    page.get_by_label("Picture files").set_input_files(picture)
    page.get_by_text(re.compile("it was scaled from 300 . 200 to 28 . 28 pixels")).wait_for()
    text = page.get_by_role("region", name="Result").inner_text()
    for wanted in (
        "turned into grey",
        "inverted",
        "p-value",
        "ELBO",
        "evidence lower bound",
        "Its best reconstruction",
    ):
        assert wanted in text
    assert re.search(r"ELBO\s+-?[\d,.]+ ± [\d.]+ nats", text)
    page.get_by_role("img", name=re.compile("Surprise map")).wait_for()
    page.get_by_role("img", name=re.compile("Histogram of the surprise")).wait_for()


def test_a_picture_is_fitted_as_the_version_says_and_neither_cut_nor_inverted(
    visit: Opener, tmp_path: Path, picture: Path
) -> None:
    shutil.copytree(REPOSITORY / "models/fashion-vae", tmp_path / "models/fashion-vae")
    (manifest,) = tmp_path.glob("models/fashion-vae/*/manifest.json")
    form = {"fit": "crop", "background": None, "binary": False}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "picture": form}))
    with running_service(tmp_path / "models") as service:
        page = visit(service.url).go("score?model=fashion-vae", "Score")
        page.get_by_label("Picture files").set_input_files(picture)
        page.get_by_text(re.compile("its middle resized to 28 x 28 pixels")).wait_for()
        text = page.get_by_role("region", name="Result").inner_text()
        headers = {"content-type": "image/png"}
        answer = service.client.post(
            "/v1/models/fashion-vae/score", content=picture.read_bytes(), headers=headers
        )
    assert f"{answer.json()['scores'][0]['elbo']:,.0f}" in text
    assert "turned into grey" in text
    assert "inverted, since" not in text
    assert "margins" not in text


def test_a_gan_without_a_scale_of_maps_has_one_by_its_own_samples(visit: Opener, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "models/fashion-gan", tmp_path / "models/fashion-gan")
    (manifest,) = tmp_path.glob("models/fashion-gan/*/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "map_scale": None}))
    with running_service(tmp_path / "models") as service:
        page = visit(service.url).go("score?model=fashion-gan", "Score")
        page.get_by_role("img", name=re.compile("Surprise map")).wait_for()


@pytest.mark.parametrize("file", ["garment.png", "garment.tif"])  # which browsers do not decode
def test_a_picture_of_the_model_s_own_size_is_taken_as_it_is(
    visit: Opener, pages: RunningService, tmp_path: Path, file: str
) -> None:
    path = "/v1/models/fashion-vae/sample?seed=3&output=draw"
    body = pages.client.get(path, headers={"accept": "image/png"}).content
    Image.open(io.BytesIO(body)).save(tmp_path / file)
    headers = {"content-type": "image/png"}
    score = pages.client.post("/v1/models/fashion-vae/score", content=body, headers=headers).json()["scores"][
        0
    ]
    page = visit().go("score?model=fashion-vae", "Score")
    page.get_by_label("Picture files").set_input_files(tmp_path / file)
    page.get_by_text(f"{file}; taken as it is").wait_for()
    assert f"{score['elbo']:,.0f}" in page.get_by_role("region", name="Result").inner_text()


def test_a_drawing_is_scored(visit: Opener) -> None:
    page = visit().go("score?model=digits-vae", "Score")
    box = page.get_by_role("img", name=re.compile("A field to draw on")).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 90, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 130, steps=5)
    page.mouse.up()
    page.get_by_text("your drawing").wait_for()


def test_many_pictures_are_a_table_that_sorts_and_downloads(
    visit: Opener, pages: RunningService, picture: Path, tmp_path: Path
) -> None:
    files = [picture]
    for seed in range(3):
        path = f"/v1/models/fashion-vae/sample?seed={seed}&output=draw"
        file = tmp_path / f"{seed}.png"
        file.write_bytes(pages.client.get(path, headers={"accept": "image/png"}).content)
        files.append(file)
    page = visit().go("score?model=fashion-vae", "Score")
    page.get_by_label("Picture files").set_input_files(files)
    rows = page.get_by_role("region", name="Scores").get_by_role("row")
    rows.nth(4).wait_for()
    page.get_by_role("button", name="Surprise").click()
    assert page.get_by_role("columnheader", name="Surprise").get_attribute("aria-sort") == "descending"
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Download as CSV").click()
    downloaded.value.save_as(tmp_path / "scores.csv")
    page.get_by_role("region", name="Scores").get_by_role("button", name="2.png").press("Enter")
    page.get_by_text("Its best reconstruction").wait_for()
    page.get_by_role("button", name="Dark").click()
    back = page.get_by_role("button", name="Back to the table")
    back.press("Enter")
    assert page.locator(":focus").inner_text() == "2.png"
    rows.nth(4).wait_for()
    table = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [row["file"] for row in table] == ["boot.png", "0.png", "1.png", "2.png"]
    assert all(0 < float(row["p_value"]) <= 1 for row in table)


def test_a_row_of_the_form_and_files_of_rows_are_scored_and_their_columns_ranked(
    visit: Opener, pages: RunningService, tmp_path: Path
) -> None:
    model = pages.client.get("/v1/models/breast-cancer-vae").json()
    names = [column["name"] for column in model["columns"]]
    sampled = "/v1/models/breast-cancer-vae/sample?seed=1&count=3&output=draw"
    rows = pages.client.get(sampled).json()["samples"]
    rows[1][3] *= 5
    columns = dict(zip(names, np.array(rows, np.float32).T, strict=True))
    text = csv_text(columns)
    (tmp_path / "my rows.csv").write_text(text)
    page = visit().go("score?model=breast-cancer-vae", "Score")
    page.get_by_role("heading", name="Columns, the most surprising first").wait_for()
    files = page.get_by_label("File of rows")
    ranked = page.get_by_role("region", name="Columns by surprise").get_by_role("row")
    foreign = text.replace(",", ";").replace(".", ",").encode("utf-16")
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "foreign.csv").write_bytes(foreign)
    for name in ("my rows.csv", "foreign.csv", "rows.parquet"):
        files.set_input_files(tmp_path / name)
        page.get_by_text(f"{name}: 3 rows").wait_for()
        page.get_by_role("region", name="Scores").get_by_role("button", name="1", exact=True).click()
        ranked.nth(1).get_by_role("rowheader", name=names[3], exact=True).wait_for()
        answer = subprocess.run(
            ["bash", "-c", line(page, "curl")], cwd=tmp_path, check=True, capture_output=True
        )
        assert len(json.loads(answer.stdout)["scores"]) == 3


def test_a_column_that_names_the_rows_of_a_file_does_so_on_the_page(
    visit: Opener, pages: RunningService, tmp_path: Path
) -> None:
    sampled = "/v1/models/breast-cancer-vae/sample?seed=1&count=3&output=draw"
    lines = pages.client.get(sampled, headers={"accept": "text/csv"}).text.splitlines()
    named = [f"{name},{row}" for name, row in zip(["patient", "ada", "bob", "eve"], lines, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(named))
    page = visit(quiet=False).go("score?model=breast-cancer-vae", "Score")  # a browser logs the 422
    page.get_by_label("File of rows").set_input_files(tmp_path / "rows.csv")
    page.get_by_role("alert").filter(has_text="name it by `id`").wait_for()
    page.get_by_label("Column of names (id)").fill("patient")
    page.get_by_label("Column of names (id)").press("Enter")
    page.get_by_role("region", name="Scores").get_by_role("button", name="bob", exact=True).wait_for()
    answer = subprocess.run(["bash", "-c", line(page, "curl")], cwd=tmp_path, check=True, capture_output=True)
    assert [score["id"] for score in json.loads(answer.stdout)["scores"]] == ["ada", "bob", "eve"]
    assert 'id="patient"' in line(page, "Python")
    assert "--id patient" in line(page, "Command")


def test_what_is_wrong_with_a_file_of_rows_is_said_as_the_service_says_it(
    visit: Opener, tmp_path: Path
) -> None:
    page = visit(quiet=False).go("score?model=breast-cancer-vae", "Score")  # a browser logs each 422
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    page.get_by_label("File of rows").set_input_files(tmp_path / "bad.csv")
    page.get_by_role("alert").filter(has_text="the table lacks").wait_for()
    page.get_by_label("mean radius").fill("wide")
    page.get_by_role("button", name="Score this row").click()
    told = "the column `mean radius` holds 'wide' in row 0; wanted numbers."
    page.get_by_role("alert").get_by_text(told).wait_for()


def test_a_category_that_training_has_not_seen_is_other_on_the_page(visit: Opener, tmp_path: Path) -> None:
    manifest = toy_table.publish_table(tmp_path / "models") / "manifest.json"
    document = json.loads(manifest.read_text().replace('"blue"', '"other"'))
    document["columns"][1]["unseen"] = "other"
    manifest.write_text(json.dumps(document))
    (tmp_path / "rows.csv").write_text("height,colour\n165,red\n170,violet\n")
    with running_service(tmp_path / "models") as service:
        page = visit(service.url).go("score?model=toy-table", "Score")
        page.get_by_label("File of rows").set_input_files(tmp_path / "rows.csv")
        page.get_by_text("rows.csv: 2 rows").wait_for()
        page.goto("about:blank")  # before the service ends
