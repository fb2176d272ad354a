"""Refusals of what does not fit: before anything is written, with what came and what fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, distributions, nn

from pushforward.publishing import MixtureOfGaussians, UnfitModel, publish_gan, publish_vae
from tests.networks import Decoder, Encoder, Judge, write_onnx

of_torch: Any = distributions  # which have no types
pytestmark = pytest.mark.exports

LATENT, SHAPE = 3, (1, 4, 4)
ITEMS = np.random.default_rng(0).random((60, *SHAPE), dtype=np.float32).round()


def networks() -> tuple[Encoder, Decoder]:
    torch.manual_seed(0)
    return Encoder(16, LATENT).eval(), Decoder(LATENT, SHAPE).eval()


def refused(folder: Path, encoder: Any, decoder: Any, **options: Any) -> str:
    """The message of a refusal, which wrote nothing."""
    given: dict[str, Any] = {"latent_size": LATENT, "item_shape": SHAPE} | options
    with pytest.raises(UnfitModel) as caught:
        publish_vae("own", encoder, decoder, models=folder / "models", **given)
    assert not (folder / "models").exists()
    return str(caught.value)


class Sampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = networks()[0]

    def forward(self, items: Tensor) -> Tensor:
        mean, log_variance = self.encoder(items)
        draw: Tensor = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return draw


class Widest(Sampling):
    """Its rows see the largest value of the whole batch."""

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mean, log_variance = self.encoder(items)
        return mean / mean.abs().max(), log_variance


def broken(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (
            lambda: (
                lambda rows: of_torch.Normal(rows.flatten(1)[:, :3], rows.flatten(1)[:, 3:6] - 2),
                networks()[1],
            ),
            {"encoder_gives": "distribution"},
            ["Expected parameter scale", "to satisfy the constraint GreaterThan(lower_bound=0.0)"],
        ),
        (
            lambda: (networks()[0], lambda rows: (networks()[1](rows), torch.ones(1))),
            {"likelihood": "gaussian", "decoder_gives": "mean_and_scale", "scale": None},
            [
                "the decoder gave [[64, 1, 4, 4], [1]] for 64 rows",
                "a constant spread of a decoder by `scale`",
            ],
        ),
        (
            lambda: (networks()[0], nn.Sequential(networks()[1], nn.Dropout(0.5)).train()),
            {},
            ["Dropout", ".eval()"],
        ),
        (
            lambda: (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), networks()[0]), networks()[1]),
            {},
            ["training mode", "BatchNorm1d", ".eval()"],
        ),
        (
            networks,
            {"latent_size": 5},
            ["the encoder gave [B, 3] and [B, 3]", "latent_size 5", "the decoder"],
        ),
        (
            networks,
            {"item_shape": (1, 5, 5)},
            ["the encoder does not take rows of shape [B, 1, 5, 5]", "[B, 25]"],
        ),
        (lambda: (broken(networks()[0]), networks()[1]), {}, ["the encoder gave", "NaN or infinite"]),
        (lambda: (networks()[0], Decoder(LATENT, SHAPE, "Identity")), {}, ["values from", "say 'logits'"]),
        (networks, {"encoder_gives": "scale"}, ["scales down to", "say 'log_variance'"]),
        (networks, {"encoder_gives": "distribution"}, ["the encoder gave tensors, [B, 3] and [B, 3]"]),
        (lambda: (Sampling(), networks()[1]), {}, ["two results for the same rows", "without noise"]),
        (
            lambda: (Widest(), networks()[1]),
            {},
            ["other results alone than in a batch", "depend on each other"],
        ),
        (lambda: (networks()[0].double(), networks()[1]), {}, ["torch.float64", ".float()"]),
        (networks, {"decoder_gives": "mean"}, ["'mean', which the likelihood 'bernoulli' does not take"]),
        (networks, {"likelihood": "gaussian"}, ["neither scale nor normals came"]),
        (networks, {"likelihood": "poisson"}, ["likelihood is 'poisson'", "'bernoulli'"]),
        (networks, {"scale": 0.1}, ["scale came, which is for the likelihood 'gaussian'"]),
        (networks, {"normals": ITEMS / 2}, ["outside of the support binary", "likelihood='gaussian'"]),
        (networks, {"normals": ITEMS, "alpha": 0.001}, ["resolve no level below 0.0322581", "more items"]),
        (networks, {"alpha": 2}, ["alpha is 2"]),
        (networks, {"statistic": "f_anogan"}, ["statistic is 'f_anogan'; this model has elbo"]),
        (networks, {"normals": ITEMS[:20]}, ["normals has 20 items; wanted at least 40"]),
        (networks, {"normals": np.repeat(ITEMS[:1], 60, 0)}, ["normals is one item 60 times", "that differ"]),
        (
            networks,
            {"item_shape": 3, "latent_size": "4"},
            ["item_shape is 3 (int); wanted", "(30,) for rows", "latent_size is '4' (str); wanted a whole"],
        ),
        (networks, {"item_shape": (1, 4.0, 4)}, ["item_shape is (1, 4.0, 4) (tuple); wanted whole numbers"]),
        (networks, {"normals": ITEMS[:, :, 1:]}, ["an array of shape [60, 1, 3, 4]", "(N, 1, 4, 4)"]),
        (
            networks,
            {"prior": MixtureOfGaussians(np.ones(2) / 2, np.zeros((2, 4), "f4"), np.zeros((2, 4), "f4"))},
            ["means [2, 4]; wanted (M, 3)"],
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    make: Callable[[], tuple[Any, Any]], options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    message = refused(tmp_path, *make(), **options)
    for word in words:
        assert word in message, message


def test_all_flaws_are_named_at_once(tmp_path: Path) -> None:
    encoder, decoder = networks()
    message = refused(tmp_path, broken(encoder), Decoder(LATENT, (1, 2, 2)), normals=ITEMS[:3])
    assert message.count("\n- ") == 3
    message = refused(tmp_path, encoder, decoder, latent_size=0, item_shape=(1, 1, 1, 1), channels="top")
    assert message.count("\n- ") == 3


def onnx_files(folder: Path, **options: Any) -> tuple[Path, Path]:
    encoder, decoder = networks()
    return (
        write_onnx(folder / "encoder.onnx", encoder, SHAPE, **options),
        write_onnx(folder / "decoder.onnx", decoder, (LATENT,)),
    )


def with_node(path: Path, operator: str, **attributes: Any) -> Path:
    """The file, with a node of an operator before its last one."""
    model = onnx.load(path)
    last = model.graph.node[-1]
    node = helper.make_node(operator, [last.input[0]], ["more"], **attributes)
    last.input[0] = "more"
    model.graph.node.insert(len(model.graph.node) - 1, node)
    onnx.save(model, path)
    return path


def test_a_fixed_batch_is_refused_with_how_to_free_it(tmp_path: Path) -> None:
    message = refused(tmp_path, *onnx_files(tmp_path, batch=8))
    assert "batches of exactly 8 rows: its first axis is fixed" in message
    assert "dynamic_shapes" in message


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ("RandomNormalLike", ["RandomNormalLike", "it is random", "mean and log-variance"]),
        ("Hardmax", ["Hardmax, which is not in the list"]),
    ],
)
def test_an_operator_that_no_graph_may_have_is_refused(
    operator: str, words: list[str], tmp_path: Path
) -> None:
    encoder, decoder = onnx_files(tmp_path)
    message = refused(tmp_path, with_node(encoder, operator), decoder)
    for word in words:
        assert word in message, message


def test_files_that_are_no_graphs_of_these_sizes_are_refused(tmp_path: Path) -> None:
    encoder, decoder = onnx_files(tmp_path)
    message = refused(tmp_path, encoder, decoder, item_shape=(1, 5, 5))
    assert "the encoder takes rows of shape [1, 4, 4]" in message
    assert "[B, 1, 5, 5]" in message
    (tmp_path / "text.onnx").write_text("no graph")
    assert "cannot be read as ONNX" in refused(tmp_path, tmp_path / "text.onnx", decoder)


def test_whole_numbers_are_refused_as_inputs(tmp_path: Path) -> None:
    encoder, decoder = onnx_files(tmp_path)
    model = onnx.load(encoder)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, encoder)
    assert "given of type INT64; wanted FLOAT" in refused(tmp_path, encoder, decoder)


def test_a_gans_flaws_are_named_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator, judge = Decoder(LATENT, SHAPE, "Tanh"), Judge(16)
    with pytest.raises(UnfitModel) as caught:
        publish_gan(
            "own", generator, latent_size=LATENT, item_shape=SHAPE, discriminator=judge,
            encoder=networks()[0], models=tmp_path / "models",
        )  # fmt: skip
    message = str(caught.value)
    for word in (
        "say by `values` what range they have: 0..1, -1..1, 0..255, or real",
        "a discriminator came without real items",
        "the encoder gave",
    ):
        assert word in message
    assert not (tmp_path / "models").exists()
    with pytest.raises(UnfitModel, match="Wasserstein distance"):
        publish_gan(
            "own", generator, latent_size=LATENT, item_shape=SHAPE, discriminator=judge, values="-1..1",
            objective="wasserstein", real=ITEMS, models=tmp_path / "models",
        )  # fmt: skip


@pytest.mark.parametrize("place", ["/dev/null", "/proc/models"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_export(place: str) -> None:
    def never(_: Tensor) -> Tensor:
        raise AssertionError("a network was run")

    words = "no folder that can be written .*name another folder of models"
    with pytest.raises(UnfitModel, match=words):
        publish_vae("own", never, never, latent_size=LATENT, item_shape=SHAPE, models=place)
    with pytest.raises(UnfitModel, match=words):
        publish_gan("own", never, latent_size=LATENT, item_shape=SHAPE, models=place)
