"""Pictures of how surprising each pixel is: from nats to colours, the same in every answer.

Shapes: B rows; maps (B, C, H, W) in nats.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.contract import is_picture
from service.errors import NotAcceptable

_HALF_NATS: Final = 1.0
"""The surprise of a pixel that is half as hot as can be: no scale of the answer's own, so that a picture does
not depend on what stands beside it."""


def heat_of(maps: NDArray[Any]) -> NDArray[np.float32]:
    """Heat (B, 3, H, W) in [0, 1] of maps: black for 0 nats, then red, yellow and at last white.

    The channels of a pixel are added; less than 0 nats counts as 0.

    Raises:
        NotAcceptable: the maps are those of no pictures.
    """
    if not is_picture(maps.shape[1:]):
        raise NotAcceptable(
            "this model's items are no pictures; accept application/json or application/x-npy"
        )
    nats = np.maximum(maps.astype(np.float64).sum(axis=1), 0.0)
    heat = 3.0 * nats / (nats + _HALF_NATS)
    colours: NDArray[np.float32] = (
        np.stack([heat, heat - 1.0, heat - 2.0], axis=1).clip(0.0, 1.0).astype("f4")
    )
    return colours
