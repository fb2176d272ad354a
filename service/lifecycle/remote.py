"""A local copy of the versions that an object store or a web server holds, as s3://, gs:// or https://.

A version is fetched as a whole, checked against its own hashes, and put in its place by one rename, so the
copy is a models folder like any other. Needs the extra `remote`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated, Final, NamedTuple, NoReturn

from pydantic import AnyHttpUrl, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from service.errors import InvalidAliases, InvalidVersion, SourceUnavailable
from service.format.aliases import ALIASES_FILE, read_aliases, write_aliases
from service.format.manifest import Manifest
from service.format.versions import (
    MANIFEST,
    flush_to_disk,
    parse_manifest,
    read_manifest,
    sha256_of,
    stage,
    verify_files,
    version_folders,
)

_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
_MOST_BYTES_OF_A_MANIFEST: Final = 2**26
log = logging.getLogger(__name__)


class Mirror:
    """Keeps `copy` as the models folder at `url` is; `refresh` it before every look.

    Several processes may share a copy: each fetches into a folder of its own, and the first one is taken.
    """

    def __init__(self, url: str, copy: Path) -> None:
        """Takes both places; nothing is asked of the source yet.

        Raises:
            SourceUnavailable: what speaks to such a source is not installed, or there is no such kind.
        """
        try:
            import fsspec

            self._files, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SourceUnavailable(
                f"the source cannot be read ({error}); install the extra `remote`, and for gs:// gcsfs too"
            ) from error
        self._root = root.rstrip("/")
        self._copy = copy
        self._refused: dict[tuple[str, str], str] = {}

    def refresh(self) -> None:
        """Fetches what has come, and takes out what has gone. Blocks; bad versions are logged, and stay out.

        Raises:
            SourceUnavailable: the source cannot be listed, or is empty; the copy stays as it is.
        """
        self._copy.mkdir(parents=True, exist_ok=True)
        self._files.invalidate_cache()
        try:
            models = {name: set(self._names(name, _VERSION)) for name in self._names("", _MODEL)}
        except Exception as error:  # each kind of source has its own
            raise SourceUnavailable(f"the source cannot be listed ({type(error).__name__})") from error
        if not any(models.values()):
            raise SourceUnavailable("the source holds no version")
        for name, versions in models.items():
            for version in sorted(versions, key=int, reverse=True):
                if not (self._copy / name / version).exists():
                    self._fetch(name, version)
            self._fetch_aliases(name)
        self._take_out_all_but(models)

    def _names(self, folder: str, pattern: re.Pattern[str]) -> Iterator[str]:
        """The names in a folder of the source that match."""
        for path in self._files.ls(self._at(folder), detail=False):
            name = str(path).rstrip("/").rsplit("/", 1)[-1]
            if pattern.fullmatch(name):
                yield name

    def _at(self, *parts: str) -> str:
        return "/".join((self._root, *filter(None, parts)))

    def _fetch(self, name: str, version: str) -> None:
        staging = self._copy / f".partial-{secrets.token_hex(4)}"
        folder = staging / name / version
        folder.mkdir(parents=True)
        listing = ""
        try:
            listing = repr(self._files.ls(self._at(name, version), detail=True))
            if self._refused.get((name, version)) != listing:
                self._fetch_files(name, version, folder)
        except (InvalidVersion, FileNotFoundError) as error:  # until something of it changes
            self._refused[name, version] = listing
            reason = error.detail if isinstance(error, InvalidVersion) else "a file is missing"
            log.error("%s/%s stays out: %s", name, version, reason.replace(f"{folder}/", ""))  # noqa: TRY400
        except Exception as error:  # each kind of source has its own
            log.warning("%s/%s cannot be fetched now (%s)", name, version, type(error).__name__)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _fetch_files(self, name: str, version: str, folder: Path) -> None:
        (folder / MANIFEST).write_bytes(self._read(name, version, MANIFEST))
        manifest = read_manifest(folder)
        for spec in manifest.files:
            self._files.get_file(self._at(name, version, spec.file), str(folder / spec.file))
        verify_files(folder, manifest)
        (self._copy / name).mkdir(exist_ok=True)
        with contextlib.suppress(OSError):  # another process put it there first
            folder.rename(self._copy / name / version)

    def _read(self, *parts: str) -> bytes:
        with self._files.open(self._at(*parts), "rb") as file:
            content: bytes = file.read(_MOST_BYTES_OF_A_MANIFEST)
            return content

    def _fetch_aliases(self, name: str) -> None:
        model = self._copy / name
        if not model.is_dir():
            return
        try:
            content = self._read(name, ALIASES_FILE)
        except FileNotFoundError:
            (model / ALIASES_FILE).unlink(missing_ok=True)
            return
        except Exception as error:
            log.warning("the aliases of %s cannot be fetched now (%s)", name, type(error).__name__)
            return
        staging = self._copy / f".partial-{secrets.token_hex(4)}" / name
        staging.mkdir(parents=True)
        (staging / ALIASES_FILE).write_bytes(content)
        try:
            if (aliases := read_aliases(staging)) != read_aliases(model):
                write_aliases(model, aliases)
        except InvalidAliases as error:
            log.error("%s", error.detail)  # noqa: TRY400
        finally:
            shutil.rmtree(staging.parent, ignore_errors=True)

    def _take_out_all_but(self, models: dict[str, set[str]]) -> None:
        for model in [path for path in self._copy.iterdir() if _MODEL.fullmatch(path.name)]:
            for folder in version_folders(model):
                if folder.name not in models.get(model.name, ()):
                    aside = self._copy / f".partial-{secrets.token_hex(4)}"
                    os.replace(folder, aside)  # at once, so that nobody finds half of it
                    shutil.rmtree(aside, ignore_errors=True)


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
        cli_prog_name="python -m service.lifecycle.remote",
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
