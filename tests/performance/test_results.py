from __future__ import annotations

from pathlib import Path

import pytest

from . import report
from .results import LeftOut, Results, Run, Summary, read
from .workloads import NAIVE, SERVICE, WORKLOADS, Figure

SINGLE = next(workload for workload in WORKLOADS if workload.name == "single-32")


def run(number: int, target: str, samples: float, raw: float) -> Run:
    values = {"samples_per_second": samples, "raw_samples_per_second": raw, "client_cores": 0.1}
    values |= {"p99_milliseconds": 4.0, "p50_milliseconds": 2.0, "requests_per_second": samples}
    return Run(number, SINGLE.name, target, values)


RESULTS = Results(
    machine=dict.fromkeys(("cpu", "python", "onnxruntime", "fastapi", "uvicorn", "wrk", "measured_at"), "x")
    | {"granted_cores": 2, "load_average": 0.5},
    command=" --rounds 3",
    targets={NAIVE: "naive", SERVICE: "ours", "triton": "theirs"},
    workloads=(SINGLE,),
    runs=(
        *(run(1, NAIVE, 100, 1000), run(2, NAIVE, 200, 1000), run(3, NAIVE, 300, 1000)),
        *(run(3, SERVICE, 600, 1200), run(1, SERVICE, 300, 1000), run(2, SERVICE, 400, 800)),
        *(run(1, "triton", 200, 1000), run(2, "triton", 200, 1000), run(3, "triton", 200, 1000)),
    ),
    left_out=(LeftOut("stream", "triton", "it cannot stream"),),
)


def test_ratios_are_of_medians_with_the_range_within_rounds() -> None:
    of_naive = Figure("", "samples_per_second", "samples_per_second", NAIVE)
    of_raw = Figure("", "samples_per_second", "raw_samples_per_second")
    assert RESULTS.summary(SINGLE.name, SERVICE, of_naive) == Summary(2.0, 2.0, 3.0)
    assert RESULTS.summary(SINGLE.name, SERVICE, of_raw) == Summary(0.4, 0.3, 0.5)


def test_what_was_not_measured_has_no_figure() -> None:
    assert RESULTS.summary(SINGLE.name, SERVICE, Figure("", "ready_seconds")) is None
    assert RESULTS.summary(SINGLE.name, "nobody", SINGLE.figures[0]) is None


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(RESULTS.written(), encoding="utf-8")
    assert read(file) == RESULTS


def test_a_report_is_rendered_again_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    file.write_text(RESULTS.written(), encoding="utf-8")
    assert report.main([str(file)]) == 0
    assert capsys.readouterr().out == report.markdown(RESULTS)


def test_every_figure_has_a_row_with_its_goals_and_the_command_that_measures_it_alone() -> None:
    rows = report.markdown(RESULTS).splitlines()
    for figure in SINGLE.figures:
        row = next(row for row in rows if f"| {figure.title} |" in row)
        assert figure.release in row
        assert figure.reach in row
        assert "`python -m tests.performance.bench --workload single-32 --rounds 3`" in row


def test_the_report_sets_the_service_beside_other_servers_and_says_what_they_were_left_out_of() -> None:
    text = report.markdown(RESULTS)
    assert "| single-32 | 2.00 (1.50..3.00) | 1.00 (1.00..1.00) | 1.00 (1.00..1.00) |" in text
    assert "Left out, triton: stream; it cannot stream." in text


def test_names_of_workloads_differ_and_every_figure_has_one_value() -> None:
    names = [workload.name for workload in WORKLOADS]
    assert len(set(names)) == len(names)
    assert all(workload.figures for workload in WORKLOADS)
