"""A container's command, as the kubelet would start it, carried over to this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from tests.deploy.rendering import Object

PROGRAMS = {
    "/opt/pushforward/bin/python": (sys.executable,),
    "/opt/pushforward/bin/pushforward": (sys.executable, "-m", "pushforward"),
}
"""The programs of the image, and their substitutes on this machine."""


def command_here(container: Object, environment: Mapping[str, str], replaced: Mapping[str, str]) -> list[str]:
    """Return the command and arguments of a container, to be started on this machine.

    `$(NAME)` becomes a variable of the environment, as in a pod. `replaced` maps parts of the words, such as
    mount paths and addresses of a cluster, to those of this machine; each has to occur.
    """
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], word)
        for word in [*container["command"], *container.get("args", [])]
    ]
    for part, ours in replaced.items():
        assert any(part in word for word in words), f"no word of {words} has {part}"
        words = [word.replace(part, ours) for word in words]
    return [*PROGRAMS[words[0]], *words[1:]]
