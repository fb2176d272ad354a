"""The manifest: the self-description of a published version.

A version is the folder `models/NAME/VERSION/`: `manifest.json` describes it, and every other file the
manifest names is pinned by its SHA-256. `service.format.versions` reads, verifies and publishes them.
Shapes use two free axes: "rows" (B) and "draws" (K).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

GraphName = Literal[
    "encode", "decode", "draw", "score", "statistics", "map", "discriminate", "generate_scored"
]
OPERATIONS_BY_GRAPHS: tuple[tuple[str, frozenset[GraphName]], ...] = (
    ("sample", frozenset({"decode"})),
    ("interpolate", frozenset({"decode"})),
    ("decode", frozenset({"decode"})),
    ("encode", frozenset({"encode"})),
    ("reconstruct", frozenset({"encode", "decode"})),
    ("score", frozenset({"score"})),
    ("score", frozenset({"statistics"})),
    ("discriminate", frozenset({"discriminate"})),
)
"""The graphs that each operation of the API needs, one line per way."""
Bound = Literal["elbo", "importance_bound"]
"""Statistics of a VAE: bounds on log p(x), in nats, from the draws of the graph `score`."""
Distance = Literal["residual", "feature_distance", "f_anogan"]
"""Statistics of a GAN: noise-free columns of the graph `statistics`, higher = more anomalous.

The mean squares of x - G(E(x)) and of f(x) - f(G(E(x))), where f is the discriminator's last hidden layer,
and their weighted sum. Source: Schlegl et al. 2019, "f-AnoGAN", Medical Image Analysis 54, equation 5.
"""
NoiseFree = Literal["corrected", "path"]
"""Statistics of a VAE: noise-free columns of the graph `statistics`, higher = more anomalous.

`corrected`, in nats: the log-likelihood of a perfect reconstruction less that at the posterior mean, plus the
KL, so that an item is not called likely for being easy to describe. Source: Chauhan et al. 2022, "Robust
outlier detection by de-biasing VAE likelihoods", CVPR, section 3. `path`, in standard deviations: the
Mahalanobis distance from held-out items of features along the path through both networks. Source: Huang et
al. 2024, "Rethinking test-time likelihood: the likelihood path principle and its application to OOD
detection", arXiv:2401.04933, section 4.
"""
Statistic = Bound | NoiseFree | Distance
Unit = Literal["nats", "standard deviations", "mean square"]
UNITS: dict[Statistic, Unit] = {
    "elbo": "nats",
    "importance_bound": "nats",
    "corrected": "nats",
    "path": "standard deviations",
    "residual": "mean square",
    "feature_distance": "mean square",
    "f_anogan": "mean square",
}
"""The unit of the surprise by each statistic."""
Objective = Literal["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"]
"""The objective that a GAN's discriminator was trained with."""
Support = Literal["binary", "eight_bit", "unit_interval", "real"]
"""The values of an item: 0 and 1; [0, 1], rounded to the nearest of 256 levels; [0, 1]; any number.

The first two are discrete, so that a likelihood is a probability and has bits per dimension.
"""
DISCRETE: tuple[Support, ...] = ("binary", "eight_bit")
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MODEL_NAME: Final = r"[a-z0-9][a-z0-9-]{0,62}"
VERSION: Final = r"[1-9][0-9]{0,8}"
"""Patterns of the two folder names NAME/VERSION."""
ModelName = Annotated[str, Field(pattern=f"^{MODEL_NAME}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Column(_Frozen):
    """A column of a table: a number, or a category in one-hot encoding."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    categories: tuple[str, ...] = ()
    """Empty for a number; else the column has one feature per category: one is 1, the others are 0."""

    @property
    def features(self) -> int:
        """Return the number of features of an item that the column takes."""
        return len(self.categories) or 1

    @model_validator(mode="after")
    def _names_each_category_once(self) -> Self:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError(f"column {self.name} names a category twice")
        return self


def column_places(columns: Sequence[Column]) -> Iterator[tuple[Column, slice]]:
    """Yield each column of a table with the slice of an item that holds its features."""
    start = 0
    for column in columns:
        yield column, slice(start, start + column.features)
        start += column.features


class FileSpec(_Frozen):
    """A file of the version, pinned by its hash."""

    file: FileName
    sha256: Sha256


class TensorSpec(_Frozen):
    """One input or output of a graph; free axes are named "rows" or "draws"."""

    name: str
    dtype: Literal["float32"] = "float32"
    shape: tuple[int | Literal["rows", "draws"], ...]


class GraphSpec(FileSpec):
    """An ONNX graph: inputs and outputs in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def is_picture(item_shape: Sequence[int]) -> bool:
    """Return True if items of that shape can be shown: grey or RGB images, (C, H, W)."""
    return len(item_shape) == 3 and item_shape[0] in (1, 3)


class MixturePriorSpec(FileSpec):
    """A prior that is a mixture of M diagonal Gaussians.

    The file is an .npz of weights (M,) float64, means (M, D) float32 and log_variances (M, D) float32.
    """

    kind: Literal["mixture"] = "mixture"
    components: Annotated[int, Field(ge=1, le=65_536)]


class CalibratedStatistic(_Frozen):
    """The calibration of a statistic: n items, and the draws if it is a bound."""

    n: Annotated[int, Field(ge=1)]
    draws: Annotated[int, Field(ge=1)] | None = None
    """Draws per item; None for a statistic without noise."""
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """The scoring seed that names the draws; None for a statistic without noise."""


class CalibrationSpec(FileSpec):
    """An .npz file with one ascending float64 array of surprises per statistic."""

    statistics: dict[Statistic, CalibratedStatistic]


class ScoreDefaults(_Frozen):
    """Defaults of a score request; draws and seed are None unless the statistic is a bound."""

    statistic: Statistic
    draws: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)]


