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
    if (options.likelihood == "gaussian") != (dataset.scaling is not None):
        fitting = "'bernoulli', 'continuous-bernoulli' or 'discretised-logistic'"
        raise SupportError(
            f"vae.likelihood {options.likelihood!r} came with items of shape {list(dataset.item_shape)}, "
            + (f"no table; use {fitting}" if dataset.scaling is None else "a table; use 'gaussian'")
        )
    if dataset.scaling is not None:
        shift, scale = torch.from_numpy(dataset.scaling.shift), torch.from_numpy(dataset.scaling.scale)
        scaling = dataset.scaling
        return GaussianTable(dataset.columns, shift, scale, scaling.constants, scaling.takes_missing)
    if options.likelihood == "continuous-bernoulli":
        return ContinuousBernoulli(options.logit_bound)
    return Bernoulli() if options.likelihood == "bernoulli" else DiscretisedLogistic()
