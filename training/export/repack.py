"""Publish a version again with every weight stored once and shared, as versions are published now."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.versions import publish, read_weights
from training.export.sessions import open_graph, open_session, run_graph, verify_version
from training.export.staging import graph_specs, staged
from training.export.steps import LEAST_BYTES
from training.export.weights import whole

_BESIDE = ("README.md", "samples.png")
"""Files of a version that its manifest does not name."""


def repack(folder: Path, least_shared_bytes: int = LEAST_BYTES) -> Path:
    """Publish the version in `folder`, as an older program published it, as the model's next version.

    Only the place of the weights and the steps of the graphs change: calibration, figures and origin stay,
    and every graph gives the same bits for the stored example, which is checked. Graphs that share at least
    `least_shared_bytes` of weights run in steps.

    Raises:
        InvalidVersion: The version is broken, or is as versions are published now.
        GraphError: A graph breaks a rule of the contract.
    """
    manifest = verify_version(folder)
    weights = read_weights(folder, manifest)
    with staged(folder.parent.parent, manifest.name) as staging:
        graphs = {file for graph in manifest.graphs.values() for file in graph.files}
        for spec in manifest.files:
            if spec.file not in graphs and spec != manifest.weights:
                shutil.copyfile(folder / spec.file, staging / spec.file)
        for name, graph in manifest.graphs.items():
            content = whole(name, folder / graph.file, weights).SerializeToString()
            (staging / f"{name}.onnx").write_bytes(content)
        for beside in _BESIDE:
            if (folder / beside).is_file():
                shutil.copyfile(folder / beside, staging / beside)
        specs, stored = graph_specs(manifest.graphs, staging, manifest.self_test, least_shared_bytes)
        if specs == manifest.graphs:
            where = "its graphs" if stored is None else stored.file
            raise InvalidVersion(f"{folder}: its weights are stored once already, in {where}")
        provenance = manifest.provenance.model_copy(update={"repacked_from": manifest.version})
        changes = {"graphs": specs, "weights": stored, "provenance": provenance}
        repacked = manifest.model_copy(update=changes)
        _require_equal_bits(folder, manifest, staging, repacked)
        return publish(staging, repacked)


def _require_equal_bits(folder: Path, manifest: Manifest, staging: Path, repacked: Manifest) -> None:
    weights = read_weights(staging, repacked)
    with np.load(folder / manifest.self_test.file, allow_pickle=False) as stored:
        example = dict(stored)
    for name, graph in manifest.graphs.items():
        inputs = [example[f"{name}.inputs.{tensor.name}"] for tensor in graph.inputs]
        before = run_graph(open_graph(folder, name), graph, inputs)
        after = run_graph(open_session(staging / repacked.graphs[name].file, weights), graph, inputs)
        if not all(map(np.array_equal, before, after)):
            raise InvalidVersion(f"{folder}: {name} gives other bits with its weights in a file of their own")
