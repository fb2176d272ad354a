"""Functions and distributions of torch are taken; without normal items there are scores and no p-values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributions, nn

from pushforward import publish_vae
from pushforward.publishing import MixtureOfGaussians
from service.numerics.prior import read_prior
from training.export.sessions import verify_version


class Networks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(16, 6), nn.Linear(3, 16)

    def encode(self, items: Tensor) -> distributions.Distribution:
        mean, scale = self.into(items.flatten(1)).chunk(2, 1)
        normal = distributions.Normal(mean, nn.functional.softplus(scale) + 0.1)
        return distributions.Independent(normal, 1)

    def decode(self, latents: Tensor) -> Tensor:
        logits: Tensor = self.out(latents)
        return logits.reshape(-1, 1, 4, 4)


def test_a_vae_of_two_methods_is_published_without_items(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = Networks().eval()
    version = publish_vae(
        "methods", networks.encode, lambda z: networks.decode(z), latent_size=3, item_shape=(1, 4, 4),
        decoder_gives="logits", encoder_gives="distribution", models=tmp_path,
    )  # fmt: skip
    manifest = verify_version(version)
    assert manifest.statistics == ("corrected",)
    assert manifest.offered_statistics == ("elbo", "importance_bound", "corrected")
    assert (manifest.calibration, manifest.defaults) == (None, None)
    assert "There are no p-values" in (version / "README.md").read_text()
    origin = json.loads((version / "manifest.json").read_text())["provenance"]["origin"]
    assert origin["encoder"] == origin["decoder"] == {"torch": "function"}


def test_a_mixture_prior_of_any_floats_is_published_as_the_service_reads_it(tmp_path: Path) -> None:
    networks, means = Networks().eval(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    parts = [[0.5, 0.5], means, [[0.0] * 3] * 2]
    mixture = MixtureOfGaussians(*parts)  # type: ignore[arg-type]
    for kind in (np.float32, np.float64):
        other = MixtureOfGaussians(*(np.array(part, kind) for part in parts))  # type: ignore[arg-type]
        for name, values in vars(mixture).items():
            np.testing.assert_array_equal(getattr(other, name), values, strict=True)
    version = publish_vae(
        "mixture", networks.encode, lambda z: networks.decode(z), latent_size=3, item_shape=(1, 4, 4),
        decoder_gives="logits", encoder_gives="distribution", prior=mixture, models=tmp_path,
    )  # fmt: skip
    latents = read_prior(version, verify_version(version)).latents(0, 0, 1000, 1.0)
    np.testing.assert_allclose(latents.mean(0), np.mean(means, 0), atol=0.2)
