"""What generated items are held against, by the kind of data. Shapes: N items of each kind, F features."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from service.format.manifest import Metric
from training.data import Dataset, Items
from training.data.points import MODES
from training.metrics.classes import Counts, class_divergence, class_divergence_floor
from training.metrics.classifier import FashionClassifier, Judgement
from training.metrics.distances import SUBSET_ROWS, Estimate, frechet_distance, kernel_distance
from training.metrics.modes import (
    high_quality_ceiling,
    measure_modes,
    reverse_kl_floor,
    truncated_deviation_ratio,
)
from training.metrics.neighbours import Comparison, K, SameKind, compare, nearer_to_training, same_kind

Floats = npt.NDArray[np.floating[Any]]

_CLASSES = 10


class Measured(NamedTuple):
    """What there is to say of some items."""

    metrics: dict[str, Metric]
    class_counts: Counts | None = None
    """How many the classifier takes for each class; None where there is no classifier."""


class Evaluator(Protocol):
    """Measures items that are given in place of real ones."""

    rows: int
    """How many to give, so that figures can be compared."""
    stand_in: Items
    """As many training items, whose figures are what a generator can at best hope for."""

    def measure(self, items: Items) -> Measured:
        """Measure items (rows, *item)."""


class GarmentEvaluator:
    """Grey pictures of garments, held against test items in the features of the shipped classifier."""

    def __init__(self, dataset: Dataset, rows: int, seed: int) -> None:
        self.rows = rows
        self.stand_in = dataset.items["train"][:rows]
        self._test = dataset.items["test"][:rows]
        # other ones than the stand-in, which would be found to be nearest to itself
        self._training = dataset.items["train"][rows : 2 * rows]
        self._classifier = FashionClassifier()
        self._seed = seed

    @cached_property
    def _real(self) -> Judgement:
        """The test items, judged."""
        return self._classifier.judge(self._test)

    @cached_property
    def _among_real(self) -> SameKind:
        return same_kind(self._real.features)

    def measure(self, items: Items) -> Measured:
        """Distances, neighbours, classes, and how near the items are to training items."""
        random = np.random.default_rng(self._seed)
        judged = self._classifier.judge(items)
        where = f"{self.rows:,} against {self.rows:,} test items, features of fashion classifier 1"
        compared = compare(self._real.features, judged.features, self._among_real, same_kind(judged.features))
        memory = nearer_to_training(*(_flat(each) for each in (items, self._training, self._test)))
        counts = np.bincount(judged.classes, minlength=_CLASSES)
        metrics = {
            **self._distances(judged.features, where, random),
            **_neighbour_metrics(compared, where),
            **self._classes(counts, random),
            "nearer_to_training": _share(
                memory,
                f"nearer in pixels to one of {self.rows:,} training than of {self.rows:,} test items; "
                "0.5 is fair, more is memory",
            ),
        }
        return Measured(metrics, counts)

    def _distances(self, features: Floats, where: str, random: np.random.Generator) -> dict[str, Metric]:
        return {
            "frechet_distance_fashion1": _estimated(
                frechet_distance(self._real.features, features, random),
                "squared feature units",
                f"FD (fashion classifier 1), no Inception FID: {where}",
            ),
            "kernel_distance_fashion1": _estimated(
                kernel_distance(self._real.features, features, random),
                "squared kernel units",
                f"KD (fashion classifier 1), unbiased, cubic kernel: {where}, in subsets of {SUBSET_ROWS:,}",
            ),
        }

    def _classes(self, counts: Counts, random: np.random.Generator) -> dict[str, Metric]:
        real = np.bincount(self._real.classes, minlength=_CLASSES)
        chance = class_divergence_floor(_CLASSES, self.rows, self.rows)
        return {
            "class_divergence": _estimated(
                class_divergence(real, counts, random),
                "nats",
                f"KL(generated || test) of the classes that fashion classifier 1 sees, {self.rows:,} each; "
                f"{chance:.2g} by chance",
            ),
            "classes_captured": Metric(
                value=int((counts > 0).sum()), unit="classes", note=f"of {_CLASSES}, by the same"
            ),
        }


class PointEvaluator:
    """Points of a known mixture in the plane, held against its modes and against test items."""

    def __init__(self, dataset: Dataset, rows: int) -> None:
        self.rows = rows
        self.stand_in = dataset.items["train"][:rows]
        self._test = dataset.items["test"][:rows]
        self._modes = MODES[dataset.name]()

    def measure(self, items: Items) -> Measured:
        """The modes, and how well a nearest neighbour tells the items from test items."""
        compared = compare(self._test, items, same_kind(self._test), same_kind(items))
        where = f"{self.rows:,} against as many test items"
        return Measured(self.modes(items) | _recognised_metrics(compared, where))

    def modes(self, items: Items) -> dict[str, Metric]:
        """How the items lie about the mixture's modes."""
        report = measure_modes(items, self._modes.centres, self._modes.deviation)
        where = f"{self.rows:,} samples, {report.modes} modes"
        share, good = report.high_quality_share, max(1.0, report.high_quality_share * self.rows)
        metrics = {
            "modes_captured": Metric(
                value=report.modes_captured, unit="modes", note=f"{where}, with a sample within 3 deviations"
            ),
            "high_quality_share": Metric(
                value=share,
                standard_error=math.sqrt(share * (1 - share) / self.rows),
                unit="share",
                note=f"{where}, within 3 deviations of one; {high_quality_ceiling():.4f} of the mixture "
                "itself",
            ),
            "reverse_kl": Metric(
                value=report.reverse_kl,
                standard_error=report.reverse_kl_error,
                unit="nats",
                note="KL(those samples over modes || uniform); "
                f"{reverse_kl_floor(report.modes, self.rows):.2g} by chance",
            ),
        }
        if not math.isnan(report.deviation_ratio):
            metrics["deviation_ratio"] = Metric(
                value=report.deviation_ratio,
                standard_error=report.deviation_ratio / math.sqrt(4 * good),
                unit="ratio",
                note="standard deviation within a mode over the true one, mean over modes; "
                f"{truncated_deviation_ratio():.4f} of the mixture itself; least "
                f"{report.least_deviation_ratio:.3f}, largest {report.largest_deviation_ratio:.3f}",
            )
        return metrics


