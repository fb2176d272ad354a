"""The data plane: lists, describes and runs the models of the protocol, for REST and gRPC alike.

A model of the protocol is named MODEL.OPERATION.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from service.api.open_inference.model import InferenceAnswer, InferenceModel, InferenceRequest
from service.api.open_inference.signatures import SIGNATURES
from service.api.open_inference.tensors import TensorMetadata
from service.api.operations.call import Call
from service.api.probes import Lifecycle
from service.errors import OperationNotOffered, UnknownModel
from service.lifecycle.registry import Registry
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


class DataPlane:
    """Answers the requests of the protocol, for every model."""

    def __init__(
        self, registry: Registry, metrics: Metrics, lifecycle: Lifecycle, settings: Settings
    ) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self._registry = registry
        self._metrics = metrics
        self._models: WeakKeyDictionary[LoadedModel, dict[str, InferenceModel]] = WeakKeyDictionary()

    def server(self) -> dict[str, Any]:
        """Return the server's metadata."""
        return {"name": SERVER, "version": release(), "extensions": list(EXTENSIONS)}

    def find(self, name: str, version: str | None = None) -> tuple[LoadedModel, InferenceModel]:
        """Return the model of that name, and the version that it is an operation of.

        Raises:
            UnknownModel, UnknownVersion, OperationNotOffered: there is none; the message lists the others.
            Loading, LoadFailed: the model cannot answer, or not yet.
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
        return loaded, found

    def metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return a model's metadata; raises what `find` raises."""
        _, model = self.find(name, version)
        versions = [each.version for each in self._all() if each.name == model.name]
        return {
            "name": model.name,
            "versions": versions[::-1],
            "platform": PLATFORM,
            "inputs": [_metadata(tensor) for tensor in model.inputs],
            "outputs": [_metadata(tensor) for tensor in model.outputs],
        }

    def config(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return a model's configuration in Triton's form; raises what `find` raises."""
        _, model = self.find(name, version)
        return {
            "name": model.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": model.max_rows,
            "input": [_configuration(tensor) for tensor in model.inputs],
            "output": [_configuration(tensor) for tensor in model.outputs],
            "dynamic_batching": {},
            "model_transaction_policy": {"decoupled": False},
        }

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return the statistics of a model, or of all that are served; raises what `find` raises."""
        models = self._all() if name is None else [self.find(name, version)[1]]
        return {
            "model_stats": [
                {"name": model.name, "version": model.version, **model.statistics.document}
                for model in models
            ]
        }

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """List every model; a version that is not served, or not yet, by its bare name, with the reason."""
        listed = []
        for entry in self._registry.entries():
            names = [entry.name]
            if entry.loaded is not None:
                names = [model.name for model in self._models_of(entry.loaded).values()]
            elif ready:
                continue
            state = _STATES.get(entry.state, "UNAVAILABLE")
            version = {"version": str(entry.version), "state": state, "reason": entry.reason}
            listed += [{"name": name, **version} for name in names]
        return listed

    async def load(self, name: str) -> None:
        """Load a model, named with or without an operation; raises what `Registry.load` raises."""
        await self._registry.load(name.partition(".")[0])

    async def unload(self, name: str) -> None:
        """Unload a model and all its operations; raises what `Registry.unload` raises."""
        await self._registry.unload(name.partition(".")[0])

    async def infer(
        self,
        loaded: LoadedModel,
        model: InferenceModel,
        timing: Timing,
        read: Callable[[], Awaitable[Request]],
        write: Callable[[Request, InferenceAnswer], Awaitable[Written]],
    ) -> Written:
        """Read, compute and write one request, and count it. REST and gRPC pass how to read and write.

        Raises:
            ServiceError: the request does not fit, or failed.
        """
        started_at = time.perf_counter()
        try:
            request = await read()
            model.check_inputs(request.arrays)
            model.check_outputs(request.outputs)
            options = model.parameters(request.parameters)
            read_at = time.perf_counter()
            result = await model.compute(Call(loaded, options, request.arrays, self.settings, timing))
            answer = model.answer(result, request.outputs)
            computed_at = time.perf_counter()
            written = await write(request, answer)
        except BaseException:
            seconds = time.perf_counter() - started_at
            model.statistics.fail.add(seconds)
            model.meter.took(seconds)
            raise
        ended_at = time.perf_counter()
        rows = len(next(iter(request.arrays.values())))
        model.statistics.succeeded(
            rows, ended_at - started_at, read_at - started_at, timing, ended_at - computed_at
        )
        model.meter.took(ended_at - started_at)
        model.meter.answered(timing.queue_seconds, rows, result.anomalies, result.p_values)
        return written

    def _models_of(self, loaded: LoadedModel) -> dict[str, InferenceModel]:
        """Return the models of a version by operation; made once."""
        models = self._models.get(loaded)
        if models is None:
            models = self._models[loaded] = {
                name: InferenceModel(loaded, name, signature, self._metrics, self.settings)
                for name, signature in SIGNATURES.items()
                if name in loaded.operations
            }
        return models

    def _all(self) -> Iterator[InferenceModel]:
        for entry in self._registry.entries():
            if entry.loaded is not None:
                yield from self._models_of(entry.loaded).values()


def _metadata(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _configuration(tensor: TensorMetadata) -> dict[str, Any]:
    """Return a tensor's configuration; its dims are those of a row, since the model has a max_batch_size."""
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.datatype}", "dims": list(tensor.row)}
