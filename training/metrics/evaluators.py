"""Evaluators: measure generated items against real ones, by kind of data. Shapes: N items, F features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import numpy as np

from service.format.specs import Metric
from service.numerics.noise import Doubles
from training.data import Dataset, Items
from training.data.dataset import FloatArray
from training.data.points import MODES
from training.metrics.classes import Counts, class_divergence, class_divergence_floor
from training.metrics.classifier import CLASSES, Classification, FashionClassifier
from training.metrics.distances import SUBSET_ROWS, frechet_distance, kernel_distance
from training.metrics.modes import (
    high_quality_ceiling,
    measure_modes,
    reverse_kl_floor,
    truncated_deviation_ratio,
)
from training.metrics.neighbours import Comparison, K, SameKind, compare, nearer_to_training, same_kind


class QualityReport(NamedTuple):
    """Figures of some items."""

    metrics: dict[str, Metric]
    class_counts: Counts | None = None
    """Items per class, (C,), as the classifier sees them; None without a classifier."""


class Evaluator(ABC):
    """Measures generated items against test items."""

    def __init__(self, dataset: Dataset, rows: int) -> None:
        self.rows = rows
        """The number of items to measure, so that figures can be compared."""
        self.stand_in = dataset.items["train"][:rows]
        """Training items, just as many; their figures are the best that a generator can hope for."""
        self._test = dataset.items["test"][:rows]

    @abstractmethod
    def measure(self, items: Items) -> QualityReport:
        """Measure items (rows, *item)."""


class GarmentEvaluator(Evaluator):
    """Measures grey garments in the features of the shipped classifier."""

    def __init__(self, dataset: Dataset, rows: int, seed: int) -> None:
        super().__init__(dataset, rows)
        # not the stand-in's items, because each would be its own nearest neighbour
        self._training = dataset.items["train"][rows : 2 * rows]
        self._classifier = FashionClassifier()
        self._seed = seed

    @cached_property
    def _real(self) -> Classification:
        return self._classifier.classify(self._test)

    @cached_property
    def _among_real(self) -> SameKind:
        return same_kind(self._real.features)

    def measure(self, items: Items) -> QualityReport:
        """Measure distances, neighbours, classes, and how near the items are to training items."""
        random, real, found = np.random.default_rng(self._seed), self._real, self._classifier.classify(items)
        counts, real_counts = (np.bincount(each.classes, minlength=CLASSES) for each in (found, real))
        captured = int((counts > 0).sum())
        chance = class_divergence_floor(CLASSES, self.rows, self.rows)
        where = f"{self.rows:,} against {self.rows:,} test items, features of fashion classifier 1"
        metrics = {
            "frechet_distance_fashion1": _metric(
                *frechet_distance(real.features, found.features, random),
                "squared feature units",
                f"FD (fashion classifier 1), no Inception FID: {where}",
            ),
            "kernel_distance_fashion1": _metric(
                *kernel_distance(real.features, found.features, random),
                "squared kernel units",
                f"KD (fashion classifier 1), unbiased, cubic kernel: {where}, in subsets of {SUBSET_ROWS:,}",
            ),
            **_neighbour_metrics(compare(self._among_real, same_kind(found.features)), where),
            "class_divergence": _metric(
                *class_divergence(real_counts, counts, random),
                "nats",
                f"KL(generated || test) of the classes that fashion classifier 1 sees, {self.rows:,} each; "
                f"{chance:.2g} by chance",
            ),
            "classes_captured": Metric(value=captured, unit="classes", note=f"of {CLASSES}, by the same"),
            "nearer_to_training": _share(
                nearer_to_training(*(_flat(each) for each in (items, self._training, self._test))),
                f"nearer in pixels to one of {self.rows:,} training than of {self.rows:,} test items; "
                "0.5 is fair, more is memory",
            ),
        }
        return QualityReport(metrics, counts)


class PointEvaluator(Evaluator):
    """Measures points of a known mixture in the plane, also against its modes."""

    def __init__(self, dataset: Dataset, rows: int) -> None:
        super().__init__(dataset, rows)
        self._modes = MODES[dataset.kind]()

    def measure(self, items: Items) -> QualityReport:
        """Measure the modes, and how well a nearest neighbour separates the items from test items."""
        compared = compare(same_kind(self._test), same_kind(items))
        where = f"{self.rows:,} against as many test items"
        return QualityReport(self.modes(items) | _recognised_metrics(compared, where))

    def modes(self, items: Items) -> dict[str, Metric]:
        """Measure how the items cover the mixture's modes."""
        report = measure_modes(items, self._modes.centres, self._modes.deviation)
        where = f"{self.rows:,} samples, {report.modes} modes"
        share = report.high_quality_share
        good = max(1, round(share * self.rows))
        chance = reverse_kl_floor(report.modes, good)
        metrics = {
            "modes_captured": Metric(
                value=report.modes_captured, unit="modes", note=f"{where}, with a sample within 3 deviations"
            ),
            "high_quality_share": _metric(
                share,
                math.sqrt(share * (1 - share) / self.rows),
                "share",
                f"{where}, within 3 deviations of one; {high_quality_ceiling():.4f} of the mixture itself",
            ),
            "reverse_kl": _metric(
                report.reverse_kl,
                report.reverse_kl_error,
                "nats",
                f"KL(those samples over modes || uniform); {chance:.2g} by chance for {good:,}",
            ),
        }
        if not math.isnan(report.deviation_ratio):
            metrics["deviation_ratio"] = _metric(
                report.deviation_ratio,
                report.deviation_ratio / math.sqrt(4 * good),
                "ratio",
                "standard deviation within a mode over the true one, mean over modes; "
                f"{truncated_deviation_ratio():.4f} of the mixture itself; least "
                f"{report.least_deviation_ratio:.3f}, largest {report.largest_deviation_ratio:.3f}",
            )
        return metrics


