"""A publisher who reads networks wrongly is told so, by the ELBO of the normal items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from pushforward import publish_vae
from pushforward.command.app import app
from service.format.versions import read_manifest
from tests.pushforward.publishing.test_torch import DIGITS, trained

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]


class Reordered(nn.Module):
    """An encoder whose second output comes first, or has the other sign."""

    def __init__(self, encoder: nn.Module, order: int, sign: float) -> None:
        super().__init__()
        self.encoder, self.order, self.sign = encoder, order, sign

    def forward(self, items: torch.Tensor) -> Any:
        mean, log_variance = self.encoder(items)
        return (mean, self.sign * log_variance)[:: self.order]


@pytest.mark.parametrize(
    ("order", "sign", "decoder_gives", "seems"),
    [
        (1, 1.0, "probabilities", None),
        (-1, 1.0, "probabilities", "the encoder seems to give its mean second"),
        (1, -1.0, "probabilities", "the encoder's log-variances seem to have the wrong sign"),
        (1, 1.0, "logits", "the decoder seems to give probabilities"),
    ],
)
def test_a_reading_by_which_the_elbo_would_be_larger_is_told_of_and_the_right_one_is_not(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    order: int,
    sign: float,
    decoder_gives: Any,
    seems: str | None,
) -> None:
    encoder, decoder = trained()
    version = publish_vae(
        "digits",
        Reordered(encoder, order, sign).eval(),
        decoder,
        latent_size=6,
        item_shape=(1, 8, 8),
        decoder_gives=decoder_gives,
        normals=DIGITS[1000:1100],
        models=tmp_path,
    )
    verified = CliRunner().invoke(app, ["verify", str(version)]).output
    told = [record.getMessage() for record in caplog.records if record.name.startswith("training.")]
    noted = (read_manifest(version).provenance.origin or {}).get("doubts")
    if seems is None:
        assert (told, noted) == ([], None)
        assert "warning" not in verified
    else:
        assert told == [f"digits is published, but {noted}"]
        assert str(noted).startswith(seems)
        assert f"  it was published with a warning: {noted}\n" in verified
