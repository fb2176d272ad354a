"""The names that users import: a client, published versions in their own process, and publishing.

Every name is imported when it is first used, so that the client needs neither ONNX Runtime nor torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pushforward.client import AsyncClient, Client
    from pushforward.display import heat_image, to_image, to_pandas
    from pushforward.local import load
    from pushforward.publishing import publish_gan, publish_vae

    __version__: str

_HOMES: Final = {
    "AsyncClient": "pushforward.client",
    "Client": "pushforward.client",
    "heat_image": "pushforward.display",
    "load": "pushforward.local",
    "publish_gan": "pushforward.publishing",
    "publish_vae": "pushforward.publishing",
    "to_image": "pushforward.display",
    "to_pandas": "pushforward.display",
}

__all__ = [
    "AsyncClient",
    "Client",
    "heat_image",
    "load",
    "publish_gan",
    "publish_vae",
    "to_image",
    "to_pandas",
]


def __getattr__(name: str) -> Any:
    """Import the module in which a public name lives, and return the object; or return the version.

    Raises:
        ImportError: another package called `training` comes before Pushforward's own.
    """
    if name == "__version__":
        return import_module("importlib.metadata").version("pushforward")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] == "pushforward.publishing":
        _check_own("training")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def _check_own(package: str) -> None:
    """Raise ImportError if another package has the name of one that comes with this one."""
    found, own = find_spec(package), Path(__file__).parents[1] / package
    if found is not None and Path(str(found.origin)).parent != own:
        raise ImportError(
            f"`import {package}` finds {found.origin}, and not {own}, which Pushforward needs; rename the "
            "former, or start Python in another folder"
        )


_check_own("service")  # which all names need
