import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from service.process.balance import Balance, Share

pytestmark = pytest.mark.anyio


@pytest.fixture
def balance() -> Iterator[Balance]:
    with closing(Balance(3)) as made:
        yield made


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """The server's side of a connection."""
    accepted, other = socket.socketpair()
    with accepted, other:
        yield accepted


def beginning(share: Share, connections: int) -> list[socket.socket]:
    """Let a replica serve with so many connections; those that are passed to it are put into the list."""
    taken: list[socket.socket] = []
    share.begin(taken.append, connections)
    return taken


async def test_a_connection_goes_to_the_replica_with_the_fewest_only_if_it_makes_them_more_even(
    balance: Balance, client: socket.socket
) -> None:
    mine, fuller, emptier = (Share(balance, number) for number in range(3))
    taken = [beginning(share, connections) for share, connections in ((mine, 4), (fuller, 4), (emptier, 2))]
    assert [mine.passes_on(client, connections) for connections in (1, 2, 3, 4)] == [False] * 3 + [True]
    assert not mine.passes_on(client, 4), "it is not known to have three now"
    assert mine.passes_on(client, 5)
    for share, passed in zip((mine, fuller, emptier), taken, strict=True):
        share.end(passed.append)
        assert len(passed) == (2 if share is emptier else 0)
        for connection in passed:
            connection.close()


async def test_a_replica_that_does_not_serve_gets_no_connection(
    balance: Balance, client: socket.socket
) -> None:
    mine, left = (Share(balance, number) for number in range(2))  # the third has never served
    beginning(mine, 99)
    passed = beginning(left, 0)
    left.leave()
    left.count(0)
    assert not mine.passes_on(client, 100)
    mine.end(passed.append)
    left.end(passed.append)
    assert not passed


async def test_a_much_busier_replica_gets_no_connection_though_it_has_fewer(
    balance: Balance, client: socket.socket
) -> None:
    mine, busy, other = (Share(balance, number) for number in range(3))
    taken = [beginning(share, connections) for share, connections in ((mine, 30), (busy, 0), (other, 9))]
    now = asyncio.get_running_loop().time()
    for share, cores in ((mine, 0.2), (busy, 0.9), (other, 0.2)):
        share.note_cpu(0, now + 1)
        share.note_cpu(2 * cores, now + 3)
    assert mine.passes_on(client, 31)
    assert not mine.passes_on(client, 10)
    mine.note_cpu(2 * 0.2 + 0.8, now + 4)
    assert mine.passes_on(client, 10), "it is as busy now"
    for share, passed, number in zip((mine, busy, other), taken, (0, 1, 1), strict=True):
        share.end(passed.append)
        assert len(passed) == number
        for connection in passed:
            connection.close()


async def test_a_replica_with_many_connections_passes_none(balance: Balance, client: socket.socket) -> None:
    mine, other = Share(balance, 0), Share(balance, 1)
    beginning(mine, 256)
    taken = beginning(other, 0)
    assert mine.passes_on(client, 256)
    assert not mine.passes_on(client, 257)
    for share in (mine, other):
        share.end(taken.append)
    (connection,) = taken
    connection.close()


async def test_a_replica_that_stands_still_gets_few_connections_and_loses_none_of_them(
    balance: Balance, client: socket.socket
) -> None:
    mine, still = Share(balance, 0), Share(balance, 1)
    beginning(mine, 99)
    taken = beginning(still, 0)
    passed = sum(mine.passes_on(client, 100) for _ in range(100))  # the loop takes no turn
    assert 0 < passed < 32
    still.end(taken.append)
    assert len(taken) == passed
    assert mine.passes_on(client, 100), "it has room again"
    still.end(taken.append)
    assert {os.fstat(connection.fileno()).st_ino for connection in taken} == {
        os.fstat(client.fileno()).st_ino
    }
    assert len(taken) == passed + 1
    mine.end(taken.append)
    for connection in taken:
        connection.close()


async def test_what_a_process_that_ended_has_not_taken_goes_to_the_others_or_is_closed(
    balance: Balance,
) -> None:
    mine, ended, other = (Share(balance, number) for number in range(3))
    beginning(mine, 99)
    beginning(ended, 0)
    here, there = socket.socketpair()
    with there:
        with here:
            assert mine.passes_on(here, 100)
        passed = beginning(other, 9)
        ended.hand_over()
        other.end(passed.append)
        (connection,) = passed
        with connection:
            assert mine.passes_on(connection, 100)
        mine.leave()
        other.leave()
        other.hand_over()
        assert there.recv(1) == b""
    for share in (mine, ended):
        share.end(passed.append)
    assert len(passed) == 1
