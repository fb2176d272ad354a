"""The memory of a process of its own."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def peak_resident_bytes(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command in a folder to its good end, and return the most memory that it had resident."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
    most = 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        most = max(most, 1024 * int(found[1]) if found else 0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    assert process.returncode == 0
    return most
