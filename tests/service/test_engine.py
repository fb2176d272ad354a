import json
from pathlib import Path

import numpy as np
import pytest

from service.engine import Engine
from service.errors import EngineFailed, InvalidVersion
from service.versions import read_manifest, sha256_of
from tests import toy


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return toy.publish_toy(tmp_path, "poisoned-vae", poisoned=True)


def engine(version: Path) -> Engine:
    return Engine(version, read_manifest(version), "cpu", 16)


def rewrite(version: Path, graph: str, source: str) -> None:
    """Puts another graph's file in a graph's place, and its hash into the manifest."""
    (version / f"{graph}.onnx").write_bytes((version / f"{source}.onnx").read_bytes())
    path = version / "manifest.json"
    document = json.loads(path.read_text())
    document["graphs"][graph]["sha256"] = sha256_of(version / f"{graph}.onnx")
    path.write_text(json.dumps(document))


def test_the_stored_example_passes_and_a_changed_one_does_not(version: Path) -> None:
    engine(version).self_test(version)
    example = dict(np.load(version / "self_test.npz"))
    example["encode.outputs.mean"] += 0.01
    np.savez(version / "self_test.npz", **example)
    with pytest.raises(InvalidVersion, match=r"encode\.mean is off"):
        engine(version).self_test(version)


def test_a_graph_with_other_tensors_than_the_manifest_says_is_refused(version: Path) -> None:
    rewrite(version, "encode", "decode")
    with pytest.raises(InvalidVersion, match="manifest says"):
        engine(version)


def test_a_file_that_is_no_graph_is_refused(version: Path) -> None:
    (version / "encode.onnx").write_bytes(b"not a graph")
    with pytest.raises(InvalidVersion, match="cannot load"):
        engine(version)


def test_values_that_are_not_finite_are_a_failure_not_an_answer(version: Path) -> None:
    latents = np.zeros((3, toy.LATENT), np.float32)
    (samples,) = engine(version).run("decode", (latents,))
    assert np.isfinite(samples).all()
    latents[1, 0] = 500
    with pytest.raises(EngineFailed, match="not finite"):
        engine(version).run("decode", (latents,))


def test_rows_of_a_wrong_shape_are_a_failure_that_names_no_internals(version: Path) -> None:
    with pytest.raises(EngineFailed, match="3 rows of decode"):
        engine(version).run("decode", (np.zeros((3, 7), np.float32),))


def test_warm_up_measures_every_graph(version: Path) -> None:
    seconds = engine(version).warm_up()
    assert set(seconds) == {"encode", "decode", "draw", "score"}
    assert all(0 < value < 1 for value in seconds.values())


def test_padding_to_the_sizes_a_gpu_is_warmed_for_changes_no_row(version: Path) -> None:
    padded, plain = engine(version), engine(version)
    padded._pads = True
    padded.warm_up()
    latents = np.random.default_rng(0).normal(size=(16, toy.LATENT)).astype(np.float32)
    for rows in range(1, 17):
        (one,), (other,) = padded.run("decode", (latents[:rows],)), plain.run("decode", (latents[:rows],))
        np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
def test_cuda_agrees_with_the_stored_example(version: Path) -> None:
    cuda = Engine(version, read_manifest(version), "cuda", 16)
    cuda.warm_up()
    cuda.self_test(version)
