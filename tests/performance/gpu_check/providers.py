"""The provider of every graph, by ONNX Runtime's session, and of each node, by its records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from service.format.versions import read_manifest, read_weights
from service.runtime.session import PROVIDERS, open_session

from .check import Check, CheckFailed, Row
from .graphs import published

_SHOWN: Final = 8


def rows(check: Check) -> Iterator[Row]:
    """A row for each graph.

    Raises:
        CheckFailed: in the end, if a session or some nodes are elsewhere.
    """
    asked = PROVIDERS[check.device]
    flaws = []
    for folder in published(check):
        manifest = read_manifest(folder)
        weights = read_weights(folder, manifest)
        for graph, spec in manifest.graphs.items():
            session = open_session(folder / spec.file, weights, check.device)
            here, elsewhere = _nodes(session, asked)
            yield {
                "model": manifest.name,
                "graph": graph,
                "session says": ", ".join(session.get_providers()),
                f"nodes on {asked}": here,
                "nodes elsewhere": len(elsewhere),
                "which": ", ".join(sorted(set(elsewhere))[:_SHOWN]),
            }
            if session.get_providers()[0] != asked or elsewhere:
                flaws.append(f"{manifest.name}, {graph}")
    if flaws:
        raise CheckFailed(f"not all on {asked}: " + "; ".join(flaws))


def _nodes(session: Any, asked: str) -> tuple[int, list[str]]:
    """Return the number of nodes on the provider, and the operators and providers of all other nodes."""
    here, elsewhere = 0, []
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            if part.ep_name == asked:
                here += 1
            else:
                elsewhere.append(f"{node.op_type} on {part.ep_name}")
    return here, elsewhere
