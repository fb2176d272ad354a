import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.numerics import noise
from service.numerics.noise import Stream

SEEDS = st.integers(0, noise.MAX_SEED)


def test_the_generator_gives_the_published_known_answer() -> None:
    """Random123's vectors for philox4x64-10: counter and key all zero."""
    words = noise.contiguous_words(0, Stream.LATENT, 0, 1, 4)[0]
    assert [hex(int(word)) for word in words] == [
        "0x16554d9eca36314c",
        "0xdb20fe9d672d0fdc",
        "0xd7e772cee186176b",
        "0x7e68b68aec7ba23b",
    ]


@given(SEEDS, st.sampled_from(Stream), st.integers(0, 2**53 - 64), st.integers(1, 40), st.integers(1, 33))
def test_scattered_items_are_the_contiguous_ones(
    seed: int, stream: Stream, start: int, count: int, size: int
) -> None:
    together = noise.contiguous_words(seed, stream, start, count, size)
    seeds, indices = np.full(count, seed), np.arange(start, start + count)
    order = np.random.default_rng(0).permutation(count)
    np.testing.assert_array_equal(
        noise.scattered_words(seeds[order], stream, indices[order], size), together[order]
    )


@given(SEEDS, st.integers(2**52, 2**53 - 8), st.integers(30_000, 40_000))
def test_scattered_items_may_be_large_and_far_out(seed: int, start: int, size: int) -> None:
    """Their counters pass 2^64."""
    together = noise.contiguous_words(seed, Stream.OBSERVATION, start, 3, size)
    seeds, indices = np.full(3, seed), np.arange(start, start + 3)
    scattered = noise.scattered_words(seeds, Stream.OBSERVATION, indices, size)
    np.testing.assert_array_equal(scattered, together)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=30))
def test_runs_are_the_items_in_their_order_and_as_few_as_can_be(items: list[tuple[int, int]]) -> None:
    seeds, indices = (np.array(column) for column in zip(*items, strict=True))
    runs = noise.runs_of(seeds, indices)
    assert [(run.seed, run.start + row) for run in runs for row in range(run.rows)] == items
    assert noise.only_run(seeds, indices) == (runs[0] if len(runs) == 1 else None)
    for run, following in itertools.pairwise(runs):
        assert (run.seed, run.start + run.rows) != (following.seed, following.start)


@given(SEEDS, st.integers(0, 1000), st.integers(1, 70), st.integers(1, 40))
def test_an_item_does_not_depend_on_its_neighbours(seed: int, start: int, count: int, size: int) -> None:
    together = noise.normals(seed, Stream.LATENT, start, count, size)
    alone = np.concatenate([noise.normals(seed, Stream.LATENT, start + row, 1, size) for row in range(count)])
    np.testing.assert_array_equal(together, alone)


def test_normals_are_standard_normal_and_independent() -> None:
    drawn = noise.normals(11, Stream.LATENT, 0, 50_000, 7)
    assert drawn.dtype == np.float32
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(drawn.T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(drawn))


def test_uniforms_are_uniform_and_never_touch_their_ends() -> None:
    drawn = noise.uniforms(3, Stream.OBSERVATION, 0, 100_000, 5)
    assert 0 < drawn.min() < drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    extremes = np.array([[0, 2**64 - 1]], dtype=np.uint64)
    low, high = noise.uniforms_from(extremes, 2)[0]
    assert 0 < low < high < 1


def test_normals_from_extreme_words_are_finite() -> None:
    extremes = np.array([[0, 0, 2**64 - 1, 2**64 - 1]], dtype=np.uint64)
    assert np.isfinite(noise.normals_from(extremes, 4)).all()


def test_streams_of_one_seed_differ() -> None:
    drawn = [noise.normals(1, stream, 0, 100, 8).ravel() for stream in Stream]
    correlation = np.corrcoef(drawn) - np.eye(len(Stream))
    assert np.abs(correlation).max() < 0.2


def test_scoring_noise_starts_alike_for_any_number_of_draws() -> None:
    np.testing.assert_array_equal(noise.scoring_noise(1, 3, 5), noise.scoring_noise(1, 9, 5)[:3])


@pytest.mark.parametrize("walk", [noise.linear_path, noise.spherical_path])
def test_paths_hold_both_ends_exactly(walk: object) -> None:
    assert callable(walk)
    start, end = noise.normals(0, Stream.LATENT, 0, 2, 16)
    path = walk(start, end, 7)
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_array_equal(path[-1], end)
    assert path.shape == (7, 16)


def test_spherical_path_stays_on_the_sphere_of_its_ends() -> None:
    start, end = noise.normals(0, Stream.LATENT, 0, 2, 16)
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    path = noise.spherical_path(start, end, 11)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1.0, rtol=1e-6)
    angles = np.arccos(np.sum(path[:-1] * path[1:], axis=1))
    np.testing.assert_allclose(angles, angles[0], rtol=1e-2)


def test_spherical_path_between_parallel_or_zero_ends_is_finite() -> None:
    start = np.ones(4, np.float32)
    for end in (start, 2 * start, -start, 0 * start):
        assert np.isfinite(noise.spherical_path(start, end, 5)).all()
