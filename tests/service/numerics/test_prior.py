from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from service.errors import InvalidVersion
from service.format.manifest import Manifest
from service.format.versions import read_manifest
from service.numerics import noise
from service.numerics.noise import Stream
from service.numerics.prior import (
    PROPOSALS,
    SAMPLES,
    GaussianMixturePrior,
    Prior,
    StandardNormalPrior,
    read_prior,
)
from tests import toy

SEEDS = st.integers(0, noise.MAX_SEED)
PRIORS = st.sampled_from(
    [StandardNormalPrior(5), GaussianMixturePrior(toy.WEIGHTS, toy.MEANS, toy.LOG_VARIANCES)]
)
TEMPERATURES = st.sampled_from([0.0, 0.5, 1.0, 3.0])


def mixture() -> GaussianMixturePrior:
    return GaussianMixturePrior(toy.WEIGHTS, toy.MEANS, toy.LOG_VARIANCES)


def components(prior: GaussianMixturePrior, seed: int, start: int, count: int) -> NDArray[np.intp]:
    return prior.components_from(prior.words(seed, start, count))


@given(PRIORS, SEEDS, st.integers(0, 2**53 - 100), st.integers(1, 70), TEMPERATURES)
def test_a_latent_depends_on_its_seed_and_number_alone(
    prior: Prior, seed: int, start: int, count: int, temperature: float
) -> None:
    together = prior.latents(seed, start, count, temperature)
    alone = [prior.latents(seed, start + row, 1, temperature) for row in range(count)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert together.dtype == np.float32


@given(SEEDS, st.integers(0, 1000), st.integers(1, 40))
def test_the_standard_normal_is_the_noise_itself(seed: int, start: int, count: int) -> None:
    drawn = noise.normals(seed, Stream.LATENT, start, count, 7)
    np.testing.assert_array_equal(StandardNormalPrior(7).latents(seed, start, count, 1.0), drawn)
    half = StandardNormalPrior(7).latents(seed, start, count, 0.5)
    np.testing.assert_array_equal(half, drawn * np.float32(0.5))


@given(SEEDS, st.integers(0, 1000), st.integers(1, 40), TEMPERATURES)
def test_a_mixtures_latent_is_its_components_mean_and_scaled_noise(
    seed: int, start: int, count: int, temperature: float
) -> None:
    chosen = components(mixture(), seed, start, count)
    uniforms = noise.uniforms(seed, Stream.COMPONENT, start, count, 1)[:, 0]
    below = np.concatenate([[0], np.cumsum(toy.WEIGHTS)])
    assert ((below[chosen] <= uniforms) & (uniforms < below[chosen + 1] + 1e-12)).all()
    normal = noise.normals(seed, Stream.LATENT, start, count, toy.LATENT).astype(np.float64)
    expected = toy.MEANS[chosen] + temperature * np.exp(toy.LOG_VARIANCES[chosen] / 2) * normal
    latents = mixture().latents(seed, start, count, temperature)
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", [StandardNormalPrior(toy.LATENT), mixture()])
def test_proposals_have_streams_of_their_own(prior: Prior) -> None:
    proposals = prior.latents(7, 0, 200, 1.0, PROPOSALS)
    np.testing.assert_array_equal(prior.latents(7, 50, 100, 1.0, PROPOSALS), proposals[50:150])
    assert not np.isin(proposals, prior.latents(7, 0, 200, 1.0)).any()
    if isinstance(prior, GaussianMixturePrior):
        components = [
            prior.components_from(prior.words(7, 0, 200, streams)) for streams in (SAMPLES, PROPOSALS)
        ]
        assert 0.2 < np.mean(components[0] == components[1]) < 0.6  # as often as two draws agree


def test_at_temperature_zero_every_latent_is_the_mean_of_a_component() -> None:
    latents = mixture().latents(3, 0, 100, 0.0)
    np.testing.assert_array_equal(latents, toy.MEANS[components(mixture(), 3, 0, 100)])


def test_components_come_as_often_as_their_weights() -> None:
    weights = np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    prior = GaussianMixturePrior(weights, np.zeros((6, 1), np.float32), np.zeros((6, 1), np.float32))
    counts = np.bincount(components(prior, 1, 0, 100_000), minlength=6)
    assert counts[weights == 0].sum() == 0
    assert stats.chisquare(counts[weights > 0], 100_000 * weights[weights > 0]).pvalue > 1e-3


def test_latents_of_a_mixture_follow_its_law() -> None:
    latents = mixture().latents(2, 0, 50_000, 1.0)
    for dimension in range(toy.LATENT):

        def law(values: np.ndarray, dimension: int = dimension) -> np.ndarray:
            deviations = np.exp(toy.LOG_VARIANCES[:, dimension] / 2)
            parts = stats.norm.cdf(values[:, None], toy.MEANS[:, dimension], deviations)
            cdf: np.ndarray = parts @ toy.WEIGHTS
            return cdf

        assert stats.kstest(latents[:, dimension], law).pvalue > 1e-3


def test_the_latents_of_seed_5_stay_what_they_are() -> None:
    """The values are fixed here, so that no change of code or library changes the meaning of a seed."""
    expected = [[0.9754540, 2.3626561], [0.6733672, 0.9629682], [-1.4008316, 0.0126035]]
    np.testing.assert_allclose(mixture().latents(5, 2**52, 3, 1.0), expected, atol=1e-6)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return toy.publish_toy(tmp_path, mixture=True)


def test_the_published_mixture_is_read_as_it_was_written(version: Path) -> None:
    prior = read_prior(version, read_manifest(version))
    np.testing.assert_array_equal(prior.latents(1, 2, 9, 1.0), mixture().latents(1, 2, 9, 1.0))


def test_a_version_without_a_mixture_has_the_standard_normal(tmp_path: Path) -> None:
    version = toy.publish_toy(tmp_path)
    prior = read_prior(version, read_manifest(version))
    np.testing.assert_array_equal(
        prior.latents(1, 2, 9, 1.0), noise.normals(1, Stream.LATENT, 2, 9, toy.LATENT)
    )


Arrays = dict[str, np.ndarray]


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: change(arrays[name])}


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (changed("weights", lambda old: old * 0.9), "add up to 0.9"),
        (changed("weights", lambda old: old * [-1, 1, 1]), "none below 0"),
        (changed("weights", lambda old: old * [np.nan, 1, 1]), "weights holds values that are not finite"),
        (changed("weights", lambda old: old.astype(np.float32)), "weights is float32"),
        (changed("weights", lambda old: old[:, None]), r"weights is float64 \[3, 1\]; wanted float64 \[3\]"),
        (changed("means", lambda old: old[:2]), r"means is float32 \[2, 2\]; wanted float32 \[3, 2\]"),
        (changed("means", lambda old: old[:, :1]), r"means is float32 \[3, 1\]"),
        (changed("means", lambda old: old + np.float32(np.inf)), "means holds values that are not finite"),
        (changed("log_variances", lambda old: old.astype(np.float64)), "log_variances is float64"),
        (changed("log_variances", lambda old: old + np.float32(300)), "standard deviations float32 can hold"),
        (changed("log_variances", lambda old: old - np.float32(300)), "standard deviations float32 can hold"),
        (lambda arrays: {"weights": arrays["weights"]}, "means is not a file in the archive"),
    ],
)
def test_a_file_that_is_no_such_mixture_is_refused_and_the_flaw_told(
    version: Path, break_it: Callable[[Arrays], Arrays], complaint: str
) -> None:
    path = version / "prior.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, allow_pickle=False, **break_it(arrays))
    with pytest.raises(InvalidVersion, match=complaint):
        read_prior(version, read_manifest(version))


def as_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, toy.WEIGHTS)


def as_pickles(path: Path) -> None:
    np.savez(path, weights=np.array([{}]), means=toy.MEANS, log_variances=toy.LOG_VARIANCES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.unlink(),
        as_npy,
        as_pickles,
    ],
    ids=["empty", "text", "truncated", "missing", "npy", "pickles"],
)
def test_a_file_that_is_no_archive_of_arrays_is_refused(
    version: Path, damage: Callable[[Path], object]
) -> None:
    manifest: Manifest = read_manifest(version)
    damage(version / "prior.npz")
    with pytest.raises(InvalidVersion, match=r"prior\.npz"):
        read_prior(version, manifest)
