"""The parts of both clients that know httpx or the environment."""

from __future__ import annotations

import os
import random
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx

from pushforward.client.operations import Operations
from pushforward.client.sending import Clock, RetryPolicy, Sender
from pushforward.client.wire import Send, without_password

DEFAULT_URL: Final = "http://localhost:8000"
DEFAULT_TIMEOUT_SECONDS: Final = 300.0
_CONNECT_SECONDS: Final = 10.0
_MOST_SECONDS: Final = 1e6
"""The longest deadline; a socket takes no timeout of more than 24 days."""

HttpClient = TypeVar("HttpClient", httpx.Client, httpx.AsyncClient)


def connected(kind: type[HttpClient]) -> HttpClient:
    """Return a client of httpx, with the proxies and certificates that the environment names.

    Raises:
        ValueError: it names what cannot be used.
    """
    try:
        return kind()
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:  # each for another variable
        raise ValueError(
            f"{error}; this is of the environment: put right what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, "
            "NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR says, or unset it"
        ) from error


def operations_of(
    url: str | None,
    key: str | None,
    timeout_seconds: float | None,
    policy: RetryPolicy,
    clock: Clock,
    randomness: random.Random | None,
) -> Operations:
    """Return the operations of the service at an address; PUSHFORWARD_URL and PUSHFORWARD_KEY fill in.

    Raises:
        ValueError: the scheme of the address is neither http nor https, the deadline is none, or no header
            can hold the key.
    """
    address = url or os.environ.get("PUSHFORWARD_URL") or DEFAULT_URL
    if "://" not in address:
        address = f"http://{address}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"the address is {without_password(address)}; wanted one like {DEFAULT_URL}")
    if timeout_seconds is not None and not 0 < timeout_seconds <= _MOST_SECONDS:
        raise ValueError(
            f"timeout_seconds is {timeout_seconds}; wanted more than 0 and at most {_MOST_SECONDS:,.0f}, or "
            "None for no deadline"
        )
    key = (key or os.environ.get("PUSHFORWARD_KEY") or "").strip()  # a file of one ends in a line end
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the key has characters other than those of ASCII that are printed; copy it anew")
    sender = Sender(
        address.rstrip("/"), key, timeout_seconds, policy, clock, randomness or random.SystemRandom()
    )
    return Operations(sender)


def request_of(http: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Request:
    """Return the request of a step, with its time limits."""
    connect = _CONNECT_SECONDS if step.seconds is None else min(step.seconds, _CONNECT_SECONDS)
    timeout = httpx.Timeout(step.seconds, connect=connect)
    return http.build_request(
        step.method, step.url, headers=dict(step.headers), content=step.body, timeout=timeout
    )


def reason_of(error: httpx.RequestError) -> str:
    """Return the reason for which a connection broke; if it was one to a proxy, say so."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        from urllib.request import getproxies, proxy_bypass  # which takes long to import

        url, proxies = error.request.url, getproxies()
        if (url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.host):
            reason += f"; by the proxy of the environment, which NO_PROXY={url.host} leaves out"
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        reason += "; the variable SSL_CERT_FILE names a file with the certificates to trust"
    if isinstance(error, httpx.RemoteProtocolError) and error.request.url.scheme == "http":
        reason += "; if the service speaks TLS, write https"
    return reason
