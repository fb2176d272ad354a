"""A real browser, Debian's Chromium, and pages that record what went wrong in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REPOSITORY
from tests.serving import RunningService, running_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE_MILLISECONDS = 20_000
Opener = Callable[..., "Visit"]


class Visit:
    """One page in a context of its own; it records console messages and the addresses that were asked."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.messages: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def go(self, panel: str, title: str = "") -> Page:
        """Open a panel, as `samples?model=NAME`, and wait for its heading."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#{panel}")
        self.page.get_by_role("heading", level=1, name=title or None).wait_for()
        return self.page


@pytest.fixture(scope="session")
def pages() -> Iterator[RunningService]:
    """One service of the published models for all tests of the page."""
    with running_service(REPOSITORY / "models") as service:
        yield service


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, pages: RunningService) -> Iterator[Opener]:
    """Opens pages; afterwards none may have a console message, or have asked another server."""
    opened: list[Visit] = []
    with ExitStack() as stack:

        def open_page(url: str = "", *, quiet: bool = True, **options: Any) -> Visit:
            options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
            context = browser.new_context(**options)
            stack.callback(context.close)
            visit = Visit(context.new_page(), url or pages.url)
            if quiet:
                opened.append(visit)
            return visit

        yield open_page
    assert [message for visit in opened for message in visit.messages] == []
    assert [url for visit in opened for url in visit.foreign] == []


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture in colour, dark on white, of another size than any model's."""
    from PIL import Image, ImageDraw

    path = tmp_path_factory.mktemp("pictures") / "boot.png"
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).polygon([(60, 150), (60, 120), (150, 90), (160, 40), (210, 40), (215, 150)], "navy")
    image.save(path)
    return path


def settle(page: Page) -> None:
    """Wait until the panel has what it asked for."""
    page.locator("[aria-busy], .loading").first.wait_for(state="detached")


def line(page: Page, language: str) -> str:
    """Return the line to copy that does the same in a language of the page."""
    page.get_by_role("button", name=language, exact=True).press("Enter")
    return str(page.get_by_label("The same request as a line to copy").inner_text())
