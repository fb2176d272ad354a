"""Mistakes in the commands that use a model: exit statuses, messages, and the files that are left."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pushforward.command.inputs import as_files
from tests.pushforward.command.running import Run
from tests.serving import RunningService, running_service
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("here")

MISTAKES = [
    ("score toy-table nowhere.csv", "nowhere.csv: No such file or directory"),
    ("score toy-table nowhere", "nowhere: No such file or directory"),
    ("score no-vae table.csv", "there is no model of that name; there are: classes-gan, classes-vae, d"),
    (
        "score toy-table/1 table.csv",
        "toy-table/1: the name of a model has no slash; give the version by --version",
    ),
    ("score toy-table table.csv --version 7", "toy-table has no such version; it has: 1"),
    ("score toy-table table.csv --out scores.txt", ".png, .npy, .npz, .csv, .parquet, .json"),
    ("score toy-table table.csv --out scores.png", "write it as one of npy"),
    ("score toy-table table.csv --out nowhere/scores.csv", "nowhere: no such folder"),
    ("score toy-table table.csv --out hollow --as csv", "hollow: a folder is there; name a file"),
    ("score toy-table table.csv --statistic guess", "guess"),
    ("score toy-table table.csv --alpha 1e-9", "the smallest this model is calibrated for"),
    ("score digits-vae table.csv", "table.csv: it has 3 columns; wanted 64 numbers a row"),
    ("score digits-vae pictures.npy", "wanted [rows, 1, 8, 8]"),
    ("score toy-table less.csv", "less.csv: the table lacks `height`; it has `colour`"),
    ("score toy-table twice.csv", "twice.csv: the table has `height` more than once"),
    ("score toy-table word.csv", "word.csv: the column `height` holds 'tall' in row 1"),
    ("score toy-table short.csv", "short.csv: line 3 has 1 values, and the first line has 2"),
    ("score toy-table hole.csv", "hole.csv: the column `height` is empty in 1 of 2 rows, first in row 1"),
    ("score toy-table category.csv", "none of its categories, the first in row 1"),
    ("score toy-table empty.csv", "empty.csv: it is empty"),
    ("score toy-table broken.npy", "broken.npy cannot be read as npy: the magic string is not correct"),
    ("score toy-table objects.npy", "never unpickled"),
    ("score toy-table broken.parquet", "broken.parquet: it cannot be read as Parquet"),
    ("score toy-table broken.json", "broken.json cannot be read as json"),
    ("score digits-vae broken.png", "broken.png: the picture cannot be read as a PNG"),
    (
        "score digits-vae large.png",
        "the picture has 9 x 8 pixels (width x height), the model takes 8 x 8; resize it, or cut it up",
    ),
    ("score digits-vae hollow", "hollow: no pictures are in this folder"),
    ("sample digits-vae --method rejection", "does not offer the method rejection"),
    ("sample digits-vae --count 5000 --out grid.png", "more than the 4096 that go into one picture"),
    ("sample digits-vae --count 0", "--count"),
    ("sample toy-table --out table.png", "write it as one of npy"),
    ("interpolate digits-vae --from \u00b2 --to 2", "\u00b2 is no point: wanted SEED"),
    ("interpolate digits-vae --from x1 --to 2", "x1 is no point: wanted SEED, SEED:INDEX, or a file"),
    ("interpolate digits-vae --from 1 --to pixels.npy", "a point is one item or latent; 5 came"),
    ("discriminate digits-vae pixels.npy", "does not offer discriminate"),
    (
        "reconstruct digits-vae pixels.npy --beside --out pairs.csv",
        "--beside is for pictures; the output is csv",
    ),
    ("score digits-vae pixels.npy --overlay", "name the file of the map by --map"),
    ("score toy-table table.csv --alpha 1.5", "less than or equal to 1"),
]


def write_mistakes(folder: Path) -> None:
    texts = {
        "less.csv": "colour\nred\n",
        "twice.csv": "height,colour,height\n1,red,2\n",
        "word.csv": "height,colour\n1,red\ntall,red\n",
        "short.csv": "height,colour\n1,red\n1\n",
        "hole.csv": "height,colour\n1,red\n,red\n",
        "category.csv": "height,colour\n1,red\n2,pink\n",
        "empty.csv": "",
        "broken.npy": "nothing at all",
        "broken.parquet": "nothing",
        "broken.json": "{",
        "broken.png": "nothing",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(folder / "pictures.npy", np.zeros((2, 9, 9), np.float32))
    Image.new("L", (9, 8)).save(folder / "large.png")
    (folder / "hollow").mkdir()


@pytest.mark.parametrize(("line", "flaw"), MISTAKES)
def test_a_mistake_has_status_2_and_its_message_names_the_flaw(
    run: Run, here: Path, few_served: RunningService, line: str, flaw: str
) -> None:
    write_mistakes(here)
    done = run(*shlex.split(line), "--url", few_served.url)
    assert done.status == 2
    assert flaw in " ".join(done.error.split())
    assert done.out == b""
    assert "Traceback" not in done.error


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_result_that_fails_leaves_the_old_file_as_it_was(
    run: Run, here: Path, few_models: Path, number: signal.Signals, status: int
) -> None:
    """The file stays whole even if the command is interrupted while it writes."""
    Path("old.csv").write_text("old")
    where = ("--local", few_models, "--out", "old.csv")
    done = run("score", "toy-table", "table.csv", "--alpha", "1e-9", *where)
    assert done.status == 2
    assert Path("old.csv").read_text() == "old"

    def interrupt() -> None:
        wait_until(lambda: any(path.stat().st_size for path in here.glob(".*")))
        os.kill(os.getpid(), number)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    done = run("sample", "digits-vae", "--count", 10**9, *where)
    interrupting.join()
    assert done.status == status
    assert Path("old.csv").read_text() == "old"
    assert not [path for path in here.iterdir() if path.name.startswith(".")]


def test_a_file_that_is_standard_output_is_not_replaced(run: Run, few_models: Path) -> None:
    asked = "sample", "digits-vae", "--seed", 7, "--local", few_models, "--as", "npy", "--out"
    assert run(*asked, "/dev/stdout").out == run(*asked, "-").out != b""


def test_a_result_goes_where_a_link_leads_and_keeps_the_permissions_of_the_old_file(
    run: Run, here: Path, few_models: Path
) -> None:
    link, old = here / "link.npy", here / "there" / "old.npy"
    old.parent.mkdir()
    old.write_text("old")
    old.chmod(0o640)
    link.symlink_to(old)
    done = run("sample", "digits-vae", "--seed", 7, "--local", few_models, "--out", link)
    assert done.status == 0, done.error
    assert link.is_symlink()
    assert np.load(old).shape == (1, 1, 8, 8)
    assert [*old.parent.iterdir()] == [old]
    assert old.stat().st_mode & 0o777 == 0o640


def test_parquet_without_its_library_says_what_to_install(
    run: Run, here: Path, few_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_files(here)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for options in (("rows.parquet",), ("rows.csv", "--out", "scores.parquet")):
        done = run("score", "toy-table", *options, "--local", few_models)
        assert done.status == 1
        assert "pip install pyarrow" in done.error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
@pytest.mark.parametrize("form", ["csv", "npy", "json"])
def test_a_full_disk_is_said_with_the_name_of_the_file(run: Run, few_models: Path, form: str) -> None:
    where = ("--local", few_models, "--as", form, "--out", "/dev/full")
    done = run("sample", "digits-vae", "--count", 500, "--seed", 7, *where)
    assert (done.status, done.error) == (1, "error: /dev/full: No space left on device\n")


def test_a_missing_and_a_wrong_key_say_how_one_is_given(run: Run, few_models: Path, tmp_path: Path) -> None:
    key = "a-key-of-a-test-that-is-long-enough"
    (tmp_path / "keys").write_text(f"{key}\n")
    with running_service(few_models, "--keys-file", str(tmp_path / "keys")) as service:
        for given in ((), ("--key", "another-key")):
            done = run("models", "--url", service.url, *given)
            assert (done.status, done.out) == (2, b"")
            assert done.error.endswith("; here --key or the variable PUSHFORWARD_KEY gives it\n")
        assert run("models", "--url", service.url, "--key", key).status == 0


def test_no_service_at_the_address_has_status_1(run: Run) -> None:
    done = run("models", "--url", "http://127.0.0.1:9")
    assert (done.status, done.out) == (1, b"")
    assert "http://127.0.0.1:9" in done.error
    assert done.error.endswith("; --local and a folder of models need no service\n")
