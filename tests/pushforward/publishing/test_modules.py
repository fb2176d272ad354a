"""Modules of torch as people write them: what the exporter fixes or trips over is published, or told."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward import load
from pushforward.publishing import UnfitModel, publish_gan, publish_vae
from tests.networks import Decoder, Encoder

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each

LATENT, SHAPE = 3, (1, 4, 4)
ITEMS = np.random.default_rng(0).random((7, *SHAPE), dtype=np.float32).round()


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(16, LATENT).eval()


class Token(nn.Module):
    """Puts a learned row before those of a picture, as many as `len` says, and attends to all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token, self.inside = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 2 * LATENT)

    def forward(self, items: Tensor) -> Tensor:
        rows = torch.cat([self.token.expand(len(items), -1, -1), self.inside(items.flatten(1, 2))], 1)
        latents: Tensor = self.out(self.layer(rows)[:, 0])
        return latents


class Bound(nn.Module):
    """A network for one size of batch, by `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.out, self.how = nn.Linear(16, 2 * LATENT), how

    def forward(self, items: Tensor) -> Tensor:
        rows: Tensor
        if self.how == "view":
            rows = self.out(items.view(64, -1))
            return rows
        if self.how == "branch" and items.max() > 2:
            rows = self.out(items.flatten(1) / 2)
            return rows
        if self.how == "spread":
            # of one row it is 0 / 0
            rows = self.out(items.flatten(1)) + (items - items.mean(0)).square().sum() / (len(items) - 1)
            return rows
        if self.how == "silent":
            raise NotImplementedError
        return torch.stack([self.out(row.flatten()) for row in items])


class Dropping(nn.Module):
    """Drops values of items at random, being in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.drop = Encoder(16, LATENT), nn.Dropout(0.3)

    def forward(self, items: Tensor) -> Any:
        return self.encoder(self.drop(items))


def elsewhere() -> Callable[[Tensor], Any]:
    """A function of a module that is on another device."""
    network = encoder().to("meta")
    return lambda items: network(items)


def program(module: nn.Module) -> torch.export.ExportedProgram:
    axes = ({0: torch.export.Dim("rows", min=1)},)
    return torch.export.export(module, (torch.rand(3, *SHAPE),), dynamic_shapes=axes)


def taken_apart(network: Any) -> Any:
    return network.module() if isinstance(network, torch.export.ExportedProgram) else network


def scripted(module: nn.Module, *example: Tensor) -> Any:
    """A module as TorchScript, traced on an example if there is one."""
    of_torch: Any = torch.jit  # which has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return of_torch.trace(module, *example) if example else of_torch.script(module)


class Modulated(nn.Module):
    """A convolution with weights of its own for each row, all in one, as in StyleGAN 2; or it adds noise."""

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.weights, self.style = nn.Parameter(torch.randn(1, 4, 1, 3, 3)), nn.Linear(LATENT, 4)
        self.noise = noise

    def forward(self, latents: Tensor) -> Tensor:
        rows = latents.shape[0]
        if self.noise:
            return torch.sigmoid(self.style(latents)[:, :1, None, None] + torch.randn(rows, *SHAPE))
        weights = (self.style(latents)[:, :, None, None, None] * self.weights).reshape(rows, 4, 3, 3)
        pixels = torch.ones(1, 4, 4, 4).expand(rows, -1, -1, -1).reshape(1, 4 * rows, 4, 4)
        made = nn.functional.conv2d(pixels, weights, padding=1, groups=rows)
        return torch.sigmoid(made.reshape(rows, *SHAPE))


@pytest.mark.parametrize(
    ("noise", "words"),
    [(True, "noise_mode='const' of StyleGAN"), (False, "fused_modconv=False of StyleGAN")],
)
def test_a_generator_like_that_of_style_gan_is_refused_with_its_own_way_out(
    noise: bool, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UnfitModel, match=words):
        publish_gan("own", Modulated(noise).eval(), latent_size=LATENT, item_shape=SHAPE, models=tmp_path)


