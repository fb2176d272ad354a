"""Calibration of a published VAE: its own `score` graph on the calibration split, as the service will run it.

Shapes: N items, B rows, K draws, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from service.calibration import Bounds, Calibration, bounds_from_terms, surprise
from service.contract import (
    CalibratedStatistic,
    CalibrationSpec,
    Metric,
    Statistic,
    Support,
    column_places,
    sha256_of,
)
from service.noise import scoring_noise
from training.data import Dataset
from training.options import CalibrationOptions
from training.parity import Exported, Floats
from training.recipe import RecipeError
from training.vae import Vae

_ROWS = 100
_NOISE_ROWS = 1000
_STATISTICS: tuple[Statistic, ...] = ("elbo", "importance_bound")


def _score(exported: Exported, items: Floats, eps: Floats, analytic_kl: bool) -> Bounds:
    """Bounds of items (N, *item) with the same eps (K, D) for each, as the service computes them."""
    parts = []
    for first in range(0, len(items), _ROWS):
        batch = items[first : first + _ROWS]
        shared = np.ascontiguousarray(np.broadcast_to(eps, (len(batch), *eps.shape)))
        parts.append(exported.run([batch, shared]))
    terms = (np.concatenate(term) for term in zip(*parts, strict=True))
    return bounds_from_terms(*terms, analytic_kl=analytic_kl)


def require_resolvable(options: CalibrationOptions, rows: int) -> None:
    """Refuse a level at which a calibration split of that many rows could never flag anything.

    Raises:
        RecipeError: `alpha` is below 1 / (rows + 1); names what would do.
    """
    if options.alpha * (rows + 1) < 1:
        raise RecipeError(
            f"calibration.alpha is {options.alpha:g}, but {rows} calibration items resolve no level below "
            f"{1 / (rows + 1):.3g}; raise alpha, or calibrate on at least {math.ceil(1 / options.alpha) - 1} "
            "items (data.calibration_share, or more rows)"
        )


def calibrate(
    exported: Exported, vae: Vae, options: CalibrationOptions, dataset: Dataset, folder: Path
) -> tuple[CalibrationSpec, dict[str, Metric]]:
    """Calibrate a VAE's scores, and measure how often test items, noise and outliers are flagged.

    Stores the sorted surprises of the calibration split as `calibration.npz` in `folder`; this is the first
    and only use of that split.
    """
    eps = scoring_noise(options.seed, options.draws, vae.latent)
    analytic_kl = vae.components() is None
    bounds = _score(exported, dataset.items["calibration"], eps, analytic_kl)
    surprises = {statistic: np.sort(surprise(bounds, statistic)) for statistic in _STATISTICS}
    path = folder / "calibration.npz"
    np.savez(path, allow_pickle=False, **surprises)
    spec = CalibrationSpec(
        file=path.name,
        sha256=sha256_of(path),
        statistics={
            statistic: CalibratedStatistic(n=len(values), draws=options.draws, seed=options.seed)
            for statistic, values in surprises.items()
        },
    )
    calibration = Calibration(surprises[options.statistic])
    rates = {}
    for name, items, what in _trials(vae.likelihood.support, dataset):
        scored = _score(exported, items, eps, analytic_kl)
        p_values = calibration.p_values(surprise(scored, options.statistic))
        share = float((p_values <= options.alpha).mean())
        rates[name] = Metric(
            value=share,
            standard_error=_share_error(share, len(items)),
            unit="share",
            note=f"of {len(items)} {what}, flagged at alpha {options.alpha:g} by {options.statistic} "
            f"with {options.draws} draws",
        )
    return spec, rates


def _trials(support: Support, dataset: Dataset) -> Iterator[tuple[str, Floats, str]]:
    """What an anomaly score is tried on: the figure's name, the items, and what they are."""
    yield "flagged_test", dataset.items["test"], "test items"
    random = np.random.default_rng(0)
    if support == "real":
        yield "flagged_mixed", _mixed(dataset, random), "rows with every column from another training row"
    else:
        noise = random.random((_NOISE_ROWS, *dataset.item_shape), dtype=np.float32)
        noise = noise.round() if support == "binary" else noise
        yield "flagged_noise", noise, "items of uniform noise"
    if dataset.outliers is not None:
        yield "flagged_outliers", dataset.outliers, "items of the classes that were kept out"


def _mixed(dataset: Dataset, random: np.random.Generator) -> Floats:
    """Rows whose columns are those of the training split, but belong to different rows of it."""
    train, parts = dataset.items["train"], []
    for _, place in column_places(dataset.columns):
        parts.append(train[random.integers(len(train), size=_NOISE_ROWS), place])
    return np.concatenate(parts, axis=1)


def _share_error(share: float, rows: int) -> float:
    """The standard error of a share of rows, positive even where none or all were counted.

    Source: Agresti & Coull 1998, "Approximate is better than exact", The American Statistician 52(2).
    """
    centred = (share * rows + 2) / (rows + 4)
    return math.sqrt(centred * (1 - centred) / (rows + 4))
