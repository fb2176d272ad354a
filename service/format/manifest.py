"""The manifest: the self-description of a published version.

A version is the folder `models/NAME/VERSION/`: `manifest.json` describes it, and every other file the
manifest names is pinned by its SHA-256. `service.format.versions` reads, verifies and publishes them.
Shapes use two free axes: "rows" (B) and "draws" (K).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from service.errors import OperationNotOffered
from service.format.columns import Column, ColumnName
from service.format.specs import (
    CalibrationSpec,
    DiscriminatorSpec,
    FileSpec,
    Frozen,
    GraphName,
    GraphSpec,
    LatentPicture,
    Metric,
    MixturePriorSpec,
    Parity,
    PictureForm,
    Provenance,
    ScoreDefaults,
)
from service.format.statistics import Bound, Distance, NoiseFree, Statistic

OPERATIONS_BY_GRAPHS: tuple[tuple[str, frozenset[GraphName]], ...] = (
    ("sample", frozenset({"decode"})),
    ("interpolate", frozenset({"decode"})),
    ("decode", frozenset({"decode"})),
    ("encode", frozenset({"encode"})),
    ("reconstruct", frozenset({"encode", "decode"})),
    ("score", frozenset({"score"})),
    ("score", frozenset({"statistics"})),
    ("discriminate", frozenset({"discriminate"})),
    ("read", frozenset({"encode"})),
    ("read", frozenset({"score"})),
    ("read", frozenset({"statistics"})),
    ("read", frozenset({"discriminate"})),
)
"""The graphs that each operation of the API needs, one line per way."""
CONDITIONAL: tuple[GraphName, ...] = (
    "encode", "decode", "draw", "score", "statistics", "map", "columns", "discriminate", "generate_scored",
)  # fmt: skip
"""The graphs that may take `labels` (B, C), the class of each row of C, one-hot, as their last input."""
Support = Literal["binary", "eight_bit", "unit_interval", "real"]
"""The values of an item: 0 and 1; [0, 1], rounded to the nearest of 256 levels; [0, 1]; any number.

