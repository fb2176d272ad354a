"""The commands `publish vae` and `publish gan` publish ONNX files, where there is no torch too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from pushforward.command.publish import commands
from service.errors import Unfit
from service.numerics.noise import Stream, normals
from tests.networks import Decoder, Encoder, Judge, write_onnx
from training.export.sessions import open_graph, verify_version

SHAPE, LATENT = (1, 8, 8), 6
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnxscript"):
            raise ImportError(name)
sys.meta_path.insert(0, NoTorch())
from service.errors import Unfit
from pushforward.command.publish import commands
commands()
"""


def items(folder: Path, rows: int) -> Path:
    path = folder / "items.npy"
    np.save(path, np.random.default_rng(0).random((rows, *SHAPE), dtype=np.float32).round())
    return path


def test_a_vae_is_published_without_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = [
        write_onnx(tmp_path / "encoder.onnx", Encoder(64, LATENT), SHAPE),
        write_onnx(tmp_path / "decoder.onnx", Decoder(LATENT, SHAPE), (LATENT,), opset=17),
    ]
    arguments = [
        "vae", "digits", "--encoder", files[0], "--decoder", files[1], "--latent-size", LATENT,
        "--item-shape", "1,8,8", "--likelihood", "bernoulli", "--decoder-gives", "probabilities",
        "--normals", items(tmp_path, 100), "--models", tmp_path / "models", "--draws", "4",
    ]  # fmt: skip
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "models" / "digits" / "1")
    assert "comparing score" in done.stderr
    manifest = verify_version(tmp_path / "models" / "digits" / "1")
    assert manifest.defaults is not None
    assert manifest.defaults.alpha == 0.05  # 50 items do not resolve 0.01
    assert "torch" not in manifest.provenance.libraries


def test_a_refusal_is_a_message_and_an_exit_code(tmp_path: Path) -> None:
    encoder = write_onnx(tmp_path / "encoder.onnx", Encoder(64, LATENT), SHAPE, batch=4)
    decoder = write_onnx(tmp_path / "decoder.onnx", Decoder(LATENT, SHAPE), (LATENT,))
    options = ["--latent-size", "5", "--item-shape", "1x8x8", "--models", tmp_path / "models"]
    arguments = ["vae", "digits", "--encoder", encoder, "--decoder", decoder, *options]
    result = CliRunner().invoke(commands, [str(each) for each in arguments])
    assert isinstance(result.exception, Unfit)  # the command ends with status 2
    told = str(result.exception)
    assert told.startswith("digits does not fit, and nothing was written:\n- the encoder takes batches")
    assert "the decoder takes rows of shape [6]" in told
    assert not (tmp_path / "models").exists()
    result = CliRunner().invoke(
        commands, ["vae", "digits", "--normals", str(encoder), *map(str, arguments[2:])]
    )
    assert result.exit_code == 2
    assert "not an .npy file" in result.stderr


def test_a_gan_is_published_with_its_discriminator_and_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = [
        write_onnx(tmp_path / "generator.onnx", Decoder(LATENT, SHAPE, "Tanh"), (LATENT,)),
        write_onnx(tmp_path / "discriminator.onnx", Judge(64), SHAPE),
        write_onnx(tmp_path / "encoder.onnx", guide := Decoder(64, (LATENT,), "Identity"), (64,)),
    ]
    real = 2 * np.load(items(tmp_path, 120)) - 1
    np.save(tmp_path / "real.npy", real)
    arguments = [
        "gan", "sprites", "--generator", files[0], "--discriminator", files[1], "--encoder", files[2],
        "--latent-size", LATENT, "--item-shape", "1,8,8", "--values", "-1..1",
        "--real", tmp_path / "real.npy", "--models", tmp_path / "models", "--quiet",
    ]  # fmt: skip
    result = CliRunner().invoke(commands, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    version = tmp_path / "models" / "sprites" / "1"
    manifest = verify_version(version)
    assert set(manifest.graphs) == {"decode", "encode", "statistics", "discriminate", "generate_scored"}
    assert manifest.discriminator is not None
    assert manifest.discriminator.logits is not None
    assert manifest.defaults is not None
    assert manifest.defaults.statistic == "residual"
    assert {"jsd_lower_bound", "calibration_error", "calibration_z"} <= manifest.metrics.keys()
    latents = normals(0, Stream.LATENT, 0, 5, LATENT)
    samples, logit = open_graph(version, "generate_scored").run(None, {"latents": latents})
    assert samples.min() >= 0
    assert samples.max() <= 1
    (again,) = open_graph(version, "discriminate").run(None, {"inputs": samples})
    np.testing.assert_array_equal(logit, again)
    (found,) = open_graph(version, "encode").run(None, {"inputs": samples})
    with torch.no_grad():
        np.testing.assert_allclose(found, guide(torch.from_numpy(2 * samples - 1).flatten(1)), atol=1e-5)
