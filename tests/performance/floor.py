"""The floor: what uvicorn, orjson, numpy and ONNX Runtime reach for samples where no promise is kept.

    python tests/performance/floor.py --decode NAME=decode.onnx --port 8001 --processes 2

It has the service's event loop, parser and natural batching, and neither validation, limits, deadlines,
metrics, request ids nor addressed noise: what the service takes beside it is the price of its promises. It
reads the same JSON as the naive server and answers the same npy, with numpy's noise.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from numpy.lib import format as npy_format
from numpy.typing import NDArray

_MOST_ROWS: Final = 64
"""Most rows of a batch, as the service has by default."""

Floats = NDArray[np.float32]


class Decoder:
    """A graph, run in the event loop once for all latents that have come since its last run."""

    def __init__(self, graph: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.latent_size = self._session.get_inputs()[0].shape[1]
        self._waiting = deque[tuple[Floats, asyncio.Future[Floats]]]()

    def samples(self, latents: Floats) -> asyncio.Future[Floats]:
        """The samples (B, *item) at latents (B, D), in the next turn of the loop or a later one."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Floats] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run, loop)
        self._waiting.append((latents, answer))
        return answer

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [self._waiting.popleft()]
        rows = len(batch[0][0])
        while self._waiting and rows + len(self._waiting[0][0]) <= _MOST_ROWS:
            batch.append(self._waiting.popleft())
            rows += len(batch[-1][0])
        latents = batch[0][0] if len(batch) == 1 else np.concatenate([part for part, _ in batch])
        (samples,) = self._session.run(None, {"latents": latents})
        first = 0
        for part, answer in batch:
            if not answer.done():
                answer.set_result(samples[first : first + len(part)])
            first += len(part)
        if self._waiting:
            loop.call_soon(self._run, loop)


class App:
    """The ASGI app: `POST /NAME/sample`; any GET is answered with 200 and nothing."""

    def __init__(self, graphs: dict[str, str]) -> None:
        self._decoders = {f"/{name}/sample": Decoder(graph) for name, graph in graphs.items()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await self._sampled(scope["path"], receive) if scope["method"] == "POST" else b""
        headers = [(b"content-type", b"application/x-npy"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _sampled(self, path: str, receive: Any) -> bytes:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        request, decoder = orjson.loads(body), self._decoders[path]
        shape = request["count"], decoder.latent_size
        latents = np.random.default_rng(request["seed"]).standard_normal(shape, dtype=np.float32)
        samples = await decoder.samples(latents)
        return _npy_header(samples.shape) + samples.tobytes()


@lru_cache
def _npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _serve(graphs: dict[str, str], port: int) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        App(graphs), loop="uvloop", http="httptools", lifespan="off", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the graphs on 127.0.0.1, by so many processes that share the port, until SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decode", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    graphs = dict(pair.split("=", 1) for pair in options.decode)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which ends the processes: they are daemons
    processes = [
        multiprocessing.Process(target=_serve, args=(graphs, options.port), daemon=True)
        for _ in range(options.processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
