"""What other processes count never mixes into the metrics of the replicas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.lifecycle.trial import try_in_subprocess
from service.settings import Settings
from tests.toy import publish_toy

pytestmark = pytest.mark.anyio


async def test_a_trial_leaves_no_values_beside_those_of_the_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, values = publish_toy(tmp_path / "models"), tmp_path / "values"
    values.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(values))  # as a replica does
    async with asyncio.timeout(60):
        await try_in_subprocess(version, "cpu", Settings(models=tmp_path / "models"))
    assert list(values.iterdir()) == []
