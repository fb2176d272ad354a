"""Items as people look at them: as a table with the names of its columns, or as a picture.

The manifest of their version, from `Client.model` or `LocalModel.manifest`, says what they are. Shapes: B
items; F features; pictures of C channels and H x W pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pushforward.results import Floats
from service.errors import Unfit
from service.format.columns import OTHER
from service.format.manifest import is_picture
from service.media import pictures
from service.media.pictures import View
from service.media.tables.writing import columns_of, numbered_columns, whole_values

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

LEGIBLE_PIXELS: Final = 56
"""Pictures in a grid are enlarged to at least this width by default."""
Columns = Sequence[Mapping[str, Any]]
"""The columns of a table, as a manifest has them."""


def to_pandas(items: Any, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return items (B, ...) as a DataFrame of B rows; pandas has to be installed.

    It has the columns of the model's table, with the names of categories; or, without a table, one for each
    value. A column of whole numbers has integers if all its values are whole, as those of draws are; one of
    truth values has those.

    Args:
        items: Samples, reconstructions, or other items of the model.
        manifest: The manifest of the version: `client.model(name)`, or `manifest()` of a local model.

    Raises:
        Unfit: the items have another number of values than those of the model.
    """
    import pandas as pd

    rows = np.asarray(items, np.float32)
    columns, size = manifest["columns"], math.prod(manifest["item_shape"])
    if rows.ndim < 2 or math.prod(rows.shape[1:]) != size:
        raise Unfit(
            f"an array of the shape {list(rows.shape)} came; items of {manifest['name']} have the shape "
            f"[rows, {', '.join(map(str, manifest['item_shape']))}]"
        )
    table = named_table(rows, columns)
    whole = whole_columns(columns)
    for name, categories in ((column["name"], column["categories"]) for column in columns):
        if name in whole and _is_whole(table[name]):
            table[name] = whole_values(table[name], categories)
    return pd.DataFrame(table)


def to_image(
    items: Any,
    manifest: Mapping[str, Any] | None = None,
    *,
    across: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Return a grid of pictures, or the density of points of a plane, as an image of Pillow.

    Args:
        items: Pictures (B, C, H, W) in [0, 1], one picture (C, H, W), or points (B, 2).
        manifest: The manifest of the points' version, which says what part of the plane to show; without it
            every point is shown.
        across: Pictures in a row of the grid; by default as many as there are rows.
        scale: Pixels per pixel of a picture, along each side; by default small pictures are enlarged.

    Raises:
        Unfit: the items are neither pictures nor points, or not finite.
    """
    from PIL import Image

    array = np.asarray(items, np.float32)
    array = array[None] if array.ndim == 3 else array
    are_points = array.ndim == 2 and array.shape[1] == 2
    if not (array.size and (are_points or is_picture(array.shape[1:]))):
        raise Unfit(
            f"an array of the shape {list(np.shape(items))} came; wanted pictures, [rows, channels, height, "
            "width] with 1 or 3 channels, or points, [rows, 2]"
        )
    if not np.isfinite(array).all():
        raise Unfit("the items have values that are not finite, which no picture can show")
    return Image.open(io.BytesIO(png_of(array, view_of(manifest or {}), across, scale)))


def heat_image(
    maps: Any,
    manifest: Mapping[str, Any],
    beneath: Any = None,
    *,
    across: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Return maps of surprise as heat: black for what is ordinary, then red, yellow and white.

    Args:
        maps: Maps (B, C, H, W), as `surprise_map` gives them.
        manifest: The manifest of their version, which says how much surprise is ordinary.
        beneath: The pictures that they belong to, (B, C, H, W) in [0, 1], to lay the heat over.
        across: As for `to_image`.
        scale: As for `to_image`.

    Raises:
        Unfit: the maps are not those of pictures, or the pictures have another shape.
    """
    surprise = np.asarray(maps, np.float32)
    below = None if beneath is None else np.asarray(beneath, np.float32)
    if (
        surprise.ndim != 4
        or not is_picture(surprise.shape[1:])
        or not (below is None or below.shape == surprise.shape)
    ):
        shapes = [list(array.shape) for array in (surprise, below) if array is not None]
        raise Unfit(
            f"arrays of the shapes {shapes} came; wanted maps, [rows, channels, height, width], and the "
            "pictures that they belong to, of the same shape"
        )
    return to_image(pictures.heat_of(surprise, manifest.get("map_scale"), below), across=across, scale=scale)


def png_of(items: Floats, view: View | None, across: int | None, scale: int | None) -> bytes:
    """Return a grid of pictures, or a density of points in the plane, as PNG, drawn as by the service.

    Small pictures are enlarged by a whole factor: `scale`, or what makes them `LEGIBLE_PIXELS` wide.
    """
    if items.ndim == 2:
        return pictures.density_png(items, view)
    factor = scale or math.ceil(LEGIBLE_PIXELS / items.shape[-1])
    return pictures.write_png(pictures.grid_pixels(items, across, factor))


def view_of(manifest: Mapping[str, Any]) -> View | None:
    """Return the part of the plane that a density of the model's points shows, if it names one."""
    view = manifest.get("view")
    return None if view is None else (tuple(view[0]), tuple(view[1]))


def named_table(items: Floats, columns: Columns, whole: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Return items (B, ...) as columns (B,) by name, with the names of categories.

    Without `columns` there is one for each value. Those named in `whole` become integers or truth values.
    """
    flat = items.reshape(len(items), -1)
    if not columns:
        return numbered_columns({"value": flat})
    return columns_of(flat, {column["name"]: column["categories"] for column in columns}, whole)


def whole_columns(columns: Columns) -> set[str]:
    """Return the names of the columns that have whole numbers or truth values in all rows learned."""
    return {column["name"] for column in columns if column.get("decimals") == 0}  # older services know none


def _is_whole(values: NDArray[Any]) -> bool:
    """Return True if integers or truth values can stand for all values (B,): none is missing or unseen."""
    if values.dtype == object:
        return {None, OTHER}.isdisjoint(values.tolist())
    return bool((np.abs(values) < 2**62).all() and (values == np.rint(values)).all())
