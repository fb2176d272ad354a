"""Datasets, as float32 arrays (rows, C, H, W) in [0, 1], in four disjoint splits.

`train` fits weights, `validation` is watched and chosen on, `calibration` is used once, for p-values, after
every choice has been made, and `test` measures what is published.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.recipe import DataOptions

Images = npt.NDArray[np.float32]
Split = Literal["train", "validation", "calibration", "test"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the four files."""
OFFICIAL_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the unpacked content, because Debian packs the same files anew."""
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_IDX_UNSIGNED_BYTE = 0x08


class DataError(RuntimeError):
    """A dataset cannot be had or is not what it should be."""


@dataclass(frozen=True)
class Dataset:
    """A dataset in its four splits."""

    name: str
    item_shape: tuple[int, int, int]
    binary: bool
    """Whether every pixel is exactly 0 or 1 (else anything in [0, 1])."""
    class_names: tuple[str, ...]
    images: Mapping[Split, Images]
    """Per split: float32 (rows, C, H, W). With dynamic binarisation `train` is grey and is drawn per
    batch."""
    labels: Mapping[Split, npt.NDArray[np.int64]]
    """Per split: the class of each row; never shown to a model."""


def load_dataset(options: DataOptions, cache: Path | None = None) -> Dataset:
    """Load and split a dataset; equal options give equal arrays.

    Args:
        options: Which dataset, and whether to binarise it.
        cache: Where downloads are kept; `~/.cache/pushforward` unless told.

    Raises:
        DataError: Fashion-MNIST is neither installed nor downloadable, or a file's sha256 is wrong.
    """
    if options.dataset == "digits":
        images, labels, class_names = *_digits(), tuple(str(digit) for digit in range(10))
        held_out = 258
        order = np.random.default_rng(options.split_seed).permutation(len(images))
        rest, test = order[:-held_out], order[-held_out:]
        sizes = (128, 128)
    else:
        images, labels = _fashion(cache or Path.home() / ".cache" / "pushforward" / "fashion-mnist")
        class_names = FASHION_CLASSES
        rest = np.random.default_rng(options.split_seed).permutation(60_000)
        test = np.arange(60_000, 70_000)
        sizes = (5_000, 5_000)
    validation_rows, calibration_rows = sizes
    rows: dict[Split, npt.NDArray[np.int64]] = {
        "validation": rest[:validation_rows],
        "calibration": rest[validation_rows : validation_rows + calibration_rows],
        "train": rest[validation_rows + calibration_rows :],
        "test": test,
    }
    splits = {split: _binarised(images[index], split, options) for split, index in rows.items()}
    _, channels, height, width = images.shape
    return Dataset(
        name=options.dataset,
        item_shape=(channels, height, width),
        binary=options.binarise != "none",
        class_names=class_names,
        images=splits,
        labels={split: labels[index] for split, index in rows.items()},
    )


def _binarised(images: Images, split: Split, options: DataOptions) -> Images:
    if options.binarise == "threshold":
        return (images >= 0.5).astype(np.float32)
    if options.binarise == "dynamic" and split != "train":
        # Drawn once, so that figures on these splits are repeatable.
        uniforms = np.random.default_rng([options.split_seed, len(split)]).random(
            images.shape, dtype=np.float32
        )
        return (uniforms < images).astype(np.float32)
    return images


def _digits() -> tuple[Images, npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # takes a second to import: only for those who ask for digits

    bunch = load_digits()
    images: Images = (bunch.images[:, None] / 16.0).astype(np.float32)
    return images, bunch.target.astype(np.int64)


def _fashion(cache: Path) -> tuple[Images, npt.NDArray[np.int64]]:
    parts = []
    for kind in ("train", "t10k"):
        pixels = _parse_idx(_fashion_file(f"{kind}-images-idx3-ubyte.gz", cache))
        labels = _parse_idx(_fashion_file(f"{kind}-labels-idx1-ubyte.gz", cache))
        parts.append((pixels, labels))
    pixels = np.concatenate([part[0] for part in parts])[:, None]
    images: Images = pixels.astype(np.float32) / np.float32(255)
    return images, np.concatenate([part[1] for part in parts]).astype(np.int64)


def _fashion_file(name: str, cache: Path) -> bytes:
    for folder in (DEBIAN_FOLDER, cache):
        path = folder / name
        if path.is_file():
            return _unpacked(path.read_bytes(), name, str(path))
    address = OFFICIAL_ADDRESS + name
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            packed = answer.read()
    except OSError as error:
        raise DataError(
            f"{name} is neither in {DEBIAN_FOLDER} nor in {cache}, and {address} answered: {error}. "
            "Install Debian's package dataset-fashion-mnist, or put the file into the cache folder."
        ) from error
    content = _unpacked(packed, name, address)
    cache.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=cache)
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
    Path(partial).replace(cache / name)
    return content


def _unpacked(packed: bytes, name: str, source: str) -> bytes:
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} is not a whole gzip file: {error}; remove it and try again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != FASHION_SHA256[name]:
        raise DataError(
            f"{source} unpacks to sha256 {found}, but {name} should be {FASHION_SHA256[name]}; "
            "remove it and try again"
        )
    return content


def _parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Parse the idx format.

    Two zero bytes, the type, the number of axes, big-endian lengths, then the values.
    """
    kind, axes = content[2], content[3]
    if content[:2] != b"\0\0" or kind != _IDX_UNSIGNED_BYTE:
        raise DataError(f"not an idx file of unsigned bytes: it begins with {content[:4].hex()}")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", count=axes, offset=4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
