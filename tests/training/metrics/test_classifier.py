"""The shipped classifier: it is what its record says, and it can be made again."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.conftest import REPOSITORY
from training.data import Dataset
from training.experiments.quality.train_classifier import (
    ClassifierRecipe,
    export_classifier,
    fit_classifier,
    measure_classifier,
)
from training.metrics.classifier import CLASSIFIER, ClassifierError, FashionClassifier, read_record


def test_the_shipped_classifier_is_as_accurate_as_its_record_says(garments: Dataset) -> None:
    classifier = FashionClassifier()
    items, labels = garments.items["test"][:2000], garments.labels["test"][:2000]
    judged = classifier.classify(items)
    accuracy = classifier.record.test_accuracy
    assert accuracy.value > 0.91
    assert abs((judged.classes == labels).mean() - accuracy.value) < 4 * np.sqrt(0.08 / 2000)
    assert judged.features.shape == (2000, classifier.record.features)
    assert judged.features.dtype == np.float32
    assert (judged.features >= 0).all()


def test_a_judgement_does_not_depend_on_the_batch(garments: Dataset) -> None:
    items = garments.items["test"][:501]
    together, alone = FashionClassifier().classify(items), FashionClassifier().classify(items[-1:])
    np.testing.assert_allclose(together.features[-1:], alone.features, rtol=1e-4, atol=1e-5)


def test_the_shipped_classifier_is_small_and_whole() -> None:
    assert CLASSIFIER.stat().st_size < 1_000_000
    model = onnx.load(CLASSIFIER, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert read_record(CLASSIFIER).recipe == ClassifierRecipe().model_dump(mode="json")


def test_a_changed_classifier_is_refused(tmp_path: Path) -> None:
    path = tmp_path / CLASSIFIER.name
    for file in (CLASSIFIER, CLASSIFIER.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ClassifierError, match="sha256"):
        FashionClassifier(path)


@pytest.mark.slow
def test_a_classifier_trained_for_a_moment_is_the_same_each_time_and_is_exported_as_it_is(
    garments: Dataset, tmp_path: Path
) -> None:
    few = {split: rows[:1000] for split, rows in garments.items.items()}
    labels = {split: rows[:1000] for split, rows in garments.labels.items()}
    dataset = Dataset("few", "few garments", garments.item_shape, garments.class_names, few, labels)
    recipe = ClassifierRecipe(channels=(4, 8, 8), features=16, epochs=2, batch_rows=50)
    network, again = fit_classifier(recipe, dataset), fit_classifier(recipe, dataset)
    items = torch.from_numpy(few["test"])
    with torch.no_grad():
        features, logits = network(items)
        assert torch.equal(again(items)[1], logits)
    path = tmp_path / "one.onnx"
    export_classifier(network, path)
    record = measure_classifier(path, recipe, dataset)
    assert record == read_record(path)
    assert record.test_accuracy.value == (logits.argmax(1).numpy() == labels["test"]).mean() > 0.3
    np.testing.assert_allclose(FashionClassifier(path).classify(few["test"]).features, features, atol=1e-4)
    assert str(REPOSITORY).encode() not in path.read_bytes()
