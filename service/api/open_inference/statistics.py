"""What a model of the protocol has done, as Triton's statistics extension tells it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from service.turns import Timing


@dataclass(slots=True)
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """It was done once more, and took that long."""
        self.count += 1
        self.ns += int(seconds * 1e9)

    @property
    def document(self) -> dict[str, int]:
        """As JSON has it."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Statistics:
    """Of one model, over REST and gRPC, since it was first asked for; of this process alone."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: float = 0.0
    last_at_milliseconds: int = 0

    def succeeded(
        self, rows: int, whole_seconds: float, read_seconds: float, timing: Timing, write_seconds: float
    ) -> None:
        """One request of so many rows was answered."""
        self.success.add(whole_seconds)
        self.compute_input.add(read_seconds)
        self.queue.add(timing.queue_seconds)
        self.compute_infer.add(timing.compute_seconds)
        self.compute_output.add(write_seconds)
        self.rows += rows
        self.batches += timing.batches
        self.last_at_milliseconds = time.time_ns() // 1_000_000

    def failed(self, seconds: float) -> None:
        """One request got an error."""
        self.fail.add(seconds)

    @property
    def document(self) -> dict[str, Any]:
        """As the extension has it, but for the model's name and version."""
        durations = {
            name: getattr(self, name).document
            for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        }
        never = Duration().document
        return {
            "last_inference": self.last_at_milliseconds,
            "inference_count": self.rows,
            "execution_count": round(self.batches),
            "inference_stats": durations | {"cache_hit": never, "cache_miss": never},
            "batch_stats": [],
        }
