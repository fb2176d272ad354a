"""diffusers itself beside a served AutoencoderKL: its networks, `remote_decode` and `remote_encode`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from pushforward.publishing import publish_autoencoder_kl
from tests.serving import running_service
from tests.toy import publish_toy
from training.export.own.autoencoder_kl import read_autoencoder_kl

pytestmark = [pytest.mark.diffusers, pytest.mark.timeout(180)]

SCALING, SHIFT = 0.3611, 0.1159
LATENT = (4, 8, 8)
TOLERANCE = 1e-3
"""The largest difference of numbers in [-1, 1], an eighth of a grey level of 256."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of diffusers and of what it imports, which are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly made AutoencoderKL as diffusers saves it, with the scaling of latents that Flux has."""
    with quiet():
        from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=LATENT[0], norm_num_groups=4,
        sample_size=16, scaling_factor=SCALING, shift_factor=SHIFT,
    )  # fmt: skip
    vae.decoder.conv_out.weight.data *= 0.4  # as a trained one, its pictures are within [-1, 1]
    path = tmp_path_factory.mktemp("diffusers") / "kl"
    vae.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def vae(folder: Path) -> Any:
    with quiet():
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def endpoint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    publish_autoencoder_kl("kl", folder, scale=0.1, models=models)
    publish_toy(models)
    with running_service(models) as service:
        yield f"{service.url}/v1/models/kl/diffusers"


@pytest.fixture(scope="module")
def remote() -> Any:
    with quiet():
        from diffusers.utils import remote_utils

        return remote_utils


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def pictures(rows: int) -> torch.Tensor:
    return torch.rand((rows, 3, 16, 16), generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_the_networks_that_are_read_without_diffusers_are_its_own(folder: Path, vae: Any) -> None:
    ours, latents = read_autoencoder_kl(folder), drawn(3, *LATENT)
    with torch.no_grad():
        posterior = vae.encode(pictures(3)).latent_dist
        mean, log_variance = ours.encoder(pictures(3))
        torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_variance, posterior.logvar, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decoder(latents), vae.decode(latents).sample, atol=1e-5, rtol=1e-5)
    assert (ours.scaling_factor, ours.shift_factor) == (SCALING, SHIFT)


