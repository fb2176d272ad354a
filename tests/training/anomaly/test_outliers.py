"""Outliers of kinds that a model has never seen."""

from dataclasses import replace

import numpy as np
import pytest

from service.format.manifest import Support
from tests.training.models.likelihood_cases import dataset_for
from training.anomaly.outliers import Outliers, unseen_outliers
from training.data import Dataset, Items, load_dataset
from training.data.fashion import DEBIAN_FOLDER
from training.data.options import DataOptions


def kinds(dataset: Dataset, support: Support) -> dict[str, Outliers]:
    return {outliers.kind: outliers for outliers in unseen_outliers(dataset, support)}


def digits(**changes: object) -> Dataset:
    return replace(load_dataset(DataOptions(dataset="digits")), **changes)  # type: ignore[arg-type]


def test_pictures_that_are_turned_over_and_shuffled_have_the_pixels_they_had() -> None:
    dataset = digits()
    test, found = dataset.items["test"], kinds(dataset, "unit_interval")
    assert set(found) == {"noise", "constants", "shuffled_patches", "upside_down", "mirrored"}
    np.testing.assert_array_equal(found["upside_down"].items[:, :, ::-1], test)
    np.testing.assert_array_equal(found["mirrored"].items[..., ::-1], test)
    shuffled = found["shuffled_patches"].items
    np.testing.assert_array_equal(
        np.sort(shuffled.reshape(len(test), -1), axis=1), np.sort(test.reshape(len(test), -1), axis=1)
    )
    assert (shuffled != test).any(axis=(1, 2, 3)).mean() > 0.99


def test_patches_move_as_a_whole() -> None:
    numbered: Items = np.tile(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8), (5, 1, 1, 1))
    dataset = digits()
    dataset = replace(dataset, items={**dataset.items, "test": numbered})
    for picture in kinds(dataset, "unit_interval")["shuffled_patches"].items[:, 0] * 63:
        corners = picture[::2, ::2].round()
        np.testing.assert_allclose(picture[1::2, ::2], corners + 8, atol=1e-3)
        np.testing.assert_allclose(picture[::2, 1::2], corners + 1, atol=1e-3)


def test_black_and_white_are_among_the_constants_and_each_is_one_grey() -> None:
    greys = kinds(digits(), "unit_interval")["constants"].items
    assert (greys.min(axis=(1, 2, 3)) == greys.max(axis=(1, 2, 3))).all()
    assert {0, 1} <= set(np.unique(greys))


def test_large_pictures_have_fewer_outliers_of_each_kind_but_not_too_few() -> None:
    dataset = digits()
    large = np.zeros((400, 3, 64, 64), np.float32)
    found = kinds(
        replace(dataset, item_shape=(3, 64, 64), items={**dataset.items, "test": large}), "eight_bit"
    )
    assert {len(outliers.items) for kind, outliers in found.items() if kind != "constants"} == {250}
    assert len(found["constants"].items) == 32
    assert {0, 1} <= set(np.unique(found["constants"].items))


def test_outliers_of_binary_pictures_are_binary() -> None:
    dataset = load_dataset(DataOptions(dataset="digits", binarise="threshold"))
    for outliers in unseen_outliers(dataset, "binary"):
        assert set(np.unique(outliers.items)) <= {0, 1}, outliers.kind


def test_a_table_has_the_classes_that_were_kept_out_and_nothing_else() -> None:
    dataset = dataset_for("gaussian")
    assert kinds(dataset, "real") == {}
    others = dataset.items["test"] + 1
    assert set(kinds(replace(dataset, outliers=others), "real")) == {"kept_out"}


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_beside_garments_there_are_digits_in_their_size() -> None:
    found = kinds(load_dataset(DataOptions(dataset="fashion-mnist")), "eight_bit")
    for mode in ("nearest", "bilinear"):
        items = found[f"digits_{mode}"].items
        assert items.shape == (1797, 1, 28, 28)
        assert items.min() == 0
        assert items.max() <= 1
