"""Addressable noise: every number is a function of (seed, stream, index) alone.

The scheme is named `philox4x64-boxmuller-1` in every manifest. Item `index` of `stream` of `seed`
owns ceil(size / 4) blocks of the counter-based generator Philox 4x64-10 (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3", section 3.3), with key = (seed, stream) and
counter = index * ceil(size / 4) + block. Each block is four 64-bit words. Uniforms come from
single words, normals from pairs of words by Box-Muller in float64, rounded to float32. Shapes:
N items, D numbers per item.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from itertools import pairwise
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NOISE: Final = "philox4x64-boxmuller-1"
MAX_SEED: Final = 2**53 - 1
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Arrays = tuple[NDArray[Any], ...]
Words = NDArray[np.uint64]
_MASK_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_WEYL = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_ROUNDS = 10
_COUNTER = Struct("<4Q")
# arrays of no axes, because numpy converts a plain number at every use
_SHIFT_11 = np.array(11, np.uint64)
_ONE = np.array(1.0)
_STEP = np.array(2.0**-53)
_MINUS_TWO = np.array(-2.0)
_STEP_OF_ANGLE = np.array(2.0 * np.pi * 2.0**-53)


class Stream(IntEnum):
    """The purpose of the noise; streams of one seed are independent."""

    LATENT = 0
    COMPONENT = 1
    OBSERVATION = 2
    PROPOSAL = 3
    ACCEPTANCE = 4
    SCORING = 5
    PROPOSAL_COMPONENT = 6
    CHAIN_START = 7


def blocks_per_item(size: int) -> int:
    """Return the number of Philox blocks that an item of `size` numbers owns."""
    return -(-size // 4)


def contiguous_words(seed: int, stream: Stream, start: int, count: int, size: int) -> Words:
    """Return the words of items start .. start + count - 1, (count, 4 * ceil(size / 4))."""
    width = 4 * blocks_per_item(size)
    return _own.generator.words(seed, stream, start * width // 4, (count, width))


class _Generator:
    """numpy's Philox, moved from address to address; making a new one costs ten times as much."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(counter=0, key=0)
        # lists, because numpy reads one by one what it is given, and arrays are slow to read so
        self._counter = [0, 0, 0, 0]
        self._key = [0, 0]
        self._state: Any = {
            **self._philox.state,
            "state": {"counter": self._counter, "key": self._key},
            "buffer": [0, 0, 0, 0],
            "buffer_pos": 4,  # nothing is left over from an earlier block
        }

    def words(self, seed: int, stream: Stream, counter: int, shape: tuple[int, int]) -> Words:
        """Return words of the blocks from `counter` on, in that shape."""
        # numpy steps the counter before it makes a block, so it starts one below the first address
        before = (counter - 1) % 2**256
        self._counter[:] = _COUNTER.unpack(before.to_bytes(_COUNTER.size, "little"))
        self._key[:] = seed, stream
        self._philox.state = self._state
        return self._philox.random_raw(shape)


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.generator = _Generator()


_own = _PerThread()


def scattered_words(seeds: Integers, stream: Stream, indices: Integers, size: int) -> Words:
    """Return the words of items (seeds[n], indices[n]) for every n, (N, 4 * ceil(size / 4)).

    They are equal to those of `contiguous_words`.
    """
    blocks = blocks_per_item(size)
    high, low = _multiply(np.uint64(blocks), indices.astype(np.uint64)[:, None])
    x0: Words = low + np.arange(blocks).astype(np.uint64)
    x1: Words = high + (x0 < low)
    x2, x3 = np.zeros_like(x0), np.zeros_like(x0)
    key0: Words = np.broadcast_to(seeds.astype(np.uint64)[:, None], x0.shape)
    key1: Words = np.full_like(x0, int(stream))
    for round_number in range(_ROUNDS):
        if round_number:
            key0, key1 = key0 + _WEYL[0], key1 + _WEYL[1]
        high0, low0 = _multiply(_MULTIPLIERS[0], x0)
        high1, low1 = _multiply(_MULTIPLIERS[1], x2)
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0
    return np.stack((x0, x1, x2, x3), axis=-1).reshape(len(seeds), blocks * 4)


class IndexRun(NamedTuple):
    """The items start .. start + rows - 1 of one seed."""

    seed: int
    start: int
    rows: int


def only_run(seeds: Integers, indices: Integers) -> IndexRun | None:
    """Return the items (seeds[n], indices[n]), at least one, as a single run, or None if they are not one."""
    run = IndexRun(int(seeds[0]), int(indices[0]), len(seeds))
    # short arrays are compared as bytes in a fraction of the time
    one_seed = seeds.tobytes() == seeds[:1].tobytes() * run.rows
    return run if one_seed and indices.tobytes() == (np.arange(run.rows) + run.start).tobytes() else None


