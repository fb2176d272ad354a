"""The surprise of single columns does not depend on the last digits of what the networks give."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from tests.training.data.own_data import load, write_csv
from training.anomaly.columns import fit_columns
from training.models.vae import make_vae
from training.recipe import parse_recipe


def test_no_column_of_a_row_like_most_others_is_hidden_by_rounding(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    flags = {f"flag {place}": (random.random(400) < 0.02).astype(int).tolist() for place in range(30)}
    path = write_csv(tmp_path / "flags.csv", flags)
    recipe = parse_recipe(
        {
            "name": "flags",
            "data": {"dataset": "table", "path": str(path)},
            "network": {"kind": "dense", "latent": 2, "hidden": [8]},
            "vae": {"likelihood": "gaussian"},
            "loop": {"steps": 1},
        }
    )
    dataset = load("table", path)
    torch.manual_seed(0)
    vae = make_vae(recipe, dataset).eval()
    with torch.no_grad():
        for weight in vae.parameters():  # as training does, so that a hidden column changes the others
            weight.mul_(3)
    held_out = torch.from_numpy(dataset.items["validation"])
    judge = fit_columns(vae, dataset, held_out)
    assert judge is not None
    tensors = {field.name: getattr(judge, field.name) for field in fields(judge)}
    doubles = replace(judge, **{name: each.double() for name, each in tensors.items() if name != "first"})
    with torch.no_grad():
        singly = judge(vae, held_out)
        exactly = doubles(vae.double(), held_out.double())
    torch.testing.assert_close(singly.double(), exactly, atol=1e-4, rtol=1e-4)
