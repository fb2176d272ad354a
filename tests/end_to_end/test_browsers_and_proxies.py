"""The needs of browsers and proxies: CORS, a path prefix, security headers, both families of addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import RunningService, running_service
from tests.toy import publish_toy

ORIGIN = "https://app.example"
KEY = "a-key-that-was-given-out"
SAMPLE = "/v1/models/toy-vae/sample"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,x-api-key",
}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("proxied")
    publish_toy(folder / "models")
    (folder / "keys").write_text(f"{KEY}\n")
    options = ("--allow-origin", f"{ORIGIN},http://localhost:3000", "--root-path", "/pre")
    with running_service(folder / "models", *options, "--keys-file", str(folder / "keys")) as service:
        yield service


def allowed(answer: httpx.Response) -> str | None:
    origin: str | None = answer.headers.get("access-control-allow-origin")
    return origin


def test_a_page_of_an_allowed_origin_may_ask_and_read_and_another_may_not(proxied: RunningService) -> None:
    client = proxied.client
    for origin, given in (
        (ORIGIN, ORIGIN),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://evil.example", None),
    ):
        asked = client.options(SAMPLE, headers=PREFLIGHT | {"origin": origin})
        assert (asked.status_code, asked.content, allowed(asked)) == (204, b"", given)
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert {"content-type", "x-api-key"} <= set(asked.headers["access-control-allow-headers"].split(", "))
        for headers, status in (({"x-api-key": KEY}, 200), ({}, 401)):
            answer = client.post(SAMPLE, json={"seed": 7}, headers=headers | {"origin": origin})
            assert (answer.status_code, allowed(answer)) == (status, given)
            assert "Origin" in answer.headers["vary"]
    assert (
        "x-pushforward-seed"
        in client.get("/healthz", headers={"origin": ORIGIN}).headers["access-control-expose-headers"]
    )
    assert allowed(client.get("/healthz")) is None


def test_without_the_setting_no_origin_is_allowed(service: RunningService) -> None:
    asked = service.client.options(SAMPLE, headers=PREFLIGHT | {"origin": ORIGIN})
    assert (asked.status_code, allowed(asked)) == (405, None)
    assert allowed(service.client.post(SAMPLE, json={}, headers={"origin": ORIGIN})) is None


@pytest.mark.parametrize("prefix", ["", "/pre"])
def test_behind_a_prefix_every_path_works_whether_the_proxy_removes_it_or_not(
    proxied: RunningService, prefix: str
) -> None:
    client, headers = proxied.client, {"x-api-key": KEY}
    assert client.get(f"{prefix}{SAMPLE}?seed=7").status_code == 401
    assert client.get(f"{prefix}{SAMPLE}?seed=7", headers=headers).status_code == 200
    assert client.get(f"{prefix}/v1/models", headers=headers).status_code == 200
    assert client.get(f"{prefix}/v2/models/toy-vae.sample", headers=headers).status_code == 200
    assert client.get(f"{prefix}/readyz").status_code == 200
    home = client.get(f"{prefix}/")
    for name in re.findall(r'(?:href|src)="(page/[^"]+)"', home.text):
        assert client.get(f"{prefix}/{name}").status_code == 200
    page = client.get(f"{prefix}/docs").text
    assert "'/pre/openapi.json'" in page
    assert "/pre/static-offline-docs/" in page
    assert client.get(f"{prefix}/static-offline-docs/swagger-ui.css").status_code == 200
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/pre"}]


def test_the_prefix_without_a_slash_leads_to_the_page(proxied: RunningService) -> None:
    assert proxied.client.get("/pre").headers["location"] == "/pre/"


def test_without_the_page_the_address_leads_to_the_documentation(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    with running_service(tmp_path, "--no-page", "--root-path", "/pre") as service:
        assert service.client.get("/").headers["location"] == "/pre/docs"
        assert service.client.get("/page/main.js").status_code == 404


def test_no_answer_names_its_software_and_pages_are_in_no_frame(service: RunningService) -> None:
    for path in ("/docs", "/v1/models", "/healthz", "/nothing", SAMPLE, "/v2"):
        answer = service.client.get(path)
        assert "server" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in service.client.get("/docs").headers["content-security-policy"]


def test_one_service_listens_on_both_families_of_addresses(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    service = RunningService(tmp_path, "--host", "::", "--metrics-port", "0", "--grpc-port", "0")
    try:
        port = service.wait_for(r"running on http://\[::\]:(\d+)")[1]
        metrics = service.wait_for(r"metrics on http://\[::\]:(\d+)")[1]
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/healthz").status_code == 200
            assert httpx.get(f"http://{host}:{metrics}/metrics").status_code == 200
    finally:
        service.stop()
