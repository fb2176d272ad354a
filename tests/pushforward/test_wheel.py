"""The wheel, in an empty environment: it is complete, serves what it carries, and says what it lacks."""

import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.published import newest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

PACKAGES = ("pushforward", "service", "training")
NOT_SHIPPED = (".proto",)
CLASSIFIERS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["classifiers"]
SUPPORTED = [found[1] for name in CLASSIFIERS if (found := re.search(r"Python :: (3\.\d+)", name))]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
DEMO = "pushforward/demo/digits-vae"
CLEAN = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PUSHFORWARD"))
} | {"NO_COLOR": "1", "COLUMNS": "110"}
"""The environment without the variables by which Python would find the repository."""


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel and what it needs, and an empty folder to work in."""

    scripts: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a user who never served a model here: no trial is remembered."""
        return CLEAN | {"PUSHFORWARD_CACHE": str(self.folder / "cache")}

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.scripts / command, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel() -> Path:
    (built,) = (REPOSITORY / "build" / "dist").glob("*.whl")
    return built


@contextmanager
def installation(wheel: Path, python: str | Path, temporary: pytest.TempPathFactory) -> Iterator[Installed]:
    """Install the wheel into a new environment of this Python, with the pins."""
    environment = temporary.mktemp("environment")
    subprocess.run([python, "-m", "venv", environment], env=CLEAN, check=True)
    program = str(environment / "bin" / "python")
    pip = [program, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        subprocess.run([*pip, "--constraint", REPOSITORY / "constraints.txt", wheel], env=CLEAN, check=True)
        yield Installed(environment / "bin", temporary.mktemp("empty"))
    finally:
        shutil.rmtree(environment)  # half a gigabyte, which pytest would keep


@contextmanager
def demonstration(installed: Installed, processes: int = 1) -> Iterator[httpx.Client]:
    """Start `pushforward serve --demo` in an empty folder, and give a client of it."""
    command = ["serve", "--demo", "--port", "0", "--processes", str(processes)]
    process = subprocess.Popen(
        [installed.scripts / "pushforward", *command],
        cwd=installed.folder,
        env=installed.environment | {"PYTHONWARNINGS": "default"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        with httpx.Client(base_url=found[1], timeout=60) as client:
            while (ready := client.get("/readyz")).status_code != 200:
                assert process.poll() is None
                assert ready.json()["status"] != "failed", ready.text
            yield client
    finally:
        process.terminate()
        lines.append(process.communicate(timeout=60)[1])
    assert process.returncode == 0
    assert warnings_of_ours("".join(lines)) == []


def warnings_of_ours(stderr: str) -> list[str]:
    """Return what Python warned of in files of the wheel."""
    return re.findall(rf"site-packages/(?:{'|'.join(PACKAGES)})/.*: \w*Warning: .*", stderr)


def found_python(version: str) -> Path | None:
    """Return a Python of this version that can make environments: from PATH, of pyenv or of uv."""
    homes = ".pyenv/versions", ".local/share/uv/python"
    folders = [folder for home in homes for folder in Path.home().glob(f"{home}/*{version}.*/bin")]
    for folder in (*map(Path, os.get_exec_path()), *folders):
        python = folder / f"python{version}"
        if python.exists() and makes_environments(python):
            return python
    return None


def makes_environments(python: Path) -> bool:
    """Tell whether it runs, which what pyenv has on PATH for a version that is not chosen does not."""
    code = "import ensurepip, venv"
    return subprocess.run([python, "-c", code], env=CLEAN, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installation(wheel, sys.executable, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def served(installed: Installed) -> Iterator[httpx.Client]:
    """A client of `pushforward serve --demo`, started in an empty folder."""
    with demonstration(installed) as client:
        yield client


def test_the_wheel_has_every_file_of_the_packages_and_no_others(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = {name for name in listed.stdout.split("\0") if name and not name.endswith(NOT_SHIPPED)}
    version = newest("digits-vae")
    copies = {f"{DEMO}/{path.relative_to(version.parent)}" for path in version.iterdir()}
    assert names == files - {DEMO} | copies


def test_the_demonstration_is_served_from_an_empty_folder(served: httpx.Client) -> None:
    assert [model["name"] for model in served.get("/v1/models").json()["models"]] == ["digits-vae"]
    npy = {"accept": "application/x-npy"}
    answer = served.post("/v1/models/digits-vae/sample", json={"count": 4, "seed": 7}, headers=npy)
    samples = np.load(io.BytesIO(answer.raise_for_status().content))
    assert samples.shape == (4, 1, 8, 8)
    assert 0 <= samples.min() < 0.1 < 0.9 < samples.max() <= 1


def test_help_names_every_command(installed: Installed) -> None:
    done = installed.run("pushforward", "--help")
    assert done.returncode == 0
    for command in ("serve", "train", "init", "publish", "sample", "score", "bulk", "verify", "alias"):
        assert re.search(rf"│ {command} ", done.stdout), command
    assert installed.run("pushforward", "--version").stdout.startswith("pushforward 0.")


def test_the_command_samples_from_the_served_demonstration(
    installed: Installed, served: httpx.Client
) -> None:
    options = ("--count", "4", "--seed", "7", "--url", str(served.base_url), "--out", "samples.npy")
    done = installed.run("pushforward", "sample", "digits-vae", *options)
    assert done.returncode == 0, done.stderr
    answer = served.post(
        "/v1/models/digits-vae/sample",
        json={"count": 4, "seed": 7},
        headers={"accept": "application/x-npy"},
    )
    expected = np.load(io.BytesIO(answer.raise_for_status().content))
    assert np.array_equal(np.load(installed.folder / "samples.npy"), expected)


@pytest.mark.parametrize("version", [version for version in SUPPORTED if version != RUNNING])
def test_every_supported_python_samples_and_scores_alike(
    version: str, wheel: Path, installed: Installed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each that is found here serves with two processes, since how those start differs between Pythons."""
    if (python := found_python(version)) is None:
        pytest.skip(f"no Python {version} is found here")
    with demonstration(installed) as served:
        expected = answers(installed, served)
    with installation(wheel, python, tmp_path_factory) as other:
        with demonstration(other, processes=2) as served:
            assert answers(other, served) == expected
        packages = [other.scripts.parent / f"lib/python{version}/site-packages" / name for name in PACKAGES]
        compiled = other.run("python", "-W", "error", "-m", "compileall", "-q", "-f", *map(str, packages))
        assert compiled.returncode == 0, compiled.stdout


def answers(installed: Installed, served: httpx.Client) -> tuple[bytes, bytes]:
    """Have the command sample, and score the samples; return both files."""
    for command in ("sample digits-vae --count 8 --out s.npy", "score digits-vae s.npy --out s.csv"):
        done = installed.run("pushforward", *command.split(), "--seed", "7", "--url", str(served.base_url))
        assert done.returncode == 0, done.stderr
    samples, scores = (installed.folder / name for name in ("s.npy", "s.csv"))
    return samples.read_bytes(), scores.read_bytes()


@pytest.mark.parametrize("command", ["pushforward train run x.toml", "pushforward-train"])
def test_training_says_which_extra_it_needs(installed: Installed, command: str) -> None:
    done = installed.run(*command.split())
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'pushforward[train]'" in done.stderr


def test_versions_are_verified_without_training_and_what_is_left_out_is_said(installed: Installed) -> None:
    found = installed.run("python", "-c", "import pushforward; print(*pushforward.__path__)")
    models = Path(found.stdout.strip()) / "demo"
    done = installed.run("pushforward", "verify", "digits-vae", "--models", str(models))
    assert done.returncode == 0
    assert "digits-vae/3: sound" in done.stdout
    assert "left out" in done.stderr


def test_nothing_of_training_is_installed(installed: Installed) -> None:
    names = "torch", "onnx", "sklearn", "pyarrow", "pytest"
    code = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    assert installed.run("python", "-c", code).stdout == "[]\n"


def test_a_type_checker_finds_the_types_of_a_clone_that_is_installed_for_editing(tmp_path: Path) -> None:
    """So do editors; `make serve` and the other targets install so."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    python = str(tmp_path / "environment" / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--editable", str(REPOSITORY)], env=CLEAN, check=True)
    (tmp_path / "use.py").write_text("from pushforward import Client\n\nnumber: int = Client()\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "use.py"],
        cwd=tmp_path,
        env=CLEAN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'expression has type "Client", variable has type "int"' in checked.stdout
    assert "import-not-found" not in checked.stdout
