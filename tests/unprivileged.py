"""`python -m tests.unprivileged MODULE OPTIONS`: that program, unable to read or write what nobody may."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_PR_CAPBSET_DROP: Final = 24
_MAY_READ_ALL: Final = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


def main() -> None:
    """Drop the rights from what a new program may have, and become that program."""
    if os.geteuid() == 0:
        for right in _MAY_READ_ALL:
            if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, right, 0, 0, 0):
                raise OSError("the rights of root cannot be dropped")
    os.execv(sys.executable, (sys.executable, "-m", *sys.argv[1:]))


if __name__ == "__main__":
    main()
