"""ONNX graphs: their export from torch.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
Noise is always an input, so that a seed gives the same result wherever a graph runs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from service.format.specs import GraphName, TensorSpec
from training.export.rules import OPSET, check_graph, plain
from training.export.sessions import sizes_of
from training.models.conditions import in_turn
from training.models.gan import Gan
from training.models.vae import Vae

ROWS = torch.export.Dim("rows", min=1)
EXAMPLE_ROWS = 3
"""The exporter takes a size of 1 for a constant."""
_DRAWS = torch.export.Dim("draws", min=1)


class GraphModule(nn.Module):
    """A function of a model, as a module that the exporter can trace."""

    def __init__(self, model: Vae | Gan, function: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Apply the function."""
        return self._function(*tensors)


@dataclass(frozen=True)
class Graph:
    """One operation of a model as a function of tensors."""

    name: GraphName
    module: GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    judge: Callable[..., Tensor] | None = None
    """Maps the first output, and the labels if there are some, to the second; None if that has another
    origin."""


def example_inputs(graph: Graph, rows: int, draws: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw random inputs of the graph's shapes: items and uniforms in (0, 1), all others standard normal.

    Labels are one-hot, all classes in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in graph.inputs:
        sizes = sizes_of(spec, rows, draws)
        if spec.name in ("inputs", "uniforms"):
            tensors.append(torch.rand(sizes, generator=generator).clamp(1e-6, 1 - 1e-6))
        elif spec.name == "labels":
            tensors.append(in_turn(sizes[1], rows))
        else:
            tensors.append(torch.randn(sizes, generator=generator))
    return tuple(tensors)


def export_graph(graph: Graph, path: Path) -> None:
    """Export a graph to `path` as ONNX and check it.

    Raises:
        GraphError: The exported graph breaks a rule.
    """
    axes = {"rows": ROWS, "draws": _DRAWS}
    shapes = tuple(
        {index: axes[axis] for index, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in graph.inputs
    )
    # another number of draws, since the exporter takes equal sizes for one axis
    model = export_module(
        graph.module.eval(),
        example_inputs(graph, EXAMPLE_ROWS, 5),
        shapes,
        [spec.name for spec in graph.inputs],
        [spec.name for spec in graph.outputs],
    )
    check_graph(graph.name, model)
    path.write_bytes(model.SerializeToString())


def export_module(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    free_axes: tuple[dict[int, torch.export.Dim], ...],
    inputs: Sequence[str],
    outputs: Sequence[str] | None,
) -> onnx.ModelProto:
    """Export a module as ONNX, with those names of its tensors; `free_axes` are those of each input.

    The exporter fixes an axis whose size becomes a number of Python, as in `len(x)`. Then the module's code
    is read by TorchDynamo, which keeps it free.

    Raises:
        FixedRows: An axis is fixed even so.
    """
    options: dict[str, Any] = {
        "dynamo": True,
        "input_names": list(inputs),
        "output_names": None if outputs is None else list(outputs),
        "opset_version": OPSET,
        "external_data": False,
        "verbose": False,
    }
    with _quiet():
        program = torch.onnx.export(module, examples, dynamic_shapes=(free_axes,), **options)
        assert program is not None
        if _fixes(program.model_proto, free_axes):
            read = torch.export.export(module, examples, dynamic_shapes=(free_axes,), strict=True)
            program = torch.onnx.export(read, **options)
            assert program is not None
    if _fixes(program.model_proto, free_axes):
        raise FixedRows("the exported graph has a fixed axis")
    return plain(program.model_proto)


class FixedRows(RuntimeError):
    """An exported graph works for one size of an axis that has to be free."""


def _fixes(model: onnx.ModelProto, free_axes: tuple[dict[int, torch.export.Dim], ...]) -> bool:
    """Return True if an axis of an input that has to be free is not."""
    return any(
        given.type.tensor_type.shape.dim[axis].HasField("dim_value")
        for given, axes in zip(model.graph.input, free_axes, strict=False)
        for axis in axes
    )


def export_script(module: nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Export a network of TorchScript, or one that calls such, by torch's older exporter.

    Its input has rows of that shape.
    """
    file = io.BytesIO()
    example = torch.rand(EXAMPLE_ROWS, *shape)
    with _quiet():
        script: Any = module
        if not isinstance(module, torch.jit.ScriptModule):
            script = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.onnx.export(
            script,
            (example,),
            file,  # type: ignore[arg-type]  # which the older exporter takes
            dynamo=False,
            input_names=["rows_in"],
            dynamic_axes={"rows_in": {0: "rows"}},
            opset_version=OPSET,
        )
    return plain(onnx.load_from_string(file.getvalue()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's own lines, whose errors are raised too, and its libraries' warnings."""
    loggers = [
        logging.getLogger(name)
        for name in [*logging.root.manager.loggerDict]
        if name.startswith(("torch", "onnx"))
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
