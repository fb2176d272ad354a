"""Content negotiation: the media type of an answer, by the header `Accept`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from service.errors import NotAcceptable


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """Return the offered media type that `Accept` prefers (RFC 9110, section 12.5.1); the first of equals.

    Raises:
        NotAcceptable: it accepts none.
    """
    ranges = _ranges(accept)
    best = max(offered, key=lambda media_type: _quality(ranges, media_type))
    if not _quality(ranges, best):
        raise NotAcceptable(f"this operation answers {', '.join(offered)}")
    return best


def _ranges(accept: str) -> dict[str, float]:
    """Return the ranges of media types in a header, each with its highest q; all if the header is absent."""
    ranges: dict[str, float] = {} if accept.strip() else {"*/*": 1.0}
    for entry in accept.lower().split(","):
        wanted, *parameters = (part.strip() for part in entry.split(";"))
        if not wanted:
            continue
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            quality = min(1.0, max(0.0, float(weight)))
        except ValueError:
            quality = 0.0
        ranges[wanted] = max(quality, ranges.get(wanted, 0.0))
    return ranges


def _quality(ranges: Mapping[str, float], media_type: str) -> float:
    """Return the q of the most specific range that covers the media type; 0 if none does."""
    family = media_type.split("/")[0]
    covering = (ranges[wanted] for wanted in (media_type, f"{family}/*", "*/*") if wanted in ranges)
    return next(covering, 0.0)
