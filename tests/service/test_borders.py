import os
import subprocess
import sys


def test_the_service_loads_nothing_that_it_was_not_asked_for() -> None:
    """Import-linter reads the sources; this looks at what a started interpreter really holds."""
    script = (
        "import sys, service.process.command;"
        "unwanted = {'torch', 'onnx', 'onnxscript', 'sklearn', 'training', 'opentelemetry.sdk', 'grpc'};"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_teaches_every_setting_with_its_unit() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service", "--help"], capture_output=True, text=True, check=True
    )
    text = " ".join(result.stdout.split())
    for wanted in ("--models", "--device", "--max-body-bytes", "Bytes of a request body", "PUSHFORWARD_"):
        assert wanted in text


def test_a_bad_setting_is_one_clear_line() -> None:
    for option, value in (("--port", "70000"), ("--device", "tpu"), ("--host", "nowhere.example")):
        result = subprocess.run(
            [sys.executable, "-m", "service", option, value], capture_output=True, text=True
        )
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1
        assert option.removeprefix("--") in result.stderr


def test_a_variable_that_is_no_setting_is_one_clear_line() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service"],
        capture_output=True,
        text=True,
        env=os.environ | {"PUSHFORWARD_DEVISE": "cpu"},
    )
    assert result.returncode == 2
    told = "pushforward-serve: the environment has PUSHFORWARD_DEVISE, which is no setting; the nearest is"
    assert result.stderr == f"{told} PUSHFORWARD_DEVICE\n"
