"""The published figures of a model's anomaly scores, measured again by a client of the service."""

import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_breast_cancer

from service.format.manifest import Manifest
from service.format.versions import read_manifest
from service.media.tables.writing import csv_text
from tests.end_to_end.scores_over_http import MODELS, Figure, recomputed
from tests.published import manifest_of
from tests.serving import running_service
from training.data import load_dataset
from training.data.fashion import DEBIAN_FOLDER
from training.recipe import parse_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def figures_of(manifest: Manifest, models: Path) -> list[Figure]:
    dataset = load_dataset(parse_recipe(manifest.provenance.recipe).data)
    with running_service(models, processes=2) as service:
        return list(recomputed(service.client, manifest, dataset))


def published(manifest: Manifest) -> list[str]:
    assert manifest.calibration is not None
    starts = ("flagged_at_", *(f"auroc_{statistic}_" for statistic in manifest.calibration.statistics))
    return [name for name in manifest.metrics if name.startswith(starts)]


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_areas_and_shares_of_pictures_through_http_are_those_that_training_published() -> None:
    manifest = manifest_of("fashion-vae")
    figures = figures_of(manifest, MODELS)
    assert [figure for figure in figures if not figure.agrees] == []
    assert {figure.name for figure in figures} == set(published(manifest))


def test_areas_and_shares_of_a_csv_file_through_http_are_those_that_training_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cancer = load_breast_cancer()
    columns = dict(zip(cancer.feature_names, cancer.data.T, strict=True))
    Path("cancer.csv").write_text(csv_text({**columns, "target": cancer.target_names[cancer.target]}))
    for line in (
        ("pushforward", "init", "cancer.csv", "--label", "target", "--keep", "benign"),
        ("training", "run", "cancer.toml", "--models", "models", "--quiet"),
    ):
        subprocess.run([sys.executable, "-m", *line], check=True, timeout=500)
    manifest = read_manifest(tmp_path / "models" / "cancer" / "1")
    figures = figures_of(manifest, tmp_path / "models")
    assert [figure for figure in figures if not figure.agrees] == []
    assert {figure.name for figure in figures} == set(published(manifest))
    assert manifest.defaults is not None
    (area,) = [each for each in figures if each.name == f"auroc_{manifest.defaults.statistic}_kept_out"]
    assert area.over_http > 0.9
