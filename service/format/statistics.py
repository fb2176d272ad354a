"""The statistics that items are scored by, and their units."""

from __future__ import annotations

from typing import Literal

Bound = Literal["elbo", "importance_bound"]
"""Statistics of a VAE: bounds on log p(x), in nats, from the draws of the graph `score`."""
Distance = Literal["residual", "feature_distance", "f_anogan"]
"""Statistics of a GAN: noise-free columns of the graph `statistics`, higher = more anomalous.

The mean squares of x - G(E(x)) and of f(x) - f(G(E(x))), where f is the discriminator's last hidden layer,
and their weighted sum. Source: Schlegl et al. 2019, "f-AnoGAN", Medical Image Analysis 54, equation 5.
"""
NoiseFree = Literal["corrected", "path", "kernel_density"]
"""Statistics of a VAE: noise-free columns of the graph `statistics`, higher = more anomalous.

`corrected`, in nats: the log-likelihood of a perfect reconstruction less that at the posterior mean, plus the
KL, so that an item is not called likely for being easy to describe. Source: Chauhan et al. 2022, "Robust
outlier detection by de-biasing VAE likelihoods", CVPR, section 3. `path`, in standard deviations: the
Mahalanobis distance from held-out items of features along the path through both networks. Source: Huang et
al. 2024, "Rethinking test-time likelihood: the likelihood path principle and its application to OOD
detection", arXiv:2401.04933, section 4. `kernel_density`, in nats: minus the log density of a table's row
under the mean of kernels around stored training rows. Source: Parzen 1962, "On estimation of a probability
density function and mode", Annals of Mathematical Statistics 33(3).
"""
Statistic = Literal[Bound, NoiseFree, Distance]
Unit = Literal["nats", "standard deviations", "mean square"]
UNITS: dict[Statistic, Unit] = {
    "elbo": "nats",
    "importance_bound": "nats",
    "corrected": "nats",
    "path": "standard deviations",
    "kernel_density": "nats",
    "residual": "mean square",
    "feature_distance": "mean square",
    "f_anogan": "mean square",
}
"""The unit of the surprise by each statistic."""
