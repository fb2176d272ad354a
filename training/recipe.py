"""Recipes: everything that decides a training run, read from TOML into frozen models.

An unknown key is an error that names the nearest known one, so a misspelt setting is never ignored.
"""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from service.format.manifest import ModelName
from service.format.statistics import Bound, Distance, NoiseFree, Statistic
from training.data.options import DataOptions
from training.options import (
    AugmentationOptions,
    CalibrationOptions,
    EncoderOptions,
    EvaluationOptions,
    GanOptions,
    LoopOptions,
    NetworkOptions,
    Options,
    VaeOptions,
)

RECIPES = Path(__file__).parent / "recipes"
"""The folder of the published models' recipes."""


class RecipeError(ValueError):
    """A recipe cannot be used; the message names the key, its value and what fits."""


class Recipe(Options):
    """The recipe of one published model."""

    name: ModelName
    """The name of the published model."""
    title: str = ""
    """A sentence for the model card."""
    seed: int = Field(default=0, ge=0, lt=2**53)
    """The seed of weights, batch order and training noise."""
    start: str | None = None
    """The folder of a published version, models/NAME/VERSION, whose weights training begins with instead of
    random ones. Its networks have the same shape; `network.kind` `residual` may add blocks to a
    `convolutional` one."""
    data: DataOptions
    network: NetworkOptions
    vae: VaeOptions | None = None
    gan: GanOptions | None = None
    augmentation: AugmentationOptions = AugmentationOptions()
    loop: LoopOptions
    encoder: EncoderOptions | None = None
    """The encoder of a GAN, trained after it; a GAN without one cannot reconstruct or score."""
    evaluation: EvaluationOptions = EvaluationOptions()
    calibration: CalibrationOptions = CalibrationOptions()

    @model_validator(mode="after")
    def _exactly_one_family(self) -> Recipe:
        if (self.vae is None) == (self.gan is None):
            raise ValueError("a recipe has exactly one of the tables [vae] and [gan]")
        if self.encoder is not None and self.gan is None:
            raise ValueError("a table [encoder] came without [gan]; a VAE has its own encoder: leave it out")
        loops = [self.loop, *([self.encoder.loop] if self.encoder else [])]
        if self.gan is not None and any(loop.patience for loop in loops):
            raise ValueError(
                "loop.patience came with [gan], whose game has no bound that gets better; leave it out"
            )
        if self.gan is not None and self.loop.batch_rows % self.gan.packing:
            raise ValueError(
                f"loop.batch_rows is {self.loop.batch_rows}, which gan.packing {self.gan.packing} does not "
                "divide; set it to a multiple"
            )
        built_in = self.data.dataset in ("digits", "fashion-mnist")
        if self.vae and self.vae.likelihood == "bernoulli" and built_in and self.data.binarise == "none":
            raise ValueError(
                f"likelihood 'bernoulli' came with the grey pixels of {self.data.dataset!r}; it is for "
                "binary pixels: set data.binarise to 'dynamic' or 'threshold', or choose another likelihood"
            )
        if self.vae and self.data.binarise != "none" and self.vae.likelihood != "bernoulli":
            raise ValueError(
                f"likelihood {self.vae.likelihood!r} came with data.binarise {self.data.binarise!r}; "
                "binary pixels are for 'bernoulli', which alone gives them a probability"
            )
        return self

    @property
    def conditional(self) -> bool:
        """Return whether the model takes the class of an item."""
        options = self.vae or self.gan
        return options is not None and options.conditional

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """Return the anomaly statistics that the published version will have."""
        if self.vae is None:
            return () if self.encoder is None else get_args(Distance)
        of_table = self.vae.likelihood == "gaussian"
        kernel: tuple[NoiseFree, ...] = ("kernel_density",) if of_table and not self.conditional else ()
        return (*get_args(Bound), *(() if of_table else ("corrected",)), "path", *kernel)

    @property
    def family(self) -> Literal["vae", "gan"]:
        """The kind of model."""
        return "vae" if self.vae is not None else "gan"


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe and apply overrides `table.key=value`, each value as TOML or else a string.

    Raises:
        RecipeError: The file is missing or no TOML, a key is unknown, or a value does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}; {_recipes_for(str(path))}") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}; name a recipe's TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(table, override)
    return parse_recipe(table)


def require_statistic(recipe: Recipe) -> None:
    """Raise a RecipeError if the version will not have the default statistic that its recipe names."""
    named = recipe.calibration.statistic
    if named not in (None, "auto", *recipe.statistics):
        raise RecipeError(
            f"calibration.statistic is {named!r}, which this model will not have; it will have "
            f"{', '.join(recipe.statistics)}, or 'auto' to choose"
        )


def no_recipe(argument: str) -> str:
    """Return an error message on what came in place of a recipe's file, with what to give instead."""
    if Path(argument).exists():
        return (
            f"{argument} is no recipe; wanted a TOML file that says what to train and how. `pushforward init "
            f"{argument}` writes one, if that is your data"
        )
    return f"{argument!r} is no command, and no recipe, which is a TOML file; {_recipes_for(argument)}"


def _recipes_for(argument: str) -> str:
    """Return a phrase with the paths of the recipes whose names are like an argument, or else of all."""
    stem = Path(argument).stem.lower()
    here = sorted(path for path in Path().glob("*.toml") if path.name != "pyproject.toml")
    known = [*here, *sorted(RECIPES.glob("*.toml"))]
    close = difflib.get_close_matches(stem, [path.stem for path in known])
    near = [path for path in known if stem in path.stem or path.stem in close]
    if near:
        return f"near it are {', '.join(map(_from_here, near))}"
    given = ", ".join(path.name for path in known if path not in here)
    mine = f"here are {', '.join(map(str, here))}; " if here else ""
    return (
        f"{mine}with the package came, in {_from_here(RECIPES)}: {given}; `pushforward init FILE` writes one "
        "for your own data"
    )


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Make a recipe from parsed TOML or JSON.

    Raises:
        RecipeError: A key is unknown (the nearest known one is named) or a value does not fit.
    """
    _refuse_unknown_keys(Recipe, table, "")
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError("; ".join(map(problem_text, error.errors(include_url=False)))) from error


def problem_text(problem: ErrorDetails, whole: str = "recipe") -> str:
    """Return the key of a problem of pydantic, or `whole`, the value that came and what was expected."""
    key = ".".join(str(part) for part in problem["loc"]) or whole
    expected = problem["msg"].removeprefix("Value error, ").replace("dictionary or instance of", "table of")
    if problem["type"] in ("value_error", "missing"):  # whose input is the whole table
        return f"{key}: {expected}"
    return f"{key} is {reprlib.repr(problem['input'])}: {expected}"


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a recipe's tables into one, with keys `table.key`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def shipped_recipe(name: str) -> str | None:
    """Return the path of that model's recipe for the command line, if it comes with the program."""
    return f"training/recipes/{name}.toml" if (RECIPES / f"{name}.toml").is_file() else None


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
