"""A small server of the Open Inference Protocol, version 2, as one would write it: Starlette, ONNX Runtime.

    python tests/performance/inference_server.py --model NAME=decode.onnx --port 8002 --binary

With `--binary` it has Triton's binary tensor extension. The bench measures any such server by `--against`;
this one shows that it can.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

JSON_LENGTH = "Inference-Header-Content-Length"


def create_app(graphs: dict[str, str], *, binary: bool) -> Starlette:
    """The app around graphs by the names that they are served as."""
    sessions = {
        name: ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for name, graph in graphs.items()
    }

    async def server(_: Request) -> Response:
        extensions = ["binary_tensor_data"] if binary else []
        return JSONResponse({"name": "inference-server", "version": "1", "extensions": extensions})

    async def ready(_: Request) -> Response:
        return Response()

    async def metadata(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in sessions:
            return JSONResponse({"error": f"there is no model {name}"}, 404)
        session = sessions[name]
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
        return JSONResponse({"name": name, "platform": "onnx", "inputs": inputs, "outputs": outputs})

    async def infer(request: Request) -> Response:
        session = sessions[request.path_params["name"]]
        body = await request.body()
        end = int(request.headers.get(JSON_LENGTH, len(body)))
        document = orjson.loads(body[:end])
        wanted = [output["name"] for output in document["outputs"]]
        arrays = await run_in_threadpool(session.run, wanted, _feeds(document["inputs"], body[end:]))
        return _answer(document["outputs"], arrays)

    return Starlette(
        routes=[
            Route("/v2", server),
            Route("/v2/health/ready", ready),
            Route("/v2/models/{name}", metadata),
            Route("/v2/models/{name}/infer", infer, methods=["POST"]),
        ]
    )


def _tensors(nodes: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "datatype": "FP32",
            "shape": [size if isinstance(size, int) else -1 for size in node.shape],
        }
        for node in nodes
    ]


def _feeds(inputs: Sequence[dict[str, Any]], tail: bytes) -> dict[str, Any]:
    feeds, start = {}, 0
    for tensor in inputs:
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = np.array(tensor["data"], np.float32)
        else:
            flat = np.frombuffer(tail[start : start + size], "<f4")
            start += size
        feeds[tensor["name"]] = flat.reshape(tensor["shape"])
    return feeds


def _answer(outputs: Sequence[dict[str, Any]], arrays: Sequence[Any]) -> Response:
    head: list[dict[str, Any]] = []
    tail = b""
    for output, array in zip(outputs, arrays, strict=True):
        tensor = {"name": output["name"], "datatype": "FP32", "shape": list(array.shape)}
        if output.get("parameters", {}).get("binary_data"):
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            tail += array.tobytes()
        else:
            tensor["data"] = array.ravel()
        head.append(tensor)
    document = orjson.dumps({"outputs": head}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Response(document, media_type="application/json")
    headers = {JSON_LENGTH: str(len(document))}
    return Response(document + tail, headers=headers, media_type="application/octet-stream")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the graphs on 127.0.0.1 until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--binary", action="store_true", help="with Triton's binary tensor extension")
    options = parser.parse_args(arguments)
    app = create_app(dict(pair.split("=", 1) for pair in options.model), binary=options.binary)
    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
