from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.errors import EngineFailed, InvalidVersion, OutOfMemory, RuntimeFailed
from service.format.versions import read_manifest, sha256_of
from service.runtime.engine import Engine
from service.runtime.session import choose_provider, operators_elsewhere
from tests import toy
from tests.damage import change_manifest


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return toy.publish_toy(tmp_path, "poisoned-vae", poisoned=True)


def engine(version: Path) -> Engine:
    return Engine(version, read_manifest(version), "cpu", 16)


def rewrite(version: Path, graph: str, source: str) -> None:
    """Puts another graph's file in a graph's place, and its hash into the manifest."""
    (version / f"{graph}.onnx").write_bytes((version / f"{source}.onnx").read_bytes())
    digest = sha256_of(version / f"{graph}.onnx")
    change_manifest(version, lambda document: document["graphs"][graph].update(sha256=digest))


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


def test_padding_and_binding_as_on_a_gpu_change_no_row(version: Path) -> None:
    padded = Engine(version, read_manifest(version), "cpu", 16, binds=True)
    plain = engine(version)
    padded.warm_up()
    latents = np.random.default_rng(0).normal(size=(16, toy.LATENT)).astype(np.float32)
    for rows in range(1, 17):
        (one,), (other,) = padded.run("decode", (latents[:rows],)), plain.run("decode", (latents[:rows],))
        np.testing.assert_array_equal(one, other)


def test_bound_answers_are_their_callers_own_and_stay_as_they_are(version: Path) -> None:
    bound = Engine(version, read_manifest(version), "cpu", 16, binds=True)
    latents = np.random.default_rng(0).normal(size=(40, 3, toy.LATENT)).astype(np.float32)
    answers = [bound.run("decode", (batch,))[0] for batch in latents]
    for batch, answer in zip(latents, answers, strict=True):
        np.testing.assert_array_equal(answer, engine(version).run("decode", (batch,))[0])


def test_bindings_of_more_shapes_than_are_kept_are_made_anew(version: Path) -> None:
    bound = Engine(version, read_manifest(version), "cpu", 16, binds=True)
    inputs, eps = toy.items(2), np.random.default_rng(0).normal(size=(2, 40, toy.LATENT)).astype(np.float32)
    for draws in (*range(1, 41), *range(1, 41)):  # each number of draws is a shape
        for one, other in zip(
            bound.run("score", (inputs, eps[:, :draws])),
            engine(version).run("score", (inputs, eps[:, :draws])),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def test_operators_on_another_provider_are_named(version: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    path = str(version / "decode.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert operators_elsewhere(session, "cpu") == []
    assert operators_elsewhere(session, "cuda")


@pytest.mark.gpu
def test_cuda_agrees_with_the_stored_example(version: Path) -> None:
    assert choose_provider("cuda", version) == "cuda"
    cuda = Engine(version, read_manifest(version), "cuda", 16)
    cuda.warm_up()
    cuda.self_test(version)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 999"), RuntimeFailed),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"), OutOfMemory),
        (MemoryError(), OutOfMemory),
    ],
)
def test_an_error_of_onnx_runtime_is_told_from_a_want_of_memory(
    version: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    """Neither can be brought about on a machine without a broken device or a limit of memory."""

    def fail(_: object) -> list[np.ndarray]:
        raise error

    broken = engine(version)
    monkeypatch.setitem(broken._runs, "decode", fail)
    with pytest.raises(kind):
        broken.run("decode", (np.zeros((1, 2), np.float32),))
