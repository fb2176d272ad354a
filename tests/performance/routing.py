"""The cost of routing: one `sample` operation behind the dispatcher, a Starlette route and a FastAPI route.

    python -m tests.performance.routing

One process on one core serves all three. They run the same operation and encode with the same code. The
Starlette route also parses with the same reader; the FastAPI route has the pydantic model as its body
parameter. Both do less than the dispatcher: no registry, deadline, request id, metrics or timing header. The
table has the server's CPU microseconds per request: the median of interleaved rounds, and their range.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api.answer import JSON
from service.api.operations.call import Call
from service.api.v1.request import RequestReader, content_type_of
from service.api.v1.sample import SAMPLE, SampleRequest, completed
from service.app import Service, create_app
from service.format.versions import version_folders
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.process.server import Server
from service.runtime.lanes import Lanes
from service.runtime.loader import load
from service.settings import Settings
from tests.ports import free_port

from . import dialects
from .load import apply_load
from .models import REPOSITORY
from .process_tree import cpu_seconds
from .servers import running

_MODEL: Final = "digits-vae"
_PATHS: Final = {"dispatcher": "/v1/models", "Starlette": "/starlette", "FastAPI": "/fastapi"}
_CONNECTIONS: Final = (1, 32)
_ROUNDS: Final = 5
_SECONDS: Final = 3.0


def serve(port: int) -> None:
    """Serve the operation on all three paths until SIGTERM."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    settings, metrics = Settings(models=REPOSITORY / "models", device="cpu"), Metrics()
    service = create_app(settings)
    folder = version_folders(settings.models / _MODEL)[-1]
    loaded = load(folder, "cpu", settings, Lanes(1), metrics)
    reader = RequestReader(SAMPLE, loaded, metrics, settings)

    async def answer(request: SampleRequest, accept: str) -> Response:
        accepted = reader.accepted(accept)
        options = completed(request, loaded, accepted, settings)
        whole = await SAMPLE.answer(Call(loaded, options, {}, settings, Timing()), accepted)
        headers = {name.decode(): value.decode() for name, value in whole.headers}
        return Response(whole.body, headers=headers, media_type=whole.media_type)

    async def by_starlette(request: Request) -> Response:
        content_type = content_type_of(request.headers["content-type"])
        query = request.scope["query_string"]
        options = reader.read(content_type, query, await request.body()).options
        assert isinstance(options, SampleRequest)
        return await answer(options, request.headers.get("accept", ""))

    async def by_fastapi(model: str, options: SampleRequest, request: Request) -> Response:  # noqa: ARG001
        return await answer(options, request.headers.get("accept", ""))

    path, fastapi = "{}/{{model}}/sample", FastAPI()
    fastapi.post(path.format("/fastapi"))(by_fastapi)
    starlette = Starlette(routes=[Route(path.format("/starlette"), by_starlette, methods=["POST"])])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            loaded.start()
        root = "/" + scope.get("path", "/").split("/")[1]
        await {"/starlette": starlette, "/fastapi": fastapi}.get(root, service.app)(scope, receive, send)

    server = Server(Service(app, service.lifecycle), settings)
    server.run(sockets=[socket.create_server(("127.0.0.1", port))])


def table() -> str:
    """Return the measured table in Markdown."""
    port = free_port()
    body = f'{{"count": 1, "seed": {dialects.SEED}}}'.encode()
    used: dict[tuple[int, str], list[float]] = {(n, name): [] for n in _CONNECTIONS for name in _PATHS}
    command = [sys.executable, "-m", "tests.performance.routing", "serve", str(port)]
    with (
        tempfile.TemporaryDirectory() as logs,
        running("routing", command, port, "/readyz", Path(logs)) as (process, _),
    ):
        for number in range(_ROUNDS + 1):  # the first one warms up
            for connections, name in list(used)[:: 1 if number % 2 else -1]:
                path = f"{_PATHS[name]}/{_MODEL}/sample"
                request = dialects.Request(path, {"content-type": JSON}, (body,), least_bytes=1)
                before = cpu_seconds(process.pid)
                load = apply_load(f"http://127.0.0.1:{port}", request, connections, _SECONDS, number << 32)
                used[connections, name].append((cpu_seconds(process.pid) - before) / load.requests * 1e6)
    lines = ["| connections | routed by | CPU us per request | ratio |", "|---:|---|---:|---:|"]
    for (connections, name), (_, *values) in used.items():
        ratio = statistics.median(values) / statistics.median(used[connections, "dispatcher"][1:])
        spread = f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
        lines.append(f"| {connections} | {name} | {spread} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    serve(int(sys.argv[2])) if sys.argv[1:] else sys.stdout.write(table() + "\n")
