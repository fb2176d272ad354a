"""Work that was killed, ran out of room, or could not read its input goes on, and nothing else is written."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pushforward.bulk.failures import BulkMistake, Disagreement
from pushforward.bulk.output import OutputFolder
from pushforward.bulk.plan import Shard
from tests.disk import followed
from tests.pushforward.bulk.work import children, command, hashes, parts, started, table, work
from tests.toy import publish_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.bulk

SAMPLES = {"count": 20_000, "seed": 7, "part_rows": 250}
COMMAND = ("sample", "digits-vae", "--count", 20_000, "--seed", 7, "--part-rows", 250)


@pytest.fixture(scope="module")
def undisturbed(bulk_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    work("sample", bulk_models, "digits-vae", out, **SAMPLES)
    return hashes(out)


def _workers(process: int) -> list[int]:
    """The process ids of the workers of a command."""
    named = ((child, Path(f"/proc/{child}/cmdline").read_bytes()) for child in children(process))
    return [worker for child, line in named if b"forkserver" in line for worker in children(child)]


def test_every_part_is_on_the_disk_when_the_work_is_done(bulk_models: Path, tmp_path: Path) -> None:
    with followed() as disk:
        work("sample", bulk_models, "digits-vae", tmp_path / "out", count=60, part_rows=20)
    for part in parts(tmp_path / "out"):
        assert disk.after(part.name) >= {part.name, "out"}


def test_a_worker_killed_in_the_middle_loses_and_repeats_no_row(
    bulk_models: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    process = started(*COMMAND, "--out", out, "--local", bulk_models, "--processes", 2)
    try:
        wait_until(lambda: parts(out))
        victim = wait_until(lambda: _workers(process.pid))[0]
        os.kill(victim, signal.SIGKILL)
        made = len(parts(out))
        shown, errors = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert made < 80, "it was killed too late to matter"
    assert hashes(out) == undisturbed
    assert "80 parts: 80 parts made, complete" in shown


def test_an_output_folder_that_is_removed_meanwhile_is_no_success(bulk_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = started(*COMMAND, "--out", out, "--local", bulk_models, "--processes", 1)
    wait_until(lambda: len(parts(out)) > 2)
    while out.exists():  # a part may be written into it meanwhile
        shutil.rmtree(out, ignore_errors=True)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "give the same command again" in errors


def test_a_command_killed_in_the_middle_goes_on_where_it_was(
    bulk_models: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    process = started(*COMMAND, "--out", out, "--local", bulk_models, "--processes", 1)
    wait_until(lambda: len(parts(out)) > 2)
    process.kill()
    process.communicate()
    there = {path.name: path.stat().st_mtime_ns for path in parts(out)}
    assert 2 < len(there) < 80
    report = work("sample", bulk_models, "digits-vae", out, **SAMPLES)
    assert report.complete
    assert report.made + report.there == 80
    assert report.there >= len(there) - 1  # one part may have been without its record
    kept = sum(path.stat().st_mtime_ns == there[path.name] for path in parts(out) if path.name in there)
    assert kept == report.there
    assert hashes(out) == undisturbed


@pytest.mark.parametrize("processes", [1, 2])
def test_a_command_that_is_terminated_leaves_no_half_of_a_file_and_says_what_goes_on(
    bulk_models: Path, tmp_path: Path, undisturbed: dict[str, str], processes: int
) -> None:
    out = tmp_path / "out"
    line = (*COMMAND, "--out", out, "--local", bulk_models, "--processes", processes)
    process = started(*line)
    wait_until(lambda: len(parts(out)) > 2)
    process.send_signal(signal.SIGTERM)
    shown, errors = process.communicate(timeout=60)
    assert (process.returncode, shown) == (143, ""), errors
    assert errors == f"error: interrupted; the same command goes on where it was stopped, in {out}\n"
    assert 2 < len(parts(out)) < 80
    assert not list(out.rglob(".*"))
    assert command(*line).returncode == 0
    assert hashes(out) == undisturbed


def test_a_damaged_part_is_noticed_and_made_again(bulk_models: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", {"count": 300, "part_rows": 100}
    work("sample", bulk_models, "digits-vae", out, **options)
    whole = hashes(out)
    first, second, third = parts(out)
    content = bytearray(first.read_bytes())
    content[1_000] ^= 1
    first.write_bytes(content)
    second.unlink()
    report = work("sample", bulk_models, "digits-vae", out, **options)
    assert (report.made, report.there, report.damaged) == (2, 1, [0, 1])
    assert third in parts(out)
    assert hashes(out) == whole


def test_a_file_that_someone_left_among_the_records_is_none(bulk_models: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", {"count": 500, "seed": 7, "part_rows": 250}
    work("sample", bulk_models, "digits-vae", out, **few)
    (out / "_parts/00001.json").rename(out / "_parts/00001.json~")
    report = work("sample", bulk_models, "digits-vae", out, **few)
    assert (report.made, report.there, report.complete) == (1, 1, True)


def test_a_part_is_recorded_only_once_it_has_its_name(bulk_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work("sample", bulk_models, "digits-vae", out, count=20, part_rows=10, shard=Shard(0, 2))
    (out / "part-00001.parquet").mkdir()  # so that it cannot get its name
    report = work("sample", bulk_models, "digits-vae", out, count=20, part_rows=10)
    assert (report.left, report.complete, len(report.failures)) == (1, False, 1)
    assert OutputFolder(str(out)).recorded() == {0}


def test_shards_that_end_together_write_one_manifest(bulk_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = work("sample", bulk_models, "digits-vae", out, count=300, part_rows=100)
    whole = hashes(out)
    for _ in range(20):
        (out / "_manifest.json").unlink()
        for left in (".part-00001.parquet.0.partial", "_parts/.00001.json.0.partial"):  # by killed processes
            (out / left).write_bytes(b"half")
        with ThreadPoolExecutor(8) as pool:
            ends = [pool.submit(OutputFolder(str(out)).finish, report.plan) for _ in range(8)]
            assert all(end.result() for end in ends)
        assert hashes(out) == whole


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 8}, "options.seed: 8 now, 0 there"),
        ({"count": 301}, "rows: 301 now, 300 there"),
        ({"part_rows": 50}, "part_rows: 50 now, 100 there"),
        ({"options": {"temperature": 0.5}}, "options.temperature: 0.5 now, 1.0 there"),
    ],
)
def test_other_work_in_the_same_folder_is_refused_with_what_differs(
    bulk_models: Path, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    out, options = tmp_path / "out", {"count": 300, "part_rows": 100}
    work("sample", bulk_models, "digits-vae", out, **options)
    before = hashes(out)
    with pytest.raises(BulkMistake, match=said):
        work("sample", bulk_models, "digits-vae", out, **{**options, **changed})
    assert hashes(out) == before


def test_another_version_under_the_same_number_is_refused(tmp_path: Path) -> None:
    models, out = tmp_path / "models", tmp_path / "out"
    publish_toy(models)
    work("sample", models, "toy-vae", out, count=30, part_rows=10, shard=Shard(0, 2))
    shutil.rmtree(models)
    publish_toy(models, mixture=True)
    with pytest.raises(BulkMistake, match=r"version_sha256: \w+ now, \w+ there"):
        work("sample", models, "toy-vae", out, count=30, part_rows=10)


def test_a_manifest_of_other_bytes_than_those_of_the_parts_is_told_and_stays(
    bulk_models: Path, tmp_path: Path
) -> None:
    options = {"count": 30, "part_rows": 10}
    work("sample", bulk_models, "digits-vae", tmp_path, **options)
    manifest, (name, *_) = tmp_path / "_manifest.json", (part.name for part in parts(tmp_path))
    other = manifest.read_text().replace(hashes(tmp_path)[name], "0" * 64)
    manifest.write_text(other)
    with pytest.raises(Disagreement, match="names other bytes than the parts have now"):
        work("sample", bulk_models, "digits-vae", tmp_path, **options)
    assert manifest.read_text() == other


def test_samples_beyond_the_last_number_are_refused_before_any_work(
    bulk_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(BulkMistake, match=r"the last one has the number 2\^53 - 1"):
        work("sample", bulk_models, "digits-vae", tmp_path / "out", count=300, offset=2**53 - 299)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused(bulk_models: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(BulkMistake, match=r"holds other files, such as notes\.txt"):
        work("sample", bulk_models, "digits-vae", tmp_path, count=1)
    for path in (notes, notes / "out"):
        with pytest.raises(BulkMistake, match="is a file, or in one; name an empty or a new folder"):
            work("sample", bulk_models, "digits-vae", path, count=1)


def test_an_input_that_changed_between_runs_is_refused(bulk_models: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "x.npy", tmp_path / "out"
    items = np.random.default_rng(0).random((30_000, 1, 8, 8), np.float32)
    np.save(path, items)
    options = {"input": str(path), "part_rows": 1_000}
    work("encode", bulk_models, "digits-vae", out, **options)
    (out / "_manifest.json").unlink()
    parts(out)[3].unlink()
    items[15_000, 0, 4, 4] += 0.25  # far from both ends of the file
    np.save(path, items)
    with pytest.raises(BulkMistake, match=r"has changed: rows 15000 to 15999 are not those"):
        work("encode", bulk_models, "digits-vae", out, **options)
    np.save(path, items[:-1])
    with pytest.raises(BulkMistake, match=r"input\.rows: 29999 now, 30000 there"):
        work("encode", bulk_models, "digits-vae", out, **options)


def test_an_input_that_was_only_written_again_is_taken(
    bulk_models: Path, digits: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "x.npy", tmp_path / "out"
    shutil.copyfile(digits, path)
    work("encode", bulk_models, "digits-vae", out, input=str(path), part_rows=400)
    whole = hashes(out)
    parts(out)[0].unlink()
    shutil.copyfile(digits, path)
    os.utime(path, (1, 1))
    report = work("encode", bulk_models, "digits-vae", out, input=str(path), part_rows=400)
    assert (report.made, report.there) == (1, 2)
    assert hashes(out) == whole


def test_a_full_disk_is_reported_and_the_work_goes_on_once_there_is_room(
    bulk_models: Path, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ["reconstruct", "digits-vae", digits, "--out", out, "--local", bulk_models, "--part-rows", 300]
    # no file may be larger than this: the last part, of 100 rows, is the only one that fits
    process = started(*line, "--processes", 1)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (60_000, 60_000))
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "there is no room for the next file" in errors
    assert "the same command" in errors
    assert parts(out) == []
    assert list(out.glob(".*")) == []
    assert shown == ""
    report = work("reconstruct", bulk_models, "digits-vae", out, input=str(digits), part_rows=300)
    assert (report.made, report.complete) == (4, True)


def test_an_unreadable_piece_is_reported_the_rest_is_made_and_the_work_goes_on(
    bulk_models: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    items = np.random.default_rng(0).random((3_000, 64), np.float32)
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(items.reshape(-1)), 64)
    file = folder / "items.parquet"
    parquet.write_table(
        pyarrow.table({"items": column}), file, row_group_size=1_000, use_dictionary=False, compression="zstd"
    )
    whole = file.read_bytes()
    place = parquet.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    file.write_bytes(whole[:place] + b"\xff" * 50 + whole[place + 50 :])  # the page's header
    report = work("encode", bulk_models, "digits-vae", out, input=str(folder), part_rows=500)
    assert (report.made, report.left, report.complete) == (4, 2, False)
    assert [failure.status for failure in report.failures] == [1, 1]
    said = r"rows 1000 to 1499 cannot be read: .*; put a whole file in the place of a damaged one"
    assert re.search(said, str(report.failures[0]))
    file.write_bytes(whole)
    report = work("encode", bulk_models, "digits-vae", out, input=str(folder), part_rows=500)
    assert (report.made, report.there, report.complete) == (2, 4, True)
    work("encode", bulk_models, "digits-vae", tmp_path / "again", input=str(folder), part_rows=500)
    assert table(out) == table(tmp_path / "again")


def test_rows_that_do_not_fit_are_named_and_the_other_parts_are_made(
    bulk_models: Path, tmp_path: Path
) -> None:
    items = np.random.default_rng(0).random((100, 1, 8, 8), np.float32)
    items[[47, 49], 0, 2, 2] = np.nan
    np.save(tmp_path / "x.npy", items)
    options = {"input": str(tmp_path / "x.npy"), "part_rows": 20}
    report = work("score", bulk_models, "digits-vae", tmp_path / "out", **options)
    assert (report.made, report.left, report.complete) == (4, 1, False)
    (failure,) = report.failures
    assert failure.status == 2
    assert "(rows 47, 49)" in str(failure)
    assert not (tmp_path / "out" / "_manifest.json").exists()
    assert json.loads((tmp_path / "out" / "_plan.json").read_text())["parts"] == 5


def test_where_no_part_can_be_made_the_rows_are_named(bulk_models: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((3, 1, 8, 8), np.nan, np.float32))
    report = work("score", bulk_models, "digits-vae", tmp_path / "out", input=str(tmp_path / "x.npy"))
    (failure,) = report.failures
    assert (failure.status, report.made, report.complete) == (2, 0, False)
    assert "rows 0" in str(failure)
