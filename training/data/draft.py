"""Writes a first recipe for the user's own data, with a comment for every choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.format.manifest import MODEL_NAME
from service.media.tables.opening import stem_of
from service.numerics.calibration import least_level
from training.data.batches import cores_at_hand
from training.data.dataset import DataError, Dataset, Items
from training.data.duplicates import duplicate_rows
from training.data.inspection import Finding, Inspection, inspect
from training.data.pictures import darkness_note
from training.data.toml import as_toml

_LEVELS: Final = (0.01, 0.05, 0.1, 0.2)
"""The shares of normal items that may be flagged, from which a recipe gets the smallest that is possible."""
_PASSES: Final = 40
"""Passes over the training split, within the bounds of steps."""
_STEPS: Final = (800, 10_000)
_MANY_ROWS: Final = 1000
_INNER_SIDE: Final = 8
"""Convolutions halve a picture until no side is longer than this."""
_SMALL_SIDE: Final = 32
"""Pictures with a longer side take longer, so their figures have fewer draws: these vary by a few nats, such
pictures by hundreds."""
_MOST_THREADS: Final = 8
_CHOICE_OF_PICTURES: Final = "the one that best separates synthetic outliers from validation rows"
_CHOICE_OF_TABLES: Final = "kernel_density: how near training rows are; `elbo` is the model's own"
_REMOVE_COPIES: Final = "remove copies, e.g. by drop_duplicates of pandas, or new rows get too small p-values"
_SAMPLED: Final = 2000
"""Pictures whose values are looked at."""


def write_recipe(
    path: Path, output: Path | None = None, label: str | None = None, keep: Sequence[str] = ()
) -> tuple[Path, list[Finding]]:
    """Look at a file or folder, write a recipe for it, and return the recipe's path and all that was found.

    The recipe is `NAME.toml` in the working directory, after the file's name, unless `output` is given. Its
    dataset is loaded once, as training will load it. `label` is a table's column of classes, `keep` the
    classes to learn.

    Raises:
        DataError: The data cannot be read or trained on, or the recipe is there already; says what to do.
    """
    inspection = inspect(path, label, keep)
    text, findings = draft_recipe(inspection, inspection.load())
    written = output or Path(f"{_name(path)}.toml")
    try:
        with written.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(
            f"{written} is there already; delete it, or name another file with --output"
        ) from None
    return written, findings


def findings_text(findings: list[Finding]) -> str:
    """Return the findings as a table of text, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "seen", "settled", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(*map(Text, (finding.subject, finding.seen, finding.settled)))
    console = Console(color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def draft_recipe(inspection: Inspection, dataset: Dataset) -> tuple[str, list[Finding]]:
    """Return a recipe as TOML, and the findings of the inspection with those that the rest follows from."""
    train = len(dataset.items["train"])
    calibration, of_class = _calibration_rows(dataset)
    alpha = next((level for level in _LEVELS if level * (calibration + 1) >= 1), _LEVELS[-1])
    pictures = not dataset.columns
    likelihood, values = "gaussian", "numbers, with probabilities for categories"
    if pictures:
        likelihood, values = _likelihood(dataset.items["train"])
    network = _picture_network(dataset) if pictures else _table_network(dataset)
    batch_rows = min(128 if train >= _MANY_ROWS else 64, train)
    fewest, most = _STEPS
    steps = max(fewest, min(most, 100 * round(_PASSES * train / batch_rows / 100)))
    lines = [
        f"# Written by `pushforward init {inspection.path}`. Change what you know better.",
        f"name = {as_toml(_name(inspection.path))}",
        f"title = {as_toml(f'A VAE of {inspection.path.name}.')}",
        "seed = 1",
        "",
        *_data_lines(inspection, dataset),
        "",
        "[network]",
        *(f"{key} = {as_toml(value)}" for key, value in network.items()),
        "",
        "[vae]",
        f"likelihood = {as_toml(likelihood)}  # for {values}",
        f"kl_warmup_steps = {steps // 4}",
        *_condition_lines(dataset),
        "",
        "[loop]",
        f"steps = {steps}  # {steps * batch_rows / train:.0f} passes over {train} rows",
        f"batch_rows = {batch_rows}",
        f"gradient_clip = {1000 if pictures else 100}",
        f"ema_decay = {0.99 if steps < 2000 else 0.995}",
        f"validate_every = {max(100, steps // 8)}",
        *_speed_lines(dataset),
        "",
        "[calibration]",
        f'statistic = "auto"  # {_CHOICE_OF_PICTURES if pictures else _CHOICE_OF_TABLES}',
        f"draws = {(4 if _is_large(dataset) else 16) if pictures else 64}",
        f"# flag at most this share of normal rows; the least is {least_level(calibration)}, with "
        f"{calibration} calibration rows{of_class}",
        f"alpha = {alpha:g}",
    ]
    shape = "x".join(map(str, dataset.item_shape))
    network_text = ", ".join(f"{key} {as_toml(value)}" for key, value in network.items())
    findings = [
        *inspection.findings,
        *_copies(dataset),
        *_darkness(inspection, dataset),
        Finding("items", f"{shape} {values if pictures else 'numbers'}", f"likelihood {likelihood}"),
        Finding("network", f"{train} rows to train on", network_text),
        Finding("training", f"batches of {batch_rows}", f"{steps} steps"),
        Finding("alpha", f"{calibration} calibration rows{of_class}", f"{alpha:g}"),
    ]
    return "\n".join(lines) + "\n", findings


def _copies(dataset: Dataset) -> Iterator[Finding]:
    items = list(dataset.items.values())
    if dataset.columns and all(type(each) is np.ndarray for each in items):  # none is mapped
        rows = np.concatenate(items)
        if copies := duplicate_rows(rows, dataset.columns):
            yield Finding("copies", f"{copies} of {len(rows)} rows repeat another one", _REMOVE_COPIES)


def _darkness(inspection: Inspection, dataset: Dataset) -> Iterator[Finding]:
    if inspection.kind == "images" and (note := darkness_note(dataset.items["train"])):
        yield Finding("dark", note, "learned as they are")


def _is_large(dataset: Dataset) -> bool:
    return len(dataset.item_shape) == 3 and max(dataset.item_shape[1:]) > _SMALL_SIDE


def _speed_lines(dataset: Dataset) -> Iterator[str]:
    """Yield the rest of [loop], and [evaluation], for large pictures."""
    if _is_large(dataset):
        yield f"threads = {min(_MOST_THREADS, cores_at_hand())}"
        yield "# Multiply in bfloat16, twice as fast on GPUs and on CPUs with AMX (Intel Xeon since 2023):"
        yield '# precision = "bfloat16"'
        yield ""
        yield "[evaluation]"
        yield "draws = 16"


def _calibration_rows(dataset: Dataset) -> tuple[int, str]:
    """Return the calibration rows of the largest class, or all without classes, and a phrase for them."""
    labels = dataset.labels["calibration"]
    if len(dataset.class_names) < 2 or dataset.outliers is not None:
        return len(labels), ""
    return int(np.bincount(labels).max()), " if only the largest class is kept"


def _condition_lines(dataset: Dataset) -> Iterator[str]:
    if len(dataset.class_names) > 1:
        yield "# Sample and score items as those of a class; each then needs its label:"
        yield "# conditional = true"


def _data_lines(inspection: Inspection, dataset: Dataset) -> Iterator[str]:
    yield "[data]"
    yield f"dataset = {as_toml(inspection.kind)}"
    yield f"path = {as_toml(inspection.path.as_posix())}"
    for name, reason in inspection.left_out.items():
        yield f"# left out: {name!r}: {' '.join(reason.split())}"
    for key, value in inspection.data.items():
        yield f"{key} = {as_toml(value)}"
    if dataset.class_names and "keep" not in inspection.data:
        largest = dataset.class_names[int(np.bincount(dataset.labels["train"]).argmax())]
        yield "# Train on the normal classes only; rows of the others then test the anomaly scores:"
        yield f"# keep = {as_toml([largest])}"


def _likelihood(images: Items) -> tuple[str, str]:
    """Return the likelihood for pictures (rows, C, H, W) in [0, 1], and what their values are."""
    levels = images[:_SAMPLED].astype(np.float64) * 255
    whole = np.abs(levels - levels.round()).max() < 1e-3
    if whole and np.isin(levels.round(), (0, 255)).all():
        return "bernoulli", "binary pixels"
    return (
        ("discretised-logistic", "pixels of 8 bits")
        if whole
        else ("continuous-bernoulli", "pixels in [0, 1]")
    )


def _table_network(dataset: Dataset) -> dict[str, Any]:
    features = dataset.item_shape[0]
    many = len(dataset.items["train"]) >= _MANY_ROWS
    latent = max(2, min(16, round(features / 2)))
    return {
        "kind": "dense",
        "latent": latent if many else min(latent, 8),
        "hidden": [128, 64] if many else [64],
    }


def _picture_network(dataset: Dataset) -> dict[str, Any]:
    _, *sides = dataset.item_shape
    halvings = 0
    while max(sides) > _INNER_SIDE * 2**halvings and all(side % 2 ** (halvings + 1) == 0 for side in sides):
        halvings += 1
    many = len(dataset.items["train"]) >= _MANY_ROWS
    if halvings and max(sides) <= 2 * _INNER_SIDE * 2**halvings:
        channels = [min(128, 32 * 2**layer) for layer in range(halvings)]
        return {"kind": "convolutional", "latent": 24 if many else 10, "channels": channels, "hidden": [128]}
    return {"kind": "dense", "latent": 10, "hidden": [256]}


def _name(path: Path) -> str:
    """Return the model's name: the file's, in at most 63 letters without accents, digits and dashes."""
    name = unicodedata.normalize("NFKD", stem_of(path.resolve().name).casefold())
    bare = "".join(letter for letter in name if not unicodedata.combining(letter))
    found = re.match(MODEL_NAME, re.sub(r"[^a-z0-9]+", "-", bare).strip("-"))
    return found[0].rstrip("-") if found else "model"
