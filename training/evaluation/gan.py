"""Test figures of a GAN: the value of the game on held-out items, and what it says of the divergence."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from service.contract import Metric
from training.data import Dataset
from training.gan import Gan
from training.networks import parameter_count
from training.objectives import jsd_bound, value_function
from training.options import EvaluationOptions

_ROWS = 500


def evaluate_gan(gan: Gan, dataset: Dataset, options: EvaluationOptions) -> dict[str, Metric]:
    """V(G, D) on test items and as many generated ones, neither ever seen by D, and the bound on JSD."""
    items = torch.from_numpy(dataset.items["test"][: options.rows])
    generator = torch.Generator().manual_seed(options.seed)
    latents = torch.randn(len(items), gan.latent, generator=generator)
    real = _in_batches(gan.discriminate, items)
    fake = _in_batches(lambda z: gan.discriminate(gan.decode(z)), latents)
    bound = jsd_bound(real, fake)
    log_real, log_fake = value_function(real, fake)
    return {
        "jsd_lower_bound": Metric(
            value=bound.value,
            standard_error=bound.standard_error,
            unit="nats",
            note="log 2 + V(G, D) / 2 <= JSD(data || generator), log 2 = 0.693 at most; "
            "a weak D makes it loose, so compare it only between equal discriminators",
        ),
        "value": Metric(
            value=2 * (bound.value - math.log(2)),
            standard_error=2 * bound.standard_error,
            unit="nats",
            note="V(G, D) = E[log D(x)] + E[log(1 - D(G(z)))]; -2 log 2 = -1.386 if D cannot tell them apart",
        ),
        "log_d_real": _mean(log_real, "E[log D(x)], test split"),
        "log_one_minus_d_fake": _mean(log_fake, "E[log(1 - D(G(z)))]"),
        "generator_parameters": Metric(value=parameter_count(gan.generator), unit="parameters"),
        "discriminator_parameters": Metric(value=parameter_count(gan.discriminator), unit="parameters"),
    }


def _mean(values: Tensor, note: str) -> Metric:
    error = float(values.double().std() / math.sqrt(len(values)))
    return Metric(value=float(values.double().mean()), standard_error=error, unit="nats", note=note)


def _in_batches(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([function(batch) for batch in torch.split(rows, _ROWS)])
