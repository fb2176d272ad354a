"""Names of metrics: parsing is the inverse of formatting, for all that was ever published."""

from pathlib import Path

import pytest

from service.format.versions import read_manifest
from tests.conftest import REPOSITORY
from training.metrics.names import MetricName

VERSIONS = sorted(path.parent for path in (REPOSITORY / "models").glob("*/*/manifest.json"))
STRUCTURED = {
    "elbo": MetricName(subject="elbo"),
    "feature_distance": MetricName(subject="feature_distance"),
    "auroc_importance_bound_kept_out": MetricName("auroc", "kept_out", "importance_bound"),
    "validation_auroc_path_halves": MetricName("validation_auroc", "halves", "path"),
    "validation_auroc_f_anogan": MetricName("validation_auroc", statistic="f_anogan"),
    "flagged_outliers": MetricName("flagged", "outliers"),
    "flagged_at_0.05": MetricName("flagged_at", level=0.05),
    "flagged_at_1e-05": MetricName("flagged_at", level=1e-5),
    "reverse_kl_floor": MetricName("floor", "reverse_kl"),
    "modes_captured_metropolis": MetricName("metropolis", "modes_captured"),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_name_is_parsed_into_its_parts_and_formatted_back(name: str) -> None:
    assert MetricName.parse(name) == STRUCTURED[name]
    assert str(STRUCTURED[name]) == name


@pytest.mark.parametrize("folder", VERSIONS, ids=str)
def test_every_published_name_is_formatted_as_it_was_published(folder: Path) -> None:
    for name in read_manifest(folder).metrics:
        assert str(MetricName.parse(name)) == name


def test_a_name_of_no_known_structure_is_plain() -> None:
    for name in ("auroc_unknown_kind", "flagged", "a floor"):
        assert MetricName.parse(name) == MetricName(subject=name)
