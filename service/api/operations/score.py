"""Scoring items by bounds on their log-likelihood or by noise-free statistics, with calibrated p-values."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from numpy.typing import NDArray
from pydantic import Field

from service.api.operations.call import Call, Result
from service.api.operations.options import Count, RowLabelOptions, Seed
from service.errors import LimitExceeded, Unfit
from service.format.manifest import Manifest
from service.format.specs import ScoreDefaults
from service.format.statistics import UNITS, Bound, Statistic
from service.numerics.calibration import Correction
from service.numerics.noise import Floats

_BOUNDS: Final[tuple[Statistic, ...]] = get_args(Bound)
# for versions without defaults
_DRAWS: Final = 16
_SEED: Final = 0
_ALPHA: Final = 0.01


class ScoreOptions(RowLabelOptions):
    """Options of scoring. Those left out have the values in the model's manifest."""

    statistic: Statistic | None = None
    """The statistic behind `surprise`: the negative of a bound on log p(x), or `corrected`, `path` or
    `kernel_density`, which are deterministic (VAE); or a distance (GAN). If the default statistic is
    deterministic, the answer also has the ELBO bounds of a VAE. Naming the statistic here leaves them out
    and costs a single pass."""
    draws: Count | None = None
    """Latent draws per item for the bounds. More draws give smaller standard errors."""
    seed: Seed | None = None
    """Seed of the draws, which are the same for every row."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of ordinary items that may be flagged as anomalies. With a correction: the share of the
    flagged items that may be ordinary."""
    correction: Correction = "none"
    """`benjamini-hochberg` keeps the false discovery rate (the expected share of ordinary items among the
    flagged ones) at or below alpha over the items of this request."""
    map: bool = False
    """Also answer how surprising each value of an item is. An npy or PNG answer holds that alone; the PNG's
    colours are on the model's `map_scale`, on which ordinary pictures are dark."""
    overlay: bool = False
    """PNG only: lay the colours of the map over the pictures, in grey."""

    columns: bool = False
    """Also answer the p-value of each column of a table by itself, for a VAE."""


async def score(call: Call[ScoreOptions]) -> Result:
    """Return the scores of items (B, *item), their surprises and, where calibrated, p-values, each (B,).

    With the option `columns`, also return `columns`, the p-value of each of the C columns of a table, (B, C),
    NaN where a value is missing; with `map`, also return `map`, (B, *item).

    Raises:
        Unfit: the version lacks the statistic, the map or the calibration of columns, the statistic has no
            draws, or there are no p-values to correct.
        LimitExceeded: too many draws, or an alpha below what the calibration can resolve.
    """
    items, options, how = call.items(), call.options, _checked(call)
    classes = call.classes(len(items))
    if options.columns:
        call.loaded.scorer.require_columns()
    more: dict[str, NDArray[Any]] = {"map": await surprise_map(call)} if options.map else {}
    scores = await call.loaded.scorer.score(items, how, call.timing, options.correction, classes)
    if options.columns:
        more["columns"] = await call.loaded.scorer.column_p_values(items, call.timing, classes)
    p_values, anomalies = scores.p_value, scores.anomaly
    fields = {
        "statistic": how.statistic,
        "draws": how.draws,
        "seed": how.seed,
        "alpha": how.alpha,
        "correction": options.correction,
        "threshold": scores.threshold,
        "unit": UNITS[how.statistic],
    }
    return Result(
        {**scores.columns, "surprise": scores.surprise, "p_value": p_values, "anomaly": anomalies, **more},
        fields,
        0 if anomalies is None else int(anomalies.sum()),
        () if p_values is None else p_values.tolist(),
    )


async def surprise_map(call: Call[ScoreOptions]) -> Floats:
    """Return the map of `score` alone, (B, *item). It raises what `score` raises, before any work."""
    items, how = call.items(), _checked(call)
    call.loaded.scorer.check(how, call.options.correction)
    return await call.loaded.surprise_map(items, call.timing, call.classes(len(items)))


def _checked(call: Call[ScoreOptions]) -> ScoreDefaults:
    """Return the completed options. Raise LimitExceeded if there are too many draws, per item or in all."""
    how = completed(call.options, call.loaded.manifest)
    draws, rows, settings = how.draws or 1, len(call.arrays["inputs"]), call.settings
    if draws > settings.max_draws:
        raise LimitExceeded(f"draws is {draws}, at most {settings.max_draws} are taken")
    if rows * draws > settings.max_score_cost:
        raise LimitExceeded(
            f"{rows} rows of {draws} draws are {rows * draws}, over the limit of "
            f"{settings.max_score_cost} a request; send fewer rows or ask for fewer draws"
        )
    return how


def completed(options: ScoreOptions, manifest: Manifest) -> ScoreDefaults:
    """Return the options, with the version's defaults for those left out.

    Raises:
        Unfit: the version lacks the statistic, or the statistic has no draws.
    """
    offered = manifest.offered_statistics
    standard = manifest.defaults or ScoreDefaults(statistic=offered[0], alpha=_ALPHA)
    statistic = options.statistic or standard.statistic
    if statistic not in offered:
        raise Unfit(f"{manifest.name} has no statistic {statistic}; it has {', '.join(offered)}")
    alpha = standard.alpha if options.alpha is None else options.alpha
    if statistic not in _BOUNDS and (options.statistic is not None or offered[0] not in _BOUNDS):
        if options.draws is not None or options.seed is not None:
            raise Unfit(f"the statistic {statistic} is free of noise: leave `draws` and `seed` out")
        return ScoreDefaults(statistic=statistic, alpha=alpha)
    calibrated = manifest.calibration.statistics if manifest.calibration else {}
    bound: Statistic = statistic if statistic in _BOUNDS else "elbo"
    noise = calibrated.get(bound) if standard.statistic != bound else standard
    draws, seed = (standard.draws, standard.seed) if noise is None else (noise.draws, noise.seed)
    return ScoreDefaults(
        statistic=statistic,
        draws=options.draws or draws or _DRAWS,
        seed=next((each for each in (options.seed, seed) if each is not None), _SEED),
        alpha=alpha,
    )
