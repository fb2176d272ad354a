"""A first recipe for the user's own data: what it leaves out, what it settles, and that it can be trained."""

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tests.training.data.own_data import a_table, random_pixels, write_csv, write_pictures
from training.data import DataError, load_dataset
from training.data.draft import draft_recipe, write_recipe
from training.data.inspection import Finding, inspect
from training.recipe import Recipe, parse_recipe

ROWS = 300
RANDOM = np.random.default_rng(5)


def drafted(path: Path, **options: Any) -> tuple[Recipe, dict[str, Finding]]:
    """The recipe that is written for a file, parsed, and the findings by their subject."""
    written, findings = write_recipe(path, path.parent / "recipe.toml", **options)
    recipe = parse_recipe(tomllib.loads(written.read_text()))
    return recipe, {finding.subject.strip(): finding for finding in findings}


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        write_recipe(path, path.parent / "recipe.toml", **options)
    assert not (path.parent / "recipe.toml").exists()
    return str(caught.value)


def wells() -> dict[str, list[Any]]:
    depth = RANDOM.normal(1000, 50, ROWS)
    return {
        "": list(range(ROWS)),
        "Well ID": RANDOM.permutation(np.arange(10_000, 10_000 + ROWS * 7, 7)).tolist(),
        "name": [f"well {number}" for number in range(ROWS)],
        "depth": depth.tolist(),
        "depth in feet": (depth / 0.3048).tolist(),
        "country": ["NO"] * ROWS,
        "rock": [["sand", "lime", "shale"][number % 3] for number in range(ROWS)],
        "rock code": [number % 3 for number in range(ROWS)],
        "pressure": [value if number % 9 else "" for number, value in enumerate(depth.tolist())],
        "salinity": [str(value) if number % 50 else "?" for number, value in enumerate(depth.tolist())],
        "drilled": ["2020-01-02"] * (ROWS - 1) + ["2021-03-04"],
        "serial": [2**60 + 3 * number for number in range(ROWS)],
        "offset": [1e9 + value for value in RANDOM.random(ROWS).tolist()],
        "rare": [int(number == 7) for number in range(ROWS)],
        "outcome": ["dry" if number % 4 == 0 else "wet" for number in range(ROWS)],
    }


def test_blank_rows_amid_a_table_are_told_of_and_those_below_it_are_none(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "table.csv", a_table())
    lines = path.read_text().splitlines()
    blank = "," * lines[0].count(",")
    path.write_text("\n".join([*lines, blank, blank, ""]))
    _, findings = write_recipe(path, tmp_path / "below.toml")
    assert not any("missing" in finding.seen or "no value" in finding.seen for finding in findings)
    path.write_text("\n".join([*lines[:8], blank, *lines[8:12], blank, *lines[12:], ""]))
    _, findings = write_recipe(path, tmp_path / "amid.toml")
    assert "2 rows hold no value, the first is row 7" in [finding.seen for finding in findings]


def test_a_table_keeps_what_can_be_learned_and_names_the_reason_for_all_else(tmp_path: Path) -> None:
    recipe, findings = drafted(write_csv(tmp_path / "wells.csv", wells()))
    data = recipe.data
    assert data.one_hot == ("rock",)
    assert data.label == "outcome"
    assert {column.name for column in load_dataset(data).columns} - {"rare"} == {
        *("depth", "rock", "rock code", "pressure", "salinity")
    }
    for name, reason in {
        "(no name)": "has no name",
        "Well ID": "names the rows",
        "name": "names the rows",
        "serial": "names the rows",
        "depth in feet": "repeats depth",
        "country": "'NO' in every row",
        "drilled": "dates, such as",
        "offset": "float32 cannot tell them apart",
    }.items():
        assert reason in findings[name].seen
        assert findings[name].settled == "left out"
    assert "codes" in findings["rock code"].settled
    assert "34 of 300 are missing" in findings["pressure"].seen
    assert "6 of 300 are missing (as '?')" in findings["salinity"].seen
    assert data.missing_codes == {"salinity": ("?",)}


def test_texts_in_other_words_are_repeated_also_where_some_of_them_are_missing(tmp_path: Path) -> None:
    table = a_table()
    rows = len(next(iter(table.values())))
    table["left"] = [("in", "", "out")[number * number % 7 % 3] for number in range(rows)]
    table["gone"] = [("no", "unknown", "yes")[number * number % 7 % 3] for number in range(rows)]
    _, findings = drafted(write_csv(tmp_path / "table.csv", table))
    assert findings["gone"].seen == "repeats left in other words"


def test_only_the_rows_of_kept_classes_count(tmp_path: Path) -> None:
    table = wells()
    table["dry only"] = [int(kind == "wet") * number for number, kind in enumerate(table["outcome"])]
    path = write_csv(tmp_path / "wells.csv", table)
    recipe, findings = drafted(path, keep=["dry"])
    assert recipe.data.keep == ("dry",)
    assert "75 of dry" in findings["rows"].seen
    assert findings["dry only"].seen == "0 in all but 225 rows"
    assert "a change of it is an anomaly" in findings["dry only"].settled
    dataset = load_dataset(recipe.data)
    assert dataset.outliers is not None
    assert len(dataset.outliers) == 225
    assert recipe.calibration.alpha * (len(dataset.items["calibration"]) + 1) >= 1
    (tmp_path / "recipe.toml").unlink()
    assert "no row has the class 'damp'; the classes are 'dry', 'wet'" in refused(path, keep=["damp"])


