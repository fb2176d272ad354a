"""Clients of the service, synchronous and asynchronous: httpx and numpy alone."""

from pushforward.client.asynchronous import AsyncClient
from pushforward.client.blocking import Client
from pushforward.client.sending import RetryPolicy

__all__ = ["AsyncClient", "Client", "RetryPolicy"]
