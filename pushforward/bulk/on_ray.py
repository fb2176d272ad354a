"""Parts made by actors of Ray Data, on this machine or a cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Sequence
from typing import Any, Final

from pushforward.bulk.failures import BulkError, BulkMistake
from pushforward.bulk.maker import Job, PartMaker
from pushforward.bulk.pool import Outcome
from service.settings import granted_cores

LOCAL: Final = "local"
_ANSWER_SECONDS: Final = 10.0
"""Longest wait for a cluster to take a connection, in seconds."""
_MOST_TOGETHER: Final = 8
"""Most parts of a task, which Ray schedules as a whole: it takes milliseconds of the driver for each."""
_FEWEST_TASKS: Final = 8
"""Fewest tasks of an actor, if there are as many parts, so that actors end their work about together."""


class PartActor:
    """One engine that makes the parts whose numbers it gets."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._maker: PartMaker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make the parts of a batch; their outcomes are in `outcome`."""
        return {"outcome": [self._made(int(part)) for part in batch["part"]]}

    def _made(self, part: int) -> Outcome:
        try:
            if self._maker is None:  # here, so that its errors come back as outcomes too
                self._maker = PartMaker(self._job)
            return self._maker.make(part)
        except BulkError as error:
            return error


def made_by_ray(job: Job, parts: Sequence[int], address: str, actors: int) -> Generator[Outcome, None, None]:
    """Make parts in actors of Ray, and yield outcomes as they come.

    Actors that die are started again, and the parts that they had are made again. On a cluster, every node
    needs this package, the version, the input and the output folder under the same names.

    Args:
        job: The work.
        parts: The parts to make.
        address: Address of a cluster; `local` starts Ray on this machine.
        actors: The count of actors; 0 means all cores but one, which Ray needs to read and to write.

    Raises:
        BulkMistake: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise BulkMistake("--ray needs Ray: pip install 'pushforward[ray]'") from error
    started = _connect(ray, address, actors)
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        cores = int(ray.cluster_resources().get("CPU", 2))
        size = min(actors or max(1, cores - 1), len(parts))
        together = min(_MOST_TOGETHER, max(1, len(parts) // (size * _FEWEST_TASKS)))
        tasks = -(-len(parts) // together)
        numbers = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=tasks)
        made = numbers.map_batches(
            PartActor,
            fn_constructor_args=(job,),
            batch_size=together,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=1 if job.provider == "cuda" else None,
        )
        for row in made.iter_rows():
            yield row["outcome"]
    except ray.exceptions.RayError as error:
        raise BulkError(f"Ray: {error}") from error
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str, actors: int) -> bool:
    """Connect to a cluster, or start Ray here. Return True if this process has connected or started it."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        # actors that hold all cores would leave none to the tasks that read, and nothing would ever begin
        options |= {"num_cpus": (actors or granted_cores()) + 1, "include_dashboard": False}
    else:
        options |= {"address": address}
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit() and "//" not in host:  # which Ray itself would try for minutes
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        raise BulkMistake(f"--ray {address}: {error}; start a cluster by `ray start --head`") from error
    except Exception as error:  # Ray raises a plain one if a node does not start in time
        raise BulkError(f"--ray {address}: {error} The same command may succeed next time") from error
    return True
