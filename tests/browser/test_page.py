"""The page in a real browser, against the real service: every panel by role and name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from service.format.columns import Column
from tests import toy_table
from tests.browser.conftest import Opener, line, settle
from tests.conftest import PUBLISHED
from tests.serving import RunningService, running_service
from tests.toy import items, publish_toy
from tests.toy_conditional import publish_conditional
from tests.toy_gan import publish_gan

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

KEY = "a-key-that-was-given-out"
MEAN = """canvas => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((_, place) => place % 4 === 0).reduce((sum, red) => sum + red, 0) * 4 / data.length;
}"""


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


def test_the_class_is_chosen_where_there_are_classes_and_goes_along(visit: Opener) -> None:
    page = visit().go("samples?model=digits-gan&seed=7", "Samples")
    page.get_by_role("button", name="Keep sample 13 of seed 7: 3").wait_for()
    assert 'client.sample("digits-gan", seed=7, count=48)' in line(page, "Python")  # of the classes in turn
    page.get_by_role("button", name="Keep sample 0 of seed 7: 0").click()
    page.get_by_label("Class", exact=True).select_option("7")
    page.get_by_role("button", name="Keep sample 0 of seed 7: 7").wait_for()
    assert "label=7" in page.url
    assert 'client.sample("digits-gan", seed=7, count=48, label=7)' in line(page, "Python")
    page.get_by_role("link", name="Interpolation").first.click()
    page.get_by_role("button", name="Point 12").wait_for()
    assert "label=7" in line(page, "Python")
    page.get_by_label("Class", exact=True).select_option("3")
    page.locator(".lines", has_text="label=3").wait_for()
    page.get_by_role("link", name="Latent space").first.click()
    page.get_by_text("Decoded in").wait_for()
    item, kept = page.get_by_role("img", name="The item at this latent"), page.locator("#kept canvas")
    three, three_kept = item.screenshot(), kept.screenshot()
    page.get_by_label("Class", exact=True).select_option("7")
    page.locator(".lines", has_text="label=7").wait_for()
    page.locator("canvas.stage:not([aria-busy])").wait_for()
    assert item.screenshot() != three
    kept.wait_for()
    assert kept.screenshot() != three_kept


def test_the_card_of_a_model_with_classes_shows_them_in_turn(visit: Opener, pages: RunningService) -> None:
    page = visit().go("models", "Models")
    card = page.get_by_role("article").filter(has=page.get_by_role("heading", name="digits-gan", exact=True))
    strip = card.locator(".strip canvas")
    strip.nth(15).wait_for()
    assert "16 latent numbers and one of 10 classes" in card.inner_text()
    means = [canvas.evaluate(MEAN) for canvas in strip.all()]
    labels = ",".join(str(row % 10) for row in range(16))
    expected = np.array(
        pages.client.get(f"/v1/models/digits-gan/sample?seed=1&labels={labels}").json()["samples"]
    )
    assert np.abs(np.array(means) / 255 - expected.mean((1, 2, 3))).max() < 1 / 255


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
        page.get_by_label("Class", exact=True).select_option("bag")
        page.locator(".lines", has_text="label=1").wait_for()
        assert "label=1" in line(page, "Python")
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


def test_samples_of_a_gan_of_a_table_come_as_rows_on_demand(visit: Opener, tmp_path: Path) -> None:
    price = Column(name="price", value_range=(0.0, 4.0), decimals=0)
    publish_gan(tmp_path, columns=(price, Column(name="height")))
    with running_service(tmp_path) as service:
        page = visit(service.url).go("samples?model=toy-gan&seed=3", "Samples")
        page.get_by_role("list", name="Samples").get_by_role("button").nth(23).wait_for()
        page.get_by_label("Output").select_option(
            label="As rows: with the digits and the ranges of the columns"
        )
        page.locator(".lines", has_text="output=draw").wait_for()
        shown = page.get_by_role("list", name="Samples").get_by_role("button").first
        shown.wait_for()
        answer = service.client.get("/v1/models/toy-gan/sample?count=1&seed=3&output=draw")
        first = answer.json()["samples"][0][0]
        assert f"({first:.2f}," in (shown.get_attribute("title") or "")
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


def test_the_status_compares_a_drift_with_what_ordinary_items_have_by_chance(
    visit: Opener, pages: RunningService
) -> None:
    noise = np.random.default_rng(0).random((1000, 64)).round(3).reshape(1000, 1, 8, 8)
    pages.client.post("/v1/models/digits-vae/score", json={"inputs": noise.tolist()}).raise_for_status()
    tile = visit().go("status", "Status").get_by_role("region", name="Drift of p-values")
    tile.locator(".bad").wait_for()
    n = pages.client.get("/v1/models/digits-vae").json()["calibration"]["statistics"]["elbo"]["n"]
    said = f"stay below {2 * (1 / 1000 + 1 / n) ** 0.5:.2g} nearly always"
    assert "digits-vae" in tile.inner_text()
    assert said in tile.inner_text()


def test_the_status_goes_on_once_the_version_that_it_began_with_has_gone(
    visit: Opener, tmp_path: Path
) -> None:
    version = publish_toy(tmp_path)
    publish_toy(tmp_path, "chosen-vae")
    with running_service(tmp_path, "--poll-seconds", "0.2") as service:
        page = visit(service.url, quiet=False).go("status?model=chosen-vae", "Status")
        page.get_by_role("region", name="Drift of p-values").wait_for()
        publish_toy(tmp_path)
        shutil.rmtree(version)
        service.wait_for("let go of toy-vae/1")
        inputs = items(1000).tolist()
        service.client.post("/v1/models/toy-vae/score", json={"inputs": inputs}).raise_for_status()
        page.get_by_text("toy-vae: how far the last 1,000 p-values are from uniform").wait_for()
        page.goto("about:blank")  # before the service ends


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
