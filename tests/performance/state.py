"""The state that all measurements of one run of the bench share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from service.settings import granted_cores

from .checks import Witness
from .decoder import publish_decoder
from .models import Model, bench_models, linked
from .raw import RawLoop
from .servers import Target
from .workloads import Workload

_BESIDE_SECONDS: Final = 0.5
_WARM_UP_SECONDS: Final = 1.0
_SEEDS_A_LOAD: Final = 10_000_000
_DECODERS: Final = "decoders"


class Bench:
    """The models, the seconds of a load, and the objects that all rounds share.

    Args:
        folder: An empty folder, for models and logs.
        seconds: The duration of each load.
        processes: The number of the service's processes, unless a workload says otherwise.
        stream_seconds: The longest that the stream of a workload of that kind is read.
        divisor: Divides the rows of bulk work.
    """

    def __init__(
        self, folder: Path, seconds: float, processes: int, stream_seconds: float, divisor: int = 1
    ) -> None:
        self.logs = folder
        self.models = bench_models(folder / _DECODERS)
        self.seconds = seconds
        self.processes = processes
        self.stream_seconds = stream_seconds
        self.divisor = divisor
        self._raws: dict[tuple[str, str], RawLoop] = {}
        self._witnesses: dict[tuple[str, str], Witness] = {}
        self._folders = 0
        self._loads = 0

    @property
    def beside_seconds(self) -> float:
        """Return the seconds for which ONNX Runtime alone is measured, before and again after each load."""
        return min(_BESIDE_SECONDS, self.seconds / 2)

    @property
    def warm_up_seconds(self) -> float:
        """Return the seconds for which a target is loaded before the first round."""
        return min(_WARM_UP_SECONDS, self.seconds)

    def fresh_seeds(self) -> int:
        """Return the first of a range of unused seeds, so that no answer is asked for twice."""
        self._loads += 1
        return self._loads * _SEEDS_A_LOAD

    def raw(self, workload: Workload) -> RawLoop:
        """ONNX Runtime alone, on the graph of the workload."""
        key = workload.model, workload.operation
        if key not in self._raws:
            self._raws[key] = RawLoop(self.models[workload.model], workload.operation, granted_cores())
        return self._raws[key]

    def witness(self, target: Target, workload: Workload) -> Witness:
        """Return the witness that checks the target's answers; the first time, it asks alone."""
        key = target.url, workload.name
        if key not in self._witnesses:
            self._witnesses[key] = Witness(target, workload, self.models[workload.model])
        return self._witnesses[key]

    def add_decoder(self, width: float) -> str:
        """Publishes the decoder of another width, too, and returns its name."""
        model = Model(publish_decoder(self.logs / _DECODERS, width))
        self.models[model.manifest.name] = model
        return model.manifest.name

    def serving(self, names: Iterable[str]) -> Path:
        """A new folder of those models alone, for a service to serve."""
        self._folders += 1
        return linked([self.models[name] for name in names], self.logs / f"models-{self._folders}")
