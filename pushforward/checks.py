"""Checks of a caller's arguments before a request is made: their types decide how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any

from pushforward.reading import is_whole
from service.errors import Flaw, Unfit

Label = int | str | None
"""A class: its number, its name, or None for models without a class condition."""
RowLabel = Label | Iterable[int | str]
"""The same for rows: one class for all of them, or one for each."""


def check_names(name: Any, version: Any) -> None:
    """Raise Unfit unless these can be a model's name, and a version of it: a number, an alias or None."""
    if not isinstance(name, str) or not name:
        raise Unfit(f"the model is {shown(name)}; wanted its name, as 'digits-vae'")
    if not (version is None or is_whole(version) or (isinstance(version, str) and version)):
        raise Unfit(f"the version is {shown(version)}; wanted a number, an alias, or None for the default")


def check_options(**options: Any) -> None:
    """Raise Unfit, with all flaws, unless every option of an operation has its type.

    None stands for an option that is left out, where it may be. The values are for the operation to check.
    """
    flaws = []
    for name, value in options.items():
        kind, wanted = _KINDS[name]
        is_left_out = value is None and name not in _NEEDED
        is_flag = isinstance(value, bool) and kind is not bool  # which is a whole number to Python
        if not is_left_out and (is_flag or not isinstance(value, kind)):
            flaws.append(Flaw(f"/{name}", f"{shown(value)} came; wanted {wanted}"))
    if not flaws and "chunk_rows" in options and options["chunk_rows"] < 1:
        flaws.append(Flaw("/chunk_rows", f"{options['chunk_rows']} came; wanted 1 or more"))
    if flaws:
        listed = "; ".join(f"`{flaw.pointer[1:]}`: {flaw.message}" for flaw in flaws)
        raise Unfit(f"the call: {listed}", flaws=tuple(flaws))


def label_options(given: Any) -> dict[str, Any]:
    """Return the options `label` and `labels` of rows, given a class for all of them or one for each.

    A class is a number or a name, as everywhere; several are a list, an array or a column.

    Raises:
        Unfit: something else came.
    """
    if hasattr(given, "tolist"):  # as arrays, columns, and tensors, whose rows are no numbers of Python
        given = given.tolist()
    if given is None or isinstance(given, str | Integral):
        check_options(label=given)
        return {"label": given, "labels": None}
    try:
        rows = [given] if isinstance(given, Set | Mapping) else given  # which has no order
        labels = [int(each) if isinstance(each, Integral) else each for each in rows]
    except TypeError:
        labels = [given]
    for row, label in enumerate(labels):
        if not isinstance(label, str | int):
            wanted = _KINDS["label"][1]
            flaw = Flaw(f"/labels/{row}", f"{shown(label)} came; wanted {wanted}", row)
            raise Unfit(f"the label of row {row} is {shown(label)}; wanted {wanted}", flaws=(flaw,))
    return {"label": None, "labels": labels}


def labelled_count(count: int | None, label: RowLabel) -> tuple[int, dict[str, Any]]:
    """Return the number of samples, and their options `label` and `labels`.

    It is 1 if it is left out, or the number of labels if there is one for each.

    Raises:
        Unfit: as `label_options`; or there are not as many labels as samples.
    """
    options = label_options(label)
    labels = options["labels"]
    if count is None:
        count = 1 if labels is None else max(1, len(labels))
    if labels is not None and len(labels) != count:
        raise Unfit(f"{len(labels)} labels came for {count} samples; give one for each, or one for all")
    return count, options


def plain_number(value: Any) -> int | float:
    """Return a number, such as one of numpy, as Python's own. Raise Unfit for anything else."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise Unfit(f"{shown(value)} came where a number was wanted")


def shown(value: Any) -> str:
    """Return a value that is refused as messages show it: at most 60 characters of it, and its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '...'} ({type(value).__name__})"


_NEEDED = {"count", "offset", "steps", "chunk_rows", "correction"}
_WHOLE, _NUMBER, _TEXT = (Integral, "a whole number"), (Real, "a number"), (str, "text")
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "columns": (bool, "True or False"),
    **dict.fromkeys(("label", "labels"), ((Integral, str), "a class by its number or its name")),
    **dict.fromkeys(("count", "seed", "offset", "budget", "draws", "steps", "chunk_rows"), _WHOLE),
    **dict.fromkeys(("temperature", "alpha"), _NUMBER),
    **dict.fromkeys(("output", "method", "statistic", "correction", "path"), _TEXT),
}
