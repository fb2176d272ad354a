"""The weights that training begins with if a recipe names a published version in the place of random ones."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from service.errors import InvalidVersion
from service.format.versions import read_manifest, verify_files
from training.models.networks.residual import ResidualBlock
from training.recipe import RecipeError


def begin_with(model: nn.Module, folder: Path, prefix: str = "") -> None:
    """Give a model the weights of a published version; residual blocks that it has not stay as they are.

    Blocks begin as the identity, so a model that has more of them computes at first what the version does.

    Args:
        model: Gets the weights.
        folder: The version, NAME/VERSION.
        prefix: The model's place among the networks of the version, such as "encoder.".

    Raises:
        RecipeError: It is no version, or its networks have other shapes.
    """
    found = _weights(folder)
    blocks = tuple(name for name, part in model.named_modules() if isinstance(part, ResidualBlock))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            weights = found.get(prefix + name)
            if weights is None and name.startswith(blocks):
                continue
            if weights is None or weights.shape != parameter.shape:
                came = "none" if weights is None else f"one of shape {list(weights.shape)}"
                raise RecipeError(
                    f"start is {str(folder)!r}, which has for {prefix + name} of shape "
                    f"{list(parameter.shape)} {came}; take [network] from that version's recipe, to which "
                    "only residual blocks may be added"
                )
            parameter.copy_(weights)


def _weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a version's graphs by the names that they have in the model."""
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
    except InvalidVersion as error:
        raise RecipeError(f"start is {str(folder)!r}, which is no published version: {error}") from error
    return {
        tensor.name.removeprefix("model."): torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for graph in manifest.graphs.values()
        for tensor in onnx.load(folder / graph.file).graph.initializer
    }
