"""Errors that nobody expected: the client learns nothing of them, and the log all."""

from pathlib import Path

import httpx
import pytest

from service.api.v1 import catalogue
from service.app import create_app
from service.settings import Settings


@pytest.mark.anyio
async def test_a_route_that_fails_answers_500_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "groupby", lambda *_, **__: 1 / 0)
    transport = httpx.ASGITransport(create_app(Settings(models=tmp_path)).app, raise_app_exceptions=False)
    caplog.clear()
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get("/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "division" not in answer.text
    (record,) = [each for each in caplog.records if each.name.startswith("service.")]
    assert record.getMessage() == f"request {answer.headers['x-request-id']} failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
