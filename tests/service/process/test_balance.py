import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from service.process.balance import Balance, Share

pytestmark = pytest.mark.anyio


@pytest.fixture
def balance() -> Iterator[Balance]:
    with closing(Balance(3)) as made:
        yield made


@asynccontextmanager
async def a_transport() -> AsyncIterator[asyncio.WriteTransport]:
    """The server's side of a connection."""
    came: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(lambda _, writer: came.set_result(writer), "127.0.0.1") as server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        accepted = await came
        yield accepted.transport
        client.close()
        accepted.close()
        await client.wait_closed()
        await accepted.wait_closed()


def beginning(share: Share, connections: int) -> list[socket.socket]:
    """Let a replica serve with so many connections; those that are passed to it are put into the list."""
    taken: list[socket.socket] = []
    share.begin(taken.append, connections)
    return taken


async def test_a_connection_goes_to_the_replica_with_the_fewest_only_if_it_makes_them_more_even(
    balance: Balance,
) -> None:
    mine, fuller, emptier = (Share(balance, number) for number in range(3))
    taken = [beginning(share, connections) for share, connections in ((mine, 4), (fuller, 4), (emptier, 2))]
    async with a_transport() as transport:
        assert [mine.passes_on(transport, connections) for connections in (1, 2, 3, 4)] == [False] * 3 + [
            True
        ]
        assert not mine.passes_on(transport, 4), "it is not known to have three now"
        assert mine.passes_on(transport, 5)
    for share, passed in zip((mine, fuller, emptier), taken, strict=True):
        share.end(passed.append)
        assert len(passed) == (2 if share is emptier else 0)
        for connection in passed:
            connection.close()


async def test_a_replica_that_does_not_serve_gets_no_connection(balance: Balance) -> None:
    mine, left = (Share(balance, number) for number in range(2))  # the third has never served
    beginning(mine, 999)
    passed = beginning(left, 0)
    left.leave()
    left.count(0)
    async with a_transport() as transport:
        assert not mine.passes_on(transport, 1_000)
    mine.end(passed.append)
    left.end(passed.append)
    assert not passed


async def test_a_replica_that_stands_still_gets_few_connections_and_loses_none_of_them(
    balance: Balance,
) -> None:
    mine, still = Share(balance, 0), Share(balance, 1)
    beginning(mine, 999)
    taken = beginning(still, 0)
    async with a_transport() as transport:
        passed = sum(mine.passes_on(transport, 1_000) for _ in range(100))  # the loop takes no turn
        assert 0 < passed < 32
        still.end(taken.append)
        assert len(taken) == passed
        assert mine.passes_on(transport, 1_000), "it has room again"
        still.end(taken.append)
        assert {connection.getpeername() for connection in taken} == {transport.get_extra_info("peername")}
        assert len(taken) == passed + 1
    mine.end(taken.append)
    for connection in taken:
        connection.close()
