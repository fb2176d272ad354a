"""A run that is finished and published is not published again when it is resumed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.tiny import tiny_recipe, write_recipe
from training.__main__ import app

pytestmark = pytest.mark.exports


def test_a_finished_run_that_is_resumed_names_its_version_and_publishes_no_other(tmp_path: Path) -> None:
    recipe, models = write_recipe(tmp_path / "recipe.toml", tiny_recipe()), tmp_path / "models"
    line = ["run", str(recipe), "--quiet", "--runs", str(tmp_path / "runs"), "--models", str(models)]

    def resumed(*more: str) -> str:
        done = CliRunner().invoke(app, [*line, "--resume", *more], catch_exceptions=False)
        return " ".join(done.output.split())

    assert f"next: pushforward sample tiny-vae --local {models} --count 64 --out tiny-vae.png" in resumed()
    assert [path.name for path in models.glob("*/*")] == ["1"]
    assert resumed().endswith(f"the run is finished, and published as {models}/tiny-vae/1")
    assert [path.name for path in models.glob("*/*")] == ["1"]
    assert f"published {models}/tiny-vae/2" in resumed("--set", "calibration.alpha=0.2")
    (models / "tiny-vae" / "2").rename(tmp_path / "taken-away")
    assert f"published {models}/tiny-vae/2" in resumed("--set", "calibration.alpha=0.2")
