"""The page in a real browser, against the real service: every panel by role and name."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from service.media.tables.writing import csv_text
from tests import toy_table
from tests.browser.conftest import Opener
from tests.conftest import PUBLISHED, REPOSITORY
from tests.serving import RunningService, running_service
from tests.toy import publish_toy
from tests.toy_conditional import publish_conditional, publish_conditional_vae
from tests.toy_gan import publish_gan

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PANELS = {
    "models": "Models",
    "samples?model=fashion-vae&keep=7:3,7:5,7:12": "Samples",
    "samples?model=ring-gan&method=rejection": "Samples",
    "latent?model=fashion-vae&keep=7:3,7:5,7:12": "Latent space",
    "path?model=fashion-vae&keep=7:3,7:5": "Interpolation",
    "score?model=fashion-vae": "Score",
    "score?model=breast-cancer-vae": "Score",
    "density?model=ring-gan": "Density",
    "status": "Status",
}
KEY = "a-key-that-was-given-out"


def settle(page: Page) -> None:
    """Wait until the panel has what it asked for."""
    page.locator("[aria-busy], .loading").first.wait_for(state="detached")


def line(page: Page, language: str) -> str:
    page.get_by_role("button", name=language, exact=True).press("Enter")
    return str(page.get_by_label("The same request as a line to copy").inner_text())


def pixels(page: Page, name: str | re.Pattern[str]) -> str:
    text: str = page.get_by_role("img", name=name).first.evaluate("canvas => canvas.toDataURL()")
    return text


def test_every_model_has_a_card_with_samples_and_figures(visit: Opener) -> None:
    page = visit().go("models", "Models")
    for name in PUBLISHED:
        card = page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))
        card.locator(".strip canvas, .strip img").first.wait_for()
        assert "latent numbers" in card.inner_text()
    assert "--json" not in line(page, "curl")


def test_samples_go_on_by_offset_and_the_kept_ones_live_in_the_url(visit: Opener) -> None:
    page = visit().go("samples?model=fashion-vae&seed=7", "Samples")
    samples = page.get_by_role("list", name="Samples").get_by_role("button")
    samples.nth(47).wait_for()
    page.get_by_role("button", name="More samples").click()
    samples.nth(95).wait_for()
    page.get_by_role("button", name="Keep sample 60 of seed 7").click()
    page.get_by_role("button", name="Let go of sample 7:60").wait_for()
    assert "keep=7:60" in page.url
    page.reload()
    page.get_by_role("button", name="Let go of sample 7:60").wait_for()


def test_a_sample_that_is_let_go_of_in_the_tray_is_so_in_the_grid_and_the_focus_stays_in_the_tray(
    visit: Opener,
) -> None:
    page = visit().go("samples?model=fashion-vae&keep=7:3,7:5", "Samples")
    pressed = page.get_by_role("list", name="Samples").get_by_role("button", pressed=True)
    pressed.nth(1).wait_for()
    page.get_by_role("button", name="Let go of sample 7:3").press("Enter")
    page.locator(".tray :focus").wait_for()
    assert pressed.count() == 1


def test_the_seed_makes_other_samples_and_the_method_is_offered_where_there_is_a_judge(visit: Opener) -> None:
    page = visit().go("samples?model=fashion-gan&seed=7", "Samples")
    page.get_by_label("Method", exact=True).select_option("rejection")
    page.get_by_label("Seed", exact=True).fill("8")
    page.get_by_label("Seed", exact=True).press("Enter")
    page.get_by_role("button", name="Keep sample 0 of seed 8").wait_for()
    assert "method=rejection" in page.url


def test_the_class_is_chosen_where_there_are_classes(visit: Opener, tmp_path: Path) -> None:
    publish_conditional(tmp_path)
    with running_service(tmp_path) as service:
        page = visit(service.url).go("samples?model=classes-gan&seed=7", "Samples")
        page.get_by_role("button", name="Keep sample 0 of seed 7").wait_for()
        page.get_by_label("Class", exact=True).select_option("bag")
        page.get_by_role("button", name="Keep sample 0 of seed 7").wait_for()
        assert "label=1" in page.url
        assert 'client.sample("classes-gan", seed=7, count=48, label=1)' in line(page, "Python")
        page.get_by_role("link", name="Interpolation").first.click()
        page.get_by_role("button", name="Point 12").wait_for()
        assert "label=1" in line(page, "Python")
        assert "label=1" in page.url
        page.goto("about:blank")  # before the service ends


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


def test_the_lines_to_copy_do_the_same(visit: Opener, tmp_path: Path) -> None:
    page = visit().go("samples?model=digits-vae&seed=7", "Samples")
    page.get_by_role("button", name="Keep sample 47 of seed 7").wait_for()
    subprocess.run(["bash", "-c", line(page, "curl")], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "samples.png") as image:
        assert image.width > 7 * 8 * 7  # enlarged
    assert 'client.sample("digits-vae", seed=7, count=48)' in line(page, "Python")
    assert line(page, "Command").startswith("pushforward sample digits-vae --seed 7 --count 48")


def test_a_slider_that_was_moved_just_before_the_panel_was_left_changes_nothing_of_the_next(
    visit: Opener,
) -> None:
    page = visit().go("samples?model=fashion-vae", "Samples")
    page.get_by_label("Temperature").evaluate(
        """slider => {
            slider.value = 0.5;
            slider.dispatchEvent(new Event("input"));
            location.hash = location.hash.replace("samples", "path");
            return new Promise(done => setTimeout(done, 300));  // the slider waits for 150 ms
        }"""
    )
    assert "#path" in page.url
    assert "temperature" not in page.url


def test_the_latent_plane_and_the_sliders_move_with_the_keys(visit: Opener) -> None:
    page = visit().go("latent?model=fashion-vae&keep=7:3,7:5,7:12", "Latent space")
    page.get_by_text(re.compile(r"Decoded in \d+ ms")).wait_for()
    before = pixels(page, "The item at this latent")
    plane = page.get_by_role("application", name=re.compile("Plane of latents"))
    plane.focus()
    for _ in range(5):
        plane.press("Shift+ArrowRight")
    page.locator("[aria-description^='At 1.00 across']").wait_for()
    settle(page)
    assert pixels(page, "The item at this latent") != before
    slider = page.get_by_role("slider").first
    slider.focus()
    value = slider.input_value()
    slider.press("ArrowLeft")
    assert slider.input_value() != value
    page.get_by_role("button", name="Three kept samples").click()
    page.wait_for_url(re.compile("plane=kept"))


def test_the_start_that_the_latent_space_names_is_the_one_that_it_shows(visit: Opener) -> None:
    page = visit().go("latent?model=fashion-vae&keep=7:3", "Latent space")
    start = page.get_by_label("Start from")
    assert start.input_value() == "7:3"
    decoded = page.get_by_text(re.compile(r"Decoded in \d+ ms"))
    decoded.wait_for()
    kept = pixels(page, "The item at this latent")
    start.select_option("a sample of the prior")
    page.wait_for_url(re.compile("start=prior"))
    page.reload()
    decoded.wait_for()
    assert start.input_value() == "prior"
    assert pixels(page, "The item at this latent") != kept


def test_a_path_is_a_strip_and_an_animation_to_download(visit: Opener, tmp_path: Path) -> None:
    page = visit().go("path?model=fashion-vae&keep=7:3,7:5", "Interpolation")
    points = page.get_by_role("list", name="The items on the path").get_by_role("button")
    points.nth(11).wait_for()
    for name, frames in (("Download the strip as PNG", 1), ("Download the animation as GIF", 22)):
        with page.expect_download() as downloaded:
            page.get_by_role("button", name=name).click()
        file = tmp_path / downloaded.value.suggested_filename
        downloaded.value.save_as(file)
        with Image.open(file) as image:
            assert getattr(image, "n_frames", 1) == frames
            image.seek(frames - 1)
            image.load()
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").click()


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


def test_a_model_of_points_shows_its_density_and_how_the_judge_chooses(visit: Opener) -> None:
    page = visit().go("density?model=ring-gan", "Density")
    page.get_by_text(re.compile(r"that the discriminator accepts\. [\d.]+ %")).wait_for()
    for name in ("Direct", "Rejection", "Metropolis"):
        page.get_by_role("img", name=f"{name}: samples in the plane").wait_for()
    settle(page)


def test_models_of_one_latent_number_of_no_columns_and_with_a_judge_that_does_not_choose_are_shown(
    visit: Opener, tmp_path: Path
) -> None:
    toy_table.publish_table(tmp_path)  # one latent number
    publish_gan(tmp_path)  # points, which have no columns, and an encoder
    publish_conditional(tmp_path)  # points, and a discriminator that no graph of samples holds
    with running_service(tmp_path) as service:
        page = visit(service.url).go("latent?model=toy-table", "Latent space")
        page.get_by_text("Across: latent 1. With").wait_for()
        page.get_by_role("application").press("ArrowRight")
        page.locator("[aria-description^='At 0.04 across']").wait_for()
        settle(page)
        page = visit(service.url).go("density?model=classes-gan", "Density")
        page.get_by_role("img", name="Direct: samples in the plane").wait_for()
        settle(page)
        page = visit(service.url).go("score?model=toy-gan", "Score")
        page.locator(".verdict").wait_for()
        settle(page)
        for value in ("value 0", "value 1"):
            page.get_by_label(value).fill("40")
        page.get_by_role("button", name="Score this row").click()
        page.get_by_role("heading", name="Unusual").wait_for()
        rows = np.zeros((3, 2), np.float32)
        np.save(tmp_path / "points.npy", rows)
        page.get_by_label("File of rows").set_input_files(tmp_path / "points.npy")
        page.get_by_text("points.npy: 3 rows").wait_for()
        answer = subprocess.run(
            ["bash", "-c", line(page, "curl")], cwd=tmp_path, check=True, capture_output=True
        )
        assert len(json.loads(answer.stdout)["scores"]) == 3
        page.goto("about:blank")  # before the service ends


def test_the_status_counts_what_others_ask(visit: Opener, pages: RunningService) -> None:
    page = visit().go("status", "Status")
    tile = page.get_by_role("region", name="Requests a minute")
    tile.wait_for()
    for _ in range(20):
        pages.client.get("/v1/models/digits-vae/sample?seed=1")
    busy = re.compile(r"Requests a minute\s*[1-9]")
    page.get_by_role("region", name="Requests a minute").filter(has_text=busy).wait_for()
    assert "ready" in page.get_by_role("region", name="Versions").inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 320)])
def test_no_panel_has_findings_of_axe(visit: Opener, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = visit(color_scheme=scheme, viewport={"width": width, "height": 900})
    findings = []
    for panel, title in PANELS.items():
        page = opened.go(panel, title)
        settle(page)
        findings += [
            (panel, found["id"], [node["html"][:120] for node in found["nodes"][:3]])
            for found in Axe().run(page).response["violations"]
        ]
    assert findings == []


def test_whatever_the_tab_key_reaches_can_be_seen(visit: Opener) -> None:
    opened = visit()
    unseen = {}
    for panel, title in PANELS.items():
        page = opened.go(panel, title)
        settle(page)
        for _ in range(40):
            page.keyboard.press("Tab")
            found = page.evaluate(
                """() => {
                    const {width, height} = document.activeElement.getBoundingClientRect();
                    return Math.min(width, height) < 10 ? document.activeElement.outerHTML : "";
                }"""
            )
            if found:
                unseen[panel] = found
    assert unseen == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_edges_of_all_controls_stand_out_from_what_is_around_them(visit: Opener, scheme: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1 for what shows a control."""
    page = visit(color_scheme=scheme).go("score?model=breast-cancer-vae", "Score")
    colours = page.evaluate(
        """() => {
            const paper = getComputedStyle(document.documentElement).backgroundColor;
            const controls = [...document.querySelectorAll("input[type=text], select, button.primary")];
            return controls.map((element) => [getComputedStyle(element).borderTopColor, paper]);
        }"""
    )
    assert len(colours) > 30
    for edge, paper in set(map(tuple, colours)):
        lighter, darker = sorted(map(luminance, (edge, paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2 of a colour as rgb(...)."""
    levels = np.array(re.findall(r"\d+", colour)[:3], float) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_on_a_phone_a_file_is_followed_by_its_result(visit: Opener, picture: Path) -> None:
    from playwright.sync_api import expect

    page = visit(viewport={"width": 390, "height": 844}).go("score?model=breast-cancer-vae", "Score")
    assert page.get_by_label("mean radius").is_hidden()  # a form of 30 fields would stand before the result
    page = visit(viewport={"width": 320, "height": 568}).go("score?model=fashion-vae", "Score")
    settle(page)
    page.get_by_label("Picture files").set_input_files(picture)
    page.get_by_text(re.compile("it was scaled")).wait_for()
    expect(page.locator(".verdict")).to_be_in_viewport()


def test_on_a_phone_nothing_scrolls_sideways(visit: Opener) -> None:
    opened = visit(viewport={"width": 390, "height": 844})
    wide = {}
    for panel, title in PANELS.items():
        page = opened.go(panel, title)
        settle(page)
        excess = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if excess > 0:
            wide[panel] = excess
    assert wide == {}


def test_a_link_to_what_is_not_there_says_so(visit: Opener) -> None:
    """An old link names a model that is gone, one by hand a panel that the model does not have."""
    opened = visit()
    page = opened.go("samples?model=no-such-model", "Samples")
    page.get_by_text("There is no model no-such-model here; another one is chosen.").wait_for()
    for panel, title in (("density?model=fashion-vae", "Density"), ("score?model=ring-gan", "Score")):
        page = opened.go(panel, title)
        page.get_by_role("heading", name=f"{panel.partition('=')[2]} has no such panel").wait_for()
        settle(page)


def test_a_model_that_is_published_later_appears_and_one_that_failed_says_why(
    visit: Opener, tmp_path: Path
) -> None:
    (tmp_path / "odd-vae/1").mkdir(parents=True)
    (tmp_path / "odd-vae/1/manifest.json").write_text("{}")
    with running_service(tmp_path, "--poll-seconds", "0.2") as service:
        page = visit(service.url).go("models", "Models")
        page.get_by_text("Field required").wait_for()
        page = visit(service.url).go("samples?model=odd-vae", "Samples")
        page.get_by_text("odd-vae is not ready").wait_for()
        page.get_by_text("Field required").wait_for()
        page.goto(f"{service.url}/#models")
        publish_toy(tmp_path)
        page.get_by_role("heading", name="toy-vae").wait_for()
        settle(page)
        page.goto("about:blank")  # before the service ends


def test_the_theme_is_kept(visit: Opener) -> None:
    page = visit().go("models", "Models")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(22, 22, 21)"
    page.reload()
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"


def test_where_keys_are_on_the_page_asks_for_one_also_behind_a_prefix(visit: Opener, tmp_path: Path) -> None:
    publish_toy(tmp_path / "models")
    (tmp_path / "keys").write_text(f"{KEY}\n")
    options = ("--keys-file", str(tmp_path / "keys"), "--root-path", "/pre")
    with running_service(tmp_path / "models", *options) as service:
        opened = visit(f"{service.url}/pre", quiet=False)  # a browser logs each 401
        opened.page.goto(f"{opened.url}/#samples")
        for key in ("not-a-key-that-was-given", KEY):
            opened.page.get_by_role("dialog").get_by_label("Key", exact=True).fill(key)
            opened.page.get_by_role("button", name="Use this key").click()
        opened.page.get_by_role("button", name=re.compile("Keep sample 0")).wait_for()
        assert opened.foreign == []
        assert all("40" in message for message in opened.messages)


def test_a_service_that_is_gone_is_said_in_plain_words(visit: Opener) -> None:
    opened = visit(quiet=False)
    page = opened.go("samples?model=digits-vae", "Samples")
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("button", name="New seed").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The service does not answer" in alert.inner_text()
    page.unroute("**/v1/**")
    alert.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name=re.compile("Keep sample 0")).wait_for()
