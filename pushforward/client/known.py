"""A version as the service describes it, and how much one request for it may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pushforward.reading import as_rows
from pushforward.results import Floats, draws_of, most_draws
from service.errors import Malformed
from service.media.tables.matching import ClassColumn, numbers_by_label

_DEFAULT_BUDGET: Final = 16


class KnownModel(NamedTuple):
    """A version as the service describes it."""

    name: str
    version: int
    item_shape: tuple[int, ...]
    columns: Sequence[Mapping[str, Any]]
    picture: Mapping[str, Any] | None
    class_names: Sequence[str]
    classes: ClassColumn | None
    latent_size: int
    limits: Mapping[str, int]
    most_draws: int
    """The most draws that the service takes for scores of this version if a request names none."""

    @classmethod
    def of(cls, document: Mapping[str, Any], url: str) -> KnownModel:
        """Return a version from its description by the service at a URL.

        Raises:
            Malformed: the description lacks a field, as one of an older service may.
        """
        try:
            return cls(
                document["name"],
                document["version"],
                tuple(document["item_shape"]),
                document["columns"],
                document.get("picture"),  # which older services do not have
                document.get("class_names", ()),
                ClassColumn.of(document),
                document["latent_size"],
                document["limits"],
                most_draws(document),
            )
        except KeyError as error:
            raise Malformed(
                f"the description of a model by {url} has no field {error}; is that service older than this "
                "client?"
            ) from error

    def rows(self, inputs: Any) -> Floats:
        """Read items of this version, (B, *item), from all that `as_rows` takes. Raise Unfit as it does."""
        return as_rows(inputs, self.item_shape, self.columns, self.picture)

    def most_samples(self, options: Mapping[str, Any]) -> int:
        """Return the most samples of one request."""
        most = self.limits["npy_samples"]
        if options.get("method") not in (None, "direct"):
            budget = options.get("budget") or _DEFAULT_BUDGET
            most = min(most, self.limits["samples_times_budget"] // max(1, budget))
        return max(1, most)

    def most_scored(self, options: Mapping[str, Any]) -> int:
        """Return the most rows of one score request."""
        draws = draws_of(options.get("statistic"), options.get("draws"), self.most_draws)
        return min(self.limits["npy_inputs"], max(1, self.limits["rows_times_draws"] // draws))

    def labels_text(self, labels: Sequence[int | str]) -> str:
        """Return labels with commas between them, as numbers: names may be long, and have commas."""
        numbers = numbers_by_label(tuple(self.class_names))
        return ",".join(str(numbers.get(str(label), label)) for label in labels)
