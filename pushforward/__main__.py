"""`pushforward`, or `python -m pushforward`: the one command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command of the arguments.

    `serve` goes straight to the service: importing the other commands would only delay its start.
    """
    if sys.argv[1:2] == ["serve"]:
        # imported here, because the same imports from a deeper function cost some percent more of time:
        # Python's stack then grows and shrinks by a page at every call
        import service.__main__  # noqa: F401
        from pushforward.command.serve import serve

        serve(sys.argv[2:])
    else:
        from pushforward.command.app import run

        run()


if __name__ == "__main__":
    main()
