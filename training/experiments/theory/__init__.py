"""The theory of adversarial networks as code: each statement measured, and drawn on one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from training.experiments.theory.bound import bound_section
from training.experiments.theory.densities import GRID
from training.experiments.theory.discriminators import HIDDEN
from training.experiments.theory.learning import learning_section
from training.experiments.theory.optimum import optimum_section
from training.experiments.theory.orbits import orbits_section
from training.experiments.theory.vanishing import vanishing_section
from training.report.page import Page, Section, Table, render

__all__ = ["SECTIONS", "write_theory"]

SECTIONS: tuple[Callable[[], Section], ...] = (
    optimum_section,
    learning_section,
    bound_section,
    vanishing_section,
    orbits_section,
)
"""The makers of the page's sections, in its order."""
_SOURCES = (
    ("Goodfellow et al. 2014", "Generative adversarial networks", "arXiv:1406.2661"),
    ("Arjovsky & Bottou 2017", "Towards principled methods for training GANs", "arXiv:1701.04862"),
    ("Mescheder et al. 2018", "Which training methods for GANs do actually converge?", "arXiv:1801.04406"),
    ("Daskalakis et al. 2018", "Training GANs with optimism", "arXiv:1711.00141"),
    ("Turner et al. 2019", "Metropolis-Hastings generative adversarial networks", "arXiv:1811.11357"),
    ("Platt 1999", "Probabilistic outputs for support vector machines", ""),
)
_SETTINGS = (
    ("quadrature", f"trapezoid rule in float64, {len(GRID):,} points from {GRID[0]:g} to {GRID[-1]:g}"),
    (
        "discriminators",
        f"dense, hidden layers {', '.join(map(str, HIDDEN))}, leaky rectifiers, float32, Adam",
    ),
    ("seed", "0"),
)


def write_theory(path: Path, advance: Callable[[int], None]) -> Path:
    """Run every experiment and write the page as one HTML file that needs no other; return its path.

    Equal calls write equal files. `advance` is called after every section.

    Raises:
        OSError: The file cannot be written; missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the networks are so small that more threads only wait for each other
    sections = []
    for make_section in SECTIONS:
        sections.append(make_section())
        advance(1)
    page = Page(
        "Theory as code",
        "What is proved about generative adversarial networks, measured where the answer is known.",
        (("Logarithms", "natural"), ("Values", "nats"), ("Densities", "known exactly")),
        Table(("setting", "value"), _SETTINGS, "ll"),
        (*sections, Section("Sources", tables=(Table(("authors", "title", "where"), _SOURCES, "lll"),))),
        kind="report",
        settings_heading="Settings",
    )
    path.write_text(render(page), encoding="utf-8")
    return path
