"""The command's root: help, `serve`, `train`, `alias`, `verify` and `init`, typed as a user types them."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from pushforward.__main__ import main
from pushforward.command.app import app
from tests.conftest import REPOSITORY
from tests.damage import change_manifest
from tests.serving import RunningService
from tests.training.data.own_data import a_table, write_csv
from training.__main__ import app as training

MODELS = REPOSITORY / "models"
Typed = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command in this process: the exit status, and what it wrote to output and to errors."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "110")

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["pushforward", *arguments])
        try:
            main()
            status: int | str | None = 0
        except SystemExit as ending:
            status = ending.code or 0
        return status, *capsys.readouterr()

    return run


def in_another_process(
    *arguments: str, before: str = "", after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Type a command in a new interpreter, with Python to run before and after it."""
    code = f"""
import sys
{before}
sys.argv = {["pushforward", *arguments]!r}
from pushforward.__main__ import main
try:
    main()
finally:
    pass
    {after}
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_names_the_first_things_to_type_and_groups_the_commands(typed: Typed) -> None:
    status, shown, _ = typed("--help")
    assert status == 0
    for first in ("pushforward serve --demo", "pushforward init table.csv", "pushforward train table.toml"):
        assert first in shown
    for panel, commands in {
        "Make a model": ("train", "init"),
        "Run it": ("serve", "alias", "verify"),
    }.items():
        _, _, rest = shown.partition(f"─ {panel} ─")
        for command in commands:
            assert re.search(rf"│ {command} ", rest.partition("╰")[0]), (panel, command)


def commands_of(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, group
    for part, command in getattr(group, "commands", {}).items():
        yield from commands_of(command, f"{name} {part}")


def test_a_line_of_a_help_text_is_whole_since_a_narrow_terminal_keeps_its_end() -> None:
    """Only the lines of a first paragraph are joined before they are fitted into the terminal."""
    for root, path in ((app, "pushforward"), (training, "pushforward train")):
        for name, command in commands_of(typer.main.get_command(root), path):
            _, *paragraphs = inspect.cleandoc(command.help).partition("\f")[0].split("\n\n")
            lines = [line for text in paragraphs if not text.startswith("\b") for line in text.splitlines()]
            assert [line for line in lines if not line.endswith((".", ":", "[/]"))] == [], name


def test_the_usage_says_that_there_may_be_several_files(typed: Typed) -> None:
    _, shown, _ = typed("score", "--help")
    assert "Usage: pushforward score [OPTIONS] {MODEL} {FILE}... \n" in shown.replace("  ", "")
    _, shown, _ = typed("models", "--help")
    assert "Usage: pushforward models [OPTIONS] [MODEL]" in shown


def test_the_shell_completes_commands_and_names_of_models_of_a_folder_and_of_a_service(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, few_models: Path, few_served: RunningService
) -> None:
    monkeypatch.setenv("_PUSHFORWARD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "pushforward ver")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert typed() == (0, "verify\n", "")
    monkeypatch.setenv("COMP_CWORD", "4")
    folder, named = f"--local {few_models}", "toy-gan\ntoy-table\ntoy-vae\n"
    for line, proposed in (
        *((f"{command} {folder}", named) for command in ("sample", "score", "models")),
        (f"score --url {few_served.url}", named),
        ("score --url http://127.0.0.1:9", "\n"),  # where nothing serves
        ("score --local no-such-folder", "\n"),
    ):
        monkeypatch.setenv("COMP_WORDS", f"pushforward {line} toy-")
        assert typed() == (0, proposed, ""), line


def test_the_version_is_that_of_the_package(typed: Typed) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert typed("--version") == (0, f"pushforward {project['version']}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sevre"], "Did you mean"),
        (["verify"], "Missing argument"),
        (["alias", "no-such-model"], "models/no-such-model: there is no model of that name; there are: "),
        (["alias", "digits-vae", "champion", "99", "--models", str(MODELS)], "no version 99; it has: 3"),
        (["alias", "digits-vae", "champion"], "an alias and a version"),
        (["serve", "--port", "70000"], "--port: Input should be less"),
        (["serve", "--dmeo"], "--dmeo is no option; the nearest is --demo, and --help lists all"),
        (["serve", "--demos"], "--demos is no option; the nearest is --demo, and --help lists all"),
        (["serve", "--modls", "models"], "--modls is no option; the nearest is --models"),
        (["serve", "modls"], "'modls' is no option; a folder of models is named by --models modls"),
        (["train", "cancer"], "breast-cancer-vae.toml; pushforward train --help lists the commands"),
        (["train", "cancer"], "'cancer' is no command, and no recipe, which is a TOML file; near it are"),
        (["train", "rows.csv"], "`pushforward init FILE` writes one for your own data"),
        (
            ["train", str(MODELS)],
            f"is no recipe; wanted a TOML file that says what to train and how. `pushforward init {MODELS}`",
        ),
        (["train", "evalaute"], "Did you mean 'evaluate'?"),
        (["train", "nothing.toml"], "no recipe at nothing.toml; with the package came, in "),
        (["train", "run", "nothing.toml"], "no recipe at nothing.toml; with the package came, in "),
        (
            ["publish", "nofile.onnx"],
            "'nofile.onnx' is no kind of model; wanted vae, gan, pythae, autoencoder-kl. The kind",
        ),
        (["publish", "vea", "name"], "perhaps vae"),
        (["init", "nofile.csv"], "nofile.csv: no such file or folder, seen from"),
        (
            ["sample", "fashionvae", "--local", str(MODELS)],
            "fashionvae: there is no model of that name; there are: ",
        ),
        (["verify", "digitsvae", "--models", str(MODELS)], "no version or model digitsvae"),
        (["serve", "--models", "nope"], "--models nope: no such folder"),
        (["serve", "--models=nope"], "--models nope: no such folder"),
        (["models", "--url", "htp://x"], "the address is htp://x; wanted one like"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_a_clear_message_and_exit_status_2(
    typed: Typed, arguments: list[str], expected: str
) -> None:
    status, output, errors = typed(*arguments)
    assert status == 2
    assert output == ""
    assert expected in errors
    assert "Traceback" not in errors


def test_serve_imports_nothing_that_the_service_does_not() -> None:
    unwanted = "{'typer', 'rich', 'httpx', 'torch', 'training', 'pushforward.command.app'}"
    done = in_another_process(
        "serve", "--port", "70000", after=f"print(sorted({unwanted} & set(sys.modules)))"
    )
    assert done.stdout == "[]\n"
    assert done.stderr == "pushforward serve: --port: Input should be less than or equal to 65535\n"


def test_a_closed_standard_output_is_no_failure() -> None:
    line = f"exec {sys.executable} -m pushforward --version >&-"
    done = subprocess.run(["sh", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_root_imports_no_library_but_typer() -> None:
    unwanted = "{'numpy', 'pydantic', 'onnxruntime', 'httpx', 'torch', 'PIL', 'pyarrow'}"
    done = in_another_process("--version", after=f"print(sorted({unwanted} & set(sys.modules)))")
    assert done.stdout.endswith("[]\n")


def test_help_of_serve_has_every_option_of_the_service_and_the_demonstration(typed: Typed) -> None:
    status, shown, _ = typed("serve", "--help")
    assert status == 0
    assert shown.startswith("usage: pushforward serve")
    for option in ("--models", "--device", "--max-body-bytes", "--demo"):
        assert option in shown
    assert "default: null" not in shown


def test_the_demonstration_is_served_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    service = RunningService(tmp_path, "--demo", program=("-m", "pushforward", "serve"))
    try:
        models = service.wait_until_ready().client.get("/v1/models").json()["models"]
    finally:
        assert service.stop() == 0
    assert [model["name"] for model in models] == ["digits-vae"]
    assert not list(tmp_path.iterdir())


def test_train_is_all_of_training_under_its_own_name(typed: Typed) -> None:
    status, shown, _ = typed("train", "--help")
    assert status == 0
    assert "Usage: pushforward train [OPTIONS] COMMAND" in shown
    assert "pushforward train RECIPE.toml" in " ".join(shown.split())
    assert "pushforward-train" not in shown


def test_train_without_torch_says_in_one_line_what_to_install() -> None:
    done = in_another_process("train", "run", "table.toml", before="sys.modules['torch'] = None")
    assert done.returncode == 1
    assert done.stderr == (
        "pushforward train: torch is not installed; training needs: pip install 'pushforward[train]'\n"
    )


def test_verify_takes_models_and_versions_by_name_and_by_folder(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    status, shown, errors = typed("verify", "digits-vae", "ring-gan/4", "models/grid-gan")
    assert (status, errors) == (0, "")
    assert "a row's results are equal bit for bit in every batch" in shown
    sound = re.findall(r"^(\S+): sound; \S+ offers sample", shown, re.MULTILINE)
    assert sound == ["models/digits-vae/3", "models/ring-gan/4", "models/grid-gan/5"]


def test_verify_reports_a_broken_version_and_checks_the_others(typed: Typed, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "ring-gan", tmp_path / "ring-gan")
    shutil.copytree(MODELS / "grid-gan", tmp_path / "grid-gan")
    graph = tmp_path / "ring-gan/4/decode.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    status, shown, errors = typed("verify", "ring-gan", "grid-gan", "--models", str(tmp_path))
    assert status == 1
    assert re.search(r"ring-gan/4: broken: .*decode.onnx: its SHA-256 is not the manifest's", errors)
    assert "grid-gan/5: sound" in shown


def test_verify_without_training_runs_the_self_test_and_says_what_it_left_out(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "ring-gan", tmp_path / "ring-gan")
    folder, other = tmp_path / "ring-gan/4", MODELS / "grid-gan/5"
    shutil.copy(other / "weights.bin", folder)
    weights = json.loads((other / "manifest.json").read_text())["weights"]
    change_manifest(folder, lambda manifest: manifest.update(weights=weights))
    missing = "sys.modules['torch'] = sys.modules['onnx'] = None"
    done = in_another_process("verify", str(folder), str(MODELS / "grid-gan"), before=missing)
    assert done.returncode == 1
    assert re.search(r"broken: .*decode", done.stderr)
    assert "grid-gan/5: sound" in done.stdout
    assert "left out: the rules for graphs" in done.stderr


def test_an_alias_is_set_shown_and_removed(typed: Typed, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "ring-gan", tmp_path / "ring-gan")
    folder = ("--models", str(tmp_path))
    assert typed("alias", "ring-gan", "champion", "4", *folder) == (0, "champion 4\n", "")
    assert typed("alias", "ring-gan", *folder) == (0, "champion 4\n", "")
    assert typed("alias", "ring-gan", "champion", "--remove", *folder) == (0, "", "")


def test_init_writes_a_recipe_and_says_how_to_train_it(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("table.csv"), a_table())
    status, shown, _ = typed("init", "table.csv")
    assert status == 0
    assert re.search(r"^ *id +numbers the rows +left out", shown, re.MULTILINE)
    assert shown.rstrip().endswith("wrote table.toml; train it with: pushforward train table.toml")
    assert tomllib.loads(Path("table.toml").read_text())["data"]["drop"] == ["id"]
    status, _, errors = typed("init", "table.csv")
    assert status == 2
    assert "is there already" in errors


def test_init_needs_no_torch_and_pyarrow_for_parquet_alone(tmp_path: Path) -> None:
    table, parquet = write_csv(tmp_path / "table.csv", a_table()), tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": range(200)}), parquet)
    recipe = tmp_path / "table.toml"
    without = "sys.modules['torch'] = sys.modules['pyarrow'] = None"
    done = in_another_process("init", str(parquet), before=without)
    assert done.returncode == 2
    assert "Parquet is read by pyarrow, which is not installed: pip install pyarrow" in done.stderr
    assert in_another_process("init", str(table), "--output", str(recipe), before=without).returncode == 0
    assert recipe.exists()
