"""The GAN methods: a recipe of the training loop for each, and the task that trains by it.

All share networks, latents, batch rows, Adam, a learning rate that falls geometrically, and an average of the
generator's weights, which is what is measured. The hyperparameters that differ were chosen among two or three
settings in short runs on the first seed, or are those of the authors' code where a comment says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.data import Dataset
from training.experiments.figure.pairs import AliTask, VeeganTask
from training.experiments.figure.tasks import critic_task, packed_task, recipe_task
from training.experiments.figure.unrolled import UnrolledTask
from training.loop.gan import GanTask
from training.recipe import Recipe, parse_recipe

RecipeTable = Mapping[str, Any]
_NEVER = 10**9
SCHEDULE_STEPS = 10**6
"""The length of the schedules, which a run passes through in its CPU time, however many steps it does."""
_SHARED: Mapping[str, RecipeTable] = {
    "network": {
        "kind": "dense",
        "latent": 4,
        "hidden": [128, 128, 128],
        "fourier_features": 16,
        "fourier_frequencies": [0.5, 60.0],
    },
    "gan": {"r1_weight": 0.0},
    "loop": {
        "steps": SCHEDULE_STEPS,
        "batch_rows": 128,
        "learning_rate": 1e-3,
        "schedule": "geometric",
        "final_learning_rate_ratio": 0.01,
        "warmup_steps": 0,
        "betas": [0.0, 0.99],
        "ema_decay": 0.999,
        "log_every": _NEVER,
        "validate_every": _NEVER,
        "checkpoint_every": _NEVER,
        "device": "cpu",
    },
}


@dataclass(frozen=True)
class GanMethod:
    """A column of the picture."""

    title: str
    source: str
    """The paper."""
    gan: RecipeTable = field(default_factory=dict)
    loop: RecipeTable = field(default_factory=dict)
    grid: Mapping[str, RecipeTable] = field(default_factory=dict)
    """Tables of the recipe that differ on the grid."""
    make_task: Callable[[Recipe, Dataset], GanTask] = recipe_task

    def recipe(self, mixture: str, seed: int) -> Recipe:
        """Return the method's recipe on the mixture of this name."""
        special = {"gan": self.gan, "loop": self.loop}
        grid = self.grid if mixture == "grid" else {}
        tables = {
            name: {**table, **special.get(name, {}), **grid.get(name, {})} for name, table in _SHARED.items()
        }
        data = {"dataset": mixture, "split_seed": seed}
        return parse_recipe({"name": "figure", "seed": seed, "data": data, **tables})


_GENTLE: RecipeTable = {"learning_rate": 3e-4, "final_learning_rate_ratio": 1 / 30, "betas": [0.5, 0.99]}
"""Games without a penalty collapse onto a few modes with the other settings."""
_SHIPPED: Mapping[str, Any] = {
    "loop": {"learning_rate": 3e-3},
    # With many modes the discriminator must learn the whole before the details.
    "grid": {
        "network": {"fourier_frequencies": [0.5, 80.0]},
        "gan": {
            "r1_weight": 0.5,
            "r2_weight": 0.5,
            "penalty_final_ratio": 2e-6,
            "discriminator_learning_rate_ratio": 0.5,
            "discriminator_learning_rate_growth": 150.0,
        },
    },
}
_SHIPPED_GAN: RecipeTable = {
    "objective": "relativistic",
    "r1_weight": 0.1,
    "r2_weight": 0.1,
    "penalty_final_ratio": 1e-5,
    "penalty_settled": 0.4,
    "discriminator_learning_rate_growth": 60.0,
}
METHODS: Mapping[str, GanMethod] = {
    "minimax": GanMethod(
        "Minimax",
        "Goodfellow et al. 2014, equation 1, arXiv:1406.2661",
        {"objective": "minimax"},
        _GENTLE,
    ),
    "non-saturating": GanMethod(
        "Non-saturating", "Goodfellow et al. 2014, section 3, arXiv:1406.2661", loop=_GENTLE
    ),
    # Learning rate of the generator and Adam's first decay as in its authors' notebook. Their learning
    # rate of the discriminator, a tenth of this one, is too slow for so few steps.
    "unrolled": GanMethod(
        "Unrolled",
        "Metz et al. 2017, arXiv:1611.02163",
        {"objective": "minimax"},
        {"betas": [0.5, 0.99]},
        make_task=UnrolledTask,
    ),
    "ali": GanMethod("ALI", "Dumoulin et al. 2017, arXiv:1606.00704", loop=_GENTLE, make_task=AliTask),
    # Learning rate as in its authors' notebook.
    "veegan": GanMethod("VEEGAN", "Srivastava et al. 2017, arXiv:1705.07761", make_task=VeeganTask),
    # The non-saturating game with pairs of points, 128 of them per step.
    "pacgan": GanMethod(
        "PacGAN2",
        "Lin et al. 2018, arXiv:1712.04086",
        {"packing": 2},
        {**_GENTLE, "batch_rows": 256},
        make_task=packed_task,
    ),
    # Adam's second decay as in the paper, and the penalty's weight as in its toy experiments
    # (gan_toy.py): with the 10 that it uses on pictures, these mixtures are learned more slowly.
    "wgan-gp": GanMethod(
        "WGAN-GP",
        "Gulrajani et al. 2017, arXiv:1704.00028",
        {"objective": "wasserstein", "slope_weight": 0.1},
        {"betas": [0.0, 0.9], "batch_rows": 640},
        make_task=critic_task,
    ),
    # Both penalties at every step; their weight falls.
    "relativistic": GanMethod(
        "Relativistic R1+R2", "Huang et al. 2024, arXiv:2501.05441", _SHIPPED_GAN, **_SHIPPED
    ),
    # The same with a learned mixture prior: the recipe of ring-gan and grid-gan, but shorter.
    "islands": GanMethod(
        "With mixture prior",
        "Huang et al. 2024; Gurumurthy et al. 2017, arXiv:1706.02071",
        {**_SHIPPED_GAN, "prior": "mixture", "prior_learning_rate_ratio": 5.0, "prior_evenness": 0.2},
        **_SHIPPED,
    ),
}
"""The methods by name, in the order of the columns; stored results have these names."""
