"""A second input of a network of torch is the class, and an option is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.export.own.torch_source import TorchSource


def a_class(rows: Tensor, label: Tensor) -> Tensor:
    return rows * label


def a_class_or_none(rows: Tensor, label: Tensor | None = None) -> Tensor:
    return rows if label is None else rows * label


def a_temperature(rows: Tensor, temperature: float = 1.0) -> Tensor:
    return rows * temperature


def a_flag(rows: Tensor, full: bool = False) -> Tensor:
    return 2 * rows if full else rows


class ClassOrNone(nn.Module):
    def forward(self, rows: Tensor, label: Tensor | None = None) -> Tensor:
        return rows if label is None else rows * label


class Temperature(nn.Module):
    def forward(self, rows: Tensor, temperature: float = 1.0) -> Tensor:
        return rows * temperature


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_option_with_a_default_is_not_taken_for_the_class() -> None:
    script: Any = torch.jit.script
    of_class = (a_class, a_class_or_none, lambda *given: a_class(*given), script(ClassOrNone()))
    others = (a_temperature, a_flag, nn.Linear(2, 2), script(Temperature()))
    taken = [TorchSource("the encoder", each).takes_class for each in (*of_class, *others)]
    assert taken == [True] * len(of_class) + [False] * len(others)
