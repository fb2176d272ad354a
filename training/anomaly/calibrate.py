"""Calibration of a version's anomaly scores: its own graph on the calibration split, as the service runs it.

Shapes: N items, K draws, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
from scipy.stats import betabinom

from service.format.manifest import (
    Bound,
    CalibratedStatistic,
    CalibrationSpec,
    Column,
    Metric,
    ScoreDefaults,
    Statistic,
    Support,
    column_places,
)
from service.format.versions import sha256_of
from service.numerics.calibration import Calibration, bounds_from_terms, surprise
from service.numerics.noise import Doubles, Floats, scoring_noise
from training.data import Dataset
from training.options import CalibrationOptions
from training.recipe import RecipeError

_BOUNDS: Final[tuple[Statistic, ...]] = get_args(Bound)
_ROWS = 100
_NOISE_ROWS = 1000
_NORMAL = "flagged_test"
FLAGGED_AT = "flagged_at_"
"""How the names begin of the shares of test items that are flagged at several levels."""
LEVELS = (0.01, 0.05, 0.1)
_BAND = 0.99


@dataclass(frozen=True)
class Scorer:
    """A version's anomaly statistics, as the service computes them."""

    surprises: Callable[[Floats], dict[Statistic, Doubles]]
    """Items (N, *item) to the surprises (N,) by each statistic."""
    default: Statistic
    """What a recipe that names no statistic is calibrated for."""
    options: CalibrationOptions
    """Draws and seed of the noise that bounds depend on."""

    def noise(self, statistic: Statistic) -> dict[str, int]:
        """The draws and the seed that surprises by a statistic depend on, if any."""
        if statistic not in _BOUNDS:
            return {}
        return {"draws": self.options.draws, "seed": self.options.seed}


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

    return Scorer(surprises, "elbo", options)


def column_scorer(run: Run, names: Sequence[Statistic], options: CalibrationOptions) -> Scorer:
    """What the graph `statistics` gives, whose columns have those names: scores free of noise."""

    def surprises(items: Floats) -> dict[Statistic, Doubles]:
        columns = np.concatenate([run([batch])[0] for batch in _batches(items)])
        return dict(zip(names, columns.T.astype(np.float64), strict=True))

    return Scorer(surprises, names[-1], options)


def both_scorers(first: Scorer, second: Scorer) -> Scorer:
    """The statistics of two scorers of one version, by default the first's."""
    return replace(first, surprises=lambda items: first.surprises(items) | second.surprises(items))


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
    drawn = f" with {defaults.draws} draws" if defaults.draws else ""
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
        if name == _NORMAL:
            rates |= _flagged_at_levels(p_values, len(dataset.items["calibration"]))
    return spec, defaults, rates


def _flagged_at_levels(p_values: Doubles, calibrated_on: int) -> dict[str, Metric]:
    """The shares of normal items that are flagged, beside what such shares can be."""
    found = {}
    for level in (level for level in LEVELS if level * (calibrated_on + 1) >= 1):
        share = float((p_values <= level).mean())
        low, high = flagged_band(len(p_values), level, calibrated_on)
        found[f"{FLAGGED_AT}{level:g}"] = Metric(
            value=share,
            standard_error=_share_error(share, len(p_values)),
            unit="share",
            note=f"of {len(p_values)} test items; {low:.3g} to {high:.3g} in 99 % of cases if exchangeable",
        )
    return found


def flagged_band(items: int, level: float, calibrated_on: int) -> tuple[float, float]:
    """Between which shares of that many normal items are flagged, in 99 % of cases.

    The count is beta-binomial with parameters l and n + 1 - l, l = floor(level (n + 1)), if they and the n
    items calibrated on are exchangeable and no two tie. Source: Vovk 2012, "Conditional validity of
    inductive conformal predictors", for the beta law of the rate.
    """
    rank = math.floor(level * (calibrated_on + 1))
    low, high = betabinom.ppf([(1 - _BAND) / 2, (1 + _BAND) / 2], items, rank, calibrated_on + 1 - rank)
    return float(low) / items, float(high) / items


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
    if statistic == "auto":
        raise RecipeError(
            "calibration.statistic is 'auto', which chooses when a trained model is exported; to calibrate a "
            f"version anew, name one of {', '.join(surprises)}"
        )
    if statistic not in surprises:
        raise RecipeError(
            f"calibration.statistic is {statistic!r}, which this model does not have; "
            f"it has {', '.join(surprises)}"
        )
    path = folder / "calibration.npz"
    np.savez(path, allow_pickle=False, **surprises)
    spec = CalibrationSpec(
        file=path.name,
        sha256=sha256_of(path),
        statistics={
            name: CalibratedStatistic(n=len(v), **scorer.noise(name)) for name, v in surprises.items()
        },
    )
    defaults = ScoreDefaults(statistic=statistic, alpha=options.alpha, **scorer.noise(statistic))
    return spec, defaults, Calibration(surprises[statistic])


def _trials(support: Support, dataset: Dataset) -> Iterator[tuple[str, Floats, str]]:
    """What an anomaly score is tried on: the figure's name, the items, and what they are."""
    yield _NORMAL, dataset.items["test"], "test items"
    random = np.random.default_rng(0)
    if support == "real":
        mixed = mixed_columns(dataset.items["train"], dataset.columns, _NOISE_ROWS, random)
        yield "flagged_mixed", mixed, "rows with every column from another training row"
    else:
        noise = random.random((_NOISE_ROWS, *dataset.item_shape), dtype=np.float32)
        noise = noise.round() if support == "binary" else noise
        yield "flagged_noise", noise, "items of uniform noise"
    if dataset.outliers is not None:
        yield "flagged_outliers", dataset.outliers, "items of the classes that were kept out"


def mixed_columns(items: Floats, columns: Sequence[Column], rows: int, random: np.random.Generator) -> Floats:
    """Rows (rows, F) whose columns are those of items (N, F), but belong to different ones of them."""
    places = [place for _, place in column_places(columns)]
    return np.concatenate([items[random.integers(len(items), size=rows), place] for place in places], axis=1)


def _share_error(share: float, rows: int) -> float:
    """The standard error of a share of rows, positive even where none or all were counted.

    Source: Agresti & Coull 1998, "Approximate is better than exact", The American Statistician 52(2).
    """
    centred = (share * rows + 2) / (rows + 4)
    return math.sqrt(centred * (1 - centred) / (rows + 4))
