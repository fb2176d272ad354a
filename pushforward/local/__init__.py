"""Versions in the caller's own process: the service's operations without a service."""

from pushforward.local.model import LocalModel, load
from pushforward.local.models import LocalModels

__all__ = ["LocalModel", "LocalModels", "load"]
