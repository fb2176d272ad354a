"""Recipes: everything that decides a training run, read from TOML into frozen models.

A key that no recipe knows is an error that names the nearest known one, so a misspelt setting can never be
silently ignored.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

RECIPES = Path(__file__).parent / "recipes"
"""Where the recipes of the published models lie."""


class RecipeError(ValueError):
    """A recipe cannot be used; the message says which key, what came and what fits."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataOptions(_Table):
    """Which items to learn, and in which form."""

    dataset: Literal["digits", "fashion-mnist"]
    """`digits`: scikit-learn's 8x8 digits; `fashion-mnist`: 28x28 garments."""
    binarise: Literal["none", "threshold", "dynamic"] = "none"
    """`none`: grey in [0, 1]; `threshold`: 1 from 0.5 on; `dynamic`: 1 with the pixel's grey as
    probability, drawn anew for every training batch and once for the other splits."""
    split_seed: int = 0
    """Seed of the permutation that makes the train, validation and calibration splits."""


class NetworkOptions(_Table):
    """The shape of both networks; the decoder mirrors the encoder."""

    kind: Literal["convolutional", "dense"]
    latent: int = Field(ge=1, le=1024)
    """D, the number of latent dimensions."""
    channels: tuple[int, ...] = ()
    """Convolutional networks: output channels of each stride-2 layer, from the image inwards."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the dense layers, from the image side inwards."""

    @model_validator(mode="after")
    def _channels_belong_to_convolutions(self) -> NetworkOptions:
        if (self.kind == "convolutional") != bool(self.channels):
            raise ValueError(
                f"network.kind {self.kind!r} came with channels {list(self.channels)}; "
                "give channels to a convolutional network, and to no other"
            )
        return self


class VaeOptions(_Table):
    """The variational autoencoder's likelihood and objective."""

    likelihood: Literal["bernoulli", "continuous-bernoulli"]
    logit_bound: float = Field(default=50.0, gt=0)
    """The decoder's logits are squashed smoothly into (-bound, bound). A continuous Bernoulli's density at a
    pixel of exactly 0 or 1 is about |logit|: without a bound it grows for ever, though pixels have but 256
    levels."""
    draws: int = Field(default=1, ge=1)
    """K, Monte Carlo draws per item in the training objective."""
    kl_weight: float = Field(default=1.0, gt=0)
    """beta, the weight of the KL term in the training objective; 1 is the ELBO. Above 1 the posteriors
    overlap more, so latents from the prior decode to likelier items, at the price of a lower ELBO. Every
    published figure is the plain ELBO. Source: Higgins et al. 2017, "beta-VAE", section 2."""
    kl_warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the weight of the KL term grows linearly from 0 to `kl_weight`."""


class GanOptions(_Table):
    """The generative adversarial network's objective (non-saturating, logistic)."""

    r1_weight: float = Field(default=1.0, ge=0)
    """gamma of the R1 penalty gamma / 2 |grad_x logit|^2 on real items."""
    r1_every: int = Field(default=1, ge=1)
    """The penalty is applied, times this number, at every so-manieth step."""
    discriminator_learning_rate_ratio: float = Field(default=1.0, gt=0)
    """The discriminator's learning rate over the generator's."""


class LoopOptions(_Table):
    """How long and how fast to train; all counts in optimiser steps unless said otherwise."""

    steps: int = Field(ge=1)
    batch_rows: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    final_learning_rate_ratio: float = Field(default=0.01, ge=0, le=1)
    """The cosine schedule ends at this share of the learning rate."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up before the cosine."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's two decay rates."""
    gradient_clip: float = Field(default=1e6, gt=0)
    """Largest gradient norm of one phase; longer gradients are scaled down to it."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay per step of the averaged weights; these are evaluated and exported."""
    log_every: int = Field(default=100, ge=1)
    validate_every: int = Field(default=1000, ge=1)
    """Steps between validations, each with a grid of samples."""
    validation_rows: int = Field(default=1000, ge=1)
    """Items of the validation split looked at each time."""
    checkpoint_every: int = Field(default=1000, ge=1)
    threads: int = Field(default=1, ge=1)
    """CPU threads torch may use; results are repeatable bit for bit for equal numbers of threads."""


class EvaluationOptions(_Table):
    """How the published figures are measured on the test split."""

    draws: int = Field(default=64, ge=1)
    """K of the importance-weighted bound (and draws of the ELBO)."""
    rows: int = Field(default=10_000, ge=2)
    """At most so many test items."""
    seed: int = Field(default=0, ge=0, lt=2**53)


class CalibrationOptions(_Table):
    """How a VAE's scores are calibrated; these become the version's defaults."""

    statistic: Literal["elbo", "importance_bound"] = "elbo"
    draws: int = Field(default=16, ge=2)
    seed: int = Field(default=0, ge=0, lt=2**53)
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Share of normal items that may be flagged as anomalies."""


class Recipe(_Table):
    """One published model: data, networks, objective, loop, evaluation and calibration."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = ""
    """One sentence for the model card."""
    seed: int = Field(default=0, ge=0, lt=2**53)
    """Seed of weights, batch order and training noise."""
    data: DataOptions
    network: NetworkOptions
    vae: VaeOptions | None = None
    gan: GanOptions | None = None
    loop: LoopOptions
    evaluation: EvaluationOptions = EvaluationOptions()
    calibration: CalibrationOptions = CalibrationOptions()

    @model_validator(mode="after")
    def _exactly_one_family(self) -> Recipe:
        if (self.vae is None) == (self.gan is None):
            raise ValueError("a recipe has exactly one of the tables [vae] and [gan]")
        if self.vae and (self.vae.likelihood == "bernoulli") != (self.data.binarise != "none"):
            raise ValueError(
                f"likelihood {self.vae.likelihood!r} came with data.binarise {self.data.binarise!r}; "
                "bernoulli is for binary pixels, continuous-bernoulli for grey ones"
            )
        return self

    @property
    def family(self) -> Literal["vae", "gan"]:
        """Which of the two kinds of model this is."""
        return "vae" if self.vae is not None else "gan"


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe and apply overrides `table.key=value`, each value as TOML or else a string.

    Raises:
        RecipeError: The file is missing or no TOML, a key is unknown, or a value does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(recipe.name for recipe in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe at {path}; the recipes that come with the package: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(table, override)
    return parse_recipe(table)


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Make a recipe of parsed TOML or JSON.

    Raises:
        RecipeError: A key is unknown (the nearest known one is named) or a value does not fit.
    """
    _refuse_unknown_keys(Recipe, table, "")
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'recipe'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise RecipeError(problems) from error


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(
            f"override {override!r} has no '='; write it as table.key=value, e.g. loop.steps=200"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"override {override!r}: {name!r} is a value, not a table")
    table[last] = value


def _refuse_unknown_keys(model: type[BaseModel], table: Mapping[str, Any], prefix: str) -> None:
    for key, value in table.items():
        if key not in model.model_fields:
            near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.0)[0]
            known = ", ".join(model.model_fields)
            raise RecipeError(
                f"unknown key {prefix + key!r}; did you mean {prefix + near!r}? Known here: {known}"
            )
        inner = _table_of(model.model_fields[key].annotation)
        if inner is not None and isinstance(value, Mapping):
            _refuse_unknown_keys(inner, value, f"{prefix}{key}.")


def _table_of(annotation: Any) -> type[BaseModel] | None:
    candidates = getattr(annotation, "__args__", (annotation,))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
