"""A folder of diffusers' AutoencoderKL is published without diffusers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pushforward.publishing import UnfitModel, publish_autoencoder_kl
from service.format.specs import LatentPicture
from training.export.own.autoencoder_kl import _Network, read_autoencoder_kl
from training.export.sessions import open_graph, verify_version

CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    "in_channels": 3, "out_channels": 3, "latent_channels": 2, "layers_per_block": 1, "norm_num_groups": 4,
    "sample_size": 16, "scaling_factor": 0.18215, "mid_block_add_attention": True,
}  # fmt: skip


def write_folder(folder: Path, **changes: object) -> Path:
    """A folder as `save_pretrained` of diffusers 0.42 writes it."""
    torch.manual_seed(0)
    parts = {
        "encoder": _Network(3, 4, [8, 16], 1, 4, halves=True),
        "decoder": _Network(2, 3, [16, 8], 2, 4, halves=False),
        "quant_conv": torch.nn.Conv2d(4, 4, 1),
        "post_quant_conv": torch.nn.Conv2d(2, 2, 1),
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    weights = torch.nn.ModuleDict(parts).state_dict()
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_a_folder_with_other_parts_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kl", down_block_types=["DownBlock2D"], act_fn="relu")
    with pytest.raises(UnfitModel) as caught:
        publish_autoencoder_kl("kl", folder, scale=0.1, models=tmp_path / "models")
    assert "config.json: act_fn is 'relu': Input should be 'silu'" in str(caught.value)
    assert "down_block_types.0 is 'DownBlock2D': Input should be 'DownEncoderBlock2D'" in str(caught.value)
    for changes, words in (
        ({"norm_num_groups": None}, "norm_num_groups is None: Input should be a valid integer"),
        ({"block_out_channels": []}, "block_out_channels is []"),
        ({"norm_num_groups": 3}, "must be divisible by num_groups"),
    ):
        with pytest.raises(UnfitModel, match=re.escape(words)):
            publish_autoencoder_kl(
                "kl", write_folder(tmp_path / words, **changes), models=tmp_path / "models"
            )
    with pytest.raises(UnfitModel, match="neither scale nor normals came"):
        publish_autoencoder_kl("kl", write_folder(tmp_path / "other"), models=tmp_path / "models")
    with pytest.raises(UnfitModel, match=r"do not fit its config\.json"):
        publish_autoencoder_kl("kl", write_folder(tmp_path / "wide", latent_channels=3), models=tmp_path)
    assert not (tmp_path / "models").exists()


@pytest.mark.exports
@pytest.mark.timeout(300)
def test_it_is_published_with_flat_latents_and_its_scaling_factor(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "kl")
    version = publish_autoencoder_kl("kl", folder, scale=0.1, models=tmp_path / "models")
    manifest = verify_version(version)
    assert manifest.latent_size == 128
    assert manifest.item_shape == (3, 16, 16)
    assert manifest.latent_picture == LatentPicture(shape=(2, 8, 8), scaling_factor=0.18215)
    latents = np.random.default_rng(0).standard_normal((3, 128), dtype=np.float32)
    (samples,) = open_graph(version, "decode").run(None, {"latents": latents})
    with torch.no_grad():
        pixels = read_autoencoder_kl(folder).decoder(torch.from_numpy(latents).reshape(3, 2, 8, 8))
    np.testing.assert_allclose(samples, ((pixels + 1) / 2).clamp(0, 1).numpy(), atol=1e-5)
