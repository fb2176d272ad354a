import math
from pathlib import Path

from service.errors import InvalidVersion, NotLoadedNow
from service.lifecycle.entries import Entry


def test_what_fails_for_now_is_tried_again_after_ever_longer_delays_and_what_is_broken_is_not() -> None:
    entry, delays = Entry("toy", 1, Path("toy/1")), []
    for _ in range(8):
        entry.fail(NotLoadedNow("there was no memory"))
        assert math.isfinite(entry.retry_at)
        delays.append(entry.retry_seconds)
    assert delays == [10, 20, 40, 80, 160, 320, 600, 600]
    entry.fail(InvalidVersion("a file is missing"))
    assert entry.retry_at == math.inf
