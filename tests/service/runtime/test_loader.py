from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidVersion, OperationNotOffered
from service.format.versions import sha256_of
from service.runtime.lanes import Lanes
from service.runtime.loader import load
from service.runtime.model import LoadedModel
from service.settings import Settings
from tests import toy
from tests.damage import change_manifest
from tests.toy_gan import REAL_LOGITS, publish_gan


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_gan(tmp_path)


def loaded(version: Path) -> LoadedModel:
    with Lanes(1) as lanes:
        return load(version, "cpu", Settings(), lanes)


def replace(version: Path, file: str, spec: Callable[[dict[str, Any]], Any], **arrays: np.ndarray) -> None:
    """Puts other arrays into a file of the version, and its hash into the manifest."""
    np.savez(version / file, allow_pickle=False, **arrays)
    change_manifest(version, lambda document: spec(document).update(sha256=sha256_of(version / file)))


def test_a_gan_that_is_as_it_says_is_loaded_with_its_batchers(version: Path) -> None:
    model = loaded(version)
    graphs = {"encode", "decode", "statistics", "discriminate", "generate_scored"}
    assert set(model._batchers) == {*graphs, "sample"}
    assert model.filter("rejection") is model.filter("metropolis")


def test_a_lone_caller_gets_the_graphs_that_it_names_alone(version: Path) -> None:
    model = load(version, "cpu", Settings(), None, graphs=("decode", "map"))
    assert set(model._batchers) == {"decode"}
    assert model.operations == ("sample", "interpolate", "decode")
    with pytest.raises(OperationNotOffered):
        model.filter("rejection")


LOGITS = np.zeros(REAL_LOGITS, np.float32)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"real": LOGITS[1:]}, r"real is float32 \[4095\]; wanted float32 \[4096\]"),
        ({"real": LOGITS.astype(np.float64)}, "real is float64"),
        ({"real": LOGITS[:, None]}, r"real is float32 \[4096, 1\]"),
        ({"real": LOGITS * np.float32(np.nan)}, "real holds values that are not finite"),
        ({"other": LOGITS}, "real is not a file in the archive"),
    ],
)
def test_logits_other_than_the_manifest_says_are_refused_and_the_flaw_told(
    version: Path, arrays: dict[str, np.ndarray], complaint: str
) -> None:
    replace(version, "logits.npz", lambda document: document["discriminator"]["logits"], **arrays)
    with pytest.raises(InvalidVersion, match=complaint):
        loaded(version)


@pytest.mark.parametrize("damage", [b"", b"not an archive"])
def test_a_damaged_file_of_logits_is_refused(version: Path, damage: bytes) -> None:
    (version / "logits.npz").write_bytes(damage)
    with pytest.raises(InvalidVersion, match=r"logits\.npz"):
        loaded(version)


def test_a_calibration_without_a_statistic_it_promises_is_refused(version: Path) -> None:
    replace(version, "calibration.npz", lambda document: document["calibration"], residual=np.zeros(199))
    with pytest.raises(InvalidVersion, match="feature_distance is not a file in the archive"):
        loaded(version)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda document: document["statistics"].pop(), "names 2 columns"),
        (lambda document: document["defaults"].update(statistic="elbo"), "default statistic elbo"),
        (lambda document: document.update(statistics=[]), "statistics"),
        (lambda document: document["discriminator"].update(logits=None), "generate_scored"),
        (lambda document: document.update(discriminator=None), "generate_scored"),
        (lambda document: document["graphs"].pop("statistics"), "statistics"),
        (lambda document: document["discriminator"]["logits"].update(largest="NaN"), "largest"),
        (lambda document: document["discriminator"]["logits"].update(n=0), "n: "),
        (lambda document: document.update(view=[[1, 0], [0, 1]]), "smaller to a larger"),
        (lambda document: document.update(view=[[0, 0], [0, 1]]), "smaller to a larger"),
        (lambda document: document.update(view=[[0, 1]]), "view"),
    ],
)
def test_a_manifest_that_does_not_fit_its_graphs_is_refused(
    version: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    change_manifest(version, change)
    with pytest.raises(InvalidVersion, match=complaint):
        loaded(version)


def test_a_graph_that_computes_otherwise_than_the_stored_example_is_refused(version: Path) -> None:
    with np.load(version / "self_test.npz") as stored:
        example = dict(stored)
    example["generate_scored.outputs.logit"] += 0.01
    replace(version, "self_test.npz", lambda document: document["self_test"], **example)
    with pytest.raises(InvalidVersion, match=r"generate_scored\.logit is off"):
        loaded(version)


def test_more_default_draws_than_are_allowed_are_refused(tmp_path: Path) -> None:
    version = toy.publish_toy(tmp_path)
    change_manifest(version, lambda document: document["defaults"].update(draws=5_001))
    with pytest.raises(InvalidVersion, match="5001 draws"):
        loaded(version)
