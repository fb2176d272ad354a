"""What training published of a model's anomaly scores, measured again by a client of the service."""

import pytest

from tests.end_to_end.scores_over_http import MODELS, newest, recomputed
from tests.serving import running_service
from training.anomaly.calibrate import LEVELS
from training.data import load_dataset
from training.data.fashion import DEBIAN_FOLDER
from training.recipe import parse_recipe


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_areas_and_shares_through_http_are_those_that_training_published() -> None:
    manifest = newest("fashion-vae")
    dataset = load_dataset(parse_recipe(manifest.provenance.recipe).data)
    with running_service(MODELS, processes=2) as service:
        figures = list(recomputed(service.client, manifest, dataset))
    assert [figure for figure in figures if not figure.agrees] == []
    assert manifest.calibration is not None
    kinds = 7
    assert len(figures) == kinds * len(manifest.calibration.statistics) + len(LEVELS)
