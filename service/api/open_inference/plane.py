"""The data plane: which models there are, what they are, and one way to infer; it knows no wire.

REST and gRPC translate to and from it. A model of the protocol is named MODEL.OPERATION.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from service.api.open_inference.model import InferenceAnswer, InferenceRequest, Model
from service.api.open_inference.operations import OPERATIONS, Task
from service.api.open_inference.tensors import TensorMetadata
from service.api.probes import Lifecycle
from service.errors import OperationNotOffered, UnknownModel
from service.lifecycle.registry import Entry, Registry
from service.observe.metrics import Metrics, release
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.settings import Settings

SERVER: Final = "pushforward"
PLATFORM: Final = "onnxruntime_onnx"
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
_STATES: Final = {"ready": "READY", "loading": "LOADING"}

Request = TypeVar("Request", bound=InferenceRequest)
Written = TypeVar("Written")


class Found(NamedTuple):
    """A version, and the model of the protocol that one of its operations is."""

    loaded: LoadedModel
    model: Model


class DataPlane:
    """Answers what the protocol asks, of every model there is."""

    def __init__(
        self, registry: Registry, metrics: Metrics, lifecycle: Lifecycle, settings: Settings
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._models: WeakKeyDictionary[LoadedModel, dict[str, Model]] = WeakKeyDictionary()

    @property
    def live(self) -> bool:
        """Whether the process should go on."""
        return self._registry.healthy

    @property
    def ready(self) -> bool:
        """Whether requests can be taken."""
        return self._registry.ready and not self._lifecycle.draining

    def server(self) -> dict[str, Any]:
        """The server's metadata."""
        return {"name": SERVER, "version": release(), "extensions": list(EXTENSIONS)}

    def find(self, name: str, version: str | None = None) -> Found:
        """The model of that name.

        Raises:
            UnknownModel, UnknownVersion, OperationNotOffered: there is none; says which there are.
            Loading, LoadFailed: it is there, but cannot answer.
        """
        model, dot, operation = name.rpartition(".")
        if not dot:
            raise UnknownModel("models have names MODEL.OPERATION here; POST /v2/repository/index lists them")
        loaded = self._registry.get(model, version or None)
        found = self._models_of(loaded).get(operation)
        if found is None:
            offered = tuple(self._models_of(loaded))
            raise OperationNotOffered(
                f"{loaded.manifest.name} has no such operation here; it has {', '.join(offered)}",
                offered=offered,
            )
        return Found(loaded, found)

    def metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """A model's metadata; raises as `find` does."""
        loaded, model = self.find(name, version)
        versions = [
            str(entry.version)
            for entry in self._registry.entries()
            if entry.name == loaded.manifest.name and _offers(entry, model.operation.name)
        ]
        return {
            "name": model.name,
            "versions": versions[::-1],
            "platform": PLATFORM,
            "inputs": [_metadata(tensor) for tensor in model.inputs],
            "outputs": [_metadata(tensor) for tensor in model.outputs],
        }

    def config(self, name: str, version: str | None = None) -> dict[str, Any]:
        """A model's configuration, as Triton has it; raises as `find` does."""
        _, model = self.find(name, version)
        return {
            "name": model.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": self.settings.max_npy_inputs,
            "input": [_configuration(tensor) for tensor in model.inputs],
            "output": [_configuration(tensor) for tensor in model.outputs],
            "dynamic_batching": {},
            "model_transaction_policy": {"decoupled": False},
        }

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """The statistics of a model, or of all that are served; raises as `find` does."""
        models = self._all() if name is None else [self.find(name, version).model]
        return {
            "model_stats": [
                {"name": model.name, "version": model.version, **model.statistics.document}
                for model in models
            ]
        }

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Every model there is; what is not served, or not yet, by its bare name, with the reason."""
        listed = []
        for entry in self._registry.entries():
            names = [entry.name]
            if entry.state == "ready" and entry.loaded is not None:
                names = [model.name for model in self._models_of(entry.loaded).values()]
            elif ready:
                continue
            state = _STATES.get(entry.state, "UNAVAILABLE")
            told = {"version": str(entry.version), "state": state, "reason": entry.reason}
            listed += [{"name": name, **told} for name in names]
        return listed

    async def load(self, name: str) -> None:
        """Loads a model, by its name or that of one of its operations; raises as `Registry.load` does."""
        await self._registry.load(name.partition(".")[0])

    async def unload(self, name: str) -> None:
        """Lets go of a model, of all its operations; raises as `Registry.unload` does."""
        await self._registry.unload(name.partition(".")[0])

    async def infer(
        self,
        found: Found,
        timing: Timing,
        read: Callable[[Model], Awaitable[Request]],
        write: Callable[[Model, Request, InferenceAnswer], Awaitable[Written]],
    ) -> Written:
        """Reads, computes and writes one request, as its wire reads and writes; and counts it.

        Raises:
            ServiceError: whatever is wrong with the request, or went wrong.
        """
        loaded, model = found
        started_at = time.perf_counter()
        try:
            request = await read(model)
            model.check_inputs(request.arrays)
            model.check_outputs(request.outputs)
            parameters = model.parameters(request.parameters)
            read_at = time.perf_counter()
            task = Task(loaded, request.arrays, parameters, self.settings, timing)
            outcome = await model.operation.infer(task)
            answer = model.answer(outcome, request.outputs)
            computed_at = time.perf_counter()
            written = await write(model, request, answer)
        except BaseException:
            seconds = time.perf_counter() - started_at
            model.statistics.failed(seconds)
            model.meter.took(seconds)
            raise
        ended_at = time.perf_counter()
        rows = len(next(iter(request.arrays.values())))
        model.statistics.succeeded(
            rows, ended_at - started_at, read_at - started_at, timing, ended_at - computed_at
        )
        model.meter.took(ended_at - started_at)
        model.meter.answered(timing.queue_seconds, rows, outcome.anomalies, outcome.p_values)
        return written

    def _models_of(self, loaded: LoadedModel) -> dict[str, Model]:
        """The models of a version, by operation; made once."""
        models = self._models.get(loaded)
        if models is None:
            models = self._models[loaded] = {
                name: Model(loaded, operation, self._metrics)
                for name, operation in OPERATIONS.items()
                if name in loaded.operations
            }
        return models

    def _all(self) -> Iterator[Model]:
        for entry in self._registry.entries():
            if entry.state == "ready" and entry.loaded is not None:
                yield from self._models_of(entry.loaded).values()


def _offers(entry: Entry, operation: str) -> bool:
    return entry.state == "ready" and entry.loaded is not None and operation in entry.loaded.operations


def _metadata(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _configuration(tensor: TensorMetadata) -> dict[str, Any]:
    """Its dimensions are a row's, since there is a largest batch."""
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.datatype}", "dims": list(tensor.row)}