class ItemEvaluator:
    """Any other data, held against test items value by value; tables in standard deviations of a feature."""

    def __init__(self, dataset: Dataset, rows: int) -> None:
        self.rows = rows
        self.stand_in = dataset.items["train"][:rows]
        self._scaling = dataset.scaling
        self._test = self._values(dataset.items["test"][:rows])

    def measure(self, items: Items) -> Measured:
        """Neighbours only: there is no space of features that is known to be better."""
        values = self._values(items)
        compared = compare(self._test, values, same_kind(self._test), same_kind(values))
        space = "pixels" if self._scaling is None else "standardised features"
        where = f"{self.rows:,} against {self.rows:,} test items, {space}"
        return Measured(_neighbour_metrics(compared, where))

    def _values(self, items: Items) -> Floats:
        scaled = items if self._scaling is None else (items - self._scaling.shift) / self._scaling.scale
        return _flat(scaled)


def _flat(items: Floats) -> Floats:
    return items.reshape(len(items), -1)


def _neighbour_metrics(compared: Comparison, where: str) -> dict[str, Metric]:
    where = f"{where}, k = {K}"
    return {
        "precision": _share(compared.precision, f"of generated items in a ball of real ones: {where}"),
        "recall": _share(compared.recall, f"of real items in a ball of generated ones: {where}"),
        "density": _share(compared.density, f"real balls that a generated item is in, over k: {where}"),
        "coverage": _share(compared.coverage, f"of real items whose ball holds a generated one: {where}"),
        **_recognised_metrics(compared, where),
    }


def _recognised_metrics(compared: Comparison, where: str) -> dict[str, Metric]:
    note = f"{{}} items whose nearest neighbour is of their kind, 0.5 ideal: {where}"
    return {
        "real_recognised": _share(compared.real_recognised, note.format("real")),
        "generated_recognised": _share(compared.generated_recognised, note.format("generated")),
    }


def _estimated(estimate: Estimate, unit: str, note: str) -> Metric:
    return Metric(value=estimate.value, standard_error=estimate.standard_error, unit=unit, note=note)


def _share(values: npt.NDArray[np.float64], note: str) -> Metric:
    """The mean of what each item adds; its error is that of these items, the others given."""
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return Metric(value=float(values.mean()), standard_error=error, unit="share", note=note)
