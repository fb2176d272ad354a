"""A session whose tensors lie in a device's memory: buffers are made and bound once for each shape.

ONNX Runtime's plain `run` allocates on the device, and copies there, anew at every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_MOST_SHAPES: Final = 32
"""Bindings that are kept; the buffers of that which was not used for longest are given up."""


class BoundSession:
    """Runs a session by IO binding; calls take turns, since one would overwrite another's inputs."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session = session
        self._device = device
        self._lock = Lock()
        self._outputs = [tensor.name for tensor in session.get_outputs()]
        self._bindings: OrderedDict[tuple[tuple[int, ...], ...], tuple[Any, list[Any]]] = OrderedDict()

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> list[NDArray[Any]]:
        """The outputs, in the host's memory, of inputs by name."""
        key = tuple(array.shape for array in feeds.values())
        with self._lock:
            if key not in self._bindings:
                self._bindings[key] = self._bound(feeds)
                if len(self._bindings) > _MOST_SHAPES:
                    self._bindings.popitem(last=False)
            self._bindings.move_to_end(key)
            binding, buffers = self._bindings[key]
            for buffer, array in zip(buffers, feeds.values(), strict=True):
                buffer.update_inplace(np.ascontiguousarray(array))
            self._session.run_with_iobinding(binding)
            outputs: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
            return outputs

    def _bound(self, feeds: Mapping[str, NDArray[np.float32]]) -> tuple[Any, list[Any]]:
        binding, buffers = self._session.io_binding(), []
        for name, array in feeds.items():
            buffer = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, self._device, 0)
            binding.bind_ortvalue_input(name, buffer)
            buffers.append(buffer)
        for name in self._outputs:
            binding.bind_output(name, self._device, 0)
        return binding, buffers
