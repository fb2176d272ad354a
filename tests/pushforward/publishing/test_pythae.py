"""A folder of pythae is published from its own files, and nothing in it is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from typer.testing import CliRunner

from pushforward.command.publish import commands
from pushforward.local import load
from pushforward.publishing import UnfitModel, publish_pythae
from service.numerics.noise import scoring_noise
from training.export.own.pythae import read_pythae
from training.export.sessions import open_graph, verify_version

LATENT, SHAPE = 4, (1, 8, 8)


def weights() -> dict[str, torch.Tensor]:
    """The tensors of pythae 0.1.2's default networks."""
    torch.manual_seed(0)
    layers = {
        "decoder.layers.0.0": (512, LATENT), "decoder.layers.1.0": (64, 512), "encoder.layers.0.0": (512, 64),
        "encoder.embedding": (LATENT, 512), "encoder.log_var": (LATENT, 512),
    }  # fmt: skip
    return {
        f"{name}.{part}": torch.randn(shape if part == "weight" else shape[:1]) / 20
        for name, shape in layers.items()
        for part in ("weight", "bias")
    }


def write_folder(folder: Path, **changes: object) -> Path:
    config = {
        "name": "VAEConfig", "input_dim": SHAPE, "latent_dim": LATENT, "uses_default_encoder": True,
        "uses_default_decoder": True, "reconstruction_loss": "mse",
    }  # fmt: skip
    folder.mkdir()
    (folder / "model_config.json").write_text(json.dumps(config | changes))
    torch.save({"model_state_dict": weights()}, folder / "model.pt")
    return folder


def test_its_networks_are_those_of_pythae(tmp_path: Path) -> None:
    model, w = read_pythae(write_folder(tmp_path / "vae")), weights()
    items, latents = torch.rand(5, *SHAPE), torch.randn(5, LATENT)
    hidden = F.relu(F.linear(items.flatten(1), w["encoder.layers.0.0.weight"], w["encoder.layers.0.0.bias"]))
    mean, log_variance = model.encoder(items)
    torch.testing.assert_close(
        mean, F.linear(hidden, w["encoder.embedding.weight"], w["encoder.embedding.bias"])
    )
    torch.testing.assert_close(
        log_variance, F.linear(hidden, w["encoder.log_var.weight"], w["encoder.log_var.bias"])
    )
    hidden = F.relu(F.linear(latents, w["decoder.layers.0.0.weight"], w["decoder.layers.0.0.bias"]))
    pixels = torch.sigmoid(F.linear(hidden, w["decoder.layers.1.0.weight"], w["decoder.layers.1.0.bias"]))
    torch.testing.assert_close(model.decoder(latents), pixels)


def test_networks_that_only_unpickling_restores_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "vae", uses_default_encoder=False, name="VAMPConfig")
    (folder / "encoder.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UnfitModel) as caught:
        publish_pythae("vae", folder, models=tmp_path / "models")
    assert "stored as a pickle, which is not read" in str(caught.value)
    assert "has a VAMPConfig; wanted one of VAEConfig" in str(caught.value)
    other = write_folder(tmp_path / "other")
    for content in (b"cos\nsystem\n(S'exit 1'\ntR.", b""):
        (other / "model.pt").write_bytes(content)
        with pytest.raises(UnfitModel, match="cannot be read as weights"):
            publish_pythae("vae", other, models=tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.exports
def test_a_pythae_folder_scores_as_pythae_does(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "vae")
    version = publish_pythae("pythae", folder, models=tmp_path / "models")
    assert verify_version(version).description == "A VAE of pythae."
    model, items = read_pythae(folder), np.random.default_rng(0).random((6, *SHAPE), dtype=np.float32)
    eps = np.tile(scoring_noise(0, 3, LATENT), (6, 1, 1))
    log_likelihood, *_, kl = open_graph(version, "score").run(None, {"inputs": items, "eps": eps})
    with torch.no_grad():
        x = torch.from_numpy(items)
        mean, log_variance = model.encoder(x)
        latents = mean[:, None] + torch.exp(0.5 * log_variance)[:, None] * torch.from_numpy(eps)
        gaps = x.flatten(1)[:, None] - model.decoder(latents.flatten(0, 1)).reshape(6, 3, -1)
    wanted = -0.5 * (gaps**2).sum(-1) - 32 * np.log(2 * np.pi)
    np.testing.assert_allclose(log_likelihood, wanted.numpy(), rtol=1e-5)
    np.testing.assert_allclose(kl, 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1), rtol=1e-4)


@pytest.mark.exports
def test_a_cross_entropy_of_grey_pixels_is_published_as_a_gaussian(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "vae", reconstruction_loss="bce")
    np.save(tmp_path / "greys.npy", greys := np.random.default_rng(0).random((60, *SHAPE), dtype=np.float32))
    files = ["--normals", tmp_path / "greys.npy", "--models", tmp_path / "models"]
    command = ["pythae", "greys", folder, *files]
    refused = CliRunner().invoke(commands, [*map(str, command)])
    assert "publish it with likelihood='gaussian'" in str(refused.exception)
    told = CliRunner().invoke(commands, [*map(str, command), "--likelihood", "gaussian", "--quiet"])
    assert told.exit_code == 0, told.output
    model = read_pythae(folder)
    with load(tmp_path / "models" / "greys") as served, torch.no_grad():
        wanted = model.decoder(model.encoder(torch.from_numpy(greys))[0]).reshape(-1, *SHAPE)
        np.testing.assert_allclose(served.reconstruct(greys), wanted, atol=1e-5)


@pytest.mark.exports
@pytest.mark.parametrize(
    ("loss", "likelihood"), [("bce", "gaussian"), ("mse", "laplace"), ("mse", "bernoulli")]
)
def test_another_likelihood_than_that_of_the_loss_takes_neither_its_scale_nor_another_range(
    loss: str, likelihood: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "vae", reconstruction_loss=loss, input_dim=(64,))
    normals = np.random.default_rng(0).random((60, 64), dtype=np.float32)
    version = publish_pythae(
        "other", folder, likelihood=likelihood, models=tmp_path / "models",
        normals=normals.round() if likelihood == "bernoulli" else normals,
    )  # fmt: skip
    manifest = verify_version(version)
    assert manifest.support == ("binary" if likelihood == "bernoulli" else "unit_interval")
    assert manifest.provenance.origin is not None
    assert manifest.provenance.origin.get("scale") != 1.0
