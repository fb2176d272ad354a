"""A VAE whose networks take the class of a row is published in every form, and served by label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn
from typer.testing import CliRunner

from pushforward.command.publish import commands
from pushforward.local import load
from pushforward.publishing import UnfitModel, publish_vae
from service.numerics.noise import scoring_noise
from tests.pushforward.publishing.torch_files import onnx_file, program, script
from training.export.sessions import PARITY_TOLERANCE, verify_version

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]

of_torch: Any = distributions  # which have no types
C, LATENT, SHAPE, DRAWS, SEED = 3, 4, (1, 4, 4), 6, 5
WORDS: dict[str, Any] = {"latent_size": LATENT, "item_shape": SHAPE, "classes": C, "draws": 4}
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(C, size=100)
ITEMS = (RANDOM.random((100, *SHAPE)) * C < LABELS[:, None, None, None] + 0.5).astype(np.float32)


class Encoder(nn.Module):
    """Pictures and classes, by index or one-hot -> mean and log-variance."""

    def __init__(self, one_hot: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(C, 8, bias=False) if one_hot else nn.Embedding(C, 8)
        self.body = nn.Linear(16 + 8, 16)
        self.mean, self.log_variance = nn.Linear(16, LATENT), nn.Linear(16, LATENT)

    def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.body(torch.cat([pictures.flatten(1), self.embed(labels)], 1)))
        return self.mean(hidden), self.log_variance(hidden)


class Decoder(nn.Module):
    """Latents and classes -> probabilities."""

    def __init__(self, one_hot: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(C, 8, bias=False) if one_hot else nn.Embedding(C, 8)
        self.body, self.out = nn.Linear(LATENT + 8, 16), nn.Linear(16, 16)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(torch.cat([latents, self.embed(labels)], 1)))
        return torch.sigmoid(self.out(hidden)).reshape(latents.shape[0], 1, 4, 4)


def networks(one_hot: bool = False) -> tuple[Encoder, Decoder]:
    torch.manual_seed(0)
    return Encoder(one_hot).eval(), Decoder(one_hot).eval()


def as_given(labels: np.ndarray, one_hot: bool) -> Tensor:
    numbers = torch.from_numpy(labels)
    return nn.functional.one_hot(numbers, C).float() if one_hot else numbers


def require_served(version: Path, encoder: Any, decoder: Any) -> None:
    """Requires that answers are those of torch; both networks take values and numbers of classes."""
    items, labels = torch.from_numpy(ITEMS[:9]), torch.from_numpy(LABELS[:9])
    eps = torch.from_numpy(scoring_noise(SEED, DRAWS, LATENT))
    with torch.no_grad(), load(version) as model:
        mean, log_variance = encoder(items, labels)
        posterior = of_torch.Normal(mean, torch.exp(0.5 * log_variance))
        likelihoods = [
            of_torch.Bernoulli(decoder(mean + posterior.stddev * draw, labels)).log_prob(items).sum((1, 2, 3))
            for draw in eps
        ]
        kl = of_torch.kl_divergence(posterior, of_torch.Normal(0.0, 1.0)).sum(1)
        elbo = (torch.stack(likelihoods).mean(0) - kl).numpy()
        scores = model.score(ITEMS[:9], label=LABELS[:9], statistic="elbo", draws=DRAWS, seed=SEED)
        gap = np.abs(scores.columns["elbo"] - elbo) / (1 + np.abs(elbo))
        assert gap.max() <= PARITY_TOLERANCE
        code = model.encode(ITEMS[:9], label=LABELS[:9])
        np.testing.assert_allclose(code.mean, mean, atol=1e-5)
        assert code.log_variance is not None
        np.testing.assert_allclose(code.log_variance, log_variance, atol=1e-5)
        rebuilt = model.reconstruct(ITEMS[:9], label=LABELS[:9])
        np.testing.assert_allclose(rebuilt, decoder(mean, labels), atol=1e-5)
        latents = RANDOM.standard_normal((5, LATENT)).astype(np.float32)
        for number in range(C):
            wanted = decoder(torch.from_numpy(latents), torch.full((5,), number))
            np.testing.assert_allclose(model.decode(latents, label=number), wanted, atol=1e-5)
            drawn = model.sample(count=4, seed=1, label=number, output="draw")
            assert set(np.unique(drawn)) <= {0.0, 1.0}
            np.testing.assert_array_equal(
                model.sample(count=2, seed=1, label=str(number), output="draw"), drawn[:2]
            )


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("kind", ["modules", "ONNX", "torch.export", "TorchScript"])
def test_elbo_encodings_and_samples_by_class_are_those_of_its_networks(
    kind: str, one_hot: bool, tmp_path: Path
) -> None:
    encoder, decoder = networks(one_hot)
    given: list[Any] = [encoder, decoder]
    write = {"ONNX": onnx_file, "torch.export": program, "TorchScript": script}.get(kind)
    if write is not None:
        label = as_given(np.arange(C), one_hot)
        values = (torch.zeros(C, *SHAPE), torch.zeros(C, LATENT))
        given = [
            write(tmp_path / f"{place}.file", network, given=(first, label))
            for place, (network, first) in enumerate(zip(given, values, strict=True))
        ]
    version = publish_vae(
        "classes", *given, labels_as="one_hot" if one_hot else "index", normals=ITEMS, normal_labels=LABELS,
        models=tmp_path / "models", **WORDS,
    )  # fmt: skip
    manifest = verify_version(version)
    assert manifest.class_names == ("0", "1", "2")
    assert set(manifest.graphs) == {"encode", "decode", "draw", "score", "map", "statistics"}
    assert all(graph.inputs[-1].name == "labels" for graph in manifest.graphs.values())
    assert "each item as one of its class, of 3" in (version / "README.md").read_text()
    require_served(
        version,
        lambda items, labels: encoder(items, as_given(labels.numpy(), one_hot)),
        lambda latents, labels: decoder(latents, as_given(labels.numpy(), one_hot)),
    )


class Column(nn.Module):
    """A network whose classes are whole numbers (B, 1), as of Keras."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, labels: Tensor) -> Any:
        if labels.dim() != 2:
            raise ValueError(f"labels have {labels.dim()} axes")
        return self.network(values, labels[:, 0])


