"""Checkpoints: safetensors and JSON, written atomically, never pickled.

A checkpoint is a folder `step-00001000/` with `tensors.safetensors` (weights, averaged weights, optimiser
states) and `state.json`, which has a hash of both. They are written and synced inside a hidden folder, which
one rename then gives its name, so a crash at any moment leaves the older checkpoint intact. Batch order and
noise are functions of (seed, step) and are not stored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from service.format.versions import flush_to_disk

_TENSORS, _STATE = "tensors.safetensors", "state.json"
_PARTIAL = ".partial-"
_FORMAT = 2
_HASH = "sha256"
AVERAGE, BEST = "average", "best"
"""The parts of a checkpoint with averaged weights: the newest, and those with the best validation bound."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, unreadable, or belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to continue as if it had not stopped."""

    step: int
    """The number of optimiser steps done."""
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """JSON: the recipe, library versions, and other entries of the writer."""

    @property
    def published_step(self) -> int:
        """Return the step of the weights that are evaluated and published."""
        best = self.state.get(BEST)
        return self.step if best is None else int(best["step"])

    def published(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated and published: the best ones, or else the newest."""
        return self.part(BEST) or self.part(AVERAGE)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights that are evaluated and published."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.published().items()):
            digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix.`, without that prefix."""
        return {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` atomically, then remove the older ones; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{checkpoint.step:08d}"
    # a copy, because safetensors wants contiguous tensors and those in channels-last order are not
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    state = {"format": _FORMAT, "step": checkpoint.step, **checkpoint.state}
    content = save(tensors)
    state[_HASH] = _hash_of(content, state)
    files = {_TENSORS: content, _STATE: json.dumps(state, indent=2).encode()}
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder, ignore_cleanup_errors=True) as partial:
        for name, content in files.items():
            file = Path(partial, name)
            file.write_bytes(content)
            flush_to_disk(file)
        flush_to_disk(Path(partial))
        if target.exists():
            shutil.rmtree(target)
        Path(partial).rename(target)
        flush_to_disk(folder)
    killed = folder.glob(f"{_PARTIAL}*")  # what killed processes have left
    for older in (*_checkpoints(folder), *killed):
        if older != target:
            shutil.rmtree(older)
    return target


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint in `folder`; raise a CheckpointError if there is none or it is damaged."""
    found = _checkpoints(folder)
    if not found:
        raise CheckpointError(
            f"no checkpoint in {folder}; train first, or name the folder of another run by --runs"
        )
    newest = found[-1]
    try:
        state = dict(json.loads((newest / _STATE).read_text(encoding="utf-8")))
        content = (newest / _TENSORS).read_bytes()
        tensors = load(content)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{newest} cannot be read: {error}; remove it to start anew") from error
    if state.get("format") != _FORMAT:
        raise CheckpointError(
            f"{newest} has format {state.get('format')}, this program reads {_FORMAT}; train anew"
        )
    if state.pop(_HASH, None) not in (None, _hash_of(content, state)):  # older ones have none
        raise CheckpointError(
            f"{newest} is not as it was written: its files were edited or damaged; remove it to start anew"
        )
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def _hash_of(tensors: bytes, state: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(tensors)
    digest.update(json.dumps(state).encode())
    return digest.hexdigest()


def has_checkpoint(folder: Path) -> bool:
    """Return whether `folder` holds a checkpoint."""
    return bool(_checkpoints(folder))


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat tensors named `parameter index.entry`."""
    return {
        f"{index}.{entry}": value
        for index, entries in optimiser.state_dict()["state"].items()
        for entry, value in entries.items()
    }


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state from `optimiser_tensors`, in the memory layout of the parameters."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, entry = name.split(".", 1)
        like = parameters[int(index)]
        placed = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor.clone()
        states.setdefault(int(index), {})[entry] = placed
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))
