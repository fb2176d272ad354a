"""Files that are no networks are told apart, and graphs as other exporters write them are read."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pushforward.publishing import UnfitModel, publish_vae
from tests.networks import Decoder, Encoder, write_onnx
from tests.training.data.own_data import zipped
from training.export.own.onnx_source import OnnxSource

LATENT, SHAPE = 3, (1, 4, 4)


HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
FILES = {
    "weights of safetensors": (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "is a file of safeten"),
    "a pickle": (pickle.dumps({"a": 1}), "holds pickled objects of Python, which may run any code"),
    "weights of torch": (zipped("e/data.pkl", "e/data/0", "e/version"), "holds pickled objects of Python"),
    "a model of Keras": (
        zipped("config.json", "metadata.json", "model.weights.h5"),
        "is a file of Keras; exp",
    ),
    "weights of Keras": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is a file of Keras; export the model as ONNX"),
    "arrays": (zipped("w.npy", "b.npy"), "is an .npz: it holds weights without the network"),
    "a zip of other files": (zipped("encoder.onnx"), "is a zip of files; unpack it"),
    "gzip": (gzip.compress(b"onnx"), "is compressed by gzip; unpack it first"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(64), "is a model of TensorFlow Lite"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "a page": (b"<!DOCTYPE html><p>404", "is a page of HTML or XML"),
    "nothing": (b"", "is empty"),
    "text": (b"no graph", "cannot be read as ONNX"),
}


def refused(path: Path, folder: Path) -> str:
    decoder = Decoder(LATENT, SHAPE).eval()
    with pytest.raises(UnfitModel) as caught:
        publish_vae("own", path, decoder, latent_size=LATENT, item_shape=SHAPE, models=folder / "models")
    assert not (folder / "models").exists()
    return str(caught.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_network_is_refused_as_what_it_is(kind: str, tmp_path: Path) -> None:
    content, words = FILES[kind]
    path = tmp_path / "encoder.onnx"
    path.write_bytes(content)
    assert words in refused(path, tmp_path)


def test_a_folder_and_a_missing_file_are_refused_as_such(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path / "missing.onnx", tmp_path)
    saved = tmp_path / "saved"
    saved.mkdir()
    assert "is a folder; give the file of one network" in refused(saved, tmp_path)
    (saved / "saved_model.pb").write_bytes(b"\x08\x01")
    assert "is a SavedModel of TensorFlow; export it as ONNX" in refused(saved, tmp_path)


def encoder(folder: Path) -> Path:
    torch.manual_seed(0)
    return write_onnx(folder / "encoder.onnx", Encoder(16, LATENT).eval(), SHAPE)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_weights_that_are_cast_from_another_precision_are_stored_in_float32(
    kind: int, tmp_path: Path
) -> None:
    path = encoder(tmp_path)
    rows = np.random.default_rng(0).random((5, *SHAPE), np.float32)
    plain = OnnxSource("the encoder", path).run(rows)
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if each.name == "hidden.weight")
    array = numpy_helper.to_array(weight).astype(helper.tensor_dtype_to_np_dtype(kind))
    weight.CopyFrom(numpy_helper.from_array(array, "narrow"))
    model.graph.node.insert(0, helper.make_node("Cast", ["narrow"], ["hidden.weight"], to=TensorProto.FLOAT))
    onnx.save(model, path)
    source = OnnxSource("the encoder", path)
    assert source.flaws() == []
    for ours, theirs in zip(source.run(rows), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    stored = {each.data_type for each in source.export(SHAPE).graph.initializer}
    assert stored == {TensorProto.FLOAT, TensorProto.INT64}
    assert "differ by at most" in str(source.origin["precision"])


@pytest.mark.parametrize("size", [-1, 0, None])
def test_a_batch_of_minus_one_or_without_a_shape_is_a_free_one(size: int | None, tmp_path: Path) -> None:
    path = encoder(tmp_path)
    model = onnx.load(path)
    given = model.graph.input[0].type.tensor_type
    if size is None:
        given.ClearField("shape")
    else:
        given.shape.dim[0].dim_value = size
    onnx.save(model, path)
    source = OnnxSource("the encoder", path)
    assert source.flaws() == []
    assert list(source.shapes([SHAPE])) == [SHAPE]
    assert [len(each) for each in source.run(np.zeros((5, *SHAPE), np.float32))] == [5, 5]


def test_an_operator_that_newer_opsets_replaced_fits(tmp_path: Path) -> None:
    twice = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice")
    graph = helper.make_graph(
        [helper.make_node("Upsample", ["x", "twice"], ["y"], mode="nearest")],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [twice],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    onnx.save(model, tmp_path / "old.onnx")
    assert OnnxSource("the decoder", tmp_path / "old.onnx").flaws() == []
