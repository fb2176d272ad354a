"""Calibration of a version's anomaly scores: its own graph on the calibration split, as the service runs it.

Shapes: N items, K draws, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from service.calibration import Calibration, Doubles, bounds_from_terms, surprise
from service.columns import column_places
from service.contract import (
    Bound,
    CalibratedStatistic,
    CalibrationSpec,
    Metric,
    ScoreDefaults,
    Statistic,
    Support,
)
from service.noise import scoring_noise
from service.versions import sha256_of
from training.data import Dataset
from training.gan import STATISTICS
from training.options import CalibrationOptions
from training.parity import Floats
from training.recipe import RecipeError

_ROWS = 100
_NOISE_ROWS = 1000


@dataclass(frozen=True)
class Scorer:
    """A version's anomaly statistics, as the service computes them."""

    surprises: Callable[[Floats], dict[Statistic, Doubles]]
    """Items (N, *item) to the surprises (N,) by each statistic."""
    default: Statistic
    """What a recipe that names no statistic is calibrated for."""
    draws: int | None = None
    seed: int | None = None
    """Of the noise that the surprises depend on, if there is any."""


Run = Callable[[Sequence[Floats]], tuple[Floats, ...]]
"""Computes a graph: inputs to outputs, in its order."""


def bound_scorer(run: Run, latent: int, analytic_kl: bool, options: CalibrationOptions) -> Scorer:
    """The bounds of a VAE with D = `latent`, by its graph `score`, with the same draws for every item.

    `analytic_kl` says whether the KL that the graph gives is exact.
    """
    eps = scoring_noise(options.seed, options.draws, latent)

    def surprises(items: Floats) -> dict[Statistic, Doubles]:
        parts = []
        for batch in _batches(items):
            shared = np.ascontiguousarray(np.broadcast_to(eps, (len(batch), *eps.shape)))
            parts.append(run([batch, shared]))
        terms = (np.concatenate(term) for term in zip(*parts, strict=True))
        bounds = bounds_from_terms(*terms, analytic_kl=analytic_kl)
        return {statistic: surprise(bounds, statistic) for statistic in get_args(Bound)}

    return Scorer(surprises, "elbo", options.draws, options.seed)


def distance_scorer(run: Run) -> Scorer:
    """The distances of a GAN with an encoder, by its graph `statistics`."""

    def surprises(items: Floats) -> dict[Statistic, Doubles]:
        columns = np.concatenate([run([batch])[0] for batch in _batches(items)])
        return dict(zip(STATISTICS, columns.T.astype(np.float64), strict=True))

    return Scorer(surprises, "f_anogan")


def _batches(items: Floats) -> Iterator[Floats]:
    for first in range(0, len(items), _ROWS):
        yield items[first : first + _ROWS]


def require_resolvable(options: CalibrationOptions, rows: int, way_out: str) -> None:
    """Refuse a level at which calibration on that many rows could never flag anything.

    `way_out` says how there could be more.

    Raises:
        RecipeError: `alpha` is below 1 / (rows + 1); names what would do.
    """
    if options.alpha * (rows + 1) < 1:
        raise RecipeError(
            f"calibration.alpha is {options.alpha:g}, but {rows} calibration items resolve no level below "
            f"{1 / (rows + 1):.3g}; raise alpha, or calibrate on at least {math.ceil(1 / options.alpha) - 1} "
            f"items ({way_out})"
        )


def calibrate(
    scorer: Scorer, support: Support, options: CalibrationOptions, dataset: Dataset, folder: Path
) -> tuple[CalibrationSpec, ScoreDefaults, dict[str, Metric]]:
    """Calibrate a version's scores, and measure how often test items, noise and outliers are flagged.

    Stores the sorted surprises of the calibration split as `calibration.npz` in `folder`; this is the first
    and only use of that split.

    Raises:
        RecipeError: The recipe's statistic is none that the model has.
    """
    spec, defaults, calibration = write_calibration(scorer, options, dataset.items["calibration"], folder)
    statistic = defaults.statistic
    drawn = f" with {scorer.draws} draws" if scorer.draws else ""
    rates = {}
    for name, items, what in _trials(support, dataset):
        p_values = calibration.p_values(scorer.surprises(items)[statistic])
        share = float((p_values <= options.alpha).mean())
        rates[name] = Metric(
            value=share,
            standard_error=_share_error(share, len(items)),
            unit="share",
            note=f"of {len(items)} {what}, flagged at alpha {options.alpha:g} by {statistic}{drawn}",
        )
    return spec, defaults, rates


def write_calibration(
    scorer: Scorer, options: CalibrationOptions, items: Floats, folder: Path
) -> tuple[CalibrationSpec, ScoreDefaults, Calibration]:
    """Store the sorted surprises of items (N, *item) as `calibration.npz` in `folder`.

    Returns:
        What the manifest says of them, how to score unless told, and the calibration of that.

    Raises:
        RecipeError: The statistic asked for is none that the model has.
    """
    surprises = {name: np.sort(v) for name, v in scorer.surprises(items).items()}
    statistic = options.statistic or scorer.default
    if statistic not in surprises:
        raise RecipeError(
            f"calibration.statistic is {statistic!r}, which this model does not have; "
            f"it has {', '.join(surprises)}"
        )
    path = folder / "calibration.npz"
    np.savez(path, allow_pickle=False, **surprises)
    how = {"draws": scorer.draws, "seed": scorer.seed}
    spec = CalibrationSpec(
        file=path.name,
        sha256=sha256_of(path),
        statistics={name: CalibratedStatistic(n=len(v), **how) for name, v in surprises.items()},
    )
    defaults = ScoreDefaults(statistic=statistic, alpha=options.alpha, **how)
    return spec, defaults, Calibration(surprises[statistic])


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