class ItemEvaluator(Evaluator):
    """Measures any other data value by value; tables in standard deviations of each feature."""

    def __init__(self, dataset: Dataset, rows: int) -> None:
        super().__init__(dataset, rows)
        self._scaling = dataset.scaling
        self._real = same_kind(self._values(self._test))

    def measure(self, items: Items) -> QualityReport:
        """Measure neighbours only: no better space of features is known."""
        compared = compare(self._real, same_kind(self._values(items)))
        space = "pixels" if self._scaling is None else "standardised features"
        where = f"{self.rows:,} against {self.rows:,} test items, {space}"
        return QualityReport(_neighbour_metrics(compared, where))

    def _values(self, items: Items) -> FloatArray:
        return _flat(items if self._scaling is None else self._scaling.standardised(items))


def _flat(items: FloatArray) -> FloatArray:
    return items.reshape(len(items), -1)


def _neighbour_metrics(compared: Comparison, where: str) -> dict[str, Metric]:
    where = f"{where}, k = {K}"
    return {
        "precision": _share(compared.precision, f"of generated items in a ball of real ones: {where}"),
        "recall": _share(compared.recall, f"of real items in a ball of generated ones: {where}"),
        "density": _share(
            compared.density, f"real balls that a generated item is in, over k: {where}", "ratio"
        ),
        "coverage": _share(compared.coverage, f"of real items whose ball holds a generated one: {where}"),
        **_recognised_metrics(compared, where),
    }


def _recognised_metrics(compared: Comparison, where: str) -> dict[str, Metric]:
    note = f"{{}} items whose nearest neighbour is of their kind, 0.5 ideal: {where}"
    return {
        "real_recognised": _share(compared.real_recognised, note.format("real")),
        "generated_recognised": _share(compared.generated_recognised, note.format("generated")),
    }


def _metric(value: float, standard_error: float, unit: str, note: str) -> Metric:
    return Metric(value=value, standard_error=standard_error, unit=unit, note=note)


def _share(values: Doubles, note: str, unit: str = "share") -> Metric:
    """Return the mean of the items' contributions with its standard error, the other items fixed."""
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return _metric(float(values.mean()), error, unit, note)
