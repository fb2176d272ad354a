"""The parts of a manifest: files, graphs, pictures, calibration, figures and provenance.

Shapes use two free axes: "rows" (B) and "draws" (K).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from service.format.documented import Documented
from service.format.statistics import Statistic

Floats: TypeAlias = NDArray[np.float32]
Feeds: TypeAlias = Mapping[str, Floats]
"""Arrays by the name of a tensor."""
Run: TypeAlias = Callable[[Sequence[str], Feeds], Sequence[Floats]]
"""Computes the outputs of a graph that are named, in that order, of inputs by name."""

GraphName = Literal[
    "encode", "decode", "draw", "score", "statistics", "map", "columns", "discriminate", "generate_scored"
]
Objective = Literal["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"]
"""The objective that a GAN's discriminator was trained with."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Byte = Annotated[int, Field(ge=0, le=255)]


class Frozen(Documented):
    """Base of all parts of a manifest: without unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileSpec(Frozen):
    """A file of the version, pinned by its hash."""

    file: FileName
    """The name of the file in the folder of the version."""
    sha256: Sha256
    """The SHA-256 of its bytes, in hexadecimal digits."""


class TensorSpec(Frozen):
    """One input or output of a graph; free axes are named "rows" or "draws"."""

    name: str
    """The name in the graph."""
    dtype: Literal["float32"] = "float32"
    """The type of its numbers."""
    shape: tuple[int | Literal["rows", "draws"], ...]
    """The size of each axis."""


class StepSpec(FileSpec):
    """A step of a graph: another graph of the version, in which the weights are that both use."""

    inputs: dict[str, str]
    """For each of its inputs the tensor that it gets: an input of the whole graph, or what an earlier step
    gave."""
    outputs: dict[str, str]
    """Those of its outputs that are used, each with the name of the tensor that it gives."""


class GraphSpec(FileSpec):
    """An ONNX graph: inputs and outputs in order."""

    inputs: tuple[TensorSpec, ...]
    """The inputs in order."""
    outputs: tuple[TensorSpec, ...]
    """The outputs in order."""
    steps: tuple[StepSpec, ...] = ()
    """The same computation in steps, bit for bit on the CPU, where it runs so: graphs share steps, and so
    each weight is in memory once. Empty if it runs as a whole."""

    @property
    def files(self) -> tuple[str, ...]:
        """Return the names of its file, and of those of its steps."""
        return self.file, *(step.file for step in self.steps)

    def run_steps(self, runs: Mapping[str, Run], feeds: Feeds) -> list[Floats]:
        """Compute the outputs in order, of inputs by name; `runs` run the files of the steps."""
        tensors = dict(feeds)
        for step in self.steps:
            given = runs[step.file](
                [*step.outputs], {own: tensors[name] for own, name in step.inputs.items()}
            )
            tensors.update(zip(step.outputs.values(), given, strict=True))
        return [tensors[output.name] for output in self.outputs]


class PictureForm(Frozen):
    """The reading of a file of a picture as an item, in training and in requests alike.

    It is a PNG, JPEG, WebP, TIFF or BMP. It is turned upright as its EXIF says; of 16 bits a pixel the upper
    8 are kept; CMYK becomes RGB; and colours become grey if items have one channel.
    """

    fit: Literal["stretch", "crop"] | None = None
    """The way to the size of an item. `stretch`: it is resized, without keeping its proportions; `crop`: its
    middle is, with the proportions of an item; None: a picture of another size is refused."""
    background: tuple[Byte, Byte, Byte] | None = None
    """The colour that shows where it is transparent: red, green and blue, each 0 to 255. None: a picture that
    is transparent in places is refused."""
    binary: bool = False
    """True if values become 1 from 0.5 on, and else 0."""


class MixturePriorSpec(FileSpec):
    """A prior that is a mixture of M diagonal Gaussians.

    The file is an .npz of weights (M,) float64, means (M, D) float32 and log_variances (M, D) float32.
    """

    kind: Literal["mixture"] = "mixture"
    """The kind of prior."""
    components: Annotated[int, Field(ge=1, le=65_536)]
    """The number M of Gaussians."""


class LatentPicture(Frozen):
    """Latents that are pictures for the networks, and flat rows here: those of diffusers' `AutoencoderKL`."""

    shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """The shape (C, H, W) of a latent before it was flattened."""
    scaling_factor: Annotated[float, Field(gt=0)] = 1.0
    """The factor of latents in the diffusion model that uses them; those here are before it."""
    shift_factor: float = 0.0
    """The number that is subtracted from latents before that factor."""


