import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import REPOSITORY
from training.data.points import MODES
from training.experiments.figure.__main__ import app
from training.experiments.figure.drawing import draw
from training.experiments.figure.methods import METHODS
from training.experiments.figure.results import (
    CELLS,
    EARLIER_CODE,
    TARGET,
    MethodResult,
    MethodRun,
    histogram_of,
    missing,
    read_folder,
)
from training.experiments.figure.table import markdown
from training.experiments.figure.training import PICTURE_ROWS, perform
from training.experiments.results import ResultError, mean_of

SECONDS = 0.1


def made_up(
    method: str, mixture: str = "ring", seed: int = 0, modes: float = 8, ratio: float = 0.9, bright: int = 9
) -> MethodResult:
    histogram = np.zeros((CELLS, CELLS), np.int64)
    histogram[seed, 7] = bright
    figures = {"modes": 8, "modes_captured": modes, "high_quality_share": 0.9, "reverse_kl": 0.01}
    return MethodResult(
        MethodRun(mixture, method, seed),
        figures | {"deviation_ratio": ratio},
        histogram,
        10,
        50,
        SECONDS,
        {},
        {},
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_short_run_of_every_method_ends_with_finite_figures(method: str) -> None:
    state = torch.random.get_rng_state()
    result = perform(MethodRun("grid", method, 0), SECONDS)
    assert result.steps > 0
    assert 0 <= result.figures["high_quality_share"] <= 1
    assert math.isfinite(result.figures["reverse_kl"])
    assert 0 < result.histogram.sum() <= PICTURE_ROWS
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_target_reaches_all_modes_and_the_ceiling() -> None:
    result = perform(MethodRun("ring", TARGET, 0), SECONDS)
    assert result.figures["modes_captured"] == 8
    assert result.figures["high_quality_share"] == pytest.approx(1 - math.exp(-4.5), abs=0.01)


def test_a_result_reads_as_it_was_written(tmp_path: Path) -> None:
    result = dataclasses.replace(perform(MethodRun("grid", TARGET, 3), SECONDS), options={"width": 8})
    result = dataclasses.replace(result, figures={**result.figures, "deviation_ratio": math.nan})
    result.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["grid-target-3.json"]
    read = read_folder(tmp_path)[0]
    assert np.array_equal(read.histogram, result.histogram)
    assert read.figures == pytest.approx(result.figures, nan_ok=True)
    assert (read.run, read.steps, read.options, read.versions) == (
        result.run, result.steps, result.options, result.versions,
    )  # fmt: skip


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ring-ali-0.json"
    path.write_text('{"mixture": "ring"}')
    with pytest.raises(ResultError, match=r"ring-ali-0\.json"):
        read_folder(tmp_path)


def test_pictures_have_the_first_coordinate_to_the_right_and_the_second_upwards() -> None:
    counts = histogram_of(np.array([[1.2, 0.0], [1.2, -1.2], [9.0, 9.0]]), "ring")
    row, column = np.nonzero(counts)
    assert counts.sum() == 2
    assert (column > 0.9 * CELLS).all()
    assert row[0] < 0.1 * CELLS < row[1] < 0.6 * CELLS


def test_a_mean_carries_its_standard_error_and_leaves_out_what_is_not_there() -> None:
    values = [7.0, 8.0, 8.0, math.nan]
    mean = mean_of(values)
    assert mean.value == pytest.approx(23 / 3)
    assert mean.standard_error == pytest.approx(np.std(values[:3], ddof=1) / math.sqrt(3))
    assert mean_of([2.0]).text(1) == "2.0"
    assert mean_of([math.nan]).text(1) == "none"


def test_the_table_has_means_and_standard_errors_over_seeds() -> None:
    results = [made_up("ali", seed=seed, modes=modes) for seed, modes in enumerate((7, 8, 8))]
    (row,) = (line for line in markdown(results).splitlines() if line.startswith("| ALI"))
    assert row == "| ALI | 7.7 ± 0.3 | 90.0 ± 0.0 | 0.0100 ± 0.0000 | 0.90 ± 0.00 | 50 |"


def test_the_table_prints_the_ceiling_and_the_noise_floor() -> None:
    results = [made_up("ali", mixture) for mixture in MODES]
    floors = [line for line in markdown(results).splitlines() if "perfect" in line and line.startswith("|")]
    assert [line.split(" | ")[2:4] for line in floors] == [["98.89", "0.0014"], ["98.89", "0.0049"]]


def test_the_picture_grows_by_a_column_for_each_method_and_shows_what_it_generates(tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    results = [made_up(method) for method in (TARGET, *METHODS)]
    sizes, contents = [], []
    for shown in (results[:5], results[:9], [*results[:8], made_up([*METHODS][7], bright=0)]):
        draw(shown, path)
        with Image.open(path) as picture:
            sizes.append(picture.size)
            contents.append(np.asarray(picture.convert("RGB")))
    assert sizes[1][0] == pytest.approx(9 / 5 * sizes[0][0], abs=2)
    assert sizes[1] == sizes[2]
    draw([made_up("ali", bright=0)], path)
    with Image.open(path) as picture:
        assert picture.size[0] == pytest.approx(sizes[0][0] / 5, abs=2)
    assert not np.array_equal(contents[1], contents[2])


@pytest.mark.slow
def test_a_finished_run_is_not_run_again_and_one_of_another_length_is_refused(tmp_path: Path) -> None:
    def figure(*more: str) -> object:
        command = ["--folder", "runs", "--data", "ring", "--seeds", "1", "--jobs", "1", "--quiet", *more]
        return CliRunner().invoke(app, command, catch_exceptions=False).exit_code

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert figure("--seconds", str(SECONDS), "--methods", "minimax", "--methods", TARGET) == 0
        written = {path: path.stat().st_mtime_ns for path in Path("runs").iterdir()}
        assert sorted(path.stem for path in written) == ["ring-minimax-0", "ring-target-0"]
        Path("docs/gan-methods.png").unlink()
        assert figure("--seconds", str(SECONDS), "--methods", "minimax") == 0
        assert {path: path.stat().st_mtime_ns for path in Path("runs").iterdir()} == written
        assert Path("docs/gan-methods.png").exists()
        assert "| Minimax |" in Path("docs/gan-methods.md").read_text()
        runs = [MethodRun("ring", "minimax", seed) for seed in range(2)]
        assert missing(runs, Path("runs"), SECONDS) == runs[1:]
        with pytest.raises(ResultError, match=r"ring-minimax-0\.json"):
            missing(runs, Path("runs"), 2 * SECONDS)


def test_stored_results_of_the_earlier_code_stand_and_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    stored = REPOSITORY / "docs" / "figure"
    results = read_folder(stored)
    runs = [result.run for result in results]
    assert {result.code for result in results if result.run.method != TARGET} == {EARLIER_CODE}
    assert missing(runs, stored, 90.0) == []
    with pytest.raises(ResultError, match="must not be mixed"):
        missing([*runs, MethodRun("ring", "ali", 3)], stored, 90.0)
    assert (REPOSITORY / "docs" / "gan-methods.md").read_text() == markdown(results)
    for code, seed in ((EARLIER_CODE, 0), ("training.loop", 1)):
        dataclasses.replace(made_up("ali", seed=seed), code=code).write(tmp_path)
    with pytest.raises(ResultError, match="mixes results"):
        read_folder(tmp_path)
