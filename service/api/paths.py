"""The paths of `/v1` that belong to a model, or to one version of it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

PREFIXES: Final = ("/v1/models/{model}", "/v1/models/{model}/versions/{version}")
"""The templates of their beginnings: by the version that answers for the model, and by the one named."""
_PATH: Final = re.compile(r"/v1/models/([^/]+)(?:/versions/([^/]+))?/((?:diffusers/)?[a-z]+)")


class ModelPath(NamedTuple):
    """The parts of such a path."""

    template: str
    model: str
    version: str | None
    """A number, or an alias."""
    action: str
    """The rest: the name of an operation, also after `diffusers/`, or something unknown."""


@lru_cache(maxsize=256)
def model_path(path: str) -> ModelPath | None:
    """Return the parts of a path, or None if it is no path of a model that ends in an action."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    model, version, action = found.groups()
    return ModelPath(f"{PREFIXES[version is not None]}/{action}", model, version, action)
