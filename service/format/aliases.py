"""Names for versions of a model, such as `champion` and `challenger`, in one small file beside them.

`models/NAME/aliases.json` is one JSON object, alias: version. It is only ever replaced as a whole, by rename,
so no reader sees half of it. `pushforward-alias` writes it.
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
from service.format.versions import MANIFEST, flush_to_disk

CHAMPION: Final = "champion"
"""The version that answers where a request names none; without it, the newest does."""
ALIASES_FILE: Final = "aliases.json"
_MOST_BYTES: Final = 2**16

AliasName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
_ALIASES: Final = TypeAdapter(dict[AliasName, Annotated[int, Field(ge=1, strict=True)]])


def read_aliases(model: Path) -> dict[str, int]:
    """The aliases of a model, by its folder; none if it has no file of them.

    Raises:
        InvalidAliases: the file cannot be read, or is not what `pushforward-alias` writes.
    """
    path = model / ALIASES_FILE
    try:
        with path.open("rb") as file:
            return _ALIASES.validate_json(file.read(_MOST_BYTES))
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
    """Replaces the aliases of a model, so that a reader, or a crash, finds the old or the new ones.

    Raises:
        InvalidAliases: a name or a version that cannot be one.
    """
    try:
        checked = _ALIASES.validate_python(dict(aliases))
    except ValidationError as error:
        flaw = error.errors(include_input=False, include_url=False)[0]["msg"]
        raise InvalidAliases(
            f"{flaw}; an alias is lower-case letters, digits and dashes, a version a number"
        ) from error
    staged = model / f".{ALIASES_FILE}-{secrets.token_hex(4)}"
    staged.write_text(json.dumps(checked, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    flush_to_disk(staged)
    os.replace(staged, model / ALIASES_FILE)
    flush_to_disk(model)


def changed(model: Path, alias: str, version: int | None) -> dict[str, int]:
    """Has an alias name a version, or, if None, takes the alias away; returns all there are then.

    Raises:
        InvalidAliases: there is no such model, version or alias; says which there are.
    """
    aliases = read_aliases(model)
    if version is not None:
        if not (model / str(version) / MANIFEST).is_file():
            raise InvalidAliases(f"{model.name} has no version {version}")
        aliases[alias] = version
    elif alias not in aliases:
        raise InvalidAliases(f"{model.name} has no such alias; it has: {', '.join(aliases) or 'none'}")
    else:
        del aliases[alias]
    write_aliases(model, aliases)
    return aliases


def main() -> None:
    """`pushforward-alias`: shows, sets or removes aliases; exits with 2 when it cannot."""
    parser = argparse.ArgumentParser(
        prog="pushforward-alias",
        description=f"Names versions of a model. Requests that name no version go to the {CHAMPION}.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("alias", nargs="?", help=f"{CHAMPION}, challenger, or any name")
    parser.add_argument("version", nargs="?", type=int, help="the version it is to name")
    parser.add_argument("--remove", action="store_true", help="take the alias away")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("PUSHFORWARD_MODELS", "models")),
        help="folder of published versions (default: PUSHFORWARD_MODELS, or models)",
    )
    given = parser.parse_args()
    if (given.alias is not None) != (given.remove or given.version is not None):
        parser.error("give an alias and a version, an alias and --remove, or neither")
    if given.remove and given.version is not None:
        parser.error("--remove takes no version")
    try:
        aliases = _asked_for(given.models, given.model, given.alias, given.version)
    except (InvalidAliases, OSError) as error:
        parser.exit(2, f"pushforward-alias: {error}\n")
    sys.stdout.write("".join(f"{alias} {version}\n" for alias, version in sorted(aliases.items())))


def _asked_for(models: Path, name: str, alias: str | None, version: int | None) -> dict[str, int]:
    """The aliases of a model, after the change that is asked for, if one is."""
    folder = models / name
    if not folder.is_dir():
        raise InvalidAliases(f"there is no model {name} under {models}")
    return read_aliases(folder) if alias is None else changed(folder, alias, version)
