"""The table beside the picture, as Markdown: means over seeds with their standard errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.data.points import MODES
from training.experiments.figure.methods import METHODS
from training.experiments.figure.results import TARGET, MethodResult
from training.experiments.figure.training import MEASURED_ROWS
from training.experiments.results import Mean, mean_of
from training.metrics.modes import high_quality_ceiling, reverse_kl_floor, truncated_deviation_ratio


def of(results: Iterable[MethodResult], mixture: str, method: str) -> list[MethodResult]:
    """Return the results of one method on one mixture, by seed."""
    return [result for result in results if (result.run.mixture, result.run.method) == (mixture, method)]


def markdown(results: Sequence[MethodResult]) -> str:
    """Return one table per mixture, with the figures of a perfect sampler, and notes."""
    parts = [_table(results, name) for name in MODES if any(r.run.mixture == name for r in results)]
    return "\n".join([*parts, _notes(results)])


def _table(results: Sequence[MethodResult], name: str) -> str:
    mixture = MODES[name]()
    modes = len(mixture.centres)
    rows = [
        _row("Target itself" if method == TARGET else METHODS[method].title, found)
        for method in (TARGET, *METHODS)
        if (found := of(results, name, method))
    ]
    floor = reverse_kl_floor(modes, round(MEASURED_ROWS * high_quality_ceiling()))
    lines = [
        f"**{name.capitalize()} of {modes}**, standard deviation {mixture.deviation:g}",
        "",
        f"| method | modes of {modes} | high quality, % | reverse KL, nats | deviation ratio | steps |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        f"| *perfect sampler, expected* | {modes} | {100 * high_quality_ceiling():.2f} | {floor:.4f} | "
        f"{truncated_deviation_ratio():.3f} | |",
        "",
    ]
    return "\n".join(lines)


def _row(title: str, found: Sequence[MethodResult]) -> str:
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


def _notes(results: Sequence[MethodResult]) -> str:
    trained = [result for result in results if result.run.method != TARGET]
    seeds = len({result.run.seed for result in trained})
    seconds = sorted({result.seconds for result in trained})
    budget = " or ".join(f"{value:g}" for value in seconds)
    code = " and ".join(sorted({result.code for result in trained})) or "none"
    return f"""Mean ± standard error over {seeds} seeds. The methods were trained by {code}, each run for
{budget} CPU seconds on 100000 points; {MEASURED_ROWS} samples of each were measured.

High quality: the sample lies within 3 standard deviations of the nearest mode. Reverse KL: the divergence of
the histogram of high-quality samples over the modes from the uniform one; a perfect sampler shows the noise
floor (M - 1) / (2 N). Deviation ratio: the standard deviation of a mode's high-quality samples over the true
one, mean over the modes that have at least two.
"""
