"""Calibrate a published version with the user's own normal items, without training.

Shapes: N items; items (N, *item).
"""

from __future__ import annotations

import contextlib
import operator
import shutil
from collections.abc import Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from service.errors import Unfit
from service.format.manifest import Manifest
from service.format.specs import GraphName
from service.format.support import rows_in_support
from service.format.versions import MANIFEST, publish, read_manifest, sha256_of, verify_files
from service.media.items import rows_of
from service.numerics.noise import Floats
from training.anomaly.calibrate import require_resolvable, version_scorer, write_calibration
from training.anomaly.heat import map_scale
from training.data import DataError, Labels
from training.data.splits import class_numbers
from training.export.sessions import open_graph, run_graph
from training.export.staging import staged
from training.metrics.names import Group, MetricName
from training.options import CalibrationOptions
from training.recipe import RecipeError, problem_text

_CARD = "README.md"
_GRAPHS: tuple[GraphName, ...] = ("score", "statistics", "columns", "map")
"""The graphs that calibration runs."""
_STALE: tuple[Group, ...] = ("flagged", "flagged_at")
"""The metrics that were measured with the calibration that is replaced."""
_REASONS: tuple[Group, ...] = ("validation_auroc",)
"""The metrics that explain why the default statistic was chosen."""


def recalibrate(folder: Path, data: Path, given: Mapping[str, Any], classes: Path | None = None) -> Path:
    """Publish the version in `folder` as the model's next version; returns the new version's folder.

    Args:
        folder: The folder of a published version that scores.
        data: An .npy file of normal items (N, *item), like a score request's `inputs`; the model was neither
            trained nor selected on them.
        given: Values of `CalibrationOptions` that replace the version's defaults.
        classes: An .npy file of the class of each item, (N,) numbers or names, for a version that takes
            labels.

    Raises:
        InvalidVersion: The version is damaged.
        DataError: There is no version in the folder, the items do not fit it, or it does not score.
        RecipeError: The items are too few for the level, or the model does not have the statistic.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is no folder of a version; name one, e.g. models/digits-vae/3")
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    try:
        chosen = CalibrationOptions.model_validate(_before(manifest) | dict(given))
    except ValidationError as error:
        raise RecipeError("; ".join(map(problem_text, error.errors()))) from None
    if manifest.graphs.keys().isdisjoint(("score", "statistics")):
        raise DataError(f"{folder}: this {manifest.family} has no graph that scores, so nothing to calibrate")
    items = _read_items(data, manifest)
    labels = _read_labels(classes, len(items), manifest)
    runs = {
        name: partial(run_graph, open_graph(folder, name), manifest.graphs[name])
        for name in _GRAPHS
        if name in manifest.graphs
    }
    latent, exact, statistics = manifest.latent_size, manifest.analytic_kl, manifest.statistics
    count = len(manifest.class_names) if manifest.conditional else 0
    scorer = version_scorer(runs, chosen, latent, exact, statistics, manifest.columns, count)
    require_resolvable(chosen, len(items), "give more rows")
    with staged(folder.parent.parent, manifest.name) as staging:
        kept = {spec.file for spec in manifest.files if spec != manifest.calibration} | {"samples.png"}
        for name in sorted(kept):
            with contextlib.suppress(FileNotFoundError):  # a version may lack the picture
                shutil.copyfile(folder / name, staging / name)
        spec, defaults, _ = write_calibration(scorer.of(labels), chosen, items, staging)
        as_before = manifest.defaults is not None and defaults.statistic == manifest.defaults.statistic
        stale = _STALE if as_before else _STALE + _REASONS
        metrics = {k: v for k, v in manifest.metrics.items() if MetricName.parse(k).group not in stale}
        note = f"{len(items)} items of {data.name}, SHA-256 {sha256_of(data)}"
        recipe = manifest.provenance.recipe | {"recalibrated": {"from_version": manifest.version, "on": note}}
        renewed = manifest.model_copy(
            update={
                "calibration": spec,
                "defaults": defaults,
                "map_scale": map_scale(runs, items, labels, count),
                "metrics": metrics,
                "provenance": manifest.provenance.model_copy(update={"recipe": recipe}),
            }
        )
        (staging / _CARD).write_text(_card(folder, manifest, note, defaults.statistic), encoding="utf-8")
        return publish(staging, renewed)


def _before(manifest: Manifest) -> dict[str, Any]:
    """Return a version's scoring defaults, and the draws and seed of its bounds."""
    calibrated = {} if manifest.calibration is None else manifest.calibration.statistics
    noise = [how.model_dump(include={"draws", "seed"}, exclude_none=True) for how in calibrated.values()]
    defaults = {} if manifest.defaults is None else manifest.defaults.model_dump(exclude_none=True)
    return reduce(operator.or_, noise, {}) | defaults


def _read_array(path: Path, how: str = "numpy.save") -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            loaded: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, seen from {Path.cwd()}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not an .npy file of numbers ({error}); write it with {how}") from error
    return loaded


def _read_labels(path: Path | None, rows: int, manifest: Manifest) -> Labels:
    """Return the classes of so many items, (N,) numbers; all 0 for a version that takes no labels."""
    names = manifest.class_names
    if not manifest.conditional:
        if path is not None:
            raise DataError(
                f"{path}: {manifest.name} was not trained with classes as a condition; leave it out"
            )
        return np.zeros(rows, np.int64)
    wanted = f"{rows} numbers from 0 to {len(names) - 1}, or names of classes"
    if path is None:
        raise DataError(
            f"{manifest.name} takes the class of each item; give --labels, an .npy file of {wanted}"
        )
    loaded = _read_array(path)
    numbers = class_numbers(loaded, names, rows)
    if numbers is None:
        raise DataError(f"{path} holds {loaded.dtype} of shape {list(loaded.shape)}; wanted {wanted}")
    return numbers


def _read_items(path: Path, manifest: Manifest) -> Floats:
    of_a_file = f"`pushforward read {manifest.name} FILE --out normals.npy`"
    loaded = _read_array(path, f"numpy.save, or from a table or pictures with {of_a_file}")
    try:
        items = rows_of(loaded, manifest.item_shape, "the items")
    except Unfit as error:
        raise DataError(f"{path}: {error}") from error
    rows = rows_in_support(items, manifest.support, manifest.columns, manifest.takes_missing)
    if not rows.all():
        raise DataError(
            f"{path}: {np.sum(~rows)} of {len(items)} items have values outside the model's support, "
            f"{manifest.support}; the first is item {int(np.argmin(rows))}"
        )
    return items


def _card(folder: Path, manifest: Manifest, note: str, statistic: str) -> str:
    card = folder / _CARD
    old = card.read_text(encoding="utf-8") if card.is_file() else f"# {manifest.name}\n"
    title, _, rest = old.partition("\n")
    return (
        f"{title}\n\n**Calibrated anew** on {note}; scores are by `{statistic}` unless a request says "
        f"otherwise. All else, the figures below among it, is that of version {manifest.version}; those "
        f"named `flagged_...`, and why a statistic was chosen, tell of its calibration, not of this "
        f"one.\n{rest}"
    )
