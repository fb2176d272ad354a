"""How a request is scored: its options, completed by the version's defaults, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.api.operations.options import Body, Count, Seed
from service.errors import LimitExceeded, Unfit
from service.format.manifest import UNITS, Bound, Manifest, ScoreDefaults, Statistic
from service.numerics.calibration import Correction
from service.numerics.noise import Doubles, Floats
from service.observe.timing import Timing
from service.runtime.model import LoadedModel
from service.runtime.scorer import Scores
from service.settings import Settings

_BOUNDS: Final[tuple[Statistic, ...]] = get_args(Bound)
_DRAWS: Final = 16
_SEED: Final = 0
_ALPHA: Final = 0.01
"""How a version is scored that has no defaults."""


class ScoreOptions(Body):
    """How to score; what is left out is taken from the model's manifest."""

    statistic: Statistic | None = None
    """What `surprise` is: the negative of a bound on log p(x), or `corrected` or `path`, which have no noise
    (VAE); or a distance (GAN). Where a VAE's is free of noise its bounds are told beside it, unless it is
    named here: then it takes a single pass."""
    draws: Count | None = None
    """Latent draws per item of the bounds; more draws, smaller standard errors."""
    seed: Seed | None = None
    """Names the draws, which are the same for every row."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of ordinary items that may be flagged as anomalies; with a correction, the share of the
    flagged that may be ordinary."""
    correction: Correction = "none"
    """`benjamini-hochberg`: hold the false discovery rate, the expected share of ordinary items among the
    flagged, at most at alpha over the items of this request."""
    map: bool = False
    """Whether to tell how surprising each value of an item is too; as npy or PNG, that alone is answered."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores, and how they were made."""

    how: ScoreDefaults
    correction: Correction
    scores: Scores

    @property
    def told(self) -> dict[str, Any]:
        """What an answer tells of all rows."""
        how = self.how
        return {
            "statistic": how.statistic,
            "draws": how.draws,
            "seed": how.seed,
            "alpha": how.alpha,
            "correction": self.correction,
            "threshold": self.scores.threshold,
            "unit": UNITS[how.statistic],
        }

    @property
    def tensors(self) -> dict[str, Doubles | NDArray[np.bool_] | None]:
        """What an answer tells of each row, (B,) by name; None is what was not measured or calibrated."""
        scores = self.scores
        return {
            **scores.columns,
            "surprise": scores.surprise,
            "p_value": scores.p_value,
            "anomaly": scores.anomaly,
        }

    @property
    def flagged(self) -> int:
        """How many rows are anomalies."""
        return 0 if self.scores.anomaly is None else int(self.scores.anomaly.sum())

    @property
    def p_values(self) -> Sequence[float]:
        """Those of the rows, or none."""
        return () if self.scores.p_value is None else self.scores.p_value.tolist()


async def scored_as(
    options: ScoreOptions, loaded: LoadedModel, inputs: Floats, settings: Settings, timing: Timing
) -> Scored:
    """Scores items (B, *item) as the options say, and the version's defaults where they do not.

    Raises:
        Unfit: the version lacks the statistic, the statistic has no draws, or no p-values to correct.
        LimitExceeded: too many draws, or an alpha below what the calibration can resolve.
    """
    how = complete(options, loaded.manifest)
    _check_draws(how, len(inputs), settings)
    scores = await loaded.scorer.score(inputs, how, timing, options.correction)
    return Scored(how, options.correction, scores)


def check_scored_as(options: ScoreOptions, loaded: LoadedModel, rows: int, settings: Settings) -> None:
    """Raises what `scored_as` raises for that many items, before any other work for them."""
    how = complete(options, loaded.manifest)
    _check_draws(how, rows, settings)
    loaded.scorer.check(how, options.correction)


def complete(options: ScoreOptions, manifest: Manifest) -> ScoreDefaults:
    """How to score: the options, and for what they leave out the version's defaults.

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


def _check_draws(how: ScoreDefaults, rows: int, settings: Settings) -> None:
    """Raises LimitExceeded if the draws are too many, for an item or in all."""
    draws = how.draws or 1
    if draws > settings.max_draws:
        raise LimitExceeded(f"draws is {draws}, at most {settings.max_draws} are taken")
    if rows * draws > settings.max_score_cost:
        raise LimitExceeded(
            f"{rows} rows of {draws} draws are {rows * draws}, over the limit of "
            f"{settings.max_score_cost} a request; send fewer rows or ask for fewer draws"
        )
