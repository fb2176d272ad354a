"""Networks of ONNX in float16 and float64, which are published in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

import pushforward
from pushforward.publishing import UnfitModel, publish_gan, publish_vae
from service.format.versions import read_manifest
from tests.networks import Decoder, Encoder, write_onnx
from training.export.sessions import verify_version

pytestmark = pytest.mark.exports

LATENT, SHAPE = 3, (1, 4, 4)


def files(folder: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    encoder = write_onnx(folder / "encoder.onnx", Encoder(16, LATENT), SHAPE)
    return encoder, write_onnx(folder / "decoder.onnx", Decoder(LATENT, SHAPE), (LATENT,))


def halved(path: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(path)), path)


def halved_inside(path: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def doubled(path: Path) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("change", "precision", "tolerance"),
    [(halved, "float16", 2e-3), (halved_inside, "float16", 2e-3), (doubled, "float64", 1e-6)],
)
def test_a_vae_in_another_precision_is_published_in_float32_and_its_card_says_how_far_it_is(
    tmp_path: Path, change: Callable[[Path], None], precision: str, tolerance: float
) -> None:
    answers = []
    rows = np.random.default_rng(0).random((5, *SHAPE)).round()
    for name in ("plain", "changed"):
        paths = files(tmp_path)
        for path in paths if name == "changed" else ():
            change(path)
        folder = publish_vae(name, *paths, latent_size=LATENT, item_shape=SHAPE, models=tmp_path / "models")
        verify_version(folder)
        with pushforward.load(folder) as model:
            answers.append((model.encode(rows).mean, model.decode(np.ones((2, LATENT), np.float32))))
    for plain, changed in zip(*answers, strict=True):
        np.testing.assert_allclose(changed, plain, atol=tolerance)
    origin: Any = read_manifest(folder).provenance.origin
    for network in ("encoder", "decoder"):
        assert origin[network]["precision"].startswith(
            f"{precision}, brought to float32: outputs differ by at most "
        )
    assert f"precision {precision}, brought to float32" in (folder / "README.md").read_text()


class Generator(nn.Module):
    """Latents -> pictures, by a transposed convolution, which ONNX Runtime does not have in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(LATENT, 1, 4)

    def forward(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.up(latents[:, :, None, None]))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of the exporter
def test_a_network_that_onnx_runtime_has_no_kernels_for_is_compared_all_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator, path = Generator().double().eval(), tmp_path / "generator.onnx"
    rows = torch.export.Dim("rows", min=1)
    example = torch.zeros(3, LATENT, dtype=torch.float64)
    torch.onnx.export(generator, (example,), path, dynamo=True, dynamic_shapes=({0: rows},), verbose=False)
    folder = publish_gan("own", path, latent_size=LATENT, item_shape=SHAPE, models=tmp_path / "models")
    latents = np.random.default_rng(1).standard_normal((4, LATENT)).astype(np.float32)
    with pushforward.load(folder) as model, torch.no_grad():
        expected = generator(torch.from_numpy(latents).double()).numpy()
        np.testing.assert_allclose(model.decode(latents), expected, atol=1e-6)


def test_a_network_that_float32_changes_and_one_of_bfloat16_are_refused_with_what_to_do(
    tmp_path: Path,
) -> None:
    encoder, decoder = files(tmp_path)
    doubled(decoder)
    model = onnx.load(decoder)
    for tensor in model.graph.initializer:
        if tensor.name == "hidden.bias":  # 1e9 + 1 - 1e9 is 0 in float32
            shifted = numpy_helper.to_array(tensor) + 1e9
            tensor.CopyFrom(numpy_helper.from_array(shifted, tensor.name))
    tanh = next(node for node in model.graph.node if node.op_type == "Tanh")
    far = numpy_helper.from_array(np.array(1e9), "far")
    model.graph.initializer.append(far)
    back = onnx.helper.make_node("Sub", [tanh.input[0], "far"], ["near"])
    tanh.input[0] = "near"
    model.graph.node.insert([*model.graph.node].index(tanh), back)
    onnx.save(model, decoder)
    given: dict[str, Any] = {"latent_size": LATENT, "item_shape": SHAPE, "models": tmp_path / "models"}
    with pytest.raises(
        UnfitModel, match=r"the decoder is in float64, and in float32 gives other results"
    ) as caught:
        publish_vae("own", encoder, decoder, **given)
    assert "module.float() before torch.onnx.export" in str(caught.value)
    _, decoder = files(tmp_path)
    model = onnx.load(decoder)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.data_type, raw = TensorProto.BFLOAT16, tensor.raw_data
            tensor.raw_data = np.frombuffer(raw, np.uint16)[1::2].tobytes()
    onnx.save(model, decoder)
    with pytest.raises(
        UnfitModel, match=r"weights of BFLOAT16; wanted float32, float16 or float64: export it"
    ):
        publish_vae("own", encoder, decoder, **given)
    assert not (tmp_path / "models").exists()
