"""Folders of pythae: a VAE with its default encoder and decoder, read without pythae and without unpickling.

The folder has `model_config.json` and `model.pt`, as `model.save(folder)` of pythae 0.1 writes them.
"""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.export.own.networks import UnfitModel, reason_of

_PLAIN = (
    "VAEConfig",
    "BetaVAEConfig",
    "DisentangledBetaVAEConfig",
    "BetaTCVAEConfig",
    "FactorVAEConfig",
    "IWAEConfig",
)
"""Models with the same encoder and decoder and the prior N(0, I)."""


@dataclass(frozen=True)
class PythaeVae:
    """A VAE from a folder of pythae."""

    kind: str
    """Its configuration's name, as `VAEConfig`."""
    encoder: nn.Module
    decoder: nn.Module
    latent_size: int
    item_shape: tuple[int, ...]
    reconstruction_loss: str
    """`bce` or `mse`; the latter is a Gaussian of standard deviation 1."""


class _MlpEncoder(nn.Module):
    def __init__(self, body: nn.Module, mean: nn.Module, log_variance: nn.Module) -> None:
        super().__init__()
        self.body, self.mean, self.log_variance = body, mean, log_variance

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *item) -> the posterior's mean and log-variance, each (B, D)."""
        hidden = self.body(items)
        return self.mean(hidden), self.log_variance(hidden)


def read_pythae(folder: Path) -> PythaeVae:
    """Read a model's folder.

    Raises:
        UnfitModel: A file is missing or unreadable, the model is of another kind, or its networks are the
            user's own, which only unpickling could restore.
    """
    config = _config(folder)
    flaws = []
    if config.get("name") not in _PLAIN:
        flaws.append(f"{folder} has a {config.get('name')}; wanted one of {', '.join(_PLAIN)}")
    if config.get("reconstruction_loss") not in ("bce", "mse"):
        flaws.append(f"reconstruction_loss is {config.get('reconstruction_loss')!r}; wanted 'bce' or 'mse'")
    own = [part for part in ("encoder", "decoder") if not config.get(f"uses_default_{part}", True)]
    if own:
        flaws.append(
            f"its {' and '.join(own)} is of your own making and stored as a pickle, which is not read "
            "because it could run any code; load the model with pythae, and give model.encoder and "
            "model.decoder to publish_vae"
        )
    if flaws:
        raise UnfitModel(str(folder), flaws)
    weights = _weights(folder / "model.pt")
    try:
        encoder = _MlpEncoder(
            nn.Sequential(nn.Flatten(), *_layers(weights, "encoder.layers", nn.ReLU())),
            _linear(weights, "encoder.embedding"),
            _linear(weights, "encoder.log_var"),
        )
        decoder = nn.Sequential(*_layers(weights, "decoder.layers", nn.Sigmoid()))
    except KeyError as error:
        flaw = f"model.pt has no {error}, which pythae's default networks have"
        raise UnfitModel(str(folder), [flaw]) from error
    shape = tuple(int(size) for size in config["input_dim"])
    kind, latent = str(config["name"]), int(config["latent_dim"])
    return PythaeVae(kind, encoder.eval(), decoder.eval(), latent, shape, str(config["reconstruction_loss"]))


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "model_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        fits = isinstance(config, dict) and config.get("input_dim") and config.get("latent_dim")
    except (OSError, ValueError) as error:
        raise UnfitModel(str(folder), [f"{path} cannot be read: {error}"]) from error
    if not fits:
        raise UnfitModel(str(folder), [f"{path} has no input_dim or latent_dim"])
    return dict(config)


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return dict(stored["model_state_dict"])
    except (OSError, EOFError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        flaw = f"{path} cannot be read as weights: {reason_of(error)}"
        raise UnfitModel(str(path.parent), [flaw]) from error


def _layers(weights: dict[str, Tensor], prefix: str, last: nn.Module) -> list[nn.Module]:
    """Return the linear layers PREFIX.0.0, PREFIX.1.0, ..., each with a rectifier, the last with `last`."""
    count = len({name for name in weights if re.fullmatch(rf"{re.escape(prefix)}\.\d+\.0\.weight", name)})
    layers: list[nn.Module] = []
    for index in range(max(count, 1)):
        layers += [_linear(weights, f"{prefix}.{index}.0"), last if index == count - 1 else nn.ReLU()]
    return layers


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
