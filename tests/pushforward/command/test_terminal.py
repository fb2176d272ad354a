"""Answers in a terminal and in a pipe, which no capture of a test is: the command in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pushforward.command.people import title_of
from pushforward.results import ItemScores
from tests.conftest import REPOSITORY
from tests.pushforward.command.inputs import TABLE
from tests.serving import running_service

IMAGE = "digits-vae"
pytestmark = pytest.mark.usefixtures("here")


def in_a_terminal(*arguments: str, **variables: str) -> tuple[str, str]:
    """Return what a command shows in a terminal of 80 columns, and what it writes to standard error."""
    primary, replica = os.openpty()
    command = [sys.executable, "-m", "pushforward", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", "TERM": "dumb", "PATH": "/usr/bin:/bin"}
    environment |= variables
    with subprocess.Popen(
        command, stdout=replica, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        os.close(replica)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so at the end of a terminal
            while piece := os.read(primary, 4096):
                shown += piece
        os.close(primary)
        assert process.stderr is not None
        return shown.decode(errors="replace").replace("\r\n", "\n"), process.stderr.read()


def test_a_terminal_shows_the_anomalies_first(few_models: Path) -> None:
    """They come in a table that fits, between the notes and the progress on standard error."""
    shown, notes = in_a_terminal("score", "toy-table", "table.csv", "--local", str(few_models))
    assert notes == "table.csv: left out `id`, which the model does not have\n"
    title, heading, *rows = shown.splitlines()
    assert title.startswith("3 items scored by toy-table 1 (elbo, 8 draws, seed 5): 1 anomaly at alpha 0.05")
    assert heading.split() == ["row", "surprise", "p", "value", "verdict"]
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        ("2", "anomaly"),
        ("0", "ordinary"),
        ("1", "ordinary"),
    ]


def test_a_terminal_does_not_wait_for_bounds_that_it_does_not_show(tmp_path: Path, here: Path) -> None:
    """A pipe gets them, and the same surprises."""
    name, files = "fashion-vae", "garments.npy"  # which scores by `path`
    np.save(files, np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8))
    models = tmp_path / "models"
    models.mkdir()
    (models / name).symlink_to(REPOSITORY / "models" / name)
    with running_service(models) as service:
        shown, _ = in_a_terminal("score", name, files, "--url", service.url)
        drawn = {"model": name, "stage": "bounds"}
        assert service.metric("pushforward_batch_items_sum", **drawn) == 0
        command = [sys.executable, "-m", "pushforward", "score", name, files, "--url", service.url]
        piped = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=here)
        assert service.metric("pushforward_batch_items_sum", **drawn) > 0
    surprises = [row.split(",")[3] for row in piped.stdout.splitlines()[1:]]
    assert {row.split()[0]: row.split()[1] for row in shown.splitlines()[2:]} == {
        str(row): f"{float(surprise):,.4g}" for row, surprise in enumerate(surprises)
    }


def test_a_picture_is_shown_in_colours_and_where_there_are_none_as_numbers(few_models: Path) -> None:
    command = ("sample", IMAGE, "--seed", "7", "--local", str(few_models))
    title = "1 sample of digits-vae 3, seed 7\n"
    in_colours, _ = in_a_terminal(*command, TERM="xterm-256color")
    assert in_colours.startswith(title)
    assert "\u2580" in in_colours
    in_none, _ = in_a_terminal(*command, TERM="xterm-256color", NO_COLOR="1")
    assert in_none.startswith(title)
    assert "\u2580" not in in_none
    assert re.search(r"value-0 +0\.0\d+", in_none)


def test_bytes_are_not_written_to_a_terminal_unless_it_is_named(few_models: Path) -> None:
    command = ("sample", IMAGE, "--seed", "7", "--local", str(few_models), "--as")
    told = "is no text for a terminal; name a file by --out, or `--out -` to have it here"
    for form in ("png", "parquet"):
        assert in_a_terminal(*command, form) == ("", f"error: {form} {told}\n")
    shown, told = in_a_terminal(*command, "npy", "--out", "-")
    assert len(shown) > 300
    assert told == ""


@pytest.mark.parametrize(("statistic", "how"), [("path", "path"), ("elbo", "elbo, 16 draws, seed 0")])
def test_draws_are_told_of_where_they_make_the_surprise(statistic: str, how: str) -> None:
    """An answer whose default is without noise has them for the bounds beside it."""
    numbers = np.ones(2)
    scores = ItemScores(statistic, 16, 0, 0.05, "none", 1.5, "nats", {}, numbers, numbers, np.zeros(2, bool))
    title = f"2 items scored by a model ({how}): 0 anomalies at alpha 0.05, a surprise above 1.5 nats"
    assert title_of(scores, "a model") == title


def test_a_narrow_terminal_has_whole_names_of_models(few_models: Path) -> None:
    names = {folder.name for folder in few_models.iterdir()}
    for columns, headings in (("60", 5), ("80", 6)):
        variables = {"COLUMNS": columns, "TERM": "xterm"}
        shown, _ = in_a_terminal("models", "--local", str(few_models), **variables)
        heading, *rows = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
        assert len(heading.split()) == headings
        assert names <= {row.split()[0] for row in rows}


def test_a_pipe_gets_the_rows_and_a_reader_that_ends_early_no_traceback(few_models: Path) -> None:
    command = f"{sys.executable} -m pushforward score toy-table - --local {few_models} | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        input=TABLE.encode(),
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith(b"row,p_value,anomaly,surprise,")
    assert done.stderr.decode() == "standard input: left out `id`, which the model does not have\n"
