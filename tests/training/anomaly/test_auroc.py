"""Areas under ROC curves with their intervals, and the law of how many normal items are flagged."""

import numpy as np
import pytest

from service.format.statistics import Statistic
from service.numerics.calibration import Calibration
from service.numerics.noise import Doubles
from tests.training.models.likelihood_cases import dataset_for
from training.anomaly.auroc import auroc, auroc_metric, judge
from training.anomaly.calibrate import StatisticScorer, flagged_band
from training.data import Items
from training.options import CalibrationOptions


def test_the_auroc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    random = np.random.default_rng(0)
    outliers, normal = random.integers(0, 9, 40).astype(float), random.integers(0, 7, 60).astype(float)
    pairs = outliers[:, None] - normal
    assert auroc(outliers, normal) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert auroc(normal, outliers) == pytest.approx(1 - auroc(outliers, normal))
    assert auroc(normal, normal) == pytest.approx(0.5)


def test_areas_of_many_samples_at_once_are_those_of_each() -> None:
    random = np.random.default_rng(1)
    outliers, normal = random.standard_normal((5, 40)) + 1, random.standard_normal((5, 30))
    each = [auroc(one, other) for one, other in zip(outliers, normal, strict=True)]
    np.testing.assert_allclose(auroc(outliers, normal), each)


def test_the_interval_holds_the_true_area_about_as_often_as_it_says() -> None:
    """The area of two unit normals whose means are 1 apart is Phi(1 / sqrt 2) = 0.7602."""
    random, hits = np.random.default_rng(2), 0
    for _ in range(60):
        outliers, normal = random.standard_normal(80) + 1, random.standard_normal(120)
        metric = auroc_metric(outliers, normal, "")
        assert metric.interval is not None
        low, high = metric.interval
        assert low <= metric.value <= high
        hits += low <= 0.7602 <= high
    assert hits >= 51  # of 60 at 95 %: fewer in 1 of 2000 cases


@pytest.mark.parametrize("sides", [(10, 10), (20, 100), (100, 20)])
def test_the_interval_holds_the_true_area_as_often_where_samples_seldom_overlap(
    sides: tuple[int, int],
) -> None:
    """The area is 0.95 where one outlier in twenty surprises less than every normal item."""
    random, hits = np.random.default_rng(4), 0
    for _ in range(60):
        outliers = np.where(random.random(sides[0]) < 0.05, -9, 9) + random.random(sides[0])
        interval = auroc_metric(outliers, random.random(sides[1]), "").interval
        assert interval is not None
        hits += interval[0] <= 0.95 <= interval[1]
    assert hits >= 51  # of 60 at 95 %: fewer in 1 of 2000 cases


def test_sides_that_do_not_overlap_have_the_exact_interval_of_disjoint_pairs() -> None:
    """If k of k pairs are in order, their share is above 0.025 ** (1 / k), at 95 % on two sides."""
    low, high = np.arange(10.0), np.arange(10.0, 40.0)
    above, below = auroc_metric(high, low, ""), auroc_metric(low, high, "")
    assert above.interval is not None
    assert below.interval is not None
    np.testing.assert_allclose(above.interval, [0.025 ** (1 / 10), 1])
    np.testing.assert_allclose(below.interval, [0, 1 - 0.025 ** (1 / 10)])
    assert above.standard_error is below.standard_error is None


def test_a_single_outlier_has_an_area_and_no_interval() -> None:
    metric = auroc_metric(np.array([0.5]), np.array([0.0, 1.0]), "")
    assert (metric.value, metric.interval, metric.standard_error) == (0.5, None, None)


def test_the_share_of_flagged_normal_items_keeps_within_its_band() -> None:
    """Calibration and test items of one law, three hundred times over."""
    random, inside = np.random.default_rng(3), 0
    low, high = flagged_band(400, 0.05, 99)
    for _ in range(300):
        p_values = Calibration(random.standard_normal(99)).p_values(random.standard_normal(400))
        inside += low <= (p_values <= 0.05).mean() <= high
    assert inside >= 290  # of 300 at 99 %: fewer in 1 of 1000 cases
    assert low < 0.05 < high


def test_more_calibration_items_narrow_the_band() -> None:
    bands = [flagged_band(10_000, 0.05, n) for n in (99, 999, 9_999)]
    widths = [high - low for low, high in bands]
    assert widths == sorted(widths, reverse=True)


def test_every_statistic_is_judged_on_every_kind_of_unseen_outliers() -> None:
    def surprises(items: Items) -> dict[Statistic, Doubles]:
        flat = items.reshape(len(items), -1).astype(np.float64)
        return {"elbo": flat.std(axis=1), "path": -flat.std(axis=1)}

    scorer, dataset = (
        StatisticScorer(surprises, "elbo", CalibrationOptions()),
        dataset_for("continuous-bernoulli"),
    )
    metrics = judge(scorer, "unit_interval", dataset, surprises(dataset.items["test"]))
    kinds = [name.removeprefix("auroc_elbo_") for name in metrics if name.startswith("auroc_elbo_")]
    assert "constants" in kinds
    for kind in kinds:
        both = [metrics[f"auroc_{name}_{kind}"].value for name in ("elbo", "path")]
        assert sum(both) == pytest.approx(1)
    assert metrics["auroc_path_constants"].value == 1
