"""A VAE that was trained in twenty lines of torch is published in one call, and from its ONNX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import torch
from sklearn.datasets import load_digits
from torch import distributions, nn
from torch.nn import functional as F  # noqa: N812
from typer.testing import CliRunner

from pushforward import publish_gan, publish_vae
from pushforward.command.app import app
from service.format.versions import read_manifest
from service.numerics.noise import scoring_noise
from tests.pushforward.publishing.torch_files import program, script
from tests.serving import RunningService, npy, running_service
from training.export.own.torch_source import TorchSource
from training.export.sessions import verify_version

of_torch: Any = distributions  # which have no types
pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]  # exports take seconds each
DIGITS = (load_digits().images[:, None] > 7).astype(np.float32)


class DigitEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU())
        self.mean, self.log_variance = nn.Linear(64, 6), nn.Linear(64, 6)

    def forward(self, digits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(digits)
        return self.mean(hidden), self.log_variance(hidden)


def trained() -> tuple[nn.Module, nn.Module]:
    """A VAE of digits, trained without this project."""
    torch.manual_seed(0)
    encoder = DigitEncoder()
    body = [nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid()]
    decoder = nn.Sequential(*body, nn.Unflatten(1, (1, 8, 8)))
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    digits = torch.from_numpy(DIGITS[:1000])
    for _ in range(150):
        batch = digits[torch.randint(len(digits), (100,))]
        mean, log_variance = encoder(batch)
        pixels = decoder(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        fit = F.binary_cross_entropy(pixels, batch, reduction="sum")
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        adam.zero_grad()
        ((fit + kl) / len(batch)).backward()
        adam.step()
    return encoder.eval(), decoder.eval()


class Published:
    def __init__(self, folder: Path) -> None:
        self.networks = self.encoder, self.decoder = trained()
        self.models = folder / "models"
        options = {
            "latent_size": 6,
            "item_shape": (1, 8, 8),
            "normals": DIGITS[1000:1500],
            "models": self.models,
        }
        self.version = publish_vae("torch-digits", self.encoder, self.decoder, **options)
        self.files = [folder / "encoder.onnx", folder / "decoder.onnx"]
        for path, network, shape in zip(self.files, self.networks, ((1, 8, 8), (6,)), strict=True):
            onnx.save(TorchSource("a network", network).export(shape), path)
        self.from_files = publish_vae("onnx-digits", *self.files, **options)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="module")
def service(published: Published) -> Iterator[RunningService]:
    with running_service(published.models) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> httpx.Client:
    return service.client


def test_the_elbo_over_http_is_that_of_torch_with_the_same_draws(
    published: Published, client: httpx.Client
) -> None:
    digits = torch.from_numpy(DIGITS[1500:1520])
    eps = torch.from_numpy(scoring_noise(3, 16, 6))
    with torch.no_grad():
        mean, log_variance = published.encoder(digits)
        posterior, prior = of_torch.Normal(mean, torch.exp(0.5 * log_variance)), of_torch.Normal(0.0, 1.0)
        likelihoods = []
        for draw in eps:
            pixels = of_torch.Bernoulli(published.decoder(mean + posterior.stddev * draw))
            likelihoods.append(pixels.log_prob(digits).sum((1, 2, 3)))
        elbo = torch.stack(likelihoods).mean(0) - of_torch.kl_divergence(posterior, prior).sum(1)
    for name in ("torch-digits", "onnx-digits"):
        body = {"inputs": digits.tolist(), "draws": 16, "seed": 3, "statistic": "elbo"}
        scores = client.post(f"/v1/models/{name}/score", json=body).json()["scores"]
        got = np.array([score["elbo"] for score in scores])
        assert (np.abs(got - elbo.numpy()) <= 1e-4 * (1 + np.abs(elbo.numpy()))).all()


def test_the_version_from_onnx_files_has_the_same_graphs_and_answers(
    published: Published, client: httpx.Client
) -> None:
    of_torch, of_files = read_manifest(published.version), read_manifest(published.from_files)
    hashes = [{name: graph.sha256 for name, graph in each.graphs.items()} for each in (of_torch, of_files)]
    assert hashes[0] == hashes[1]
    assert of_torch.calibration == of_files.calibration
    samples = [
        npy(client.get(f"/v1/models/{name}/sample?count=9&seed=4", headers={"accept": "application/x-npy"}))
        for name in ("torch-digits", "onnx-digits")
    ]
    np.testing.assert_array_equal(samples[0], samples[1])


def test_a_twentieth_of_new_normal_items_is_flagged_and_noise_is(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).random((100, 1, 8, 8)).round()
    flagged = []
    for items in (DIGITS[1500:], noise):
        body = {"inputs": items.tolist(), "alpha": 0.05}
        scores = client.post("/v1/models/torch-digits/score", json=body).json()["scores"]
        flagged.append(np.mean([score["anomaly"] for score in scores]))
    assert flagged[0] <= 0.12  # 297 items, calibrated on 250: 0.5 % of cases have more
    assert flagged[1] >= 0.9


def test_the_card_and_the_manifest_say_where_it_came_from(published: Published) -> None:
    manifest = verify_version(published.version)
    assert manifest.provenance.origin is not None
    assert manifest.provenance.origin["encoder"] == {"torch": "DigitEncoder"}
    assert "torch" in manifest.provenance.libraries
    assert "torch" not in read_manifest(published.from_files).provenance.libraries
    card = (published.version / "README.md").read_text()
    assert "trained elsewhere" in card.replace("\n", " ")
    assert "250 others for p-values" in card.replace("\n", " ")
    assert (published.version / "samples.png").is_file()


class DcganGenerator(nn.Module):
    """Latents (B, D, 1, 1) -> pictures in [-1, 1]. Source: Radford et al. 2016, arXiv:1511.06434."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        pictures: torch.Tensor = self.main(latents)
        return pictures


class DcganDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
            nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2, True),
            nn.Conv2d(32, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.main(pictures)
        return probabilities


def dcgan() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator, discriminator = DcganGenerator(), DcganDiscriminator()
    with torch.no_grad():
        for _ in range(3):  # batch statistics
            generator(torch.randn(64, 16, 1, 1))
            discriminator(torch.rand(64, 3, 16, 16) * 2 - 1)
    return generator.eval(), discriminator.eval()


REAL = np.random.default_rng(0).integers(0, 256, (120, 3, 16, 16), dtype=np.uint8)


def test_a_dcgan_is_published_and_served(tmp_path: Path) -> None:
    generator, discriminator = dcgan()
    publish_gan(
        "dcgan", generator, latent_size=16, item_shape=(3, 16, 16), discriminator=discriminator,
        discriminator_gives="probabilities", values="-1..1", real=REAL, models=tmp_path,
    )  # fmt: skip
    require_served(tmp_path, generator, discriminator)


@pytest.mark.parametrize("kind", ["torch.export", "TorchScript"])
def test_a_dcgan_is_served_from_its_own_files(kind: str, tmp_path: Path) -> None:
    generator, discriminator = dcgan()
    write, ending = (program, "pt2") if kind == "torch.export" else (script, "pt")
    files = [
        write(tmp_path / f"generator.{ending}", generator, 16, 1, 1),
        write(tmp_path / f"discriminator.{ending}", discriminator, 3, 16, 16),
    ]
    np.save(tmp_path / "real.npy", REAL)
    line = [
        "publish", "gan", "dcgan", "--generator", files[0], "--discriminator", files[1],
        "--discriminator-gives", "probabilities", "--latent-size", 16, "--item-shape", "3,16,16",
        "--values", "-1..1", "--real", tmp_path / "real.npy", "--models", tmp_path / "models",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(each) for each in line], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    require_served(tmp_path / "models", generator, discriminator)
    origin = read_manifest(tmp_path / "models" / "dcgan" / "1").provenance.origin
    assert origin is not None
    assert origin["generator"] == {"file": files[0].name, "torch": kind}


def require_served(models: Path, generator: nn.Module, discriminator: nn.Module) -> None:
    """Assert that the service generates and judges what the networks of a DCGAN do."""
    manifest = verify_version(models / "dcgan" / "1")
    assert set(manifest.graphs) == {"decode", "discriminate", "generate_scored"}
    with running_service(models) as running:
        client, url = running.client, "/v1/models/dcgan"
        answer = client.get(f"{url}/sample?count=4&seed=2&return_latents=true").json()
        samples, latents = np.array(answer["samples"]), torch.tensor(answer["latents"])
        with torch.no_grad():
            wanted = (generator(latents[..., None, None]) + 1) / 2
            probabilities = discriminator(2 * wanted - 1).flatten()
        np.testing.assert_allclose(samples, wanted.numpy(), atol=1e-5)
        assert client.get(f"{url}/sample?count=4&seed=2&method=resample&budget=8").status_code == 200
        judged = client.post(f"{url}/discriminate", json={"inputs": samples.tolist()}).json()
    logits = torch.logit(probabilities).numpy()
    slope = np.polyfit(logits, [each["logit"] for each in judged["scores"]], 1)
    # calibration is a line
    np.testing.assert_allclose(
        np.polyval(slope, logits), [each["logit"] for each in judged["scores"]], atol=1e-4
    )


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.heads = (
            nn.GroupNorm(4, channels),
            nn.MultiheadAttention(channels, 2, batch_first=True),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        rows = self.norm(pixels).flatten(2).transpose(1, 2)
        seen: torch.Tensor = self.heads(rows, rows, rows, need_weights=False)[0]
        return pixels + seen.transpose(1, 2).reshape(pixels.shape)


def test_a_convolutional_vae_with_normalisations_and_attention_is_published(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), Attention(16),
        nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 16),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(8, 256), nn.Unflatten(1, (16, 4, 4)), Attention(16), nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.SiLU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 256, (60, 3, 16, 16), dtype=np.uint8)
    version = publish_vae(
        "convolutional", encoder.eval(), decoder.eval(), likelihood="gaussian", latent_size=8,
        decoder_gives="mean_and_log_scale", item_shape=(3, 16, 16), values="-1..1", normals=pictures,
        models=tmp_path,
    )  # fmt: skip
    assert verify_version(version).defaults is not None
