import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.data.own_data import a_table, write_csv
from tests.training.tiny import tiny_table, write_recipe
from training.__main__ import app, main


class CommandLine:
    """Runs the console entry in this process: a new one would spend seconds importing torch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int | str | None, str]:
        """Exit status, and standard error with its line breaks undone."""
        self._monkeypatch.setattr(sys, "argv", ["pushforward-train", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        return ending.value.code, " ".join(self._capsys.readouterr().err.split())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_help_names_every_command_and_a_first_thing_to_type() -> None:
    output = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "pushforward-train RECIPE.toml" in output
    for name in ("run", "train", "evaluate", "export", "report", "verify", "quality", "theory"):
        assert name in output


def test_a_recipe_without_a_command_is_run(command: CommandLine) -> None:
    for arguments in (["none.toml"], ["run", "none.toml"]):
        status, errors = command(*arguments)
        assert (status, errors.splitlines()[0][:30]) == (1, "error: no recipe at none.toml;")


def test_a_misspelt_key_is_one_line_and_exit_status_1(command: CommandLine) -> None:
    status, errors = command("train", "training/recipes/digits-vae.toml", "--set", "loop.stebs=3")
    assert status == 1
    assert "did you mean 'loop.steps'?" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_level_that_calibration_items_cannot_resolve_is_refused_before_training(
    family: str, command: CommandLine, tmp_path: Path
) -> None:
    table = tiny_table(family) | {"calibration": {"alpha": 0.001}}
    table |= {"encoder": {"loop": table["loop"]}} if family == "gan" else {}
    recipe = write_recipe(tmp_path / "recipe.toml", table)
    status, errors = command("train", str(recipe), "--runs", str(tmp_path / "runs"))
    assert status == 1
    assert "128 calibration items resolve no level below 0.00775" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("family", "statistic"), [("vae", "f_anogan"), ("vae", "kernel_density"), ("gan", "elbo")]
)
def test_a_statistic_that_the_model_will_not_have_is_refused_before_training(
    family: str, statistic: str, command: CommandLine, tmp_path: Path
) -> None:
    table = tiny_table(family) | {"calibration": {"statistic": statistic}}
    table |= {"encoder": {"loop": table["loop"]}} if family == "gan" else {}
    recipe = write_recipe(tmp_path / "recipe.toml", table)
    status, errors = command("train", str(recipe), "--runs", str(tmp_path / "runs"))
    assert status == 1
    assert f"calibration.statistic is '{statistic}', which this model will not have; it will have" in errors
    assert not (tmp_path / "runs").exists()


def test_the_progress_of_a_run_is_that_towards_its_last_step(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", tiny_table(stop_after=5))
    result = CliRunner().invoke(app, ["train", str(recipe), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0
    assert "tiny-vae 5/5, " in result.stderr


def test_export_without_training_says_to_train_first(command: CommandLine, tmp_path: Path) -> None:
    folder = str(tmp_path)
    status, errors = command(
        "export", "training/recipes/digits-vae.toml", "--runs", folder, "--models", folder
    )
    assert status == 1
    assert "train first" in errors
    assert not list(tmp_path.iterdir())


def test_verify_refuses_a_folder_that_is_no_version(command: CommandLine, tmp_path: Path) -> None:
    status, errors = command("verify", str(tmp_path))
    assert status == 1
    assert "manifest.json" in errors


def test_a_folder_of_versions_that_cannot_be_written_is_refused_before_training(
    command: CommandLine, tmp_path: Path
) -> None:
    recipe, place = write_recipe(tmp_path / "recipe.toml", tiny_table()), tmp_path / "models"
    place.write_text("a file")
    status, errors = command("run", str(recipe), "--runs", str(tmp_path / "runs"), "--models", str(place))
    assert status == 1
    assert f"{place} is no folder that can be written" in errors
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_one_line_that_says_how_to_go_on(command: CommandLine, tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path / "recipe.toml", tiny_table()), tmp_path / "runs" / "tiny-vae"
    run.mkdir(parents=True)
    (run / "recipe.json").symlink_to("/dev/full")
    status, errors = command("train", str(recipe), "--runs", str(run.parent), "--quiet")
    assert status == 1
    assert "make room" in errors
    assert "Traceback" not in errors


def test_a_step_that_memory_cannot_hold_says_what_to_lower(command: CommandLine, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", tiny_table())
    status, errors = command(
        "train", str(recipe), "--set", "vae.draws=100_000_000", "--runs", str(tmp_path), "--quiet"
    )
    assert status == 1
    assert "lower loop.batch_rows, draws or [network]" in errors


def test_a_path_with_brackets_is_told_as_it_is(tmp_path: Path) -> None:
    data, recipe = tmp_path / "pumps [old].csv", tmp_path / "pumps [old].toml"
    write_csv(data, a_table())
    done = CliRunner().invoke(app, ["init", str(data), "--output", str(recipe)])
    assert done.stderr == f"wrote {recipe}\n"


def test_training_says_what_is_trained_on_what_and_where_it_goes(tmp_path: Path) -> None:
    recipe, runs = write_recipe(tmp_path / "recipe.toml", tiny_table()), tmp_path / "runs"
    done = CliRunner().invoke(app, ["train", str(recipe), "--runs", str(runs)])
    begun = (
        f"training tiny-vae on cpu: 12 steps of 300 of 1,283 items; log and checkpoints in {runs}/tiny-vae"
    )
    assert begun in done.stderr
    assert "tiny-vae 12/12, " in done.stderr
