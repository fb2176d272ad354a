"""Errors of bulk work, and the exit status that each one stands for."""

from __future__ import annotations

from typing import Final

from service.errors import InvalidAliases, LimitExceeded, NotFound, ProviderUnavailable, ServiceError, Unfit

USER_STATUS: Final = 2
"""Exit status for what the same command will never do: an option or an input has to change."""
FAILURE_STATUS: Final = 1
"""Exit status for what may succeed the next time."""
_USER_ERRORS: Final = (NotFound, Unfit, LimitExceeded, InvalidAliases, ProviderUnavailable)


class BulkError(Exception):
    """Base of the errors of bulk work; the message is for the person who runs the command."""

    status = FAILURE_STATUS
    stops = True
    """True if no other part can be made either."""


class BulkMistake(BulkError):
    """The command cannot be carried out as it was given."""

    status = USER_STATUS


class UnfitInput(BulkError):
    """Rows of the input are not what the model takes; other parts may be."""

    status = USER_STATUS
    stops = False


class UnreadableInput(BulkError):
    """A file of the input cannot be read now; other parts may be."""

    stops = False


class OutputFailed(BulkError):
    """The output folder cannot be written."""


class Disagreement(BulkError):
    """A part was made again and its bytes are not those of the first time."""


def failure_of(error: Exception) -> BulkError:
    """Return the error of bulk work that stands for an error of the service, with the same text."""
    if isinstance(error, BulkError):
        return error
    if isinstance(error, _USER_ERRORS):
        return BulkMistake(str(error))
    if isinstance(error, ServiceError):
        return BulkError(str(error))
    return BulkError(f"{type(error).__name__}: {error}")