def test_a_column_of_classes_is_one_with_a_usual_name_and_few_values_or_the_one_that_is_named(
    tmp_path: Path,
) -> None:
    table = {
        "a": RANDOM.random(ROWS).tolist(),
        "target": RANDOM.random(ROWS).tolist(),
        "kind": ["x", "y"] * 150,
    }
    recipe, _ = drafted(write_csv(tmp_path / "table.csv", table))
    assert (recipe.data.label, recipe.data.one_hot) == (None, ("kind",))
    (tmp_path / "recipe.toml").unlink()
    recipe, _ = drafted(tmp_path / "table.csv", label="kind")
    assert (recipe.data.label, recipe.data.one_hot) == ("kind", ())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("My Wells (2).csv", "my-wells-2"),
        ("Großer Bestände-Café.csv", "grosser-bestande-cafe"),
        (f"{'well ' * 20}.csv", f"{'well-' * 12}wel"),
    ],
)
def test_a_recipe_is_named_after_its_file_and_never_overwrites_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path(file), a_table())
    written, _ = write_recipe(Path(file))
    assert written == Path(f"{name}.toml")
    assert tomllib.loads(written.read_text())["name"] == name
    before = written.read_text()
    with pytest.raises(DataError, match="is there already"):
        write_recipe(Path(file))
    assert written.read_text() == before


@pytest.mark.parametrize("rows", [20, 21, 50, 99, 100, 101, 1000, 30_000])
def test_alpha_is_one_that_the_calibration_rows_resolve(tmp_path: Path, rows: int) -> None:
    np.save(tmp_path / "numbers.npy", RANDOM.normal(size=(rows, 3)))
    recipe, _ = drafted(tmp_path / "numbers.npy")
    dataset = load_dataset(recipe.data)
    assert recipe.calibration.alpha * (len(dataset.items["calibration"]) + 1) >= 1
    assert recipe.loop.batch_rows <= len(dataset.items["train"])
    assert len(dataset.items["train"]) >= rows * 0.3


