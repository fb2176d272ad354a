from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, shape_inference

from service.engine import Engine
from service.versions import read_manifest, verify_files

from . import bench, decoder, load, report

STATED_FLOPS = 16.5e6


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder.publish_decoder(tmp_path_factory.mktemp("models"))


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


def test_published_decoder_verifies_and_computes_its_self_test(published: Path) -> None:
    manifest = read_manifest(published)
    verify_files(published, manifest)
    Engine(published, manifest, "cpu", max_batch_rows=64).self_test(published)
    assert (manifest.name, manifest.version) == ("bench-decoder", 1)
    assert "sample" in manifest.operations
    onnx.checker.check_model(published / "decode.onnx")


def test_ratios_are_of_medians_with_the_range_within_rounds() -> None:
    def run(number: int, target: str, samples: float, raw: float) -> report.Run:
        return report.Run(number, "single", target, samples, samples, 1, 2, 100, 1, 0.1, raw)

    runs = [
        *(run(1, "naive", 100, 1000), run(2, "naive", 200, 1000), run(3, "naive", 300, 1000)),
        *(run(3, "service", 600, 1200), run(1, "service", 300, 1000), run(2, "service", 400, 800)),
    ]
    ratios = report.ratios(runs, "single")
    assert ratios["service / naive"] == report.Ratio(2.0, 2.0, 3.0)
    assert ratios["service / raw"] == report.Ratio(0.4, 0.3, 0.5)


@pytest.mark.performance
@pytest.mark.skipif(not load.wrk_is_there(), reason="wrk is not installed; on Debian: apt-get install wrk")
def test_bench_measures_every_workload_and_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    status = bench.main(["--rounds", "1", "--seconds", "1", "--json", str(file)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    written: dict[str, Any] = json.loads(file.read_text())
    measured = {(run["workload"], run["target"]) for run in written["runs"]}
    assert measured == {
        (workload.name, target) for workload in load.WORKLOADS for target in ("naive", "service")
    }
    assert all(run["requests_per_second"] > 0 for run in written["runs"])
    assert "service / naive" in captured.out