The first two are discrete, so that a likelihood is a probability and has bits per dimension.
"""
DISCRETE: tuple[Support, ...] = ("binary", "eight_bit")
MODEL_NAME: Final = r"[a-z0-9][a-z0-9-]{0,62}"
VERSION: Final = r"[1-9][0-9]{0,8}"
"""Patterns of the two folder names NAME/VERSION."""
ModelName = Annotated[str, Field(pattern=f"^{MODEL_NAME}$")]


def is_picture(item_shape: Sequence[int]) -> bool:
    """Return True if items of that shape can be shown: grey or RGB images, (C, H, W)."""
    return len(item_shape) == 3 and item_shape[0] in (1, 3)


class Manifest(Frozen):
    """The self-description of one version."""

    format: Literal["pushforward-1"] = "pushforward-1"
    """The name of this format."""
    name: ModelName
    """The name of the model."""
    version: Annotated[int, Field(ge=1)]
    """The number of the version."""
    family: Literal["vae", "gan"]
    """The kind of model."""
    description: str
    """A sentence about the model."""
    item_shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=3)]
    """The shape of an item: [channels, height, width] of a picture, [features] of a row."""
    support: Support
    """The values of an item: `binary` 0 and 1; `eight_bit` [0, 1], rounded to the nearest of 256 levels;
    `unit_interval` [0, 1]; `real` any number."""
    value_range: tuple[float, float] | None
    """The smallest and largest value of an item: (0, 1), or None for the support `real`."""
    picture: PictureForm | None = None
    """The conversion of files of pictures. None if the version was not trained on files: a picture must then
    have 8 bits a channel, the size of an item, and no transparency."""
    columns: tuple[Column, ...] = ()
    """The columns of a table, in the order of the features; empty for other data."""
    takes_missing: bool = False
    """True if NaN in an item (null in JSON, an empty cell) is a missing value: it counts in no likelihood,
    and `reconstruct` fills it in. Of a category all features are NaN. Else such items are refused."""
    left_out: tuple[str, ...] = ()
    """Columns of the training table that the model does not see; in requests they are ignored."""
    class_names: tuple[str, ...] = ()
    """The classes of the training data; empty without labels. A version whose graphs take `labels` generates
    items of the class that a request names."""
    label_column: ColumnName | None = None
    """Tables with a class condition: the column of the training table that holds the class of a row. Rows
    that come by name may have it, and are then of those classes."""
    latent_size: Annotated[int, Field(ge=1, le=4096)]
    """The number D of latent dimensions."""
    latent_picture: LatentPicture | None = None
    """The form of latents that were pictures; None if they are rows of numbers."""
    prior: Literal["standard_normal"] | MixturePriorSpec
    """The distribution of latents that samples are made from."""
    likelihood: str | None
    """The distribution of an item given its latent; None for a GAN."""
    noise: Literal["philox4x64-boxmuller-1"]
    """The rule by which a seed and an index become noise."""
    graphs: dict[GraphName, GraphSpec]
    """The ONNX graphs."""
    weights: FileSpec | None = None
    """A file that holds large initializers of the graphs, each once, where the graphs say (external data of
    ONNX); None if each graph holds its own."""
    statistics: tuple[NoiseFree | Distance, ...] = ()
    """The columns of the graph `statistics`, in order."""
    discriminator: DiscriminatorSpec | None = None
    """The training of the discriminator; None for a VAE."""
    view: tuple[tuple[float, float], tuple[float, float]] | None = None
    """The ranges of both numbers that a picture of the density shows, for items of two numbers."""
    calibration: CalibrationSpec | None = None
    """The calibration of p-values; None if scores have none."""
    defaults: ScoreDefaults | None = None
    """Defaults of a score request; None if the version gives no scores."""
    map_scale: Annotated[float, Field(gt=0)] | None = None
    """The scale of heat maps: the surprise of a pixel, its channels added, that 1 in 100 pixels of held-out
    pictures exceed. None without the graph `map`, for tables, and if no pictures were held out."""
    metrics: dict[str, Metric]
    """Figures measured at publishing."""
    provenance: Provenance
    """The origin of the version."""
    parity: dict[GraphName, Parity]
    """The agreement of each graph with PyTorch."""
    self_test: FileSpec
    """An .npz file of example inputs and their outputs, as `GRAPH.inputs.NAME` and `GRAPH.outputs.NAME`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        features = sum(column.features for column in self.columns)
        if self.columns and self.item_shape != (features,):
            raise ValueError(f"columns have {features} features, item_shape is {list(self.item_shape)}")
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ValueError("columns: two have the same name")
        if self.picture is not None and not is_picture(self.item_shape):
            raise ValueError(f"picture is for pictures, item_shape is {list(self.item_shape)}")
        if self.label_column is not None and not (self.columns and self.conditional):
            raise ValueError("label_column is for tables with a class condition")
        if self.takes_missing and not self.columns:
            raise ValueError("takes_missing is for tables, which have columns")
        wanted = None if self.support == "real" else (0.0, 1.0)
        if self.value_range != wanted:
            raise ValueError(f"value_range of the support {self.support} is {wanted}")
        if bool(self.statistics) != ("statistics" in self.graphs):
            raise ValueError("statistics names the columns of the graph `statistics`: both or neither")
        logits = self.discriminator is not None and self.discriminator.logits is not None
        if logits != ("generate_scored" in self.graphs):
            raise ValueError("discriminator.logits belong to the graph `generate_scored`: both or neither")
        latent = self.latent_picture
        if latent is not None and math.prod(latent.shape) != self.latent_size:
            raise ValueError(f"latent_picture is {list(latent.shape)}, latent_size is {self.latent_size}")
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
            "labels": ("rows", len(self.class_names)),
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
        if "columns" in self.graphs:
            shapes = [tensor.shape for tensor in self.graphs["columns"].outputs]
            if shapes != [("rows", len(self.columns))]:
                raise ValueError(f"the graph `columns` gives {shapes} for {len(self.columns)} columns")
        calibrated = () if self.calibration is None else self.calibration.columns
        if len(calibrated) != (len(self.columns) if "columns" in self.graphs else 0):
            raise ValueError("calibration.columns has a number for each column that the graph `columns` has")
        if self.defaults is not None and self.defaults.statistic not in self.offered_statistics:
            raise ValueError(f"its default statistic {self.defaults.statistic} is not given by its graphs")
        return self

    @model_validator(mode="after")
    def _steps_lead_from_inputs_to_outputs(self) -> Self:
        hashes = {graph.file: graph.sha256 for graph in self.graphs.values()}
        for name, graph in self.graphs.items():
            at_hand = {tensor.name for tensor in graph.inputs}
            for step in graph.steps:
                if hashes.setdefault(step.file, step.sha256) != step.sha256:
                    raise ValueError(f"graphs.{name}.steps: {step.file} has two hashes")
                if missing := sorted(set(step.inputs.values()) - at_hand):
                    raise ValueError(f"graphs.{name}.steps: {step.file} takes {missing}, which no step gives")
                at_hand |= set(step.outputs.values())
            missing = sorted({tensor.name for tensor in graph.outputs} - at_hand)
            if graph.steps and missing:
                raise ValueError(f"graphs.{name}.steps: no step gives {missing}")
        return self

    @model_validator(mode="after")
    def _labels_are_taken_by_all_graphs_or_none(self) -> Self:
        takes = {
            name for name, graph in self.graphs.items() if "labels" in [each.name for each in graph.inputs]
        }
        if takes and (takes != set(self.graphs) or not takes <= set(CONDITIONAL)):
            raise ValueError(
                f"the graphs {', '.join(sorted(takes))} take labels; of a conditional version all do, and "
                f"they are of {', '.join(CONDITIONAL)}"
            )
        return self

    @cached_property
    def conditional(self) -> bool:
        """Return True if its graphs take the class of each row as well."""
        return any(tensor.name == "labels" for graph in self.graphs.values() for tensor in graph.inputs)

    @property
    def class_column(self) -> str:
        """Return the name of the column that holds the classes of rows, where these are a table."""
        return self.label_column or "label"

    @property
    def operations(self) -> tuple[str, ...]:
        """Return the operations of the API that the graphs allow."""
        offered = (name for name, needs in OPERATIONS_BY_GRAPHS if needs <= self.graphs.keys())
        return tuple(dict.fromkeys(offered))

    def require(self, operation: str) -> None:
        """Raise OperationNotOffered, which names the others, unless the version offers the operation."""
        if operation not in self.operations:
            raise OperationNotOffered(
                f"{self.name} is a {self.family} that does not offer {operation}; it offers "
                f"{', '.join(self.operations)}",
                offered=self.operations,
            )

    @property
    def offered_statistics(self) -> tuple[Statistic, ...]:
        """Return the statistics that this version can score by."""
        bounds: tuple[Statistic, ...] = get_args(Bound) if "score" in self.graphs else ()
        return bounds + self.statistics

    @property
    def ignored_columns(self) -> frozenset[str]:
        """Return the columns that may come and count nothing; older versions have them in their recipe."""
        data = self.provenance.recipe.get("data")
        if self.left_out or not isinstance(data, dict) or not self.columns:
            return frozenset(self.left_out)
        named = {*data.get("drop", ()), *filter(None, [data.get("label")])}
        return frozenset(named.difference(column.name for column in self.columns))

    @property
    def discrete(self) -> bool:
        """Return True if likelihoods are probabilities rather than densities, so that they have bits."""
        return self.support in DISCRETE

    @property
    def analytic_kl(self) -> bool:
        """Return True if the KL of the graph `score` is exact rather than a mean over draws."""
        return self.prior == "standard_normal"

    @property
    def bit_equal_rows(self) -> bool:
        """Return True if a row's results on the CPU were equal bit for bit in every batch at publishing."""
        return self.largest_row_error == 0

    @property
    def largest_row_error(self) -> float:
        """Return the largest difference of a row's results in two batches, over 1 + |value|."""
        return max((parity.largest_row_error for parity in self.parity.values()), default=0.0)

    @property
    def agreement(self) -> str:
        """Return a sentence on the parity of the graphs, and on a row's results in every batch."""
        error = max((parity.largest_error for parity in self.parity.values()), default=0.0)
        rows = "are equal bit for bit in every batch"
        if not self.bit_equal_rows:
            rows = (
                f"depend on its batch by up to {self.largest_row_error:.1e} (1 + |value|), so that entity "
                "tags are weak"
            )
        return f"its graphs agree with their source within {error:.1e} (1 + |value|); a row's results {rows}"

    @property
    def doubts(self) -> str:
        """Return a sentence on what its publisher was warned of; empty without a warning."""
        found = (self.provenance.origin or {}).get("doubts")
        return f"it was published with a warning: {found}" if found else ""

    @property
    def files(self) -> Iterator[FileSpec]:
        """Yield every file of the version except the manifest, each once."""
        graphs: dict[str, FileSpec] = {graph.file: graph for graph in self.graphs.values()}
        for graph in self.graphs.values():
            graphs = {step.file: step for step in graph.steps} | graphs
        yield from graphs.values()
        yield self.self_test
        logits = self.discriminator and self.discriminator.logits
        others = (self.weights, self.calibration, logits, self.prior)
        yield from (spec for spec in others if isinstance(spec, FileSpec))

    @property
    def sha256(self) -> str:
        """Return one hash for the whole version: that of its files' hashes, in the order of their names."""
        lines = sorted(f"{spec.file} {spec.sha256}" for spec in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
