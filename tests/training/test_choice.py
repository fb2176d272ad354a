"""The statistic that `auto` chooses: by planted outliers, and by nothing that is tested on."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from service.calibration import Doubles
from service.contract import Statistic
from tests.training.likelihood_cases import dataset_for
from training.card import MEASURED
from training.choice import auroc, settle_statistic
from training.data import Dataset, Items, Split
from training.options import CalibrationOptions
from training.scoring import Scorer

AUTO = CalibrationOptions(statistic="auto")


class Unseen(Mapping[Split, Items]):
    """Splits, of which the test and the calibration split may not be looked at."""

    def __init__(self, items: Mapping[Split, Items]) -> None:
        self._items = items

    def __getitem__(self, split: Split) -> Items:
        assert split not in ("test", "calibration")
        return self._items[split]

    def __iter__(self) -> Iterator[Split]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def scorer_of(sharp: Statistic, blind: Statistic) -> Scorer:
    """`sharp` is how much neighbouring values differ; `blind` knows nothing."""

    def surprises(items: Items) -> dict[Statistic, Doubles]:
        random = np.random.default_rng(len(items))
        flat = items.reshape(len(items), -1).astype(np.float64)
        odd = np.abs(np.diff(flat, axis=1)).mean(axis=1)
        return {blind: random.random(len(items)), sharp: odd}

    return Scorer(surprises, blind, AUTO)


def pictures() -> Dataset:
    """Even pictures of every grey: a blur leaves them as they are, and two halves make an edge."""
    dataset = dataset_for("continuous-bernoulli")
    items = np.arange(80, dtype=np.float32).reshape(-1, 1, 1, 1) / 79 * np.ones((1, 1, 5, 5), np.float32)
    return replace(dataset, items=Unseen(dict.fromkeys(dataset.items, items)))


@pytest.mark.parametrize(("sharp", "blind"), [("path", "elbo"), ("elbo", "path"), ("corrected", "path")])
def test_it_chooses_what_separates_planted_outliers(sharp: Statistic, blind: Statistic) -> None:
    choice = settle_statistic(AUTO, scorer_of(sharp, blind), "unit_interval", pictures())
    assert choice.options == AUTO.model_copy(update={"statistic": sharp})
    assert choice.metrics[f"{MEASURED}{sharp}_halves"].value > 0.95
    assert choice.metrics[f"{MEASURED}{blind}_halves"].value < 0.7
    told = [name for name, metric in choice.metrics.items() if "the largest" in metric.note]
    assert told == [f"{MEASURED}{sharp}"]
    kinds = [choice.metrics[f"{MEASURED}{sharp}_{kind}"].value for kind in ("blurred", "halves")]
    assert choice.metrics[f"{MEASURED}{sharp}"].value == pytest.approx(np.mean(kinds))


def test_a_table_plants_rows_of_mixed_columns() -> None:
    choice = settle_statistic(AUTO, scorer_of("path", "elbo"), "real", dataset_for("gaussian"))
    assert {name.removeprefix(f"{MEASURED}path") for name in choice.metrics if "path" in name} == {
        "",
        "_mixed",
    }


def test_half_of_the_classes_kept_out_are_chosen_on_and_the_other_half_is_left_to_be_judged_on() -> None:
    outliers = np.random.default_rng(0).random((10, 1, 5, 5), dtype=np.float32)
    dataset = replace(pictures(), outliers=outliers)
    seen: list[Items] = []
    plain = scorer_of("path", "elbo")

    def surprises(items: Items) -> dict[Statistic, Doubles]:
        seen.append(items)
        return plain.surprises(items)

    choice = settle_statistic(AUTO, replace(plain, surprises=surprises), "unit_interval", dataset)
    assert choice.metrics[f"{MEASURED}path_kept_out"].value == 1
    assert choice.rest.outliers is not None
    chosen_on, left = ({row.tobytes() for row in items} for items in (seen[-1], choice.rest.outliers))
    assert (len(chosen_on), len(left)) == (5, 5)
    assert chosen_on | left == {row.tobytes() for row in outliers}


def test_planted_outliers_of_binary_pictures_are_binary() -> None:
    dataset, plain = dataset_for("bernoulli"), scorer_of("path", "elbo")

    def surprises(items: Items) -> dict[Statistic, Doubles]:
        assert set(np.unique(items)) <= {0, 1}
        return plain.surprises(items)

    settle_statistic(AUTO, replace(plain, surprises=surprises), "binary", dataset)


def test_a_statistic_that_the_recipe_names_is_not_looked_into() -> None:
    named, dataset = CalibrationOptions(statistic="path"), pictures()

    def surprises(_items: Items) -> dict[Statistic, Doubles]:
        raise AssertionError

    choice = settle_statistic(named, Scorer(surprises, "elbo", named), "unit_interval", dataset)
    assert (choice.options, choice.metrics, choice.rest) == (named, {}, dataset)


def test_the_auroc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    random = np.random.default_rng(0)
    outliers, normal = random.integers(0, 9, 40).astype(float), random.integers(0, 7, 60).astype(float)
    pairs = outliers[:, None] - normal
    assert auroc(outliers, normal) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert auroc(normal, outliers) == pytest.approx(1 - auroc(outliers, normal))
    assert auroc(normal, normal) == pytest.approx(0.5)
