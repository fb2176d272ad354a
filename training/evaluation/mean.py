"""The mean over test items, as a published figure."""

from __future__ import annotations

import math

from torch import Tensor

from service.format.specs import Metric


def mean_metric(values: Tensor, unit: str, note: str) -> Metric:
    """Return the mean of independent values (N,) with its standard error."""
    error = float(values.std() / math.sqrt(len(values)))
    return Metric(value=float(values.mean()), standard_error=error, unit=unit, note=note)
