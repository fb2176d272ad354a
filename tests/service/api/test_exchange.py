import asyncio
from typing import Any

import pytest

from service.api.body import ByteBudget
from service.api.deadline import CancelScope, ScopeSweeper
from service.api.exchange import Exchange
from service.errors import Unfit
from service.observe.metrics import Metrics


async def nothing(*_: object) -> Any:
    raise AssertionError("nothing is received or sent")


def scope_of(asked: bytes) -> CancelScope:
    """The scope of a request that asks for so many seconds, of a service that gives 60, and 10 to arrive."""

    async def made() -> CancelScope:
        scope = {"method": "POST", "headers": [(b"x-request-timeout-seconds", asked)]}
        sweeper = ScopeSweeper(asyncio.get_running_loop())
        exchange = Exchange(scope, nothing, nothing, Metrics(), sweeper, lambda: "id", ByteBudget(1))
        return exchange.request_scope(deadline_seconds=60, idle_seconds=10)

    return asyncio.run(made())


@pytest.mark.parametrize(
    ("asked", "seconds", "arrival"),
    [(b"5", 5, 5), (b"30", 30, 10), (b"61", 60, 10), (b"inf", 60, 10), (b"", 60, 10)],
)
def test_a_request_may_ask_for_less_time_than_the_service_gives_and_not_for_more(
    asked: bytes, seconds: float, arrival: float
) -> None:
    scope = scope_of(asked)
    assert (scope.seconds, scope.arrival_seconds) == (seconds, arrival)


@pytest.mark.parametrize("asked", [b"0", b"-1", b"nan", b"-inf", b"soon", b"1_0"])
def test_a_time_that_is_no_positive_number_is_refused(asked: bytes) -> None:
    with pytest.raises(Unfit, match="positive number of seconds"):
        scope_of(asked)
