"""The number of rows that are computed at once, so that large items take no more memory than small ones."""

from typing import Final

_MOST_VALUES: Final = 2**22
"""Most values, of all rows together, that a network makes at once."""


def rows_at_once(most: int, values: int, most_values: int = _MOST_VALUES) -> int:
    """Return `most` rows, or so few that with `values` each they have at most `most_values`; at least one."""
    return max(1, min(most, most_values // values))
