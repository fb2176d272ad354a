"""Residual networks keep a signal at any depth, fit pictures of any size, and are exported row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import digits, tiny_table
from training.export.graphs import export_graph
from training.export.operations import gan_graphs
from training.export.parity import Exported, measure_parity
from training.export.sessions import PARITY_TOLERANCE, open_session
from training.metrics.platt import Platt
from training.models.gan import make_gan
from training.models.networks import NetworkError, make_decoder, make_encoder
from training.models.networks.residual import ResidualBlock
from training.options import NetworkOptions
from training.recipe import RecipeError, parse_recipe

TINY = {"kind": "residual", "latent": 3, "channels": [4, 8], "hidden": [16], "blocks": 2}


def options(**changes: Any) -> NetworkOptions:
    return NetworkOptions.model_validate(TINY | changes)


@pytest.mark.parametrize("blocks", [1, 12])
def test_an_untrained_network_keeps_the_size_of_a_signal_at_any_depth(blocks: int) -> None:
    deep = options(channels=(16, 16), hidden=(64,), latent=32, blocks=blocks)
    pictures = torch.randn(50, 3, 16, 16)
    encoder = make_encoder(deep, (3, 16, 16), outputs=10)
    assert 0.5 < encoder.features(pictures).square().mean().sqrt() < 2
    assert 0.5 < make_decoder(deep, (3, 16, 16))(torch.randn(50, 32)).std() < 2


def test_a_block_begins_as_the_identity_and_learns_at_once() -> None:
    decoder = make_decoder(options(), (1, 8, 8))
    blocks = [module for module in decoder.modules() if isinstance(module, ResidualBlock)]
    pictures = torch.randn(2, 8, 2, 2)
    assert len(blocks) == 2 * 2
    assert torch.equal(blocks[0](pictures), pictures)
    torch.autograd.backward(decoder(torch.randn(5, 3)).square().sum())
    assert all(block.last.weight.grad is not None and block.last.weight.grad.any() for block in blocks)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 128, 128), (1, 28, 64)])
def test_pictures_that_can_be_halved_are_encoded_and_decoded_whatever_their_size(
    shape: tuple[int, ...],
) -> None:
    assert make_encoder(options(), shape, outputs=7)(torch.rand(2, *shape)).shape == (2, 7)
    assert make_decoder(options(), shape)(torch.randn(2, 3)).shape == (2, *shape)


def test_pictures_that_cannot_be_halved_and_networks_without_channels_are_refused() -> None:
    with pytest.raises(NetworkError, match="30x28 items cannot be halved 2 times"):
        make_encoder(options(), (1, 30, 28), outputs=7)
    with pytest.raises(RecipeError, match="give channels to a convolutional or residual network"):
        parse_recipe(tiny_table() | {"network": TINY | {"channels": []}})


@pytest.mark.exports
def test_graphs_of_residual_networks_compute_each_row_as_torch_does_in_every_batch(tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_table("gan") | {"network": TINY})
    dataset = digits(recipe)
    gan = make_gan(recipe, dataset)
    for module in gan.modules():
        if isinstance(module, ResidualBlock):  # a network that begins as the identity would prove little
            torch.nn.init.normal_(module.last.weight, std=0.2)
    for graph in gan_graphs(gan.eval().requires_grad_(False), dataset.item_shape, Platt(1.0, 0.0))[:2]:
        path = tmp_path / f"{graph.name}.onnx"
        export_graph(graph, path)
        # refuses a row whose result depends on the others
        parity = measure_parity(Exported(graph, open_session(path)), dataset)
        assert parity.largest_error <= PARITY_TOLERANCE
