"""Follows the models folder: polls it now and then, and soon after something has come or gone."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from service.errors import SourceUnavailable
from service.lifecycle.registry import Registry
from service.lifecycle.remote import with_cause, without_paths
from service.observe.metrics import Metrics

_GLANCE_SECONDS: Final = 0.5
"""Pause between two looks at the times of the folder; a poll reads all of it."""
log = logging.getLogger(__name__)


async def watch(registry: Registry, metrics: Metrics, seconds: float) -> None:
    """Poll every `seconds`, and soon after the times of the folder have changed, until cancelled."""
    failing = False
    while True:
        await _pause(registry, seconds)
        try:
            await registry.poll()
            if registry.poll_failure:
                log.info("the models folder is followed again")
            failing, registry.poll_failure = False, ""
        except Exception as error:  # whatever it is, the next poll may succeed
            metrics.poll_failures.inc()
            registry.poll_failure = without_paths(error)
            expected = isinstance(error, OSError | SourceUnavailable)
            if not failing:
                what = "the models folder cannot be followed; all that is loaded serves on: %s"
                log.log(logging.ERROR, what, with_cause(error), exc_info=None if expected else error)
            failing = True
            log.debug("the poll failed again: %s", error)


async def _pause(registry: Registry, seconds: float) -> None:
    """Return after so many seconds, or once the times of the folder are not those of the last poll.

    The pause is whole while files of a version are new, which are to stay as they are for as long.
    """
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        if not all(entry.stable for entry in registry.entries()):
            await asyncio.sleep(left)
            return
        await asyncio.sleep(min(left, _GLANCE_SECONDS))
        if await asyncio.to_thread(registry.has_changed):
            return
