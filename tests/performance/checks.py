"""Whether the servers answer rightly; asked before anything is timed."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from service.noise import Stream, normals

from .decoder import ITEM_SHAPE, LATENT_SIZE
from .failure import BenchFailed
from .raw import one_thread_session
from .servers import Target

_SEED: Final = 2024
_ROWS: Final = 64
_CONCURRENT: Final = 32
_TOLERANCE: Final = 1e-5

Floats = NDArray[np.float32]


def check_naive(target: Target, graph: Path) -> None:
    """Raises BenchFailed unless the naive server answers what ONNX Runtime computes."""
    latents = np.random.default_rng(_SEED).standard_normal((_ROWS, LATENT_SIZE), dtype=np.float32)
    with _client() as client:
        _compare(target, _samples(client, target, _ROWS, _SEED), _expected(graph, latents))
        _compare(target, _samples(client, target, 1, _SEED), _expected(graph, latents[:1]))


def check_service(target: Target, graph: Path) -> None:
    """Raises BenchFailed unless the service answers rightly and the same, bit for bit, in any company."""
    latents = normals(_SEED, Stream.LATENT, 0, _ROWS, LATENT_SIZE)
    with _client() as client:
        together = _samples(client, target, _ROWS, _SEED)
        _compare(target, together, _expected(graph, latents))
        seeds = [_SEED + number for number in range(_CONCURRENT)]
        alone = [_samples(client, target, 1, seed).tobytes() for seed in seeds]
        if alone[0] != together[:1].tobytes():
            raise BenchFailed(f"{target.name}: a sample differs alone and among {_ROWS} of its seed")
        with ThreadPoolExecutor(_CONCURRENT) as pool:
            at_once = pool.map(lambda seed: _samples(client, target, 1, seed).tobytes(), seeds)
            if list(at_once) != alone:
                raise BenchFailed(f"{target.name}: samples differ alone and with {_CONCURRENT} at once")
    if len(set(alone)) != _CONCURRENT:
        raise BenchFailed(f"{target.name}: different seeds gave equal samples")


def _client() -> httpx.Client:
    return httpx.Client(timeout=30.0, trust_env=False)


def _samples(client: httpx.Client, target: Target, count: int, seed: int) -> Floats:
    body, headers = {"count": count, "seed": seed}, {"accept": "application/x-npy"}
    try:
        answer = client.post(target.sample_url, json=body, headers=headers)
    except httpx.TransportError as error:
        raise BenchFailed(f"{target.name} did not answer ({type(error).__name__})") from error
    if answer.status_code != 200:
        raise BenchFailed(f"{target.name} answered {answer.status_code}: {answer.text[:300]}")
    samples: Floats = np.load(io.BytesIO(answer.content), allow_pickle=False)
    if samples.shape != (count, *ITEM_SHAPE) or samples.dtype != np.float32:
        raise BenchFailed(f"{target.name} answered {samples.dtype} of shape {samples.shape}")
    return samples


def _expected(graph: Path, latents: Floats) -> Floats:
    (samples,) = one_thread_session(graph).run(None, {"latents": latents})
    return np.asarray(samples)


def _compare(target: Target, got: Floats, expected: Floats) -> None:
    gap = float(np.max(np.abs(got - expected)))
    if not gap <= _TOLERANCE:
        raise BenchFailed(f"{target.name}: samples are off by {gap:.1e}, at most {_TOLERANCE:.0e} is allowed")
