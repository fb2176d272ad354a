"""The price of each promise for a lone sample: the service beside itself with one promise taken out.

    python -m tests.performance.prices

Every variant is a process of its own on one core. They are loaded in turns, by one connection, in interleaved
rounds. The table has the CPU microseconds of a request that are saved without the promise: the median of the
rounds, and the middle half of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api import dispatch
from service.api.answer import JSON, NPY
from service.api.exchange import WHOLE, Exchange, WriteWhole
from service.api.problems import Headers
from service.api.v1.request import ReadRequest, RequestReader
from service.app import create_app
from service.numerics.noise import Arrays, Floats
from service.numerics.prior import StandardNormalPrior
from service.observe.accumulators import BufferedCounter, BufferedHistogram
from service.observe.metrics import Meter, Metrics, StageObserver
from service.process import server
from service.process.protocol import bounded_protocol
from service.runtime import engine
from service.runtime.batcher import Batcher
from service.settings import Settings
from tests.ports import free_port

from . import dialects
from .load import apply_load
from .models import REPOSITORY
from .process_tree import cpu_seconds
from .servers import running

_MODEL: Final = "digits-vae"
_ROUNDS: Final = 21
_SECONDS: Final = 1.0
_WHOLE: Final = "the service"
_NONE: Final = "all of them"


def _replace(owner: Any, **attributes: Any) -> None:
    """Replace attributes of a class or a module for as long as the process lives."""
    for name, value in attributes.items():
        patch.object(owner, name, value).start()


def _nothing(*_: object, **__: object) -> None:
    """Do nothing, in the place of a function that keeps a promise."""


def _without_addressed_noise() -> None:
    def words(self: Any, seed: int, start: int, count: int, *_: object) -> Arrays:
        generator = np.random.default_rng(seed + start)
        return (generator.standard_normal((count, self._size), np.float32),)

    def latents_from(_self: object, words: Arrays, _temperature: float = 1.0) -> Floats:
        return words[0]

    _replace(StandardNormalPrior, words=words, latents_from=latents_from)


def _without_finite_outputs() -> None:
    class Unchecked:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def isfinite(self, _array: object) -> Any:
            return np.True_

    _replace(engine, np=Unchecked())


def _without_types() -> None:
    def read_json(self: Any, body: bytes) -> ReadRequest:
        if not hasattr(self, "loose"):
            fields = self._model.model_fields.items()
            self.loose = type("Loose", (), {name: field.get_default() for name, field in fields})
        options = self.loose()
        options.__dict__.update(orjson.loads(body))
        return ReadRequest(options, {})

    _replace(RequestReader, _read_json=read_json)


def _without_limits_of_bodies() -> None:
    async def body(self: Any, *_limits: object) -> bytes:
        message = await self.receive()
        whole: bytes = message["body"]
        while message.get("more_body"):
            message = await self.receive()
            whole += message["body"]
        self._body_is_read = True
        return whole

    _replace(Exchange, body=body, hold=_nothing, release=_nothing)


def _without_deadlines() -> None:
    class Endless:
        listen = _nothing

        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None: ...

    scope = Endless()
    _replace(Exchange, cancel_scope=lambda *_: scope, request_scope=lambda *_: scope)


def _without_fair_queue() -> None:
    """Batch what has come, as the floor does: no turns, no slices, no limit, and no lanes that may die."""

    def run(self: Any) -> None:
        calls, self.calls = self.calls, deque()
        inputs = calls[0][0]
        if len(calls) > 1:
            inputs = tuple(
                np.concatenate(arrays) for arrays in zip(*[call[0] for call in calls], strict=True)
            )
        outputs, first = self._compute(inputs), 0
        for rows, answer in calls:
            last = first + len(rows[0])
            if not answer.done():
                answer.set_result(tuple(array[first:last] for array in outputs))
            first = last

    async def submit(self: Any, inputs: Arrays, _timing: object = None, **_: object) -> Arrays:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Arrays] = loop.create_future()
        if not self.__dict__.setdefault("calls", deque()):
            loop.call_soon(run, self)
        self.calls.append((inputs, answer))
        return await answer

    _replace(Batcher, submit=submit)


def _without_metrics() -> None:
    _replace(BufferedCounter, add=_nothing)
    _replace(BufferedHistogram, flush=lambda histogram: histogram._pending.clear())
    _replace(Metrics, answered=_nothing)
    _replace(Meter, answered=_nothing)
    _replace(StageObserver, computed=_nothing)


def _without_strict_http() -> None:
    def plain(*limits: Any) -> type[HttpToolsProtocol]:
        bounded: Any = bounded_protocol(*limits)

        class Plain(HttpToolsProtocol):
            _write_whole = bounded._write_whole

            def on_headers_complete(self) -> None:
                super().on_headers_complete()
                self.scope[WHOLE] = self._write_whole  # type: ignore[typeddict-unknown-key]

        return Plain

    _replace(server, bounded_protocol=plain)


def _without_names_in_answers() -> None:
    def write_whole(self: Any, headers: Headers, body: bytes) -> bool:
        write: WriteWhole = self.scope[WHOLE]
        self.status = 200
        return write(self.scope, headers, body)

    _replace(Exchange, _write_whole=write_whole, identify=_nothing, add_timing=_nothing)
    _replace(dispatch, request_ids=lambda: str)


PROMISES: Final[dict[str, Callable[[], None]]] = {
    "a sample depends on its seed and its number alone": _without_addressed_noise,
    "calls take turns in slices; the queue is bounded; a lane that dies is restarted": _without_fair_queue,
    "bodies are bounded, each and all together": _without_limits_of_bodies,
    "deadlines, and work that ends when its client leaves": _without_deadlines,
    "metrics": _without_metrics,
    "HTTP is read as proxies read it; heads are bounded in bytes and in time": _without_strict_http,
    "unknown fields and wrong types are refused": _without_types,
    "answers name the request, the version and the times": _without_names_in_answers,
    "outputs are finite": _without_finite_outputs,
}


def serve(models: Path, port: int, taken_out: str) -> None:
    """Serve on one core, without a promise, or without all of them, until SIGTERM."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name, take_out in PROMISES.items():
        if taken_out in (name, _NONE):
            take_out()
    settings = Settings(models=models, device="cpu", trial="never", poll_seconds=0)
    service = create_app(settings, loads_first=True)
    server.Server(service, settings).run(sockets=[socket.create_server(("127.0.0.1", port))])


