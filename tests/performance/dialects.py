"""The requests and answers of a workload by the API of each kind of server: ours, and the naive one's.

Shapes: B rows, D latent; items as the model's manifest says.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from service.api.answer import JSON, NPY, PNG
from service.numerics.noise import scoring_noise
from tests.serving import as_npy

from .models import Feeds, Model, Values
from .workloads import Workload

SEED: Final = "{seed}"
"""The placeholder in a request that is replaced by another seed each time it is sent."""

_IMAGES: Final = 64
"""The number of different images that are sent in turn to be scored."""
_SEED: Final = 0
"""The seed of the draws that images are scored by."""
_GRID_GAP_PIXELS: Final = 2


class NotOffered(Exception):
    """The server cannot do the workload; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request of a workload; its bodies are sent in turn."""

    path: str
    headers: Mapping[str, str]
    bodies: tuple[bytes, ...]
    least_bytes: int
    """The length of the shortest right answer, without headers."""

    def filled(self, seed: int, turn: int) -> tuple[str, bytes]:
        """The path and the body of one request."""
        body = self.bodies[turn % len(self.bodies)]
        return self.path.replace(SEED, str(seed)), body.replace(SEED.encode(), str(seed).encode())


class Dialect(Protocol):
    """The language of one kind of server."""

    exact: bool
    """True if it promises the same bytes for the same request, whatever else it is asked meanwhile."""
    streams: bool
    """True if it answers far more samples than it computes at once."""

    def request(self, workload: Workload) -> Request:
        """The request of the workload; raises NotOffered."""

    def feeds(self, workload: Workload, seed: int, turn: int) -> Feeds:
        """Return the inputs of the model's graph that answer that request."""

    def values(self, workload: Workload, answer: httpx.Response) -> Values:
        """The samples (B, *item) or bounds (B,) of an answer; ValueError or KeyError if it has none."""


class OurDialect:
    """The `/v1` API of the service."""

    exact = True
    streams = True

    def __init__(self, models: Mapping[str, Model], offered: Collection[str]) -> None:
        self._models = models
        self._offered = offered

    def request(self, workload: Workload) -> Request:
        """A few bytes of JSON for samples, npy for images to score."""
        if workload.model not in self._offered:
            raise NotOffered(f"it has no model {workload.model}")
        model = self._models[workload.model]
        path = f"/v1/models/{workload.model}/{workload.operation}"
        if workload.operation == "score":
            return _score_request(model, f"{path}?statistic=elbo&draws=1&seed={_SEED}")
        headers = {"Content-Type": JSON, "Accept": workload.accept}
        return Request(path, headers, (_sample_body(workload),), _least_bytes(workload, model))

    def feeds(self, workload: Workload, seed: int, turn: int) -> Feeds:
        """Latents and the draws of scores, both by the service's addressable noise."""
        model = self._models[workload.model]
        if workload.operation == "sample":
            return {"latents": model.prior.latents(seed, 0, workload.count, 1.0)}
        return {"inputs": _image(model, turn), "eps": scoring_noise(_SEED, 1, _size(model))[None]}

    def values(self, workload: Workload, answer: httpx.Response) -> Values:
        """Samples from npy, JSON or a PNG grid; bounds from JSON."""
        if workload.operation == "score":
            return _bounds(answer)
        if workload.accept == JSON:
            return np.array(orjson.loads(answer.content)["samples"], np.float32)
        shape = self._models[workload.model].manifest.item_shape
        return _tiles(answer, workload.count, shape) if workload.accept == PNG else _array(answer)


class NaiveDialect:
    """The language of `naive.py`: the same bodies, at shorter paths."""

    exact = False
    streams = False

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def request(self, workload: Workload) -> Request:
        """Return the same request as for the service; there are neither samples as JSON nor pictures."""
        model = self._models[workload.model]
        if workload.operation == "score":
            return _score_request(model, f"/{workload.model}/score")
        if workload.accept != NPY:
            raise NotOffered("it answers samples as npy only")
        body = _sample_body(workload)
        return Request(
            f"/{workload.model}/sample", {"Content-Type": JSON}, (body,), _least_bytes(workload, model)
        )

    def feeds(self, workload: Workload, seed: int, turn: int) -> Feeds:
        """Standard normals of numpy, whatever the model's prior; images with those of seed 0."""
        model = self._models[workload.model]
        if workload.operation == "score":
            return {"inputs": _image(model, turn), "eps": _numpy_normals(0, (1, 1, _size(model)))}
        return {"latents": _numpy_normals(seed, (workload.count, _size(model)))}

    def values(self, workload: Workload, answer: httpx.Response) -> Values:
        """Samples from npy, bounds from JSON."""
        return _bounds(answer) if workload.operation == "score" else _array(answer)


class FloorDialect(NaiveDialect):
    """The language of the floor: that of the naive server, but for samples alone."""

    def request(self, workload: Workload) -> Request:
        """Return the same request as for the naive server, for samples alone."""
        if workload.operation != "sample":
            raise NotOffered("it answers samples alone")
        return super().request(workload)


def images(model: Model) -> Values:
    """The images that are scored, (N, *item) in [0, 1]: noise, which costs what garments cost."""
    return model.examples("score", _IMAGES)["inputs"]


def _image(model: Model, turn: int) -> Values:
    place = turn % _IMAGES
    return images(model)[place : place + 1]


def _size(model: Model) -> int:
    return model.manifest.latent_size


def _numpy_normals(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _sample_body(workload: Workload) -> bytes:
    return f'{{"count":{workload.count},"seed":{SEED}}}'.encode()


def _score_request(model: Model, path: str) -> Request:
    bodies = tuple(as_npy(image[None]) for image in images(model))
    return Request(path, {"Content-Type": NPY, "Accept": JSON}, bodies, len('{"scores":[{"elbo":0}]}'))


def _least_bytes(workload: Workload, model: Model) -> int:
    values = workload.count * math.prod(model.manifest.item_shape)
    # float32; or a digit and a comma; a picture may be as small as its headers
    return {NPY: 4 * values, JSON: 2 * values, PNG: 64}[workload.accept]


def _array(answer: httpx.Response) -> Values:
    array: Values = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return array


def _bounds(answer: httpx.Response) -> Values:
    return np.array([score["elbo"] for score in orjson.loads(answer.content)["scores"]])


def _tiles(answer: httpx.Response, count: int, item_shape: tuple[int, ...]) -> Values:
    """The samples that a square grid of grey images shows, (count, 1, H, W) in [0, 1]."""
    _, height, width = item_shape
    across = math.isqrt(count)
    with Image.open(io.BytesIO(answer.content)) as picture:
        pixels = np.asarray(picture)[_GRID_GAP_PIXELS:, _GRID_GAP_PIXELS:]
    tiles = pixels.reshape(across, height + _GRID_GAP_PIXELS, across, width + _GRID_GAP_PIXELS)
    shown = tiles[:, :height, :, :width].transpose(0, 2, 1, 3).reshape(count, 1, height, width)
    levels: Values = shown.astype(np.float32) / np.float32(255)
    return levels
