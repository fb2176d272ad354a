"""Types of command-line arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError

from .against import Address


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not a positive number")
    return number


def seconds(text: str) -> float:
    """Return a duration from a tenth of a second to an hour."""
    number = float(text)
    if not 0.1 <= number <= 3600:
        raise ArgumentTypeError(f"{text} is not from 0.1 to 3600")
    return number


def address(text: str) -> Address:
    """Return the address of another server."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
