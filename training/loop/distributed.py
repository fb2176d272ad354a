"""The processes that train one model together: one alone, or one per device under `torchrun`.

Each process computes the same step on its share of the batch, and gradients are averaged, so all processes
have the same weights. The batch, its order and its noise are those of a single process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

DeviceChoice = Literal["auto", "cpu", "cuda"]


class ProcessGroupError(RuntimeError):
    """The processes cannot train together; the message says why and what to do."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """True for the one process that writes the log and the checkpoints."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's equal part of the first axis, on its device."""
        part = len(rows) // self.size
        return rows[self.rank * part : (self.rank + 1) * part].to(self.device)

    def averaging(self, module: nn.Module) -> nn.Module:
        """Return the module, with its gradients averaged over all processes in every backward pass."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes of equally many values."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; all must call this."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0) if self.size > 1 else flag

    def require_equal(self, value: int, what: str) -> None:
        """Raise a ProcessGroupError with all values if `value` differs from process to process."""
        if self.size == 1:
            return
        values: list[int | None] = [None] * self.size
        distributed.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise ProcessGroupError(
                f"the processes disagree about {what}: {values}, in order of their ranks; all have to see "
                "the same run folder, so put it on storage that the machines share"
            )


ALONE = ProcessGroup()
"""One process on the CPU."""


@contextmanager
def join_group(device: DeviceChoice) -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` started, or train alone without it; leave them at the end.

    Processes communicate by nccl between CUDA devices and by gloo otherwise.

    Raises:
        ProcessGroupError: CUDA is required and missing, devices are too few, or another process has stopped.
    """
    local_rank, size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _device(device, local_rank)
    if size == 1:
        yield ProcessGroup(device=chosen)
        return
    backend = "gloo" if chosen.type == "cpu" else "nccl"
    distributed.init_process_group(backend, device_id=chosen if chosen.type == "cuda" else None)
    rank = distributed.get_rank()
    try:
        yield ProcessGroup(rank, size, chosen)
    except RuntimeError as error:
        if type(error) is not RuntimeError and not isinstance(error, distributed.DistError):
            raise
        raise ProcessGroupError(
            f"process {rank} of {size} stopped, most likely because another one did: {error}; "
            "start them again with --resume to go on from the newest checkpoint"
        ) from error
    finally:
        # A DistributedDataParallel lies in reference cycles and keeps gloo's threads; one that lets go of a
        # tensor while the interpreter ends aborts the process.
        gc.collect()
        distributed.destroy_process_group()


def _device(device: DeviceChoice, local_rank: int) -> torch.device:
    found = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if found > local_rank:
        return torch.device("cuda", local_rank)
    if device == "cuda" or found:
        raise ProcessGroupError(
            f"process {local_rank} of this machine needs CUDA device {local_rank}, but {found} are usable; "
            "start fewer processes (--nproc-per-node), or set loop.device to 'cpu'"
        )
    return torch.device("cpu")
