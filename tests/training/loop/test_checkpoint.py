import json
from pathlib import Path

import pytest
import torch

from tests.disk import followed
from training.loop.checkpoint import (
    Checkpoint,
    CheckpointError,
    has_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


class Unwritable:
    """Stands where JSON expects a value: the write fails after the tensors are on disk."""


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"model.weight": torch.full((2, 3), float(step))}, {"recipe": {"seed": 1}})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(7))
    found = read_checkpoint(tmp_path)
    assert found.step == 7
    assert torch.equal(found.part("model")["weight"], torch.full((2, 3), 7.0))
    assert found.state["recipe"] == {"seed": 1}


def test_channels_last_tensors_keep_their_values(tmp_path: Path) -> None:
    kernel = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    write_checkpoint(tmp_path, Checkpoint(1, {"kernel": kernel}, {}))
    assert torch.equal(read_checkpoint(tmp_path).tensors["kernel"], kernel)


def test_the_newest_is_read_and_older_ones_are_removed(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        write_checkpoint(tmp_path, checkpoint(step))
    assert read_checkpoint(tmp_path).step == 100
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


def test_a_write_that_fails_half_way_leaves_the_old_checkpoint_and_no_debris(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path, Checkpoint(2, checkpoint(2).tensors, {"recipe": Unwritable()}))
    assert read_checkpoint(tmp_path).step == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path) -> None:
    with followed() as disk:
        path = write_checkpoint(tmp_path, checkpoint(1))
    assert disk.before(path.name) == {path.name, *(file.name for file in path.iterdir())}
    assert disk.after(path.name) == {tmp_path.name}


def test_a_crash_half_way_leaves_a_folder_that_nobody_reads_and_the_next_checkpoint_removes(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    half = tmp_path / ".partial-crashed"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half")
    assert read_checkpoint(tmp_path).step == 1
    write_checkpoint(tmp_path, checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_a_damaged_or_edited_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint(3))
    for file in path.iterdir():
        whole = file.read_bytes()
        last_bit, edited = whole[:-1] + bytes([whole[-1] ^ 1]), whole.replace(b'"seed": 1', b'"seed": 2')
        for damaged in (last_bit, edited, b"damaged", b"[]", b"0"):
            file.write_bytes(damaged)
            if damaged != whole:
                with pytest.raises(CheckpointError, match="step-00000003"):
                    read_checkpoint(tmp_path)
        file.write_bytes(whole)
    assert read_checkpoint(tmp_path).step == 3


def test_a_checkpoint_without_a_hash_is_read(tmp_path: Path) -> None:
    state = write_checkpoint(tmp_path, checkpoint(3)) / "state.json"
    stored = json.loads(state.read_text())
    del stored["sha256"]
    state.write_text(json.dumps(stored))
    assert read_checkpoint(tmp_path).step == 3


def test_no_checkpoint_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="train first"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_holds_nothing_that_is_pickled(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint(1))
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "tensors.safetensors"]
