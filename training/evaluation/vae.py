"""Test figures of a VAE: both bounds and their terms, in nats per item.

Sums over items divided by the number of items, never means of batch means. Shapes: N items, K draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from service.contract import Metric
from training.data import Dataset
from training.networks import parameter_count
from training.recipe import EvaluationOptions
from training.vae import Vae, importance_bound, score_terms

ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies more than this over the data."""
_ROWS_TIMES_DRAWS = 4096
"""Decoder rows in one batch: enough to be fast, small enough for any machine."""


def evaluate_vae(vae: Vae, dataset: Dataset, options: EvaluationOptions) -> dict[str, Metric]:
    """Bounds on log p(x) over the test split with K = options.draws draws per item."""
    items = torch.from_numpy(dataset.images["test"][: options.rows])
    vae.likelihood.check_support(items)
    generator = torch.Generator().manual_seed(options.seed)
    columns: dict[str, list[Tensor]] = {"elbo": [], "log_likelihood": [], "kl": [], "importance_bound": []}
    means: list[Tensor] = []
    squares: list[Tensor] = []
    with torch.no_grad():
        for batch in torch.split(items, max(1, _ROWS_TIMES_DRAWS // options.draws)):
            eps = torch.randn(len(batch), options.draws, vae.latent, generator=generator)
            terms = score_terms(vae, batch, eps)
            log_likelihood = terms.log_likelihood.double().mean(1)
            columns["log_likelihood"].append(log_likelihood)
            columns["kl"].append(terms.kl.double())
            columns["elbo"].append(log_likelihood - terms.kl.double())
            columns["importance_bound"].append(importance_bound(terms).double())
            mean, _ = vae.encode(batch)
            means.append(mean)
            squares.append(
                (vae.likelihood.mean(vae.decode(mean)) - batch).double().square().flatten(1).mean(1)
            )
    notes = {
        "elbo": f"test split, {options.draws} draws per item",
        "log_likelihood": "the ELBO's first term, E_q[log p(x|z)]",
        "kl": "the ELBO's second term, KL(q(z|x) || p(z)), analytic",
        "importance_bound": f"test split, importance-weighted, K = {options.draws}",
    }
    metrics = {
        name: mean_metric(torch.cat(values), "nats/item", notes[name]) for name, values in columns.items()
    }
    if dataset.binary:
        bits = -torch.cat(columns["elbo"]) / (math.prod(dataset.item_shape) * math.log(2))
        metrics["bits_per_dimension"] = mean_metric(bits, "bits/dimension", "of the ELBO")
    metrics["reconstruction_mse"] = mean_metric(
        torch.cat(squares), "squared pixel value", "decoded posterior mean against the item"
    )
    active = int((torch.cat(means).var(0) > ACTIVE_VARIANCE).sum())
    metrics["active_units"] = Metric(
        value=active, unit="latent dimensions", note=f"variance of the posterior mean above {ACTIVE_VARIANCE}"
    )
    metrics["encoder_parameters"] = Metric(value=parameter_count(vae.encoder), unit="parameters")
    metrics["decoder_parameters"] = Metric(value=parameter_count(vae.decoder), unit="parameters")
    return metrics


def mean_metric(values: Tensor, unit: str, note: str) -> Metric:
    """The mean of independent values (N,) with its standard error."""
    error = float(values.std() / math.sqrt(len(values)))
    return Metric(value=float(values.mean()), standard_error=error, unit=unit, note=note)
