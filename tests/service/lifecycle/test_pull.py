"""Versions are fetched whole and as they were published, or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.format.versions import MANIFEST, read_manifest, sha256_of, verify_files
from tests.toy import publish_toy


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The version folder that a server has."""
    publish_toy(tmp_path / "published")
    return tmp_path / "published/toy-vae/1"


@pytest.fixture
def source(published: Path) -> Iterator[str]:
    """The URL of a web server of that folder's models."""
    handler = partial(QuietHandler, directory=str(published.parent.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def pin_of(version: Path) -> str:
    return f"{version.parent.name}/{version.name}@sha256:{sha256_of(version / MANIFEST)}"


def pulled(source: str, pins: str, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.lifecycle.remote"]
    options = ["--source", source, "--versions", pins, "--into", str(into)]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def kept(into: Path) -> list[Path]:
    """Every file that a service would find, and every trace of a fetch that failed."""
    return [path for path in into.rglob("*") if path.is_file()]


def test_a_version_arrives_whole_and_a_second_time_nothing_is_fetched(
    source: str, published: Path, tmp_path: Path
) -> None:
    into = tmp_path / "models"
    first = pulled(source, pin_of(published), into)
    assert first.returncode == 0, first.stderr
    verify_files(into / "toy-vae/1", read_manifest(into / "toy-vae/1"))
    pin = pin_of(published)
    shutil.rmtree(published)
    second = pulled(source, pin, into)
    assert (second.returncode, second.stderr) == (0, f"{pin}: there already, and whole\n")


@pytest.mark.parametrize("file", [MANIFEST, "decode.onnx"])
def test_one_changed_byte_is_refused_and_nothing_is_kept(
    source: str, published: Path, tmp_path: Path, file: str
) -> None:
    pin = pin_of(published)
    changed = bytearray((published / file).read_bytes())
    changed[-1] ^= 1
    (published / file).write_bytes(changed)
    told = pulled(source, pin, tmp_path / "models")
    assert told.returncode == 1
    assert "SHA-256" in told.stderr
    assert kept(tmp_path / "models") == []


def test_a_missing_file_is_told_and_nothing_is_kept(source: str, published: Path, tmp_path: Path) -> None:
    (published / "decode.onnx").unlink()
    told = pulled(source, pin_of(published), tmp_path / "models")
    assert told.returncode == 1
    assert "decode.onnx answered 404" in told.stderr
    assert kept(tmp_path / "models") == []


def test_a_version_in_another_ones_place_is_refused(source: str, published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, published.parent / "2")
    told = pulled(source, pin_of(published.parent / "2"), tmp_path / "models")
    assert told.returncode == 1
    assert "the manifest describes toy-vae/1" in told.stderr
    assert kept(tmp_path / "models") == []


def test_what_was_damaged_where_it_is_kept_is_refused(source: str, published: Path, tmp_path: Path) -> None:
    into = tmp_path / "models"
    assert pulled(source, pin_of(published), into).returncode == 0
    (into / "toy-vae/1/decode.onnx").write_bytes(b"")
    assert pulled(source, pin_of(published), into).returncode == 1


@pytest.mark.parametrize(
    ("source_url", "pins", "told"),
    [
        ("file:///", "toy-vae/1@sha256:" + "0" * 64, "PULL_SOURCE"),
        ("http://127.0.0.1:1", "../toy-vae/1@sha256:" + "0" * 64, "NAME/VERSION@sha256:DIGEST"),
        ("http://127.0.0.1:1", "toy-vae/1", "NAME/VERSION@sha256:DIGEST"),
    ],
)
def test_a_setting_that_does_not_fit_exits_2_and_says_in_one_line_what_does(
    source_url: str, pins: str, told: str, tmp_path: Path
) -> None:
    done = pulled(source_url, pins, tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
