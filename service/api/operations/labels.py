"""The classes of rows, where a version generates, judges or scores items of a class."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from service.api.operations.options import Label, RowLabelOptions
from service.errors import Flaw, Unfit
from service.format.manifest import Manifest
from service.media.tables.matching import numbers_by_label
from service.numerics.noise import Integers

_MOST_NAMED = 12
AnyOptions = TypeVar("AnyOptions", bound=RowLabelOptions)


def label_of(manifest: Manifest, label: Label | None) -> int | None:
    """Return the number of the class that a request names, from 0; None for a version without classes.

    Raises:
        Unfit: the version needs a label and none came, or it has no such class, or takes no labels.
    """
    if not manifest.conditional:
        if label is not None:
            raise _takes_none(manifest, "label")
        return None
    if label is None:
        raise Unfit(f"{manifest.name} takes a `label`, and none came: {_wanted(manifest)}")
    number = numbers_by_label(manifest.class_names).get(str(label))
    if number is None:
        raise Unfit(f"{manifest.name} has no such class as the `label` that came: {_wanted(manifest)}")
    return number


def labels_of(manifest: Manifest, options: RowLabelOptions, rows: int) -> int | Integers | None:
    """Return the number of the class of all rows, or of each, (B,); None for a version without classes.

    Raises:
        Unfit: as `label_of`; or `label` and `labels` both came, or not a label for each row.
    """
    if options.labels is None:
        return label_of(manifest, options.label)
    if options.label is not None:
        raise Unfit("`label` is for all rows, `labels` has one for each; give one of the two")
    if not manifest.conditional:
        raise _takes_none(manifest, "labels")
    if len(options.labels) != rows:
        raise Unfit(f"`labels` has {len(options.labels)} for {rows} rows; give one for each")
    numbers = numbers_by_label(manifest.class_names)
    found = [numbers.get(str(label), -1) for label in options.labels]
    if -1 in found:
        row = found.index(-1)
        flaw = Flaw(f"/labels/{row}", f"another class; {_wanted(manifest)}", row)
        raise Unfit(
            f"{manifest.name} has no such class as the label of row {row}: {_wanted(manifest)}", flaws=(flaw,)
        )
    return np.array(found, np.int64)


def numbered(manifest: Manifest, options: AnyOptions, rows: int) -> AnyOptions:
    """Return the options with the class of all rows, or of each, by its number.

    Raises:
        Unfit: as `labels_of`.
    """
    labels = labels_of(manifest, options, rows)
    numbers = labels if labels is None or isinstance(labels, int) else labels.tolist()
    return options.model_copy(update={"label" if options.labels is None else "labels": numbers})


def labels_of_samples(
    manifest: Manifest, options: RowLabelOptions, numbers: range | Integers
) -> int | Integers | None:
    """Return the number of the class of all samples, or of each, (B,), by the numbers of the samples.

    Without labels the classes come in turn, so that a sample's class depends on its number alone.

    Raises:
        Unfit: as `labels_of`.
    """
    if manifest.conditional and options.label is None and options.labels is None:
        return np.asarray(numbers, np.int64) % len(manifest.class_names)
    return labels_of(manifest, options, len(numbers))


def _takes_none(manifest: Manifest, field: str) -> Unfit:
    return Unfit(f"{manifest.name} takes no `{field}`: it was not trained with classes as a condition")


def _wanted(manifest: Manifest) -> str:
    names = manifest.class_names
    shown = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    return f"it is a number from 0 to {len(names) - 1}, or a name: {shown}"
