"""`pushforward-serve`, or `python -m service`: serve the published models of a folder."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command; numpy's linear algebra, which the service hardly uses, gets one thread."""
    # read as numpy is imported; else it starts a thread for every core of the machine
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from service.process.command import run

    run()


if __name__ == "__main__":
    main()
