"""The one error of the harness."""

from __future__ import annotations


class BenchFailed(Exception):
    """Something was wrong with a server, an answer or the load: no number may be reported."""
