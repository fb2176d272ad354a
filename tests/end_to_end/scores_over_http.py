"""Recompute a model's published figures of anomaly scoring through HTTP: `make scores`.

A service of the published models is started, every outlier and test item is sent to it, and what comes back
is set beside what the manifest says training measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import numpy as np

from service.format.manifest import Manifest
from service.media.tables.writing import columns_of, csv_text
from tests.conftest import REPOSITORY
from tests.published import manifest_of
from tests.serving import as_npy, running_service
from training.anomaly.auroc import auroc
from training.anomaly.outliers import unseen_outliers
from training.data import Dataset, Items, load_dataset
from training.recipe import parse_recipe

MODELS = REPOSITORY / "models"
TOLERANCE = 1e-4
"""The tolerance of a share or an area, since processors differ in how they round some scores."""
_ROWS = 100


class Figure(NamedTuple):
    """A published figure, and the same through HTTP."""

    name: str
    published: float
    over_http: float

    @property
    def agrees(self) -> bool:
        """Return True if both are the same except for rounding."""
        return abs(self.published - self.over_http) <= TOLERANCE


def recomputed(client: httpx.Client, manifest: Manifest, dataset: Dataset) -> Iterator[Figure]:
    """Every published area and share, by asking a service of that version."""
    assert manifest.calibration is not None
    assert manifest.defaults is not None
    outliers = list(unseen_outliers(dataset, manifest.support))
    for statistic in manifest.calibration.statistics:
        normal = _scores(client, manifest, statistic, dataset.items["test"])
        for kind, items, *_ in outliers:
            name = f"auroc_{statistic}_{kind}"
            if name not in manifest.metrics:
                continue
            found = auroc(_scores(client, manifest, statistic, items)["surprise"], normal["surprise"])
            yield Figure(name, manifest.metrics[name].value, float(found))
        if statistic == manifest.defaults.statistic:
            for name, metric in manifest.metrics.items():
                if name.startswith("flagged_at_"):
                    flagged = normal["p_value"] <= float(name.removeprefix("flagged_at_"))
                    yield Figure(name, metric.value, float(flagged.mean()))


def _scores(client: httpx.Client, manifest: Manifest, statistic: str, items: Items) -> dict[str, np.ndarray]:
    """The surprises and p-values of items, as the service answers them; rows of a table are sent as CSV."""
    path = f"/v1/models/{manifest.name}/score?statistic={statistic}"
    columns = {column.name: column.categories for column in manifest.columns}
    rows = []
    for first in range(0, len(items), _ROWS):
        batch = np.ascontiguousarray(items[first : first + _ROWS])
        kind = "text/csv" if columns else "application/x-npy"
        body = csv_text(columns_of(batch, columns)).encode() if columns else as_npy(batch)
        answered = client.post(path, content=body, headers={"content-type": kind})
        answered.raise_for_status()
        rows += answered.json()["scores"]
    return {key: np.array([row[key] for row in rows]) for key in ("surprise", "p_value")}


def main() -> None:
    """Print every figure twice; exit status 1 if any two differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="fashion-vae", help="which to recompute")
    manifest = manifest_of(parser.parse_args().model)
    dataset = load_dataset(parse_recipe(manifest.provenance.recipe).data)
    with running_service(MODELS, processes=2) as service:
        figures = []
        for figure in recomputed(service.client, manifest, dataset):
            figures.append(figure)
            state = "agrees" if figure.agrees else "DIFFERS"
            line = f"{figure.name:45} {figure.published:.6f} {figure.over_http:.6f} {state}\n"
            sys.stdout.write(line)
            sys.stdout.flush()
    if not all(figure.agrees for figure in figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
