"""The preparation of a bare machine: wheels that were carried there, and a list of what is missing.

Standard library alone, since this runs where nothing is installed yet.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[3]

_LOCK: Final = REPOSITORY / "deploy" / "requirements-train.txt"
"""The packages of the service and of training, and their own dependencies, pinned."""
_TESTS: Final = ("pytest", "pytest-timeout", "iniconfig", "pluggy")
"""The packages that the tests need beyond those."""
_PLATFORMS: Final = ("2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17")
"""Versions of the C library; pip takes a wheel for one of them only if that very one is named."""
_ELSEWHERE: Final = {"onnxruntime-gpu": "onnxruntime"}
"""The distributions of the same module that serve as well on a CPU."""


class Unprepared(Exception):
    """The check cannot begin; the message says why and what to do."""


def environment_with(wheels: Path, site: Path) -> dict[str, str]:
    """Installs the wheels of a folder, if there are any, into `site`, and returns the environment of parts.

    A wheel may lie there in pieces, NAME.whl.00, NAME.whl.01 and so on, as `split -d` makes them. The
    libraries of NVIDIA's packages are found wherever those are installed.

    Raises:
        Unprepared: pip could not install them.
    """
    found = sorted([*wheels.glob("*.whl"), *_joined(wheels, site.parent / "joined")])
    if found:
        _install(found, site)
    paths = [str(path) for path in (site, REPOSITORY)]
    libraries = [str(folder) for path in _search_path(site) for folder in path.glob("nvidia/*/lib")]
    return os.environ | {
        "PYTHONPATH": _prepended(paths, os.environ.get("PYTHONPATH")),
        "LD_LIBRARY_PATH": _prepended(libraries, os.environ.get("LD_LIBRARY_PATH")),
    }


def missing(device: str, site: Path) -> list[str]:
    """The pinned requirements that neither this Python nor `site` has in any version."""
    path = [str(folder) for folder in _search_path(site)]
    here = {_normalised(found.metadata["Name"]) for found in distributions(path=path)}
    wanted = dict(_pins()) | {name: name for name in _TESTS}
    if device == "cpu":
        needed = {
            name: pin
            for name, pin in wanted.items()
            if not name.startswith(("nvidia-", "cuda-")) and name != "triton"
        }
        wanted = {name: pin for name, pin in needed.items() if _ELSEWHERE.get(name) not in here}
    return sorted(pin for name, pin in wanted.items() if name not in here)


def how_to_fetch(pins: Iterable[str], wheels: Path) -> str:
    """The command that fetches wheels of these for this Python, on a machine that has internet."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms = [f"--platform manylinux_{libc}_x86_64" for libc in _PLATFORMS]
    command = ["python3 -m pip download --no-deps --only-binary=:all: --implementation cp"]
    command += [f"--python-version {version}", *platforms, "--platform manylinux2014_x86_64"]
    command += [f"--dest {shlex.quote(wheels.name)}", *map(shlex.quote, pins)]
    return " ".join(command)


def without_cuda(site: Path) -> list[str]:
    """Sentences about packages that are there, but were built without CUDA."""
    found = []
    for path in _search_path(site):
        if (path / "onnxruntime" / "capi").is_dir():
            if not (path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so").exists():
                found.append("onnxruntime was built without CUDA; install or carry onnxruntime-gpu")
            break
    for path in _search_path(site):
        if (said := path / "torch" / "version.py").exists():
            if re.search(r"^cuda(: [^=]+)? = None", said.read_text(encoding="utf-8"), re.MULTILINE):
                found.append("torch was built without CUDA; install or carry one that was built with it")
            break
    return found


def _joined(wheels: Path, folder: Path) -> list[Path]:
    pieces: dict[str, list[Path]] = {}
    for piece in sorted(wheels.glob("*.whl.*")):
        pieces.setdefault(piece.stem, []).append(piece)
    for name, parts in pieces.items():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as whole:
            for part in parts:
                whole.write(part.read_bytes())
    return [folder / name for name in pieces]


def _install(found: Sequence[Path], site: Path) -> None:
    """Installs wheels into a folder of their own, unless the same ones are there already."""
    stamp = site / "installed.txt"
    wanted = "".join(f"{wheel.name} {wheel.stat().st_size}\n" for wheel in found)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--quiet"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options]
    told = subprocess.run(
        [*command, "--target", str(site), *map(str, found)], capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        raise Unprepared(f"pip could not install what lies in {found[0].parent}:\n{told.stderr.strip()}")
    stamp.write_text(wanted, encoding="utf-8")


def _pins() -> Mapping[str, str]:
    """The lines NAME==VERSION of the lock, by name."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", _LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return {_normalised(name): f"{name}=={version}" for name, version in lines}


def _search_path(site: Path) -> list[Path]:
    """Return the folders in which modules are found once `site` is before all others."""
    return [site, *(Path(path) for path in sys.path if path)]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _prepended(folders: Sequence[str], rest: str | None) -> str:
    return os.pathsep.join([*folders, *([rest] if rest else [])])
