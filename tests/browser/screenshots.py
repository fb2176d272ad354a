"""Write the pictures of the page in docs/page/: python -m tests.browser.screenshots [PANEL ...]."""

from __future__ import annotations

import io
import sys
import threading
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from tests.browser.conftest import CHROMIUM
from tests.conftest import REPOSITORY
from tests.serving import running_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = REPOSITORY / "docs" / "page"
KEPT = "model=fashion-vae&keep=7:10,7:1,7:33"
PANELS = {
    "models": "models",
    "samples": f"samples?{KEPT}",
    "latent": f"latent?{KEPT}&plane=kept",
    "path": "path?model=fashion-vae&keep=7:7,7:6",
    "score": "score?model=fashion-vae",
    "table": "score?model=breast-cancer-vae",
    "density": "density?model=grid-gan",
    "status": "status",
}
WIDE, PHONE = 1280, 390
STATUS_SECONDS = 17
TALL = {"score": 1500, "table": 1500, "path": 1000}
COLOURS = 200


def main() -> None:
    """Serve the published models, and photograph each panel, light and dark, wide and on a phone."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with running_service(REPOSITORY / "models") as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        done = threading.Event()
        thread = threading.Thread(target=ask, args=(service.url, done))
        thread.start()
        odd = with_a_sticker(service.client)
        for name in sys.argv[1:] or PANELS:
            panel = PANELS[name]
            seconds = STATUS_SECONDS if name == "status" else 1
            shots = [
                photograph(
                    browser, f"{service.url}/#{panel}", (width, TALL.get(name, 860)), scheme, seconds, odd
                )
                for scheme in ("light", "dark")
                for width in (WIDE, PHONE)
            ]
            save(shots[0], FOLDER / f"{name}.png")
            save(beside(shots[2], shots[1], shots[3]), FOLDER / f"{name}-dark-and-phone.png")
        done.set()
        thread.join()
        browser.close()


def ask(url: str, done: threading.Event) -> None:
    """Sample and score without end, so that the status has something to show."""
    with httpx.Client(base_url=url) as client:
        items = client.get("/v1/models/digits-vae/sample?count=16&seed=1&output=draw").json()["samples"]
        while not done.wait(0.05 + 0.05 * (time.time() % 10 > 5)):
            client.get("/v1/models/digits-vae/sample?count=4&seed=7")
            client.post("/v1/models/digits-vae/score", json={"inputs": items})


def with_a_sticker(client: httpx.Client) -> bytes:
    """Return the PNG of a garment that has something odd on it."""
    path = "/v1/models/fashion-vae/sample?seed=7&offset=5&output=draw"
    image = Image.open(io.BytesIO(client.get(path, headers={"accept": "image/png"}).content))
    for x, y in product(range(9), repeat=2):
        image.putpixel((13 + x, 9 + y), 255 * ((x // 2 + y // 2) % 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def photograph(
    browser: Browser, url: str, size: tuple[int, int], scheme: str, seconds: float, odd: bytes
) -> Image.Image:
    """Return a picture of a panel's upper part."""
    options: dict[str, Any] = {"viewport": {"width": size[0], "height": size[1]}, "color_scheme": scheme}
    context = browser.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()
    page.locator("[aria-busy], .loading").first.wait_for(state="detached")
    if "score?model=fashion" in url:
        file: Any = {"name": "garment.png", "mimeType": "image/png", "buffer": odd}
        page.get_by_label("Picture files").set_input_files(file)
        page.get_by_text("garment.png; taken as it is").wait_for()
    page.wait_for_timeout(1000 * seconds)
    image = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return image.convert("RGB")


def beside(*images: Image.Image) -> Image.Image:
    """Return pictures of one height in a row, at 60 per cent."""
    gap = 24
    whole = Image.new("RGB", (sum(each.width + gap for each in images) - gap, images[0].height), "#808080")
    left = 0
    for each in images:
        whole.paste(each, (left, 0))
        left += each.width + gap
    return whole.resize((whole.width * 6 // 10, whole.height * 6 // 10), Image.Resampling.LANCZOS)


def save(image: Image.Image, path: Path) -> None:
    """Write a small PNG."""
    image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


if __name__ == "__main__":
    main()
