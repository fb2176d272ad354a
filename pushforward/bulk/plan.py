"""The plan of bulk work: the parts that are to be made. It depends on the command and the input alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final

from pushforward.bulk.failures import BulkMistake

FORMAT: Final = "pushforward-bulk-1"
PART_BYTES: Final = 2**23
"""Size that the rows of a part have at most, inputs and outputs in float32, if it is not chosen."""
_MOST_ROWS: Final = 65_536
_FEWEST_ROWS: Final = 16
_MOST_COST: Final = 2**18
"""Most draws, or proposals, of all rows of a part, so that none takes minutes."""
_LIBRARIES: Final = ("pushforward", "numpy", "pyarrow")
_INCIDENTAL: Final = ("location", "changed")
"""Keys of an input's description that may differ: where it is, and when it was last written."""


@dataclass(frozen=True)
class Plan:
    """The work of one command on one input: every part that it makes, whoever makes it."""

    operation: str
    model: str
    version: int
    version_sha256: str
    """The hash of all files of the version."""
    provider: str
    options: Mapping[str, Any]
    """The options, completed by the version's defaults."""
    input: Mapping[str, Any] | None
    """The description of the input; None for `sample`."""
    rows: int
    part_rows: int
    libraries: Mapping[str, str]
    """The versions of the libraries, on which the bytes depend."""
    format: str = FORMAT

    @property
    def parts(self) -> int:
        """Return the count of parts."""
        return -(-self.rows // self.part_rows)

    def rows_of(self, part: int) -> range:
        """Return the rows of a part."""
        first = part * self.part_rows
        return range(first, min(first + self.part_rows, self.rows))

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON objects."""
        return {**asdict(self), "parts": self.parts}

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> Plan:
        """Return the plan in a document that `document` made."""
        return Plan(**{name: value for name, value in document.items() if name != "parts"})

    def differences(self, other: Plan) -> list[str]:
        """Return what differs from another plan, as lines `name: here, there`."""
        mine, theirs = _compared(self), _compared(other)
        return [
            f"{name}: {mine.get(name, 'none')} now, {theirs.get(name, 'none')} there"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]


def _compared(plan: Plan) -> dict[str, Any]:
    """Return every value that plans must share, by a name with dots."""
    document = plan.document()
    nested = {name: document.pop(name) or {} for name in ("options", "input", "libraries")}
    for name, values in nested.items():
        document |= {f"{name}.{key}": value for key, value in values.items() if key not in _INCIDENTAL}
    return document


def rows_per_part(row_bytes: int, cost: int, chosen: int | None = None) -> int:
    """Return the rows of a part: a power of two for rows of so many bytes and draws, or the chosen number."""
    if chosen is not None:
        return chosen
    rows = min(PART_BYTES // row_bytes, _MOST_COST // cost, _MOST_ROWS)
    return max(_FEWEST_ROWS, 1 << max(0, rows.bit_length() - 1))


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that the output's bytes depend on."""
    import onnxruntime  # its distribution has one of two names, so its own version is asked for

    return {"onnxruntime": onnxruntime.__version__, **{name: version(name) for name in _LIBRARIES}}


@dataclass(frozen=True)
class Shard:
    """The parts index, index + count, index + 2 count, ... of a plan."""

    index: int = 0
    count: int = 1

    def parts(self, plan: Plan) -> range:
        """Return the parts of the plan that belong to this shard."""
        return range(self.index, plan.parts, self.count)


def shard_from(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the shard that `--shard` names, or the index of a Kubernetes Indexed Job, or all of the work.

    Raises:
        BulkMistake: the text is not i/n with i from 0 to n - 1, or the job's count is not known.
    """
    if text is None:
        index = environment.get("JOB_COMPLETION_INDEX")
        if index is None:
            return Shard()
        count = environment.get("JOB_COMPLETION_COUNT")
        if count is None:
            raise BulkMistake(
                "JOB_COMPLETION_INDEX is set, but not JOB_COMPLETION_COUNT; set it to the job's completions, "
                "or give --shard i/n"
            )
        text = f"{index}/{count}"
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or int(found[1]) >= int(found[2]):
        raise BulkMistake(f"the shard {text!r} is none; wanted i/n with i from 0 to n - 1, as 0/8 to 7/8")
    return Shard(int(found[1]), int(found[2]))
