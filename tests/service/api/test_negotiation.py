"""The media type that an answer has, by what its request accepts."""

import contextlib
import time

import pytest

from service.api.answer import JSON, NPY, PNG
from service.api.v1.negotiation import negotiate
from service.errors import NotAcceptable


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/png", PNG),
        ("image/*", PNG),
        ("application/x-npy, application/json;q=0.5", NPY),
        ("application/json;q=0.2, image/*;q=0.9", PNG),
        ("text/html, */*;q=0.1", JSON),
        ("*/*, application/json;q=0", NPY),
        ("IMAGE/PNG", PNG),
    ],
)
def test_the_media_type_accept_likes_best_is_answered(accept: str, chosen: str) -> None:
    assert negotiate(accept, (JSON, NPY, PNG)) == chosen


@pytest.mark.parametrize("entry", [",", "a/b;q=0.1,", "*/*;", "a/b,"])
def test_no_accept_that_fits_the_headers_takes_long(entry: str) -> None:
    accept = entry * (2**15 // len(entry))
    begun = time.process_time()
    with contextlib.suppress(NotAcceptable):
        negotiate(accept, (JSON, NPY, PNG, "image/jpeg", "text/csv"))
    assert time.process_time() - begun < 0.3


@pytest.mark.parametrize(
    "accept", ["text/html", "image/png;q=0", "application/json;q=nonsense", "image/webp"]
)
def test_what_cannot_be_made_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept, (JSON, NPY, PNG))
