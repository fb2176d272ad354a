"""The service's settings: `PUSHFORWARD_*` variables and the command line, read once, then frozen."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Device = Literal["auto", "cpu", "cuda"]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Serves the published models of a folder over HTTP.

    Every option can also be set as an environment variable, `--max-body-bytes` as
    PUSHFORWARD_MAX_BODY_BYTES; the command line wins.
    """

    model_config = SettingsConfigDict(
        env_prefix="PUSHFORWARD_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="pushforward-serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    models: Path = Path("models")
    """Folder of published versions, NAME/VERSION/."""

    source: str = ""
    """URL of a models folder (s3://, gs://, https://) to serve instead of `models`, from a local copy. Needs
    the extra `remote`."""

    cache: Path = Path("~/.cache/pushforward")
    """Folder of local copies, one for each source; what no longer is at the source is deleted there."""

    newest_versions: Annotated[int, Field(ge=0)] = 0
    """How many of a model's newest versions are served side by side, beside those that aliases name; 0 for
    all. With 1, a version takes the place of the one before it."""

    pinned: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[1-9][0-9]*(,|$))*$")] = ""
    """Versions to be served and no others of their models, as NAME/VERSION, with commas between them."""

    poll_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5.0
    """How long from one look for new, removed and renamed versions to the next; 0 never looks again. What
    comes is loaded once two looks in a row have found the same files."""

    trial: Literal["hot", "always", "never"] = "hot"
    """When a version is first loaded and run in a process of its own, which may die of it: `hot`, if it comes
    while others are served; `always`, at the start too, which takes about a second for each."""

    trial_seconds: Seconds = 120.0
    """Longest such a trial may take."""

    trial_memory_bytes: Annotated[int, Field(ge=2**27)] = 4 * 2**30
    """Memory such a trial may use on the CPU, a Python with ONNX Runtime included."""

    host: str = "127.0.0.1"
    """IP address to listen on; 0.0.0.0 for every interface."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on; 0 takes a free one and logs it."""

    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port on which a thread of its own tells the metrics, also while the event loop is stuck; 0 takes a
    free one and logs it. Unless it is set, they are told on the port of the API alone."""

    grpc_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port for the Open Inference Protocol over gRPC, which needs the extra `grpc`; none unless given. 0
    takes a free one and logs it, of one process."""

    repository_control: bool = False
    """Whether clients of the Open Inference Protocol may load and unload models; of one process alone."""

    keys_file: Path | None = None
    """File of keys, one a line. If it is given, requests under /v1 and /v2, and of gRPC, need one of them, as
    `Authorization: Bearer KEY` or `x-api-key: KEY`; probes, metrics and documentation do not."""

    device: Device = "auto"
    """Where models run: `cuda` refuses to start without a working GPU, `auto` falls back and says so."""

    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Replicas of the service that share the port; 0 means one a granted core, or one in all on a GPU."""

    cores: Annotated[int, Field(ge=0, le=1024)] = 0
    """Cores that a process counts on; 0 means those granted, or, of several processes, its share of these."""

    lanes: Annotated[int, Field(ge=0, le=256)] = 0
    """Batches a process computes at once on the CPU, in threads; 0 means as many as its cores and, of
    several processes, one more."""

    max_batch_rows: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Rows (times draws) of one call of ONNX Runtime; larger requests are sliced."""

    max_waiting_rows: Positive = 65_536
    """Rows that may wait for one graph of one model; beyond, requests are refused with 429. Divided by the
    number of processes, but one request of the largest size may always wait."""

    max_body_bytes: Positive = 32 * 2**20
    """Bytes of a request body; beyond, 413."""

    max_json_inputs: Positive = 1_024
    """Inputs (or latents) of one JSON request; send more as npy."""

    max_npy_inputs: Positive = 16_384
    """Inputs (or latents) of one npy request."""

    max_draws: Positive = 5_000
    """Draws (latent samples) per scored item."""

    max_score_cost: Positive = 1_000_000
    """Rows times draws of one score request."""

    max_count: Positive = 1_000_000
    """Samples of one npy request."""

    max_json_count: Positive = 4_096
    """Samples or reconstructions in one JSON or PNG answer."""

    max_budget: Positive = 1_024
    """Proposals for each sample that is chosen by the discriminator."""

    max_proposals: Positive = 16_000_000
    """Samples times budget of one such request."""

    max_steps: Annotated[int, Field(ge=2)] = 1_024
    """Points on one interpolation path."""

    deadline_seconds: Seconds = 60.0
    """Longest a request may take, streams aside; `x-request-timeout-seconds` asks for less."""

    idle_seconds: Seconds = 30.0
    """Longest a client may take to send its request, or to read the next 256 KiB of an answer."""

    keep_alive_seconds: Annotated[int, Field(ge=1, le=3_600)] = 75
    """How long an idle connection is kept; longer than the 60 s of common load balancers."""

    max_header_bytes: Positive = 32 * 2**10
    """Bytes of a request's line and headers; beyond, 431."""

    drain_delay_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """After SIGTERM: how long to go on serving, not ready, before new connections are refused."""

    drain_seconds: Annotated[int, Field(ge=1, le=3_600)] = 30
    """After that: the longest to wait for requests in flight."""

    traces: bool = False
    """Whether to send traces by OTLP over HTTP, where OpenTelemetry's variable OTEL_EXPORTER_OTLP_ENDPOINT
    says; needs the extra `traces`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged; `debug` logs every request."""

    log_format: Literal["text", "json"] = "text"
    """How: lines for people, or an object of JSON a line, with the request's id where there is one."""

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        ip_address(host)
        return host

    @field_validator("processes")
    @classmethod
    def _can_share_a_port(cls, processes: int) -> int:
        if processes > 1 and sys.platform != "linux":
            raise ValueError("only Linux spreads connections over processes that share a port; take 1")
        return processes

    @field_validator("traces")
    @classmethod
    def _can_be_sent(cls, traces: bool) -> bool:
        if traces and find_spec("opentelemetry.sdk") is None:
            raise ValueError("the extra is not installed that sends them: pip install 'pushforward[traces]'")
        return traces

    @property
    def folder(self) -> Path:
        """The local folder whose versions are served: `models`, or the copy of `source`."""
        if not self.source:
            return self.models
        return self.cache.expanduser() / hashlib.sha256(self.source.encode()).hexdigest()[:16]

    @property
    def pins(self) -> dict[str, set[int]]:
        """`pinned`, by the name of the model."""
        pins: dict[str, set[int]] = {}
        for entry in filter(None, self.pinned.split(",")):
            name, version = entry.split("/")
            pins.setdefault(name, set()).add(int(version))
        return pins

    @model_validator(mode="after")
    def _control_one_process(self) -> Self:
        if self.repository_control and self.replicas > 1:
            raise ValueError(
                "repository-control: of several processes a request would reach one; take --processes 1"
            )
        return self

    @model_validator(mode="after")
    def _share_one_grpc_port(self) -> Self:
        if self.grpc_port == 0 and self.replicas > 1:
            raise ValueError("grpc-port: several processes share a port, so name one, or take --processes 1")
        return self

    @property
    def granted_lanes(self) -> int:
        """`lanes`, or the cores this process counts on."""
        return self.lanes or self.own_cores

    @property
    def own_cores(self) -> int:
        """`cores`, or those this process may use."""
        return self.cores or granted_cores()

    @property
    def replicas(self) -> int:
        """`processes`, or as many as serve best here: one a core on the CPU, one on a GPU."""
        if self.processes:
            return self.processes
        one = self.device == "cuda" or (self.device == "auto" and has_gpu()) or sys.platform != "linux"
        return 1 if one else granted_cores()

    def of_one_replica(self, replicas: int, port: int, metrics_port: int | None = None) -> Settings:
        """The settings of one of so many replicas on those ports: its share of what bounds the whole service.

        A lane more than its share of the cores, because the kernel spreads connections by a hash: of few
        connections a replica may get more than its share, and then uses the cores that others leave idle.
        """
        granted = granted_cores()
        cores = self.cores or _divided(granted, replicas)
        most = max(self.max_npy_inputs, self.max_json_inputs, self.max_json_count, self.max_steps)
        rows = max(_divided(self.max_waiting_rows, replicas), min(most, self.max_waiting_rows))
        lanes = self.lanes or min(granted, cores + 1)
        return self.model_copy(
            update={
                "port": port,
                "metrics_port": metrics_port,
                "cores": cores,
                "lanes": lanes,
                "max_waiting_rows": rows,
            }
        )


def _divided(total: int, parts: int) -> int:
    return -(-total // parts)


def has_gpu() -> bool:
    """Whether there is an NVIDIA device; only a session of ONNX Runtime tells whether it can be used."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def granted_cores() -> int:
    """Whole cores this process may use: its affinity, cut by the cgroup's CPU quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, _cgroup_quota_cores())))


def _cgroup_quota_cores() -> float:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float("inf") if quota == "max" else max(1.0, int(quota) / int(period))
    except (OSError, ValueError):
        return float("inf")
