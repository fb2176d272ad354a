import threading
from collections.abc import Set as AbstractSet
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from service.lifecycle.source import fingerprint, versions_to_serve

NUMBERS = st.sets(st.integers(1, 12))


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 4))
def test_wanted_are_the_newest_that_did_not_fail_and_those_with_a_name(
    there: AbstractSet[int], failed: AbstractSet[int], aliased: AbstractSet[int], newest: int
) -> None:
    chosen = versions_to_serve(there, failed, aliased, newest=newest)
    sound = there - failed
    assert aliased & sound <= chosen <= sound
    unnamed = chosen - aliased
    if newest == 0:
        assert chosen == sound
    else:
        assert all(len({other for other in sound if other > version}) < newest for version in unnamed)
        assert len(chosen) >= min(newest, len(sound))


@given(NUMBERS, NUMBERS, NUMBERS, st.sets(st.integers(1, 12), min_size=1))
def test_pinned_versions_are_wanted_if_they_are_sound_and_no_others(
    there: AbstractSet[int], failed: AbstractSet[int], aliased: AbstractSet[int], pinned: AbstractSet[int]
) -> None:
    assert versions_to_serve(there, failed, aliased, newest=1, pinned=pinned) == (there - failed) & pinned


def test_a_version_whose_other_files_come_and_go_is_never_gone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    looked = threading.Event()

    def come_and_go() -> None:
        while not looked.is_set():
            (tmp_path / "other").touch()
            (tmp_path / "other").unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    names = {name for _ in range(10_000) for name, *_ in fingerprint(tmp_path) or [("gone",)]}
    looked.set()
    thread.join()
    assert names <= {"manifest.json", "other"}
