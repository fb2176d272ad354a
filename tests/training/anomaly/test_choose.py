"""The statistic that `auto` chooses: by planted outliers, and never by the test data."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from service.format.statistics import Statistic
from service.numerics.noise import Doubles
from tests.training.models.likelihood_cases import dataset_for
from training.anomaly.calibrate import StatisticScorer
from training.anomaly.choose import choose_statistic, split_validation
from training.data import SPLITS, Dataset, Items, Split
from training.options import CalibrationOptions

AUTO = CalibrationOptions(statistic="auto")


class Unseen(Mapping[Split, Items]):
    """Splits whose test and calibration parts must not be looked at."""

    def __init__(self, items: Mapping[Split, Items]) -> None:
        self._items = items

    def __getitem__(self, split: Split) -> Items:
        assert split not in ("test", "calibration")
        return self._items[split]

    def __iter__(self) -> Iterator[Split]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def scorer_of(sharp: Statistic, blind: Statistic) -> StatisticScorer:
    """`sharp` is how much neighbouring values differ; `blind` knows nothing."""

    def surprises(items: Items) -> dict[Statistic, Doubles]:
        random = np.random.default_rng(len(items))
        flat = items.reshape(len(items), -1).astype(np.float64)
        odd = np.abs(np.diff(flat, axis=1)).mean(axis=1)
        return {blind: random.random(len(items)), sharp: odd}

    return StatisticScorer(surprises, blind, AUTO)


def pictures() -> Dataset:
    """Even pictures of every grey: a blur leaves them as they are, and two halves make an edge."""
    dataset = dataset_for("continuous-bernoulli")
    greys = np.linspace(0, 1, 240, dtype=np.float32).reshape(-1, 1, 1, 1)
    items: Items = np.tile(greys, (1, 1, 5, 5))
    return replace(dataset, items=Unseen(dict.fromkeys(dataset.items, items)))


@pytest.mark.parametrize(("sharp", "blind"), [("path", "elbo"), ("elbo", "path"), ("corrected", "path")])
def test_it_chooses_what_separates_planted_outliers(sharp: Statistic, blind: Statistic) -> None:
    choice = choose_statistic(AUTO, scorer_of(sharp, blind), "unit_interval", pictures())
    assert choice.options == AUTO.model_copy(update={"statistic": sharp})
    assert choice.metrics[f"validation_auroc_{sharp}_halves"].value > 0.95
    assert choice.metrics[f"validation_auroc_{blind}_halves"].value < 0.7
    told = [name for name, metric in choice.metrics.items() if "unless told" in metric.note]
    assert told == [f"validation_auroc_{sharp}"]
    kinds = [choice.metrics[f"validation_auroc_{sharp}_{kind}"].value for kind in ("blurred", "halves")]
    assert choice.metrics[f"validation_auroc_{sharp}"].value == pytest.approx(np.mean(kinds))


def test_a_table_plants_rows_of_mixed_columns() -> None:
    choice = choose_statistic(AUTO, scorer_of("path", "elbo"), "real", dataset_for("gaussian"))
    assert {name.removeprefix("validation_auroc_path") for name in choice.metrics if "path" in name} == {
        "",
        "_mixed",
    }


def test_a_kernel_density_is_chosen_wherever_there_is_one() -> None:
    scorer = scorer_of("elbo", "kernel_density")
    choice = choose_statistic(AUTO, scorer, "real", dataset_for("gaussian"))
    assert choice.options.statistic == "kernel_density"
    assert "unless told" in choice.metrics["validation_auroc_kernel_density"].note


def test_planted_outliers_of_binary_pictures_are_binary() -> None:
    dataset, plain = dataset_for("bernoulli"), scorer_of("path", "elbo")

    def surprises(items: Items) -> dict[Statistic, Doubles]:
        assert set(np.unique(items)) <= {0, 1}
        return plain.surprises(items)

    choose_statistic(AUTO, replace(plain, surprises=surprises), "binary", dataset)


def test_a_statistic_that_the_recipe_names_is_not_looked_into() -> None:
    named, dataset = CalibrationOptions(statistic="path"), pictures()

    def surprises(_items: Items) -> dict[Statistic, Doubles]:
        raise AssertionError

    choice = choose_statistic(named, StatisticScorer(surprises, "elbo", named), "unit_interval", dataset)
    assert (choice.options, choice.metrics) == (named, {})


def test_what_is_fitted_is_not_chosen_if_it_was_fitted_on_few_rows() -> None:
    dataset = pictures()
    few: Items = dataset.items["validation"][:150]
    scarce = replace(dataset, items=Unseen({**dict.fromkeys(SPLITS, few)}))
    for items, chosen in ((dataset, "path"), (scarce, "elbo")):
        choice = choose_statistic(AUTO, scorer_of("path", "elbo"), "unit_interval", items)
        assert choice.options.statistic == chosen


def test_nothing_is_both_chosen_on_and_fitted_on() -> None:
    for count in (2, 3, 36, 5000):
        chosen_on, fitted_on = split_validation(AUTO, np.arange(count, dtype=np.float32))
        assert [*chosen_on, *fitted_on] == [*range(count)]
        assert 0 < len(chosen_on) <= len(fitted_on)


def test_where_nothing_is_chosen_all_is_fitted_on() -> None:
    chosen_on, fitted_on = split_validation(
        CalibrationOptions(statistic="path"), np.arange(9, dtype=np.float32)
    )
    assert (len(chosen_on), len(fitted_on)) == (0, 9)
