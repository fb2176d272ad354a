"""Sessions of ONNX Runtime, the execution providers that they run on, and IO binding."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import ProviderUnavailable
from service.format.versions import Weights, read_manifest, read_weights
from service.settings import Device, has_gpu

Provider = Literal["cpu", "cuda"]
PROVIDERS: Final[dict[Provider, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""The names in ONNX Runtime."""
_CUDA_OPTIONS: Final = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the default search costs seconds for every new shape
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",  # scores are compared with ones calibrated in full float32
}
_FOLDER_OF_WEIGHTS: Final = "session.model_external_initializers_file_folder_path"
_MOST_SHAPES: Final = 32
"""Most bindings of a session; the least recently used one is dropped, with its buffers."""
log = logging.getLogger(__name__)


def choose_provider(device: Device, folder: Path | None) -> Provider:
    """Return the provider that really runs the version in `folder` here, for the requested device.

    ONNX Runtime lists CUDA wherever it was built with it, and makes a working CPU session when CUDA cannot be
    loaded. Only a session shows which it is, so one of the version's graphs is made.

    Raises:
        ProviderUnavailable: `cuda` was requested and this machine cannot provide it.
    """
    if device == "cpu":
        return "cpu"
    failure = _cuda_failure(folder)
    if failure is None:
        return "cuda"
    if device == "cuda":
        raise ProviderUnavailable(
            f"the device asked for is cuda, but {failure}; install the extra `cuda` and a driver for it, "
            "or start with --device cpu"
        )
    log.warning("running on the CPU: %s", failure)
    return "cpu"


def _cuda_failure(folder: Path | None) -> str | None:
    """Return why CUDA cannot run the version here, or None if it can."""
    if folder is None:
        return "there is no model to try it on"
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA"
    if not has_gpu():
        return "there is no NVIDIA device on this machine"
    ort.preload_dlls(directory="")
    try:
        manifest = read_manifest(folder)
        graph = folder / next(iter(manifest.graphs.values())).file
        session = open_session(graph, read_weights(folder, manifest), "cuda")
    except Exception as error:  # a damaged version, or onnxruntime's plain C++ status classes
        return f"CUDA could not be started ({type(error).__name__})"
    if PROVIDERS["cuda"] not in session.get_providers():
        return "ONNX Runtime fell back to the CPU: CUDA or cuDNN could not be loaded"
    return None


def open_session(graph: Path, weights: Weights, provider: Provider) -> ort.InferenceSession:
    """Open a session with one thread per call; ONNX Runtime raises its own exceptions if that fails.

    ONNX Runtime gets the bytes of the graph and of its weights, which it copies, and opens no file that the
    graph names.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry(_FOLDER_OF_WEIGHTS, os.devnull)  # no file can be in it
    if weights:
        options.add_external_initializers_from_files_in_memory(
            [*weights], [*weights.values()], [*map(len, weights.values())]
        )
    # one thread per call: the calls themselves run in parallel, in the lanes
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # a memory pattern for each size of batch saves some microseconds a run, and takes 10 to 25 MB a process
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers: list[Any] = [PROVIDERS["cpu"]]
    if provider == "cuda":
        providers.insert(0, (PROVIDERS["cuda"], _CUDA_OPTIONS))
    # without enable_fallback=0 a failing run would rebuild the session on the CPU, amid requests
    return ort.InferenceSession(graph.read_bytes(), options, providers=providers, enable_fallback=0)


def operators(session: ort.InferenceSession) -> set[str]:
    """Return the operators of a session's graph, as it is optimised."""
    return {
        node.op_type for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()
    }


def operators_elsewhere(session: ort.InferenceSession, provider: Provider) -> list[str]:
    """Return the operators that do not run on the provider."""
    parts = session.get_provider_graph_assignment_info()
    elsewhere = [part for part in parts if part.ep_name != PROVIDERS[provider]]
    return sorted({node.op_type for part in elsewhere for node in part.get_nodes()})


class IoBindingSession:
    """Runs a session by IO binding; calls take turns, because they share input buffers."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session = session
        self._lock = Lock()
        self._binding = lru_cache(maxsize=_MOST_SHAPES)(partial(_bind, session, device))

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> list[NDArray[Any]]:
        """Compute the outputs, in the host's memory, of inputs by name."""
        with self._lock:
            binding, buffers = self._binding(tuple((name, array.shape) for name, array in feeds.items()))
            for buffer, array in zip(buffers, feeds.values(), strict=True):
                buffer.update_inplace(np.ascontiguousarray(array))
            self._session.run_with_iobinding(binding)
            return list(binding.copy_outputs_to_cpu())


def _bind(
    session: ort.InferenceSession, device: str, inputs: Iterable[tuple[str, tuple[int, ...]]]
) -> tuple[Any, list[Any]]:
    """Bind float32 buffers to inputs of these names and shapes, and the outputs to the device."""
    binding, buffers = session.io_binding(), []
    for name, shape in inputs:
        buffer = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
        binding.bind_ortvalue_input(name, buffer)
        buffers.append(buffer)
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name, device, 0)
    return binding, buffers
