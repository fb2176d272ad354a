"""The client that blocks until an answer is there."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

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


class Client:
    """Calls a service over HTTP; arrays come and go exactly, as npy.

    One client may be shared by threads, which then share its connections. A process that is forked, or that
    gets a pickle of it, has its own connections. Use it as a context manager, or `close` it.

    Requests that meet a full queue (429), a service that starts or stops (503), or a broken connection are
    sent again; that repeats no work that is seen, because a seed fixes what is drawn. More rows than the
    service takes at once are sent in several requests, all to one version.

    Args:
        url: The address of the service; PUSHFORWARD_URL or http://localhost:8000 if left out.
        key: The key of a service that asks for one; PUSHFORWARD_KEY if left out.
        timeout_seconds: The deadline of each call, with all its requests and retries; None for no deadline.
            For `iter_samples` it is that of each chunk. A service that falls silent, or whose head comes
            byte by byte, can hold this client longer; `AsyncClient` ends in time.
        policy: The number and the pauses of retries.
        clock: Returns a time in seconds.
        sleep: Sleeps for some seconds.
        randomness: The source of seeds and of the pauses' randomness.

    Raises:
        ServiceError: The classes of `service.errors`, by the `code` of the service's answer: `Unfit` for
            inputs that do not fit, `UnknownModel`, `Overloaded` and so on; `Unreachable` if there is no
            service at the address, `DeadlineExceeded` if the time is up.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        policy: RetryPolicy = DEFAULT_POLICY,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        randomness: random.Random | None = None,
    ) -> None:
        self._operations = operations_of(url, key, timeout_seconds, policy, clock, randomness)
        self.url = self._operations.url
        self._sleep = sleep
        self._again = partial(
            type(self), self.url, key=key, timeout_seconds=timeout_seconds, policy=policy, clock=clock,
            sleep=sleep, randomness=randomness,
        )  # fmt: skip
        self._connect()

    def _connect(self) -> None:
        self._http = connected(httpx.Client)
        self._process = os.getpid()  # at last: another thread of a fork may be here, too

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    def __repr__(self) -> str:
        return f"<Client of {without_password(self.url)}>"

    def models(self) -> list[dict[str, Any]]:
        """Return all models: name, version, family, operations, item shape and state of each."""
        return self._run(self._operations.models())

    def model(self, name: str, *, version: Version = None) -> dict[str, Any]:
        """Return the manifest of a version, its state, and the `limits` of one request."""
        return self._run(self._operations.model(name, version))

    def sample(
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
        """Return samples as float32 (count, *item).

        Args:
            name: The model.
            count: Number of samples: those numbered offset, offset + 1, ...; if left out, 1, or the number of
                labels.
            seed: Seed of the noise; a fresh one if left out.
            offset: The number of the first sample, from 0.
            temperature: Factor on the prior's standard deviation, from 0 to 10.
            output: `mean`: the likelihood's mean. `draw`: a random draw from the likelihood (VAE) or the same
                sample (GAN of a table), of a table with the decimals and the range of the rows learned.
            method: `direct` keeps every sample; `rejection`, `resample` and `metropolis` choose each among
                its own proposals by the discriminator (GAN).
            budget: Proposals per sample for these, 16 if left out.
            label: For models with a class condition, the class of all samples, by its number from 0 or its
                name, or one for each sample; if left out, the classes come in turn.
            version: A number or an alias; None for the version that answers by default.
        """
        count, of_class = labelled_count(count, label)
        options = {
            "temperature": temperature, "output": output, "method": method, "budget": budget, **of_class,
        }  # fmt: skip
        whole = WholeArray(count)
        self._run(self._operations.samples(name, version, count, seed, offset, options, whole))
        return whole.taken()

    def iter_samples(
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
    ) -> Iterator[Floats]:
        """Yield the samples of `sample` in chunks of `chunk_rows`, in bounded memory.

        The samples are computed as they are taken. All are of the version that answers first.
        """
        count, of_class = labelled_count(count, label)
        options = {
            "temperature": temperature, "output": output, "method": method, "budget": budget, **of_class,
        }  # fmt: skip
        chunks = Chunks(count, chunk_rows)
        script = self._operations.samples(name, version, count, seed, offset, options, chunks)
        with self._connection() as connection:
            yield from connection.rows(script)

    def interpolate(
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
        """Return the samples on a path from `start` to `end`, both included, and their latents.

        Args:
            name: The model.
            start: A pair (seed, index) that names a sample; a latent (D,); or an item, if the model offers
                `encode`.
            end: As `start`.
            steps: The number of points.
            path: `spherical` (if left out) or `linear`.
            label: The class, for models with a class condition.
            version: A number or an alias; None for the version that answers by default.
        """
        return self._run(self._operations.interpolate(name, version, start, end, steps, path, label))

    def read(self, name: str, inputs: Any, *, id: str | None = None, version: Version = None) -> Floats:
        """Return items as the service reads them, float32 (B, *item); nothing is computed.

        Args:
            name: The model.
            inputs: The path of a table in CSV or Parquet, a picture or an npy, whose bytes are sent as they
                are; that of another file, or a folder of pictures; or anything that `score` takes.
            id: The name of a column of the file that the model does not know, and that is left out.
            version: A number or an alias; None for the version that answers by default.
        """
        return self._run(self._operations.read(name, version, inputs, id))

    def encode(
        self,
        name: str,
        inputs: Any,
        *,
        id: str | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> Encoding:
        """Return the means and log-variances (B, D) of items; `inputs` and `id` as for `score`."""
        return self._run(self._operations.encode(name, version, inputs, id, label))

    def decode(self, name: str, latents: Any, *, label: RowLabel = None, version: Version = None) -> Floats:
        """Return the items (B, *item) at latents (B, D)."""
        return self._run(self._operations.arrays(name, version, "decode", latents, label))

    def reconstruct(
        self, name: str, inputs: Any, *, label: RowLabel = None, version: Version = None
    ) -> Floats:
        """Return the items (B, *item) decoded from the encodings of items, in their order and without ids."""
        return self._run(self._operations.arrays(name, version, "reconstruct", inputs, label))

    def score(
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
        """Return how anomalous items are, with p-values if the statistic is calibrated.

        Args:
            name: The model.
            inputs: One item or B items: an array, a DataFrame, pictures, paths of pictures' files; see
                `pushforward.reading.as_rows`.
            statistic: The statistic behind `surprise`; the model's default if left out. A deterministic one
                (`path`, `corrected`), if named here, costs a single pass for each item; the bounds
                cost one for each draw.
            draws: Latent draws per item for the bounds.
            seed: Seed of the draws.
            alpha: The share of ordinary items that may be flagged.
            correction: `benjamini-hochberg` keeps the share of ordinary items among the flagged ones at or
                below alpha, over all inputs of this call.
            columns: Also return the p-value of each column of a table by itself.
            id: The name of a column of the inputs that tells their rows apart, and that the model does not
                know; the scores have it as `ids`. Without it, those are the index of a DataFrame of pandas,
                or the paths of files.
            label: The class of all inputs, or one for each, for models with a class condition.
            version: A number or an alias; None for the version that answers by default.
        """
        options: dict[str, Any] = {"statistic": statistic, "draws": draws, "seed": seed, "alpha": alpha}
        options["columns"] = columns or None  # which older services do not know
        return self._run(self._operations.score(name, version, inputs, options, correction, id, label))

    def surprise_map(
        self, name: str, inputs: Any, *, label: RowLabel = None, version: Version = None
    ) -> Floats:
        """Return how surprising each value of each item is, in nats, (B, *item) (VAE)."""
        return self._run(self._operations.arrays(name, version, "score", inputs, label, map=True))

    def discriminate(
        self,
        name: str,
        inputs: Any,
        *,
        id: str | None = None,
        label: RowLabel = None,
        version: Version = None,
    ) -> Judgement:
        """Return the judgement of a GAN's discriminator on items, (B,); `inputs` and `id` as for `score`."""
        return self._run(self._operations.discriminate(name, version, inputs, id, label))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, script: Script[T]) -> T:
        with self._connection() as connection:
            return connection.run(script)

    def _connection(self) -> _Connection:
        if self._process != os.getpid():  # a fork, which would read the answers to its parent
            self._connect()
        return _Connection(self._http, self._sleep)


class _Connection:
    """Carries out the steps of one script."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], object]) -> None:
        self._http = http
        self._sleep = sleep
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def run(self, script: Script[T]) -> T:
        """Carry out a script that yields no rows, and return its value."""
        result: Any = None
        while True:
            try:
                step = script.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = self._carry_out(step)

    def rows(self, script: Script[None]) -> Iterator[Floats]:
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
                result = self._carry_out(step)

    def _carry_out(self, step: ScriptStep) -> HttpAnswer | BrokenConnection | bytes | None:
        try:
            match step:
                case Send():
                    return self._send(step)
                case ReadPiece():
                    return next(self._pieces, b"")
                case Pause():
                    self._close()
                    self._sleep(step.seconds)
        except httpx.RequestError as error:
            return BrokenConnection(reason_of(error))
        return None

    def _send(self, step: Send) -> HttpAnswer:
        self._close()
        response = self._http.send(request_of(self._http, step), stream=True)
        self._response, self._pieces = response, response.iter_bytes()
        return HttpAnswer(response.status_code, response.headers)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
