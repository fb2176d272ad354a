"""The table beside the picture, as markdown: means over seeds with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from training.experiments.figure.mixtures import MIXTURES
from training.experiments.figure.options import METHODS
from training.experiments.figure.results import TARGET, Result
from training.experiments.figure.training import MEASURED_ROWS, TRAINING_ROWS
from training.metrics.modes import high_quality_ceiling, reverse_kl_floor, truncated_deviation_ratio


class Mean(NamedTuple):
    """A mean over seeds; NaN where no seed has the figure."""

    value: float
    standard_error: float
    """NaN for fewer than two seeds."""

    def text(self, digits: int, factor: float = 1.0) -> str:
        """Such as `97.1 ± 0.2`."""
        if math.isnan(self.value):
            return "none"
        error = "" if math.isnan(self.standard_error) else f" ± {factor * self.standard_error:.{digits}f}"
        return f"{factor * self.value:.{digits}f}{error}"


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of those values that are numbers, and its standard error, s / sqrt(n) with n - 1 in s."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Mean(math.nan, math.nan)
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return Mean(mean, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
    return Mean(mean, math.sqrt(variance / len(known)))


def of(results: Iterable[Result], mixture: str, method: str) -> list[Result]:
    """The results of one method on one mixture, by seed."""
    return [result for result in results if (result.run.mixture, result.run.method) == (mixture, method)]


def markdown(results: Sequence[Result]) -> str:
    """One table per mixture, with what a perfect sampler reaches."""
    parts = [_table(results, name) for name in MIXTURES if any(r.run.mixture == name for r in results)]
    return "\n".join([*parts, _notes(results)])


def _table(results: Sequence[Result], name: str) -> str:
    mixture = MIXTURES[name]
    modes = len(mixture.modes.centres)
    rows = [
        _row("Target itself" if method == TARGET else METHODS[method].title, found)
        for method in (TARGET, *METHODS)
        if (found := of(results, name, method))
    ]
    floor = reverse_kl_floor(modes, round(MEASURED_ROWS * high_quality_ceiling()))
    lines = [
        f"**{mixture.title.capitalize()}**, standard deviation {mixture.modes.deviation:g}",
        "",
        f"| method | modes of {modes} | high quality, % | reverse KL, nats | deviation ratio | steps |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        f"| *perfect sampler, expected* | {modes} | {100 * high_quality_ceiling():.2f} | {floor:.4f} | "
        f"{truncated_deviation_ratio():.3f} | |",
        "",
    ]
    return "\n".join(lines)


def _row(title: str, found: Sequence[Result]) -> str:
    def mean(figure: str) -> Mean:
        return mean_of(result.figures[figure] for result in found)

    steps = mean_of(result.steps for result in found)
    cells = (
        title,
        mean("modes_captured").text(1),
        mean("high_quality_share").text(1, 100),
        mean("reverse_kl").text(4),
        mean("deviation_ratio").text(2),
        f"{steps.value:.0f}" if steps.value else "",
    )
    return f"| {' | '.join(cells)} |"


def _notes(results: Sequence[Result]) -> str:
    trained = [result for result in results if result.run.method != TARGET]
    seeds = len({result.run.seed for result in trained})
    seconds = sorted({result.seconds for result in trained})
    budget = " or ".join(f"{value:g}" for value in seconds)
    return (
        f"Mean ± standard error over {seeds} seeds. {MEASURED_ROWS} samples, {TRAINING_ROWS} training points,"
        f" {budget} CPU seconds a run. High quality: within 3 standard deviations of the nearest mode."
        " Reverse KL: of the histogram of high-quality samples over the modes against the uniform one; what a"
        " perfect sampler shows is the noise floor (M - 1) / (2 N). Deviation ratio: standard deviation of a"
        " mode's high-quality samples over the true one, mean over the modes that have two.\n"
    )
