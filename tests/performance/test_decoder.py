from __future__ import annotations

import math

import onnx
import pytest
from onnx import ModelProto, shape_inference

from service.format.versions import read_manifest, verify_files
from service.runtime.engine import Engine

from . import decoder
from .models import Model

STATED_FLOPS = 16.5e6


def flops(model: ModelProto) -> int:
    """Two per multiply-add of one sample, from the inferred shapes; the rest is too small to count."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    values = [*graph.input, *graph.value_info, *graph.output]
    pixels = {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
        for value in values
    }
    total = 0
    for node in graph.node:
        if node.op_type in ("Gemm", "Conv", "ConvTranspose"):
            place = node.output[0] if node.op_type == "Conv" else node.input[0]
            total += 2 * math.prod(weights[node.input[1]]) * pixels[place]
    return total


def test_decoder_is_as_large_as_the_design_states() -> None:
    model = decoder.decoder_model()
    parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    assert 1.6e6 <= parameters <= 1.8e6
    assert flops(model) == pytest.approx(STATED_FLOPS, rel=0.05)


def test_decoder_is_the_same_whenever_it_is_made() -> None:
    assert decoder.decoder_model().SerializeToString() == decoder.decoder_model().SerializeToString()


def test_published_decoder_verifies_and_computes_its_self_test(bench_catalogue: dict[str, Model]) -> None:
    published = bench_catalogue[decoder.NAME].folder
    manifest = read_manifest(published)
    verify_files(published, manifest)
    Engine(published, manifest, "cpu", max_batch_rows=64).self_test(published)
    assert (manifest.name, manifest.version) == ("bench-decoder", 1)
    assert "sample" in manifest.operations
    onnx.checker.check_model(published / "decode.onnx")


@pytest.mark.parametrize("width", [0.25, 1.0, 2.0])
def test_decoders_of_every_width_have_the_parameters_they_are_said_to_have(width: float) -> None:
    model = decoder.decoder_model(width)
    counted = sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)
    assert counted == decoder.parameters(width)
