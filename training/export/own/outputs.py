"""The outputs of a network by their names, which say more than their order.

A dict, a named tuple, and the outputs of an ONNX file may have the spread before the mean (Keras sorts dicts
by name), or a draw beside the two. Where names tell which is which, they are taken by name.
"""

from __future__ import annotations

import re

_MEANS = frozenset({"mu", "mus", "mean", "means", "loc", "embedding"})
_SPREADS = frozenset(
    {"var", "vars", "variance", "std", "stds", "stddev", "sd", "sigma", "sigmas", "scale", "scales", "cov",
     "covariance", "logvar", "logvars", "lnvar", "logstd", "logsigma", "logscale", "logvariance"}
)  # fmt: skip


def mean_and_spread(names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the places of the mean and of what comes with it; None if the names do not tell.

    They tell if one name is that of a mean and one other that of a spread, or if of two names one is.
    """
    spreads = [place for place, name in enumerate(names) if _words(name) & _SPREADS]
    means = [place for place, name in enumerate(names) if place not in spreads and _words(name) & _MEANS]
    if len(spreads) == 1 and len(means) == 1:
        return means[0], spreads[0]
    if len(names) == 2 and len(spreads) == 1:
        return 1 - spreads[0], spreads[0]
    return None


def _words(name: str) -> set[str]:
    """Return the words of a name, in lower case: those of `zLogVar`, `z_log_var:0` and `enc/z_mean/Add`."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
