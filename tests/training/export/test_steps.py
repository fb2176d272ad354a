"""Graphs that share weights run in steps, so that each weight is in memory once, and give the same bits."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from pushforward import publish_vae
from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.versions import MANIFEST, read_manifest, read_weights, sha256_of, verify_files
from service.numerics.noise import Arrays
from service.runtime.engine import Engine
from tests.published import newest
from training.export.repack import repack
from training.export.sessions import verify_version

ROWS = (1, 2, 7, 64)
MOST_COPIES = 2.2
"""The memory of a served version over the bytes of its parameters."""


@pytest.fixture(scope="module", params=["fashion-vae", "fashion-gan"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A version whose graphs run as wholes, and the same with all that share a weight in steps."""
    published = newest(request.param)
    models = tmp_path_factory.mktemp("models")
    whole = shutil.copytree(published, models / request.param / published.name)
    return whole, repack(whole, least_shared_bytes=1)


@pytest.fixture
def divided(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the version in steps, which a test may damage."""
    return shutil.copytree(pair[1], tmp_path / pair[1].parent.name / pair[1].name)


def inputs_of(manifest: Manifest, name: str, rows: int) -> Arrays:
    """Random inputs of a graph."""
    random, sizes = np.random.default_rng(rows), {"rows": rows, "draws": 3}
    return tuple(
        random.random([sizes.get(str(axis), axis) for axis in tensor.shape], np.float32)  # type: ignore[arg-type]
        for tensor in manifest.graphs[name].inputs  # type: ignore[index]
    )


def test_steps_give_the_bits_of_the_whole_graph_in_every_batch(pair: tuple[Path, Path]) -> None:
    manifest = read_manifest(pair[1])
    whole, steps = (Engine(folder, read_manifest(folder), "cpu", 64) for folder in pair)
    for name in manifest.graphs:
        for rows in ROWS:
            inputs = inputs_of(manifest, name, rows)
            for expected, got in zip(whole.run(name, inputs), steps.run(name, inputs), strict=True):
                np.testing.assert_array_equal(got, expected)


def test_graphs_in_steps_hold_no_weight_that_a_shared_step_has(pair: tuple[Path, Path]) -> None:
    """A graph's own steps have what no other graph has: a prior's means, a whitening."""
    manifest = verify_version(pair[1])
    of_weights = {}
    for path in pair[1].glob("*.onnx"):
        of_weights[path.name] = places(path)
    shared = set().union(*(found for file, found in of_weights.items() if ".shared" in file))
    in_steps = {step.file for graph in manifest.graphs.values() for step in graph.steps}
    own = in_steps.difference(graph.file for graph in manifest.graphs.values())
    assert shared
    for file in own:
        assert ".shared" in file or not shared & of_weights[file], file


def places(path: Path) -> set[tuple[str, ...]]:
    """The places in the file of weights that a graph names."""
    initializers = onnx.load(path, load_external_data=False).graph.initializer
    return {tuple(entry.value for entry in each.external_data) for each in initializers if each.external_data}


def test_the_files_of_steps_are_hashed_and_checked_like_graphs(divided: Path) -> None:
    manifest = read_manifest(divided)
    step = next(step for graph in manifest.graphs.values() for step in graph.steps if ".1." in step.file)
    content = (divided / step.file).read_bytes()
    (divided / step.file).write_bytes(content + b"\0")
    with pytest.raises(InvalidVersion, match="its SHA-256 is not the manifest's"):
        verify_files(divided, manifest)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"inputs": {"latents": "nothing"}}, r"takes \['nothing'\], which no step gives"),
        ({"outputs": {}}, r"which no step gives|no step gives \["),
        ({"sha256": "0" * 64}, "has two hashes"),
    ],
    ids=["unknown input", "missing output", "two hashes"],
)
def test_steps_that_do_not_lead_to_the_outputs_are_refused(
    divided: Path, change: dict[str, object], complaint: str
) -> None:
    document = json.loads((divided / MANIFEST).read_text())
    graph = next(graph for graph in document["graphs"].values() if len(graph["steps"]) > 1)
    graph["steps"][-1 if "outputs" in change else 0] |= change
    (divided / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InvalidVersion, match=complaint):
        read_manifest(divided)


def test_a_step_whose_tensors_are_not_those_of_its_graph_is_refused(divided: Path) -> None:
    document = json.loads((divided / MANIFEST).read_text())
    graph = next(graph for graph in document["graphs"].values() if len(graph["steps"]) > 1)
    first, second = graph["steps"][0], graph["steps"][1]
    first["inputs"] = {"other": next(iter(first["inputs"].values()))}
    assert second["sha256"] == sha256_of(divided / second["file"])
    (divided / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InvalidVersion, match=r"a step of the manifest says \['other'\]"):
        Engine(divided, read_manifest(divided), "cpu", 64)


MEASURE = """
import sys
from pathlib import Path
from service.format.versions import read_manifest
from service.runtime.allocator import keep_heaps_small, return_free_memory
from service.runtime.engine import Engine

def megabytes():
    return_free_memory()
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(text.split("Pss:")[1].split()[0]) / 1024

keep_heaps_small()
small, large = map(Path, sys.argv[1:])
engines = [Engine(small, read_manifest(small), "cpu", 64)]  # so that ONNX Runtime itself is loaded
engines[0].warm_up()
before = megabytes()
engines.append(Engine(large, read_manifest(large), "cpu", 64))
engines[1].self_test(large)
engines[1].warm_up()
print(megabytes() - before)
"""


def layers(*sizes: int) -> list[nn.Module]:
    """Linear layers of these sizes, each with a rectifier."""
    pairs = itertools.pairwise(sizes)
    return [layer for two in pairs for layer in (nn.Linear(*two), nn.ReLU())]


@pytest.mark.exports
def test_a_version_of_millions_of_parameters_is_in_memory_about_once(tmp_path: Path) -> None:
    """4.5 million parameters, 18 MB: most of its graphs have the encoder, the decoder, or both in them."""
    sizes = (784, 1536, 640)
    encoder = nn.Sequential(nn.Flatten(), *layers(*sizes), nn.Linear(640, 64))
    decoder = nn.Sequential(*layers(32, *sizes[::-1])[:-1], nn.Unflatten(1, (1, 28, 28)))
    normals = np.random.default_rng(0).random((200, 1, 28, 28), np.float32).round()
    folder = publish_vae(
        "large", encoder, decoder, likelihood="bernoulli", latent_size=32, item_shape=(1, 28, 28),
        decoder_gives="logits", normals=normals, models=tmp_path,
    )  # fmt: skip
    manifest = read_manifest(folder)
    assert len(manifest.graphs) >= 5
    (weights,) = read_weights(folder, manifest).values()
    assert len(weights) > 4.4e6 * 4
    small = newest("digits-vae")
    command = [sys.executable, "-c", MEASURE, str(small), str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(found.stdout) * 2**20 <= MOST_COPIES * len(weights), found.stdout
