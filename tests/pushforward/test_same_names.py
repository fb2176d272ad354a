"""The clients, and versions in the caller's own process, have the same operations with the same options."""

import inspect
from typing import Any

from pushforward import AsyncClient, Client
from pushforward.local.model import LocalModel
from pushforward.local.models import LocalModels
from service.api.v1.handler import OPERATIONS


def operations(kind: type[Any], *others: str) -> dict[str, list[str]]:
    """The public methods of a class, less others, each with the names of its parameters in their order."""
    return {
        name: [
            each for each in inspect.signature(method).parameters if each not in ("self", "name", "version")
        ]
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_") and name not in others
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    assert operations(Client, "close") == operations(AsyncClient, "aclose")


def test_a_client_has_every_operation_that_is_served() -> None:
    assert OPERATIONS.keys() <= operations(Client).keys()


def test_a_version_in_the_own_process_takes_what_a_client_takes() -> None:
    of_client = operations(Client, "close", "models", "model")
    assert of_client == operations(LocalModel, "close", "warm_up", "manifest")
    assert of_client.keys() == operations(LocalModels, "close", "models", "model", "open").keys()
