"""Folders of diffusers' `AutoencoderKL`: the image autoencoder of latent diffusion, read without diffusers.

The folder has `config.json` and `diffusion_pytorch_model.safetensors`. Modules have the names of the stored
tensors. Shapes: B rows, C channels, H height, W width. Source: Rombach et al. 2022, "High-resolution image
synthesis with latent diffusion models", arXiv:2112.10752, section 3.1 and appendix G.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from training.export.own.networks import UnfitModel
from training.recipe import problem_text

_LOG_VARIANCES = (-30.0, 20.0)
"""The range into which log-variances are moved, as diffusers does."""
_EPSILON = 1e-6
Count = Annotated[int, Field(ge=1)]


class _Config(BaseModel):
    """The settings of `config.json`, with the values that are supported."""

    kind: Literal["AutoencoderKL"] = Field("AutoencoderKL", alias="_class_name")
    act_fn: Literal["silu"] = "silu"
    mid_block_add_attention: Literal[True] = True
    latents_mean: None = None
    latents_std: None = None
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] = ()
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] = ()
    block_out_channels: tuple[Count, ...] = Field(min_length=1)
    layers_per_block: Count
    norm_num_groups: Count
    latent_channels: Count
    in_channels: Count
    out_channels: Count
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    sample_size: int | Annotated[tuple[int, ...], Field(min_length=1)] = 0
    scaling_factor: float | None = None
    shift_factor: float | None = None


@dataclass(frozen=True)
class AutoencoderKl:
    """An autoencoder from a folder of diffusers."""

    encoder: nn.Module
    """Pictures (B, C, H, W) in [-1, 1] -> the mean and log-variance of latents, before scaling."""
    decoder: nn.Module
    """Latents before scaling -> pictures in [-1, 1]."""
    channels: int
    latent_channels: int
    shrinks: int
    """The factor by which height and width shrink."""
    sample_size: int
    scaling_factor: float
    shift_factor: float


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, _EPSILON)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, after, _EPSILON)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        result: Tensor = self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))
        return result


class _Attention(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, _EPSILON)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        rows = self.group_norm(x).flatten(2).transpose(1, 2)
        keys: Tensor = self.to_k(rows)
        shares = torch.softmax(self.to_q(rows) @ keys.transpose(1, 2) / math.sqrt(keys.shape[2]), 2)
        seen: Tensor = self.to_out[0](shares @ self.to_v(rows))
        return x + seen.transpose(1, 2).reshape(x.shape)


class _Middle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_Residual(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([_Attention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return result


class _Resampled(nn.Module):
    """A convolution that halves a picture, or one after it was doubled."""

    def __init__(self, channels: int, halves: bool) -> None:
        super().__init__()
        self._halves = halves
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if halves else 1, padding=0 if halves else 1)

    def forward(self, x: Tensor) -> Tensor:
        resampled = F.pad(x, (0, 1, 0, 1)) if self._halves else F.interpolate(x, scale_factor=2.0)
        result: Tensor = self.conv(resampled)
        return result


class _Block(nn.Module):
    def __init__(self, before: int, after: int, layers: int, groups: int, halves: bool, last: bool) -> None:
        super().__init__()
        widths = [before, *[after] * layers]
        self.resnets = nn.ModuleList([_Residual(a, b, groups) for a, b in itertools.pairwise(widths)])
        resampling = nn.ModuleList([] if last else [_Resampled(after, halves)])
        self.add_module("downsamplers" if halves else "upsamplers", resampling)
        self._resampling = "downsamplers" if halves else "upsamplers"

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *getattr(self, self._resampling)):
            x = layer(x)
        return x


class _Network(nn.Module):
    """The encoder (`halves`) or the decoder."""

    def __init__(
        self, inputs: int, outputs: int, widths: list[int], layers: int, groups: int, halves: bool
    ) -> None:
        super().__init__()
        before = [widths[0], *widths]
        blocks = [
            _Block(a, b, layers, groups, halves, index == len(widths) - 1)
            for index, (a, b) in enumerate(zip(before, widths, strict=False))
        ]
        self._halves = halves
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.add_module("down_blocks" if halves else "up_blocks", nn.ModuleList(blocks))
        self.mid_block = _Middle(widths[-1] if halves else widths[0], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], _EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        blocks = list(self.get_submodule("down_blocks" if self._halves else "up_blocks").children())
        for layer in [*blocks, self.mid_block] if self._halves else [self.mid_block, *blocks]:
            x = layer(x)
        result: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return result


class _Encoder(nn.Module):
    def __init__(self, encoder: nn.Module, quant_conv: nn.Module) -> None:
        super().__init__()
        self.encoder, self.quant_conv = encoder, quant_conv

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.quant_conv(self.encoder(pictures)).chunk(2, 1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)


class _Decoder(nn.Module):
    def __init__(self, post_quant_conv: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.post_quant_conv, self.decoder = post_quant_conv, decoder

    def forward(self, latents: Tensor) -> Tensor:
        pictures: Tensor = self.decoder(self.post_quant_conv(latents))
        return pictures


def read_autoencoder_kl(folder: Path) -> AutoencoderKl:
    """Read a model's folder.

    Raises:
        UnfitModel: A file is missing or unreadable, or the model has parts that are not supported.
    """
    from safetensors.torch import load_file

    try:
        config = _Config.model_validate_json((folder / "config.json").read_bytes())
        weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    except ValidationError as error:
        flaws = [f"config.json: {problem_text(each, 'it')}" for each in error.errors(include_url=False)]
        raise UnfitModel(str(folder), flaws) from error
    except Exception as error:
        # safetensors raises errors of its own kind
        raise UnfitModel(str(folder), [f"it cannot be read: {error}"]) from error
    try:
        encoder, decoder = _networks(config, weights)
    except (RuntimeError, ValueError) as error:
        raise UnfitModel(str(folder), [f"its weights do not fit its config.json: {error}"]) from error
    size = config.sample_size
    return AutoencoderKl(
        encoder=encoder.eval(),
        decoder=decoder.eval(),
        channels=config.in_channels,
        latent_channels=config.latent_channels,
        shrinks=2 ** (len(config.block_out_channels) - 1),
        sample_size=size if isinstance(size, int) else size[0],
        scaling_factor=config.scaling_factor or 0.18215,
        shift_factor=config.shift_factor or 0.0,
    )


def _networks(config: _Config, weights: Mapping[str, Tensor]) -> tuple[nn.Module, nn.Module]:
    """Return the encoder and the decoder of a configuration, with these weights."""
    widths, layers, groups = list(config.block_out_channels), config.layers_per_block, config.norm_num_groups
    latent = config.latent_channels
    whole = nn.ModuleDict(
        {
            "encoder": _Network(config.in_channels, 2 * latent, widths, layers, groups, halves=True),
            "decoder": _Network(latent, config.out_channels, widths[::-1], layers + 1, groups, halves=False),
            "quant_conv": nn.Conv2d(2 * latent, 2 * latent, 1) if config.use_quant_conv else nn.Identity(),
            "post_quant_conv": nn.Conv2d(latent, latent, 1) if config.use_post_quant_conv else nn.Identity(),
        }
    )
    whole.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return _Encoder(whole["encoder"], whole["quant_conv"]), _Decoder(
        whole["post_quant_conv"], whole["decoder"]
    )
