"""Networks with a class condition, as networks of one input: rows of values and, one-hot, the class.

So they are tried, exported and compared as others are. Shapes: B rows, n values of a row, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np

from service.numerics.classes import one_hot
from service.numerics.noise import Floats, Integers
from training.data.splits import class_numbers, named
from training.export.own import checks
from training.export.own.networks import LabelForm, OwnNetwork, Source, array_of

LabelsAs = Literal["index", "one_hot"]
"""The form in which networks take the class of a row: whole numbers from 0, (B,) or (B, 1), or one-hot."""
Probe = Callable[
    [Source, Sequence[tuple[int, ...]], Floats], tuple[OwnNetwork | None, list[Floats], list[str]]
]
"""Runs a network on examples, see `checks.probe`."""
Check = Callable[[OwnNetwork, Sequence[Floats]], list[str]]
"""Returns what is wrong with the outputs of a network."""
_CALL: Final = "values and labels, as `lambda values, labels: network(values, labels, ...)`"
_FORMS: Final[dict[LabelsAs, tuple[LabelForm, ...]]] = {"index": ("index", "column"), "one_hot": ("one_hot",)}


@dataclass(frozen=True)
class Condition:
    """The names of the classes, and how the networks take them."""

    names: tuple[str, ...]
    labels_as: LabelsAs = "index"

    def one_hot(self, labels: Integers) -> Floats:
        """Return labels (B,) as (B, C)."""
        return one_hot(labels, len(labels), len(self.names))

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
        self,
        source: Source,
        expected: Sequence[tuple[int, ...]],
        examples: Floats,
        *,
        may_ignore: bool = False,
    ) -> tuple[OwnNetwork | None, list[Floats], list[str]]:
        """Run a network on examples (B, ...) and classes in turn, see `checks.probe`.

        `expected` are the shapes that its values may have. The class is its second input, or follows the
        values, one-hot, in one of rows (B, n + C); with `may_ignore` it may take none.
        """
        rows = examples.reshape(len(examples), -1)
        packed = np.concatenate([rows, self.in_turn(len(rows))], 1)
        errors: list[str] = []
        strange: list[str] = []
        for whole in self._readings(source, expected, may_ignore):
            if flaws := whole.flaws():
                return None, [], flaws
            network, outputs, found = checks.probe(whole, [packed.shape[1:]], packed, _CALL)
            if network is not None:
                return network, outputs, found
            if isinstance(found[0], checks.NotTaken):
                errors.append(found[0].reason)
            else:  # it takes them, and gives what does not fit
                strange = strange or found
        if strange:
            return None, [], strange
        labels = "(B,) or (B, 1)" if self.labels_as == "index" else f"(B, {len(self.names)})"
        wanted = f"values {' or '.join(map(_row, expected))} and classes {labels}"
        if source.takes_class:
            flaw = f"{source.what} does not take {wanted}"
            if self.labels_as == "index":
                flaw += "; if it takes them one-hot, say labels_as='one_hot'"
        else:
            both = f", or rows {_row(packed.shape[1:])} of both" if self.labels_as == "one_hot" else ""
            flaw = (
                f"{source.what} takes one input; wanted {wanted}{both}; give a function of {_CALL}, or leave "
                "`classes` out"
            )
        reasons = "; ".join(dict.fromkeys(errors))
        return None, [], [f"{flaw}: {reasons}" if reasons else flaw]

    def _readings(
        self, source: Source, expected: Sequence[tuple[int, ...]], may_ignore: bool
    ) -> Iterator[Source]:
        """Yield the networks of one input, rows of values and the class, that a source may be."""
        forms = _FORMS[self.labels_as] if source.takes_class else ()
        if not source.takes_class and self.labels_as == "one_hot":
            yield source
        if not source.takes_class and may_ignore:
            forms = ("none",)
        yield from (source.conditioned(shape, len(self.names), form) for shape in expected for form in forms)


def probes_of(condition: Condition | None) -> tuple[Probe, Probe]:
    """Return the trial of a network that must take the class, if there are any, and of one that may."""
    if condition is None:
        return checks.probe, checks.probe
    return condition.probe, partial(condition.probe, may_ignore=True)


def tried(
    probe: Probe,
    source: Source,
    shapes: Sequence[tuple[int, ...]],
    examples: Floats,
    check: Check,
    flaws: list[str],
) -> OwnNetwork | None:
    """Run a network on examples, check what it gave if it is sound, and add its flaws to the others."""
    network, outputs, found = probe(source, shapes, examples)
    if network is not None and not found:
        found = check(network, outputs)
    flaws += found
    return network


def labels_of(
    items: str, what: str, given: object, rows: int | None, condition: Condition | None
) -> tuple[Integers | None, list[str]]:
    """Return the classes (N,) of given items, and what does not fit; None without a condition, or items.

    They are given as whole numbers of any type or as names, (N,) or (N, 1), or one-hot, (N, C). `items` and
    `what` are the names of the items and of their classes, and `rows` is N, None if there are no items.
    """
    if condition is None:
        flaw = f"{what} came without `classes`, the names of the classes; give these, or leave it out"
        return None, [] if given is None else [flaw]
    if rows is None:
        return None, []
    count = len(condition.names)
    wanted = f"wanted {rows} numbers from 0 to {count - 1}, or names: {named(condition.names)}"
    if given is None:
        return None, [f"`{items}` came without `{what}`, the class of each item; {wanted}"]
    try:
        array = array_of(given)
    except ValueError as error:
        return None, [f"{what} came as {error}; {wanted}"]
    flat = array.reshape(-1) if array.shape == (rows, 1) else array
    if array.shape == (rows, count) and np.array_equal(array, condition.one_hot(array.argmax(1))):
        flat = array.argmax(1)
    if flat.dtype.kind in "bf" and np.isin(flat, range(count)).all():
        flat = flat.astype(np.int64)
    numbers = class_numbers(flat, condition.names, rows)
    if numbers is None:
        return None, [f"{what} are {array.dtype} of shape {list(array.shape)}; {wanted}"]
    return numbers, []


def _row(shape: Sequence[int]) -> str:
    return f"(B, {', '.join(map(str, shape))})"
