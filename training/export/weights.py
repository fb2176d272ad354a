"""The file of a version that holds the large initializers of its graphs, each of them once.

A graph names a place in it by offset and length, as ONNX defines for external data, so other programs for
ONNX read such a version too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import onnx
from onnx.external_data_helper import set_external_data, uses_external_data

from service.format.versions import Weights
from training.export.rules import GraphError

FILE: Final = "weights.bin"
_LEAST_BYTES: Final = 1024
"""Smaller initializers stay in their graphs, whose structure they belong to: shapes, axes, a few numbers."""
_ALIGNMENT: Final = 64
"""The alignment of a tensor in the file, in bytes: a cache line, and the widest vector."""


def store_once(graphs: Iterable[Path], file: Path) -> bool:
    """Move the large float32 initializers of graphs to a file, equal ones to one place.

    Returns:
        False if no graph has any; then nothing is written.
    """
    places: dict[bytes, int] = {}
    end = 0
    for path in graphs:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.data_type != onnx.TensorProto.FLOAT or uses_external_data(tensor):
                continue
            content = onnx.numpy_helper.to_array(tensor).tobytes()
            if len(content) < _LEAST_BYTES:
                continue
            if content not in places:
                places[content] = end + -end % _ALIGNMENT
                end = places[content] + len(content)
            tensor.ClearField("float_data")
            tensor.raw_data = b""  # which `set_external_data` wants to see
            set_external_data(tensor, file.name, places[content], len(content))
            tensor.ClearField("raw_data")
        path.write_bytes(model.SerializeToString())
    if not places:
        return False
    with file.open("wb") as stream:
        for content, start in places.items():
            stream.seek(start)
            stream.write(content)
    return True


def whole(name: str, graph: Path, weights: Weights) -> onnx.ModelProto:
    """Read a graph with the initializers that it keeps in the version's file of weights.

    Raises:
        GraphError: It keeps some elsewhere, or outside of the file's bounds.
    """
    model = onnx.load(graph, load_external_data=False)
    for tensor in filter(uses_external_data, model.graph.initializer):
        place = {entry.key: entry.value for entry in tensor.external_data}
        file, start, length = (place.get(key, "") for key in ("location", "offset", "length"))
        if file not in weights:
            raise GraphError(
                f"graph {name} keeps {tensor.name} in {file!r}, which is not the manifest's file of weights"
            )
        content = b""
        if start.isdecimal() and length.isdecimal():
            content = weights[file][int(start) : int(start) + int(length)]
        if not content or str(len(content)) != length:
            raise GraphError(f"graph {name} keeps {tensor.name} outside of the bounds of {file}")
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return model
