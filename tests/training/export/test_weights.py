"""A version's weights, each stored once in a file of their own, or a copy of them in every graph."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.versions import MANIFEST, read_manifest, read_weights, sha256_of
from service.runtime.engine import Engine
from tests.published import newest
from training.export.repack import repack
from training.export.rules import GraphError
from training.export.sessions import verify_version
from training.export.weights import whole

ROWS = (1, 2, 7, 64)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The digits VAE as older programs published it, a copy of its weights in every graph; and repacked."""
    published = newest("digits-vae")
    folder = shutil.copytree(published, tmp_path_factory.mktemp("models") / "digits-vae" / published.name)
    manifest = read_manifest(folder)
    weights = read_weights(folder, manifest)
    for name, spec in manifest.graphs.items():
        onnx.save(whole(name, folder / spec.file, weights), folder / spec.file)
    (folder / "weights.bin").unlink(missing_ok=True)
    rewrite(folder, weights=None)
    return folder, repack(folder)


@pytest.fixture
def inside(both: tuple[Path, Path]) -> Path:
    return both[0]


@pytest.fixture
def once(both: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the repacked version, which a test may damage."""
    return shutil.copytree(both[1], tmp_path / "digits-vae" / both[1].name)


def rewrite(folder: Path, **fields: object) -> None:
    """Puts fields, and the hashes of all files as they are, into a manifest."""
    document = json.loads((folder / MANIFEST).read_text()) | fields
    for entry in (*document["graphs"].values(), document["weights"]):
        if entry is not None:
            entry["sha256"] = sha256_of(folder / entry["file"])
    (folder / MANIFEST).write_text(json.dumps(document))


def place(folder: Path, graph: str, **entries: str) -> None:
    """Changes where a graph says that one of its initializers is."""
    model = onnx.load(folder / f"{graph}.onnx", load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.external_data)
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key, entry.value)
    onnx.save(model, folder / f"{graph}.onnx")
    rewrite(folder)


def parameter_bytes(folder: Path) -> int:
    """The bytes of all different large tensors of a version's graphs."""
    manifest = read_manifest(folder)
    tensors = [
        onnx.numpy_helper.to_array(tensor).tobytes()
        for name, spec in manifest.graphs.items()
        for tensor in whole(name, folder / spec.file, read_weights(folder, manifest)).graph.initializer
    ]
    return sum(map(len, set(tensors)))


def engine(folder: Path) -> Engine:
    return Engine(folder, read_manifest(folder), "cpu", 64)


def test_a_repacked_version_gives_the_same_bits_for_every_graph_and_batch(inside: Path, once: Path) -> None:
    before, after, random = engine(inside), engine(once), np.random.default_rng(0)
    manifest = read_manifest(once)
    for name, graph in manifest.graphs.items():
        for rows in ROWS:
            sizes = {"rows": rows, "draws": 3}
            inputs = tuple(
                random.random([sizes.get(str(axis), axis) for axis in tensor.shape], np.float32)  # type: ignore[arg-type]
                for tensor in graph.inputs
            )
            for old, new in zip(before.run(name, inputs), after.run(name, inputs), strict=True):
                np.testing.assert_array_equal(old, new)
    after.self_test(once)


def test_a_folder_is_at_most_a_tenth_and_a_megabyte_larger_than_its_parameters(
    inside: Path, once: Path
) -> None:
    size = sum(path.stat().st_size for path in once.iterdir())
    assert size <= 1.1 * parameter_bytes(once) + 1e6
    assert parameter_bytes(once) == parameter_bytes(inside)
    assert size < 0.3 * sum(path.stat().st_size for path in inside.iterdir())


def test_a_repacked_version_differs_in_the_place_of_its_weights_alone(inside: Path, once: Path) -> None:
    def rest(manifest: Manifest) -> dict[str, object]:
        graphs = {name: (graph.inputs, graph.outputs) for name, graph in manifest.graphs.items()}
        return manifest.model_dump(exclude={"graphs", "weights", "version", "provenance"}) | {"all": graphs}

    old, new = read_manifest(inside), verify_version(once)
    assert rest(old) == rest(new)
    assert new.provenance.repacked_from == old.version == new.version - 1
    assert (once / "README.md").read_bytes() == (inside / "README.md").read_bytes()
    with pytest.raises(InvalidVersion, match=r"stored once already, in weights\.bin"):
        repack(once)


def test_other_programs_read_the_weights_as_external_data_of_onnx(inside: Path, once: Path) -> None:
    """`onnx.load` opens the file beside the graph by itself."""
    for path in sorted(once.glob("*.onnx")):
        tensors = [onnx.load(folder / path.name).graph.initializer for folder in (inside, once)]
        for old, new in zip(*tensors, strict=True):
            values = onnx.numpy_helper.to_array(old), onnx.numpy_helper.to_array(new)
            np.testing.assert_array_equal(values[0], values[1])


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"location": "other.bin"},
        {"location": "../digits-vae.bin"},
        {"location": "/etc/hostname"},
        {"location": "*/_ORT_MEM_ADDR_/*"},  # ONNX Runtime uses this name for an address in memory
        {"offset": str(2**40)},
        {"offset": "-64"},
        {"offset": "none"},
        {"length": "4"},
    ],
    ids=str,
)
def test_a_graph_with_weights_elsewhere_than_in_the_manifests_file_is_refused(
    once: Path, elsewhere: dict[str, str]
) -> None:
    (once / "other.bin").write_bytes((once / "weights.bin").read_bytes())
    place(once, "decode", **elsewhere)
    with pytest.raises(InvalidVersion, match=r"^decode\.onnx: ONNX Runtime cannot load it"):
        engine(once)
    with pytest.raises(GraphError, match="graph decode "):
        verify_version(once)


def test_a_file_of_weights_that_the_manifest_does_not_name_is_never_opened(once: Path) -> None:
    rewrite(once)
    document = json.loads((once / MANIFEST).read_text())
    (once / MANIFEST).write_text(json.dumps(document | {"weights": None}))
    with pytest.raises(InvalidVersion, match="its weights are in a file that the manifest does not name"):
        engine(once)


def test_weights_with_another_hash_are_refused_whatever_was_verified_before(once: Path) -> None:
    content = bytearray((once / "weights.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (once / "weights.bin").write_bytes(content)
    with pytest.raises(InvalidVersion, match=r"weights\.bin: its SHA-256 is not the manifest's"):
        engine(once)
    (once / "weights.bin").unlink()
    with pytest.raises(InvalidVersion, match=r"weights\.bin: cannot be read"):
        engine(once)
