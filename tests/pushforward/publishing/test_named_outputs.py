"""Encoders whose outputs are in another order, or have a draw beside them, are published by the names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, distributions, nn

from pushforward import load
from pushforward.publishing import UnfitModel, publish_vae
from service.format.versions import read_manifest
from tests.networks import Decoder, Encoder, write_onnx

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each

LATENT, SHAPE = 3, (1, 4, 4)
ITEMS = np.random.default_rng(0).random((7, *SHAPE), dtype=np.float32).round()
of_torch: Any = distributions  # which have no types


class Drawing(nn.Module):
    """Gives a dict with the spread first, and a draw."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder(16, LATENT)

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.encoder(items)
        draw = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return {"log_var": log_variance, "mu": mean, "z": draw}


class Varying(Encoder):
    """Gives variances in place of their logarithms."""

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        mean, second = super().forward(items)
        return mean, torch.exp(second)


class Judging(nn.Module):
    """Gives a Bernoulli distribution of items."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = Decoder(LATENT, SHAPE, "Identity")

    def forward(self, latents: Tensor) -> Any:
        return of_torch.Independent(of_torch.Bernoulli(logits=self.logits(latents)), 3)


def require_encodes(version: Path, network: Encoder) -> None:
    """Assert that a version encodes as a network does."""
    with torch.no_grad():
        mean, log_variance = network(torch.from_numpy(ITEMS))
    encoded = load(version).encode(ITEMS)
    assert encoded.log_variance is not None
    np.testing.assert_allclose(encoded.mean, mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded.log_variance, log_variance.numpy(), atol=1e-5)


def publish(models: Path, encoder: Any, decoder: Any = None, **options: Any) -> Path:
    decoder = Decoder(LATENT, SHAPE).eval() if decoder is None else decoder
    return publish_vae(
        "own", encoder, decoder, latent_size=LATENT, item_shape=SHAPE, models=models, **options
    )


def test_a_dict_with_the_spread_first_and_a_draw_is_published_by_its_names(tmp_path: Path) -> None:
    network = Drawing().eval()
    version = publish(tmp_path, network)
    require_encodes(version, network.encoder)
    origin: Any = read_manifest(version).provenance.origin
    assert origin["encoder"]["outputs"] == ["mu", "log_var"]


def test_an_onnx_file_with_the_spread_first_and_a_draw_is_published_by_its_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Encoder(16, LATENT).eval()
    path = write_onnx(tmp_path / "encoder.onnx", network, SHAPE)
    model = onnx.load(path)
    graph, kind = model.graph, TensorProto.FLOAT
    graph.node.append(helper.make_node("RandomNormalLike", ["mean"], ["noise"]))
    graph.node.append(helper.make_node("Add", ["mean", "noise"], ["z"]))
    first, second = list(graph.output)
    graph.input.append(helper.make_tensor_value_info("temperature", kind, []))
    graph.node.append(helper.make_node("Mul", ["z", "temperature"], ["warm"]))
    draw = helper.make_tensor_value_info("warm", kind, ["rows", LATENT])
    del graph.output[:]
    graph.output.extend([draw, second, first])
    onnx.save(model, path)
    require_encodes(publish(tmp_path, path), network)


def test_a_draw_among_outputs_without_names_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Encoder(16, LATENT).eval()
    path = write_onnx(tmp_path / "encoder.onnx", network, SHAPE)
    model = onnx.load(path)
    graph = model.graph
    names = {"mean": "Identity:0", "log_variance": "Identity_1:0"}  # those of Keras
    for each in (*graph.output, *graph.node):
        if isinstance(each, onnx.NodeProto):
            each.output[:] = [names.get(name, name) for name in each.output]
        else:
            each.name = names[each.name]
    graph.node.append(helper.make_node("StatelessRandomNormalV2", ["Identity:0"], ["noise"]))
    graph.node.append(helper.make_node("Add", ["Identity:0", "noise"], ["Identity_2:0"]))
    graph.output.append(helper.make_tensor_value_info("Identity_2:0", TensorProto.FLOAT, ["rows", LATENT]))
    onnx.save(model, path)
    require_encodes(publish(tmp_path, path), network)


def test_variances_are_taken_as_such(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Varying(16, LATENT).eval()
    torch.manual_seed(0)
    logarithms = Encoder(16, LATENT).eval()
    require_encodes(publish(tmp_path, network, encoder_gives="variance"), logarithms)
    with pytest.raises(UnfitModel, match=r"gave variances down to -.*, and they are positive"):
        publish(tmp_path, logarithms, encoder_gives="variance")


def test_a_decoder_may_give_a_distribution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(16, LATENT).eval(), Judging().eval()
    latents = np.random.default_rng(0).standard_normal((5, LATENT)).astype(np.float32)
    version = publish(tmp_path, encoder, decoder, decoder_gives="logits")
    with torch.no_grad():
        wanted = torch.sigmoid(decoder.logits(torch.from_numpy(latents)))
    np.testing.assert_allclose(load(version).decode(latents), wanted.numpy(), atol=1e-5)
    with pytest.raises(UnfitModel, match=r"gave a Bernoulli distribution.* decoder_gives='logits'"):
        publish(tmp_path, encoder, decoder)


def test_outputs_too_many_are_refused_with_how_to_leave_some_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Encoder(16, LATENT).eval()
    with pytest.raises(UnfitModel, match=r"leave the others out, as by `lambda rows: network\(rows\)\[1:\]`"):
        publish(tmp_path, lambda items: (network(items)[0], *network(items)))
