"""The networks that others trained, and what lies between their tensors and the items of the service.

Shapes: B rows, n values of an item; items (B, *item) as the service takes them: pictures (B, C, H, W).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import onnx
import onnxruntime

from service.numerics.noise import Floats
from training.export.own.algebra import Algebra, GraphAlgebra, Tensor

Values = Literal["0..1", "-1..1", "0..255", "real"]
"""The range of an item's values as the networks have them; `real` is any number."""
VALUES: tuple[Values, ...] = get_args(Values)
Channels = Literal["first", "last"]
LabelForm = Literal["index", "column", "one_hot", "none"]
"""The class of a row for a network: a whole number, (B,) or (B, 1), one-hot (B, C), or nothing."""
ONE_BATCH = (
    "works for one size of batch only (a fixed number of rows in a view, a loop over the batch); keep the "
    "first axis free, as in x.view(x.shape[0], -1)"
)
"""The flaw of a network with a fixed batch."""
_ARRAY = re.compile(r"(tensor\()?\[+\s*(-?[\d.]|nan|inf)|\.\.\.,")
"""A line of a printed array, with which torch's errors about values end."""


class UnfitModel(ValueError):
    """A model cannot be published as it is; the message lists everything that does not fit."""

    def __init__(self, name: str, flaws: Sequence[str]) -> None:
        self.flaws = tuple(flaws)
        """The flaws, a sentence each."""
        lines = "".join(f"\n- {flaw}" for flaw in flaws)
        super().__init__(f"{name} does not fit, and nothing was written:{lines}")


class StrangeResult(TypeError):
    """A network gives something else than tensors; the message goes on after its name."""


