"""Versions from an object store or a web server: a mirror of a whole source, and pinned versions one by one.

A version is fetched as a whole, checked against its own hashes, and put in its place by one rename, so the
local copy is a models folder like any other. `Mirror` needs the extra `remote`; `python -m
service.lifecycle.remote` fetches pinned versions over HTTP without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

from pydantic import AnyHttpUrl, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from service.errors import InvalidAliases, InvalidVersion, SourceUnavailable
from service.format.aliases import ALIASES_FILE, read_aliases, write_aliases
from service.format.documented import Documented
from service.format.manifest import MODEL_NAME, VERSION, Manifest
from service.format.versions import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    put_in_place,
    read_manifest,
    sha256_of,
    stage,
    verify_files,
    version_folders,
)

_PIN: Final = rf"{MODEL_NAME}/{VERSION}@sha256:[0-9a-f]{{64}}"
SILENT_SECONDS: Final = 30.0
"""Longest time for which an HTTP source may say nothing."""
log = logging.getLogger(__name__)

Download = Callable[[str, Path], None]
"""Copies the file at a path NAME/VERSION/FILE of a source to a local path. Each source has its own errors."""


def fetch(download: Download, name: str, version: str, models: Path, sha256: str | None = None) -> None:
    """Fetch a version into the folder `models`: all of it, or nothing. `sha256` is that of a pinned manifest.

    Raises:
        InvalidVersion: the version is not what its manifest or the pin says.
        OSError: it cannot be written, or another process has put it there first.
    """
    with _staging(models, name) as staging:
        try:
            download(f"{name}/{version}/{MANIFEST}", staging / MANIFEST)
            manifest = _checked_manifest(staging, name, version, sha256)
            for spec in manifest.files:
                download(f"{name}/{version}/{spec.file}", staging / spec.file)
            verify_files(staging, manifest)
            put_in_place(staging, models / name / version)
        except InvalidVersion as error:
            raise InvalidVersion(error.detail.replace(f"{staging}/", "")) from error


@contextlib.contextmanager
def _staging(models: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder beside the versions of a model, which is locked, and removed in the end."""
    folder = stage(models, name)
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS has no such locks
            flock(lock, LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(models: Path) -> None:
    """Remove what processes that were killed had staged, whose locks are free.

    A folder without files takes no room, and may be about to be locked.
    """
    for folder in [*models.glob(".partial-*"), *models.glob("*/.partial-*")]:
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                flock(lock, LOCK_EX | LOCK_NB)
                if any(folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _checked_manifest(folder: Path, name: str, version: str, sha256: str | None) -> Manifest:
    if (folder / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
        raise InvalidVersion(f"the manifest has more than {MAX_MANIFEST_BYTES} bytes")
    if sha256 is not None and (came := sha256_of(folder / MANIFEST)) != sha256:
        raise InvalidVersion(f"the manifest's SHA-256 is {came}, pinned was {sha256}")
    return read_manifest(folder, name, version)


def _options(url: str) -> dict[str, Any]:
    """Return options of the library for a kind of source: times for HTTP, which has five minutes in all."""
    if not url.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def reason_of(error: Exception) -> str:
    """Return the system's text for an error, or the name of its class; never a path or an address."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else type(error).__name__


def with_cause(error: Exception) -> str:
    """Return an error for the log, with what a library of the source said, which may have addresses."""
    return f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error)


def without_paths(error: Exception) -> str:
    """Return why a look at the folder or its source failed, for everybody to read."""
    if isinstance(error, SourceUnavailable) or (isinstance(error, OSError) and not error.errno):  # our own
        return str(error)
    return f"the models folder cannot be read: {reason_of(error)}"


class Mirror:
    """Keeps the folder `copy` equal to the models folder at `url`; call `refresh` before every scan.

    Several processes may share a copy: each fetches into its own staging folder, and the first one is kept.
    """

    def __init__(self, url: str, copy: Path) -> None:
        """Take both places, and tidy up the copy; the source is not contacted yet.

        Raises:
            SourceUnavailable: the package for this kind of source is not installed, or there is no such kind.
        """
        try:
            import fsspec

            self._files, root = fsspec.url_to_fs(url, **_options(url))
            self._progress = fsspec.Callback(hooks={"stop": self._raise_if_stopped})
        except (ImportError, ValueError) as error:
            raise SourceUnavailable(
                f"the source cannot be read ({error}); install the extra `remote`, and for gs:// gcsfs too"
            ) from error
        except Exception as error:  # some kinds connect at once, and each has errors of its own
            raise SourceUnavailable(
                f"the source cannot be read ({reason_of(error)}); s3://, gs:// and https:// are"
            ) from error
        _remove_abandoned(copy)
        self._root = root.rstrip("/")
        self._copy = copy
        self._stopped = False
        self._refused: dict[str, tuple[str, str]] = {}
        """The listing of a version that was refused, and the reason, by NAME/VERSION."""
        self.unfetched: dict[tuple[str, int], str] = {}
        """The reason why a version could not be fetched at the last refresh, by name and number.

        It is replaced as a whole, because others read it while a refresh goes on.
        """

    def stop(self) -> None:
        """Make a refresh in another thread end at its next bytes; a version may take hours to fetch."""
        self._stopped = True

    def refresh(self) -> None:
        """Fetch new versions, and remove those that have gone. Blocks; bad versions are logged and left out.

        Raises:
            SourceUnavailable: the source cannot be listed, or is empty; the copy stays as it is.
        """
        self._copy.mkdir(parents=True, exist_ok=True)
        self._files.invalidate_cache()
        try:
            models = {name: set(self._names(f"/{name}", VERSION)) for name in self._names("", MODEL_NAME)}
        except Exception as error:  # each kind of source has its own
            raise SourceUnavailable(f"the source cannot be listed ({type(error).__name__})") from error
        if not any(models.values()):
            raise SourceUnavailable("the source holds no version")
        unfetched = {}
        for name, versions in models.items():
            for version in sorted(versions, key=int, reverse=True):
                if not (self._copy / name / version).exists() and (reason := self._fetch(name, version)):
                    unfetched[name, int(version)] = reason
                if self._stopped:
                    return
            self._fetch_aliases(name)
        self.unfetched = unfetched
        self._remove_all_but(models)

    def _names(self, folder: str, pattern: str) -> list[str]:
        """Return the names in a folder of the source that match."""
        paths = self._files.ls(self._root + folder, detail=False)
        names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths]
        return [name for name in names if re.fullmatch(pattern, name)]

    def _download(self, path: str, to: Path) -> None:
        self._files.get_file(f"{self._root}/{path}", str(to), callback=self._progress)

    def _raise_if_stopped(self, *_: object) -> None:
        if self._stopped:
            raise SourceUnavailable("the service is shutting down")

    def _fetch(self, name: str, version: str) -> str:
        """Fetch a version; return why it could not be fetched, or an empty text."""
        path, listing = f"{name}/{version}", ""
        try:
            listing = repr(self._files.ls(f"{self._root}/{path}", detail=True))
            before, reason = self._refused.get(path, ("", ""))
            if before != listing:
                fetch(self._download, name, version, self._copy)
                return ""
        except (InvalidVersion, FileNotFoundError) as error:  # until one of its files changes
            reason = error.detail if isinstance(error, InvalidVersion) else "a file is missing"
            self._refused[path] = listing, reason
            log.error("%s stays out: %s", path, reason)  # noqa: TRY400
        except Exception as error:  # each kind of source has its own
            if self._stopped or (self._copy / path).exists():  # another process has fetched it
                return ""
            reason = f"it cannot be fetched now: {reason_of(error)}"
            if self.unfetched.get((name, int(version))) != reason:  # else it was told before
                log.error("%s: %s; it is tried at each poll", path, reason)  # noqa: TRY400
        return reason

    def _fetch_aliases(self, name: str) -> None:
        model = self._copy / name
        if not model.is_dir():
            return
        try:
            with _staging(self._copy, name) as staging:
                self._download(f"{name}/{ALIASES_FILE}", staging / ALIASES_FILE)
                if (aliases := read_aliases(staging)) != read_aliases(model):
                    write_aliases(model, aliases)
        except FileNotFoundError:
            (model / ALIASES_FILE).unlink(missing_ok=True)
        except InvalidAliases as error:
            log.error("%s", error.detail.replace(staging.name, name))  # noqa: TRY400
        except Exception as error:
            log.warning("the aliases of %s cannot be followed now (%s)", name, reason_of(error))

    def _remove_all_but(self, models: dict[str, set[str]]) -> None:
        for model in [path for path in self._copy.iterdir() if re.fullmatch(MODEL_NAME, path.name)]:
            for folder in version_folders(model):
                if folder.name not in models.get(model.name, ()):
                    aside = self._copy / f".partial-{secrets.token_hex(4)}"
                    os.replace(folder, aside)  # at once, so that nobody finds half of it
                    shutil.rmtree(aside, ignore_errors=True)


class PullSettings(Documented, BaseSettings):
    """Fetch published versions over HTTP and check them by SHA-256.

    Every option can also be set as an environment variable, `--source` as PULL_SOURCE.
    """

    model_config = SettingsConfigDict(
        env_prefix="PULL_",
        frozen=True,
        extra="forbid",
        cli_prog_name="python -m service.lifecycle.remote",
        cli_kebab_case=True,
    )

    source: AnyHttpUrl
    """URL of a folder of published versions, SOURCE/NAME/VERSION/manifest.json and so on."""

    versions: Annotated[str, Field(pattern=rf"^\s*{_PIN}(\s+{_PIN})*\s*$")]
    """Versions to fetch, separated by spaces: NAME/VERSION@sha256:DIGEST, the digest of manifest.json."""

    into: Path = Path("models")
    """Folder to keep them in, as NAME/VERSION/."""


def pull(source: str, pin: str, into: Path) -> bool:
    """Fetch a version, NAME/VERSION@sha256:DIGEST, unless it is there already. Return True if it was fetched.

    Raises:
        InvalidVersion: the version, there or fetched, is not what was pinned.
        OSError, HTTPException: it cannot be fetched or written.
    """
    name, version, sha256 = re.split("/|@sha256:", pin)

    def download(path: str, to: Path) -> None:
        url = f"{source.rstrip('/')}/{path}"
        with urllib.request.urlopen(url, timeout=60) as answer, to.open("wb") as file:
            shutil.copyfileobj(answer, file, 2**20)

    folder = into / name / version
    if not folder.exists():
        fetch(download, name, version, into, sha256)
        return True
    verify_files(folder, _checked_manifest(folder, name, version, sha256))
    return False


def main() -> None:
    """Fetch the versions that the settings name; exit with 0, 1 if one cannot be had, 2 for bad settings."""
    PullSettings.describe_fields()
    try:
        settings = CliApp.run(PullSettings)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        if name not in PullSettings.model_fields:
            _give_up(str(error), 2)
        meaning = PullSettings.model_fields[name].description
        _give_up(f"--{name}, or PULL_{name.upper()}, is missing or does not fit. It is: {meaning}", 2)
    except SettingsError as error:
        _give_up(str(error), 2)
    for pin in settings.versions.split():
        try:
            fetched = pull(str(settings.source), pin, settings.into)
        except urllib.error.HTTPError as error:
            _give_up(f"{pin}: {error.url} answered {error.code}", 1)
        except (InvalidVersion, OSError, HTTPException) as error:
            _give_up(f"{pin}: {error}", 1)
        sys.stderr.write(f"{pin}: {'fetched and verified' if fetched else 'there already, and whole'}\n")


def _give_up(reason: str, status: int) -> NoReturn:
    sys.stderr.write(f"pull: {reason}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
