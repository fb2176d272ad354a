"""The number of rows that are computed at once, which bounds their memory, and of cores that compute them."""

import os
from typing import Final

_MOST_VALUES: Final = 2**22
"""Most values, of all rows together, that a network makes at once."""


def rows_at_once(most: int, values: int, most_values: int = _MOST_VALUES) -> int:
    """Return `most` rows, or so few that with `values` each they have at most `most_values`; at least one."""
    return max(1, min(most, most_values // values))


def cores_at_hand() -> int:
    """Return the number of cores that this process may use, without regard to its cgroup's quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
