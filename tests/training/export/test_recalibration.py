"""A version calibrated anew on its user's own items."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidVersion
from service.format.versions import read_manifest, verify_files
from service.numerics.calibration import Calibration
from tests.damage import flip_a_byte
from tests.published import newest
from tests.toy import exact_log_evidence, items, publish_toy
from tests.toy_conditional import CLASSES, publish_conditional_vae, turned
from training.data import DataError, Dataset
from training.export.recalibration import recalibrate
from training.recipe import RecipeError


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_toy(tmp_path / "models")


def saved(tmp_path: Path, array: np.ndarray) -> Path:
    path = tmp_path / "normals.npy"
    np.save(path, array)
    return path


def test_p_values_then_rank_among_the_users_items_and_nothing_else_changes(
    version: Path, tmp_path: Path
) -> None:
    normals = np.zeros((300, 1, 2, 2), np.float32)
    normals[:30, 0, 0, 0] = 1
    published = recalibrate(version, saved(tmp_path, normals), {"draws": 64, "alpha": 0.02})
    before, after = read_manifest(version), read_manifest(published)
    verify_files(published, after)
    assert (published.name, after.version) == ("2", 2)
    assert (after.graphs, after.parity, after.self_test) == (before.graphs, before.parity, before.self_test)
    assert after.defaults is not None
    assert (after.defaults.alpha, after.defaults.draws) == (0.02, 64)
    with np.load(published / "calibration.npz") as stored:
        calibration, surprises = Calibration(stored["importance_bound"]), stored["importance_bound"]
    (one, other), counts = np.unique(surprises.round(9), return_counts=True)  # of the two items there are
    assert sorted(counts) == [30, 270]
    assert calibration.p_values(np.array([other - 1e-6, one - 1e-6])) == pytest.approx(
        [(counts[1] + 1) / 301, 1]
    )
    for item in (normals[0], normals[299]):
        assert min(abs(np.array([one, other]) + exact_log_evidence(item))) < 1  # a bound, and close


def test_the_card_says_what_it_was_calibrated_on(version: Path, tmp_path: Path) -> None:
    (version / "README.md").write_text("# toy-vae\n\nA toy.\n")
    published = recalibrate(version, saved(tmp_path, items(200)), {})
    card = (published / "README.md").read_text()
    assert card.startswith("# toy-vae\n\n**Calibrated anew** on 200 items of normals.npy, SHA-256 ")
    assert card.endswith("A toy.\n")
    assert "scores are by `elbo` unless a request says otherwise" in card
    recipe: dict[str, Any] = json.loads((published / "manifest.json").read_text())["provenance"]["recipe"]
    assert recipe["recalibrated"]["from_version"] == 1


@pytest.mark.parametrize(
    "given",
    [items(200)[:, 0], items(200) > 0.5, (255 * items(200)).astype(np.uint8)],
    ids=["without the axis of a channel", "truth values", "bytes"],
)
def test_items_are_read_as_a_request_for_scores_reads_them(
    version: Path, tmp_path: Path, given: np.ndarray
) -> None:
    found, expected = (recalibrate(version, saved(tmp_path, each), {}) for each in (given, items(200)))
    assert (found / "calibration.npz").read_bytes() == (expected / "calibration.npz").read_bytes()


@pytest.mark.parametrize(
    ("array", "given", "error", "flaw"),
    [
        (items(50), {"alpha": 0.01}, RecipeError, "at least 99 items"),
        (items(50), {"alpha": 2.0}, RecipeError, "alpha is 2.0"),
        (items(200), {"statistic": "residual"}, RecipeError, "it has elbo, importance_bound"),
        (items(200), {"statistic": "auto"}, RecipeError, "name one of elbo, importance_bound"),
        (items(200) * 0.5, {}, DataError, "outside the model's support, binary"),
        (items(200)[:, :, :1], {}, DataError, r"items have shape \[200, 1, 1, 2\]; wanted \[rows, 1, 2, 2\]"),
        (items(200).astype(np.uint8), {}, DataError, "uint8 whose largest value is 1"),
        (np.array([{}]), {}, DataError, "not an .npy file of numbers .* with `pushforward read toy-vae FILE"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(
    version: Path, tmp_path: Path, array: np.ndarray, given: dict[str, Any], error: type, flaw: str
) -> None:
    with pytest.raises(error, match=flaw):
        recalibrate(version, saved(tmp_path, array), given)
    assert [path.name for path in version.parent.iterdir()] == ["1"]


def test_the_folder_of_a_model_is_not_calibrated_in_the_place_of_a_version(
    version: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="is no folder of a version"):
        recalibrate(version.parent, saved(tmp_path, items(200)), {})


def test_a_damaged_version_is_not_calibrated(version: Path, tmp_path: Path) -> None:
    flip_a_byte(version)
    with pytest.raises(InvalidVersion):
        recalibrate(version, saved(tmp_path, items(200)), {})


def test_figures_that_tell_of_the_earlier_calibration_are_left_out(digits: Dataset, tmp_path: Path) -> None:
    shipped = newest("digits-vae")
    version = shutil.copytree(shipped, tmp_path / "models" / "digits-vae" / shipped.name)
    before, normals = read_manifest(version), saved(tmp_path, digits.items["test"])
    assert before.defaults is not None
    for statistic, groups in (
        (before.defaults.statistic, ("flagged",)),
        ("importance_bound", ("flagged", "validation_auroc")),
    ):
        after = read_manifest(recalibrate(version, normals, {"statistic": statistic}))
        kept = {name: metric for name, metric in before.metrics.items() if not name.startswith(groups)}
        assert after.metrics == kept
        assert len(kept) < len(before.metrics)


def test_what_does_not_score_is_not_calibrated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no graph that scores"):
        recalibrate(newest("ring-gan"), saved(tmp_path, items(200)), {})


def test_a_version_with_classes_is_calibrated_on_labelled_items(tmp_path: Path) -> None:
    version = publish_conditional_vae(tmp_path / "models")
    labels = np.arange(200) % len(CLASSES)
    normals, names = saved(tmp_path, turned(items(200), labels)), tmp_path / "labels.npy"
    np.save(names, np.array(CLASSES)[labels])
    published = recalibrate(version, normals, {"draws": 8, "seed": 5}, names)
    plain = recalibrate(
        publish_toy(tmp_path / "models"), saved(tmp_path, items(200)), {"draws": 8, "seed": 5}
    )
    with np.load(published / "calibration.npz") as found, np.load(plain / "calibration.npz") as expected:
        np.testing.assert_allclose(found["elbo"], expected["elbo"], rtol=1e-5)
    np.save(names, labels[1:])
    for given, words in (
        (None, "give --labels, an .npy file of 200 numbers from 0 to 2"),
        (names, r"\[199\]"),
    ):
        with pytest.raises(DataError, match=words):
            recalibrate(version, normals, {}, given)
    with pytest.raises(DataError, match="toy-vae was not trained with classes"):
        recalibrate(plain, normals, {}, names)
