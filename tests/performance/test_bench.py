from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from PIL import Image

from . import bench, curve, profiling
from .load import wrk_is_there
from .models import Model
from .results import read
from .test_against import inference_server
from .workloads import FLOOR, NAIVE, SERVICE, WORKLOADS

pytestmark = [
    pytest.mark.performance,
    pytest.mark.skipif(not wrk_is_there(), reason="wrk is not installed; on Debian: apt-get install wrk"),
    pytest.mark.timeout(300),
]

BRIEFLY = ["--rounds", "1", "--seconds", "0.6"]


def test_bench_measures_every_figure_of_every_workload(
    bench_catalogue: dict[str, Model], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    graphs = {"bench-decoder": bench_catalogue["bench-decoder"].graph("sample")}
    with inference_server(graphs, tmp_path, binary=True) as other:
        options = [
            "--against",
            f"other={other.url}",
            "--stream-seconds",
            "5",
            "--divisor",
            "20",
            "--json",
            str(file),
        ]
        status = bench.main([*BRIEFLY, *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    results = read(file)
    of_service = {left.workload: left.reason for left in results.left_out if left.target == SERVICE}
    for workload in WORKLOADS:
        if "Ray" in of_service.get(workload.name, ""):
            continue
        for figure in workload.figures:
            assert results.summary(workload.name, SERVICE, figure) is not None, (workload.name, figure)
            assert f"| {workload.what} | {figure.title} |" in captured.out
    of_naive = {run.workload for run in results.runs if run.target == NAIVE}
    assert of_naive == {
        workload.name for workload in WORKLOADS if workload.measure in ("load", "beside-runtime")
    }
    of_floor = {run.workload for run in results.runs if run.target == FLOOR}
    assert of_floor == {name for name in of_naive if name != "score"}
    of_other = {run.workload for run in results.runs if run.target == "other"}
    left_out = {left.workload for left in results.left_out if left.target == "other"}
    assert of_other == {w.name for w in WORKLOADS if w.measure == "load" and w.model in graphs}
    assert of_other | left_out == {workload.name for workload in WORKLOADS}


def test_the_curve_has_a_point_for_every_place_on_every_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "CONNECTIONS", (1, 8))
    monkeypatch.setattr(curve, "MAX_BATCH_ROWS", (1, 64))
    monkeypatch.setattr(curve, "WIDTHS", (0.25, 1.0))
    picture = tmp_path / "curve.png"
    assert bench.main([*BRIEFLY, "--curve", str(picture)]) == 0
    points = orjson.loads((tmp_path / "curve.json").read_bytes())["points"]
    assert len([point for point in points if point["target"] == SERVICE]) == 6
    assert len([point for point in points if point["target"] == NAIVE]) == 4
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


@pytest.mark.parametrize("start", [(), ("--start",)])
def test_a_profile_names_functions_of_the_service(tmp_path: Path, start: tuple[str, ...]) -> None:
    options = ["--seconds", "2", "--folder", str(tmp_path), *start]
    assert profiling.main(options) == 0
    assert "service/api/" in (tmp_path / profiling.FILES["flamegraph"]).read_text()
    frames = orjson.loads((tmp_path / profiling.FILES["speedscope"]).read_bytes())["shared"]["frames"]
    assert any("service/api/" in frame.get("file", "") for frame in frames)
