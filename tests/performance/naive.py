"""The server most people would write first: FastAPI, a plain `def`, one run of the session a request.

    python tests/performance/naive.py --graph decode.onnx --port 8001

It reads the same JSON as the service (count and seed) and answers the same npy; its noise is numpy's.
uvicorn runs it in one process, without the access log, which would only slow it down.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

LATENT_SIZE = 32


class SampleRequest(BaseModel):
    """How many samples, and the seed of their noise."""

    count: int = 1
    seed: int


def create_app(graph: Path) -> FastAPI:
    """The app around one ONNX graph that maps `latents` to `samples`."""
    app = FastAPI()
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])

    @app.post("/sample")
    def sample(request: SampleRequest) -> Response:
        latents = np.random.default_rng(request.seed).standard_normal(
            (request.count, LATENT_SIZE), dtype=np.float32
        )
        (samples,) = session.run(None, {"latents": latents})
        file = io.BytesIO()
        np.save(file, samples)
        return Response(file.getvalue(), media_type="application/x-npy")

    return app


def main() -> None:
    """Serves the graph on 127.0.0.1 until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(create_app(options.graph), port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
