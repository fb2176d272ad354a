"""The quality of a published discriminator where the exact density ratio is known."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from training.data import Dataset
from training.data.dataset import Scaling
from training.evaluation.discriminator import (
    SELECTION_RULES,
    Discrimination,
    Logits,
    SelectionRule,
    calibrate_discriminator,
    select,
)
from training.metrics.platt import Platt
from training.models.gan import Discriminator, Gan, Generator


class KnownRatio(nn.Module):
    """Logits that are 1/3 of log p / q, less 2, for p = N(0, 1) and q = N(0.8, 0.9^2)."""

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        log_ratio = math.log(0.9) + ((items - 0.8) / 0.9).square() / 2 - items.square() / 2
        return log_ratio / 3 - 2


def known_gan() -> Gan:
    """Generates N(0.8, 0.9^2), and knows how that differs from N(0, 1)."""
    shift = Scaling(shift=np.array([0.8], np.float32), scale=np.array([0.9], np.float32))
    return Gan(Generator(nn.Identity(), shift), Discriminator(KnownRatio(), None), 1, "real")


def line(items: dict[str, np.ndarray]) -> Dataset:
    labels = {split: np.zeros(len(rows), np.int64) for split, rows in items.items()}
    return Dataset("line", "", (1,), (), items, labels)  # type: ignore[arg-type]


def test_the_published_logit_is_the_log_density_ratio() -> None:
    def real(rows: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((rows, 1)).astype(np.float32)

    items = {
        "train": real(10, 0),
        "validation": real(20_000, 1),
        "calibration": real(10, 2),
        "test": real(5000, 3),
    }
    dataset = line(items)
    gan = known_gan()
    found = calibrate_discriminator(gan, dataset, seed=0)
    assert found.platt.slope == pytest.approx(3, rel=0.1)
    assert found.platt.intercept == pytest.approx(6, rel=0.1)
    metrics = found.metrics()
    assert metrics["calibration_error"].value < 0.03
    rows = found.reliability()
    assert sum(row.rows for row in rows) == 10_000
    assert all(abs(row.predicted - row.observed) < 0.1 for row in rows if row.rows > 200)
    assert 0 < metrics["jsd_lower_bound"].value < np.log(2)


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_what_the_discriminator_chooses_is_nearer_to_the_data(rule: SelectionRule) -> None:
    gan = known_gan()
    real = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    exact = Platt(3, 6)
    logits = Logits(exact(gan.discriminate(real[:, None])), torch.zeros(1))
    items = select(gan, Discrimination(exact, logits, logits, 3.0), rule, rows=4000, seed=0)
    assert items.shape == (4000, 1)
    assert scipy.stats.kstest(items[:, 0], "norm").statistic < 0.07
    assert scipy.stats.kstest(gan.decode(torch.randn(4000, 1))[:, 0], "norm").statistic > 0.3


def test_the_divergence_bound_of_equal_densities_is_about_zero() -> None:
    class Blind(nn.Module):
        def forward(self, items: torch.Tensor) -> torch.Tensor:
            return items * 0.3

    items = np.random.default_rng(0).standard_normal((4000, 1)).astype(np.float32)
    splits = {"validation": items[:2000], "test": items[2000:]}
    dataset = line(splits)
    unit = Scaling(shift=np.array([0], np.float32), scale=np.array([1], np.float32))
    gan = Gan(Generator(nn.Identity(), unit), Discriminator(Blind(), None), 1, "real")
    bound = calibrate_discriminator(gan, dataset, seed=0).metrics()["jsd_lower_bound"]
    assert bound.standard_error is not None
    assert abs(bound.value) < 5 * bound.standard_error + 1e-3
