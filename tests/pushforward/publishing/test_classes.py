"""A GAN with a class condition is published from modules and from ONNX files, and served by label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward.local import load
from pushforward.publishing import UnfitModel, publish_gan
from service.errors import OperationNotOffered
from tests.pushforward.publishing.torch_files import onnx_file
from training.export.sessions import verify_version

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]

CLASSES, LATENT, SHAPE = ("zero", "one", "two"), 4, (1, 4, 4)
WORDS: dict[str, Any] = {"latent_size": LATENT, "item_shape": SHAPE, "classes": CLASSES}


class Embedded(nn.Module):
    """Latents (B, D) and classes (B,) -> pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body = nn.Embedding(3, 8), nn.Sequential(nn.Linear(LATENT + 8, 32), nn.SiLU())
        self.out = nn.Linear(32, 16)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        hidden = self.body(torch.cat([latents, self.embed(labels)], 1))
        return torch.sigmoid(self.out(hidden)).reshape(-1, *SHAPE)


class Projected(nn.Module):
    """Pictures and classes -> logits. Source: Miyato and Koyama 2018, arXiv:1802.05637."""

    def __init__(self, one_hot: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 16, bias=False) if one_hot else nn.Embedding(3, 16)
        self.body, self.out = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, 1)

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        hidden = self.body(pictures)
        logits: Tensor = self.out(hidden) + (hidden * self.embed(labels)).sum(1, keepdim=True)
        return logits


