"""A model of the protocol: its tensors and parameters, its statistics, and what a request and answer hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from service.api.open_inference.signatures import Signature
from service.api.open_inference.tensors import Array, TensorMetadata
from service.api.operations.call import Result
from service.api.problems import unfit
from service.errors import Unfit
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings


@dataclass(slots=True)
class Duration:
    """The number of times that something happened, and its total duration."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more, of that duration."""
        self.count += 1
        self.ns += int(seconds * 1e9)


@dataclass(slots=True)
class Statistics:
    """Statistics of one model, over REST and gRPC, since its first request; of this process alone."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: float = 0.0
    last_at_milliseconds: int = 0

    def succeeded(
        self, rows: int, whole_seconds: float, read_seconds: float, timing: Timing, write_seconds: float
    ) -> None:
        """Count one answered request."""
        self.success.add(whole_seconds)
        self.compute_input.add(read_seconds)
        self.queue.add(timing.queue_seconds)
        self.compute_infer.add(timing.compute_seconds)
        self.compute_output.add(write_seconds)
        self.rows += rows
        self.batches += timing.batches
        self.last_at_milliseconds = time.time_ns() // 1_000_000

    @property
    def document(self) -> dict[str, Any]:
        """The form of Triton's statistics extension, without the model's name and version."""
        durations = {
            name: asdict(getattr(self, name))
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        }
        never = asdict(Duration())
        return {
            "last_inference": self.last_at_milliseconds,
            "inference_count": self.rows,
            "execution_count": round(self.batches),
            "inference_stats": durations | {"cache_hit": never, "cache_miss": never},
            "batch_stats": [],
        }


CONTENT_TYPE: Final = "content_type"
"""A parameter by which MLServer's clients name their codecs: of a request, an input or an output."""
_IGNORED: Final = frozenset({"priority", "timeout", "binary_data_output", CONTENT_TYPE})
"""Parameters of the protocol itself: REST and gRPC read them, except that all requests have one priority."""
_SEQUENCES: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request, read from REST or gRPC; each of its arrays fits the input of its name."""

    arrays: Mapping[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    """Names of the requested outputs, in order; empty for all."""
    id: str = ""
    """The client's own id, which the answer repeats."""

    @property
    def timeout_seconds(self) -> float | None:
        """Longest duration, from the parameter `timeout` in microseconds; None if there is none.

        Raises:
            Unfit: the parameter is not a whole number of microseconds.
        """
        microseconds = self.parameters.get("timeout", 0)
        if type(microseconds) is not int or not 0 <= microseconds < 2**63:
            raise Unfit("the parameter `timeout` takes a whole number of microseconds, or 0 for none")
        return microseconds / 1e6 if microseconds else None


class InferenceAnswer(NamedTuple):
    """The requested tensors, and the answer's parameters."""

    tensors: tuple[tuple[TensorMetadata, Array], ...]
    parameters: Mapping[str, Any]


class InferenceModel:
    """Per-model data shared by all requests. It holds no reference to the loaded version."""

    def __init__(
        self, loaded: LoadedModel, operation: str, signature: Signature, metrics: Metrics, settings: Settings
    ) -> None:
        manifest = loaded.manifest
        self.operation = operation
        self.compute = signature.compute
        self.name = f"{manifest.name}.{operation}"
        self.version = str(manifest.version)
        self.inputs = signature.inputs(manifest)
        self.outputs = signature.outputs(manifest)
        self.statistics = Statistics()
        self.meter = metrics.meter(manifest.name, operation)
        self.input_values = sum(tensor.row_values for tensor in self.inputs)
        self.input_bytes = sum(tensor.row_bytes for tensor in self.inputs)
        answered = self.outputs[0]
        self.max_rows = min(settings.max_npy_inputs, settings.max_answered_rows(answered.row_bytes))
        """Most rows of a request; their first outputs must fit into an answer."""
        grows = answered.row_bytes > self.input_bytes
        self.max_message_rows = max(1, self.max_rows // 2) if grows else self.max_rows
        """Most rows of a message of gRPC, which has an answer in memory twice."""
        self.opening = orjson.dumps({"model_name": self.name, "model_version": self.version})[:-1]
        """The beginning of the JSON document of an answer."""
        self.layouts: dict[bytes, Any] = {}
        """The layouts of documents that clients repeat, as REST has read them; they belong to the wire."""
        self._parameters = signature.parameters
        self._outputs = {tensor.name: tensor for tensor in self.outputs}

    def input(self, name: str) -> TensorMetadata:
        """Return the input of that name.

        Raises:
            Unfit: there is none; the message names those there are.
        """
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        raise Unfit(f"{self.name} has no such input; it takes {_names(self.inputs)}")

    def check_inputs(self, arrays: Mapping[str, Array]) -> None:
        """Raise Unfit unless every input came, all with the same number of rows."""
        missing = [tensor.name for tensor in self.inputs if tensor.name not in arrays]
        if missing:
            raise Unfit(f"{self.name} takes {_names(self.inputs)}; {', '.join(missing)} did not come")
        if len({len(array) for array in arrays.values()}) > 1:
            raise Unfit(f"{self.name} takes as many rows of {' as of '.join(arrays)}")

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raise Unfit if an output is unknown, or requested twice."""
        if not self._outputs.keys() >= set(names) or len(set(names)) < len(names):
            raise Unfit(f"{self.name} gives {_names(self.outputs)}, each once")

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """Return the operation's options from the parameters of a request.

        Raises:
            Unfit: a parameter is unknown, or its value does not fit.
        """
        if any(given.get(name) for name in _SEQUENCES):
            raise Unfit("there are no sequences here: every request stands for itself")
        own = {name: value for name, value in given.items() if name not in _IGNORED | _SEQUENCES}
        try:
            return self._parameters.model_validate(own)
        except ValidationError as error:
            raise unfit(error, "`parameters`", self._parameters) from error

    def answer(self, result: Result, wanted: Sequence[str]) -> InferenceAnswer:
        """Return the requested outputs of a result.

        Raises:
            Unfit: this request gives no output of a requested name.
        """
        arrays = {name: array for name, array in result.arrays.items() if array is not None}
        lacking = [name for name in wanted if name not in arrays]
        if lacking:
            raise Unfit(
                f"{self.name} makes no {', '.join(lacking)} for this request: p_value and anomaly come only "
                "by a statistic, draws and a seed that were calibrated, standard_error only of several "
                "draws, a map only with the parameter `map`, columns only with `columns`, and of the other "
                "scores those that the statistic has"
            )
        names = wanted or [name for name in self._outputs if name in arrays]
        parameters = {name: value for name, value in result.fields.items() if value is not None}
        return InferenceAnswer(tuple((self._outputs[name], arrays[name]) for name in names), parameters)


def _names(tensors: Sequence[TensorMetadata]) -> str:
    return ", ".join(tensor.name for tensor in tensors)