def test_names_of_columns_may_hold_anything(tmp_path: Path) -> None:
    names = ['quo"te', "new\nline", "ünïcode", "back\\slash", "apo'strophe", "tab\there", "# hash"]
    recipe, _ = drafted(write_csv(tmp_path / "t.csv", {name: RANDOM.random(ROWS).tolist() for name in names}))
    assert [column.name for column in load_dataset(recipe.data).columns] == names
    numbered = {**{name: list(range(ROWS)) for name in names}, "kept": RANDOM.random(ROWS).tolist()}
    (tmp_path / "recipe.toml").unlink()
    recipe, _ = drafted(write_csv(tmp_path / "t.csv", numbered))
    assert recipe.data.drop == tuple(names)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.csv", None, "no such file or folder"),
        ("empty.csv", b"", "it is empty"),
        ("head.csv", b"a,b\n", "no rows"),
        ("constant.csv", b"a\n" + b"1\n" * 30, "every column has one value"),
        ("latin.csv", b"a\n" + b"\xe9\n" * 30, "save it as UTF-8"),
        ("marked.csv", ("a\n" + "1\n" * 30).encode("utf-32"), "UTF-32; wanted UTF-8 or UTF-16"),
        ("wide.csv", ("a\n" + "1\n" * 30).encode("utf-32-be"), "UTF-32; wanted UTF-8 or UTF-16"),
        ("book.xlsx", b"x", ".csv, .tsv, .parquet"),
        ("cut.npz", b"PK\x03\x04abc", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert expected in refused(tmp_path / name)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", RANDOM.normal(size=(19, 3)))
    assert "19 rows are too few" in refused(tmp_path / "numbers.npy")


def test_columns_of_an_array_that_cannot_be_learned_are_named_all_at_once(tmp_path: Path) -> None:
    items = RANDOM.normal(size=(ROWS, 5))
    items[:, 1], items[:, 2], items[:, 4] = np.arange(ROWS) * 1e-40, np.arange(ROWS) ** 2 * 1e300, np.nan
    np.save(tmp_path / "numbers.npy", items)
    message = refused(tmp_path / "numbers.npy")
    assert "float32 cannot hold them; 4: no values" in message
    assert "np.delete(items, [1, 2, 4], axis=1)" in message


def test_of_many_columns_that_repeat_others_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((60, 3))
    np.save(tmp_path / "a.npy", np.repeat(values, 30, axis=1))
    table = {f"c{place}": np.repeat(values, 30, axis=1)[:, place].tolist() for place in range(90)}
    for path in (tmp_path / "a.npy", write_csv(tmp_path / "t.csv", table)):
        findings = inspect(path).findings
        assert sum("repeats" in finding.seen for finding in findings) == 20
        assert [finding.subject for finding in findings if "more" in finding.subject] == ["  67 more columns"]


def test_missing_values_of_an_array_are_counted(tmp_path: Path) -> None:
    items = RANDOM.normal(size=(ROWS, 5))
    items[3, 1:3] = items[5, 1] = np.nan
    np.save(tmp_path / "numbers.npy", items)
    _, findings = write_recipe(tmp_path / "numbers.npy", tmp_path / "recipe.toml")
    assert [each.seen for each in findings if each.subject == "missing"] == [
        "3 values, in 2 rows and 2 columns"
    ]


def test_an_array_under_another_key_is_refused_with_the_line_that_saves_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", X=RANDOM.normal(size=(ROWS, 2)), y=np.arange(ROWS) % 2)
    assert 'np.savez("items.npz", items=data["X"], labels=data["y"])' in refused(tmp_path / "theirs.npz")


@pytest.mark.parametrize(
    ("items", "likelihood"),
    [
        (random_pixels(60, 8, 8), "discretised-logistic"),
        (random_pixels(60, 8, 8) > 127, "bernoulli"),
        (random_pixels(60, 8, 8) / 255, "discretised-logistic"),
        (RANDOM.random((60, 8, 8)), "continuous-bernoulli"),
    ],
)
def test_the_likelihood_fits_the_values_of_the_pixels(
    tmp_path: Path, items: np.ndarray, likelihood: str
) -> None:
    np.save(tmp_path / "pictures.npy", items)
    recipe, _ = drafted(tmp_path / "pictures.npy")
    assert recipe.vae is not None
    assert recipe.vae.likelihood == likelihood


def test_a_folder_of_pictures_gets_one_size_and_a_network_that_can_halve_it(tmp_path: Path) -> None:
    write_pictures(tmp_path / "parts" / "good", random_pixels(30, 40, 60))
    write_pictures(tmp_path / "parts" / "bad", random_pixels(12, 44, 60))
    recipe, findings = drafted(tmp_path / "parts")
    assert recipe.data.size == (40, 60)
    assert load_dataset(recipe.data).item_shape == (1, 40, 60)
    assert recipe.network.kind == "convolutional"
    assert all(side % 2 ** len(recipe.network.channels) == 0 for side in recipe.data.size)
    assert "'bad', 'good'" in findings["classes"].seen


def test_the_proposal_to_learn_by_class_is_a_recipe_too(tmp_path: Path) -> None:
    written, _ = write_recipe(write_csv(tmp_path / "wells.csv", wells()), tmp_path / "recipe.toml")
    taken = written.read_text().replace("# conditional = true", "conditional = true")
    assert parse_recipe(tomllib.loads(taken)).conditional
    without = {name: values for name, values in wells().items() if name != "outcome"}
    other, _ = write_recipe(write_csv(tmp_path / "plain.csv", without), tmp_path / "plain.toml")
    assert "conditional" not in other.read_text()


def test_pictures_with_a_long_side_have_figures_of_fewer_draws_and_all_cores(tmp_path: Path) -> None:
    large, small = (random_pixels(40, side, side) for side in (64, 28))
    np.save(tmp_path / "large.npy", large)
    np.save(tmp_path / "small.npy", small)
    recipe, _ = drafted(tmp_path / "large.npy")
    (tmp_path / "recipe.toml").unlink()
    plain, _ = drafted(tmp_path / "small.npy")
    assert recipe.calibration.draws < plain.calibration.draws
    assert recipe.evaluation.draws < plain.evaluation.draws
    assert recipe.loop.threads <= len(os.sched_getaffinity(0))
    assert (plain.loop.threads, recipe.loop.precision) == (1, "float32")
    text = (tmp_path / "recipe.toml").read_text()
    assert "precision" not in text


def test_large_pictures_are_resized(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", random_pixels(20, 120, 200))
    recipe, findings = drafted(tmp_path / "photos")
    assert recipe.data.size == (40, 64)
    assert findings["pictures"].settled == "all resized to 40x64"


@pytest.mark.parametrize("ending", ["csv", "folder"])
def test_rows_beyond_those_looked_at_count_for_splits_and_steps(tmp_path: Path, ending: str) -> None:
    rows, path = 40_000, tmp_path / f"many.{ending}"
    table = pyarrow.table({"a": RANDOM.normal(size=rows), "kind": ["x", "x", "x", "y"] * (rows // 4)})
    if ending == "csv":
        write_csv(path, table.to_pydict())
    else:
        path.mkdir()
        for part in range(2):
            parquet.write_table(table.slice(part * rows // 2, rows // 2), path / f"part-{part}.parquet")
    whole, first = (inspect(path, "kind", ["x"], most_cells=cells) for cells in (2**25, 1000))
    assert first.rows == whole.rows == rows
    assert first.data == whole.data
    assert draft_recipe(first, first.load())[0] == draft_recipe(whole, whole.load())[0]
    (found,) = (finding for finding in first.findings if finding.subject == "rows")
    assert found.seen == "40000, about 30000 of x; looked at the first 16384"
    assert found.settled.startswith("about 21000 to train on")