class ClassFirst(nn.Module):
    """One that takes the class before the values."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, labels: Tensor, values: Tensor) -> Any:
        return self.network(values, labels)


@pytest.mark.parametrize("kind", ["modules", "ONNX"])
def test_classes_may_be_a_column_and_come_first_in_a_file(kind: str, tmp_path: Path) -> None:
    encoder, decoder = networks()
    given: list[Any] = [Column(encoder).eval(), Column(decoder).eval()]
    if kind == "ONNX":
        labels = torch.arange(C)
        given = [
            onnx_file(tmp_path / "0.onnx", given[0], given=(torch.zeros(C, *SHAPE), labels[:, None])),
            onnx_file(tmp_path / "1.onnx", ClassFirst(decoder), given=(labels, torch.zeros(C, LATENT))),
        ]
    require_served(publish_vae("column", *given, models=tmp_path, **WORDS), encoder, decoder)


@pytest.mark.parametrize("as_file", [False, True])
def test_an_encoder_may_take_no_class_and_a_decoder_one_row_of_both(as_file: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * LATENT))
    joined = nn.Sequential(nn.Linear(LATENT + C, 16), nn.Sigmoid(), nn.Unflatten(1, SHAPE)).eval()
    given: list[Any] = [body.eval(), joined]
    if as_file:
        rows = ((1, 4, 4), (LATENT + C,))
        given = [onnx_file(tmp_path / f"{i}.onnx", given[i], *row) for i, row in enumerate(rows)]
    words = WORDS | {"classes": torch.arange(C)}
    version = publish_vae("half", *given, labels_as="one_hot", models=tmp_path, **words)
    assert verify_version(version).class_names == ("0", "1", "2")
    require_served(
        version,
        lambda items, _: body(items).chunk(2, 1),
        lambda latents, labels: joined(torch.cat([latents, as_given(labels.numpy(), True)], 1)),
    )


@pytest.mark.parametrize(("likelihood", "scale"), [("gaussian", 0.1), ("laplace", 0.1 * (2 / np.pi) ** 0.5)])
def test_a_scale_is_fitted_on_items_as_of_their_classes(
    likelihood: Any, scale: float, tmp_path: Path
) -> None:
    encoder, _ = networks()

    class Mean(nn.Module):
        """The mean of a class, whatever the latents."""

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return (labels.float()[:, None] + 0 * latents[:, :1]).expand(-1, 16).reshape(-1, *SHAPE)

    items = LABELS[:, None, None, None] + 0.1 * RANDOM.standard_normal((100, *SHAPE)).astype(np.float32)
    version = publish_vae(
        "scale", encoder, Mean(), likelihood=likelihood, values="real", normals=items, models=tmp_path,
        normal_labels=[str(label) for label in LABELS], **WORDS,
    )  # fmt: skip
    origin = verify_version(version).provenance.origin
    assert origin is not None
    assert float(str(origin["scale"])) == pytest.approx(scale, rel=0.1)
    with load(version) as model:
        wrong = model.score(items, label=(LABELS + 1) % C)
        assert wrong.p_value is not None
        assert (wrong.p_value <= 0.05).all()


def test_what_does_not_fit_a_condition_is_refused_with_what_came(tmp_path: Path) -> None:
    encoder, decoder = networks()
    dropping = networks()[1].train()
    dropping.dropout = nn.Dropout()
    labelled: dict[str, Any] = {"normals": ITEMS, "normal_labels": LABELS}
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (dropping, {}, "^classes does not fit, and nothing was written:\n- the decoder is in training mode"),
        (
            lambda values, labels: of_torch.Cauchy(decoder(values, labels), 1.0),
            {},
            "- the decoder gives a Cauchy distribution; wanted a Normal",
        ),
        (decoder, {"classes": "abc"}, r"classes is 'abc' \(str\); wanted a list of the classes' names"),
        (decoder, {"classes": ["only"]}, r"classes are \['only'\]; wanted two or more names"),
        (decoder, {"labels_as": "one_hot"}, r"does not take values .* and classes \(B, 3\): "),
        (decoder, {"latent_size": 5}, r"decoder does not take values \(B, 5\) or .* and classes \(B,\) or"),
        (nn.Linear(LATENT, 16), {}, "the decoder takes one input; wanted values .* leave `classes` out"),
        (
            lambda values, labels, code: values + labels + code,
            {},
            "missing 1 required .*; give a function of values and labels",
        ),
        (nn.Linear(5, 16), {"labels_as": "one_hot"}, r"takes one input; .*, or rows \(B, 7\) of both"),
        (decoder, labelled | {"normal_labels": None}, "`normals` came without `normal_labels`"),
        (decoder, labelled | {"normal_labels": LABELS + 1}, "wanted 100 numbers from 0 to 2, or names"),
        (decoder, labelled | {"normal_labels": LABELS[1:]}, r"normal_labels are int64 of shape \[99\]"),
        (decoder, labelled | {"classes": None}, "normal_labels came without `classes`"),
        (decoder, {"classes": None}, "name the classes by `classes`"),
    ]
    for given, changes, words in cases:
        with pytest.raises(UnfitModel, match=words):
            publish_vae("classes", encoder, given, models=tmp_path / "models", **WORDS | changes)
    assert not (tmp_path / "models").exists()


def test_the_command_takes_the_number_of_classes_and_a_file_of_labels(tmp_path: Path) -> None:
    label = torch.arange(C)
    for name, network, first in zip(("encoder", "decoder"), networks(), ((1, 4, 4), (LATENT,)), strict=True):
        onnx_file(tmp_path / f"{name}.onnx", network, given=(torch.zeros(C, *first), label))
    np.save(tmp_path / "labels.npy", np.eye(C)[LABELS])
    np.savez(tmp_path / "items.npz", items=ITEMS, labels=LABELS)
    arguments = [
        "vae", "classes", "--encoder", tmp_path / "encoder.onnx", "--decoder", tmp_path / "decoder.onnx",
        "--latent-size", LATENT, "--item-shape", "1,4,4", "--classes", C, "--normals", tmp_path / "items.npz",
        "--models", tmp_path / "models", "--quiet",
    ]  # fmt: skip
    for more in ([], ["--normal-labels", tmp_path / "labels.npy", "--classes", "0, 1, 2"]):
        result = CliRunner().invoke(commands, [*map(str, [*arguments, *more])], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
    beside, given = (verify_version(tmp_path / "models" / "classes" / each) for each in "12")
    assert beside.calibration == given.calibration
    assert beside.class_names == given.class_names == ("0", "1", "2")
    require_served(tmp_path / "models" / "classes" / "1", *networks())
