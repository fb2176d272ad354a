"""Train the classifier of Fashion-MNIST again.

`python -m training.experiments.quality.train_classifier --help` lists the options.

It is fitted on the training split, its epoch is chosen on the validation split, and it is measured on the
test split. Pictures are neither mirrored nor shifted, so that its features depend on a garment's place and
direction.
Shapes: B rows, F features.
"""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from service.format.specs import Metric
from service.format.versions import sha256_of
from training.data import Dataset, Labels, load_dataset
from training.data.options import DataOptions
from training.export.provenance import library_versions
from training.metrics.classifier import CLASSES, CLASSIFIER, ClassifierRecord, FashionClassifier, write_record

_OPSET = 18
_ROWS = 500


class ClassifierRecipe(BaseModel):
    """The settings of the classifier and its training."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    channels: tuple[int, int, int] = (16, 32, 64)
    """Output channels of the three 3x3 convolutions; a halving follows each of the first two."""
    features: int = 64
    """F, the width of the last hidden layer."""
    dropout: float = 0.3
    """The share of the last hidden layer's inputs that are dropped in training."""
    blurred_share: float = 0.5
    """The share of training pictures that are mixed at random with themselves, blurred by 1.2 pixels."""
    epochs: int = 5
    batch_rows: int = 128
    learning_rate: float = 3e-3
    """The peak of a one-cycle schedule. Source: Smith & Topin 2018, arXiv:1708.07120."""
    weight_decay: float = 1e-2
    seed: int = 0


class ClassifierNetwork(nn.Module):
    """Pictures (B, 1, 28, 28) -> features (B, F) and logits (B, 10)."""

    def __init__(self, recipe: ClassifierRecipe) -> None:
        super().__init__()
        first, second, third = recipe.channels
        self.extract = nn.Sequential(
            *_convolution(1, first, nn.MaxPool2d(2)),
            *_convolution(first, second, nn.MaxPool2d(2)),
            *_convolution(second, third, nn.Identity()),
            nn.Flatten(),
            nn.Dropout(recipe.dropout),
            nn.Linear(third * 7 * 7, recipe.features),
            nn.ReLU(),
        )
        self.classify = nn.Linear(recipe.features, CLASSES)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, 28, 28) -> (B, F), (B, 10)."""
        features: Tensor = self.extract(items)
        return features, self.classify(features)


def _convolution(before: int, after: int, pool: nn.Module) -> list[nn.Module]:
    """Return the layers of a convolution; pooling first leaves a quarter of the work to the rest."""
    convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
    return [convolution, pool, nn.BatchNorm2d(after), nn.ReLU()]


def fit_classifier(recipe: ClassifierRecipe, dataset: Dataset) -> ClassifierNetwork:
    """Fit the training split, and return the weights of the epoch with the best validation accuracy."""
    torch.manual_seed(recipe.seed)
    items, labels = (torch.from_numpy(part["train"]) for part in (dataset.items, dataset.labels))
    network = ClassifierNetwork(recipe)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    steps = len(items) // recipe.batch_rows
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, epochs=recipe.epochs, steps_per_epoch=steps
    )
    best, chosen = -1.0, network
    for epoch in range(recipe.epochs):
        for rows in torch.randperm(len(items))[: steps * recipe.batch_rows].view(steps, -1):
            _, logits = network(_partly_blurred(items[rows], recipe.blurred_share))
            loss = nn.functional.cross_entropy(logits, labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(dataset.items["validation"]), _ROWS)
            classes = torch.cat([network.eval()(part)[1].argmax(1) for part in parts])
        accuracy = _share_correct(classes.numpy(), dataset.labels["validation"])
        typer.echo(f"epoch {epoch + 1} of {recipe.epochs}: validation accuracy {accuracy:.4f}")
        if accuracy > best:
            best, chosen = accuracy, copy.deepcopy(network)
        network.train()
    return chosen


def _partly_blurred(items: Tensor, share: float) -> Tensor:
    """Blur some pictures (B, 1, H, W), so that the classifier learns blurred garments too."""
    binomial = torch.tensor([1.0, 6, 15, 20, 15, 6, 1]) / 64
    blurred = nn.functional.conv2d(items, torch.outer(binomial, binomial)[None, None], padding=3)
    chosen = torch.rand(len(items), 1, 1, 1) < share
    return torch.lerp(items, blurred, torch.rand(len(items), 1, 1, 1) * chosen)


def _share_correct(classes: Labels, labels: Labels) -> float:
    return float((classes == labels).mean())


def export_classifier(network: ClassifierNetwork, path: Path) -> None:
    """Write the network as an ONNX file with the input `items` and the outputs `features` and `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's libraries warn
        program = torch.onnx.export(
            network,
            (torch.zeros(3, 1, 28, 28),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            input_names=["items"],
            output_names=["features", "logits"],
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    # the exporter writes paths of this machine
    ClearMetadataAndDocStringPass()(program.model)
    program.save(path)


def measure_classifier(path: Path, recipe: ClassifierRecipe, dataset: Dataset) -> ClassifierRecord:
    """Measure the graph at `path` on the test split, and write and return its record."""
    unmeasured = ClassifierRecord(
        sha256=sha256_of(path),
        features=recipe.features,
        test_accuracy=Metric(value=0, unit="share"),
        recipe=recipe.model_dump(mode="json"),
        libraries=library_versions(),
    )
    write_record(path, unmeasured)
    labels = dataset.labels["test"]
    share = _share_correct(FashionClassifier(path).classify(dataset.items["test"]).classes, labels)
    accuracy = Metric(
        value=share,
        standard_error=math.sqrt(share * (1 - share) / len(labels)),
        unit="share",
        note=f"of {len(labels)} test items",
    )
    record = unmeasured.model_copy(update={"test_accuracy": accuracy})
    write_record(path, record)
    return record


def train_command(
    path: Annotated[Path, typer.Argument(help="The .onnx file to write; its record goes beside it.")] = Path(
        CLASSIFIER.name
    ),
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the batches.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 5,
) -> None:
    """Train the classifier for the quality figures of Fashion-MNIST; this takes minutes on one core.

    Distances between features are comparable for one classifier only, so a retrained one needs a new number.
    """
    torch.set_num_threads(1)
    recipe = ClassifierRecipe(seed=seed, epochs=epochs)
    dataset = load_dataset(DataOptions(dataset="fashion-mnist"))
    export_classifier(fit_classifier(recipe, dataset), path)
    record = measure_classifier(path, recipe, dataset)
    accuracy = record.test_accuracy
    typer.echo(f"wrote {path}: test accuracy {accuracy.value:.4f} ± {accuracy.standard_error:.4f}")


if __name__ == "__main__":
    typer.run(train_command)
