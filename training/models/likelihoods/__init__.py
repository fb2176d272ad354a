"""Likelihoods p(x | parameters) of a decoder's outputs."""

from __future__ import annotations

import torch

from training.data import Dataset
from training.models.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from training.models.likelihoods.likelihood import Likelihood, SupportError, in_lanes, item_sum
from training.models.likelihoods.logistic import DiscretisedLogistic, nearest_levels
from training.models.likelihoods.table import GaussianTable
from training.options import VaeOptions

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretisedLogistic",
    "GaussianTable",
    "Likelihood",
    "SupportError",
    "in_lanes",
    "item_sum",
    "make_likelihood",
    "nearest_levels",
]


def make_likelihood(options: VaeOptions, dataset: Dataset) -> Likelihood:
    """Make the likelihood that a recipe names, for the items of its dataset.

    Raises:
        SupportError: The likelihood is for tables and the dataset is not a table, or the reverse.
    """
    scaling, of_pictures = dataset.scaling, _of_pictures(options)
    if (options.likelihood in of_pictures) != (scaling is None):
        *others, last = map(repr, of_pictures)
        raise SupportError(
            f"vae.likelihood {options.likelihood!r} came with items of shape {list(dataset.item_shape)}, "
            + (
                f"no table; use {', '.join(others)} or {last}"
                if scaling is None
                else "a table; use 'gaussian'"
            )
        )
    if scaling is None:
        return of_pictures[options.likelihood]
    shift, scale = torch.from_numpy(scaling.shift), torch.from_numpy(scaling.scale)
    return GaussianTable(
        dataset.columns, shift, scale, scaling.constants, scaling.takes_missing, scaling.absent
    )


def _of_pictures(options: VaeOptions) -> dict[str, Likelihood]:
    """Return the likelihoods of pictures by their names in recipes."""
    made = Bernoulli(), ContinuousBernoulli(options.logit_bound), DiscretisedLogistic()
    return {likelihood.name: likelihood for likelihood in made}