class LogitsSpec(FileSpec):
    """An .npz file with `real` (n,) float32: calibrated logits of held-out real items, in random order."""

    n: Annotated[int, Field(ge=1)]
    largest: float
    """The largest calibrated logit of many generated items: an estimate of the largest log p_data / p_G."""


class DiscriminatorSpec(_Frozen):
    """The training of the discriminator, which decides whether its logits are log density ratios."""

    objective: Objective
    packing: Annotated[int, Field(ge=1)] = 1
    """Number of items it judges together. Source: Lin et al. 2018, "PacGAN", arXiv:1712.04086."""
    logits: LogitsSpec | None = None
    """Present if and only if the graph `generate_scored` is, which needs `flaw` to be None."""

    @property
    def flaw(self) -> str | None:
        """Return why its outputs are not log density ratios of single items, or None if they are."""
        if self.objective == "wasserstein":
            return "its critic was trained for a Wasserstein distance, whose values are no log density ratios"
        if self.packing > 1:
            return f"its discriminator judges {self.packing} items together, never a single one"
        return None


class Metric(_Frozen):
    """A figure measured at publishing: its value, Monte Carlo or sampling error, unit, and a note."""

    value: float
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    """The 95 % confidence interval, if one was measured."""
    unit: str
    note: str = ""


class Parity(_Frozen):
    """The largest |onnx - torch| / (1 + |torch|) measured over the batches, and the tolerance."""

    largest_error: float
    tolerance: float
    batches: tuple[int, ...]


class Provenance(_Frozen):
    """The origin of the version; enough to train it again."""

    recipe: dict[str, object]
    commit: str
    seed: int
    libraries: dict[str, str]


