"""The shipped classifier of Fashion-MNIST, whose features and decisions the quality figures are made of.

It is small, knows garments only, and stands beside this file with its hash, so figures need no download and
mean the same everywhere. It is not Inception: a distance between its features can be compared with
other distances of the same classifier and with nothing else. Shapes: N items, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import BaseModel, ConfigDict

from service.format.manifest import Metric
from service.format.versions import sha256_of

Floats = npt.NDArray[np.float32]

CLASSIFIER = Path(__file__).parent / "fashion_classifier_1.onnx"
"""The shipped graph; a retrained one gets the next number, as its distances are others."""
_ROWS = 500


class ClassifierError(RuntimeError):
    """The classifier is not the one whose figures are known."""


class ClassifierRecord(BaseModel):
    """What is known of a classifier's graph, kept as JSON of the same name beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """Of the graph's file."""
    features: int
    """F, the width of the output `features`."""
    test_accuracy: Metric
    recipe: dict[str, object]
    """All that decides how it is trained."""
    libraries: dict[str, str]


class Judgement(NamedTuple):
    """What the classifier makes of N items."""

    features: Floats
    """(N, F), of the last hidden layer, not negative."""
    classes: npt.NDArray[np.int64]
    """(N,), the likeliest class of each."""


class FashionClassifier:
    """The classifier on the CPU, with one thread."""

    def __init__(self, path: Path = CLASSIFIER) -> None:
        """Open the graph at `path`.

        Raises:
            ClassifierError: Its hash is not the recorded one.
        """
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

    def judge(self, items: Floats) -> Judgement:
        """Judge pictures (N, 1, 28, 28) with values in [0, 1]."""
        features, classes = [], []
        for first in range(0, len(items), _ROWS):
            batch = np.ascontiguousarray(items[first : first + _ROWS])
            some_features, logits = self._session.run(["features", "logits"], {"items": batch})
            features.append(some_features)
            classes.append(logits.argmax(1))
        return Judgement(np.concatenate(features), np.concatenate(classes))


def read_record(path: Path) -> ClassifierRecord:
    """The record of the graph at `path`."""
    return ClassifierRecord.model_validate_json(path.with_suffix(".json").read_bytes())


def write_record(path: Path, record: ClassifierRecord) -> None:
    """Write the record of the graph at `path` beside it."""
    path.with_suffix(".json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