@pytest.mark.parametrize(
    ("given", "factors"),
    [
        ({"do_scaling": False}, (1.0, 0.0)),
        ({"scaling_factor": 0.5}, (0.5, 0.0)),
        ({"scaling_factor": 0.5, "shift_factor": 0.25}, (0.5, 0.25)),
        ({"do_scaling": True}, (SCALING, SHIFT)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_remote_decode_gives_what_decode_gives(
    given: dict[str, Any],
    factors: tuple[float, float],
    dtype: torch.dtype,
    endpoint: str,
    vae: Any,
    remote: Any,
) -> None:
    latents = (drawn(3, *LATENT) * factors[0]).to(dtype)
    with quiet():  # `do_scaling` is deprecated, and still sent
        got = remote.remote_decode(f"{endpoint}/decode", latents, output_type="pt", return_type="pt", **given)
    wanted = vae.decode(latents.float() / factors[0] + factors[1]).sample
    assert wanted.abs().max() < 1, "these values are not clipped"
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)


def test_every_kind_of_picture_is_that_of_the_local_decoder(endpoint: str, vae: Any, remote: Any) -> None:
    with quiet():
        from diffusers.image_processor import VaeImageProcessor

    latents, processor = drawn(1, *LATENT), VaeImageProcessor(vae_scale_factor=2)
    (local,) = processor.postprocess(vae.decode(latents).sample, output_type="pil")
    wanted = np.asarray(local, np.int16)

    def decoded(**how: Any) -> np.ndarray:
        picture = remote.remote_decode(f"{endpoint}/decode", latents, do_scaling=False, **how)
        (picture,) = picture if isinstance(picture, list) else [picture]
        assert isinstance(picture, Image.Image)
        return np.asarray(picture, np.int16)

    exact: list[dict[str, Any]] = [
        {"image_format": "png"},
        {"output_type": "pt", "partial_postprocess": True},
        {"output_type": "pt", "processor": processor},
        {"output_type": "pil", "processor": processor},
    ]
    for how in exact:
        assert np.abs(decoded(**how) - wanted).max() <= 1, how
    assert np.abs(decoded(image_format="jpg") - wanted).mean() < 16  # random pictures, which JPEG blurs


def test_packed_latents_are_decoded_as_those_that_they_were_packed_from(endpoint: str, remote: Any) -> None:
    latents = drawn(2, *LATENT)
    squares = latents.reshape(2, 4, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5)  # FluxPipeline._pack_latents
    how = {"do_scaling": False, "output_type": "pt", "return_type": "pt"}
    whole = remote.remote_decode(f"{endpoint}/decode", latents, **how)
    packed = remote.remote_decode(
        f"{endpoint}/decode", squares.reshape(2, 16, 16), height=16, width=16, **how
    )
    assert torch.equal(whole, packed)


@pytest.mark.parametrize(
    ("given", "factors"),
    [
        ({}, (1.0, 0.0)),
        ({"scaling_factor": SCALING}, (SCALING, 0.0)),
        ({"scaling_factor": SCALING, "shift_factor": SHIFT}, (SCALING, SHIFT)),
    ],
)
def test_remote_encode_gives_the_mean_that_encode_gives(
    given: dict[str, Any], factors: tuple[float, float], endpoint: str, vae: Any, remote: Any
) -> None:
    for image in (pictures(3), pictures(2).half()):
        got = remote.remote_encode(f"{endpoint}/encode", image, **given)
        wanted = (vae.encode(image.float()).latent_dist.mode() - factors[1]) * factors[0]
        torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)
    pixels = ((pictures(1)[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8)
    got = remote.remote_encode(f"{endpoint}/encode", Image.fromarray(pixels.numpy()), **given)
    mode = vae.encode(pixels.permute(2, 0, 1)[None] / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(got, (mode - factors[1]) * factors[0], atol=TOLERANCE, rtol=0)


def test_what_does_not_fit_is_refused_with_what_came(endpoint: str, remote: Any) -> None:
    refusals: list[tuple[torch.Tensor, dict[str, Any], str]] = [
        (drawn(1, 4, 4, 4), {}, "the shape [1, 4, 4, 4]; this version takes [B, 4, 8, 8] or [B, 16, 16]"),
        (drawn(2, *LATENT), {}, "2 latents came, and one picture can be answered"),
        (drawn(1, *LATENT), {"output_type": "mp4", "return_type": "mp4"}, "output_type"),
        (drawn(1, *LATENT).double(), {}, "dtype"),
        (drawn(1, *LATENT) * torch.inf, {}, "are not numbers from"),
    ]
    for latents, how, words in refusals:
        with pytest.raises(RuntimeError) as caught:
            remote.remote_decode(f"{endpoint}/decode", latents, do_scaling=False, **how)
        assert words in str(caught.value), str(caught.value)
        assert "422" in str(caught.value)
    with pytest.raises(RuntimeError, match="this version takes"):
        remote.remote_encode(f"{endpoint}/encode", torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError, match="not numbers in"):
        remote.remote_encode(f"{endpoint}/encode", 3 * torch.ones(1, 3, 16, 16))
    short: dict[str, Any] = {"shape": [1, *LATENT], "dtype": "float32"}
    answer = httpx.post(f"{endpoint}/decode", params=short, content=b"0" * 12)
    assert answer.status_code == 422
    assert "has 1024 bytes; 12 came" in answer.json()["detail"]
    assert httpx.get(f"{endpoint}/decode").status_code == 405
    assert httpx.post(f"{endpoint}/encode", content=b"no picture").status_code == 400


def test_other_models_are_no_remote_vaes(endpoint: str) -> None:
    answer = httpx.post(f"{endpoint.replace('/kl/', '/toy-vae/')}/decode", content=b"")
    assert answer.status_code == 404
    assert answer.json()["code"] == "operation_not_offered"
    assert "its latents are no pictures" in answer.json()["detail"]
