"""The number of rows that are computed at once, so that large items take no more memory than small ones."""

from typing import Final

_MOST_VALUES: Final = 2**22
"""Most values, of all rows together, that a network makes at once."""


def rows_at_once(most: int, values: int) -> int:
    """Return `most` rows, or so few that with `values` each they stay in memory; at least one."""
    return max(1, min(most, _MOST_VALUES // values))
