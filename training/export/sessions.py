"""Sessions of ONNX Runtime, which check graphs and published versions; they need no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from service.format.manifest import Manifest
from service.format.specs import GraphName, TensorSpec
from service.format.versions import (
    Weights,
    check_self_test,
    magnitude,
    read_manifest,
    read_weights,
    verify_files,
)
from service.numerics.noise import Floats
from training.export.rules import check_graph
from training.export.weights import whole

PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5
"""Largest allowed |onnx - torch| / (1 + |torch|), where |torch| is at least the output's median."""


class ParityError(RuntimeError):
    """An exported graph does not compute what the trained model computes."""


def tensor(name: str, *shape: object) -> TensorSpec:
    """Return the manifest's entry of a tensor; an axis is a size, or the name of a free one."""
    return TensorSpec.model_validate({"name": name, "shape": shape})


def sizes_of(tensor: TensorSpec, rows: int, draws: int) -> tuple[int, ...]:
    """Return the shape of a tensor with so many rows and draws."""
    free = {"rows": rows, "draws": draws}
    return tuple(free[axis] if isinstance(axis, str) else axis for axis in tensor.shape)


class GraphTensors(Protocol):
    """The inputs and outputs of a graph, in order."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Its inputs."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Its outputs."""


def run_graph(
    session: onnxruntime.InferenceSession, graph: GraphTensors, inputs: Sequence[Floats]
) -> tuple[Floats, ...]:
    """Run a session of a graph; inputs and outputs are in the graph's order."""
    feeds = {spec.name: array for spec, array in zip(graph.inputs, inputs, strict=True)}
    return tuple(session.run(None, feeds))


def open_session(model: Path | bytes, weights: Weights | None = None) -> onnxruntime.InferenceSession:
    """Open a session of a graph's file, or of a serialised model, on the CPU with one thread.

    It has no other weights than its own and those that are given: no file that a graph names is opened.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if weights:
        options.add_external_initializers_from_files_in_memory(
            [*weights], [*weights.values()], [*map(len, weights.values())]
        )
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model.read_bytes() if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def open_graph(folder: Path, name: GraphName) -> onnxruntime.InferenceSession:
    """Open a session of the graph of a version in a folder, as `open_session` does.

    Raises:
        service.errors.InvalidVersion: Its manifest or its file of weights is broken.
    """
    manifest = read_manifest(folder)
    return open_session(folder / manifest.graphs[name].file, read_weights(folder, manifest))


def verify_version(folder: Path) -> Manifest:
    """Check a published version: manifest, hashes, the rules for graphs, and its stored self-test.

    Raises:
        service.errors.InvalidVersion: The manifest or a hash is wrong, or a graph does not reproduce the
            stored example.
        GraphError: A graph breaks a rule of the contract.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    weights = read_weights(folder, manifest)
    sessions: dict[str, onnxruntime.InferenceSession] = {}
    for name, spec in manifest.graphs.items():
        for title, file in ((name, spec.file), *((step.file, step.file) for step in spec.steps)):
            check_graph(title, whole(title, folder / file, weights))
        sessions[name] = open_session(folder / spec.file, weights)
    check_self_test(
        folder, manifest, lambda name, inputs: run_graph(sessions[name], manifest.graphs[name], inputs)
    )
    return manifest


def relative_error(output: str, got: Floats, want: Floats, like: Floats) -> float:
    """Return the largest error of an output relative to its `magnitude`, at least the median of `like`.

    A log density near 0 is the sum of large terms of both signs, and has no smaller error than the others. Of
    samples the median is that of each value over the rows: columns of a table have units of their own.
    """
    typical = np.median(np.abs(like), axis=0 if output == "samples" else None)
    scale = np.maximum(magnitude(output, want), 1 + typical)
    return float(np.max(np.abs(got - want) / scale))
