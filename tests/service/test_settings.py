import os

import pytest
from pydantic import ValidationError

from service.settings import Settings, granted_cores


def test_variables_of_the_environment_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHFORWARD_MAX_BODY_BYTES", "1234")
    monkeypatch.setenv("PUSHFORWARD_DEVICE", "cpu")
    settings = Settings()
    assert (settings.max_body_bytes, settings.device) == (1234, "cpu")


def test_settings_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        Settings(port=1).port = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(colour="red")  # type: ignore[call-arg]


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if name.endswith("_seconds"):
            assert "long" in field.description.lower(), name


def test_granted_cores_are_at_least_one_and_no_more_than_the_affinity() -> None:
    assert 1 <= granted_cores() <= len(os.sched_getaffinity(0))
    assert Settings(lanes=3).granted_lanes == 3
    assert Settings().granted_lanes == granted_cores()
