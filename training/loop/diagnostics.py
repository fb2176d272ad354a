"""Problems of a training run that its log shows: overfitting, and those that GANs are known for.

Each is a finding with the figures that show it and what to do. The rules are coarse on purpose: they report
only what a person would see in the curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.format.manifest import Support
from service.format.specs import Metric
from training.loop.run_log import VALIDATION, read_lines
from training.loop.task import Task

Trouble = Literal[
    "overfitting", "worse than a uniform", "discriminator wins", "gradients vanish", "modes lost"
]
Line = Mapping[str, float]
"""A line of the log: the step, and quantities by name."""

_FALL_NATS, _FALL_SHARE = 0.5, 0.01
"""A bound has fallen if it lost more nats per item, and a larger share of its best value, than these."""
_SETTLED = 3
"""The number of lines in a row that have to agree."""
_WON = 0.9 * math.log(2)
"""The bound on the Jensen-Shannon divergence, of at most log 2, beyond which D is nearly never wrong."""
_GONE = 1e-3
"""A gradient's norm over its median along the run below which it has vanished."""
_NARROW = 0.5
"""The distance between generated items over that between held-out ones below which variety is lost."""


@dataclass(frozen=True)
class Diagnosis:
    """One trouble of a run."""

    trouble: Trouble
    text: str
    """One or two sentences: the figures that show it, and what to do."""


def findings_of_run(task: Task, folder: Path, metrics: Mapping[str, Metric]) -> list[Diagnosis]:
    """Return the troubles that a run's log and its figures on the test split show."""
    found = diagnose(read_lines(folder), task.criterion, calibrated=task.has_calibrated_logits)
    coding = coding_finding(metrics, task.support)
    return [*found, coding] if coding else found


def diagnose(lines: Sequence[Line], criterion: str | None, *, calibrated: bool = False) -> list[Diagnosis]:
    """Return the troubles that a run's log shows.

    `criterion` names the validation figure that the run maximises, if there is one. `calibrated` is true for
    a GAN whose logits estimate log density ratios, so that the bound on the divergence means something.
    """
    found = [_overfitting(lines, criterion)] if criterion else []
    if calibrated:
        found.append(_discriminator_wins(lines))
    return [each for each in (*found, _gradients_vanish(lines), *_modes_lost(lines)) if each is not None]


def coding_finding(metrics: Mapping[str, Metric], support: Support) -> Diagnosis | None:
    """Return a finding if the bound of test items is below what a uniform density gives each of them.

    A uniform density takes 8 bits for a pixel of 256 levels and 1 bit for a binary one, and has the
    log-density 0 on [0, 1]; there is none for the numbers of a table.
    """
    bits, elbo = metrics.get("bits_per_dimension"), metrics.get("elbo")
    most = {"eight_bit": 8.0, "binary": 1.0}.get(support)
    if most is not None and bits is not None and bits.value > most:
        seen = (
            f"The ELBO of test items is {bits.value:.2f} bits per dimension, where a uniform needs {most:g}"
        )
    elif support == "unit_interval" and elbo is not None and elbo.value < 0:
        seen = f"The ELBO of test items is {elbo.value:.1f} nats, where a uniform density gives 0"
    else:
        return None
    return Diagnosis(
        "worse than a uniform",
        f"{seen}: the model describes unseen items worse than no model would. Train on more items, with "
        "[augmentation] or with a smaller network, or for more steps if the bound was still rising.",
    )


def _overfitting(lines: Sequence[Line], criterion: str) -> Diagnosis | None:
    steps, bounds = _series(lines, VALIDATION + criterion)
    if len(bounds) <= _SETTLED:
        return None
    best = int(np.argmax(bounds))
    fallen = bounds[best] - bounds[-_SETTLED:]
    if best >= len(bounds) - _SETTLED or fallen.min() < max(_FALL_NATS, _FALL_SHARE * abs(bounds[best])):
        return None
    times, trained = _series(lines, criterion if any(criterion in line for line in lines) else "elbo")
    since = trained[times >= steps[best]]
    if not len(since) or since[-1] <= since[0]:
        return None
    return Diagnosis(
        "overfitting",
        f"The bound of held-out items has fallen since step {steps[best]:.0f}, from {bounds[best]:.1f} to "
        f"{bounds[-1]:.1f} nats per item, while that of training items rose from {since[0]:.1f} to "
        f"{since[-1]:.1f}: the model learns its training items by heart. The weights of step "
        f"{steps[best]:.0f} are kept. Get more items, or set loop.patience, loop.weight_decay, "
        "[augmentation] or a smaller network.",
    )


def _discriminator_wins(lines: Sequence[Line]) -> Diagnosis | None:
    _, bounds = _series(lines, f"{VALIDATION}jsd_bound")
    if len(bounds) < _SETTLED or bounds[-_SETTLED:].min() < _WON:
        return None
    return Diagnosis(
        "discriminator wins",
        "The discriminator tells nearly all generated items from held-out ones: the bound on the divergence "
        f"is {bounds[-1]:.2f} of at most {math.log(2):.2f} nats, in the last {_SETTLED} validations. Raise "
        "gan.r1_weight, lower gan.discriminator_learning_rate_ratio, or give the generator more capacity.",
    )


def _gradients_vanish(lines: Sequence[Line]) -> Diagnosis | None:
    _, norms = _series(lines, "generator_gradient_norm")
    if len(norms) <= 2 * _SETTLED or norms[-_SETTLED:].max() > _GONE * np.median(norms):
        return None
    return Diagnosis(
        "gradients vanish",
        f"The generator no longer learns: its gradient norm is {norms[-1]:.1e}, where the run's median is "
        f"{np.median(norms):.1e}. Use the objective 'non-saturating', raise gan.r1_weight, or lower "
        "gan.discriminator_learning_rate_ratio.",
    )


def _modes_lost(lines: Sequence[Line]) -> list[Diagnosis]:
    found = []
    for name, what in (("modes_captured", "modes"), ("classes", "classes")):
        _, counts = _series(lines, VALIDATION + name)
        if len(counts) > 1 and counts[-1] < counts.max():
            found.append(
                f"{counts[-1]:.0f} {what} are left of the {counts.max():.0f} that were generated before"
            )
    _, ratios = _series(lines, f"{VALIDATION}distance_ratio")
    if len(ratios) >= _SETTLED and ratios[-_SETTLED:].max() < _NARROW:
        found.append(
            f"generated items are {ratios[-1]:.2f} times as far from each other as held-out ones, so they "
            "lack variety"
        )
    if not found:
        return []
    seen = "; ".join(found)
    advice = "Raise gan.r1_weight or gan.packing, or use gan.prior 'mixture' for data in separate clusters."
    return [Diagnosis("modes lost", f"{seen[0].upper()}{seen[1:]}. {advice}")]


def _series(lines: Sequence[Line], name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the steps (N,) and the finite values (N,) of a quantity."""
    pairs = [(line["step"], line[name]) for line in lines if name in line and math.isfinite(line[name])]
    steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
    return steps, values
