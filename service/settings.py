"""The service's settings: read once, from `PUSHFORWARD_*` variables and the command line, then frozen."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterable
from functools import cached_property
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.format.documented import Documented

_OF_THE_CLIENT: Final = frozenset({"PUSHFORWARD_URL", "PUSHFORWARD_KEY"})
"""Variables that the client reads."""
Device = Literal["auto", "cpu", "cuda"]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(Documented, BaseSettings):
    """Serve the published models of a folder over HTTP.

    Every option can also be set as an environment variable, `--max-body-bytes` as
    PUSHFORWARD_MAX_BODY_BYTES; the command line wins.
    """

    model_config = SettingsConfigDict(
        env_prefix="PUSHFORWARD_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    models: Path = Path("models")
    """Folder of published versions, NAME/VERSION/."""

    source: str = ""
    """URL of a models folder (s3://, gs://, https://), served from a local copy instead of `models`; needs
    the extra `remote`."""

    cache: Path = Path("~/.cache/pushforward")
    """Folder of local copies, one for each source, and of the hashes of versions that passed a trial. Copies
    of versions that the source no longer has are deleted."""

    newest_versions: Annotated[int, Field(ge=0)] = 0
    """Number of a model's newest versions that are served side by side; 0 serves all. Versions that an alias
    names are served too. With 1, a new version replaces the one before it."""

    pinned: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[1-9][0-9]*(,|$))*$")] = ""
    """The only versions to serve of the models they belong to: NAME/VERSION, separated by commas."""

    poll_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5.0
    """Longest pause between two polls of the folder for new, removed or renamed versions, in seconds; 0 never
    polls. A new version is loaded once two polls with such a pause between them have found the same files."""

    trial: Literal["hot", "always", "never"] = "hot"
    """Trial of a version in a separate process before it is loaded, because a bad one can end its process:
    `hot` tries a version once, at the start too, and remembers in `cache` that it passed; `always` tries it
    before every load; `never` tries none."""

    trial_seconds: Seconds = 120.0
    """Longest time for one trial, in seconds."""

    trial_memory_bytes: Annotated[int, Field(ge=2**27)] = 4 * 2**30
    """Most memory for one trial on the CPU, in bytes, including Python and ONNX Runtime."""

    host: str = "127.0.0.1"
    """IP address to listen on; 0.0.0.0 means every interface, :: every interface by IPv6 and IPv4, and
    `localhost` 127.0.0.1."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on; 0 takes a free port and logs it."""

    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port on which a separate thread serves the metrics, even while the event loop is blocked; 0 takes a
    free port and logs it. Without it, only the port of the API serves them."""

    grpc_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """TCP port for the Open Inference Protocol over gRPC, which needs the extra `grpc`; off unless set. 0
    takes a free port and logs it, with one process only."""

    tls_certificate: Path | None = None
    """File of a certificate and its chain, PEM, read again once it changes. If it is set, the ports of the
    API and of gRPC speak TLS alone; the metrics' port does not."""

    tls_key: Path | None = None
    """File of the certificate's key, PEM, without a password. If it is not set, the certificate's file has it
    too."""

    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    """Path prefix of the service behind a proxy, as /pushforward, whether the proxy removes it or not."""

    page: bool = True
    """Serve the page at `/`, which shows the models in a browser. Without it, `/` leads to `/docs`."""

    allow_origin: Annotated[str, Field(pattern=r"^(\*|(https?://[a-z0-9.:\[\]-]+(,|$))*)$")] = ""
    """Origins whose pages in a browser may use the API (CORS), separated by commas; * for all."""

    repository_control: bool = False
    """Let clients of the Open Inference Protocol load and unload models; with one process only."""

    keys_file: Path | None = None
    """File of keys, one per line. If it is set, requests under /v1 and /v2 and by gRPC need one of them, as
    `Authorization: Bearer KEY` or `x-api-key: KEY`; probes, metrics and documentation do not."""

    public_metrics: bool = True
    """Serve /metrics on the port of the API to everybody. If false, and there are keys, those with the scope
    `metrics` still read it."""

    public_docs: bool = True
    """Serve /docs and /openapi.json, and describe gRPC's messages to clients that ask (reflection)."""

    device: Device = "auto"
    """Device that models run on: `cuda` refuses to start without a working GPU; `auto` falls back to the CPU
    and reports it."""

    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Replicas of the service that share the port; 0 means one per granted core, or a single one on a GPU."""

    silent_seconds: Seconds = 30.0
    """Longest time for which one of several processes may stand still, or its computations fail, in seconds;
    it is then killed, or drained and stopped, and another one started in its place."""

    cores: Annotated[int, Field(ge=0, le=1024)] = 0
    """Cores that a process plans with; 0 means those granted, or its share of them with several processes."""

    lanes: Annotated[int, Field(ge=0, le=256)] = 0
    """Batches that a process computes at once on the CPU, in threads; 0 means as many as its cores, and one
    more with several processes."""

    max_batch_rows: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Most rows (times draws) of one call of ONNX Runtime; larger requests are sliced."""

    max_waiting_rows: Positive = 65_536
    """Most rows that may wait for one graph of one model; more are refused with 429. The number is divided
    among the processes, but one request of the largest size may always wait."""

    max_body_bytes: Positive = 32 * 2**20
    """Bytes of a request body, at most; more are refused with 413."""

    max_inflight_bytes: Positive = 256 * 2**20
    """Most bytes that requests and answers in flight may hold; more are refused with 503. The number is
    divided among the processes. A request that is alone is not refused."""

    max_picture_pixels: Positive = 2**25
    """Most pixels of a picture of any size, before it is resized for a model; larger ones are refused."""

    max_json_inputs: Positive = 1_024
    """Most inputs (or latents) of one JSON request; send more as npy."""

    max_npy_inputs: Positive = 16_384
    """Most inputs (or latents) of one npy request."""

    max_draws: Positive = 5_000
    """Most draws (latent samples) per scored item."""

    max_score_cost: Positive = 1_000_000
    """Most rows times draws of one score request."""

    max_count: Positive = 1_000_000
    """Most samples of one npy request."""

    max_json_count: Positive = 4_096
    """Most samples or reconstructions in one JSON or PNG answer."""

    max_budget: Positive = 1_024
    """Most proposals for each sample that the discriminator chooses."""

    max_proposals: Positive = 16_000_000
    """Most samples times budget of one such request."""

    max_steps: Annotated[int, Field(ge=2)] = 1_024
    """Most points on one interpolation path."""

    deadline_seconds: Seconds = 60.0
    """Longest time for one request, in seconds, streams aside; `x-request-timeout-seconds` asks for less."""

    idle_seconds: Seconds = 30.0
    """Longest time for a client to send its request, or to read the next 256 KiB of an answer, in seconds."""

    keep_alive_seconds: Annotated[int, Field(ge=1, le=3_600)] = 75
    """Longest time to keep an idle connection, in seconds; more than the 60 s of common load balancers."""

    max_header_bytes: Positive = 32 * 2**10
    """Most bytes of a request's line and headers; more are refused with 431."""

    drain_delay_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds from SIGTERM to the refusal of new connections: as long as load balancers need to see that the
    service is not ready."""

    drain_seconds: Annotated[int, Field(ge=1, le=3_600)] = 30
    """Longest wait after that for requests in flight, in seconds."""

    traces: bool = False
    """Send traces by OTLP over HTTP to the address in OpenTelemetry's variable OTEL_EXPORTER_OTLP_ENDPOINT;
    needs the extra `traces`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged; `debug` logs every request."""

    log_requests: bool = False
    """Log a line for every answer: route, model, version, status, rows, bytes, time, id and key's name."""

    log_format: Literal["text", "json"] = "text"
    """Format of the log: lines for people, or one JSON object per line, with the request's id if any."""

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        if host == "localhost":
            return "127.0.0.1"
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
        """Return the local folder whose versions are served: `models`, or the copy of `source`."""
        if not self.source:
            return self.models
        return self.cache.expanduser() / hashlib.sha256(self.source.encode()).hexdigest()[:16]

    @cached_property
    def pins(self) -> dict[str, set[int]]:
        """Return the pinned versions by model name."""
        pins: dict[str, set[int]] = {}
        for entry in filter(None, self.pinned.split(",")):
            name, version = entry.split("/")
            pins.setdefault(name, set()).add(int(version))
        return pins

    @property
    def origins(self) -> frozenset[str]:
        """Return the origins of `allow_origin`."""
        return frozenset(filter(None, self.allow_origin.split(",")))

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = {"port": self.port, "metrics-port": self.metrics_port, "grpc-port": self.grpc_port}
        for (one, number), (other, same) in itertools.combinations(ports.items(), 2):
            if number and number == same:
                raise ValueError(f"{one} and {other} are both {number}; each needs a number of its own")
        return self

    @model_validator(mode="after")
    def _key_has_its_certificate(self) -> Self:
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls-key: a key needs its certificate; set tls-certificate too")
        return self

    @model_validator(mode="after")
    def _fit_several_processes(self) -> Self:
        if self.repository_control and self.replicas > 1:
            raise ValueError(
                "repository-control: of several processes a request would reach one; take --processes 1"
            )
        if self.grpc_port == 0 and self.replicas > 1:
            raise ValueError("grpc-port: several processes share a port, so name one, or take --processes 1")
        return self

    @property
    def granted_lanes(self) -> int:
        """Return `lanes`, or the cores that this process plans with."""
        return self.lanes or self.own_cores

    @property
    def own_cores(self) -> int:
        """Return `cores`, or the number of cores that this process may use."""
        return self.cores or granted_cores()

    @property
    def replicas(self) -> int:
        """Return `processes`, or the number that serves best here: one per core on the CPU, one on a GPU."""
        if self.processes:
            return self.processes
        one = self.device == "cuda" or (self.device == "auto" and has_gpu()) or sys.platform != "linux"
        return 1 if one else granted_cores()

    def max_answered_rows(self, row_bytes: int) -> int:
        """Return the most rows of so many bytes that one answer has: as many bytes as a body may have.

        Streams have more, as they never lie in memory as a whole.
        """
        return max(1, self.max_body_bytes // row_bytes)

    def for_one_replica(self, replicas: int, port: int, metrics_port: int | None = None) -> Settings:
        """Return the settings of one of several replicas: those ports, and its share of the limits.

        A replica gets one lane more than its share of the cores, which it uses while the others leave them.
        """
        granted = granted_cores()
        cores = self.cores or -(-granted // replicas)
        largest_request = max(self.max_npy_inputs, self.max_json_inputs, self.max_json_count, self.max_steps)
        waiting_rows = max(-(-self.max_waiting_rows // replicas), largest_request)
        share = {
            "port": port,
            "metrics_port": metrics_port,
            "cores": cores,
            "lanes": self.lanes or min(granted, cores + 1),
            "max_waiting_rows": min(self.max_waiting_rows, waiting_rows),
            "max_inflight_bytes": max(1, self.max_inflight_bytes // replicas),
        }
        return self.model_copy(update=share)


def unknown_variable(environment: Iterable[str]) -> str:
    """Return an error about the first variable that is named like a setting and is none, or an empty text."""
    known = {f"PUSHFORWARD_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(environment):
        if name.upper().startswith("PUSHFORWARD_") and name.upper() not in known | _OF_THE_CLIENT:
            if re.fullmatch(r"PUSHFORWARD_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)", name):
                return f"Kubernetes has set {name} for a Service of that name; set enableServiceLinks: false"
            nearest = difflib.get_close_matches(name.upper(), sorted(known), 1, 0)[0]
            return f"the environment has {name}, which is no setting; the nearest is {nearest}"
    return ""


def has_gpu() -> bool:
    """Return True if there is an NVIDIA device. Only a session of ONNX Runtime shows whether it works."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def granted_cores() -> int:
    """Return the whole cores this process may use: its affinity, cut by the cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # there may be no cgroup, or "max" instead of a quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)
