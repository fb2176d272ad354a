"""The check of a server's answers: alone before anything is timed, and again under every load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
import numpy as np

from service.api.answer import PNG

from .failure import BenchFailed
from .models import Model, Values
from .servers import Target
from .workloads import Workload

_QUESTIONS: Final = 4
_SEED: Final = 2024
_SECONDS_APART: Final = 0.5
_TOLERANCE: Final = 1e-5
_PICTURE_TOLERANCE: Final = 0.51 / 255
"""A picture has 256 levels."""


@dataclass(slots=True)
class Watch:
    """The number of questions that were answered rightly, or the first flaw."""

    answers: int = 0
    flaw: str = ""


class Witness:
    """Asks one target the questions of one workload and knows the answers.

    These are what it answered alone, once that agrees with ONNX Runtime alone. Under load a target that
    promises so must answer the same bits, any other the same within 1e-5.

    Raises:
        BenchFailed: it answers wrongly when asked alone.
    """

    def __init__(self, target: Target, workload: Workload, model: Model) -> None:
        self._target = target
        self._workload = workload
        self._request = target.dialect.request(workload)
        self._known: list[Values] = []
        tolerance = _PICTURE_TOLERANCE if workload.accept == PNG else _TOLERANCE
        with _client() as client:
            for turn in range(_QUESTIONS):
                answer = self._ask(client, turn)
                expected = model.values(
                    workload.operation, target.dialect.feeds(workload, _SEED + turn, turn)
                )
                if flaw := _flaw(answer, expected, tolerance):
                    raise BenchFailed(f"{target.name}, {workload.name}: beside ONNX Runtime, {flaw}")
                self._known.append(answer)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Asks twice a second meanwhile.

        Raises:
            BenchFailed: an answer was wrong, or there was none; on leaving.
        """
        watch, stop = Watch(), threading.Event()
        thread = threading.Thread(target=self._watch, args=(watch, stop), daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            stop.set()
            thread.join()
        if watch.flaw:
            raise BenchFailed(f"{self._target.name}, {self._workload.name}: under load, {watch.flaw}")

    def _watch(self, watch: Watch, stop: threading.Event) -> None:
        tolerance = 0.0 if self._target.dialect.exact else _TOLERANCE
        try:
            with _client() as client:
                while not watch.flaw:
                    turn = watch.answers % _QUESTIONS
                    watch.flaw = _flaw(self._ask(client, turn), self._known[turn], tolerance)
                    watch.answers += 1
                    if stop.wait(_SECONDS_APART):
                        return
        except BenchFailed as failure:
            watch.flaw = str(failure)

    def _ask(self, client: httpx.Client, turn: int) -> Values:
        path, body = self._request.filled(_SEED + turn, turn)
        try:
            answer = client.post(self._target.url + path, content=body, headers=self._request.headers)
        except httpx.TransportError as error:
            raise BenchFailed(f"{self._target.name} did not answer ({type(error).__name__})") from error
        if answer.status_code != 200:
            raise BenchFailed(f"{self._target.name} answered {answer.status_code}: {answer.text[:300]}")
        try:
            return self._target.dialect.values(self._workload, answer)
        except (ValueError, KeyError, OSError) as error:
            raise BenchFailed(f"{self._target.name}: the answer cannot be read ({error})") from error


def _client() -> httpx.Client:
    return httpx.Client(timeout=30.0, trust_env=False)


def _flaw(got: Values, expected: Values, tolerance: float) -> str:
    """Return the flaw of an answer, or "" if there is none; the tolerance is relative above 1."""
    if got.shape != expected.shape:
        return f"the answer has shape {got.shape}, {expected.shape} was expected"
    gap = float(np.max(np.abs(got - expected) / np.maximum(1, np.abs(expected))))
    return "" if gap <= tolerance else f"an answer is off by {gap:.1e}, at most {tolerance:.0e} is allowed"
