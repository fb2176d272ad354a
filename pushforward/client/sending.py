"""Sending with retries within a deadline, as scripts: the clock and the randomness are given."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pushforward.client.problems import problem_of
from pushforward.client.wire import (
    BrokenConnection,
    HttpAnswer,
    HttpRequest,
    Pause,
    ReadPiece,
    Script,
    Send,
    without_password,
)
from service.errors import (
    DeadlineExceeded,
    Overloaded,
    ServiceError,
    Unavailable,
    UnknownVersion,
    Unreachable,
)

Clock = Callable[[], float]
_SHORTEST_SECONDS: Final = 1e-3


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number and the pauses of the retries after 429, 503 or a broken connection.

    The pause before retry n is between the half and the whole of `first_seconds` * 2^(n - 1), at most
    `longest_seconds`, at random, so that clients do not come back all at once. The seconds of `Retry-After`
    are added to it. A request that makes progress, such as a stream of samples, starts again at retry 1.
    """

    retries: int = 8
    """Most retries in a row."""
    first_contact_retries: int = 2
    """Most retries as long as the service has never answered: its address may be wrong."""
    first_seconds: float = 0.1
    longest_seconds: float = 10.0
    longest_retry_after_seconds: float = 30.0
    """A longer `Retry-After` ends the retries."""

    def pause_seconds(self, failures: int, share: float) -> float:
        """Return the pause after so many failures in a row, from 1; `share` is random, from 0 to 1."""
        return float((0.5 + share / 2) * min(self.longest_seconds, self.first_seconds * 2 ** (failures - 1)))


DEFAULT_POLICY: Final = RetryPolicy()


class Deadline:
    """The time that is left to a call."""

    def __init__(self, seconds: float | None, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Let the time begin anew: for the next rows of an iterator."""
        self._due_at = None if self.seconds is None else self._clock() + self.seconds

    def left_seconds(self) -> float | None:
        """Return the seconds that are left, negative if the deadline has passed; None for no deadline."""
        return None if self._due_at is None else self._due_at - self._clock()

    @property
    def is_over(self) -> bool:
        """True if the deadline has passed."""
        left = self.left_seconds()
        return left is not None and left <= 0


class Sender:
    """Makes the scripts that send requests to one service."""

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout_seconds: float | None,
        policy: RetryPolicy,
        clock: Clock,
        randomness: random.Random,
    ) -> None:
        self.url = url
        self.shown = without_password(url)
        """The address for messages."""
        self.randomness = randomness
        self._headers: Mapping[str, str] = {
            "user-agent": "pushforward-client",
            **({"authorization": f"Bearer {key}"} if key else {}),
        }
        self._timeout_seconds = timeout_seconds
        self._policy = policy
        self._clock = clock
        self._reached = False

    def deadline(self) -> Deadline:
        """Return the deadline of a call that begins now."""
        return Deadline(self._timeout_seconds, self._clock)

    def answer(self, request: HttpRequest, deadline: Deadline, *, pinned: bool = False) -> Script[HttpAnswer]:
        """Send a request until it is answered with status 200; return the answer.

        `pinned` requests name a version that answered a moment ago: if it is unknown, another replica is
        about to load it, so they are sent again too.

        Raises:
            ServiceError: the last answer is a problem that is not retried, or no longer.
            Unreachable: there was none.
            DeadlineExceeded: the deadline has passed.
        """
        failures = 0
        while True:
            answer = yield from self.sent(request, deadline)
            if isinstance(answer, HttpAnswer) and answer.status == HTTPStatus.OK:
                self._reached = True
                return answer
            failures += 1
            yield from self.recover(self.error_of(answer, deadline), failures, deadline, pinned=pinned)

    def sent(
        self, request: HttpRequest, deadline: Deadline, *, streamed: bool = False
    ) -> Script[HttpAnswer | BrokenConnection]:
        """Send a request once, and return its answer; if `streamed`, one of status 200 without its body.

        Raises:
            DeadlineExceeded: the deadline has passed, perhaps while the bytes of the answer still came.
        """
        answer: HttpAnswer | BrokenConnection = yield self._step(request, deadline)
        if isinstance(answer, BrokenConnection) or (streamed and answer.status == HTTPStatus.OK):
            return answer
        pieces = []
        while piece := (yield ReadPiece(deadline.left_seconds())):
            if isinstance(piece, BrokenConnection):
                return piece
            self.check(deadline)
            pieces.append(piece)
        answer.body = b"".join(pieces)
        return answer

    def _step(self, request: HttpRequest, deadline: Deadline) -> Send:
        self.check(deadline)
        seconds, headers = deadline.left_seconds(), {**request.headers, **self._headers}
        if seconds is not None:
            seconds = max(seconds, _SHORTEST_SECONDS)  # time goes by between the check and here
            headers["x-request-timeout-seconds"] = f"{seconds:.6f}"
        return Send(request.method, self.url + request.target, headers, request.body, seconds)

    def check(self, deadline: Deadline) -> None:
        """Raise DeadlineExceeded if the deadline has passed."""
        if deadline.is_over:
            raise self._late(deadline)

    def error_of(self, answer: HttpAnswer | BrokenConnection, deadline: Deadline) -> ServiceError:
        """Return the error that a failed answer stands for."""
        if isinstance(answer, HttpAnswer):
            self._reached = True
            return problem_of(answer, self.shown)
        if deadline.is_over:
            return self._late(deadline)
        return Unreachable(
            f"no answer from {self.shown} ({answer.reason}); is the service running there? `pushforward "
            "serve` starts one; another address is given by `url` (in a terminal --url), or PUSHFORWARD_URL"
        )

    def recover(
        self, error: ServiceError, failures: int, deadline: Deadline, *, pinned: bool = False
    ) -> Script[None]:
        """Pause before the next retry; raise the error if it is not for retries, or there are no more."""
        wait = 0
        if isinstance(error, Overloaded | Unavailable):
            wait = error.retry_after_seconds
        elif not (pinned and isinstance(error, UnknownVersion)):
            raise error
        retries = self._policy.retries if self._reached else self._policy.first_contact_retries
        if failures > retries or wait > self._policy.longest_retry_after_seconds:
            raise error
        pause = wait + self._policy.pause_seconds(failures, self.randomness.random())
        left = deadline.left_seconds()
        if left is not None and pause >= left:
            raise error
        yield Pause(pause)

    def _late(self, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self.shown} had not answered when {deadline.seconds:g} s had passed; give the client a larger "
            "`timeout_seconds`, or ask for less"
        )
