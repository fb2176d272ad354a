"""Calibration of a published VAE: its own `score` graph on the calibration split, as the service will run it.

Shapes: N items, B rows, K draws, D latent dimensions; items (N, C, H, W).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.calibration import Bounds, Calibration, bounds_from_terms, surprise
from service.contract import CalibratedStatistic, CalibrationSpec, Metric, Statistic, sha256_of
from service.noise import scoring_noise
from training.data import Dataset
from training.parity import Exported, Floats
from training.recipe import CalibrationOptions

_ROWS = 100
_NOISE_ROWS = 1000
_STATISTICS: tuple[Statistic, ...] = ("elbo", "importance_bound")


def _score(exported: Exported, items: Floats, eps: Floats) -> Bounds:
    """Bounds of items (N, C, H, W) with the same eps (K, D) for each, as the service computes them."""
    parts = []
    for first in range(0, len(items), _ROWS):
        batch = items[first : first + _ROWS]
        shared = np.ascontiguousarray(np.broadcast_to(eps, (len(batch), *eps.shape)))
        parts.append(exported.run([batch, shared]))
    return bounds_from_terms(*(np.concatenate(terms) for terms in zip(*parts, strict=True)))


def calibrate(
    exported: Exported, latent: int, options: CalibrationOptions, dataset: Dataset, folder: Path
) -> tuple[CalibrationSpec, dict[str, Metric]]:
    """Calibrate a VAE's scores, and measure how often test items and noise are flagged.

    Stores the sorted surprises of the calibration split as `calibration.npz` in `folder`; this is the first
    and only use of that split.
    """
    eps = scoring_noise(options.seed, options.draws, latent)
    bounds = _score(exported, dataset.images["calibration"], eps)
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
    noise = np.random.default_rng(0).random((_NOISE_ROWS, *dataset.item_shape), dtype=np.float32)
    rates = {}
    for name, items, what in (
        ("flagged_test", dataset.images["test"], "test items"),
        ("flagged_noise", noise.round() if dataset.binary else noise, "items of uniform noise"),
    ):
        p_values = calibration.p_values(surprise(_score(exported, items, eps), options.statistic))
        share = float((p_values <= options.alpha).mean())
        rates[name] = Metric(
            value=share,
            standard_error=float(np.sqrt(share * (1 - share) / len(items))),
            unit="share",
            note=f"of {len(items)} {what}, flagged at alpha {options.alpha:g} by {options.statistic} "
            f"with {options.draws} draws",
        )
    return spec, rates
