"""Networks with a class condition, as networks of one input: rows of values and, one-hot, the class.

So they are tried, exported and compared as others are. Shapes: B rows, n values of a row, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.numerics.noise import Floats, Integers
from training.data.splits import class_numbers
from training.export.own import checks
from training.export.own.networks import OwnNetwork, Source, array_of

LabelsAs = Literal["index", "one_hot"]
"""The form in which a network takes the class of a row: (B,) whole numbers from 0, or (B, C) one-hot."""


@dataclass(frozen=True)
class Condition:
    """The names of the classes, and how the networks take them."""

    names: tuple[str, ...]
    labels_as: LabelsAs = "index"

    def one_hot(self, labels: Integers) -> Floats:
        """Return labels (B,) as (B, C)."""
        return np.eye(len(self.names), dtype=np.float32)[labels]

    def in_turn(self, rows: int) -> Floats:
        """Return the classes of rows that have them in turn, (B, C)."""
        return self.one_hot(np.arange(rows) % len(self.names))

    def flaws(self) -> list[str]:
        """Return what does not fit, a sentence each."""
        flaws = []
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            flaws.append(f"classes are {list(self.names)}; wanted two or more names, each once")
        if not all(1 <= len(name) <= 200 for name in self.names):
            flaws.append("classes: each name is a text of 1 to 200 characters")
        if self.labels_as not in ("index", "one_hot"):
            flaws.append(f"labels_as is {self.labels_as!r}; wanted 'index' or 'one_hot'")
        return flaws

    def probe(
        self, source: Source, expected: Sequence[tuple[int, ...]], examples: Floats
    ) -> tuple[OwnNetwork | None, list[Floats], list[str]]:
        """Run a network on examples (B, ...) and classes in turn, see `checks.probe`.

        `expected` are the shapes that its first input may have; the second is the class.
        """
        rows = examples.reshape(len(examples), -1)
        packed = np.concatenate([rows, self.in_turn(len(rows))], 1)
        errors = []
        for shape in expected:
            whole = source.conditioned(shape, len(self.names), self.labels_as)
            network, outputs, found = checks.probe(whole, [packed.shape[1:]], packed)
            if network is not None:
                return network, outputs, found
            errors += [found[0].partition("]: ")[2] or found[0]]
        labels = "(B,)" if self.labels_as == "index" else f"(B, {len(self.names)})"
        shapes = " or ".join(f"(B, {', '.join(map(str, shape))})" for shape in expected)
        reasons = "; ".join(dict.fromkeys(errors))
        return None, [], [f"{source.what} does not take values {shapes} and classes {labels}: {reasons}"]


def real_labels(given: object, rows: int, condition: Condition) -> tuple[Integers | None, list[str]]:
    """Return the classes (N,) of real items, given as numbers or names, and what does not fit."""
    wanted = f"wanted {rows} numbers from 0 to {len(condition.names) - 1}, or names"
    if given is None:
        return None, [f"`real` came without `real_labels`, the class of each item; {wanted}"]
    try:
        array = array_of(given)
    except ValueError as error:
        return None, [f"real_labels came as {error}; {wanted}"]
    numbers = class_numbers(array, condition.names, rows)
    if numbers is None:
        return None, [f"real_labels are {array.dtype} of shape {list(array.shape)}; {wanted}"]
    return numbers, []