def reason_of(error: BaseException) -> str:
    """Return the last line of a network's error that is no array, or its kind if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not _ARRAY.match(line)]
    return said[-1][:200] if said else type(error).__name__


def array_of(given: Any) -> np.ndarray[Any, Any]:
    """Return what the user gave as an array; a tensor of torch may be on any device, and need a gradient.

    Raises:
        ValueError: It is none; says what came.
    """
    if callable(getattr(given, "detach", None)):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    came = type(given).__name__
    try:
        array = np.asarray(given)
    except Exception as error:
        # anything may fail in any way when it is read as an array
        raise ValueError(f"a {came}, which is no array: {reason_of(error)}") from error
    if array.dtype.kind in "OT" and array.size and all(isinstance(each, str) for each in array.flat):
        return array.astype(np.str_)  # names in a column of pandas
    if array.dtype.kind == "O":
        raise ValueError(f"a {came}, which is no array of numbers; stack its items: np.stack([...])")
    return array


class Source(Protocol):
    """A network of torch or of ONNX."""

    what: str
    """Its name in messages: "the encoder"."""
    origin: dict[str, object]
    """Its origin, for the provenance."""

    def flaws(self) -> list[str]:
        """Return its flaws that show before it is run, a sentence each."""

    def shapes(self, expected: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        """Return those of the expected shapes of an input's row that may fit it."""

    def run(self, inputs: Floats) -> list[Floats]:
        """Compute its outputs for inputs (B, ...)."""

    @property
    def takes_class(self) -> bool:
        """Return True if it may take a second input, the class of each row."""

    def conditioned(self, shape: tuple[int, ...], classes: int, labels: LabelForm) -> Source:
        """Return it as a network of one input, rows (B, n + C) of values and, one-hot, the class.

        `shape` is that of a row of its own values, of n numbers, and `labels` the form in which it takes the
        class, if it does.
        """

    def export(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        """Return it as ONNX with a free axis of rows; a row of its input has that shape.

        Raises:
            UnfitModel: It cannot be exported so, or breaks a rule for graphs.
        """


@dataclass(frozen=True)
class Units:
    """The shape of items, and how the networks have their values and channels."""

    item_shape: tuple[int, ...]
    """The shape that the service takes: (C, H, W), or any other shape of one to three axes."""
    values: Values = "0..1"
    channels: Channels = "first"

    @property
    def size(self) -> int:
        """Return n, the number of values of an item."""
        return math.prod(self.item_shape)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Return the shape of an item as the networks have it."""
        if self.channels == "first":
            return self.item_shape
        return (*self.item_shape[1:], self.item_shape[0])

    @property
    def forms(self) -> list[tuple[int, ...]]:
        """Return the shapes that a network may have items in: as pictures, without one channel, or flat."""
        shapes = [self.network_shape, (self.size,)]
        if len(self.item_shape) == 3 and self.item_shape[0] == 1:
            shapes.insert(1, self.item_shape[1:])
        return list(dict.fromkeys(shapes))

    @property
    def factor(self) -> float:
        """Return the size of a step of the networks' values in the items' units."""
        return {"0..1": 1.0, "-1..1": 0.5, "0..255": 1 / 255, "real": 1.0}[self.values]

    @property
    def shift(self) -> float:
        """Return the item's value where the networks' is 0."""
        return 0.5 if self.values == "-1..1" else 0.0

    def to_network(self, f: Algebra, items: Tensor) -> Tensor:
        """Return items (B, *item) in the networks' units and order."""
        if self.values == "-1..1":
            items = 2.0 * items - 1.0
        elif self.values == "0..255":
            items = 255.0 * items
        return f.transpose(items, (0, 2, 3, 1)) if self.channels == "last" else items

    def in_order(self, f: Algebra, outputs: Tensor) -> Tensor:
        """Return a network's values (B, n), flattened, in the order of an item's values."""
        if self.channels == "first":
            return outputs
        rows = f.reshape(outputs, (-1, *self.network_shape))
        return f.reshape(f.transpose(rows, (0, 3, 1, 2)), (-1, self.size))

    def from_network(self, f: Algebra, outputs: Tensor) -> Tensor:
        """Return a network's values (B, n), flattened, as an item's, within [0, 1] if they have a range."""
        ordered = self.in_order(f, outputs)
        if self.values == "real":
            return ordered
        return f.clip(self.factor * ordered + self.shift if self.values != "0..1" else ordered, 0.0, 1.0)

    def items_of(self, given: Any) -> Floats:
        """Return items that the user gave as the networks take them, as the service takes them.

        uint8 is always 0 to 255.

        Raises:
            ValueError: Their shape or dtype does not fit; says what came.
        """
        array = array_of(given)
        rows = array.shape[1:]
        if array.dtype.kind in "SU":
            raise ValueError(
                f"text; wanted the numbers themselves, {self.wanted}, as np.load(...) gives them"
            )
        if array.ndim < 2 or len(array) == 0 or array.dtype.kind not in "biuf":
            raise ValueError(f"{array.dtype} of shape {list(array.shape)}; wanted numbers {self.wanted}")
        if rows == self.network_shape:
            items = array.transpose(0, 3, 1, 2) if self.channels == "last" else array
        elif rows in (self.item_shape, (self.size,)) or (len(rows) == 2 and (1, *rows) == self.item_shape):
            items = array.reshape(len(array), *self.item_shape)
        else:
            raise ValueError(f"an array of shape {list(array.shape)}; wanted {self.wanted}")
        numbers = items.astype(np.float32)
        if self.values == "real" or array.dtype == np.bool_:
            return np.ascontiguousarray(numbers)
        if array.dtype != np.uint8:
            self._require_range(numbers)
        if array.dtype == np.uint8 or self.values == "0..255":
            return np.ascontiguousarray(numbers / np.float32(255))
        return np.ascontiguousarray((numbers + 1) / 2 if self.values == "-1..1" else numbers)

    def _require_range(self, numbers: Floats) -> None:
        """Raise ValueError if numbers are in [0, 1] all, though the networks take them in another range."""
        low, high = float(numbers.min()), float(numbers.max())
        narrow = (self.values == "-1..1" and low >= 0) or (self.values == "0..255" and low >= 0 and high <= 1)
        if narrow and low < high:
            how = {"-1..1": "2 * items - 1", "0..255": "255 * items"}[self.values]
            raise ValueError(
                f"numbers from {low:g} to {high:g}, but values is {self.values!r}: give them as the networks "
                f"take them ({how}), or as uint8, which is always 0 to 255"
            )

    @property
    def wanted(self) -> str:
        """Return the shape of items that the user gives, for messages."""
        return f"(N, {', '.join(map(str, self.network_shape))})"


@dataclass(frozen=True)
class Export:
    """A network as ONNX, in a session."""

    model: onnx.ModelProto
    session: onnxruntime.InferenceSession
    logits: bool
    """True if a sigmoid at its end was taken off: a probability near 1 has few digits, its logit has all."""
    error: float
    """The largest difference from the network itself, over 1 + |value|."""

    def run(self, rows: Floats) -> list[Floats]:
        """Compute its outputs for inputs (B, ...)."""
        return [
            np.asarray(each) for each in self.session.run(None, {self.session.get_inputs()[0].name: rows})
        ]


@dataclass(frozen=True)
class OwnNetwork:
    """A network whose shapes are known, and its export once it is made."""

    source: Source
    input_shape: tuple[int, ...]
    """The shape of a row of its input, without B."""
    output_shapes: tuple[tuple[int, ...], ...]
    """The shape of a row of each output."""
    examples: Floats
    """Rows of its input that it was run on."""
    probabilities: bool = False
    """True if it gives probabilities, whose logits serve as well."""
    export: Export | None = None

    @property
    def error(self) -> float:
        """Return the largest difference of the export from the network, over 1 + |value|."""
        assert self.export is not None, "a network is exported before it is compared"
        return self.export.error

    def apply(self, f: Algebra, inputs: Tensor) -> list[Tensor]:
        """Apply the exported network to inputs (B, ...); returns its outputs, each flattened to (B, ...)."""
        assert self.export is not None, "a network is exported before it is applied"
        rows = f.reshape(inputs, (-1, *self.input_shape))
        if isinstance(f, GraphAlgebra):
            outputs: list[Tensor] = list(f.embed(self.export.model, rows))
        else:
            outputs = [each.astype(np.float64) for each in self.export.run(rows.astype(np.float32))]
        widths = [math.prod(shape) for shape in self.output_shapes]
        return [f.reshape(each, (-1, width)) for each, width in zip(outputs, widths, strict=True)]
