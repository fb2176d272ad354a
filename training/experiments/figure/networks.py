"""Generator, discriminator and encoder: small dense networks, the same for every method.

Shapes: B rows, D latent dimensions, m points judged together; points (B, 2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.experiments.figure.options import Options
from training.models.networks.dense import Fourier, dense_layers, initialise_orthogonally
from training.models.priors import MixturePrior

POINT = 2
"""Coordinates of a point."""


class Generator(nn.Module):
    """Latents (B, D) to points (B, 2), standardised, and what the latents are drawn from."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.layers = _dense(options.latent, POINT, options.width, options.layers)
        self.prior = (
            MixturePrior(options.islands, options.latent, options.island_deviation, options.island_rate)
            if options.islands
            else None
        )
        self._latent = options.latent

    def forward(self, latents: Tensor) -> Tensor:
        """(B, D) -> (B, 2)."""
        points: Tensor = self.layers(latents)
        return points

    def draw(self, rows: int) -> tuple[Tensor, Tensor | None]:
        """Points (rows, 2) of fresh latents, and the component (rows,) of each, if the prior has such."""
        normals = torch.randn(rows, self._latent)
        if self.prior is None:
            return self(normals), None
        components = self.prior.choose(torch.rand(rows))
        return self(self.prior.latents(normals, components)), components


class Discriminator(nn.Module):
    """Logits of points, judged m at a time and, for methods that infer latents, with those beside them.

    Points are seen through sines and cosines of many wavelengths too, without which a network this small is
    slow to learn that modes are narrow.
    """

    def __init__(self, options: Options, latent: int = 0) -> None:
        """Judge `options.packing` points at a time, each with `latent` further coordinates."""
        super().__init__()
        self.fourier = Fourier(options.frequencies, *options.frequency_range)
        seen = self.fourier.width(POINT) + latent
        self.layers = _dense(options.packing * seen, 1, options.width, options.layers)
        self._packing = options.packing

    def forward(self, points: Tensor, latents: Tensor | None = None) -> Tensor:
        """Points (B, 2 m), latents (B, D) if the method infers them -> logits (B,)."""
        points = points.view(len(points) * self._packing, POINT)
        seen = self.fourier(points)
        seen = seen.reshape(len(seen) // self._packing, -1)
        if latents is not None:
            seen = torch.cat([seen, latents], dim=1)
        logits: Tensor = self.layers(seen)
        return logits.squeeze(1)


class Encoder(nn.Module):
    """Latents of points: a Gaussian N(mean, deviation^2) per point, drawn from by reparameterisation."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.layers = _dense(POINT, 2 * options.latent, options.width, options.layers)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, 2) -> mean (B, D), log variance (B, D)."""
        mean, log_variance = self.layers(points).chunk(2, dim=1)
        return mean, log_variance


def draw_latents(mean: Tensor, log_variance: Tensor) -> Tensor:
    """One draw (B, D) from each row's Gaussian."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def _dense(inputs: int, outputs: int, width: int, layers: int) -> nn.Module:
    widths = (inputs, *[width] * layers)
    network = nn.Sequential(*dense_layers(widths, gated=False), nn.Linear(widths[-1], outputs))
    initialise_orthogonally(network)
    return network
