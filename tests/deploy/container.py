"""Builds the image without a Docker engine, by buildah, and runs it as Kubernetes would, by runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY

TOOLS = ("buildah", "runc", "debootstrap")
BASE = "localhost/debian-python:12"
"""The substitute for the Dockerfile's base where no registry of images can be reached."""
START_SECONDS = 120


def obstacle() -> str | None:
    """Return the reason why this machine can neither build nor run the image, or None if it can."""
    if os.geteuid() != 0:
        return "only root can debootstrap and run a container here"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install {' '.join(TOOLS)})"
    if sys.version_info[:2] != (3, 11):
        return "the wheels of the image are for Python 3.11, as Debian 12 has it"
    return None


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; fails with what it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


class Builder:
    """buildah with a store of its own in a folder; nothing outside it is touched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store = ("--root", folder / "store", "--runroot", folder / "run", "--storage-driver", "vfs")
        self._buildah = ("buildah", *store)

    def build(self, target: str) -> str:
        """Builds a target of the Dockerfile upon Debian and the locked wheels; gives the image's name."""
        self._make_base()
        wheels = self._download(target)
        name = f"localhost/pushforward:{target}"
        run(
            *(*self._buildah, "bud", "--isolation", "chroot", "--format", "docker", "--pull-never"),
            *("--build-arg", f"BASE={BASE}", "--build-arg", "PIP_NO_INDEX=1"),
            *("--build-arg", "PIP_FIND_LINKS=/wheels", "--volume", f"{wheels}:/wheels:ro"),
            *("--build-arg", f"REVISION={run('git', '-C', REPOSITORY, 'rev-parse', 'HEAD').stdout.strip()}"),
            *("--ignorefile", REPOSITORY / "deploy/Dockerfile.dockerignore"),
            *("--file", REPOSITORY / "deploy/Dockerfile", "--target", target, "--tag", name, REPOSITORY),
        )
        return name

    def inspect(self, image: str) -> dict[str, Any]:
        """The image's configuration, as Docker has it."""
        told = json.loads(run(*self._buildah, "inspect", "--type", "image", image).stdout)
        config: dict[str, Any] = told["Docker"]["config"]
        return config

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The root file system of a new container of the image."""
        container = run(*self._buildah, "from", "--pull-never", image).stdout.strip()
        try:
            yield Path(run(*self._buildah, "mount", container).stdout.strip())
        finally:
            run(*self._buildah, "rm", container)

    def _make_base(self) -> None:
        if BASE in run(*self._buildah, "images", "--format", "{{.Name}}:{{.Tag}}").stdout.split():
            return
        context = self._folder / "base"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir(parents=True)
        root = self._folder / "rootfs"
        shutil.rmtree(root, ignore_errors=True)
        run(
            "debootstrap",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "bookworm",
            root,
        )
        shutil.rmtree(root / "var/cache/apt")
        run("tar", "--create", "--file", context / "root.tar", "--directory", root, ".")
        shutil.rmtree(root)
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        run(*self._buildah, "bud", "--isolation", "chroot", "--format", "docker", "--tag", BASE, context)
        shutil.rmtree(context)

    def _download(self, target: str) -> Path:
        """The wheels of the lock files, checked by their hashes; the build has no network."""
        wheels = self._folder / "wheels"
        for lock in ("build", target):
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"),
                *("--only-binary=:all:", "--dest", wheels),
                *("--requirement", REPOSITORY / f"deploy/requirements-{lock}.txt"),
            )
        return wheels


class Container:
    """A root file system run as the pod's security context asks, on this machine's network.

    The user, the read-only root, the dropped capabilities, no new privileges, a tmpfs at /tmp and a memory
    limit are those of deploy/base; seccomp and the CPU are left to the machine.
    """

    def __init__(
        self, root: Path, bundle: Path, config: dict[str, Any], memory_bytes: int, port: int
    ) -> None:
        self.name = f"pushforward-{os.getpid()}-{bundle.name}"
        self.url = f"http://127.0.0.1:{port}"
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "config.json").unlink(missing_ok=True)
        run("runc", "spec", "--bundle", bundle)
        spec = json.loads((bundle / "config.json").read_text())
        process = spec["process"]
        process |= {
            "terminal": False,
            "user": dict(zip(("uid", "gid"), map(int, config["User"].split(":")), strict=True)),
            "args": [*config["Entrypoint"], "--host", "127.0.0.1", "--port", str(port), "--processes", "1"],
            "env": config["Env"],
            "cwd": config["WorkingDir"],
            "capabilities": {},
            "noNewPrivileges": True,
        }
        spec["root"] = {"path": str(root), "readonly": True}
        kept = [mount for mount in spec["mounts"] if mount["type"] not in ("cgroup", "sysfs", "mqueue")]
        scratch = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
        spec["mounts"] = [*kept, scratch | {"options": ["nosuid", "nodev", "mode=1777", "size=128m"]}]
        linux = spec["linux"]
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in ("network", "cgroup")]
        linux["resources"] |= {
            "memory": {"limit": memory_bytes, "swap": memory_bytes},
            "pids": {"limit": 128},
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        self._log = (bundle / "log").open("wb")
        self.started = time.monotonic()
        command = ["runc", "run", "--bundle", str(bundle), self.name]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL)
        self.log_path = bundle / "log"
        self.ready_seconds = 0.0

    def wait_until_ready(self) -> float:
        """Blocks until it is ready; gives the seconds since its start. Fails with its log if it ends."""
        while time.monotonic() < self.started + START_SECONDS:
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    self.ready_seconds = time.monotonic() - self.started
                    return self.ready_seconds
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.01)
        raise AssertionError(f"not ready within {START_SECONDS} s:\n{self.log_path.read_text()}")

    def status(self) -> dict[str, str]:
        """Return /proc/PID/status of its first process."""
        pid = json.loads(run("runc", "state", self.name).stdout)["pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command within."""
        return run("runc", "exec", self.name, *command, check=False)

    def memory_bytes(self) -> int:
        """Return the memory that its processes hold now and that the kernel cannot reclaim."""
        stats = json.loads(run("runc", "events", "--stats", self.name).stdout)["data"]["memory"]
        raw = stats["raw"]
        return int(raw.get("rss", raw.get("anon", 0))) + int(raw.get("shmem", 0))

    def limit_memory(self, memory_bytes: int) -> None:
        """Moves its limit."""
        run("runc", "update", "--memory", str(memory_bytes), "--memory-swap", str(memory_bytes), self.name)

    def terminate(self) -> None:
        """Sends SIGTERM to its first process."""
        run("runc", "kill", self.name, "TERM")

    def close(self) -> None:
        """Ends it, whatever it does, and removes what runc keeps of it."""
        run("runc", "delete", "--force", self.name, check=False)
        self.process.wait(timeout=30)
        self._log.close()
