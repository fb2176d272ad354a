"""Published versions side by side: samples as the service draws them, figures for each, and a page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.format.versions import read_manifest
from tests.conftest import REPOSITORY
from tests.published import newest
from tests.training.report.page import Page
from training.__main__ import app
from training.data.options import DataOptions
from training.experiments.quality.compare import ComparisonError, compare_versions, write_comparison
from training.export.beside import draw_samples, measure_beside
from training.report.comparison import TRAINING_SET

MODELS = REPOSITORY / "models"


def test_the_command_writes_figures_and_a_page_of_the_versions_and_the_training_set(tmp_path: Path) -> None:
    digits, other = newest("digits-vae"), tmp_path / "other-vae" / "1"
    shutil.copytree(digits, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "name": "other-vae", "version": 1}))
    output = tmp_path / "made" / "quality"
    done = CliRunner().invoke(app, ["quality", str(digits), str(other), "--output", str(output)])
    assert done.exit_code == 0, done.output
    content = json.loads(output.with_suffix(".json").read_text())
    first = f"digits-vae/{digits.name}"
    assert list(content["measured"]) == [TRAINING_SET, first, "other-vae/1"]
    assert content["measured"][first] == content["measured"]["other-vae/1"]
    page = Page(output.with_suffix(".html"))
    assert len(page.plots) == 1
    assert all(reference.startswith("data:image/") for reference in page.references)
    for words in (TRAINING_SET, first, "other-vae/1", "coverage", "k = 5"):
        assert words in page.text


@pytest.mark.parametrize(("name", "kind"), [("digits-vae", "decode"), ("breast-cancer-vae", "draw")])
def test_sample_i_is_the_same_however_many_are_drawn(name: str, kind: str) -> None:
    folder = newest(name)
    manifest = read_manifest(folder)
    assert kind in manifest.graphs
    many, few = (draw_samples(folder, manifest, count, seed=5) for count in (501, 3))
    assert many.shape == (501, *manifest.item_shape)
    np.testing.assert_array_equal(many[:3], few)
    assert len(np.unique(many, axis=0)) == 501


def test_notes_that_differ_name_the_versions_that_they_belong_to(tmp_path: Path) -> None:
    dataset, measured = compare_versions([newest("ring-gan")])
    _, path = write_comparison(tmp_path / "quality", dataset, measured, seed=0)
    page = Page(path)
    for column, each in measured.items():
        assert f"deviation ratio, {column}{each.metrics['deviation_ratio'].note}" in page.text
    assert f"modes captured{measured[TRAINING_SET].metrics['modes_captured'].note}" in page.text


def test_classes_and_neighbours_of_garments_are_both_drawn(tmp_path: Path) -> None:
    dataset, measured = compare_versions([newest("digits-vae")])
    counted = {name: each._replace(class_counts=np.arange(1, 11)) for name, each in measured.items()}
    _, path = write_comparison(tmp_path / "quality", dataset, counted, seed=0)
    page = Page(path)
    assert len(page.plots) == 2
    assert "Classes, as the classifier sees them" in page.text


def test_other_models_of_the_same_data_are_measured_beside_a_new_one(tmp_path: Path) -> None:
    digits = newest("digits-vae")
    for name in ("digits-vae", "breast-cancer-vae"):
        (tmp_path / name).symlink_to(MODELS / name)
    broken = tmp_path / "broken-vae" / "1"
    shutil.copytree(digits, broken)
    (broken / "decode.onnx").write_bytes(b"half of it")
    dataset, measured = compare_versions([digits])
    data = DataOptions(dataset="digits")
    beside = measure_beside(tmp_path, "another", data, dataset)
    key = f"digits-vae/{digits.name}"
    assert list(beside) == [key]
    assert beside[key].metrics == measured[key].metrics
    assert measure_beside(tmp_path, "digits-vae", data, dataset) == {}


def test_versions_of_different_data_are_not_compared() -> None:
    with pytest.raises(ComparisonError, match="different data"):
        compare_versions([newest("digits-vae"), newest("fashion-gan")])
