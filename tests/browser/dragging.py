"""Measure a page that drags on the latent plane, and what many cost others: python -m tests.browser.dragging.

One real page says how many pictures a second it shows. The requests of many pages (8, or as many as the
argument says), each at the most that the page allows itself, then come from one process: as many browsers
would need more processors than the service has.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Event

import aiohttp
import httpx
import numpy as np

from tests.browser.conftest import CHROMIUM
from tests.conftest import REPOSITORY
from tests.serving import running_service

MODEL = "fashion-vae"
PAGES = 8
PAUSE_SECONDS = 0.04
"""The time between two requests of a page, as `Latest` in service/page/static/api.js has it."""
ROUNDS = 5
REQUESTS = 1000
DRAG_SECONDS = 8.0
# The pointer runs round the plane as often as a screen is drawn; the pictures shown are counted.
DRAG = """() => {
  const plane = document.querySelector(".plane");
  const said = document.querySelector(".here-item [role=status]");
  window.shown = 0;
  new MutationObserver(() => window.shown++).observe(said, {childList: true});
  window.since = performance.now();
  window.dragging = setInterval(() => {
    const edge = plane.getBoundingClientRect();
    const angle = performance.now() / 300;
    const clientX = edge.left + edge.width * (0.5 + 0.4 * Math.cos(angle));
    const clientY = edge.top + edge.height * (0.5 + 0.4 * Math.sin(angle));
    const place = {pointerType: "mouse", bubbles: true, clientX, clientY};
    plane.dispatchEvent(new PointerEvent("pointermove", place));
  }, 16);
}"""
STOP = """() => {
  clearInterval(window.dragging);
  return 1000 * window.shown / (performance.now() - window.since);
}"""


def main() -> None:
    """Print the pictures a second of one page, and how long single samples take with and without pages."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PAGES
    with running_service(REPOSITORY / "models") as service:
        print(f"one page: {pictures_a_second(service.url):.0f} pictures a second")  # noqa: T201
        rounds = [
            (percentiles(service.client), beside(service.url, count, service.client)) for _ in range(ROUNDS)
        ]
    alone, dragged = np.median(np.array(rounds), axis=0)
    print(f"single samples alone: p50 {alone[0]:.1f} ms, p99 {alone[1]:.1f} ms")  # noqa: T201
    print(f"beside {count} pages: p50 {dragged[0]:.1f} ms, p99 {dragged[1]:.1f} ms")  # noqa: T201


def pictures_a_second(url: str) -> float:
    """Drag on the plane of a real page, and return how many pictures it shows in a second."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{url}/#latent?model={MODEL}")
        page.locator(".plane").wait_for()
        page.evaluate(DRAG)
        page.wait_for_timeout(1000 * DRAG_SECONDS)
        shown = float(page.evaluate(STOP))
        browser.close()
    return shown


def beside(url: str, pages: int, client: httpx.Client) -> tuple[float, float]:
    """Return the percentiles while the requests of so many pages arrive."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=drag, args=(url, pages, ready, done))
    process.start()
    ready.wait()
    try:
        return percentiles(client)
    finally:
        done.set()
        process.join()


def drag(url: str, pages: int, ready: Event, done: Event) -> None:
    """Ask for latents as so many pages do, until `done`."""
    asyncio.run(_drag(f"{url}/v1/models/{MODEL}", pages, ready, done))


async def _drag(url: str, pages: int, ready: Event, done: Event) -> None:
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.get(url) as answer:
            latent_size = (await answer.json())["latent_size"]

        async def page(seed: int) -> None:
            generator = np.random.default_rng(seed)
            while not done.is_set():
                started = time.monotonic()
                latents = generator.normal(size=(1, latent_size)).tolist()
                async with session.post(f"{url}/decode", json={"latents": latents}) as answer:
                    await answer.read()
                await asyncio.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - started)))

        ready.set()
        await asyncio.gather(*(page(seed) for seed in range(pages)))


def percentiles(client: httpx.Client) -> tuple[float, float]:
    """Return the median and the 99th percentile of the milliseconds that a single sample takes."""
    taken = []
    for seed in range(REQUESTS):
        started = time.perf_counter()
        client.get(f"/v1/models/{MODEL}/sample", params={"seed": seed, "count": 1}).raise_for_status()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.quantile(taken, 0.5)), float(np.quantile(taken, 0.99))


if __name__ == "__main__":
    main()
