"""A row has finite scores however far it is: who looks for anomalies sends such rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pushforward import load, publish_gan, publish_vae
from pushforward.publishing import MixtureOfGaussians, UnfitModel
from training.export.own.likelihoods import DecoderGives, LikelihoodName

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each

FEATURES, LATENT = 5, 2
FAR = np.array([1e3, -1e3, 1e6, -1e6, 1e12, -1e12, 1e30, -1e30], np.float32)[:, None].repeat(FEATURES, 1)
NORMALS = np.random.default_rng(0).standard_normal((300, FEATURES), np.float32)
MIXTURE = MixtureOfGaussians(
    np.full(2, 0.5), np.array([[-1, 0], [1, 0]], np.float32), np.array([[-2, -2], [0, 0]], np.float32)
)


def layers(inputs: int, outputs: int) -> nn.Module:
    """Return a network that goes on growing, as most do."""
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs)).eval()


@pytest.mark.parametrize("prior", [None, MIXTURE], ids=["standard normal", "mixture"])
@pytest.mark.parametrize(
    ("likelihood", "gives"),
    [("gaussian", "mean"), ("gaussian", "mean_and_log_variance"), ("laplace", "mean_and_log_scale")],
)
def test_rows_however_far_have_finite_scores_and_the_least_p_value(
    likelihood: LikelihoodName, gives: DecoderGives, prior: MixtureOfGaussians | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoder = layers(FEATURES, 2 * LATENT)
    decoder = layers(LATENT, FEATURES if gives == "mean" else 2 * FEATURES)
    version = publish_vae(
        "far", encoder, decoder, likelihood=likelihood, decoder_gives=gives, latent_size=LATENT,
        item_shape=(FEATURES,), prior=prior, normals=NORMALS, models=tmp_path,
    )  # fmt: skip
    with load(version) as model:
        for statistic in model.manifest()["calibration"]["statistics"]:
            scores = model.score(FAR, statistic=statistic)
            assert np.isfinite(scores.surprise).all()
            assert scores.p_value is not None
            np.testing.assert_array_equal(scores.p_value, 1 / 151, statistic)
        assert np.isfinite(model.surprise_map(FAR)).all()


def test_rows_however_far_have_a_finite_residual_of_a_gan(tmp_path: Path) -> None:
    torch.manual_seed(0)
    version = publish_gan(
        "far", layers(LATENT, FEATURES), encoder=layers(FEATURES, LATENT), latent_size=LATENT,
        item_shape=(FEATURES,), values="real", real=NORMALS, models=tmp_path,
    )  # fmt: skip
    with load(version) as model:
        p_values = model.score(FAR).p_value
        assert p_values is not None
        np.testing.assert_array_equal(p_values, 1 / 151)


class NoNumberBeyond(nn.Module):
    """A network of rows that gives NaN for those whose first value is above 5."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = layers(FEATURES, outputs)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        results: torch.Tensor = self.layers(rows) + torch.log(torch.clamp(5 - rows[:, :1], max=1))
        return results


def test_a_model_without_finite_scores_of_its_normal_items_is_refused(tmp_path: Path) -> None:
    items = NORMALS.copy()
    items[250:, 0] += 10  # beyond the items that networks and graphs are tried on
    torch.manual_seed(0)
    decoder = layers(LATENT, FEATURES)
    common: Any = {"latent_size": LATENT, "item_shape": (FEATURES,), "values": "real", "models": tmp_path}
    of_vae: Any = {"likelihood": "gaussian", "decoder_gives": "mean", "normals": items}
    encoder = NoNumberBeyond(2 * LATENT).eval()
    cases: dict[str, Callable[[], Path]] = {
        "reconstruction": lambda: publish_vae("far", encoder, decoder, **of_vae, **common),
        "score elbo": lambda: publish_vae("far", encoder, decoder, scale=1.0, **of_vae, **common),
        "score residual": lambda: publish_gan(
            "far", decoder, encoder=NoNumberBeyond(LATENT).eval(), real=items, **common
        ),
        "discriminator's logit": lambda: publish_gan(
            "far", decoder, discriminator=NoNumberBeyond(1).eval(), real=items, **common
        ),
    }
    for what, publish in cases.items():
        with pytest.raises(UnfitModel, match=f"the {what} is NaN or infinite for .*leave these items out"):
            publish()
    assert not list(tmp_path.iterdir())
