"""The local copy of a source that fsspec reads as it reads an object store; here the source is a folder."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import SourceUnavailable
from service.format.aliases import read_aliases, write_aliases
from service.format.versions import MANIFEST
from service.lifecycle import remote
from service.lifecycle.remote import Mirror
from service.lifecycle.source import scan
from tests.damage import change_manifest, flip_a_byte, take_the_graph_away
from tests.toy import publish_toy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def mirror_of(source: Path, copy: Path) -> Mirror:
    return Mirror(f"file://{source}", copy)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def versions(copy: Path) -> dict[str, list[int]]:
    return {name: sorted(model.versions) for name, model in scan(copy).items()}


def test_versions_and_aliases_are_copied_byte_by_byte_and_what_goes_is_taken_out(
    source: Path, copy: Path
) -> None:
    first, second = publish_toy(source), publish_toy(source)
    write_aliases(source / "toy-vae", {"champion": 1})
    mirror = mirror_of(source, copy)
    mirror.refresh()
    assert versions(copy) == {"toy-vae": [1, 2]}
    assert contents(copy / "toy-vae/2") == contents(second)
    assert read_aliases(copy / "toy-vae") == {"champion": 1}
    shutil.rmtree(first)
    (source / "toy-vae/aliases.json").unlink()
    publish_toy(source, "other-vae")
    mirror.refresh()
    assert versions(copy) == {"other-vae": [1], "toy-vae": [2]}
    assert read_aliases(copy / "toy-vae") == {}
    assert not list(copy.glob(".partial-*"))


def test_the_reason_why_a_version_is_not_copied_is_told_while_the_source_is_read_again(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_a_byte(publish_toy(source))
    mirror = mirror_of(source, copy)
    mirror.refresh()
    told, listed = [], mirror._files.ls

    def listing(*names: str, **how: bool) -> Any:
        told.append({*mirror.unfetched})
        return listed(*names, **how)

    monkeypatch.setattr(mirror._files, "ls", listing)
    mirror.refresh()
    assert told == [{("toy-vae", 1)}] * 3  # of the models, their versions, and the files of one


@pytest.mark.parametrize("damage", [flip_a_byte, take_the_graph_away])
def test_a_damaged_version_is_not_copied_until_it_is_mended(
    source: Path, copy: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    publish_toy(source)
    version = publish_toy(source)
    whole = contents(version)
    assert callable(damage)
    damage(version)
    mirror = mirror_of(source, copy)
    mirror.refresh()
    mirror.refresh()
    assert versions(copy) == {"toy-vae": [1]}
    assert caplog.text.count("toy-vae/2 stays out") == 1
    for name, content in whole.items():
        (version / name).write_bytes(content)
    mirror.refresh()
    assert versions(copy) == {"toy-vae": [1, 2]}


def test_a_manifest_cannot_name_a_file_outside_its_version(source: Path, copy: Path) -> None:
    publish_toy(source)
    version = publish_toy(source)
    change_manifest(version, lambda manifest: manifest["self_test"].update(file="../../../escaped"))
    mirror_of(source, copy).refresh()
    assert versions(copy) == {"toy-vae": [1]}


def test_a_source_that_is_gone_or_empty_leaves_the_copy_as_it_is(source: Path, copy: Path) -> None:
    publish_toy(source)
    mirror = mirror_of(source, copy)
    mirror.refresh()
    shutil.rmtree(source)
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            mirror.refresh()
        assert versions(copy) == {"toy-vae": [1]}
        source.mkdir(exist_ok=True)


def test_what_a_killed_process_had_fetched_is_removed_and_what_another_fetches_now_is_not(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(source)
    download, left = Mirror._download, list[str]()

    def download_beside_another_start(mirror: Mirror, path: str, to: Path) -> None:
        download(mirror, path, to)
        mirror_of(source, copy)
        left.append(to.name)
        assert to.is_file()

    for folder in (copy / "toy-vae/.partial-of-a-version", copy / ".partial-that-was-to-be-removed"):
        folder.mkdir(parents=True)
        (folder / "weights.bin").touch()
    monkeypatch.setattr(Mirror, "_download", download_beside_another_start)
    mirror_of(source, copy).refresh()
    assert MANIFEST in left
    assert [path.name for path in copy.rglob(".partial-*")] == []
    assert contents(copy / "toy-vae/1") == contents(source / "toy-vae/1")


def test_a_kind_of_source_that_nothing_reads_is_refused_at_once(copy: Path) -> None:
    with pytest.raises(SourceUnavailable, match="extra `remote`"):
        Mirror("gopher://somewhere/models", copy)


def test_a_source_of_a_kind_that_connects_at_once_is_refused_if_it_cannot(copy: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SourceUnavailable, match=r"Connection refused.*s3://"):
        Mirror(f"ftp://127.0.0.1:{port}/models", copy)


ON_A_SMALL_DISK = """
mount -t tmpfs -o "$3" small "$2" && exec "$0" -c '
import errno, os, sys
from pathlib import Path
from service.lifecycle import remote
from service.lifecycle.remote import Mirror
mirror, copy = Mirror(f"file://{sys.argv[1]}", Path(sys.argv[2])), Path(sys.argv[2])
try:
    Path(copy / ".ballast").write_bytes(bytes(2**16))
except OSError as error:
    assert error.errno == errno.ENOSPC
mirror.refresh()
mirror.refresh()
print(mirror.unfetched, sorted(path.name for path in copy.rglob("*") if path.is_file()))
(copy / ".ballast").unlink()
os.system(f"mount -o remount,size=4m,nr_inodes=100 small {copy}")
mirror.refresh()
print(mirror.unfetched, (copy / "toy-vae/1/manifest.json").exists())
' "$1" "$2"
"""
"""Fills a small disk, refreshes the copy on it twice, and again once there is room."""


@pytest.mark.parametrize("disk", ["size=16k", "nr_inodes=2"])
def test_a_full_disk_leaves_a_version_out_and_no_part_of_it_until_there_is_room(
    source: Path, copy: Path, disk: str
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("a file system of one's own may not be mounted here")
    publish_toy(source)
    copy.mkdir()
    command = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK]
    done = subprocess.run([*command, sys.executable, source, copy, disk], capture_output=True, text=True)
    reason = "it cannot be fetched now: No space left on device"
    assert done.stdout.splitlines() == [f"{{('toy-vae', 1): '{reason}'}} ['.ballast']", "{} True"], (
        done.stderr
    )
    assert done.stderr.count("No space left on device") == 1  # though two polls in a row had none


def test_a_source_that_takes_a_connection_and_never_answers_is_given_up(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirror = Mirror(f"http://127.0.0.1:{silent.getsockname()[1]}/models", copy)
        with pytest.raises(SourceUnavailable, match="cannot be listed"):
            mirror.refresh()
