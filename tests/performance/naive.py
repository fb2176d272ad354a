"""The server most people would write first: FastAPI, a plain `def`, one run of the session per request.

    python tests/performance/naive.py --decode NAME=decode.onnx --score NAME=score.onnx --port 8001

It reads the same JSON or npy as the service and answers the same npy or JSON; its noise is numpy's. uvicorn
runs it in one process, without the access log, which would only slow it down.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import Body, FastAPI, Response
from pydantic import BaseModel


class SampleRequest(BaseModel):
    """The number of samples, and the seed of their noise."""

    count: int = 1
    seed: int


def create_app(decode: dict[str, str], score: dict[str, str]) -> FastAPI:
    """The app around graphs by model: `latents` to `samples`, and `inputs` and `eps` to terms."""
    app = FastAPI()
    decoders = {name: _session(graph) for name, graph in decode.items()}
    scorers = {name: _session(graph) for name, graph in score.items()}

    @app.post("/{model}/sample")
    def sample(model: str, request: SampleRequest) -> Response:
        session = decoders[model]
        size = session.get_inputs()[0].shape[1]
        latents = np.random.default_rng(request.seed).standard_normal((request.count, size), dtype=np.float32)
        (samples,) = session.run(None, {"latents": latents})
        file = io.BytesIO()
        np.save(file, samples)
        return Response(file.getvalue(), media_type="application/x-npy")

    @app.post("/{model}/score")
    def score_images(model: str, body: Annotated[bytes, Body()]) -> dict[str, list[dict[str, float]]]:
        session = scorers[model]
        inputs = np.load(io.BytesIO(body))
        size = session.get_inputs()[1].shape[2]
        eps = np.random.default_rng(0).standard_normal((len(inputs), 1, size), dtype=np.float32)
        log_likelihood, _, _, kl = session.run(None, {"inputs": inputs, "eps": eps})
        expected = log_likelihood.mean(axis=1)
        rows = zip((expected - kl).tolist(), expected.tolist(), kl.tolist(), strict=True)
        names = ("elbo", "expected_log_likelihood", "kl")
        return {"scores": [dict(zip(names, row, strict=True)) for row in rows]}

    return app


def _session(graph: str) -> Any:
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the graphs on 127.0.0.1 until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decode", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--score", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    app = create_app(_named(options.decode), _named(options.score))
    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)


def _named(pairs: list[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


if __name__ == "__main__":
    main()
