"""The log: a reader that stops keeps nobody waiting."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading

import pytest

from service.observe.logs import JsonLines, PatientHandler

LINES = 2_000


def test_a_log_that_nothing_reads_keeps_nobody_waiting_and_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    handler = PatientHandler()

    def log(number: int) -> None:
        handler.handle(logging.makeLogRecord({"msg": f"line {number} " + "é" * 100}))

    def log_all() -> None:
        for number in range(LINES):
            log(number)

    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as reader:
        monkeypatch.setattr(sys, "stderr", stream)
        logging_all = threading.Thread(target=log_all, daemon=True)
        logging_all.start()
        logging_all.join(30)
        assert not logging_all.is_alive(), "it waits for a reader"
        came = b""
        while b"\n" not in came or len(came) < 2**15:
            came += reader.read(2**16)
        log(LINES)
        log(LINES + 1)
        came += reader.read(2**16)
    lines = came.decode().splitlines()
    whole = [line for line in lines if line.startswith("line ")]
    assert [line.split()[1] for line in whole[:100]] == [str(number) for number in range(100)]
    assert whole[-1].startswith(f"line {LINES + 1} ")
    (told,) = [line for line in lines if "lines of the log are lost" in line]
    assert int(told.split()[0]) == LINES + 2 - len(whole)


def test_a_long_line_comes_whole_to_a_reader_who_takes_his_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    text = "é" * 200_000
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as reader:
        monkeypatch.setattr(sys, "stderr", stream)
        record = logging.makeLogRecord({"msg": text})
        writer = threading.Thread(target=PatientHandler().handle, args=(record,), daemon=True)
        writer.start()
        assert reader.readline().decode() == text + "\n"
        writer.join(30)


@pytest.mark.parametrize("formatter", [JsonLines(), logging.Formatter("%(message)s")], ids=["json", "text"])
def test_a_name_that_is_no_unicode_is_logged(
    monkeypatch: pytest.MonkeyPatch, formatter: logging.Formatter
) -> None:
    reading, writing = os.pipe()
    handler = PatientHandler()
    handler.setFormatter(formatter)
    with (
        os.fdopen(writing, "w", errors=sys.__stderr__.errors) as stream,  # type: ignore[union-attr]
        os.fdopen(reading, "rb", buffering=0) as reader,
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        handler.handle(logging.makeLogRecord({"msg": "no folder é/%s", "args": (os.fsdecode(b"\xff"),)}))
        line = reader.read(2**16).decode()
    assert "no folder é/\\udcff" in line
    if isinstance(formatter, JsonLines):
        assert json.loads(line)["message"] == "no folder é/\udcff"
