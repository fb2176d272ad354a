"""The figures that are measured on each kind of data, and defects of a generator that show in them."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from service.format.specs import Metric
from training.data import SPLITS, Dataset, Items, Scaling, load_dataset
from training.data.options import DataOptions
from training.data.points import MODES
from training.metrics.evaluators import GarmentEvaluator, ItemEvaluator, PointEvaluator
from training.metrics.measure import make_evaluator, measure_quality
from training.metrics.modes import high_quality_ceiling
from training.metrics.monitor import make_monitor

ROWS = 2000


def cut(dataset: Dataset, rows: int) -> Dataset:
    """The same data, with fewer rows of every split but twice as many to train on."""
    return dataclasses.replace(
        dataset,
        items={split: dataset.items[split][: 2 * rows if split == "train" else rows] for split in SPLITS},
        labels={split: dataset.labels[split][: 2 * rows if split == "train" else rows] for split in SPLITS},
    )


@pytest.fixture(scope="module")
def few_garments(garments: Dataset) -> Dataset:
    return cut(garments, ROWS)


def errors_away(metric: Metric, value: float) -> float:
    assert metric.standard_error is not None
    return (metric.value - value) / metric.standard_error


@pytest.mark.slow
def test_fresh_garments_are_as_good_as_the_training_sample(garments: Dataset, few_garments: Dataset) -> None:
    fresh = garments.items["train"][-ROWS:]
    figures = measure_quality(lambda rows: fresh[:rows], few_garments)
    for name in ("frechet_distance_fashion1", "kernel_distance_fashion1", "precision", "coverage"):
        floor = figures[f"{name}_floor"]
        spread = math.hypot(floor.standard_error or 0, figures[name].standard_error or 0)
        assert abs(figures[name].value - floor.value) < 4 * spread
    assert figures["classes_captured"].value == 10
    assert figures["class_divergence"].value < 0.01
    for name in ("nearer_to_training", "generated_recognised", "real_recognised"):
        assert figures[name].value == pytest.approx(0.5, abs=0.06)


@pytest.mark.slow
def test_blurred_noisy_forgetful_and_repeating_generators_are_each_found_out(few_garments: Dataset) -> None:
    evaluator = make_evaluator(few_garments)
    assert isinstance(evaluator, GarmentEvaluator)
    train, labels = few_garments.items["train"], few_garments.labels["train"]
    floor = evaluator.measure(evaluator.stand_in).metrics

    shifted = [np.roll(evaluator.stand_in, shift, axis=3) for shift in (-2, -1, 0, 1, 2)]
    blurred = evaluator.measure(np.mean(shifted, axis=0, dtype=np.float32)).metrics
    for name in ("frechet_distance_fashion1", "kernel_distance_fashion1"):
        assert errors_away(blurred[name], floor[name].value) > 5

    noise = np.random.default_rng(0).normal(0, 0.3, evaluator.stand_in.shape)
    noisy = evaluator.measure((evaluator.stand_in + noise).clip(0, 1).astype(np.float32)).metrics
    assert errors_away(noisy["precision"], floor["precision"].value) < -5

    easily_told = np.isin(labels, (1, 5, 7, 8, 9))
    forgetful = evaluator.measure(np.resize(train[easily_told], train[:ROWS].shape))
    assert forgetful.metrics["class_divergence"].value == pytest.approx(math.log(2), abs=0.1)
    assert errors_away(forgetful.metrics["recall"], floor["recall"].value) < -5
    assert errors_away(forgetful.metrics["coverage"], floor["coverage"].value) < -5
    assert forgetful.class_counts is not None
    assert forgetful.class_counts.sum() == ROWS

    repeated = evaluator.measure(train[ROWS:])
    assert repeated.metrics["nearer_to_training"].value > 0.99


@pytest.mark.slow
def test_equal_seeds_give_equal_figures(few_garments: Dataset) -> None:
    evaluators = (make_evaluator(few_garments, seed=3) for _ in range(2))
    first, second = (each and each.measure(few_garments.items["validation"]).metrics for each in evaluators)
    assert first
    assert first == second


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_of_a_known_mixture_are_measured_by_its_modes(name: str) -> None:
    dataset = cut(load_dataset(DataOptions.model_validate({"dataset": name})), ROWS)
    modes = MODES[name]()
    points, labels = modes.draw(np.random.default_rng(1), ROWS)
    assert isinstance(make_evaluator(dataset), PointEvaluator)
    figures = measure_quality(lambda rows: points[:rows], dataset)
    for end in ("", "_floor"):
        assert figures[f"modes_captured{end}"].value == len(modes.centres)
        assert abs(errors_away(figures[f"high_quality_share{end}"], high_quality_ceiling())) < 3.5
    assert figures["generated_recognised"].value == pytest.approx(0.5, abs=0.06)

    collapsed = measure_quality(lambda _: points[np.resize(np.flatnonzero(labels == 0), ROWS)], dataset)
    assert collapsed["modes_captured"].value == 1
    assert collapsed["reverse_kl"].value == pytest.approx(math.log(len(modes.centres)))
    nowhere = measure_quality(lambda rows: np.full((rows, 2), 50, np.float32), dataset)
    assert "deviation_ratio" not in nowhere
    assert nowhere["high_quality_share"].value == 0


def test_the_reverse_kl_by_chance_is_that_of_the_samples_it_counts() -> None:
    dataset = cut(load_dataset(DataOptions.model_validate({"dataset": "ring"})), ROWS)
    points, _ = MODES["ring"]().draw(np.random.default_rng(1), 100)
    far = np.full((ROWS - len(points), 2), 50, np.float32)
    figures = measure_quality(lambda _: np.concatenate([points, far]), dataset)
    good = round(figures["high_quality_share"].value * ROWS)
    assert figures["reverse_kl"].note.endswith(f"; {7 / (2 * good):.2g} by chance for {good}")


def test_binary_garments_and_other_pictures_are_measured_in_pixels(
    digits: Dataset, garments: Dataset
) -> None:
    binary = cut(garments, 300)
    binary = dataclasses.replace(binary, items={split: binary.items[split].round() for split in SPLITS})
    assert isinstance(make_evaluator(binary), ItemEvaluator)
    figures = measure_quality(lambda rows: digits.items["validation"][:rows], digits)
    assert "pixels" in figures["coverage"].note
    assert figures.keys() == {f"{name}{end}" for name in _NEIGHBOURS for end in ("", "_floor")}


def test_garments_of_some_classes_are_measured_in_pixels_and_not_by_the_classes_of_all() -> None:
    kept = cut(load_dataset(DataOptions(dataset="fashion-mnist", keep=("Bag", "Sandal"))), ROWS)
    assert isinstance(make_evaluator(kept), ItemEvaluator)
    assert make_monitor(kept) is None


@pytest.mark.parametrize("name", ["ring", "grid", "fashion-mnist"])
def test_a_file_with_the_name_of_built_in_data_is_measured_as_any_other(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.npy"
    np.save(path, np.random.default_rng(0).standard_normal((500, 3)))
    own = load_dataset(DataOptions(dataset="arrays", path=path))
    assert own.name == name
    assert isinstance(make_evaluator(own), ItemEvaluator)
    assert make_monitor(own) is None


_NEIGHBOURS = ("precision", "recall", "density", "coverage", "real_recognised", "generated_recognised")


def test_tables_are_measured_in_standard_deviations() -> None:
    grid = cut(load_dataset(DataOptions.model_validate({"dataset": "grid"})), 500)
    factor = np.array([1.0, 1e6], np.float32)
    assert grid.scaling is not None
    plain = dataclasses.replace(grid, kind="table")
    stretched = dataclasses.replace(
        plain,
        items={split: grid.items[split] * factor for split in SPLITS},
        scaling=Scaling(grid.scaling.shift * factor, grid.scaling.scale * factor),
    )
    figures = measure_quality(lambda rows: plain.items["validation"][:rows], plain)
    same = measure_quality(lambda rows: stretched.items["validation"][:rows], stretched)
    assert figures["coverage"].value == pytest.approx(same["coverage"].value, abs=0.01)


def test_a_handful_of_test_items_says_nothing(few_garments: Dataset) -> None:
    def drawn(_: int) -> Items:
        raise AssertionError("nothing has to be drawn")

    assert measure_quality(drawn, cut(few_garments, 99)) == {}