def measured(rounds: int = _ROUNDS, seconds: float = _SECONDS) -> dict[str, list[float]]:
    """Return the CPU microseconds of a request in each round, by what was taken out.

    Raises:
        BenchFailed: a variant ended, or gave an answer that is not 2xx or too short.
    """
    body = f'{{"count": 1, "seed": {dialects.SEED}}}'.encode()
    headers = {"content-type": JSON, "accept": NPY}
    request = dialects.Request(f"/v1/models/{_MODEL}/sample", headers, (body,), least_bytes=1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        models = Path(folder) / "models"
        servers: dict[str, tuple[str, int]] = {}
        shutil.copytree(REPOSITORY / "models" / _MODEL, models / _MODEL)
        for number, name in enumerate((_WHOLE, *PROMISES, _NONE)):
            port = free_port()
            arguments = ("serve", str(models), str(port), name)
            command = [sys.executable, "-m", "tests.performance.prices", *arguments]
            process, _ = stack.enter_context(
                running(f"prices-{number}", command, port, "/readyz", Path(folder))
            )
            servers[name] = f"http://127.0.0.1:{port}", process.pid
        found: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds + 1):  # the first one warms up
            turn = number % len(servers)
            for name, (url, process_id) in [*servers.items()][turn:] + [*servers.items()][:turn]:
                before = cpu_seconds(process_id)
                load = apply_load(url, request, 1, seconds, number << 32)
                found[name].append((cpu_seconds(process_id) - before) / load.requests * 1e6)
    return {name: values[1:] for name, values in found.items()}


def table(found: dict[str, list[float]]) -> str:
    """Return the prices in Markdown, the highest first."""
    whole = found[_WHOLE]
    lines = ["| promise | CPU of a lone sample, µs | middle half |", "|---|---:|---:|"]
    prices = {
        name: statistics.quantiles([all_ - less for all_, less in zip(whole, values, strict=True)])
        for name, values in found.items()
        if name != _WHOLE
    }
    for name in sorted(prices, key=lambda name: -prices[name][1]):
        low, middle, high = prices[name]
        lines.append(f"| {name} | {middle:.0f} | {low:.0f} to {high:.0f} |")
    lines.append(f"\nThe service takes {statistics.median(whole):.0f} µs with all of them.")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        sys.stdout.write(table(measured()) + "\n")
