"""One model of the protocol: its tensors and parameters, and what a request to it and its answer hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from service.api.open_inference.operations import InferenceOperation, Outcome
from service.api.open_inference.tensors import Array, TensorMetadata
from service.api.problems import unfit
from service.errors import Unfit
from service.observe.metrics import Metrics
from service.observe.timing import Timing
from service.runtime.model import LoadedModel


@dataclass(slots=True)
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """It was done once more, and took that long."""
        self.count += 1
        self.ns += int(seconds * 1e9)

    @property
    def document(self) -> dict[str, int]:
        """As JSON has it."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Statistics:
    """Of one model, over REST and gRPC, since it was first asked for; of this process alone."""

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
        """One request of so many rows was answered."""
        self.success.add(whole_seconds)
        self.compute_input.add(read_seconds)
        self.queue.add(timing.queue_seconds)
        self.compute_infer.add(timing.compute_seconds)
        self.compute_output.add(write_seconds)
        self.rows += rows
        self.batches += timing.batches
        self.last_at_milliseconds = time.time_ns() // 1_000_000

    def failed(self, seconds: float) -> None:
        """One request got an error."""
        self.fail.add(seconds)

    @property
    def document(self) -> dict[str, Any]:
        """As the extension has it, but for the model's name and version."""
        durations = {
            name: getattr(self, name).document
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        }
        never = Duration().document
        return {
            "last_inference": self.last_at_milliseconds,
            "inference_count": self.rows,
            "execution_count": round(self.batches),
            "inference_stats": durations | {"cache_hit": never, "cache_miss": never},
            "batch_stats": [],
        }


_IGNORED: Final = frozenset({"priority", "timeout", "binary_data_output"})
"""Parameters that belong to the protocol: every request has the same priority, and its time is the wire's."""
_SEQUENCES: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request as any wire has read it; each of its arrays fits the input of its name."""

    arrays: Mapping[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    """Those that are wanted, in that order; none means all."""
    id: str = ""
    """The client's own name for it, which its answer bears."""

    @property
    def timeout_seconds(self) -> float | None:
        """The longest it may take, by its parameter `timeout` in microseconds; None if it does not say.

        Raises:
            Unfit: the parameter is no integer of microseconds.
        """
        microseconds = self.parameters.get("timeout", 0)
        if type(microseconds) is not int or not 0 <= microseconds < 2**63:
            raise Unfit("the parameter `timeout` takes a whole number of microseconds, or 0 for none")
        return microseconds / 1e6 if microseconds else None


class InferenceAnswer(NamedTuple):
    """The tensors that were asked for, and what is told beside them."""

    tensors: tuple[tuple[TensorMetadata, Array], ...]
    parameters: Mapping[str, Any]


class Model:
    """What is the same for all requests to a model of the protocol, which does not hold its version."""

    def __init__(self, loaded: LoadedModel, operation: InferenceOperation, metrics: Metrics) -> None:
        manifest = loaded.manifest
        self.operation = operation
        self.name = f"{manifest.name}.{operation.name}"
        self.version = str(manifest.version)
        self.inputs = operation.inputs(manifest)
        self.outputs = operation.outputs(manifest)
        self.statistics = Statistics()
        self.meter = metrics.meter(manifest.name, operation.name)
        self.input_values = sum(tensor.row_values for tensor in self.inputs)
        self.input_bytes = sum(tensor.row_bytes for tensor in self.inputs)
        self._defaults = operation.parameters()
        self._outputs = {tensor.name: tensor for tensor in self.outputs}

    def input(self, name: str) -> TensorMetadata:
        """The input of that name.

        Raises:
            Unfit: there is none; says which there are.
        """
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        raise Unfit(f"{self.name} has no such input; it takes {_names(self.inputs)}")

    def check_inputs(self, arrays: Mapping[str, Array]) -> None:
        """Raises Unfit unless every input came, all with the same number of rows."""
        missing = [tensor.name for tensor in self.inputs if tensor.name not in arrays]
        if missing:
            raise Unfit(f"{self.name} takes {_names(self.inputs)}; {', '.join(missing)} did not come")
        if len({len(array) for array in arrays.values()}) > 1:
            raise Unfit(f"{self.name} takes as many rows of {' as of '.join(arrays)}")

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises Unfit if an output is unknown, or asked for twice."""
        if not self._outputs.keys() >= set(names) or len(set(names)) < len(names):
            raise Unfit(f"{self.name} gives {_names(self.outputs)}, each once")

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """The operation's own parameters.

        Raises:
            Unfit: unknown ones, or values that do not fit.
        """
        if not given:
            return self._defaults
        if any(given.get(name) for name in _SEQUENCES):
            raise Unfit("there are no sequences here: every request stands for itself")
        own = {name: value for name, value in given.items() if name not in _IGNORED | _SEQUENCES}
        if not own:
            return self._defaults
        try:
            return self.operation.parameters.model_validate(own)
        except ValidationError as error:
            raise unfit(error, "`parameters`", self.operation.parameters) from error

    def answer(self, outcome: Outcome, wanted: Sequence[str]) -> InferenceAnswer:
        """The outputs that are wanted of those that were made.

        Raises:
            Unfit: this request makes no output of a name that is wanted.
        """
        lacking = [name for name in wanted if name not in outcome.arrays]
        if lacking:
            raise Unfit(
                f"{self.name} makes no {', '.join(lacking)} for this request: p_value and anomaly come only "
                "by a statistic, draws and a seed that were calibrated, standard_error only of several "
                "draws, a map only with the parameter `map`, and of the other scores those that the "
                "statistic has"
            )
        names = wanted or [name for name in self._outputs if name in outcome.arrays]
        told = {name: value for name, value in outcome.told.items() if value is not None}
        return InferenceAnswer(tuple((self._outputs[name], outcome.arrays[name]) for name in names), told)


def _names(tensors: Sequence[TensorMetadata]) -> str:
    return ", ".join(tensor.name for tensor in tensors)
