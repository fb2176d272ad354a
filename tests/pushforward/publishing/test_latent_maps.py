"""VAEs whose latents are maps, or whose outputs hold two along another axis, give what their networks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward import load
from pushforward.publishing import UnfitModel, publish_vae
from tests.networks import Decoder, Encoder

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each

SHAPE = (1, 8, 8)
ITEMS = np.random.default_rng(0).random((60, *SHAPE), dtype=np.float32).round()


class MapEncoder(nn.Module):
    """Pictures -> maps (3, 2, 2) of means and log-variances: two, or one with both in its channels."""

    def __init__(self, single: bool, last: bool) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 6, 3, 2, 1)
        self.single, self.last = single, last

    def both(self, items: Tensor) -> Tensor:
        both: Tensor = self.out(torch.tanh(self.inside(items)))
        return both

    def forward(self, items: Tensor) -> Tensor | tuple[Tensor, ...]:
        both = self.both(items.permute(0, 3, 1, 2) if self.last else items)
        parts = (both,) if self.single else both.chunk(2, 1)
        given = tuple(part.permute(0, 2, 3, 1) if self.last else part for part in parts)
        return given[0] if self.single else given


class MapDecoder(nn.Module):
    def __init__(self, last: bool) -> None:
        super().__init__()
        self.inside, self.out = nn.ConvTranspose2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 1, 4, 2, 1)
        self.last = last

    def forward(self, latents: Tensor) -> Tensor:
        latents = latents.permute(0, 3, 1, 2) if self.last else latents
        pixels: Tensor = torch.sigmoid(self.out(torch.tanh(self.inside(latents))))
        return pixels.permute(0, 2, 3, 1) if self.last else pixels


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("channels", ["first", "last"])
def test_latents_that_are_maps_are_flat_rows_in_the_order_of_the_networks(
    single: bool, channels: Literal["first", "last"], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    last = channels == "last"
    encoder, decoder = MapEncoder(single, last).eval(), MapDecoder(last).eval()
    model = load(
        publish_vae(
            "maps", encoder, decoder, latent_size=12, item_shape=SHAPE, channels=channels, models=tmp_path
        )
    )
    with torch.no_grad():
        mean, log_variance = encoder.both(torch.from_numpy(ITEMS)).chunk(2, 1)
        wanted = [part.permute(0, 2, 3, 1) if last else part for part in (mean, log_variance)]
        pixels = decoder(wanted[0])
        pixels = pixels.permute(0, 3, 1, 2) if last else pixels
    encoded = model.encode(ITEMS)
    assert encoded.log_variance is not None
    np.testing.assert_allclose(encoded.mean, wanted[0].flatten(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded.log_variance, wanted[1].flatten(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(model.decode(encoded.mean), pixels.numpy(), atol=1e-5)


class Paired(nn.Module):
    """Gives a mean and a log-variance of every pixel in one tensor, joined along an axis or a new one."""

    def __init__(self, axis: int, stacked: bool) -> None:
        super().__init__()
        self.mean, self.second = Decoder(3, SHAPE), Decoder(3, SHAPE, "Tanh")
        self.axis, self.stacked = axis, stacked

    def forward(self, latents: Tensor) -> Tensor:
        parts = self.mean(latents), self.second(latents)
        return torch.stack(parts, self.axis) if self.stacked else torch.cat(parts, self.axis)


@pytest.mark.parametrize(("axis", "stacked"), [(1, False), (-1, False), (1, True), (-1, True)])
def test_a_decoder_may_join_mean_and_spread_along_any_axis(axis: int, stacked: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(64, 3).eval(), Paired(axis, stacked).eval()
    version = publish_vae(
        "paired", encoder, decoder, latent_size=3, item_shape=SHAPE, likelihood="gaussian",
        decoder_gives="mean_and_log_variance", models=tmp_path,
    )  # fmt: skip
    latents = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    with torch.no_grad():
        wanted: Any = decoder.mean(torch.from_numpy(latents))
    np.testing.assert_allclose(load(version).decode(latents), wanted.numpy(), atol=1e-5)


def test_an_encoder_whose_halves_could_lie_along_two_axes_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Unflatten(1, (4, 6))).eval()
    with pytest.raises(UnfitModel, match="could lie along more than one axis; give them as two tensors"):
        publish_vae(
            "own", encoder, Decoder(12, SHAPE).eval(), latent_size=12, item_shape=SHAPE, models=tmp_path
        )
