import re

import pytest

from training.loop import progress

TERMS = """discriminator_loss 0.05507  real_logit 1.649  fake_logit -5.252  r1_penalty 4637  r2_penalty 3732
held-out items: jsd_bound 0.5131  distance_ratio 0.9896  modes_captured 8"""


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_shows_the_bar_the_time_and_every_term_however_many_there_are(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with progress.progress_bar("ring-gan", 16000, quiet=False) as on_progress:
        on_progress(16000, TERMS)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "ring-gan" in shown
    assert "16000/16000" in shown
    assert " left " in shown
    assert set(TERMS.split()) <= set(shown.split())


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress_bar("ring-gan", 16000, quiet=False) as on_progress:
        for done in range(400, 1000):
            on_progress(done, TERMS)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
        on_progress(1000, TERMS)
        assert capsys.readouterr().err.startswith("ring-gan 1000/16000, 0 s gone, ")
        on_progress(1100, "")  # as before the first terms
        assert capsys.readouterr().err.endswith(" s left\n")
        monkeypatch.undo()
        on_progress(16000, TERMS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ring-gan 16000/16000, ")
    assert "r2_penalty 3732; held-out items: jsd_bound" in line


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("ring-gan", 2, quiet=True) as on_progress:
        on_progress(2, TERMS)
    assert capsys.readouterr().err == ""
