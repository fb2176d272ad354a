"""The page for everybody: by screen reader and keyboard, in both schemes, on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.browser.conftest import Opener, settle

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


def test_a_long_name_of_a_column_stays_above_its_field(visit: Opener) -> None:
    page = visit().go("score?model=breast-cancer-vae", "Score")
    label = page.locator(".cells label").first
    label.evaluate("label => label.textContent = 'od280/od315_of_diluted_wines'")
    assert label.evaluate("label => label.scrollWidth - label.clientWidth") == 0
