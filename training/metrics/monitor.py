"""Counts the modes or classes that a generator makes, while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from training.data import Dataset
from training.data.points import MODES
from training.metrics.classes import class_divergence
from training.metrics.classifier import CLASSES, FashionClassifier, is_known
from training.metrics.modes import measure_modes

SampleMonitor = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps generated items (N, *item) to scalars by name."""


def make_monitor(dataset: Dataset) -> SampleMonitor | None:
    """Make the monitor that fits the dataset; None if there is none."""
    if dataset.kind in MODES:
        modes = MODES[dataset.kind]()

        def count_modes(points: Tensor) -> Mapping[str, Tensor]:
            report = measure_modes(points.cpu().numpy(), modes.centres, modes.deviation)
            return _tensors(
                modes_captured=report.modes_captured,
                high_quality_share=report.high_quality_share,
                reverse_kl=report.reverse_kl,
                deviation_ratio=report.deviation_ratio,
            )

        return count_modes
    if is_known(dataset):
        classifier = FashionClassifier()
        real = np.bincount(dataset.labels["validation"], minlength=CLASSES)

        def count_classes(pictures: Tensor) -> Mapping[str, Tensor]:
            counts = np.bincount(classifier.classify(pictures.cpu().numpy()).classes, minlength=CLASSES)
            divergence = class_divergence(real, counts, np.random.default_rng(0))
            return _tensors(classes=int(np.count_nonzero(counts)), class_divergence=divergence.value)

        return count_classes
    return None


def _tensors(**figures: float) -> dict[str, Tensor]:
    return {name: torch.tensor(float(value)) for name, value in figures.items()}
