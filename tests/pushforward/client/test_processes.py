"""A client goes to other processes and event loops, and each gets the answers to its own requests."""

import pickle
import subprocess
import sys

import pytest

from pushforward import Client
from pushforward.client import RetryPolicy
from service.errors import Unreachable
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.pushforward.client.conftest import KEY
from tests.serving import RunningService

FORKS = """
import os, sys
import numpy as np
from pushforward import Client

client = Client(sys.argv[1], sleep=lambda _: sys.exit(4))  # nothing is sent again
expected = [client.sample("toy-vae", count=3, seed=seed) for seed in range(4)]
children = []
for seed, rows in enumerate(expected):
    if not (child := os.fork()):
        same = [np.array_equal(client.sample("toy-vae", count=3, seed=seed), rows) for _ in range(50)]
        os._exit(0 if all(same) else 3)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""

LOOPS = """
import asyncio, sys
from pushforward import AsyncClient

client = AsyncClient(sys.argv[1])
for _ in range(3):
    print(bool(asyncio.run(client.models())))
"""


def said_by(script: str, service: RunningService) -> tuple[str, str]:
    """Return the outputs of another process, which calls the service."""
    command = [sys.executable, "-c", script, service.url]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout, done.stderr


def test_processes_forked_from_one_with_a_client_get_the_answers_to_their_own_requests(
    service: RunningService,
) -> None:
    """The workers of multiprocessing and of PyTorch's loaders are forked in this way."""
    assert said_by(FORKS, service) == ("[0, 0, 0, 0]\n", "")


def test_a_pickle_is_a_client_of_the_same_service_with_the_same_key(limited_service: RunningService) -> None:
    with Client(limited_service.url, key=KEY) as client, pickle.loads(pickle.dumps(client)) as other:
        client.close()
        assert other.models()


def no_pause(seconds: float) -> None:
    raise AssertionError(f"a pause of {seconds} s")


def test_a_pickle_keeps_the_deadline_and_the_policy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    given = Client(url, timeout_seconds=30, policy=RetryPolicy(first_contact_retries=0), sleep=no_pause)
    with pickle.loads(pickle.dumps(given)) as client, pytest.raises(Unreachable):
        client.models()


def test_an_asynchronous_client_works_in_one_event_loop_after_the_other(service: RunningService) -> None:
    # in a process of its own, because the sockets of an ended loop are warned of
    assert said_by(LOOPS, service) == ("True\nTrue\nTrue\n", "")
