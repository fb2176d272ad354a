"""Measures a GAN on the test split: quality and diversity of its items, its discriminator and its encoder."""

from __future__ import annotations

import numpy as np
import torch

from service.format.specs import DiscriminatorSpec, Metric
from training.data import Dataset, Items
from training.evaluation.discriminator import SELECTION_RULES, Discrimination, calibrate_discriminator, select
from training.evaluation.mean import mean_metric
from training.metrics.evaluators import PointEvaluator
from training.metrics.measure import make_evaluator, measure_quality
from training.metrics.names import MetricName
from training.models.conditions import in_batches
from training.models.gan import Gan
from training.models.networks import parameter_count
from training.options import EvaluationOptions, GanOptions

_ROWS = 500


def evaluate_gan(
    gan: Gan, objective: GanOptions, dataset: Dataset, options: EvaluationOptions
) -> dict[str, Metric]:
    """Measure the quality and diversity of items, the discriminator, and the encoder if there is one.

    With a class condition, items have the classes of test items.
    """
    generator = torch.Generator().manual_seed(options.seed)

    def draw(count: int) -> Items:
        latents, labels = gan.draw(count, generator), np.resize(dataset.labels["test"], count)
        batches = in_batches(gan, labels, _ROWS)
        return np.concatenate([model.decode(latents[rows]).numpy() for model, rows in batches])

    with torch.no_grad():
        metrics = measure_quality(draw, dataset, seed=options.seed)
        if DiscriminatorSpec(objective=objective.objective, packing=objective.packing).flaw is None:
            found = calibrate_discriminator(gan, dataset, options.seed)
            metrics |= found.metrics()
            if not gan.classes:  # with them each mode is asked for by its class
                metrics |= _selected_figures(gan, found, dataset, options.seed)
        if gan.encoder is not None:
            metrics |= _encoder_figures(gan, dataset, options)
    metrics["generator_parameters"] = Metric(value=parameter_count(gan.generator), unit="parameters")
    metrics["discriminator_parameters"] = Metric(value=parameter_count(gan.discriminator), unit="parameters")
    return metrics


def _selected_figures(gan: Gan, found: Discrimination, dataset: Dataset, seed: int) -> dict[str, Metric]:
    """Measure samples of known modes that the discriminator selected; names end in the method."""
    evaluator = make_evaluator(dataset, seed)
    if not isinstance(evaluator, PointEvaluator):
        return {}
    return {
        str(MetricName(rule, name)): metric
        for rule in SELECTION_RULES
        for name, metric in evaluator.modes(select(gan, found, rule, evaluator.rows, seed)).items()
    }


def _encoder_figures(gan: Gan, dataset: Dataset, options: EvaluationOptions) -> dict[str, Metric]:
    """Measure the distance of G(E(x)) from test items."""
    items = torch.from_numpy(dataset.items["test"][: options.rows])
    batches = in_batches(gan, dataset.labels["test"][: len(items)], _ROWS)
    parts = [model.distances(items[rows]) for model, rows in batches]
    residual, features = (torch.cat(columns).double() for columns in zip(*parts, strict=True))
    unit = "squared pixel value" if dataset.scaling is None else "squared standard deviations"
    layer = "the discriminator's last hidden layer of both"
    return {
        "reconstruction_mse": mean_metric(residual, unit, "G(E(x)) against the item"),
        "feature_distance": mean_metric(features, "mean square", layer),
    }
