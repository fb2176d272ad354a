"""TLS for the port of the API, from files."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.errors import CannotListen


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a server's context, TLS 1.2 or newer. Without `key`, the file of the certificate has it too.

    Raises:
        CannotListen: the files cannot be read, or do not fit each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # without a password, because OpenSSL would ask for it on the terminal
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # also what ssl raises
        files = f"{certificate} and {key}" if key is not None else f"{certificate}"
        reason = getattr(error, "reason", None) or error.strerror
        raise CannotListen(
            f"cannot serve TLS with {files}: {reason}; give PEM, the certificate before its chain, and a key "
            "without a password"
        ) from error
    return context
