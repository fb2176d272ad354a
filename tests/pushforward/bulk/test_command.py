"""The command `pushforward bulk`: what it prints, and its exit status."""

from __future__ import annotations

import os
import pty
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pushforward.command.bulk import commands
from tests.pushforward.bulk.work import command, parts

SAMPLE = ("sample", "digits-vae", "--count", "40", "--part-rows", "10", "--processes", "1")


def invoked(*arguments: object) -> tuple[int, str, str]:
    """The exit status, and what is written to both streams, of the command run in this process."""
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_one_line_says_what_was_done(bulk_models: Path, tmp_path: Path) -> None:
    out, line = tmp_path / "out", (*SAMPLE, "--local", bulk_models)
    status, shown, errors = invoked(*line, "--out", out, "--shard", "1/3")
    assert (status, errors) == (0, "")
    assert shown.startswith(f"{out}: sample by digits-vae/3, 40 rows in 4 parts: 1 part made, ")
    assert "those of other shards are missing" in shown
    assert len(shown.splitlines()) == 1
    status, shown, _ = invoked(*line, "--out", out)
    assert status == 0
    assert "3 parts made, 1 there already, complete" in shown
    status, shown, _ = invoked(*line, "--out", out)
    assert "0 parts made, 4 there already, complete" in shown
    (out / "_manifest.json").unlink()
    _, _, _ = invoked(*line, "--out", out)
    assert (out / "_manifest.json").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("sample", "no-model", "--count", "1"), "there are: digits-vae, fashion-gan, toy-table; --local"),
        (("sample", "digits-vae", "--count", "1", "--version", "9"), "has no such version; it has: 3"),
        (("sample", "digits-vae", "--count", "1", "--shard", "4/4"), "wanted i/n"),
        (("sample", "digits-vae", "--count", "1", "--method", "rejection"), "does not offer the method"),
        (("sample", "digits-vae", "--count", "1", "--temperature", "11"), "less than or equal to 10"),
        (("sample", "digits-vae", "--count", "1", "--device", "cuda"), "the device asked for is cuda"),
        (("score", "fashion-gan", "DIGITS"), "rows of shape [8, 8]; wanted [rows, 1, 28, 28]"),
        (("score", "digits-vae", "DIGITS", "--statistic", "pth"), "'corrected', 'path'"),
        (("score", "digits-vae", "DIGITS", "--statistic", "residual"), "has no statistic residual"),
        (("score", "digits-vae", "DIGITS", "--statistic", "path", "--draws", "2"), "free of noise"),
        (("score", "digits-vae", "DIGITS", "--alpha", "1e-9"), "the smallest this model is calibrated for"),
        (("score", "digits-vae", "nothing.npy"), "nothing.npy: no such file or folder"),
        (("encode", "digits-vae", "DIGITS", "--column", "x"), "which only Parquet files have"),
        (("encode", "digits-vae", "s5://nowhere/x.npy"), "URLs need fsspec and its part for this kind"),
    ],
)
def test_a_users_mistake_ends_with_2_says_what_to_do_and_writes_nothing(
    bulk_models: Path, digits: Path, tmp_path: Path, line: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    filled = [str(digits) if word == "DIGITS" else word for word in line]
    status, shown, errors = invoked(*filled, "--out", out, "--local", bulk_models, "--processes", 1)
    assert (status, shown) == (2, ""), errors
    assert said in errors
    assert "Traceback" not in errors
    assert not out.exists()


@pytest.mark.bulk
def test_a_mistake_is_the_same_in_several_processes(bulk_models: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["score", "digits-vae", digits, "--alpha", "1e-9", "--part-rows", 100, "--local", bulk_models]
    done = command(*line, "--out", out, "--processes", 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("the smallest this model is calibrated for") == 1
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_progress(bulk_models: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as pool, os.fdopen(theirs, "w") as terminal:
        shown = pool.submit(_read_all, ours)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stderr", terminal)
            patch.setenv("TERM", "xterm")
            arguments = [*SAMPLE, "--local", str(bulk_models), "--out", str(tmp_path / "out")]
            with pytest.raises(SystemExit, match="0"):
                commands(arguments)
        terminal.close()
        text = shown.result()
    os.close(ours)
    assert "sample digits-vae" in text
    assert "4/4" in text
    assert len(parts(tmp_path / "out")) == 4


def _read_all(terminal: int) -> str:
    """Return all that is written to a terminal until its other end is closed."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 2**12)
        except OSError:  # how Linux tells the end
            piece = b""
        if not piece:
            return b"".join(pieces).decode()
        pieces.append(piece)
