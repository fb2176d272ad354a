"""The shipped classifier of Fashion-MNIST, on whose features and classes quality figures are based.

It is small, knows garments only, and lies beside this file with its hash, so figures need no download and
mean the same everywhere. It is not Inception: distances between its features can be compared with each other
and with nothing else. Shapes: N items, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from pydantic import BaseModel, ConfigDict

from service.format.specs import Metric
from service.format.versions import sha256_of
from training.data import Dataset, Items, Labels

CLASSIFIER = Path(__file__).parent / "fashion_classifier_1.onnx"
"""The shipped graph. A retrained one gets the next number, because its distances differ."""
CLASSES = 10
"""The classes of garments that it tells apart."""
_ROWS = 500


class ClassifierError(RuntimeError):
    """The classifier's file is not the recorded one."""


class ClassifierRecord(BaseModel):
    """A record of a classifier's graph, kept beside it as JSON of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """The hash of the graph's file."""
    features: int
    """F, the width of the output `features`."""
    test_accuracy: Metric
    recipe: dict[str, object]
    """Everything that decides how it is trained."""
    libraries: dict[str, str]


class Classification(NamedTuple):
    """The classifier's outputs for N items."""

    features: Items
    """(N, F), of the last hidden layer, not negative."""
    classes: Labels
    """(N,), the most likely class of each."""


class FashionClassifier:
    """The classifier on the CPU, with one thread."""

    def __init__(self, path: Path = CLASSIFIER) -> None:
        """Open the graph at `path`; raise a ClassifierError if its hash is not the recorded one."""
        self.record = read_record(path)
        found = sha256_of(path)
        if found != self.record.sha256:
            raise ClassifierError(
                f"{path} has sha256 {found}, but its record says {self.record.sha256}; restore both files"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def classify(self, items: Items) -> Classification:
        """Classify pictures (N, 1, 28, 28) with values in [0, 1]."""
        batches = (
            np.ascontiguousarray(items[first : first + _ROWS]) for first in range(0, len(items), _ROWS)
        )
        outputs = [self._session.run(["features", "logits"], {"items": batch}) for batch in batches]
        features, logits = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return Classification(features, logits.argmax(1))


def is_known(dataset: Dataset) -> bool:
    """Return True for Fashion-MNIST with all of its classes, in which the classifier counts."""
    return dataset.kind == "fashion-mnist" and len(dataset.class_names) == CLASSES


def read_record(path: Path) -> ClassifierRecord:
    """Read the record of the graph at `path`."""
    return ClassifierRecord.model_validate_json(path.with_suffix(".json").read_bytes())


def write_record(path: Path, record: ClassifierRecord) -> None:
    """Write the record of the graph at `path` beside it."""
    path.with_suffix(".json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
