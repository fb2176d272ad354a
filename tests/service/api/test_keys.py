"""Keys: which requests are answered, and how the file may change meanwhile."""

import asyncio
import hashlib
import os
from functools import partial
from pathlib import Path

import pytest

from service.api.file_state import fingerprint
from service.api.keys import Keys
from service.errors import InvalidKeys, KeyMissing, KeyUnknown, ScopeMissing
from service.observe.metrics import Metrics
from tests.waiting import wait_until

FIRST, SECOND = "first-key-of-someone", "second-key-of-another"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# who: someone\n{FIRST}\n\n  {SECOND}  \n")
    return path


@pytest.mark.parametrize("key", [FIRST, SECOND])
def test_a_key_of_the_file_is_taken_in_either_header(file: Path, key: str) -> None:
    keys = Keys(file, Metrics())
    keys.check(f"Bearer {key}", "")
    keys.check(f"bearer  {key}", "")
    keys.check("", key)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", f"Basic {FIRST}"])
def test_without_a_key_one_is_asked_for(file: Path, authorization: str) -> None:
    with pytest.raises(KeyMissing):
        Keys(file, Metrics()).check(authorization, "")


@pytest.mark.parametrize("key", [FIRST[:-1], FIRST + "x", FIRST.upper(), "# who: someone", "é" * 20])
def test_any_other_key_is_refused_without_being_repeated(file: Path, key: str) -> None:
    with pytest.raises(KeyUnknown) as refusal:
        Keys(file, Metrics()).check(f"Bearer {key}", "")
    assert key not in refusal.value.detail


def test_a_file_that_would_not_end_is_refused_and_leaves_the_keys_before(file: Path) -> None:
    keys = Keys(file, Metrics())
    file.unlink()
    os.mkfifo(file)
    keys.reload_if_changed()
    keys.check("", FIRST)
    with pytest.raises(InvalidKeys, match="not a plain file"):
        Keys(file, Metrics())
    file.unlink()
    file.write_bytes(b"#" * (2**24 + 1))
    with pytest.raises(InvalidKeys, match="over 16777216 bytes"):
        Keys(file, Metrics())


def test_a_key_that_is_exchanged_is_taken_and_the_one_before_is_not(file: Path) -> None:
    keys = Keys(file, Metrics())
    file.write_text("a-new-key-for-all-of-them\n")
    keys.check("", FIRST)
    keys.reload_if_changed()
    keys.check("", "a-new-key-for-all-of-them")
    with pytest.raises(KeyUnknown):
        keys.check("", FIRST)


@pytest.mark.parametrize("content", ["", "# none\n", "short\n", None])
def test_a_file_that_is_spoilt_leaves_the_keys_before_and_is_told_until_it_is_mended(
    file: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    keys = Keys(file, metrics)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for _ in range(2):
        keys.reload_if_changed()
        keys.check("", FIRST)
        with pytest.raises(KeyUnknown):
            keys.check("", "a-key-that-never-was-one")
        assert metrics.registry.get_sample_value("pushforward_keys_refused") == 1
    assert caplog.text.count("the keys read before stay") == 1
    file.write_text(f"{FIRST}\n")
    keys.reload_if_changed()
    keys.check("", FIRST)
    assert metrics.registry.get_sample_value("pushforward_keys_refused") == 0


def test_a_file_whose_permissions_were_mended_is_another_one(file: Path) -> None:
    """Else what could not be read stays refused until its content changes, too."""
    before = fingerprint(file)

    def is_told() -> bool:
        file.chmod(0o640)  # again, since the system's clock of files may stand for some milliseconds
        return fingerprint(file) != before

    wait_until(is_told, seconds=5)


def test_a_spoilt_file_and_a_mended_one_are_told_also_while_no_request_comes(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.keys._CHECK_SECONDS", 0.01)

    metrics = Metrics()
    told = partial(metrics.registry.get_sample_value, "pushforward_keys_refused")

    def spoil_and_mend() -> None:
        file.write_text("short\n")
        wait_until(lambda: told() == 1)
        file.write_text(f"{FIRST}\n")
        wait_until(lambda: told() == 0)

    async def followed() -> None:
        following = asyncio.create_task(Keys(file, metrics).follow())
        await asyncio.to_thread(spoil_and_mend)
        following.cancel()

    asyncio.run(followed())


@pytest.mark.parametrize(
    "content", [b"", b"# none\n", b"short\n", b"with a space in the middle\n", b"\xff" * 20]
)
def test_a_file_without_keys_is_refused_by_its_line_and_without_its_content(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(InvalidKeys) as refusal:
        Keys(path, Metrics())
    assert "short" not in refusal.value.detail
    with pytest.raises(InvalidKeys, match="cannot be read"):
        Keys(tmp_path / "nowhere", Metrics())


def test_a_key_has_the_name_and_the_scopes_of_its_line_and_may_stand_there_by_its_digest(file: Path) -> None:
    digest = hashlib.sha256(SECOND.encode()).hexdigest()
    file.write_text(f"{FIRST} shop infer\nsha256:{digest} ops control,infer\na-third-one-of-nobody\n")
    keys = Keys(file, Metrics())
    assert keys.check("", FIRST).name == "shop"
    assert keys.check(f"Bearer {SECOND}", "", "control").name == "ops"
    assert keys.check("", "a-third-one-of-nobody", "control").name == "unnamed"
    with pytest.raises(ScopeMissing, match="scope control"):
        keys.check("", FIRST, "control")
    with pytest.raises(KeyUnknown):
        keys.check("", f"sha256:{digest}")


@pytest.mark.parametrize("rest", ["a b c", "na/me", "name infer,all", "name infer, control"])
def test_a_line_with_other_names_or_scopes_is_refused(file: Path, rest: str) -> None:
    file.write_text(f"{FIRST}\n{SECOND} {rest}\n")
    with pytest.raises(InvalidKeys, match="line 2 of keys") as refusal:
        Keys(file, Metrics())
    assert SECOND not in refusal.value.detail


def test_the_beginning_of_a_key_that_is_being_written_is_not_taken(file: Path) -> None:
    keys = Keys(file, Metrics())
    file.write_text(f"{FIRST}\n{SECOND[:18]}")
    keys.reload_if_changed()
    keys.check("", SECOND)
    file.write_text(f"{FIRST}\n{SECOND}-whole")
    for _ in range(2):
        keys.reload_if_changed()
        with pytest.raises(KeyUnknown):
            keys.check("", SECOND[:18])
    keys.check("", f"{SECOND}-whole")  # the same twice: nothing writes it any more
