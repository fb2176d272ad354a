"""Where graphs run: the execution providers of ONNX Runtime, and sessions on them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, Literal

import onnxruntime as ort

from service.errors import ProviderUnavailable
from service.settings import has_gpu

Provider = Literal["cpu", "cuda"]

PROVIDERS: Final[dict[Provider, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""What ONNX Runtime calls each."""
_CUDA_OPTIONS: Final = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the default search costs seconds for every new shape
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",  # scores are compared with ones calibrated in full float32
}

log = logging.getLogger(__name__)


def choose_provider(device: Literal["auto", "cpu", "cuda"], graph: Path | None) -> Provider:
    """The provider that really runs `graph` here, for the device asked for.

    ONNX Runtime lists CUDA wherever it was built with it, and makes a working CPU session when CUDA
    cannot be loaded. Only a session that was made can tell, so one is made.

    Raises:
        ProviderUnavailable: `cuda` was asked for and this machine cannot provide it.
    """
    if device == "cpu":
        return "cpu"
    failure = _cuda_failure(graph)
    if failure is None:
        return "cuda"
    if device == "cuda":
        raise ProviderUnavailable(
            f"the device asked for is cuda, but {failure}; install the extra `cuda` and a driver for it, "
            "or start with --device cpu"
        )
    log.warning("running on the CPU: %s", failure)
    return "cpu"


def _cuda_failure(graph: Path | None) -> str | None:
    """Why CUDA cannot run the graph here, or None if it can."""
    if graph is None:
        return "there is no model to try it on"
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA"
    if not has_gpu():
        return "there is no NVIDIA device on this machine"
    ort.preload_dlls(directory="")
    try:
        session = open_session(graph, "cuda")
    except Exception as error:  # onnxruntime raises plain C++ status classes
        return f"CUDA could not be started ({type(error).__name__})"
    if PROVIDERS["cuda"] not in session.get_providers():
        return "ONNX Runtime fell back to the CPU: CUDA or cuDNN could not be loaded"
    return None


def open_session(graph: Path, provider: Provider) -> ort.InferenceSession:
    """A session of one thread a call; ONNX Runtime raises plain classes of its own if it cannot be made."""
    options = ort.SessionOptions()
    # one thread a call: the calls themselves run side by side, in the lanes
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # batch sizes vary, so a pattern learnt from one does not fit the next
    options.enable_mem_pattern = False
    if provider == "cuda":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers: list[Any] = [(PROVIDERS["cuda"], _CUDA_OPTIONS), PROVIDERS["cpu"]]
    else:
        providers = [PROVIDERS["cpu"]]
    # without enable_fallback=0 a failing run would rebuild the session on the CPU in mid-traffic
    return ort.InferenceSession(str(graph), options, providers=providers, enable_fallback=0)


def operators_elsewhere(session: ort.InferenceSession, provider: Provider) -> list[str]:
    """The kinds of operators that run on another provider than that; of a session that records where."""
    return sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
            if part.ep_name != PROVIDERS[provider]
        }
    )
