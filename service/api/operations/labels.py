"""The class that a conditional version generates, or judges by."""

from __future__ import annotations

from service.errors import Unfit
from service.format.manifest import Manifest

_MOST_NAMED = 12


def label_of(manifest: Manifest, label: int | str | None) -> int | None:
    """Return the number of the class that a request names, from 0; None for a version without classes.

    Raises:
        Unfit: the version needs a label and none came, or it has no such class, or takes no labels.
    """
    if not manifest.conditional:
        if label is not None:
            raise Unfit(f"{manifest.name} takes no `label`: it was not trained with classes as a condition")
        return None
    names, text = manifest.class_names, str(label)
    numbers = {str(number): number for number in range(len(names))}
    if text in numbers:  # before the names: a query string has no types
        return numbers[text]
    if text in names:
        return names.index(text)
    shown = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    came = "none came" if label is None else "another came"
    raise Unfit(
        f"{manifest.name} takes a `label`, and {came}: it is a number from 0 to {len(names) - 1}, or a name: "
        f"{shown}"
    )