def runs_of(seeds: Integers, indices: Integers) -> list[IndexRun]:
    """Return the items (seeds[n], indices[n]), at least one, as the fewest runs in their order."""
    breaks = (seeds[1:] != seeds[:-1]) | (indices[1:] - indices[:-1] != 1)
    edges = pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), len(seeds)])
    return [IndexRun(int(seeds[first]), int(indices[first]), end - first) for first, end in edges]


def _multiply(multiplier: np.uint64, x: Words) -> tuple[Words, Words]:
    """High and low 64 bits of multiplier * x, by 32-bit halves."""
    a_high, a_low = multiplier >> _SHIFT_32, multiplier & _MASK_32
    x_high, x_low = x >> _SHIFT_32, x & _MASK_32
    low_low, high_low, low_high = a_low * x_low, a_high * x_low, a_low * x_high
    middle = (low_low >> _SHIFT_32) + (high_low & _MASK_32) + low_high
    high = a_high * x_high + (high_low >> _SHIFT_32) + (middle >> _SHIFT_32)
    return high, multiplier * x


def normals_from(words: Words, size: int) -> Floats:
    """Return standard normals, (N, size) float32, from (N, W) words by Box and Muller (1958)."""
    pairs = (words >> _SHIFT_11).reshape(len(words), words.shape[1] // 2, 2)  # 0 .. 2^53 - 1
    radius, angle = pairs.transpose(2, 0, 1).astype(np.float64, order="C")
    radius += _ONE
    radius *= _STEP  # a uniform in (0, 1]
    np.log(radius, out=radius)
    radius *= _MINUS_TWO
    np.sqrt(radius, out=radius)
    angle *= _STEP_OF_ANGLE  # 2 pi times a uniform in [0, 1)
    normals = np.empty(words.shape, dtype=np.float32)
    normals[:, 0::2] = radius * np.cos(angle)
    normals[:, 1::2] = radius * np.sin(angle)
    return normals if words.shape[1] == size else np.ascontiguousarray(normals[:, :size])


def uniforms_from(words: Words, size: int) -> Floats:
    """Return uniforms in the open interval (0, 1), (N, size) float32: (k + 1/2) / 2^23, so never 0 or 1."""
    return ((words[:, :size] >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)


def normals(seed: int, stream: Stream, start: int, count: int, size: int) -> Floats:
    """Return standard normals of items start .. start + count - 1 of a stream, (count, size) float32."""
    return normals_from(contiguous_words(seed, stream, start, count, size), size)


def uniforms(seed: int, stream: Stream, start: int, count: int, size: int) -> Floats:
    """Return uniforms in (0, 1) of items start .. start + count - 1 of a stream, (count, size) float32."""
    return uniforms_from(contiguous_words(seed, stream, start, count, size), size)


def scoring_noise(seed: int, draws: int, latent_size: int) -> Floats:
    """Return the eps (K, D) for every row of a request; the first k draws do not depend on K."""
    return normals(seed, Stream.SCORING, 0, draws, latent_size)


def linear_path(start: Floats, end: Floats, steps: int) -> Floats:
    """Return (steps, D) points on the straight line from start to end, which are both exact."""
    weight = np.linspace(0.0, 1.0, steps)[:, None]
    points = (1.0 - weight) * start.astype(np.float64) + weight * end.astype(np.float64)
    return _with_exact_ends(points, start, end)


def spherical_path(start: Floats, end: Floats, steps: int) -> Floats:
    """Return (steps, D) points from start to end along the great circle between their directions.

    A Gaussian prior keeps its mass in a thin shell, which a straight line leaves. Source: Shoemake
    1985; White 2016, arXiv:1609.04468, section 2.1. Where the directions are (anti)parallel, or an
    end is the origin, the great circle is not defined and the straight line is used.
    """
    first, last = start.astype(np.float64), end.astype(np.float64)
    norms = np.linalg.norm(first) * np.linalg.norm(last)
    cosine = float(first @ last / norms) if norms > 0 else 1.0
    angle = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if np.sin(angle) < 1e-6:
        return linear_path(start, end, steps)
    weight = np.linspace(0.0, 1.0, steps)[:, None]
    points = (np.sin((1.0 - weight) * angle) * first + np.sin(weight * angle) * last) / np.sin(angle)
    return _with_exact_ends(points, start, end)


def _with_exact_ends(points: NDArray[np.float64], start: Floats, end: Floats) -> Floats:
    path = points.astype(np.float32)
    path[0], path[-1] = start, end
    return path