class CalibratedStatistic(Frozen):
    """The calibration of a statistic: n items, and the draws if it is a bound."""

    n: Annotated[int, Field(ge=1)]
    """The number of held-out items."""
    draws: Annotated[int, Field(ge=1)] | None = None
    """Draws per item; None for a statistic without noise."""
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """The scoring seed that names the draws; None for a statistic without noise."""


class CalibrationSpec(FileSpec):
    """An .npz file with one ascending float64 array of surprises per statistic."""

    statistics: dict[Statistic, CalibratedStatistic]
    """The calibration of each statistic."""
    columns: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """For each column of a table, the number of held-out values on which it is calibrated by itself; empty if
    none is. The file's array `columns` has their surprises, ascending, one column after the other."""


class ScoreDefaults(Frozen):
    """Defaults of a score request; draws and seed are None unless the statistic is a bound."""

    statistic: Statistic
    """The statistic behind `surprise`."""
    draws: Annotated[int, Field(ge=1)] | None = None
    """Latent draws per item; None for a statistic without noise."""
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """Seed of the draws; None for a statistic without noise."""
    alpha: Annotated[float, Field(gt=0, lt=1)]
    """The share of ordinary items that may be flagged as anomalies."""


class LogitsSpec(FileSpec):
    """An .npz file with `real` (n,) float32: calibrated logits of held-out real items, in random order.

    With a class condition it has `labels` (n,) int64 too: the classes of these items, each at least once.
    """

    n: Annotated[int, Field(ge=1)]
    """The number of logits."""
    largest: float
    """The largest calibrated logit of many generated items: an estimate of the largest log p_data / p_G."""


class DiscriminatorSpec(Frozen):
    """The training of the discriminator, which decides whether its logits are log density ratios."""

    objective: Objective
    """The objective of the GAN."""
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


class Metric(Frozen):
    """A figure measured at publishing: its value, Monte Carlo or sampling error, unit, and a note."""

    value: float
    """The figure."""
    standard_error: float | None = None
    """Its standard error, if one was measured."""
    interval: tuple[float, float] | None = None
    """The 95 % confidence interval, if one was measured."""
    unit: str
    """Its unit."""
    note: str = ""
    """Explains how it was measured, if that is not plain."""


class Parity(Frozen):
    """The largest |onnx - torch| / (1 + |torch|) measured over the batches, and the tolerance."""

    largest_error: float
    """The largest error measured."""
    tolerance: float
    """The largest error allowed."""
    batches: tuple[int, ...]
    """The batch sizes in rows."""
    largest_row_error: float = 0.0
    """The largest difference between a row's results in two batches, over 1 + |value|; 0 if bit-equal."""


class Provenance(Frozen):
    """The origin of the version: the recipe to train it again, or that of a model that others trained."""

    recipe: dict[str, object] = Field({})
    """All options of the training; empty if the model was trained elsewhere."""
    origin: dict[str, object] | None = None
    """The networks of a model that was trained elsewhere, and the publisher's words about them."""
    commit: str
    """The git commit of the training code."""
    seed: int
    """The seed of the training."""
    libraries: dict[str, str]
    """Versions of the libraries by name."""
    repacked_from: int | None = None
    """The version that this one equals in all but the place of its weights, if it was made of one."""
