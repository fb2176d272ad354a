"""Networks: modules that map tensors to tensors and know neither loss nor likelihood.

Shapes: B rows, C channels, H height, W width, D latent dimensions, F outputs.
"""

from __future__ import annotations

import math

from torch import nn

from training.models.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, NetworkError
from training.models.networks.dense import DenseDecoder, DenseEncoder, Fourier, initialise_orthogonally
from training.models.networks.scaling import Standardise, Unstandardise, filled
from training.options import NetworkOptions

__all__ = [
    "DenseDecoder",
    "DenseEncoder",
    "Fourier",
    "NetworkError",
    "Standardise",
    "Unstandardise",
    "filled",
    "initialise_orthogonally",
    "make_decoder",
    "make_encoder",
    "parameter_count",
]


def make_encoder(
    options: NetworkOptions, item_shape: tuple[int, ...], outputs: int
) -> ConvolutionalEncoder | DenseEncoder:
    """Make the network items (B, *item_shape) -> (B, outputs).

    Raises:
        NetworkError: The items are not pictures, or cannot be halved so often.
    """
    if options.kind == "convolutional":
        return ConvolutionalEncoder(item_shape, options.channels, options.hidden, outputs)
    count = options.fourier_features
    fourier = Fourier(count, *options.fourier_frequencies) if count else None
    return DenseEncoder(math.prod(item_shape), options.hidden, outputs, options.gated, fourier)


def make_decoder(options: NetworkOptions, outputs: tuple[int, ...]) -> nn.Module:
    """Make the network latents (B, D) -> (B, *outputs), unbounded; the mirror image of the encoder."""
    if options.kind == "convolutional":
        return ConvolutionalDecoder(options.latent, outputs, options.channels, options.hidden)
    return DenseDecoder(options.latent, outputs, options.hidden, options.gated)


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
