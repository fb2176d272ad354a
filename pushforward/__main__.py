"""`pushforward`, or `python -m pushforward`: the one command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command of the arguments.

    `serve` goes straight to the service: importing the other commands would only delay its start.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    if sys.argv[1:2] == ["serve"]:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `service.__main__` does
        # imported here, because the same imports from a deeper function cost some percent more of time:
        # Python's stack then grows and shrinks by a page at every call
        import service.process.command  # noqa: F401
        from pushforward.command.serve import serve

        serve(sys.argv[2:])
    else:
        from pushforward.command.app import run

        run()


if __name__ == "__main__":
    main()
