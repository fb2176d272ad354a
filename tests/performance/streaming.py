"""A client that reads large answers as they are streamed, in a thread of its own."""

from __future__ import annotations

import http.client
import math
import threading
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from service.media.codecs import npy_header

from .failure import BenchFailed
from .models import Model
from .servers import Target
from .workloads import Workload

_BUFFER_BYTES: Final = 2**18
_CHECKED_SAMPLES: Final = 64
"""The number of samples of each answer that are compared with those of ONNX Runtime alone, bit for bit."""
_TIMEOUT_SECONDS: Final = 30.0


class Stream:
    """Reads a workload's answer until it is left, and those of the next seeds too if it repeats.

    Raises:
        BenchFailed: an answer failed or was wrong; on leaving.
    """

    def __init__(
        self, target: Target, workload: Workload, model: Model, first_seed: int, *, repeats: bool
    ) -> None:
        self._target = target
        self._workload = workload
        self._model = model
        self._seed = first_seed
        self._repeats = repeats
        self._bytes_read = 0
        self._flaw = ""
        self._stopped = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        """Returns once the first samples have come."""
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in the middle of the answer that is being read."""
        self._stopped.set()
        self._thread.join()
        if self._flaw and kind is None:
            raise BenchFailed(f"{self._target.name}, {self._workload.name}: {self._flaw}")

    @property
    def samples(self) -> float:
        """Return the number of samples that have come so far."""
        return self._bytes_read / self._sample_bytes

    @property
    def ended(self) -> bool:
        """Return True if no more samples will come."""
        return not self._thread.is_alive()

    @property
    def _sample_bytes(self) -> int:
        return 4 * math.prod(self._model.manifest.item_shape)

    def _read(self) -> None:
        try:
            goes_on = True
            while goes_on and not self._stopped.is_set():
                self._flaw = self._read_one()
                self._seed += 1
                goes_on = self._repeats and not self._flaw
        except (OSError, http.client.HTTPException) as error:
            self._flaw = f"the stream broke off ({type(error).__name__}: {error})"
        finally:
            self._begun.set()

    def _read_one(self) -> str:
        """Reads one answer; returns what is wrong with it."""
        expected = self._expected_start()
        buffer, start = memoryview(bytearray(_BUFFER_BYTES)), bytearray()
        connection = http.client.HTTPConnection(urlsplit(self._target.url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            path, body = self._target.dialect.request(self._workload).filled(self._seed, 0)
            headers = self._target.dialect.request(self._workload).headers
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            if answer.status != 200:
                return f"the stream was answered with {answer.status}"
            while not self._stopped.is_set() and (size := answer.readinto(buffer)):
                self._bytes_read += size
                if len(start) < len(expected):
                    start += buffer[: min(size, len(expected) - len(start))]
                    if not expected.startswith(start):
                        return "the streamed samples are not those of the seed"
                self._begun.set()
            return ""
        finally:
            connection.close()

    def _expected_start(self) -> bytes:
        shape = (self._workload.count, *self._model.manifest.item_shape)
        latents = self._model.prior.latents(self._seed, 0, _CHECKED_SAMPLES, 1.0)
        return npy_header(shape) + self._model.values("sample", {"latents": latents}).tobytes()
