"""Test figures of a VAE: both bounds and their terms, in nats per item.

Sums over items divided by the number of items, never means of batch means. Shapes: N items, K draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from service.format.manifest import DISCRETE, Metric
from training.data import Dataset
from training.evaluation.mean import mean_metric
from training.models.networks import parameter_count
from training.models.vae import Vae, elbo, importance_bound, reconstruct, score_terms, with_fixed_prior
from training.options import EvaluationOptions

ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if its posterior mean varies more than this over the data."""
_ROWS_TIMES_DRAWS = 4096
"""Decoder rows in one batch: enough to be fast, small enough for any machine."""
_SAMPLED_AT_ONCE = 1024
"""The same where nothing but the likelihood is wanted: fewer stay in the processor's cache."""

Watch = Callable[[int], None]
"""Told how many test items are done."""


class LogLikelihood(NamedTuple):
    """Importance-sampled log p(x) of N items, each (N,) float64."""

    value: Tensor
    """Nats; a lower bound in expectation, which rises to log p(x) with K."""
    effective_draws: Tensor
    """(sum w)^2 / sum w^2 of the K importance weights, 1 to K. Source: Kong 1992."""


def importance_sampled(vae: Vae, items: Tensor, draws: int, seed: int, watch: Watch) -> LogLikelihood:
    """Estimate log p(x) of items (N, *item) with `draws` draws from the posterior of each.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8 with K = `draws`.
    """
    generator = torch.Generator().manual_seed(seed)
    values, effective = [], []
    for batch in torch.split(items, max(1, _SAMPLED_AT_ONCE // draws)):
        weights = []
        for first in range(0, draws, _SAMPLED_AT_ONCE):
            count = min(_SAMPLED_AT_ONCE, draws - first)
            eps = torch.randn(len(batch), count, vae.latent, generator=generator)
            terms = score_terms(vae, batch, eps)
            weights.append(terms.log_weights.double())
        log_weights = torch.cat(weights, dim=1)
        total = torch.logsumexp(log_weights, 1)
        values.append(total - math.log(draws))
        effective.append(torch.exp(2 * total - torch.logsumexp(2 * log_weights, 1)))
        watch(len(batch))
    return LogLikelihood(torch.cat(values), torch.cat(effective))


def evaluate_vae(vae: Vae, dataset: Dataset, options: EvaluationOptions, watch: Watch) -> dict[str, Metric]:
    """Bounds on log p(x) over the test split: the ELBO's and, with many more draws, the likelihood's.

    Raises:
        SupportError: Test items have values outside of the likelihood's support.
    """
    items = torch.from_numpy(dataset.items["test"][: options.rows])
    vae.likelihood.check_support(items)
    discrete, size = vae.likelihood.support in DISCRETE, math.prod(dataset.item_shape)
    with torch.no_grad():
        vae = with_fixed_prior(vae)
        metrics = _bounds(vae, items, options)
        metrics["reconstruction_mse"] = _reconstruction_error(vae, items, dataset)
        if discrete:
            metrics["bits_per_dimension"] = _in_bits(metrics["elbo"], -size, "of the ELBO")
        if options.likelihood_draws:
            chosen = items[: options.likelihood_rows]
            estimate = importance_sampled(vae, chosen, options.likelihood_draws, options.seed, watch)
            metrics |= _likelihood_figures(estimate, options)
            if discrete:
                nats = metrics["negative_log_likelihood"]
                metrics["bits_per_dimension_sampled"] = _in_bits(nats, size, nats.note)
    metrics["encoder_parameters"] = Metric(value=parameter_count(vae.encoder), unit="parameters")
    metrics["decoder_parameters"] = Metric(value=parameter_count(vae.decoder), unit="parameters")
    return metrics


def _bounds(vae: Vae, items: Tensor, options: EvaluationOptions) -> dict[str, Metric]:
    generator = torch.Generator().manual_seed(options.seed)
    columns: dict[str, list[Tensor]] = {"elbo": [], "log_likelihood": [], "kl": [], "importance_bound": []}
    means = []
    for batch in torch.split(items, max(1, _ROWS_TIMES_DRAWS // options.draws)):
        eps = torch.randn(len(batch), options.draws, vae.latent, generator=generator)
        terms = score_terms(vae, batch, eps)
        columns["log_likelihood"].append(terms.log_likelihood.double().mean(1))
        columns["kl"].append(terms.kl.double())
        columns["elbo"].append(elbo(terms).double())
        columns["importance_bound"].append(importance_bound(terms).double())
        mean, _ = vae.encode(batch)
        means.append(mean)
    analytic = "analytic" if vae.components() is None else "from the same draws"
    notes = {
        "elbo": f"test split, {options.draws} draws per item, seed {options.seed}",
        "log_likelihood": "the ELBO's first term, E_q[log p(x|z)]",
        "kl": f"the ELBO's second term, KL(q(z|x) || p(z)), {analytic}",
        "importance_bound": f"test split, importance-weighted, K = {options.draws}",
    }
    metrics = {
        name: mean_metric(torch.cat(values), "nats/item", notes[name]) for name, values in columns.items()
    }
    metrics["active_units"] = Metric(
        value=int((torch.cat(means).var(0) > ACTIVE_VARIANCE).sum()),
        unit="latent dimensions",
        note=f"variance of the posterior mean above {ACTIVE_VARIANCE}",
    )
    return metrics


def _reconstruction_error(vae: Vae, items: Tensor, dataset: Dataset) -> Metric:
    """How far decoded posterior means are from their items; tables in standard deviations of each feature."""
    scale = torch.ones(()) if dataset.scaling is None else torch.from_numpy(dataset.scaling.scale)
    unit = "squared pixel value" if dataset.scaling is None else "squared standard deviations"
    squares = []
    for batch in torch.split(items, _ROWS_TIMES_DRAWS):
        gaps = (reconstruct(vae, batch) - batch) / scale
        squares.append(gaps.double().square().flatten(1).mean(1))
    return mean_metric(torch.cat(squares), unit, "decoded posterior mean against the item")


def _likelihood_figures(estimate: LogLikelihood, options: EvaluationOptions) -> dict[str, Metric]:
    """The mean negative log-likelihood; its standard error is the test split's, the note has the draws'."""
    draws = options.likelihood_draws
    # the delta method: the variance of log of the mean weight is that of the mean weight over its square
    variances = (1 / estimate.effective_draws - 1 / draws).clamp(min=0)
    monte_carlo = float(variances.sum().sqrt() / len(variances))
    note = f"test split, {len(estimate.value)} items, importance-sampled, K = {draws}, seed {options.seed}"
    return {
        "negative_log_likelihood": mean_metric(
            -estimate.value, "nats/item", f"{note}; Monte Carlo error {monte_carlo:.2g} of it"
        ),
        "effective_draws": Metric(
            value=float(estimate.effective_draws.median()),
            unit="draws",
            note=f"median over items, of K = {draws}; least {float(estimate.effective_draws.min()):.3g}",
        ),
    }


def _in_bits(nats: Metric, size: int, note: str) -> Metric:
    """A negative log-likelihood in nats over `size` values, in bits each; of a log-likelihood, over -size."""
    scale = 1 / (size * math.log(2))
    error = None if nats.standard_error is None else nats.standard_error * abs(scale)
    return Metric(value=nats.value * scale, standard_error=error, unit="bits/dimension", note=note)