class Manifest(_Frozen):
    """The self-description of one version."""

    format: Literal["pushforward-1"] = "pushforward-1"
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    family: Literal["vae", "gan"]
    description: str
    item_shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=3)]
    support: Support
    value_range: tuple[float, float] | None
    """The smallest and largest value of an item: (0, 1), or None for the support `real`."""
    columns: tuple[Column, ...] = ()
    """The columns of a table, in the order of the features; empty for other data."""
    class_names: tuple[str, ...] = ()
    latent_size: Annotated[int, Field(ge=1, le=4096)]
    prior: Literal["standard_normal"] | MixturePriorSpec
    likelihood: str | None
    noise: Literal["philox4x64-boxmuller-1"]
    graphs: dict[GraphName, GraphSpec]
    statistics: tuple[NoiseFree | Distance, ...] = ()
    """The columns of the graph `statistics`, in order."""
    discriminator: DiscriminatorSpec | None = None
    view: tuple[tuple[float, float], tuple[float, float]] | None = None
    """The ranges of both numbers that a picture of the density shows, for items of two numbers."""
    calibration: CalibrationSpec | None = None
    defaults: ScoreDefaults | None = None
    metrics: dict[str, Metric]
    provenance: Provenance
    parity: dict[GraphName, Parity]
    self_test: FileSpec
    """An .npz file of example inputs and their outputs, as `GRAPH.inputs.NAME` and `GRAPH.outputs.NAME`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        features = sum(column.features for column in self.columns)
        if self.columns and self.item_shape != (features,):
            raise ValueError(f"columns have {features} features, item_shape is {list(self.item_shape)}")
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ValueError("columns: two have the same name")
        wanted = None if self.support == "real" else (0.0, 1.0)
        if self.value_range != wanted:
            raise ValueError(f"value_range of the support {self.support} is {wanted}")
        if bool(self.statistics) != ("statistics" in self.graphs):
            raise ValueError("statistics names the columns of the graph `statistics`: both or neither")
        logits = self.discriminator is not None and self.discriminator.logits is not None
        if logits != ("generate_scored" in self.graphs):
            raise ValueError("discriminator.logits belong to the graph `generate_scored`: both or neither")
        if self.view and (self.item_shape != (2,) or not all(low < high for low, high in self.view)):
            raise ValueError("view is for items of two numbers: two ranges, from a smaller to a larger one")
        return self

    @model_validator(mode="after")
    def _tensors_have_the_sizes_of_the_model(self) -> Self:
        items: tuple[int | str, ...] = ("rows", *self.item_shape)
        terms = ("rows", "draws")
        shapes: dict[str, tuple[int | str, ...]] = {
            **dict.fromkeys(("inputs", "samples", "uniforms", "map"), items),
            **dict.fromkeys(("latents", "mean", "log_variance"), ("rows", self.latent_size)),
            **dict.fromkeys(("log_likelihood", "log_prior", "log_posterior"), terms),
            **dict.fromkeys(("kl", "logit"), ("rows",)),
            "eps": (*terms, self.latent_size),
        }
        for graph in self.graphs.values():
            for tensor in (*graph.inputs, *graph.outputs):
                wanted = shapes.get(tensor.name, tensor.shape)
                if tensor.shape != wanted:
                    raise ValueError(
                        f"{graph.file}: {tensor.name} is {list(tensor.shape)}, by the model's sizes it would "
                        f"be {list(wanted)}"
                    )
        return self

    @model_validator(mode="after")
    def _graphs_give_the_statistics(self) -> Self:
        if "statistics" in self.graphs:
            shapes = [tensor.shape for tensor in self.graphs["statistics"].outputs]
            if shapes != [("rows", len(self.statistics))]:
                raise ValueError(
                    f"the graph `statistics` gives {shapes}, the manifest names "
                    f"{len(self.statistics)} columns"
                )
        if self.defaults is not None and self.defaults.statistic not in self.offered_statistics:
            raise ValueError(f"its default statistic {self.defaults.statistic} is not given by its graphs")
        return self

    @property
    def operations(self) -> tuple[str, ...]:
        """Return the operations of the API that the graphs allow."""
        offered = (name for name, needs in OPERATIONS_BY_GRAPHS if needs <= self.graphs.keys())
        return tuple(dict.fromkeys(offered))

    @property
    def offered_statistics(self) -> tuple[Statistic, ...]:
        """Return the statistics that this version can score by."""
        bounds: tuple[Statistic, ...] = get_args(Bound) if "score" in self.graphs else ()
        return bounds + self.statistics

    @property
    def discrete(self) -> bool:
        """Return True if likelihoods are probabilities rather than densities, so that they have bits."""
        return self.support in DISCRETE

    @property
    def analytic_kl(self) -> bool:
        """Return True if the KL of the graph `score` is exact rather than a mean over draws."""
        return self.prior == "standard_normal"

    @property
    def files(self) -> Iterator[FileSpec]:
        """Yield every file of the version except the manifest."""
        yield from self.graphs.values()
        yield self.self_test
        logits = self.discriminator and self.discriminator.logits
        yield from (spec for spec in (self.calibration, logits, self.prior) if isinstance(spec, FileSpec))

    @property
    def sha256(self) -> str:
        """Return one hash for the whole version: that of its files' hashes, in the order of their names."""
        lines = sorted(f"{spec.file} {spec.sha256}" for spec in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
