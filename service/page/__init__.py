"""The page at `/`: static files, which use the public API alone."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response

from service.errors import UnknownRoute

_FOLDER: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The content security policy: nothing from elsewhere, and neither scripts nor styles within the page."""


class StaticFile(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str
    tag: str
    """Its ETag."""


@cache
def static_files() -> dict[str, StaticFile]:
    """Return the files of the page by their paths in its folder."""
    files = {}
    for path in sorted(_FOLDER.iterdir()):
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        files[path.name] = StaticFile(content, _MEDIA_TYPES[path.suffix], tag)
    return files


def page_router() -> APIRouter:
    """Return the routes `/`, the page, and `/page/{name}`, its other files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        return _answer(request, _INDEX)

    @router.get("/page/{name}")
    async def asset(request: Request, name: str) -> Response:
        return _answer(request, name)

    return router


def _answer(request: Request, name: str) -> Response:
    file = static_files().get(name)
    if file is None:
        raise UnknownRoute("the page has no such file")
    # browsers ask each time whether their copy is the newest, so that no page mixes files of two releases
    headers = {"cache-control": "no-cache", "etag": file.tag, "content-security-policy": _POLICY}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.tag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
