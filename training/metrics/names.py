"""Names of metrics in a manifest, and the texts of their values: the one place that formats and parses them.

Most names are plain (`elbo`); the others have a structure:

- `auroc_STATISTIC_KIND`: AUROC of an anomaly statistic on test items and unseen outliers of a kind;
- `validation_auroc_STATISTIC_KIND`: the same on validation items and planted outliers, by which a statistic
  is chosen; without KIND the mean over the kinds;
- `flagged_KIND`: share of items that are flagged at the version's level;
- `flagged_at_LEVEL`: share of test items that are flagged at another level;
- `QUANTITY_floor`: a quality figure of training items in the generator's place;
- `QUANTITY_resample` and `QUANTITY_metropolis`: a quality figure of samples that the discriminator selected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from service.format.specs import Metric
from service.format.statistics import UNITS, Statistic

Group = Literal["", "auroc", "validation_auroc", "flagged", "flagged_at", "floor", "resample", "metropolis"]
_PATTERNS = (
    rf"(?P<group>(?:validation_)?auroc)_(?P<statistic>{'|'.join(UNITS)})(?:_(?P<subject>.+))?",
    r"(?P<group>flagged_at)_(?P<level>\d+(?:\.\d+)?(?:e-\d+)?)",
    r"(?P<group>flagged)_(?P<subject>.+)",
    r"(?P<subject>.+)_(?P<group>floor|resample|metropolis)",
)


@dataclass(frozen=True)
class MetricName:
    """The parts of a metric's name; `str` joins them."""

    group: Group = ""
    """Empty for a plain name."""
    subject: str = ""
    """The quantity, or the kind of outliers or items."""
    statistic: Statistic | None = None
    level: float | None = None

    @classmethod
    def parse(cls, name: str) -> MetricName:
        """Parse any metric's name; one that has no known structure is plain."""
        for pattern in _PATTERNS:
            if match := re.fullmatch(pattern, name):
                fields: dict[str, Any] = {key: part for key, part in match.groupdict().items() if part}
                if "level" in fields:
                    fields["level"] = float(fields["level"])
                return cls(**fields)
        return cls(subject=name)

    def __str__(self) -> str:
        level = "" if self.level is None else f"{self.level:g}"
        parts = [self.group, self.statistic, self.subject, level]
        if self.group in ("floor", "resample", "metropolis"):
            parts = [self.subject, self.group]
        return "_".join(part for part in parts if part)


def figure_texts(metric: Metric) -> tuple[str, str]:
    """Return a figure's value and standard error as text; the latter is empty if there is no error."""
    value = f"{metric.value:,.0f}" if float(metric.value).is_integer() else f"{metric.value:.6g}"
    return value, "" if metric.standard_error is None else f"{metric.standard_error:.2g}"
