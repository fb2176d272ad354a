"""Aliases: names for versions of a model, such as `champion` and `challenger`.

`models/NAME/aliases.json` is one JSON object, alias: version. It is always replaced as a whole, by rename, so
no reader sees half of it. `pushforward-alias` writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from service.errors import InvalidAliases
from service.format.versions import MANIFEST, flush_to_disk, read_plain_file, version_folders

CHAMPION: Final = "champion"
"""The alias of the version that answers requests which name none; without it, the newest version does."""
ALIASES_FILE: Final = "aliases.json"
_MOST_BYTES: Final = 2**16

AliasName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
_ALIASES: Final = TypeAdapter(dict[AliasName, Annotated[int, Field(ge=1, strict=True)]])


def read_aliases(model: Path) -> dict[str, int]:
    """Read the aliases in a model's folder; no file means no aliases.

    Raises:
        InvalidAliases: the file cannot be read, or is not what `pushforward-alias` writes.
    """
    path = model / ALIASES_FILE
    try:
        return _ALIASES.validate_json(read_plain_file(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidAliases(f"{model.name}/{ALIASES_FILE}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise InvalidAliases(
            f"{model.name}/{ALIASES_FILE}: {flaw}; it takes one object of names and versions, as "
            f'{{"{CHAMPION}": 2}}'
        ) from error


def write_aliases(model: Path, aliases: Mapping[str, int]) -> None:
    """Replace the aliases of a model; a reader, or a crash, finds either the old or the new ones.

    Raises:
        InvalidAliases: a name or a version is not valid.
    """
    try:
        checked = _ALIASES.validate_python(dict(aliases))
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise InvalidAliases(
            f"{flaw}; an alias is lower-case letters, digits and dashes, a version a number"
        ) from error
    staged = model / f".{ALIASES_FILE}-{secrets.token_hex(4)}"
    try:
        staged.write_text(json.dumps(checked, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        error.filename = str(model / ALIASES_FILE)  # not the name that it is staged under
        raise
    flush_to_disk(staged)
    os.replace(staged, model / ALIASES_FILE)
    flush_to_disk(model)


def change_alias(model: Path, alias: str, version: int | None) -> dict[str, int]:
    """Set an alias, or remove it if `version` is None; return all aliases of the model.

    Raises:
        InvalidAliases: there is no such version or alias; says which there are.
    """
    aliases = read_aliases(model)
    if version is not None:
        if not (model / str(version) / MANIFEST).is_file():
            there = ", ".join(folder.name for folder in reversed(version_folders(model))) or "none"
            raise InvalidAliases(f"{model.name} has no version {version}; it has: {there}")
        aliases[alias] = version
    elif alias not in aliases:
        raise InvalidAliases(f"{model.name} has no alias {alias}; it has: {', '.join(aliases) or 'none'}")
    else:
        del aliases[alias]
    write_aliases(model, aliases)
    return aliases


def main() -> None:
    """`pushforward-alias`: show, set or remove aliases; exit with 2 if that fails."""
    parser = argparse.ArgumentParser(
        prog="pushforward-alias",
        description=f"Name versions of a model. Requests that name no version go to the {CHAMPION}.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("alias", nargs="?", help=f"{CHAMPION}, challenger, or any name")
    parser.add_argument("version", nargs="?", type=int, help="the version that it shall name")
    parser.add_argument("--remove", action="store_true", help="remove the alias")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("PUSHFORWARD_MODELS", "models")),
        help="folder of published versions (default: PUSHFORWARD_MODELS, or models)",
    )
    given = parser.parse_args()
    if (given.alias is not None) != (given.remove != (given.version is not None)):
        parser.error("give an alias and a version, an alias and --remove, or neither")
    folder = given.models / given.model
    if not folder.is_dir():
        parser.exit(2, f"pushforward-alias: there is no model {given.model} under {given.models}\n")
    try:
        if given.alias is None:
            aliases = read_aliases(folder)
        else:
            aliases = change_alias(folder, given.alias, given.version)
    except (InvalidAliases, OSError) as error:
        parser.exit(2, f"pushforward-alias: {error}\n")
    sys.stdout.write("".join(f"{alias} {version}\n" for alias, version in sorted(aliases.items())))
