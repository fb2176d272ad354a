"""The commands that use a model: the same bytes from a service and from a folder, in every format."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from pushforward.local import LocalModels
from tests import toy_table
from tests.pushforward.command.inputs import HEIGHTS, PICTURES, as_files
from tests.pushforward.command.running import Run
from tests.serving import RunningService

IMAGE = "digits-vae"
pytestmark = pytest.mark.usefixtures("here")

COMMANDS = [
    "models",
    "models --as json",
    "sample digits-vae --count 5 --seed 7 --as png",
    "sample digits-vae --count 5 --seed 7 --offset 2 --temperature 0.5 --as npy",
    "sample toy-gan --count 5 --seed 7 --method rejection --budget 4",
    "sample toy-table --count 5 --seed 7 --output draw",
    "sample toy-vae --version challenger --seed 7",
    "interpolate digits-vae --from 1 --to 2:3 --steps 5 --as png",
    "interpolate digits-vae --from pictures/0.png --to 1 --path linear --as json",
    "encode digits-vae pixels.npy",
    "encode toy-table table.csv --id id",
    "encode digits-vae pictures --as json",
    "decode digits-vae latents.npy --as json",
    "reconstruct digits-vae pictures --as npy",
    "reconstruct toy-table table.csv --id id",
    "read toy-table table.csv --id id",
    "read digits-vae pictures/0.png pictures/3.png --as npy",
    "read digits-vae pixels.npy --as png",
    "read digits-vae pictures --as json",
    "reconstruct digits-vae pictures --beside --as png",
    "score toy-table table.csv",
    "score digits-vae pictures --statistic path --top 2 --as json",
    "score digits-vae pixels.npy --draws 3 --seed 5 --alpha 0.2",
    "score digits-vae pixels.npy --correction benjamini-hochberg",
    "discriminate toy-gan table.npy --as json",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_service_and_a_folder_give_the_same_bytes(
    run: Run, few_models: Path, few_served: RunningService, local: LocalModels, line: str
) -> None:
    np.save("table.npy", local.sample("toy-gan", count=4, seed=1))
    answers = [
        run(*shlex.split(line), *where) for where in (("--url", few_served.url), ("--local", few_models))
    ]
    assert answers[0].status == 0, answers[0].error
    assert answers[0] == answers[1]
    assert answers[0].out


def read_back(path: Path, name: str) -> Any:
    """The content of a file: an array, or arrays by name; `name` is that of the items or rows in JSON."""
    kind = path.suffix
    if kind in (".npy", ".npz"):
        content = np.load(path, allow_pickle=False)
        return dict(content) if kind == ".npz" else content
    if kind == ".json":
        return json.loads(path.read_bytes())[name]
    table = parquet.read_table(path) if kind == ".parquet" else arrow_csv.read_csv(path)
    return {column: table[column].to_numpy() for column in table.column_names}


def assert_table(content: Any, expected: Mapping[str, np.ndarray]) -> None:
    """Columns of a file have the names and, to the last bit, the values of a table."""
    if isinstance(content, list):
        content = {name: np.array([row[name] for row in content]) for name in content[0]}
    names = content.dtype.names if isinstance(content, np.ndarray) else tuple(content)
    assert tuple(names) == tuple(expected)
    for name in names:
        values = np.asarray(content[name])
        if expected[name].dtype.kind == "f":  # of which a missing one is null, and a text the shortest
            values = values.astype(expected[name].dtype)
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "npz", "json"])
def test_scores_read_back_as_they_are(
    run: Run, here: Path, few_models: Path, local: LocalModels, kind: str
) -> None:
    done = run("score", "toy-table", "table.csv", "--local", few_models, "--out", f"scores.{kind}")
    assert (done.status, done.out) == (0, b"")
    wanted = {"row": np.arange(3), **local.score("toy-table", HEIGHTS).table()}
    assert_table(read_back(here / f"scores.{kind}", "scores"), wanted)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_the_column_of_ids_is_written_beside_the_scores(
    run: Run, here: Path, few_models: Path, kind: str
) -> None:
    names = ["c", "a", "b"]
    lines = ["patient,height,colour", *(f"{name},17{place},red" for place, name in enumerate(names))]
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    content = "\n".join(lines) if kind == "csv" else json.dumps({"records": rows})
    (here / f"patients.{kind}").write_text(content)
    done = run("score", "toy-table", f"patients.{kind}", "--id", "patient", "--local", few_models)
    assert done.error == ""
    found = list(csv.DictReader(done.text.splitlines()))
    assert [(row["patient"], row["row"]) for row in found] == [("c", "0"), ("a", "1"), ("b", "2")]
    refused = run("score", "toy-table", f"patients.{kind}", "--id", "nobody", "--local", few_models)
    assert "`nobody`" in refused.error


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "npz"])
@pytest.mark.parametrize("operation", ["encode", "reconstruct"])
def test_ids_and_files_are_written_beside_encodings_and_reconstructions(
    run: Run, here: Path, few_models: Path, operation: str, kind: str
) -> None:
    where = ("--local", few_models, "--out", f"out.{kind}")
    for line, expected in (
        (("toy-table", "table.csv", "--id", "id"), {"id": ["7", "8", "9"], "row": [0, 1, 2]}),
        ((IMAGE, "pictures"), {"file": [f"pictures/{number}.png" for number in range(5)]}),
        ((IMAGE, "pixels.npy"), {}),
    ):
        assert run(operation, *line, *where).status == 0
        path = here / f"out.{kind}"
        content = json.loads(path.read_bytes()) if kind == "json" else read_back(path, "")
        found = {name: [*content[name]] for name in ("id", "row", "file") if name in content}
        if kind == "csv" and "id" in found:
            found["id"] = [*map(str, found["id"])]
        assert found == expected


@pytest.mark.parametrize("kind", ["npy", "npz", "json", "csv", "parquet"])
def test_samples_read_back_as_they_are(
    run: Run, here: Path, few_models: Path, local: LocalModels, kind: str
) -> None:
    run("sample", IMAGE, "--count", 5, "--seed", 7, "--local", few_models, "--out", f"samples.{kind}")
    samples = local.sample(IMAGE, count=5, seed=7)
    content = read_back(here / f"samples.{kind}", "samples")
    if kind in ("csv", "parquet"):
        assert_table(
            content, {f"value-{place}": column for place, column in enumerate(samples.reshape(5, -1).T)}
        )
    else:
        array = content["samples"] if kind == "npz" else np.array(content, np.float32)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, samples)


def test_samples_of_a_table_can_be_scored_as_a_table(run: Run, few_models: Path) -> None:
    where = ("--local", few_models)
    draw = ("sample", "toy-table", "--count", 6, "--seed", 7, "--output", "draw", *where)
    run(*draw, "--out", "rows.csv")
    with open("rows.csv", newline="") as file:
        assert next(csv.reader(file)) == ["height", "colour"]
    npy = run("sample", "toy-table", "--count", 6, "--seed", 7, "--output", "draw", *where, "--as", "npy").out
    scored = [
        run("score", "toy-table", "rows.csv", *where),
        run("score", "toy-table", "-", *where, stdin=npy),
    ]
    assert scored[0].text == scored[1].text


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_draws_of_whole_numbers_are_integers_in_every_table_and_means_are_not(
    run: Run, tmp_path: Path, kind: str
) -> None:
    toy_table.publish_table(tmp_path, value_range=(165.0, 176.0), decimals=0)
    sample = ("sample", "toy-table", "--count", 500, "--seed", 7, "--local", tmp_path)
    run(*sample, "--output", "draw", "--out", f"drawn.{kind}")
    run(*sample, "--out", f"means.{kind}")
    heights = read_back(Path(f"drawn.{kind}"), "samples")["height"]
    assert heights.dtype == np.int64
    assert (heights.min(), heights.max()) == (165, 176)
    assert read_back(Path(f"means.{kind}"), "samples")["height"].dtype.kind == "f"


def test_many_samples_are_written_as_they_are_computed(
    run: Run, here: Path, few_models: Path, local: LocalModels
) -> None:
    """Samples come in several chunks, which leave no trace in the file."""
    samples = local.sample("toy-table", count=10_000, seed=7)
    sample = ("sample", "toy-table", "--count", 10_000, "--seed", 7, "--local", few_models)
    for kind in ("npy", "csv", "parquet"):
        run(*sample, "--out", f"all.{kind}")
    np.testing.assert_array_equal(np.load("all.npy"), samples)
    for kind in ("csv", "parquet"):
        table = read_back(here / f"all.{kind}", "samples")
        np.testing.assert_array_equal(table["height"].astype(np.float32), samples[:, 0])
        assert set(table["colour"]) <= {"red", "green", "blue"}


def test_pictures_are_enlarged_by_a_whole_factor(run: Run, few_models: Path) -> None:
    def size(*options: object) -> tuple[int, int]:
        arguments = ("sample", IMAGE, "--count", 4, "--seed", 7, "--local", few_models, "--as", "png")
        return Image.open(io.BytesIO(run(*arguments, *options).out)).size

    assert size() == (2 * (7 * 8 + 2) + 2,) * 2
    assert size("--scale", 1) == (2 * (8 + 2) + 2,) * 2


def test_a_map_of_the_surprise_comes_beside_the_scores(
    run: Run, few_models: Path, local: LocalModels
) -> None:
    assert run("score", IMAGE, "pictures", "--local", few_models, "--map", "map.npy").text.startswith("file,")
    inputs = PICTURES[:, None].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(np.load("map.npy"), local.surprise_map(IMAGE, inputs))
    run("score", IMAGE, "pictures", "--local", few_models, "--map", "map.png")
    with Image.open("map.png") as picture:
        assert picture.mode == "RGB"


def test_an_array_that_pandas_wrote_as_a_table_is_read_without_its_line_of_numbers(
    run: Run, here: Path, few_models: Path
) -> None:
    pixels = PICTURES.reshape(5, 64) / 255
    lines = [",".join(map(str, row)) for row in ([*range(64)], *pixels.tolist())]
    (here / "array.csv").write_text("\n".join(lines))
    np.save("array.npy", pixels.reshape(5, 1, 8, 8))
    answers = [run("score", IMAGE, f"array.{kind}", "--local", few_models).text for kind in ("csv", "npy")]
    assert answers[0] == answers[1]


def test_a_flaw_names_its_row_in_a_long_file(run: Run, few_models: Path) -> None:
    rows = np.repeat(HEIGHTS[:1], 3_001, axis=0)
    rows[3_000, 0] = np.inf
    np.save("long.npy", rows)
    done = run("score", "toy-table", "long.npy", "--local", few_models)
    assert done.status == 2
    assert "/inputs/3000, row 3000" in done.error


def test_every_format_of_the_same_rows_has_the_same_scores(run: Run, here: Path, few_models: Path) -> None:
    """Standard input works too: its format is seen in its first bytes or named."""
    where = ("--local", few_models)
    wanted = run("score", "toy-table", "table.csv", *where).text
    as_files(here)
    for path in [*here.glob("rows.*"), here / "bare.csv", here / "list.json", here / "body.json"]:
        assert run("score", "toy-table", path, *where).text == wanted, path
        if path.suffix != ".tsv":
            assert run("score", "toy-table", "-", *where, stdin=path.read_bytes()).text == wanted, path
    tabs = (here / "rows.tsv").read_bytes()
    assert run("score", "toy-table", "-", "--format", "tsv", *where, stdin=tabs).text == wanted


def test_pictures_of_every_kind_are_read_as_their_pixels(
    run: Run, few_models: Path, local: LocalModels
) -> None:
    Image.fromarray(PICTURES[0]).save("grey.webp", lossless=True)
    Image.fromarray(PICTURES[0]).convert("RGB").save("colour.png")
    wanted = local.score(IMAGE, PICTURES[0][None, None].astype(np.float32) / np.float32(255)).surprise[0]
    for name in ("pictures/0.png", "grey.webp", "colour.png"):
        (row,) = csv.DictReader(run("score", IMAGE, name, "--local", few_models).text.splitlines())
        assert float(row["surprise"]) == wanted


def test_a_folder_is_read_by_name_with_its_sub_folders(run: Run, here: Path, few_models: Path) -> None:
    (here / "pictures" / "more").mkdir()
    Image.fromarray(PICTURES[0]).save("pictures/more/5.png")
    (here / "pictures" / "notes.txt").write_text("none")
    (here / "pictures" / ".hidden.png").write_text("none")
    done = run("score", IMAGE, "pictures", "--local", few_models)
    names = [row["file"] for row in csv.DictReader(done.text.splitlines())]
    assert names == [*(f"pictures/{number}.png" for number in range(5)), "pictures/more/5.png"]
    assert done.error == "pictures: left out what is no picture: 1 of 7 files, e.g. notes.txt\n"


def test_several_files_are_one_batch_and_each_row_names_its_own(
    run: Run, here: Path, few_models: Path
) -> None:
    as_files(here)
    done = run("score", "toy-table", "rows.csv", "rows.npy", "--local", few_models)
    rows = list(csv.DictReader(done.text.splitlines()))
    assert [(row["file"], row["row"]) for row in rows] == [
        (name, str(row)) for name in ("rows.csv", "rows.npy") for row in range(3)
    ]
    assert done.error == "rows.csv: left out `id`, which the model does not have\n"


def test_scores_of_a_long_file_are_those_of_one_call(
    run: Run, here: Path, few_models: Path, local: LocalModels
) -> None:
    """The command makes several calls, and shows its progress between them."""
    items = toy_table.items(2_500)
    np.save("long.npy", items)
    cases: list[dict[str, Any]] = [{}, {"correction": "benjamini-hochberg", "alpha": 0.3}]
    for options in cases:
        chosen = [f"--{name}={value}" for name, value in options.items()]
        run("score", "toy-table", "long.npy", *chosen, "--local", few_models, "--out", "long.npz")
        wanted = {"row": np.arange(2_500), **local.score("toy-table", items, **options).table()}
        assert_table(read_back(here / "long.npz", "scores"), wanted)


def test_the_top_rows_are_the_most_anomalous_in_order(run: Run, few_models: Path) -> None:
    done = run("score", "toy-table", "table.csv", "--top", 2, "--local", few_models)
    rows = list(csv.DictReader(done.text.splitlines()))
    assert rows[0]["row"] == "2"
    assert float(rows[0]["surprise"]) > float(rows[1]["surprise"])


def test_a_fresh_seed_is_said_and_draws_the_samples_again(run: Run, few_models: Path) -> None:
    first = run("sample", IMAGE, "--local", few_models)
    seed = first.error.removeprefix("the seed is ").strip()
    assert run("sample", IMAGE, "--seed", seed, "--local", few_models).text == first.text


def test_the_variable_names_the_service(
    run: Run, few_served: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHFORWARD_URL", few_served.url)
    assert "toy-vae" in run("models").text
