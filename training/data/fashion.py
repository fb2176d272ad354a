"""Fashion-MNIST: read from Debian's package, the cache or the official address, with its hashes checked."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from service.media.items import unit_interval
from training.data.dataset import DataError, Dataset, Items, Labels, Pixels
from training.data.options import DataOptions
from training.data.pictures import picture_dataset
from training.data.splits import Classes, published_partition

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package `dataset-fashion-mnist`."""
OFFICIAL_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the unpacked content, because Debian compresses the files anew."""
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SOURCE = "Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), 28x28 pixels"
_TRAINING_FILE_ROWS = 60_000


def load_fashion(options: DataOptions, cache: Path) -> Dataset:
    """Load the 70 000 garments, (1, 28, 28): 50 000 train, 5 000 validation and 5 000 calibration items.

    The 10 000 pictures of the test file, in its order, are the test split; with dynamic binarisation they are
    binarised as in the literature (see `published_test_draw`). If only some classes are kept, the test file's
    other pictures are the outliers. Downloads are kept in `cache`.

    Raises:
        DataError: A file cannot be found or downloaded, its SHA-256 is wrong, or a class does not exist.
    """
    pixels, labels = _all_rows(cache)
    order = np.random.default_rng(options.split_seed).permutation(_TRAINING_FILE_ROWS)
    test, classes = np.arange(_TRAINING_FILE_ROWS, len(pixels)), Classes(FASHION_CLASSES, labels)
    rows = published_partition(order, test, 5_000, classes, options.keep, "fashion-mnist")
    dataset = picture_dataset("fashion-mnist", SOURCE, unit_interval(pixels), rows, options)
    if options.binarise == "dynamic":
        drawn = published_test_draw(pixels[:_TRAINING_FILE_ROWS], pixels[_TRAINING_FILE_ROWS:])
        tested = drawn[rows.rows["test"] - _TRAINING_FILE_ROWS]
        outliers = None if rows.outliers is None else drawn[rows.outliers - _TRAINING_FILE_ROWS]
        dataset = dataclasses.replace(dataset, items={**dataset.items, "test": tested}, outliers=outliers)
    return dataset


def published_test_draw(training_file: Pixels, test_file: Pixels) -> Items:
    """Binarise the test pictures as published figures have them: float32 zeros and ones.

    Every pixel is 1 with probability pixel / 255 in float64, drawn once from numpy's legacy generator, whose
    stream is frozen, with seed 777. The stream first binarises the published validation split, the last 10
    000 pictures of the training file, then the test file, both in the files' order. The first part is drawn
    here too and discarded, so that the second has the published bits.

    Sources: Tomczak & Welling 2018, arXiv:1705.07120, `load_dynamic_mnist` of their code, for MNIST; Norouzi
    et al. 2020, arXiv:2004.04795, `base_load_data.binarize` of theirs, for Fashion-MNIST.
    """
    generator = np.random.RandomState(777)
    generator.binomial(1, training_file[-10_000:] / 255.0)
    return generator.binomial(1, test_file / 255.0).astype(np.float32)


def _all_rows(cache: Path) -> tuple[Pixels, Labels]:
    """Return pixels (70 000, 1, 28, 28) and labels of the training file, then of the test file."""
    pixels, labels = (
        np.concatenate([_parse_idx(_fashion_file(f"{part}-{what}.gz", cache)) for part in ("train", "t10k")])
        for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return pixels[:, None], labels.astype(np.int64)


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


def _parse_idx(content: bytes) -> Pixels:
    """Parse the idx format: two zero bytes, type, number of axes, big-endian lengths, values."""
    axes = content[3]
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", count=axes, offset=4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
