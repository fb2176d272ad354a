"""Files of ONNX, torch.export and TorchScript, as those who trained a model write them.

Modules take rows of one shape, or the tensors `given`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

Given = tuple[torch.Tensor, ...]


def onnx_file(path: Path, module: nn.Module, *row: int, given: Given = ()) -> Path:
    """Writes a module as ONNX, with a free batch axis."""
    inputs = given or (torch.rand(3, *row),)
    axes = tuple({0: torch.export.Dim("rows", min=1)} for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(module, inputs, path, dynamo=True, dynamic_shapes=axes, verbose=False)
    return path


def program(path: Path, module: nn.Module, *row: int, rows: Any = None, given: Given = ()) -> Path:
    """Writes a module by torch.export, with a free batch axis."""
    inputs = given or (torch.rand(rows or 3, *row),)
    axes = tuple({0: torch.export.Dim("rows", min=1)} if rows is None else {} for _ in inputs)
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=axes), path)
    return path


def script(path: Path, module: nn.Module, *row: int, traced: bool = False, given: Given = ()) -> Path:
    """Writes a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        of_torch: Any = torch.jit  # which has no types
        inputs = given or (torch.rand(3, *row),)
        made = of_torch.trace(module, inputs) if traced else of_torch.script(module)
        made.save(path)
    return path
