"""Measures a VAE on the test split: both bounds and their terms, in nats per item.

Figures are means over all items, never means of batch means. Shapes: N items, K draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from service.format.manifest import DISCRETE
from service.format.specs import Metric
from training.data import Dataset, Labels
from training.data.batches import rows_at_once
from training.evaluation.mean import mean_metric
from training.loop.progress import Advance
from training.models.conditions import in_batches
from training.models.networks import parameter_count
from training.models.vae import Vae, elbo, importance_bound, score_terms, with_fixed_prior
from training.options import EvaluationOptions

ACTIVE_VARIANCE = 0.01
"""The variance of a posterior mean over the data above which a latent dimension is active."""
_ROWS_TIMES_DRAWS = 4096
"""Rows that the decoder computes at once: enough to be fast, few enough for any machine."""
_SAMPLED_AT_ONCE = 1024
"""The same if only the likelihood is wanted: fewer rows stay in the processor's cache."""


def evaluate_vae(
    vae: Vae, dataset: Dataset, options: EvaluationOptions, advance: Advance
) -> dict[str, Metric]:
    """Measure bounds on log p(x) over the test split: the ELBO and, with many more draws, the likelihood.

    With a class condition they are bounds on log p(x | class).

    Raises:
        SupportError: Test items have values outside the likelihood's support.
    """
    items, labels = torch.from_numpy(dataset.items["test"][: options.rows]), dataset.labels["test"]
    vae.likelihood.check_support(items)
    discrete, size = vae.likelihood.support in DISCRETE, math.prod(dataset.item_shape)
    with torch.no_grad():
        vae = with_fixed_prior(vae)
        metrics = _bounds(vae, items, labels, options)
        metrics["reconstruction_mse"] = _reconstruction_error(vae, items, dataset)
        if discrete:
            metrics["bits_per_dimension"] = _in_bits(metrics["elbo"], -size, "of the ELBO")
        if options.likelihood_draws:
            rows = items[: options.likelihood_rows]
            metrics |= _likelihood_figures(vae, rows, labels, options, advance)
            if discrete:
                nats = metrics["negative_log_likelihood"]
                metrics["bits_per_dimension_sampled"] = _in_bits(nats, size, nats.note)
    metrics["encoder_parameters"] = Metric(value=parameter_count(vae.encoder), unit="parameters")
    metrics["decoder_parameters"] = Metric(value=parameter_count(vae.decoder), unit="parameters")
    return metrics


def _bounds(vae: Vae, items: Tensor, labels: Labels, options: EvaluationOptions) -> dict[str, Metric]:
    generator = torch.Generator().manual_seed(options.seed)
    parts = []
    at_once = max(1, _rows_at_once(items) // options.draws)
    for model, rows in in_batches(vae, labels[: len(items)], at_once):
        batch = items[rows]
        eps = torch.randn(len(batch), options.draws, vae.latent, generator=generator)
        terms = score_terms(model, batch, eps)
        figures = (elbo(terms), terms.log_likelihood.double().mean(1), terms.kl, importance_bound(terms))
        parts.append((*(each.double() for each in figures), model.encode(batch)[0]))
    *columns, means = (torch.cat(column) for column in zip(*parts, strict=True))
    analytic = "analytic" if vae.components() is None else "from the same draws"
    notes = {
        "elbo": f"test split, {options.draws} draws per item, seed {options.seed}",
        "log_likelihood": "the ELBO's first term, E_q[log p(x|z)]",
        "kl": f"the ELBO's second term, KL(q(z|x) || p(z)), {analytic}",
        "importance_bound": f"test split, importance-weighted, K = {options.draws}",
    }
    metrics = {
        name: mean_metric(values, "nats/item", note)
        for (name, note), values in zip(notes.items(), columns, strict=True)
    }
    active = int((means.var(0) > ACTIVE_VARIANCE).sum())
    note = f"variance of the posterior mean above {ACTIVE_VARIANCE}"
    metrics["active_units"] = Metric(value=active, unit="latent dimensions", note=note)
    return metrics


def _rows_at_once(items: Tensor) -> int:
    return rows_at_once(_ROWS_TIMES_DRAWS, math.prod(items.shape[1:]))


def _reconstruction_error(vae: Vae, items: Tensor, dataset: Dataset) -> Metric:
    """Return the error of decoded posterior means; for tables in standard deviations of each feature."""
    unit = "squared pixel value" if dataset.scaling is None else "squared standard deviations"
    squares = []
    for model, rows in in_batches(vae, dataset.labels["test"][: len(items)], _rows_at_once(items)):
        batch = items[rows]
        gaps = vae.likelihood.residual(model.decode(model.encode(batch)[0]), batch).double().flatten(1)
        there = (~torch.isnan(batch)).flatten(1).sum(1).clamp(min=1)  # a missing value has no gap
        squares.append(gaps.square().sum(1) / there)
    return mean_metric(torch.cat(squares), unit, "decoded posterior mean against the item")


def _likelihood_figures(
    vae: Vae, items: Tensor, labels: Labels, options: EvaluationOptions, advance: Advance
) -> dict[str, Metric]:
    """Estimate -log p(x) of items with K importance-sampled draws; the note has their Monte Carlo error.

    In expectation it is an upper bound, which falls to -log p(x) with K. The effective number of draws is
    (sum w)^2 / sum w^2 of an item's K importance weights, 1 to K (Kong 1992). Source: Burda et al. 2016,
    arXiv:1509.00519, equation 8.
    """
    draws, generator = options.likelihood_draws, torch.Generator().manual_seed(options.seed)
    at_once = rows_at_once(_SAMPLED_AT_ONCE, math.prod(items.shape[1:]))
    surprises, effective_draws = [], []
    for model, rows in in_batches(vae, labels[: len(items)], max(1, at_once // draws)):
        batch, parts = items[rows], []
        for first in range(0, draws, at_once):
            count = min(at_once, draws - first)
            eps = torch.randn(len(batch), count, vae.latent, generator=generator)
            parts.append(score_terms(model, batch, eps).log_weights.double())
        log_weights = torch.cat(parts, dim=1)
        total = torch.logsumexp(log_weights, 1)
        surprises.append(math.log(draws) - total)
        effective_draws.append(torch.exp(2 * total - torch.logsumexp(2 * log_weights, 1)))
        advance(len(batch))
    effective = torch.cat(effective_draws)
    # the delta method: the variance of log of the mean weight is that of the mean weight over its square
    monte_carlo = float((1 / effective - 1 / draws).clamp(min=0).sum().sqrt() / len(items))
    sampled = f"test split, {len(items)} items, importance-sampled, K = {draws}, seed {options.seed}"
    sampled += f"; Monte Carlo error {monte_carlo:.2g} of it"
    median = f"median over items, of K = {draws}; least {float(effective.min()):.3g}"
    return {
        "negative_log_likelihood": mean_metric(torch.cat(surprises), "nats/item", sampled),
        "effective_draws": Metric(value=float(effective.median()), unit="draws", note=median),
    }


def _in_bits(nats: Metric, size: int, note: str) -> Metric:
    """Convert a negative log-likelihood in nats over `size` values to bits per value.

    For a log-likelihood give -size.
    """
    scale = 1 / (size * math.log(2))
    error = None if nats.standard_error is None else nats.standard_error * abs(scale)
    return Metric(value=nats.value * scale, standard_error=error, unit="bits/dimension", note=note)
