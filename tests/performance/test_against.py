from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import free_port

from .against import Address, attached
from .checks import Witness
from .decoder import name_of, publish_decoder
from .dialects import NotOffered, OurDialect
from .failure import BenchFailed
from .models import Model, linked
from .open_inference import OpenInference
from .servers import floor_server, naive_server, running, service_server
from .workloads import WORKLOADS, Workload

pytestmark = pytest.mark.performance

BY_NAME = {workload.name: workload for workload in WORKLOADS}
SINGLE, BULK, SCORE = BY_NAME["single-8"], BY_NAME["bulk"], BY_NAME["score"]


@contextmanager
def inference_server(graphs: dict[str, Path], logs: Path, *, binary: bool) -> Iterator[Address]:
    port = free_port()
    script = str(Path(__file__).with_name("inference_server.py"))
    command = [sys.executable, "-P", script, "--port", str(port), *(["--binary"] if binary else [])]
    for name, graph in graphs.items():
        command += ["--model", f"{name}={graph}"]
    with running("inference", command, port, "/v2/health/ready", logs):
        yield Address("inference", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("binary", [True, False])
def test_a_server_of_the_open_inference_protocol_is_asked_by_its_own_names_and_answers_rightly(
    bench_catalogue: dict[str, Model], tmp_path: Path, binary: bool
) -> None:
    decoder, scorer = bench_catalogue[SINGLE.model], bench_catalogue[SCORE.model]
    graphs = {SINGLE.model: decoder.graph("sample"), f"{SCORE.model}.score": scorer.graph("score")}
    with (
        inference_server(graphs, tmp_path, binary=binary) as address,
        attached(address, bench_catalogue) as target,
    ):
        assert isinstance(target.dialect, OpenInference)
        assert target.dialect.binary == binary
        for workload in (SINGLE, BULK, SCORE):
            Witness(target, workload, bench_catalogue[workload.model])
        with pytest.raises(NotOffered, match="no model digits-vae"):
            target.dialect.request(BY_NAME["small-model"])


def test_a_server_of_another_file_or_of_other_tensors_is_not_measured(
    bench_catalogue: dict[str, Model], tmp_path: Path
) -> None:
    publish_decoder(tmp_path / "models", 0.25)
    narrow = tmp_path / "models" / name_of(0.25) / "1" / "decode.onnx"
    graphs = {SINGLE.model: narrow, SCORE.model: bench_catalogue[SCORE.model].graph("sample")}
    with (
        inference_server(graphs, tmp_path, binary=True) as address,
        attached(address, bench_catalogue) as target,
    ):
        with pytest.raises(BenchFailed, match="beside ONNX Runtime"):
            Witness(target, SINGLE, bench_catalogue[SINGLE.model])
        with pytest.raises(NotOffered, match="other tensors"):
            target.dialect.request(SCORE)


def every_form() -> list[Workload]:
    forms = [SINGLE, BULK, SCORE, BY_NAME["small-model"], BY_NAME["json"], BY_NAME["png"]]
    return [replace(workload, connections=1) for workload in forms]


def test_another_service_of_ours_is_known_by_its_catalogue_and_answers_rightly_in_every_form(
    bench_catalogue: dict[str, Model], tmp_path: Path
) -> None:
    served = {name: bench_catalogue[name] for name in (SINGLE.model, SCORE.model, "digits-vae")}
    folder = linked(served.values(), tmp_path / "models")
    with (
        service_server(folder, served, tmp_path, processes=2) as ours,
        attached(Address("other", ours.url), bench_catalogue) as target,
    ):
        assert isinstance(target.dialect, OurDialect)
        for workload in every_form():
            Witness(target, workload, bench_catalogue[workload.model])
        with pytest.raises(NotOffered, match="no model fashion-gan"):
            target.dialect.request(replace(SINGLE, model="fashion-gan"))


def test_the_naive_server_answers_rightly_and_is_no_server_to_stand_beside(
    bench_catalogue: dict[str, Model], tmp_path: Path
) -> None:
    with naive_server(bench_catalogue, tmp_path) as target:
        for workload in (SINGLE, BULK, SCORE, BY_NAME["small-model"]):
            Witness(target, workload, bench_catalogue[workload.model])
        with (
            pytest.raises(BenchFailed, match="neither"),
            attached(Address("naive", target.url), bench_catalogue),
        ):
            pass


def test_the_floor_answers_samples_rightly_and_offers_nothing_else(
    bench_catalogue: dict[str, Model], tmp_path: Path
) -> None:
    with floor_server(bench_catalogue, tmp_path, processes=2) as target:
        for workload in (SINGLE, BULK, BY_NAME["small-model"]):
            Witness(target, workload, bench_catalogue[workload.model])
        for workload in (SCORE, BY_NAME["json"]):
            with pytest.raises(NotOffered):
                target.dialect.request(workload)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000/", Address("127.0.0.1:8000", "http://127.0.0.1:8000")),
        ("triton=http://localhost:8000", Address("triton", "http://localhost:8000")),
    ],
)
def test_another_server_is_named_or_called_by_its_address(text: str, expected: Address) -> None:
    assert Address.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["localhost", "triton", "=http://a", "service=http://a", "floor=http://a", "a=https://b", "a=http://"],
)
def test_what_is_no_address_of_another_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        Address.parse(text)
