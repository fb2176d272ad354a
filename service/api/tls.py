"""TLS for the ports of the API and of gRPC, from files that are read again once they have changed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any, Final

from service.api.file_state import fingerprint
from service.errors import CannotListen
from service.observe.metrics import Metrics

_CHECK_SECONDS: Final = 5.0
"""Interval between looks at the files: a renewed certificate is served after at most this long."""
log = logging.getLogger(__name__)


class Certificate:
    """The certificate of the service and its key. Without `key`, the file of the certificate has it too.

    Once the files have changed, new handshakes get what they hold; connections that there are keep theirs.
    If the files cannot be used then, for example because one of the two is still written, the earlier pair
    stays.

    Raises:
        CannotListen: the files cannot be read, or do not fit each other.
    """

    def __init__(self, certificate: Path, key: Path | None, metrics: Metrics) -> None:
        self._certificate = certificate
        self._key = key
        self._refused = metrics.certificate_refused
        self._seen = self._state()
        self._newest = self.context = tls_context(certificate, key)
        self.pem = self._pem()
        """The key and the certificate with its chain, as the files had them."""
        self.context.sni_callback = self._choose

    async def follow(self) -> None:
        """Look at the files, and read them again once they have changed, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            await asyncio.to_thread(self._renew_if_changed)

    def _renew_if_changed(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            context, pem = tls_context(self._certificate, self._key), self._pem()
        except (CannotListen, OSError) as error:
            self._refused.set(1)
            log.error("%s; the certificate read before stays", error)  # noqa: TRY400 - the message has the reason
            return
        self._newest, self.pem = context, pem
        self._refused.set(0)
        log.info("the certificate was read anew; new connections get it")

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Give a handshake the newest pair; OpenSSL calls this for each, whether it names a server or not."""
        connection.context = self._newest

    def _state(self) -> tuple[Any, ...]:
        return fingerprint(self._certificate), self._key and fingerprint(self._key)

    def _pem(self) -> tuple[bytes, bytes]:
        certificate = self._certificate.read_bytes()
        return certificate if self._key is None else self._key.read_bytes(), certificate


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a server's context, TLS 1.2 or newer. Without `key`, the file of the certificate has it too.

    Raises:
        CannotListen: the files cannot be read, or do not fit each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in (certificate, key):
        if path is not None and path.exists() and not path.is_file():  # a pipe would not end
            raise CannotListen(f"cannot serve TLS with {path}: not a plain file")
    try:
        # without a password, because OpenSSL would ask for it on the terminal
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # also what ssl raises
        files = (
            f"{certificate} and {key}" if key is not None else f"{certificate}, which is to hold the key too"
        )
        reason = getattr(error, "reason", None) or error.strerror
        raise CannotListen(
            f"cannot serve TLS with {files}: {reason}; give PEM, the certificate before its chain, and a key "
            "without a password, by --tls-key if it has a file of its own"
        ) from error
    return context
