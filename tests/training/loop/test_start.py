"""Training that begins with a published version begins with what that version computes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from service.format.versions import read_manifest
from tests.published import newest
from training.data import Dataset
from training.loop.loop import train
from training.loop.start import begin_with
from training.models.gan import Gan, make_gan, make_gan_encoder
from training.models.networks.residual import ResidualBlock
from training.recipe import RECIPES, Recipe, RecipeError, parse_recipe, read_recipe

VERSION = newest("fashion-gan")
GARMENTS = Dataset("fashion-mnist", "", (1, 28, 28), (), {}, {})


def with_network(**changes: object) -> Recipe:
    recipe = read_manifest(VERSION).provenance.recipe
    assert isinstance(recipe["network"], dict)
    return parse_recipe({**recipe, "network": recipe["network"] | changes})


def untrained(**network: object) -> Gan:
    torch.manual_seed(0)
    recipe = with_network(**network)
    gan = make_gan(recipe, GARMENTS)
    gan.encoder = make_gan_encoder(recipe, GARMENTS)
    return gan.eval().requires_grad_(False)


def test_a_model_with_more_residual_blocks_computes_at_first_what_the_version_does() -> None:
    gan = untrained(kind="residual", blocks=3)
    begin_with(gan, VERSION)
    latents = torch.randn(8, gan.latent)
    (items,) = onnxruntime.InferenceSession(VERSION / "decode.onnx").run(None, {"latents": latents.numpy()})
    assert np.abs(items - gan.decode(latents).numpy()).max() < 1e-5
    (mean,) = onnxruntime.InferenceSession(VERSION / "encode.onnx").run(None, {"inputs": items})
    assert np.abs(mean - gan.encode(torch.from_numpy(items)).numpy()).max() < 1e-4
    assert sum(isinstance(part, ResidualBlock) for part in gan.modules()) == 3 * 2 * 3


def test_a_part_of_a_model_begins_with_its_part_of_the_version() -> None:
    whole, part = untrained(kind="residual"), untrained(kind="residual").encoder
    begin_with(whole, VERSION)
    assert part is not None
    begin_with(part, VERSION, prefix="encoder.")
    items = torch.rand(3, 1, 28, 28)
    assert torch.equal(part(items), whole.encode(items))


def test_other_networks_and_folders_that_are_no_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"of shape \[64, 64, 4, 4\] one of shape \[64, 32, 4, 4\]"):
        begin_with(untrained(kind="residual", channels=[64, 64]), VERSION)
    with pytest.raises(RecipeError, match="is no published version"):
        begin_with(untrained(), tmp_path / "model" / "1")


def test_a_run_that_has_begun_needs_the_version_that_it_started_from_no_more(
    digits: Dataset, tmp_path: Path
) -> None:
    published = newest("digits-vae")
    version = shutil.copytree(published, tmp_path / published.parent.name / published.name)
    table = read_recipe(RECIPES / "digits-vae.toml").model_dump(mode="json", exclude_none=True)
    table |= {"start": str(version), "loop": {"steps": 4, "batch_rows": 64, "stop_after": 2}}
    assert train(parse_recipe(table), digits, tmp_path / "run").steps == 2
    shutil.rmtree(version)
    del table["loop"]["stop_after"]
    assert train(parse_recipe(table), digits, tmp_path / "run", resume=True).steps == 4
