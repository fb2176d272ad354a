"""`python -m service.pull`: fetches published versions over HTTP, and keeps only what is as it was published.

A version is named with the SHA-256 of its manifest, which pins every other file, so neither the server it
comes from nor the way is trusted. In a cluster this runs before the service, as an init container.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

from pydantic import AnyHttpUrl, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from service.contract import Manifest
from service.errors import InvalidVersion
from service.versions import (
    MANIFEST,
    flush_to_disk,
    parse_manifest,
    read_manifest,
    sha256_of,
    stage,
    verify_files,
)

IDLE_SECONDS = 60
"""Longest to wait for the next bytes."""
MAX_MANIFEST_BYTES = 4 * 2**20

_PIN = r"[a-z0-9][a-z0-9-]{0,62}/[1-9][0-9]{0,8}@sha256:[0-9a-f]{64}"


class PullSettings(BaseSettings):
    """Fetches published versions over HTTP and checks them by SHA-256.

    Every option can also be set as an environment variable, `--source` as PULL_SOURCE.
    """

    model_config = SettingsConfigDict(
        env_prefix="PULL_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="python -m service.pull",
        cli_kebab_case=True,
    )

    source: AnyHttpUrl
    """Where a folder of published versions is: SOURCE/NAME/VERSION/manifest.json and so on."""

    versions: Annotated[str, Field(pattern=rf"^\s*{_PIN}(\s+{_PIN})*\s*$")]
    """NAME/VERSION@sha256:DIGEST, the digest of its manifest.json; several with spaces between."""

    into: Path = Path("models")
    """Folder to keep them in, as NAME/VERSION/."""


class PinnedVersion(NamedTuple):
    """A version, and the SHA-256 of its manifest."""

    name: str
    version: str
    sha256: str


def pull(source: str, wanted: PinnedVersion, into: Path) -> bool:
    """Fetches a version, unless a whole one is there already; gives whether it was fetched.

    Raises:
        InvalidVersion: what is there, or what came, is not what was pinned.
        OSError, HTTPException: it cannot be fetched or written.
    """
    folder = into / wanted.name / wanted.version
    if folder.exists():
        _require(sha256_of(folder / MANIFEST), wanted)
        verify_files(folder, read_manifest(folder))
        return False
    url = f"{source.rstrip('/')}/{wanted.name}/{wanted.version}"
    staging = stage(into, wanted.name)
    try:
        with _opened(f"{url}/{MANIFEST}") as answer:
            document = answer.read(MAX_MANIFEST_BYTES)
        _require(hashlib.sha256(document).hexdigest(), wanted)
        (staging / MANIFEST).write_bytes(document)
        manifest = _manifest(document, wanted)
        for spec in manifest.files:
            with _opened(f"{url}/{spec.file}") as answer, (staging / spec.file).open("wb") as file:
                shutil.copyfileobj(answer, file, 2**20)
        verify_files(staging, manifest)
        for path in (*staging.iterdir(), staging):
            flush_to_disk(path)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def main() -> None:
    """Fetches what the settings name and exits 0; 1 where it cannot be had, 2 where they do not fit."""
    try:
        settings = CliApp.run(PullSettings)
    except (ValidationError, SettingsError) as error:
        _give_up(str(error), 2)
    for pin in settings.versions.split():
        wanted = PinnedVersion(*re.split("/|@sha256:", pin))
        try:
            fetched = pull(str(settings.source), wanted, settings.into)
        except urllib.error.HTTPError as error:
            _give_up(f"{pin}: {error.url} answered {error.code}", 1)
        except (InvalidVersion, OSError, HTTPException) as error:
            _give_up(f"{pin}: {error}", 1)
        sys.stderr.write(f"{pin}: {'fetched and verified' if fetched else 'there already, and whole'}\n")


def _opened(url: str) -> HTTPResponse:
    answer: HTTPResponse = urllib.request.urlopen(url, timeout=IDLE_SECONDS)  # an http or https URL
    return answer


def _manifest(document: bytes, wanted: PinnedVersion) -> Manifest:
    manifest = parse_manifest(document, MANIFEST)
    if (manifest.name, str(manifest.version)) != (wanted.name, wanted.version):
        raise InvalidVersion(f"the manifest describes {manifest.name}/{manifest.version}")
    return manifest


def _require(sha256: str, wanted: PinnedVersion) -> None:
    if sha256 != wanted.sha256:
        raise InvalidVersion(f"the manifest's SHA-256 is {sha256}, pinned was {wanted.sha256}")


def _give_up(reason: str, status: int) -> NoReturn:
    sys.stderr.write(f"pull: {reason}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
