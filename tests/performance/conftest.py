from __future__ import annotations

import pytest

from .models import Model, bench_models


@pytest.fixture(scope="session")
def bench_catalogue(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """The models that speed is measured on, by name."""
    return bench_models(tmp_path_factory.mktemp("decoders"))
