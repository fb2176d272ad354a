"""The Open Inference Protocol, version 2, as a dialect: any server that speaks it can stand beside ours.

https://github.com/kserve/open-inference-protocol; tensors travel as bytes where the server has Triton's
binary extension, else as JSON. The models it must serve are the same ONNX files: for samples, one input of
latents [B, D]; to score, inputs [B, *item] and noise [B, K, D].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import orjson

from .dialects import NotOffered, Request, images
from .models import Feeds, Model, Values
from .workloads import Workload

BINARY_EXTENSION: Final = "binary_tensor_data"
"""The name of the extension in a server's metadata."""
JSON_LENGTH: Final = "Inference-Header-Content-Length"
"""The header with the number of bytes of JSON before the tensors, if any tensors come as bytes."""

_BODIES: Final = 64
"""The number of different requests that are sent in turn."""
_SCORE_OUTPUTS: Final = ("log_likelihood", "log_prior", "log_posterior", "kl")


@dataclass(frozen=True, slots=True)
class Tensors:
    """A served model's name, and its tensors' names by the names that they have in our graphs."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class OpenInference:
    """The protocol as one server speaks it; reads from it which models it has."""

    exact = False
    streams = False

    def __init__(self, client: httpx.Client, models: Mapping[str, Model]) -> None:
        self._client = client
        self._models = models
        answer = client.get("/v2")
        extensions = answer.json().get("extensions", ()) if answer.status_code == 200 else ()
        self.binary = BINARY_EXTENSION in extensions
        self._known: dict[tuple[str, str], Tensors] = {}

    def request(self, workload: Workload) -> Request:
        """One sample's latents as JSON, larger ones and images as bytes; samples and terms back as bytes.

        So the bodies are of the kinds that the workload's own have; without the extension all is JSON.
        """
        tensors = self._tensors(workload)
        as_bytes = self.binary and (workload.operation == "score" or workload.count > 1)
        form: dict[str, Any] = {"parameters": {"binary_data": True}} if self.binary else {}
        outputs = [{"name": name} | form for name in tensors.outputs.values()]
        bodies, lengths = [], []
        for turn in range(_BODIES):
            feeds = self.feeds(workload, 0, turn)
            head, tail = _encoded({tensors.inputs[name]: array for name, array in feeds.items()}, as_bytes)
            document = orjson.dumps({"inputs": head, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
            bodies.append(document + tail)
            lengths.append(len(document))
        headers = {"Content-Type": "application/json"}
        if as_bytes:
            assert len(set(lengths)) == 1, "documents without numbers in them are of one length"
            headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(lengths[0])}
        return Request(
            f"/v2/models/{tensors.model}/infer", headers, tuple(bodies), self._least_bytes(workload)
        )

    def feeds(self, workload: Workload, seed: int, turn: int) -> Feeds:
        """Return the inputs that the request itself holds: the client makes the noise."""
        del seed
        model = self._models[workload.model]
        size = model.manifest.latent_size
        generator = np.random.default_rng(turn % _BODIES)
        if workload.operation == "sample":
            return {"latents": generator.standard_normal((workload.count, size), np.float32)}
        place = turn % _BODIES
        image = images(model)[place : place + 1]
        return {"inputs": image, "eps": generator.standard_normal((1, 1, size), np.float32)}

    def values(self, workload: Workload, answer: httpx.Response) -> Values:
        """Samples, or bounds by the terms of the graph `score`."""
        tensors = self._tensors(workload)
        named = _decoded(answer)
        outputs = [named[tensors.outputs[name]] for name in _outputs_of(workload.operation)]
        return outputs[0] if workload.operation == "sample" else self._models[workload.model].bounds(outputs)

    def _least_bytes(self, workload: Workload) -> int:
        if workload.operation == "score":
            return 4 * len(_SCORE_OUTPUTS)
        values = workload.count * math.prod(self._models[workload.model].manifest.item_shape)
        return (4 if self.binary else 2) * values

    def _tensors(self, workload: Workload) -> Tensors:
        key = workload.model, workload.operation
        if key not in self._known:
            self._known[key] = self._found(workload)
        return self._known[key]

    def _found(self, workload: Workload) -> Tensors:
        """Return the tensors of the model; raise NotOffered if the server has it under no possible name."""
        graph = "decode" if workload.operation == "sample" else "score"
        names = [f"{workload.model}.{graph}", f"{workload.model}-{graph}", workload.model]
        for name in names:
            answer = self._client.get(f"/v2/models/{name}")
            if answer.status_code == 200:
                return self._matched(workload, answer.json())
        raise NotOffered(f"it has no model {' or '.join(names)}")

    def _matched(self, workload: Workload, metadata: Mapping[str, Any]) -> Tensors:
        """Match inputs by their number of axes, outputs by their names, and a single output without a name.

        Raises:
            NotOffered: its tensors are not those of our graph.
        """
        ours = {name: array.ndim for name, array in self.feeds(workload, 0, 0).items()}
        theirs = {len(tensor["shape"]): tensor["name"] for tensor in metadata["inputs"]}
        given = [tensor["name"] for tensor in metadata["outputs"]]
        wanted = _outputs_of(workload.operation)
        fits = set(theirs) == set(ours.values()) and (
            len(given) == len(wanted) == 1 or set(wanted) <= set(given)
        )
        if not fits:
            raise NotOffered(
                f"its model {metadata['name']} has other tensors than the graph {workload.operation}"
            )
        outputs = {wanted[0]: given[0]} if len(wanted) == 1 else {name: name for name in wanted}
        return Tensors(metadata["name"], {name: theirs[axes] for name, axes in ours.items()}, outputs)


class SampleTensors:
    """Our own models `NAME.sample` of the protocol: a seed and an index for each row, binary both ways."""

    exact = True
    streams = False

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def request(self, workload: Workload) -> Request:
        """The samples from 0 on of one seed after the other."""
        bodies = []
        for seed in range(_BODIES):
            rows = {"seed": np.full(workload.count, seed), "index": np.arange(workload.count)}
            head = [
                {"name": name, "shape": [workload.count], "datatype": "INT64"}
                | {"parameters": {"binary_data_size": array.nbytes}}
                for name, array in rows.items()
            ]
            document = orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": head})
            bodies.append(document + b"".join(array.astype("<i8").tobytes() for array in rows.values()))
        headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(document))}
        least_bytes = 4 * workload.count * math.prod(self._models[workload.model].manifest.item_shape)
        return Request(f"/v2/models/{workload.model}.sample/infer", headers, tuple(bodies), least_bytes)

    def feeds(self, workload: Workload, seed: int, turn: int) -> Feeds:
        """Return latents by the service's addressable noise, with the seed of that turn's body."""
        del seed
        prior = self._models[workload.model].prior
        return {"latents": prior.latents(turn % _BODIES, 0, workload.count, 1.0)}

    def values(self, workload: Workload, answer: httpx.Response) -> Values:
        """Samples."""
        del workload
        return _decoded(answer)["samples"]


def _outputs_of(operation: str) -> tuple[str, ...]:
    return ("samples",) if operation == "sample" else _SCORE_OUTPUTS


def _encoded(arrays: Feeds, as_bytes: bool) -> tuple[list[dict[str, Any]], bytes]:
    """The inputs of a request's document, and the bytes that follow it."""
    head: list[dict[str, Any]] = []
    for name, array in arrays.items():
        tensor = {"name": name, "shape": list(array.shape), "datatype": "FP32"}
        data = {"parameters": {"binary_data_size": array.nbytes}} if as_bytes else {"data": array.ravel()}
        head.append(tensor | data)
    return head, b"".join(array.tobytes() for array in arrays.values()) if as_bytes else b""


def _decoded(answer: httpx.Response) -> dict[str, Values]:
    """The outputs of an answer by name; those that came as bytes follow each other after the document."""
    end = int(answer.headers.get(JSON_LENGTH, len(answer.content)))
    arrays = {}
    for tensor in orjson.loads(answer.content[:end])["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = np.array(tensor["data"], np.float32)
        else:
            flat = np.frombuffer(answer.content[end : end + size], "<f4")
            end += size
        arrays[tensor["name"]] = flat.reshape(tensor["shape"])
    return arrays