class OneHot(nn.Module):
    """Latents (B, D, 1, 1) and classes (B, C) -> pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(LATENT + 3, 1, 4)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.sigmoid(self.up(torch.cat([latents, labels[..., None, None]], 1)))


class Guide(nn.Module):
    """Pictures and, if it takes them, classes -> latents (B, D)."""

    def __init__(self, takes_class: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, LATENT) if takes_class else None
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(16, LATENT))

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        latents: Tensor = self.out(pictures)
        return latents if self.embed is None or labels is None else latents + self.embed(labels)


def networks(one_hot: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return (OneHot() if one_hot else Embedded()).eval(), Projected(one_hot).eval()


def real() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(3, size=80)
    return (random.random((80, *SHAPE)) * (labels + 1)[:, None, None, None] / 3).astype(np.float32), labels


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("as_files", [False, True])
def test_its_samples_are_those_of_its_networks_class_by_class(
    one_hot: bool, as_files: bool, tmp_path: Path
) -> None:
    generator, judge = networks(one_hot)
    labels_as = "one_hot" if one_hot else "index"
    given: list[Any] = [generator, judge]
    if as_files:
        label = torch.eye(3) if one_hot else torch.arange(3)
        first = torch.zeros(3, LATENT, 1, 1) if one_hot else torch.zeros(3, LATENT)
        for place, values in enumerate((first, torch.zeros(3, *SHAPE))):
            given[place] = onnx_file(tmp_path / f"{place}.onnx", given[place], given=(values, label))
    items, labels = real()
    version = publish_gan(
        "classes", given[0], discriminator=given[1], labels_as=labels_as, real=items,  # type: ignore[arg-type]
        real_labels=labels, models=tmp_path / "models", **WORDS,
    )  # fmt: skip
    manifest = verify_version(version)
    assert manifest.class_names == CLASSES
    assert set(manifest.graphs) == {"decode", "discriminate", "generate_scored"}
    card = (version / "README.md").read_text()
    assert "sample i is of class i modulo 3" in card
    assert "sample?count=64&seed=0'" in card
    latents = np.random.default_rng(1).standard_normal((5, LATENT), dtype=np.float32)
    with load(version) as model:
        judged = []
        for number, name in enumerate(CLASSES):
            as_label = torch.full((5,), number)
            label = nn.functional.one_hot(as_label, 3).float() if one_hot else as_label
            values = torch.from_numpy(latents)
            with torch.no_grad():
                wanted = generator(values[..., None, None] if one_hot else values, label)
                logits = judge(wanted, label).flatten().numpy()
            samples = model.decode(latents, label=name)
            np.testing.assert_allclose(samples, wanted.numpy(), atol=1e-5)
            judged.append((logits, model.discriminate(samples, label=number).logit))
            chosen = model.sample(count=4, seed=1, method="metropolis", label=name)
            assert chosen.shape == (4, *SHAPE)
        theirs, ours = map(np.concatenate, zip(*judged, strict=True))
        np.testing.assert_allclose(ours, np.polyval(np.polyfit(theirs, ours, 1), theirs), atol=1e-3)


def test_a_discriminator_may_take_no_class(tmp_path: Path) -> None:
    generator, _ = networks(False)
    judge = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).eval()
    items, labels = real()
    version = publish_gan(
        "classes", generator, discriminator=judge, real=items, real_labels=labels, models=tmp_path, **WORDS
    )
    with load(version) as model, torch.no_grad():
        ours, others = (model.discriminate(items, label=label).logit for label in (0, 2))
        theirs = judge(torch.from_numpy(items)).flatten().numpy()
    np.testing.assert_array_equal(ours, others)
    assert abs(np.corrcoef(ours, theirs)[0, 1]) > 0.9999


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("takes_class", [False, True])
def test_an_encoder_gives_the_latents_of_items_as_of_their_classes(
    takes_class: bool, as_file: bool, tmp_path: Path
) -> None:
    generator, _ = networks(False)
    guide = Guide(takes_class).eval()
    items, labels = real()
    values = torch.from_numpy(items), torch.from_numpy(labels)
    given = values if takes_class else values[:1]
    encoder = onnx_file(tmp_path / "encoder.onnx", guide, given=given) if as_file else guide
    version = publish_gan(
        "classes",
        generator,
        encoder=encoder,
        real=items,
        real_labels=labels,
        models=tmp_path / "models",
        **WORDS,
    )
    assert set(verify_version(version).graphs) == {"decode", "encode", "statistics"}
    with load(version) as model, torch.no_grad():
        latents = guide(*values)
        np.testing.assert_allclose(model.encode(items, label=labels).mean, latents, atol=1e-5)
        again = generator(latents, values[1]).numpy()
        np.testing.assert_allclose(model.reconstruct(items, label=labels), again, atol=1e-5)
        scores = model.score(items, label=labels, statistic="residual")
    np.testing.assert_allclose(scores.surprise, ((items - again) ** 2).mean((1, 2, 3)), rtol=1e-4)
    assert scores.p_value is not None


def test_nothing_is_chosen_among_proposals_of_a_class_without_real_items(tmp_path: Path) -> None:
    generator, judge = networks(False)
    items, labels = real()
    version = publish_gan(
        "classes", generator, discriminator=judge, real=items, real_labels=np.minimum(labels, 1),
        models=tmp_path, **WORDS,
    )  # fmt: skip
    assert set(verify_version(version).graphs) == {"decode", "discriminate"}
    with load(version) as model, pytest.raises(OperationNotOffered, match="no graph that scores its samples"):
        model.sample(method="metropolis", label=0)


def test_what_does_not_fit_a_condition_is_refused(tmp_path: Path) -> None:
    generator, judge = networks(False)
    items, labels = real()
    models = tmp_path / "models"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"classes": ("a", "a")}, r"classes are \['a', 'a'\]; wanted two or more names"),
        (
            {"classes": {"a", "b", "c"}},
            r"classes is .* \(set\); wanted a list .* in the order of their numbers",
        ),
        ({"classes": {"a": 0, "b": 2, "c": 1}}, r"\(dict\); wanted a list of the classes' names"),
        ({"labels_as": "word"}, "labels_as is 'word'; wanted 'index' or 'one_hot'"),
        ({"latent_size": 5}, r"the generator does not take values \(B, 5\) or \(B, 5, 1, 1\) and classes"),
        ({"encoder": generator}, r"the encoder does not take values \(B, 1, 4, 4\)"),
        ({"objective": "lsgan"}, "objective is 'lsgan'; wanted one of 'minimax'.* as least squares"),
        ({"discriminator": judge, "real": items}, "`real` came without `real_labels`"),
        ({"discriminator": judge, "real": items, "real_labels": labels + 1}, "wanted 80 numbers from 0 to 2"),
        ({"discriminator": judge, "real": items, "real_labels": labels[1:]}, r"int64 of shape \[79\]"),
    ]
    for changes, words in cases:
        with pytest.raises(UnfitModel, match=words):
            publish_gan("classes", generator, models=models, **WORDS | changes)
    assert not models.exists()
