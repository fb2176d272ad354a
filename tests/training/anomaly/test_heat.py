"""Laws of heat maps: ordinary pictures are dark, and a defect stands out."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from pushforward import load
from service.format.specs import GraphName
from service.media.pictures import heat_of, png_grid
from service.numerics.noise import Floats
from training.anomaly.heat import map_scale
from training.anomaly.running import RunGraph
from training.data import load_dataset
from training.export.publish import export
from training.loop.loop import train
from training.loop.runs import restore_published
from training.recipe import parse_recipe

SIDE = 32
HOT = 0.2
"""The grey of a pixel at the scale of the heat maps."""


def shapes(rows: int, seed: int) -> Floats:
    """Pictures (N, 1, 32, 32) of a light disc or rectangle anywhere on a dark ground, with 8 bits."""
    random = np.random.default_rng(seed)
    pictures = np.empty((rows, 1, SIDE, SIDE), np.float32)
    for picture in pictures:
        image = Image.new("L", (SIDE, SIDE), int(random.integers(20, 60)))
        x, y = random.uniform(9, 23, 2)
        wide, high = random.uniform(5, 8, 2)
        draw = ImageDraw.Draw(image)
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x - wide, y - high, x + wide, y + high), fill=int(random.integers(140, 220)))
        grey = np.asarray(image) + random.normal(0, 3, (SIDE, SIDE))
        picture[0] = grey.round().clip(0, 255) / 255
    return pictures


def scratched(pictures: Floats, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The pictures with a line drawn on each, and the places (N, 32, 32) of its pixels."""
    random = np.random.default_rng(seed)
    marked = pictures.copy()
    lines = np.zeros((len(pictures), SIDE, SIDE), bool)
    for picture, line in zip(marked, lines, strict=True):
        mask = Image.new("1", (SIDE, SIDE))
        ends = tuple(random.uniform(4, 28, 4).tolist())
        ImageDraw.Draw(mask).line(ends, fill=1, width=2)
        line[:] = np.asarray(mask)
        picture[0, line] = picture[0, line] < 0.4  # light on the ground, dark on a shape
    return marked, lines


def greys(maps: Floats, scale: float | None) -> Floats:
    """The heat maps (N, 32, 32) as PNG, read back as grey in [0, 1]."""
    pictures = [Image.open(io.BytesIO(png_grid(heat_of(each[None], scale)))) for each in maps]
    return np.stack([np.asarray(each).mean(axis=2, dtype=np.float32) / 255 for each in pictures])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_drawn_line_stands_out_and_ordinary_pictures_are_calm(tmp_path: Path) -> None:
    np.save(tmp_path / "shapes.npy", (255 * shapes(4000, 0)).round().astype(np.uint8))
    recipe = parse_recipe({
        "name": "shapes",
        "data": {"dataset": "arrays", "path": str(tmp_path / "shapes.npy")},
        "network": {"kind": "convolutional", "latent": 16, "channels": [16, 32], "hidden": [256]},
        "vae": {"likelihood": "discretised-logistic"},
        "loop": {"steps": 500, "batch_rows": 64, "learning_rate": 0.004, "ema_decay": 0.99},
    })  # fmt: skip
    dataset = load_dataset(recipe.data)
    train(recipe, dataset, tmp_path / "run")
    task, _ = restore_published(recipe, dataset, tmp_path / "run")
    model = load(export(task, recipe, dataset, {}, tmp_path / "models", lambda _line: None))
    scale = model.manifest()["map_scale"]
    test = dataset.items["test"][:300]
    ordinary = greys(model.surprise_map(test), scale)
    marked, lines = scratched(test, 9)
    defects = greys(model.surprise_map(marked), scale)
    assert (ordinary > HOT).mean() < 0.05
    assert roc_auc_score(lines.ravel(), defects.ravel()) >= 0.9


def test_the_scale_is_what_one_in_a_hundred_pixels_of_held_out_pictures_exceed() -> None:
    pictures = np.random.default_rng(0).exponential(size=(300, 3, 8, 8)).astype(np.float32)
    same: dict[GraphName, RunGraph] = {"map": lambda arrays: (arrays[0],)}
    labels = np.zeros(len(pictures), np.int64)
    found = map_scale(same, pictures, labels, 0)
    assert found is not None
    assert (pictures.sum(1) > found).mean() == pytest.approx(0.01, abs=1e-4)
    least = map_scale(same, np.zeros_like(pictures), labels, 0)
    assert least is not None
    assert least > 0
