"""Networks: modules that map tensors to tensors and know neither loss nor likelihood.

Shapes: B rows, C channels, H height, W width, D latent dimensions, F outputs.
"""

from __future__ import annotations

import math

from torch import nn

from training.models.networks.conditions import Projection, WithClass, beside
from training.models.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, NetworkError
from training.models.networks.dense import (
    DenseDecoder,
    DenseEncoder,
    Fourier,
    Network,
    initialise_orthogonally,
)
from training.models.networks.residual import ResidualDecoder, ResidualEncoder
from training.models.networks.scaling import Standardise, Unstandardise, filled
from training.options import NetworkOptions

__all__ = [
    "DenseDecoder",
    "DenseEncoder",
    "Fourier",
    "NetworkError",
    "Projection",
    "Standardise",
    "Unstandardise",
    "WithClass",
    "beside",
    "filled",
    "initialise_orthogonally",
    "make_decoder",
    "make_encoder",
    "parameter_count",
]


def make_encoder(options: NetworkOptions, item_shape: tuple[int, ...], outputs: int) -> Network:
    """Make the network items (B, *item_shape) -> (B, outputs).

    Raises:
        NetworkError: The items are not pictures, or cannot be halved so often.
    """
    if options.kind == "convolutional":
        return ConvolutionalEncoder(item_shape, options.channels, options.hidden, outputs)
    if options.kind == "residual":
        return ResidualEncoder(item_shape, options.channels, options.hidden, options.blocks, outputs)
    count = options.fourier_features
    fourier = Fourier(count, *options.fourier_frequencies) if count else None
    return DenseEncoder(math.prod(item_shape), options.hidden, outputs, options.gated, fourier)


def make_decoder(options: NetworkOptions, outputs: tuple[int, ...], classes: int = 0) -> nn.Module:
    """Make the network latents (B, D) -> (B, *outputs), unbounded; the mirror image of the encoder.

    With classes it takes labels (B, C) as a second input.
    """
    inputs = options.latent + classes
    decoder: nn.Module
    if options.kind == "convolutional":
        decoder = ConvolutionalDecoder(inputs, outputs, options.channels, options.hidden)
    elif options.kind == "residual":
        decoder = ResidualDecoder(inputs, outputs, options.channels, options.hidden, options.blocks)
    else:
        decoder = DenseDecoder(inputs, outputs, options.hidden, options.gated)
    return WithClass(decoder, classes) if classes else decoder


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
