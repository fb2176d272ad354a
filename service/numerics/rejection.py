"""Rules that choose among proposals by a discriminator: rejection, resampling and Metropolis-Hastings.

Each of B outputs has its own K proposals x, drawn from p_G, with calibrated logits
l = log p_data(x) / p_G(x) and as many uniforms u in (0, 1): both are arrays (B, K). Every rule is a pure
function of these, so an output depends on its own proposals alone. Everything is computed in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.numerics.noise import Doubles, Floats, Integers

Numbers = NDArray[Any]


class Selection(NamedTuple):
    """The proposals that were chosen for B outputs."""

    chosen: NDArray[np.intp]
    """(B,) in 0 .. K - 1; if none was accepted, the proposal with the largest logit."""
    accepted: NDArray[np.intp]
    """(B,) number of accepted proposals among the K."""
    filled: NDArray[np.bool_]
    """(B,) True if any was accepted."""


class RealLogits:
    """Logits of real items, which Metropolis chains start from: with classes, from items of their own."""

    def __init__(self, logits: Floats, labels: Integers | None = None, classes: int = 0) -> None:
        """Take logits (n,) in random order, and the classes (n,) of their items.

        Raises:
            ValueError: there is another class, or one without items.
        """
        self.classes = classes
        """The number of classes; 0 without any."""
        self._logits = logits
        if labels is not None:
            if not np.array_equal(np.unique(labels), np.arange(classes)):
                raise ValueError(f"wanted items of each of {classes} classes, and of no other")
            self._logits = logits[np.argsort(labels, kind="stable")]
            self._counts = np.bincount(labels)
            self._firsts = np.cumsum(self._counts) - self._counts

    def at(self, uniforms: Floats, labels: Integers | None = None) -> Floats:
        """Return the logits (B,) that uniforms (B,) in (0, 1) choose, of items of the classes (B,)."""
        first, count = (
            (0, len(self._logits)) if labels is None else (self._firsts[labels], self._counts[labels])
        )
        return self._logits[first + (uniforms.astype(np.float64) * count).astype(np.intp)]


def rejection(logits: Numbers, uniforms: Numbers, largest: float) -> Selection:
    """Choose the first accepted proposal: k is accepted if u_k <= exp(l_k - largest).

    `largest` is the log of the largest p_data / p_G. Accepted outputs follow p_data exactly if no logit is
    above it; proposals with a larger logit are chosen too seldom. Sources: von Neumann 1951, "Various
    techniques used in connection with random digits"; Azadi et al. 2019, "Discriminator rejection sampling",
    arXiv:1810.06758.
    """
    accepts = np.log(uniforms.astype(np.float64)) <= logits.astype(np.float64) - largest
    return _selection(accepts.argmax(axis=1), accepts.sum(axis=1), logits)


def resampling(logits: Numbers, uniforms: Numbers) -> Selection:
    """Choose k with probability exp(l_k) / sum_j exp(l_j), as the largest l_k + Gumbel noise.

    Outputs follow p_data as K grows; one proposal is always accepted. Sources: Rubin 1987, "A noniterative
    sampling/importance resampling alternative", JASA 82(398); Gumbel-max: Maddison et al. 2014,
    arXiv:1411.0030, section 2.
    """
    gumbels = -np.log(-np.log(uniforms.astype(np.float64)))
    chosen = (logits.astype(np.float64) + gumbels).argmax(axis=1)
    return _selection(chosen, np.ones(len(logits), np.intp), logits)


def metropolis(logits: Numbers, uniforms: Numbers, starts: Numbers) -> Selection:
    """Choose the last accepted proposal of an independence chain of K steps that starts at a real item.

    `starts` (B,) are the logits of these real items. Step k goes from logit l to l_k if
    u_k <= exp(l_k - l). A chain that starts at an item of p_data follows p_data at every step. Sources:
    Tierney 1994, "Markov chains for exploring posterior distributions", Annals of Statistics 22(4), section
    2.3.3; Turner et al. 2019, "Metropolis-Hastings generative adversarial networks", arXiv:1811.11357.
    """
    proposed, log_uniforms = logits.astype(np.float64), np.log(uniforms.astype(np.float64))
    current = starts.astype(np.float64)
    chosen = np.zeros(len(logits), np.intp)
    accepted = np.zeros(len(logits), np.intp)
    for step in range(logits.shape[1]):
        accepts = log_uniforms[:, step] <= proposed[:, step] - current
        current = np.where(accepts, proposed[:, step], current)
        chosen[accepts] = step
        accepted += accepts
    return _selection(chosen, accepted, logits)


def _selection(chosen: NDArray[np.intp], accepted: NDArray[np.intp], logits: Numbers) -> Selection:
    filled = accepted > 0
    return Selection(np.where(filled, chosen, logits.argmax(axis=1)), accepted, filled)


def effective_sample_sizes(logits: Numbers) -> Doubles:
    """Return the effective sample sizes (sum w)^2 / sum w^2 with w = exp(l), (B,) in 1 .. K.

    Source: Kong, Liu and Wong 1994, "Sequential imputations and Bayesian missing data
    problems", JASA 89(425), section 4.1.
    """
    shifted = logits.astype(np.float64)
    weights = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    sizes: Doubles = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    return sizes
