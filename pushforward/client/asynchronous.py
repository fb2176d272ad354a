"""The client for asyncio."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import httpx

from pushforward.checks import Label, RowLabel, labelled_count
from pushforward.client.chunks import Chunks, WholeArray
from pushforward.client.connection import (
    DEFAULT_TIMEOUT_SECONDS,
    connected,
    operations_of,
    reason_of,
    request_of,
)
from pushforward.client.sending import DEFAULT_POLICY, Clock, RetryPolicy
from pushforward.client.versions import Version
from pushforward.client.wire import (
    BrokenConnection,
    HttpAnswer,
    Pause,
    ReadPiece,
    Script,
    ScriptStep,
    Send,
    T,
    YieldRows,
    without_password,
)
from pushforward.results import Encoding, Floats, Interpolation, ItemScores, Judgement

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class AsyncClient:
    """Calls a service over HTTP from asyncio: the same as `Client`, with `await`.

    One client may be shared by the tasks of an event loop, which then share its connections; in another loop,
    such as that of the next `asyncio.run`, it makes new ones. Use it as an asynchronous context manager, or
    `aclose` it. Arguments and errors are those of `Client`; `sleep` returns an awaitable.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        policy: RetryPolicy = DEFAULT_POLICY,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self._operations = operations_of(url, key, timeout_seconds, policy, clock, randomness)
        self.url = self._operations.url
        self._http = connected(httpx.AsyncClient)
        self._loop: AbstractEventLoop | None = None
        """The event loop of the connections, once there are any."""
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<AsyncClient of {without_password(self.url)}>"

    async def models(self) -> list[dict[str, Any]]:
        """Return all models: name, version, family, operations, item shape and state of each."""
        return await self._run(self._operations.models())

    async def model(self, name: str, *, version: Version = None) -> dict[str, Any]:
        """Return the manifest of a version, its state, and the `limits` of one request."""
        return await self._run(self._operations.model(name, version))

    async def sample(
        self,
        name: str,
        *,
        count: int | None = None,
        seed: int | None = None,
        offset: int = 0,
        temperature: float = 1.0,
        output: str = "mean",
        method: str = "direct",
        budget: int | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> Floats:
        """Return samples as float32 (count, *item)."""
        count, of_class = labelled_count(count, label)
        options = {
            "temperature": temperature, "output": output, "method": method, "budget": budget, **of_class,
        }  # fmt: skip
        whole = WholeArray(count)
        await self._run(self._operations.samples(name, version, count, seed, offset, options, whole))
        return whole.taken()

    async def iter_samples(
        self,
        name: str,
        *,
        count: int,
        chunk_rows: int = 1024,
        seed: int | None = None,
        offset: int = 0,
        temperature: float = 1.0,
        output: str = "mean",
        method: str = "direct",
        budget: int | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> AsyncIterator[Floats]:
        """Yield the samples of `sample` in chunks of `chunk_rows`, in bounded memory."""
        count, of_class = labelled_count(count, label)
        options = {
            "temperature": temperature, "output": output, "method": method, "budget": budget, **of_class,
        }  # fmt: skip
        chunks = Chunks(count, chunk_rows)
        script = self._operations.samples(name, version, count, seed, offset, options, chunks)
        async with self._connection() as connection:
            async for rows in connection.rows(script):
                yield rows

    async def interpolate(
        self,
        name: str,
        start: Any,
        end: Any,
        *,
        steps: int = 8,
        path: str | None = None,
        label: Label = None,
        version: Version = None,
    ) -> Interpolation:
        """Return the samples on a path from `start` to `end`, both included, and their latents."""
        return await self._run(self._operations.interpolate(name, version, start, end, steps, path, label))

    async def read(self, name: str, inputs: Any, *, id: str | None = None, version: Version = None) -> Floats:
        """Return items as the service reads them, float32 (B, *item); nothing is computed."""
        return await self._run(self._operations.read(name, version, inputs, id))

    async def encode(
        self,
        name: str,
        inputs: Any,
        *,
        id: str | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> Encoding:
        """Return the means and log-variances (B, D) of items."""
        return await self._run(self._operations.encode(name, version, inputs, id, label))

    async def decode(
        self, name: str, latents: Any, *, label: RowLabel = None, version: Version = None
    ) -> Floats:
        """Return the items (B, *item) at latents (B, D)."""
        return await self._run(self._operations.arrays(name, version, "decode", latents, label))

    async def reconstruct(
        self, name: str, inputs: Any, *, label: RowLabel = None, version: Version = None
    ) -> Floats:
        """Return the items (B, *item) decoded from the encodings of items, in their order and without ids."""
        return await self._run(self._operations.arrays(name, version, "reconstruct", inputs, label))

    async def score(
        self,
        name: str,
        inputs: Any,
        *,
        statistic: str | None = None,
        draws: int | None = None,
        seed: int | None = None,
        alpha: float | None = None,
        correction: str = "none",
        id: str | None = None,
        columns: bool = False,
        label: RowLabel = None,
        version: Version = None,
    ) -> ItemScores:
        """Return how anomalous items are, with p-values if the statistic is calibrated."""
        options: dict[str, Any] = {"statistic": statistic, "draws": draws, "seed": seed, "alpha": alpha}
        options["columns"] = columns or None  # which older services do not know
        return await self._run(self._operations.score(name, version, inputs, options, correction, id, label))

    async def surprise_map(
        self, name: str, inputs: Any, *, label: RowLabel = None, version: Version = None
    ) -> Floats:
        """Return how surprising each value of each item is, in nats, (B, *item) (VAE)."""
        return await self._run(self._operations.arrays(name, version, "score", inputs, label, map=True))

    async def discriminate(
        self,
        name: str,
        inputs: Any,
        *,
        id: str | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> Judgement:
        """Return the judgement of a GAN's discriminator on items, each array (B,)."""
        return await self._run(self._operations.discriminate(name, version, inputs, id, label))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, script: Script[T]) -> T:
        async with self._connection() as connection:
            return await connection.run(script)

    def _connection(self) -> _AsyncConnection:
        import asyncio  # which takes longer to import than the whole client

        loop, before = asyncio.get_running_loop(), self._loop
        self._loop = loop
        if before not in (None, loop):  # the connections ended with that loop, or are of another thread
            self._http = connected(httpx.AsyncClient)
        return _AsyncConnection(self._http, self._sleep or asyncio.sleep)


class _AsyncConnection:
    """Carries out the steps of one script."""

    def __init__(self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._http = http
        self._sleep = sleep
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def run(self, script: Script[T]) -> T:
        """Carry out a script that yields no rows, and return its value."""
        result: Any = None
        while True:
            try:
                step = script.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = await self._carry_out(step)

    async def rows(self, script: Script[None]) -> AsyncIterator[Floats]:
        """Carry out a script, and yield its rows."""
        result: Any = None
        while True:
            try:
                step = script.send(result)
            except StopIteration:
                return
            if isinstance(step, YieldRows):
                yield step.rows
                result = None
            else:
                result = await self._carry_out(step)

    async def _carry_out(self, step: ScriptStep) -> HttpAnswer | BrokenConnection | bytes | None:
        import asyncio  # as in `AsyncClient`

        try:
            match step:
                case Send():
                    async with asyncio.timeout(step.seconds):
                        return await self._send(step)
                case ReadPiece():
                    assert self._pieces is not None, "an answer has come"
                    async with asyncio.timeout(step.seconds):
                        return await anext(self._pieces, b"")
                case Pause():
                    await self._close()
                    await self._sleep(step.seconds)
        except httpx.RequestError as error:
            return BrokenConnection(reason_of(error))
        except TimeoutError:
            return BrokenConnection("the time is over")
        return None

    async def _send(self, step: Send) -> HttpAnswer:
        await self._close()
        response = await self._http.send(request_of(self._http, step), stream=True)
        self._response, self._pieces = response, response.aiter_bytes()
        return HttpAnswer(response.status_code, response.headers)

    async def _close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