def test_an_autoencoder_is_pointed_to_publish_gan_and_published_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, decoder = (
        nn.Sequential(nn.Flatten(), nn.Linear(16, LATENT)).eval(),
        Decoder(LATENT, SHAPE).eval(),
    )
    sizes: dict[str, Any] = {"latent_size": LATENT, "item_shape": SHAPE, "models": tmp_path}
    with pytest.raises(UnfitModel, match="publish_gan publishes an autoencoder without a spread"):
        publish_vae("own", encoder, decoder, **sizes)
    version = publish_gan("own", decoder, encoder=encoder, real=np.concatenate([ITEMS] * 8), **sizes)
    with torch.no_grad():
        wanted: Any = encoder(torch.from_numpy(ITEMS)).numpy()
    np.testing.assert_allclose(load(version).encode(ITEMS).mean, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Token().eval(),
        lambda: scripted(encoder(), torch.rand(2, *SHAPE)),
        lambda: scripted(nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * LATENT)).eval()),
        lambda: program(encoder()),
        lambda: functools.partial(Encoder.forward, encoder()),
    ],
    ids=["len of the batch", "traced", "scripted", "a program of torch.export", "a partial function"],
)
def test_an_encoder_is_published_and_encodes_as_it_did(make: Callable[[], Any], tmp_path: Path) -> None:
    network, decoder = make(), Decoder(LATENT, SHAPE).eval()
    version = publish_vae("own", network, decoder, latent_size=LATENT, item_shape=SHAPE, models=tmp_path)
    with torch.no_grad():
        wanted = taken_apart(network)(torch.from_numpy(ITEMS))
    mean, log_variance = wanted if isinstance(wanted, tuple) else wanted.chunk(2, 1)
    encoded = load(version).encode(ITEMS)
    np.testing.assert_allclose(encoded.mean, mean.numpy(), atol=1e-5)
    assert encoded.log_variance is not None
    np.testing.assert_allclose(encoded.log_variance, log_variance.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Bound("view"), ["the encoder works for one size of batch only", "x.view(x.shape[0], -1)"]),
        (lambda: Bound("loop"), ["the encoder cannot be exported", "one size of batch only"]),
        (lambda: Bound("branch"), ["it branches on values of its rows", "torch.where"]),
        (lambda: Bound("spread"), ["other results alone than in a batch"]),
        (lambda: Bound("silent"), ["does not take rows of shape", ": NotImplementedError"]),
        (lambda: encoder().to("meta"), ["on the device 'meta', without weights"]),
        (
            lambda: lambda items, of_class: items + of_class,
            ["missing 1 required positional argument", "`lambda rows:"],
        ),
        (lambda: elsewhere(), ["the encoder calls modules on meta; call .cpu() on them first"]),
        (lambda: functools.partial(Dropping.forward, Dropping()), ["in training mode, in which Dropout"]),
        (lambda: Encoder, ["the encoder is the class Encoder; wanted a module"]),
        (lambda: encoder().state_dict(), ["the encoder is OrderedDict", "load_state_dict"]),
        (lambda: None, ["the encoder is NoneType; wanted a module"]),
    ],
)
def test_a_network_that_cannot_serve_every_batch_is_refused_with_the_reason(
    make: Callable[[], Any], words: list[str], tmp_path: Path
) -> None:
    models, decoder = tmp_path / "models", Decoder(LATENT, SHAPE).eval()
    with pytest.raises(UnfitModel) as caught:
        publish_vae("own", make(), decoder, latent_size=LATENT, item_shape=SHAPE, models=models)
    for word in words:
        assert word in str(caught.value)
    assert not models.exists()


def test_an_export_leaves_the_levels_of_loggers_as_they_were(tmp_path: Path) -> None:
    logger = logging.getLogger("torch._dynamo")
    before = logger.level
    with pytest.raises(UnfitModel):
        publish_vae(
            "own", Bound("loop"), Decoder(LATENT, SHAPE).eval(), latent_size=LATENT, item_shape=SHAPE,
            models=tmp_path,
        )  # fmt: skip
    assert logger.level == before
