"""The models that speed is measured on, and their values by ONNX Runtime alone.

Shapes: B rows, D latent; items as a model's manifest says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.format.versions import read_manifest, version_folders
from service.numerics.calibration import bounds_from_terms
from service.numerics.prior import read_prior

from .decoder import publish_decoder
from .failure import BenchFailed

Values = NDArray[Any]
Feeds = dict[str, NDArray[np.float32]]

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PUBLISHED: Final = ("fashion-vae", "digits-vae", "fashion-gan")
"""The three models with which the start and the memory of a service are measured."""

_GRAPHS: Final = {"sample": "decode", "score": "score", "statistics": "statistics"}


class Model:
    """One published version: its graphs, its prior, and what they compute in one thread, one batch a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.prior = read_prior(folder, self.manifest)
        self._sessions: dict[str, Any] = {}

    def graph(self, operation: str) -> Path:
        """The file of the graph behind an operation, `sample`, `score` or `statistics`."""
        return self.folder / f"{_GRAPHS[operation]}.onnx"

    def examples(self, operation: str, rows: int) -> Feeds:
        """Inputs for so many rows, always the same: latents, or items with the noise of one draw each."""
        generator = np.random.default_rng(rows)
        size = self.manifest.latent_size
        if operation == "sample":
            return {"latents": generator.standard_normal((rows, size), np.float32)}
        items = generator.random((rows, *self.manifest.item_shape), np.float32)
        if operation == "statistics":
            return {"inputs": items}
        return {"inputs": items, "eps": generator.standard_normal((rows, 1, size), np.float32)}

    def values(self, operation: str, feeds: Feeds) -> Values:
        """Return the values of a right answer: samples (B, *item), or evidence lower bounds (B,)."""
        if operation not in self._sessions:
            self._sessions[operation] = one_thread_session(self.graph(operation))
        outputs = self._sessions[operation].run(None, feeds)
        return self.bounds(outputs) if operation == "score" else np.asarray(outputs[0])

    def bounds(self, terms: list[Values]) -> Values:
        """The evidence lower bounds (B,) by the outputs of the graph `score`."""
        return bounds_from_terms(*terms).elbo


def bench_models(folder: Path) -> dict[str, Model]:
    """The decoder, published into a folder, and the repository's models, each by its name.

    Raises:
        BenchFailed: the repository lacks one of them.
    """
    versions = [publish_decoder(folder)]
    for name in PUBLISHED:
        published = REPOSITORY / "models" / name
        if not published.is_dir():
            raise BenchFailed(f"models/{name} is missing; get it from the repository, or publish one")
        versions.append(version_folders(published)[-1])
    models = [Model(version) for version in versions]
    return {model.manifest.name: model for model in models}


def linked(models: Iterable[Model], folder: Path) -> Path:
    """A folder of these models alone, for a service to serve."""
    folder.mkdir()
    for model in models:
        (folder / model.manifest.name).symlink_to(model.folder.parent.resolve())
    return folder


def one_thread_session(graph: Path) -> Any:
    """A CPU session that computes every call in its caller's thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
