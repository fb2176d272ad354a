"""The page's files: complete, small, cached by their tags, and without anything from elsewhere."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.page import page_router, static_files

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(page_router())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_the_index_names_only_files_that_are_served(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:href|src)="(page/[^"]+)"', page.text)
    assert len(names) > 3
    for name in names:
        assert (await client.get(f"/{name}")).status_code == 200


async def test_a_copy_with_the_same_tag_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for path in ("/", "/page/main.js"):
        first = await client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = await client.get(path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]


async def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style|\sstyle=|<script(?! type=\"module\" src=)|\son\w+=", page.text)


def test_every_module_that_is_imported_is_there() -> None:
    files = static_files()
    for name, file in files.items():
        for wanted in re.findall(rb'(?:from|import\()\s*"\./([\w.]+)"', file.content):
            assert wanted.decode() in files, name


def test_the_page_is_under_200_kilobytes_and_names_no_other_server() -> None:
    files = static_files()
    assert sum(len(file.content) for file in files.values()) < 200_000
    for name, file in files.items():
        elsewhere = set(re.findall(rb"https?://[\w.]+", file.content)) - {b"http://www.w3.org"}
        assert elsewhere == set(), name
