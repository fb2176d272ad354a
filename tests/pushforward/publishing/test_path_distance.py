"""The distance `path` is fitted as finely as float32 allows: a VAE is not refused for its last digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward.publishing import UnfitModel, publish_vae
from service.format.versions import read_manifest
from tests.networks import Decoder, Encoder
from training.export.sessions import PARITY_TOLERANCE, verify_version

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each

SHAPE, LATENT = (1, 8, 8), 4


class Spread(nn.Module):
    """Gives a mean and a log-variance of every pixel that hardly depend on the latents."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.second = Decoder(LATENT, SHAPE), Decoder(LATENT, SHAPE, "Identity")

    def forward(self, latents: Tensor) -> Tensor:
        return torch.cat([self.mean(latents), self.second(latents)], 1)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_vae_whose_features_nearly_follow_from_each_other_is_published(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    items = np.random.default_rng(seed).random((80, *SHAPE), dtype=np.float32)
    version = publish_vae(
        "own", Encoder(64, LATENT).eval(), Spread().eval(), latent_size=LATENT, item_shape=SHAPE,
        likelihood="gaussian", decoder_gives="mean_and_log_variance", normals=items, models=tmp_path,
    )  # fmt: skip
    manifest = verify_version(version)
    assert manifest.statistics == ("path",)
    assert manifest.parity["statistics"].largest_error <= PARITY_TOLERANCE
    assert read_manifest(version).calibration is not None


class Vast(Encoder):
    """Gives log-variances of thousands."""

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        mean, second = super().forward(items)
        return mean, 1e4 * second.abs()


def test_log_variances_of_thousands_are_refused_as_such(tmp_path: Path) -> None:
    torch.manual_seed(0)
    items = np.random.default_rng(0).random((80, *SHAPE), dtype=np.float32).round()
    with pytest.raises(UnfitModel, match=r"the encoder gave log-variances from .* within ±46"):
        publish_vae(
            "own", Vast(64, LATENT).eval(), Decoder(LATENT, SHAPE).eval(), latent_size=LATENT,
            item_shape=SHAPE, normals=items, models=tmp_path,
        )  # fmt: skip
