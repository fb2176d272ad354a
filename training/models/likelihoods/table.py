"""The likelihood of tables: Gaussian numbers with learned scales, and categories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from service.format.columns import Column, column_places
from service.format.manifest import Support
from training.models.likelihoods import constant
from training.models.likelihoods.likelihood import SupportError, halves, in_lanes, item_sum, squashed
from training.models.quantile import CENTRAL, TAIL, TAIL_FROM, polynomial

_LOG_SCALE_BOUND = 4.0
"""The bound of log-scales: scales from 0.018 to 55 standard deviations of a column. Without it the density
would grow for ever at a value that many rows share."""
_LOGIT_BOUND = 20.0
FURTHEST = 1e6
"""The largest number of standard deviations; float32 could not square a larger distance."""
_SMALLEST_UNIFORM = 2.0**-24
"""The least uniform: its distance from 0 is that of the largest float32 below 1 from 1."""


class GaussianTable(nn.Module):
    """Independent columns, in their own units: numbers are Gaussian, categories are categorical.

    Parameters (B, 2 F): for every feature a location, then a log-scale. A number's are those of its
    standardised value; the densities include the Jacobian of that scaling, so they are densities of the raw
    number. The features of a category take their logits from the locations and ignore the log-scales. A
    number that never varied in training has a density of its own, which ignores both: see `constant`.
    Source: Kingma & Welling 2014, arXiv:1312.6114, appendix C.2, for the Gaussian.
    """

    name = "gaussian"
    support: Support = "real"
    parameters_per_value = 2
    shift: Tensor
    scale: Tensor
    _is_number: Tensor
    _same: Tensor
    _earlier: Tensor
    _from_first: Tensor
    _place: Tensor
    _varies: Tensor | None
    _occurs: Tensor | None

    def __init__(
        self,
        columns: Sequence[Column],
        shift: Tensor,
        scale: Tensor,
        constants: Sequence[int] = (),
        takes_missing: bool = False,
        absent: Sequence[int] = (),
    ) -> None:
        """Join columns of F features in all; shift and scale (F,) standardise the features.

        `constants` are the features that had one value, the shift, in all training rows. If `takes_missing`,
        NaN is a missing value (in all features of a category): the likelihood is that of the others, which
        integrates the missing ones out, since columns are independent given the latent. Source: Mattei &
        Frellsen 2019, "MIWAE", arXiv:1812.02633, section 3.1. `absent` are the features of categories, each
        the last of its column, that stand for those which no row has had: none is drawn.
        """
        super().__init__()
        self._takes_missing = takes_missing
        sizes = [column.features for column in columns]
        number = [not column.categories for column in columns]
        column_of = np.repeat(np.arange(len(columns)), sizes)
        self._columns = tuple(columns)
        self.register_buffer("shift", shift.clone())
        self.register_buffer("scale", scale.clone())
        # (F, F), 1 if two features belong to one column: products with it are sums over a column
        same = (column_of[:, None] == column_of[None]).astype(np.float32)
        earlier = np.triu(same, 1)
        fixed = {
            "_is_number": np.repeat(number, sizes),
            "_same": same,
            "_earlier": earlier,
            "_from_first": same * ~earlier.any(0)[:, None],
            "_place": 1 + earlier.sum(0),
        }
        for name, values in fixed.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)), persistent=False)
        varies = torch.ones(len(shift)).index_fill(0, torch.tensor(constants, dtype=torch.long), 0)
        self.register_buffer("_varies", varies if len(constants) else None, persistent=False)
        occurs = torch.ones(len(shift)).index_fill(0, torch.tensor(absent, dtype=torch.long), 0)
        self.register_buffer("_occurs", occurs if len(absent) else None, persistent=False)

    def bounded(self, outputs: Tensor) -> Tensor:
        """Return log-scales in (-4, 4), logits in (-20, 20), and locations up to a million."""
        location, log_scale = halves(outputs)
        logits = squashed(location, -_LOGIT_BOUND, _LOGIT_BOUND)
        location = self._each(location.clamp(-FURTHEST, FURTHEST), logits)
        log_scale = squashed(log_scale, -_LOG_SCALE_BOUND, _LOG_SCALE_BOUND)
        if self._varies is not None:
            location, log_scale = self._varies * location, self._varies * log_scale
        return torch.cat([location, log_scale], dim=1)

    def check_support(self, items: Tensor) -> None:
        """Refuse numbers that are not finite, and categories that are not one-hot; missing ones may pass.

        Raises:
            SupportError: Naming the first column that has some.
        """
        for column, place in column_places(self._columns):
            features = items[:, place]
            if column.categories:
                fits = ((features == 0) | (features == 1)).all(1) & (features.sum(1) == 1)
                wanted = f"one 1 among the {len(column.categories)} features of its categories, 0 elsewhere"
            else:
                fits, wanted = torch.isfinite(features).all(1), "finite numbers"
            if self._takes_missing:
                fits |= torch.isnan(features).all(1)
            if not bool(fits.all()):
                raise SupportError(
                    f"column {column.name!r} holds {wanted}, but {int((~fits).sum())} of {len(items)} rows "
                    f"do not, the first is row {int(torch.nonzero(~fits)[0, 0])}; mend or drop these rows"
                )

    def log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return log densities of the raw numbers plus log probabilities of the categories, (B,) nats."""
        return item_sum(self.value_log_prob(parameters, items))

    def value_log_prob(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return the log density of each raw number, and the log probability of a category at its feature.

        That of a missing value is 0.
        """
        location, log_scale = halves(parameters)
        there = self._filled(items)
        gaps = (self._standardised(there) - location) * torch.exp(-log_scale)
        numbers = -0.5 * gaps * gaps - log_scale - 0.5 * math.log(2 * math.pi)
        if self._varies is not None:
            numbers = self._varying(numbers, constant.LOG_PEAK - constant.surprise(gaps))
        numbers = numbers - torch.log(self.scale)
        log_probability = in_lanes(torch.log, self._probabilities(location))
        return self._where_there(items, self._each(numbers, there * log_probability))

    def best_log_prob(self, _items: Tensor) -> None:
        """Return None: the density of a number has no maximum but for the bound of its scale."""
        return

    def mean(self, parameters: Tensor) -> Tensor:
        """Return the expected raw numbers, and the probability of each category."""
        location, _ = halves(parameters)
        numbers = self.shift + self.scale * location
        return self._each(numbers, self._probabilities(location))

    def residual(self, parameters: Tensor, items: Tensor) -> Tensor:
        """Return numbers minus their mean, in standard deviations, and categories minus their probability.

        That of a missing value is 0.
        """
        location, _ = halves(parameters)
        there = self._filled(items)
        numbers = self._standardised(there) - location
        if self._varies is not None:
            numbers = self._varying(numbers, constant.residual(numbers))
        return self._where_there(items, self._each(numbers, there - self._probabilities(location)))

    def draw(self, parameters: Tensor, uniforms: Tensor) -> Tensor:
        """Draw raw numbers by the inverse normal distribution function, and categories one-hot.

        The uniform of a column's first feature selects the category in whose share of (0, 1) it lies.
        """
        location, log_scale = halves(parameters)
        gaps = normal_quantile(uniforms)
        if self._varies is not None:
            gaps = self._varying(gaps, constant.quantile(uniforms))
        numbers = self.shift + self.scale * (location + torch.exp(log_scale) * gaps)
        # shares that have begun: exactly one category has that place, however sums are rounded
        shares = self._probabilities(location, self._occurs)
        begun = (uniforms @ self._from_first >= shares @ self._earlier).to(uniforms.dtype)
        if self._occurs is not None:
            begun = begun * self._occurs
        category = ((begun @ self._same - self._place).abs() < 0.5).to(uniforms.dtype)
        return self._each(numbers, category)

    def _filled(self, items: Tensor) -> Tensor:
        """Return items with the mean in the place of missing values, so that no gradient is NaN."""
        return torch.where(torch.isnan(items), self.shift, items) if self._takes_missing else items

    def _where_there(self, items: Tensor, values: Tensor) -> Tensor:
        """Return values, but 0 where the item's value is missing."""
        return values.masked_fill(torch.isnan(items), 0) if self._takes_missing else values

    def _standardised(self, items: Tensor) -> Tensor:
        return ((items - self.shift) / self.scale).clamp(-FURTHEST, FURTHEST)

    def _each(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Take `numbers` at features of numbers and `categories` at the others; both must be finite."""
        return self._is_number * numbers + (1 - self._is_number) * categories

    def _varying(self, numbers: Tensor, constants: Tensor) -> Tensor:
        """Take `numbers` at features that vary and `constants` at the others; both must be finite."""
        assert self._varies is not None
        return self._varies * numbers + (1 - self._varies) * constants

    def _probabilities(self, location: Tensor, occurs: Tensor | None = None) -> Tensor:
        """Return probabilities of categories within their columns, (B, F), and 1 for numbers.

        They are those among the categories at which `occurs` (F,) is 1, if it is given.

        A quotient of e^logit and a sum that includes it is never above 1, so its logarithm is never above 0.
        A number's location is left out, because its exponential may overflow.
        """
        weights = torch.exp((1 - self._is_number) * location)
        weights = weights if occurs is None else weights * occurs
        probabilities: Tensor = weights / (weights @ self._same)
        return probabilities


def normal_quantile(uniforms: Tensor) -> Tensor:
    """Return the inverse normal distribution function at (B, F), made of operators that every runtime has.

    Uniforms outside [2^-24, 1 - 2^-24] count as the nearer end, 5.3 standard deviations from the mean.
    Source: Giles 2011, "Approximating the erfinv function", GPU Computing Gems vol. 2, table 1 (single
    precision): within 4e-7 relatively.
    """
    safe = uniforms.clamp(_SMALLEST_UNIFORM, 1 - _SMALLEST_UNIFORM)
    x = 2 * safe - 1
    w = -in_lanes(torch.log, 4 * safe * (1 - safe))
    central: Tensor = polynomial(w - 2.5, CENTRAL)
    tail: Tensor = polynomial(w.clamp(min=TAIL_FROM).sqrt() - 3, TAIL)
    return math.sqrt(2) * x * torch.where(w < TAIL_FROM, central, tail)
