"""Objectives of a VAE, the ELBO and the importance-weighted bound, per item, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.losses.terms import Terms
from training.models.likelihoods import item_sum
from training.models.priors import gaussian_kl, gaussian_log_prob
from training.models.vae import Vae, draw_posterior, posterior_log_prob


def elbo_objective(vae: Vae, items: Tensor, eps: Tensor, kl_weight: float, free_bits: float) -> Terms:
    """Return the negative ELBO with a weighted KL and free bits, for standard normal eps (B, K, D).

    Source: Higgins et al. 2017, "beta-VAE", section 2; Kingma et al. 2016, arXiv:1606.04934, appendix C.8,
    here per item instead of per batch, so that an item's loss does not depend on its batch-mates.
    """
    draws = draw_posterior(vae, items, eps)
    log_likelihood = draws.log_likelihood.mean(1)
    if vae.prior is None:
        by_dimension = gaussian_kl(draws.mean, draws.log_variance)
        kl, pressed = item_sum(by_dimension), item_sum(by_dimension.clamp(min=free_bits))
    else:
        kl = pressed = (posterior_log_prob(eps, draws.log_variance) - draws.log_prior).mean(1)
    return Terms(
        loss=kl_weight * pressed - log_likelihood,
        report={"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl},
    )


def importance_objective(vae: Vae, items: Tensor, eps: Tensor, *, plain: bool = False) -> Terms:
    """Return the negative importance-weighted bound of items with K draws, for standard normal eps (B, K, D).

    Unless `plain`, the encoder's gradient is the doubly reparametrised one: each draw's path counts with its
    squared normalised weight, and log q(z | x) passes no gradient to the encoder directly. It has the same
    expectation and a variance that falls with K. Source: Burda et al. 2016, arXiv:1509.00519, equation 8;
    Tucker et al. 2019, arXiv:1810.04152, section 4.
    """
    draws = draw_posterior(vae, items, eps)
    mean, log_variance = draws.mean.unsqueeze(1), draws.log_variance.unsqueeze(1)
    if not plain:
        mean, log_variance = mean.detach(), log_variance.detach()
    log_posterior = gaussian_log_prob(draws.latents, mean, log_variance.expand_as(draws.latents))
    log_weights = draws.log_likelihood + draws.log_prior - log_posterior
    weights = torch.softmax(log_weights.detach(), dim=1)
    if not plain and draws.latents.requires_grad:
        draws.latents.register_hook(  # type: ignore[no-untyped-call]
            lambda path: path * weights.unsqueeze(-1)
        )
    bound = torch.logsumexp(log_weights.detach(), dim=1) - math.log(eps.shape[1])
    return Terms(
        # its gradient is that of the bound's log-sum-exp
        loss=-(weights * log_weights).sum(1),
        report={
            "importance_bound": bound,
            "log_likelihood": draws.log_likelihood.mean(1),
            "kl": (log_posterior - draws.log_prior).mean(1),
        },
    )
