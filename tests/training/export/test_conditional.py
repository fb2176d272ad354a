"""Models with a class condition, trained by recipes on digits, published, and used by label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pushforward.local import load
from service.numerics.noise import scoring_noise
from tests.training.publishing import publish_recipe
from training.anomaly.auroc import auroc
from training.anomaly.calibrate import flagged_band
from training.data import Dataset
from training.export.sessions import verify_version
from training.loop.runs import restore_published
from training.loop.vae import VaeTask
from training.models.conditions import one_hot
from training.models.vae import elbo, score_terms, with_fixed_prior
from training.recipe import Recipe, parse_recipe

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]

CLASSES = 10
CHANCE = 1 / CLASSES


def recipe_of(family: str, **objective: Any) -> Recipe:
    return parse_recipe(
        {
            "name": f"digits-{family}",
            "data": {"dataset": "digits"},
            "network": {"kind": "dense", "latent": 6, "hidden": [128]},
            family: {"conditional": True, **objective},
            "loop": {"steps": 1500, "batch_rows": 64, "ema_decay": 0.99},
            "evaluation": {"draws": 4},
            "calibration": {"draws": 8, "alpha": 0.05},
        }
    )


VAE = recipe_of("vae", likelihood="continuous-bernoulli", prior="mixture", prior_components=4)
GAN = recipe_of("gan", r1_weight=0.1)
GAN_WITH_ENCODER = parse_recipe(
    GAN.model_dump(mode="json", exclude_none=True)
    | {"name": "digits-gan-with-encoder", "encoder": {"loop": {"steps": 600, "batch_rows": 64}}}
)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_recipe(tmp_path_factory.mktemp("vae"), VAE)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_recipe(tmp_path_factory.mktemp("gan"), GAN)


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> LogisticRegression:
    rows = digits.items["train"].reshape(-1, 64)
    return LogisticRegression(max_iter=2000).fit(rows, digits.labels["train"])


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_samples_of_a_class_are_taken_for_that_class(
    family: str, request: pytest.FixtureRequest, classifier: LogisticRegression
) -> None:
    version = request.getfixturevalue(family)
    manifest = verify_version(version)
    assert manifest.class_names == tuple(map(str, range(CLASSES)))
    assert all(graph.inputs[-1].name == "labels" for graph in manifest.graphs.values())
    card = (version / "README.md").read_text()
    assert "sample i is of class i modulo 10" in card
    assert "It takes the class of an item, one of 10" in card
    assert ("log p(x | class)" in card) == (family == "vae")
    with load(version) as model:
        for number, name in enumerate(manifest.class_names):
            samples = model.sample(count=200, seed=3, label=name)
            np.testing.assert_array_equal(model.sample(count=5, seed=3, label=number), samples[:5])
            found = classifier.predict(samples.reshape(-1, 64))
            assert (found == number).mean() > 3 * CHANCE
            if family == "vae":
                drawn = model.sample(count=2, seed=3, label=number, output="draw")
                assert drawn.shape == (2, 1, 8, 8)


def test_scores_are_the_bounds_on_the_likelihood_given_the_class(vae: Path, digits: Dataset) -> None:
    task, _ = restore_published(VAE, digits, vae.parents[2] / "runs" / VAE.name)
    assert isinstance(task, VaeTask)
    items, labels = digits.items["test"][:30], digits.labels["test"][:30]
    eps = torch.from_numpy(scoring_noise(0, 8, 6)).expand(30, -1, -1)
    given = with_fixed_prior(task.model).given(one_hot(labels, CLASSES))
    with torch.no_grad():
        expected = elbo(score_terms(given, torch.from_numpy(items), eps)).numpy()
    with load(vae) as model:
        found = model.score(items, label=labels, statistic="elbo", draws=8, seed=0)
        alone = [model.score(items[row], label=int(labels[row])).surprise[0] for row in range(5)]
        together = model.score(items, label=labels).surprise
    np.testing.assert_allclose(found.columns["elbo"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(together[:5], alone)


def test_p_values_are_calibrated_on_labelled_items_and_find_wrong_labels(vae: Path, digits: Dataset) -> None:
    items, labels = digits.items["test"], digits.labels["test"]
    with load(vae) as model:
        right = model.score(items, label=labels)
        wrong = model.score(items, label=(labels + 1) % CLASSES)
    assert right.p_value is not None
    low, high = flagged_band(len(items), 0.05, len(digits.items["calibration"]))
    assert low <= (right.p_value <= 0.05).mean() <= high
    assert auroc(wrong.surprise, right.surprise) > 0.6
    metrics = verify_version(vae).metrics
    area = float(auroc(-wrong.columns["elbo"], -right.columns["elbo"]))
    assert metrics["auroc_elbo_mislabelled"].value == pytest.approx(area, abs=1e-6)


def test_an_item_is_reconstructed_as_one_of_its_class(
    vae: Path, digits: Dataset, classifier: LogisticRegression
) -> None:
    items, labels = digits.items["test"], digits.labels["test"]
    with load(vae) as model:
        rebuilt = model.reconstruct(items, label=labels)
        mean = model.encode(items, label=labels).mean
        np.testing.assert_array_equal(model.decode(mean, label=labels), rebuilt)
    assert (classifier.predict(rebuilt.reshape(-1, 64)) == labels).mean() > 0.7


def test_what_the_discriminator_chooses_is_of_the_class(gan: Path, classifier: LogisticRegression) -> None:
    labels = np.arange(200) % CLASSES
    with load(gan) as model:
        for method in ("rejection", "resample", "metropolis"):
            chosen = model.sample(count=200, seed=3, method=method)
            assert (classifier.predict(chosen.reshape(-1, 64)) == labels).mean() > 5 * CHANCE


def test_the_encoder_of_a_gan_scores_and_reconstructs_items_as_of_their_class(
    tmp_path: Path, digits: Dataset, classifier: LogisticRegression
) -> None:
    version = publish_recipe(tmp_path, GAN_WITH_ENCODER)
    manifest = verify_version(version)
    assert set(manifest.graphs) >= {"encode", "statistics", "map", "generate_scored"}
    items, labels = digits.items["test"], digits.labels["test"]
    with load(version) as model:
        right, wrong = (model.score(items, label=each) for each in (labels, (labels + 1) % CLASSES))
        rebuilt = model.reconstruct(items, label=labels)
        mean = model.encode(items, label=labels).mean
        np.testing.assert_array_equal(model.decode(mean, label=labels), rebuilt)
        residual = np.square(items - rebuilt).mean((1, 2, 3))
    np.testing.assert_allclose(right.columns["residual"], residual, rtol=1e-4, atol=1e-6)
    assert manifest.metrics["reconstruction_mse"].value == pytest.approx(residual.mean(), rel=1e-4)
    assert (classifier.predict(rebuilt.reshape(-1, 64)) == labels).mean() > 0.7
    assert auroc(wrong.surprise, right.surprise) > 0.6
    assert right.p_value is not None
    low, high = flagged_band(len(items), 0.05, len(digits.items["calibration"]))
    assert low <= (right.p_value <= 0.05).mean() <= high


def test_a_discriminator_finds_wrong_labels(gan: Path, digits: Dataset) -> None:
    items, labels = digits.items["test"], digits.labels["test"]
    with load(gan) as model:
        right = model.discriminate(items, label=labels).logit
        wrong = model.discriminate(items, label=(labels + 1) % CLASSES).logit
    assert auroc(-wrong, -right) > 0.6
