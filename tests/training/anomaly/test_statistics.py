"""Laws of the scores of an item's way through a VAE, for any model."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.models.likelihood_cases import NAMES, dataset_for, tiny_vae
from tests.training.models.linear_gaussian import SIGMA, UnitNoise, linear_gaussian
from training.anomaly.path import FEATURES, fit_whitening
from training.anomaly.statistics import fit_path, fit_statistics, path_features, surprise_map
from training.export.sessions import PARITY_TOLERANCE
from training.models.vae import Vae, elbo, score_terms

WITH_A_PERFECT_RECONSTRUCTION = [name for name in NAMES if name != "gaussian"]


class OtherMeasure(UnitNoise):
    """The same densities against a measure that weighs items otherwise, as other units would."""

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        return super().value_log_prob(parameters, items) + 5 * torch.sin(items) - 3


def statistics_of(vae: Vae, items: Tensor) -> dict[str, Tensor]:
    fitted = fit_statistics(vae, items)
    with torch.no_grad():
        return dict(zip(fitted.names, fitted(vae, items).T, strict=True))


def at_the_mean(vae: Vae, items: Tensor) -> Tensor:
    """The ELBO whose only draw is the posterior mean."""
    with torch.no_grad():
        return elbo(score_terms(vae, items, torch.zeros(len(items), 1, vae.latent, dtype=items.dtype)))


def test_corrected_is_the_weighted_error_plus_the_kl_of_a_gaussian() -> None:
    vae, items, _ = linear_gaussian()
    with torch.no_grad():
        mean, log_variance = vae.encode(items)
        errors = (items - vae.decode(mean)).flatten(1).square().sum(1) / (2 * SIGMA**2)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    corrected = statistics_of(vae, items)["corrected"]
    torch.testing.assert_close(corrected, errors + kl)


def test_corrected_does_not_depend_on_the_measure_that_densities_are_taken_against_and_the_elbo_does() -> (
    None
):
    vae, items, _ = linear_gaussian(shift=0.3)
    other = Vae(vae.encoder, vae.decoder, OtherMeasure(), vae.latent, vae.prior)
    plain, against = statistics_of(vae, items), statistics_of(other, items)
    torch.testing.assert_close(plain["corrected"], against["corrected"])
    assert not torch.allclose(at_the_mean(vae, items), at_the_mean(other, items), atol=1.0)


@pytest.mark.parametrize("prior", ["standard-normal", "mixture"])
@pytest.mark.parametrize("name", WITH_A_PERFECT_RECONSTRUCTION)
def test_the_map_is_never_negative_and_sums_to_correcteds_reconstruction_part(name: str, prior: str) -> None:
    vae, items = tiny_vae(name, prior), torch.from_numpy(dataset_for(name).items["test"])
    with torch.no_grad():
        heat, kl = surprise_map(vae, items), path_features(vae, items)[:, FEATURES.index("kl")]
    assert heat.shape == items.shape
    assert (heat >= -1e-5).all()
    torch.testing.assert_close(heat.flatten(1).sum(1) + kl, statistics_of(vae, items)["corrected"])


def test_a_table_has_no_corrected_and_its_map_sums_to_the_log_likelihood() -> None:
    vae, items = (
        tiny_vae("gaussian", "standard-normal"),
        torch.from_numpy(dataset_for("gaussian").items["test"]),
    )
    assert list(statistics_of(vae, items)) == ["path"]
    with torch.no_grad():
        terms = score_terms(vae, items, torch.zeros(len(items), 1, vae.latent))
        heat = surprise_map(vae, items)
    torch.testing.assert_close(-heat.sum(1), terms.log_likelihood[:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_square_of_held_out_items_distances_is_the_number_of_features(name: str) -> None:
    vae, items = tiny_vae(name, "mixture"), torch.from_numpy(dataset_for(name).items["validation"])
    squares = statistics_of(vae, items)["path"].square()
    # less than that only where one feature nearly follows from the others, as of random binary pixels
    assert float(squares.mean()) == pytest.approx(len(FEATURES), rel=0.25 if name == "bernoulli" else 1e-3)


def test_the_distance_is_mahalanobis_and_the_same_in_any_units() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 4, generator=generator) @ torch.randn(4, 4, generator=generator) + 2
    centred = features.double() - features.double().mean(0)
    exact = (centred @ torch.linalg.inv(centred.T @ centred / 500) * centred).sum(1).sqrt()
    torch.testing.assert_close(fit_path(features)(features).double(), exact, rtol=1e-4, atol=1e-4)
    others = features * torch.tensor([0.1, 1.0, 50.0, 1e3]) + torch.tensor([0.0, -5.0, 9.0, 0.0])
    torch.testing.assert_close(fit_path(others)(others), fit_path(features)(features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flaw", ["constant", "repeated"])
def test_a_feature_that_tells_nothing_leaves_the_distance_finite(flaw: str) -> None:
    features = 3 + torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    features[:, 2] = 7.0 if flaw == "constant" else features[:, 0]
    distances = fit_path(features)(features)
    assert torch.isfinite(distances).all()
    assert float(distances.square().mean()) == pytest.approx(2, abs=0.1)


def test_what_lies_far_out_has_a_finite_score_and_a_large_one() -> None:
    dataset = dataset_for("gaussian")
    vae, items = tiny_vae("gaussian", "mixture"), torch.from_numpy(dataset.items["test"])
    far = items.clone()
    far[:, 0] = math.copysign(3e38, -1)
    fitted = fit_statistics(vae, items)
    with torch.no_grad():
        (near_path,), (far_path,) = fitted(vae, items).T, fitted(vae, far).T
    assert torch.isfinite(far_path).all()
    assert far_path.min() > near_path.max()


def test_scores_of_other_items_leave_a_row_as_it_is() -> None:
    vae, items = (
        tiny_vae("discretised-logistic", "mixture"),
        dataset_for("discretised-logistic").items["test"],
    )
    fitted = fit_statistics(vae, torch.from_numpy(items))
    order = np.random.default_rng(0).permutation(len(items))
    with torch.no_grad():
        whole = fitted(vae, torch.from_numpy(items))
        torch.testing.assert_close(fitted(vae, torch.from_numpy(items[order])), whole[order])
        torch.testing.assert_close(fitted(vae, torch.from_numpy(items[3:5])), whole[3:5])


@pytest.mark.parametrize("spread", [1e-7, 1e-4, 1e-2, 1])
@pytest.mark.parametrize("rows", [2, 8, 300])
def test_rounding_moves_no_distance_however_little_the_features_of_held_out_items_vary(
    rows: int, spread: float
) -> None:
    """A model that has learned nothing has such features, and its graph has to agree with torch."""
    random = np.random.default_rng(rows)
    centre = np.array([0.5, 0.06, 1.4, -1.1, 0.003])
    one = random.normal(size=(rows, 1)) @ random.normal(size=(1, 5))
    features = centre + spread * (one + 1e-3 * random.normal(size=(rows, 5)))
    path = fit_path(torch.from_numpy(features))
    rounded = features + random.choice([-1, 1], (rows, 5)) * 2e-8 * (1 + np.abs(centre))
    ours, theirs = (path(torch.from_numpy(each)).numpy() for each in (features, rounded))
    assert np.abs((ours - theirs) / (1 + theirs)).max() < PARITY_TOLERANCE
    assert (np.abs(fit_whitening(features).matrix) @ (1 + np.abs(features.mean(0)))).max() <= 500


def test_two_items_vary_in_one_direction_and_say_little_of_the_others() -> None:
    """They are the held-out ones of a table of 37 rows, and a distance near 1 had an error of 3e-5."""
    features = np.array([[0.77, 0.82, 1.28, 1.25, 0.38], [1.24, 1.05, 1.26, 2.11, 0.57]])
    assert (np.abs(fit_whitening(features).matrix) @ (1 + np.abs(features.mean(0)))).max() < 50


def test_features_that_vary_are_whitened_as_they_are() -> None:
    features = np.random.default_rng(0).normal(size=(300, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    centre, matrix = fit_whitening(features)
    whitened = (features - centre) @ matrix.T
    np.testing.assert_allclose(whitened.T @ whitened / 300, np.eye(5), atol=1e-9)
