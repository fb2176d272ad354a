"""The methods and their hyperparameters, as plain data.

Shared by all: networks, latents, batch rows, Adam, a learning rate that falls geometrically, and an average
of the generator's weights, which is what is measured. All train on standardised points. What differs is
below, chosen among two or three settings in short runs on the first seed, or from the authors' code where
said so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from service.format.manifest import Objective
from training.loop.task import Rate


@dataclass(frozen=True)
class Options:
    """Hyperparameters of one method on one mixture."""

    kind: Literal["adversarial", "unrolled", "ali", "veegan"] = "adversarial"
    """Whose steps it takes: see `games` and `inference`."""
    objective: Objective = "non-saturating"
    """Of `adversarial` methods, the losses in `training.losses.gan`."""
    learning_rate: float = 1e-3
    """At the first step, of every network."""
    final_learning_rate: float = 1e-5
    discriminator_learning_rate_ratio: float = 1.0
    """The discriminator's learning rate over the others', at the first step."""
    discriminator_learning_rate_growth: float = 1.0
    """By what factor that ratio grows to the last step. Heusel et al. 2017."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decays."""
    batch_rows: int = 128
    """Judgements per step: with packing, each is of `packing` points."""
    packing: int = 1
    """Points judged together. Lin et al. 2018."""
    discriminator_steps: int = 1
    """Discriminator's steps before each of the generator's."""
    slope_weight: float = 0.0
    """Of (|gradient| - 1)^2 between real and generated points. Gulrajani et al. 2017."""
    penalty_weight: float = 0.0
    """gamma, of |gradient|^2 / 2 on real points and on generated ones, at the first step; 0 for none."""
    final_penalty_weight: float = 0.0
    """gamma at the last step, to which it falls geometrically."""
    penalty_settled: float = 0.0
    """The share of the run, at its end, with gamma where it falls to."""
    unrolled_steps: int = 0
    """Discriminator's steps that the generator looks ahead. Metz et al. 2017."""
    latent: int = 4
    """D, dimensions of N(0, I)."""
    islands: int = 0
    """Components of a mixture with learned means and weights in place of N(0, I); 0 for N(0, I)."""
    island_deviation: float = 0.1
    """Standard deviation of each component; their means begin as drawn from N(0, I)."""
    island_rate: float = 1.0
    """The learning rate of the logarithms of their weights over that of other parameters, their means too."""
    island_evenness: float = 0.0
    """What KL(even weights || weights) weighs at first, falling linearly to 0."""
    width: int = 128
    layers: int = 3
    """Hidden layers of each network, and units in each."""
    frequencies: int = 16
    """At how many frequencies the discriminator sees the sine and cosine of each coordinate beside it."""
    frequency_range: tuple[float, float] = (0.5, 60.0)
    """The lowest and highest of those, radians per data deviation."""
    averaging_decay: float = 0.999
    """Of the exponential moving average of the generator, approached from below in the first steps."""

    @property
    def discriminator_rate(self) -> Rate:
        """The discriminator's learning rate over the others'."""
        return Rate(self.discriminator_learning_rate_ratio, self.discriminator_learning_rate_growth)


@dataclass(frozen=True)
class Method:
    """A column of the picture."""

    title: str
    source: str
    """The paper."""
    options: Options
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options that differ on a mixture, by its name."""

    def options_on(self, mixture: str) -> Options:
        """The method's hyperparameters on the mixture of this name."""
        return replace(self.options, **self.overrides.get(mixture, {}))


_GENTLE: Mapping[str, Any] = MappingProxyType({"learning_rate": 3e-4, "betas": (0.5, 0.99)})
"""For games without a penalty, which collapse onto a few modes with the other settings."""

_SHIPPED: Mapping[str, Any] = MappingProxyType(
    {
        "objective": "relativistic",
        "learning_rate": 3e-3,
        "final_learning_rate": 3e-5,
        "discriminator_learning_rate_growth": 60.0,
        "penalty_weight": 0.1,
        "final_penalty_weight": 1e-6,
        "penalty_settled": 0.4,
    }
)
_WHOLE_FIRST: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "grid": {
            "discriminator_learning_rate_ratio": 0.5,
            "discriminator_learning_rate_growth": 150.0,
            "penalty_weight": 0.5,
            "frequency_range": (0.5, 80.0),
        }
    }
)
"""Of many modes the discriminator has to see the whole before it sees details."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "minimax": Method(
            "Minimax",
            "Goodfellow et al. 2014, equation 1, arXiv:1406.2661",
            Options(objective="minimax", **_GENTLE),
        ),
        "non-saturating": Method(
            "Non-saturating", "Goodfellow et al. 2014, section 3, arXiv:1406.2661", Options(**_GENTLE)
        ),
        # Five steps, learning rate of the generator and Adam's first decay as in its authors' notebook; the
        # discriminator's learning rate is ten times theirs, which has too few steps here to be so slow.
        "unrolled": Method(
            "Unrolled",
            "Metz et al. 2017, arXiv:1611.02163",
            Options(kind="unrolled", unrolled_steps=5, betas=(0.5, 0.99)),
        ),
        "ali": Method("ALI", "Dumoulin et al. 2017, arXiv:1606.00704", Options(kind="ali", **_GENTLE)),
        # Learning rate as in its authors' notebook.
        "veegan": Method("VEEGAN", "Srivastava et al. 2017, arXiv:1705.07761", Options(kind="veegan")),
        # The non-saturating game but for the packing.
        "pacgan": Method("PacGAN2", "Lin et al. 2018, arXiv:1712.04086", Options(packing=2, **_GENTLE)),
        # Five critic steps and Adam's second decay as in the paper, and the weight of its own toy experiments
        # (gan_toy.py): with the 10 that it uses on pictures, these mixtures are learned more slowly.
        "wgan-gp": Method(
            "WGAN-GP",
            "Gulrajani et al. 2017, arXiv:1704.00028",
            Options(objective="wasserstein", discriminator_steps=5, slope_weight=0.1, betas=(0.0, 0.9)),
        ),
        # Both penalties at every step, their weight falling.
        "relativistic": Method(
            "Relativistic R1+R2", "Huang et al. 2024, arXiv:2501.05441", Options(**_SHIPPED), _WHOLE_FIRST
        ),
        # The same with a learned mixture prior: the recipe of ring-gan and grid-gan, but shorter.
        "islands": Method(
            "With mixture prior",
            "Huang et al. 2024; Gurumurthy et al. 2017, arXiv:1706.02071",
            Options(islands=256, island_rate=5.0, island_evenness=0.2, **_SHIPPED),
            _WHOLE_FIRST,
        ),
    }
)
"""The methods by name, in the order of the columns."""
