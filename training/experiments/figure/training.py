"""One run: train a method for its CPU time, then measure what its generator draws.

The protocol is PacGAN's: 100 000 training points, 2500 measured ones. Source: Lin et al. 2018,
arXiv:1712.04086, section 4.1. Shapes: N points.
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.experiments.figure.games import Adversarial, Game
from training.experiments.figure.inference import Ali, Veegan
from training.experiments.figure.mixtures import MIXTURES, Floats, Mixture
from training.experiments.figure.networks import Generator
from training.experiments.figure.options import METHODS, Options
from training.experiments.figure.results import TARGET, Result, Run, histogram_of
from training.experiments.figure.unrolled import Unrolled
from training.metrics.modes import measure_modes

TRAINING_ROWS = 100_000
MEASURED_ROWS = 2_500
PICTURE_ROWS = 20_000
GAMES: Mapping[str, type[Game]] = MappingProxyType(
    {"adversarial": Adversarial, "unrolled": Unrolled, "ali": Ali, "veegan": Veegan}
)
"""What plays each of `Options.kind`."""
_FAR = 1e6  # in place of points that are not finite: near no mode, and still a number to measure


class Trained(NamedTuple):
    """The average of a generator's weights, and what undoes the standardisation."""

    generator: Generator
    mean: Tensor
    """(2,)."""
    deviation: Tensor
    """(2,)."""
    steps: int

    @torch.no_grad()
    def draw(self, rows: int) -> Floats:
        """Points (N, 2) on the mixture's own scale."""
        standardised, _ = self.generator.draw(rows)
        points: Floats = (standardised * self.deviation + self.mean).double().numpy()
        return np.where(np.abs(points) < _FAR, points, _FAR)


def train(options: Options, mixture: Mixture, seed: int, seconds: float) -> Trained:
    """Train on the mixture for so many CPU seconds of this process."""
    points = torch.from_numpy(mixture.draw(TRAINING_ROWS, (seed, 0))).float()
    mean, deviation = points.mean(0), points.std(0)
    points = (points - mean) / deviation
    torch.manual_seed(seed)
    game = GAMES[options.kind](options)
    average = copy.deepcopy(game.generator).requires_grad_(False)
    averaged: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(game.generator.parameters())
    begin, steps = time.process_time(), 0
    while (progress := (time.process_time() - begin) / seconds) < 1:
        game.set_learning_rates(progress)
        game.step(lambda rows: points[torch.randint(len(points), (rows,))], progress)
        decay = min(options.averaging_decay, (1 + steps) / (10 + steps))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        steps += 1
    return Trained(average, mean, deviation, steps)


def perform(run: Run, seconds: float) -> Result:
    """Train and measure; for the target, measure fresh points of the mixture itself."""
    mixture = MIXTURES[run.mixture]
    if run.method == TARGET:
        measured, pictured = (mixture.draw(rows, (run.seed, 1)) for rows in (MEASURED_ROWS, PICTURE_ROWS))
        options, steps, seconds = {}, 0, 0.0
    else:
        chosen = METHODS[run.method].options_on(run.mixture)
        with torch.random.fork_rng(devices=[]):
            trained = train(chosen, mixture, run.seed, seconds)
            measured, pictured = trained.draw(MEASURED_ROWS), trained.draw(PICTURE_ROWS)
        options, steps = asdict(chosen), trained.steps
    return Result(
        run=run,
        figures=measure_modes(measured, mixture.modes.centres, mixture.modes.deviation)._asdict(),
        histogram=histogram_of(pictured, mixture),
        histogram_rows=PICTURE_ROWS,
        steps=steps,
        seconds=seconds,
        options=options,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )
