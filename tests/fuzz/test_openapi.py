"""Requests that schemathesis makes of our OpenAPI document, valid and invalid; it needs a tool of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import toy
from tests.conftest import REPOSITORY
from tests.serving import running_service
from tests.toy_gan import publish_gan
from tests.toy_table import publish_table

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(300)]
SECONDS = "75"
HOOKS = """
import schemathesis

@schemathesis.serializer(
    "application/x-npy", "application/vnd.apache.parquet", "application/zip", "image/bmp", "image/tiff"
)
def as_bytes(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
"""
"""Bodies that schemathesis has no way to write: any bytes stand for them, which the service has to refuse."""
TOOL = Path(os.environ.get("SCHEMATHESIS", REPOSITORY / ".venv-fuzz/bin/schemathesis"))


def test_what_the_document_says_is_what_is_answered(tmp_path: Path) -> None:
    """All checks but one: the sizes of a model are not in the document, so what it allows may be refused."""
    models = tmp_path / "models"
    toy.publish_toy(models)
    publish_gan(models)
    publish_table(models)
    with running_service(models) as service:
        command = [str(TOOL), "run", f"{service.url}/openapi.json", "--max-time", SECONDS, "--checks", "all"]
        command += ["--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color"]
        (tmp_path / "hooks.py").write_text(HOOKS)
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout[-8_000:]
        assert not any("Traceback" in line for line in service.lines)
