"""Files of torch.export and of TorchScript, as those who trained a model write them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


def program(path: Path, module: nn.Module, *row: int, rows: Any = None) -> Path:
    """Writes a module by torch.export, with a free batch axis."""
    axis = {0: torch.export.Dim("rows", min=1)} if rows is None else {}
    exported = torch.export.export(module, (torch.rand(rows or 3, *row),), dynamic_shapes=(axis,))
    torch.export.save(exported, path)
    return path


def script(path: Path, module: nn.Module, *row: int, traced: bool = False) -> Path:
    """Writes a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        of_torch: Any = torch.jit  # which has no types
        made = of_torch.trace(module, torch.rand(3, *row)) if traced else of_torch.script(module)
        made.save(path)
    return path
