"""Files of torch.export and TorchScript are published as their modules are; no code in them is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pushforward.publishing import UnfitModel, publish_vae
from service.format.versions import read_manifest
from tests.networks import Decoder, Encoder
from tests.pushforward.publishing.torch_files import program, script
from training.export.own.torch_files import read_torch_file
from training.export.sessions import open_graph

pytestmark = [pytest.mark.exports, pytest.mark.timeout(300)]

LATENT, SHAPE = 3, (1, 4, 4)
PLACES = {"program": "models/model.json", "weights": "data/weights/model_weights_config.json"}


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return Encoder(16, LATENT).eval(), Decoder(LATENT, SHAPE).eval()


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Writes the file again with other parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (folder,) = {name.partition("/")[0] for name in parts}
    inner = {name.partition("/")[2]: part for name, part in parts.items()}
    change(inner)
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in inner.items():
            archive.writestr(f"{folder}/{name}", part)
    return path


def edited(place: str, edit: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        document = json.loads(parts[PLACES[place]])
        edit(document)
        parts[PLACES[place]] = json.dumps(document).encode()

    return change


@pytest.mark.parametrize("kind", ["program", "scripted", "traced"])
def test_a_vae_is_published_from_its_files_as_from_its_modules(kind: str, tmp_path: Path) -> None:
    encoder, decoder = networks()
    if kind == "program":
        files = program(tmp_path / "e.pt2", encoder, *SHAPE), program(tmp_path / "d.pt2", decoder, LATENT)
    else:
        pair = encoder, decoder
        if kind == "scripted":  # the ones above call modules by name, which scripts cannot
            pair = (
                nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * LATENT)).eval(),
                nn.Sequential(nn.Linear(LATENT, 16), nn.Sigmoid(), nn.Unflatten(1, SHAPE)).eval(),
            )
        encoder, decoder = pair
        files = (
            script(tmp_path / "e.pt", encoder, *SHAPE, traced=kind == "traced"),
            script(tmp_path / "d.pt", decoder, LATENT, traced=kind == "traced"),
        )
    version = publish_vae("files", *files, latent_size=LATENT, item_shape=SHAPE, models=tmp_path)
    origin = read_manifest(version).provenance.origin
    assert origin is not None
    assert origin["encoder"] == {
        "file": files[0].name, "torch": "torch.export" if kind == "program" else "TorchScript",
    }  # fmt: skip
    latents = np.random.default_rng(0).standard_normal((5, LATENT), dtype=np.float32)
    (samples,) = open_graph(version, "decode").run(None, {"latents": latents})
    with torch.no_grad():
        np.testing.assert_allclose(samples, decoder(torch.from_numpy(latents)).numpy(), atol=1e-5)


class Touch:
    """An action that a pickle would run when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_object_in_a_file_is_unpickled(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    payload = pickle.dumps(Touch(touched))
    torch.save(Touch(touched), tmp_path / "whole.pt")
    with pytest.raises(UnfitModel, match="pickled objects of Python, which may run any code"):
        read_torch_file("the encoder", tmp_path / "whole.pt")

    def pickles_a_weight(parts: dict[str, bytes]) -> None:
        edited("weights", lambda it: next(iter(it["config"].values())).update(use_pickle=True))(parts)
        parts["data/weights/weight_0"] = payload

    path = program(tmp_path / "weight.pt2", networks()[0], *SHAPE)
    with pytest.raises(UnfitModel, match=r"the pickled hidden\.weight"):
        read_torch_file("the encoder", changed(path, pickles_a_weight))
    path = program(tmp_path / "inputs.pt2", networks()[0], *SHAPE)
    pickled = (tmp_path / "whole.pt").read_bytes()
    read_torch_file(
        "the encoder", changed(path, lambda parts: parts.update({"data/sample_inputs/model.pt": pickled}))
    )
    assert not touched.exists()


def test_a_program_that_names_more_than_operators_is_refused(tmp_path: Path) -> None:
    def node(it: Any) -> Any:
        return it["graph_module"]["graph"]["nodes"][0]

    refusals: list[tuple[Callable[[Any], None], str]] = [
        (lambda it: node(it).update(target="torch.os.system"), r"a call of 'torch\.os\.system'"),
        (
            lambda it: node(it).update(target="torch.ops.aten.from_file.default"),
            "a call of 'torch.ops.aten.from",
        ),
        (lambda it: it["range_constraints"].update({"exec(chr(49))": {}}), r"the size 'exec\(chr\(49\)\)'"),
        (
            lambda it: node(it)["inputs"].append({"arg": {"as_int": {"expr_str": "eval(chr(49))"}}}),
            r"the size 'eval\(chr\(49\)\)'",
        ),
        (lambda it: node(it)["inputs"].append({"arg": {"as_graph": {}}}), "an argument as_graph"),
        (lambda it: it.pop("graph_module"), "is no program of torch.export"),
    ]
    for index, (edit, words) in enumerate(refusals):
        path = program(tmp_path / f"{index}.pt2", networks()[0], *SHAPE)
        with pytest.raises(UnfitModel, match=words):
            read_torch_file("the encoder", changed(path, edited("program", edit)))


def test_guards_and_notes_of_a_program_are_left_out(tmp_path: Path) -> None:
    path = program(tmp_path / "e.pt2", networks()[0], *SHAPE)

    def guarded(it: Any) -> None:
        it["guards_code"] = [f"__import__('pathlib').Path({str(tmp_path / 'touched')!r}).touch()"]

    source = read_torch_file("the encoder", changed(path, edited("program", guarded)))
    assert len(source.run(np.zeros((2, *SHAPE), np.float32))) == 2
    assert not (tmp_path / "touched").exists()


class Saves(nn.Module):
    def forward(self, items: Tensor) -> Tensor:
        torch.save(items, "taken")
        return items


def test_a_script_that_touches_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitModel, match=r"has in it torch\.save: more than a network needs"):
        read_torch_file("the encoder", script(tmp_path / "s.pt", Saves()))
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(UnfitModel, match="cannot be read as a file of torch"):
        read_torch_file("the encoder", tmp_path / "text.pt")


def test_a_fixed_batch_and_training_mode_are_refused_from_files_too(tmp_path: Path) -> None:
    encoder, _ = networks()
    fixed = program(tmp_path / "e.pt2", encoder, *SHAPE, rows=8)
    normed = nn.Sequential(nn.Linear(LATENT, 16), nn.BatchNorm1d(16), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
    training = script(tmp_path / "d.pt", normed.train())
    with pytest.raises(UnfitModel) as caught:
        publish_vae(
            "files", fixed, training, latent_size=LATENT, item_shape=SHAPE, models=tmp_path / "models"
        )
    assert "takes batches of exactly 8 rows: its first axis is fixed" in str(caught.value)
    assert "the decoder is in training mode, in which BatchNorm1d" in str(caught.value)
    assert not (tmp_path / "models").exists()
