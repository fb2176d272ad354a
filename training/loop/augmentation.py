"""Augmentation: training items are changed a little, differently in each step. Shapes: B items of C, H, W."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.format.manifest import Support, is_picture
from training.data import Dataset
from training.loop.noise import Noise
from training.options import AugmentationOptions
from training.recipe import RecipeError

_LEVELS = 255


class Augmentation:
    """Changes batches of training items as a recipe's [augmentation] table says."""

    def __init__(self, options: AugmentationOptions, dataset: Dataset, support: Support) -> None:
        """Raise a RecipeError if pictures are needed, and items are none, or pixels are binary."""
        picture = is_picture(dataset.item_shape)
        if (options.flip or options.shift) and not picture:
            raise RecipeError(
                f"augmentation.flip and .shift came with items of shape {list(dataset.item_shape)}; they are "
                "for pictures: remove them"
            )
        if options.noise and support == "binary":
            raise RecipeError(
                f"augmentation.noise {options.noise:g} came with binary pixels, which have no values between "
                "0 and 1; remove it"
            )
        if picture and options.shift >= min(dataset.item_shape[1:]):
            raise RecipeError(
                f"augmentation.shift {options.shift} came with pictures of "
                f"{' x '.join(map(str, dataset.item_shape[1:]))} pixels; set it below both"
            )
        self._options = options
        self._support = support
        scale = None if dataset.scaling is None else dataset.scaling.scale
        self._scale = torch.ones(()) if scale is None else torch.from_numpy(scale)

    @property
    def changes(self) -> bool:
        """Return whether it changes anything."""
        return self._options.flip or bool(self._options.shift) or bool(self._options.noise)

    def __call__(self, items: Tensor, noise: Noise) -> Tensor:
        """Return changed items (B, *item), by this step's noise."""
        options = self._options
        if options.flip:
            mirrored = noise.uniform(len(items), 1, 1, 1).to(items.device) < 0.5
            items = torch.where(mirrored, items.flip(-1), items)
        if options.shift:
            items = _shifted(items, options.shift, noise)
        if options.noise:
            normals = noise.normal(*items.shape).to(items.device)
            items = self._in_range(items + options.noise * self._scale.to(items.device) * normals)
        return items

    def _in_range(self, items: Tensor) -> Tensor:
        if self._support == "real":
            return items
        items = items.clamp(0, 1)
        return (items * _LEVELS).round() / _LEVELS if self._support == "eight_bit" else items


def _shifted(pictures: Tensor, most: int, noise: Noise) -> Tensor:
    """Move each picture by whole pixels, evenly within `most` each way; the border's pixels are repeated."""
    rows, _, height, width = pictures.shape
    padded = nn.functional.pad(pictures, (most,) * 4, mode="replicate")
    down, right = (
        (noise.uniform(rows) * (2 * most + 1)).long().clamp(max=2 * most).to(pictures.device)
        for _ in range(2)
    )
    ys = down[:, None] + torch.arange(height, device=pictures.device)
    xs = right[:, None] + torch.arange(width, device=pictures.device)
    which = torch.arange(rows, device=pictures.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2).contiguous()
