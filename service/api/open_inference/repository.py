"""The protocol's repository extension: what clients ask of it, and what they may not."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from service.api.problems import unfit
from service.errors import NotEnabled, Unfit

_UPLOADS: Final = ("config", "file:")
"""How the parameters begin that carry a model, or its configuration, instead of naming one."""


Document = TypeVar("Document", bound=BaseModel)


class IndexRequest(BaseModel):
    """Which models to list."""

    model_config = ConfigDict(strict=True)

    ready: bool = False
    """Only those that are served."""


class ControlRequest(BaseModel):
    """How to load or unload a model."""

    model_config = ConfigDict(strict=True)

    parameters: dict[str, Any] = {}


def read_index_request(body: bytes) -> IndexRequest:
    """Which models to list, of a body that may be empty; raises Malformed or Unfit if it is no such thing."""
    return _read(IndexRequest, body)


def check_control(body: bytes, *, enabled: bool) -> None:
    """Whether a request to load or unload a model may be followed.

    Raises:
        Unfit: the request brings a model, or a configuration, along.
        NotEnabled: the service was not started so that it may.
    """
    request = _read(ControlRequest, body)
    if any(name.startswith(_UPLOADS) for name in request.parameters):
        raise Unfit(
            "models and their configurations are not taken from requests; publish a version into the models "
            "folder"
        )
    if not enabled:
        raise NotEnabled(
            "models are not loaded or unloaded by request here: the service serves what its models folder "
            "holds; start it with --repository-control to have it otherwise"
        )


def _read(kind: type[Document], body: bytes) -> Document:
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise unfit(error, "the body", kind) from error
