"""Columns as exports have them: what `init` makes of them, and that its recipe then loads."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.format.columns import Column
from service.media.tables.dialect import Dialect, find_dialect
from tests.training.data.own_data import load, refusal, write_csv
from training.data.dataset import DataError
from training.data.draft import draft_recipe
from training.data.duplicates import duplicate_rows
from training.data.inspection import Finding, inspect
from training.data.reading import is_date

ROWS = 60
RANDOM = np.random.default_rng(11)


def found(path: Path) -> dict[str, Finding]:
    """The findings of `init` by their subject; its recipe is loaded as training does it."""
    inspection = inspect(path)
    _, findings = draft_recipe(inspection, inspection.load())
    return {finding.subject.strip(): finding for finding in findings}


def with_column(path: Path, values: list[Any]) -> Path:
    """A table of one plain column of numbers, and these values as `odd`."""
    return write_csv(path, {"plain": RANDOM.random(len(values)).tolist(), "odd": values})


def test_infinities_among_numbers_are_called_missing(tmp_path: Path) -> None:
    numbers: list[Any] = RANDOM.random(ROWS).tolist()
    odd = found(with_column(tmp_path / "t.csv", ["inf", "-Infinity", *numbers[2:]]))["odd"]
    assert "2 of 60 are missing (as inf, -inf)" in odd.seen


def test_a_column_with_one_value_where_it_has_one_is_told_so(tmp_path: Path) -> None:
    text = found(with_column(tmp_path / "t.csv", ["yes", "", ""] * (ROWS // 3)))["odd"]
    assert (text.seen, text.settled) == (
        "'yes' in every one of the 20 rows that have it; 40 of 60 are missing",
        "left out",
    )
    number = found(with_column(tmp_path / "t.csv", [3.5, "", ""] * (ROWS // 3)))["odd"]
    assert number.seen == "3.5 in every row that has it"


@pytest.mark.parametrize("form", ["%Y%m%d", "%y%m%d", "%Y%m"])
@pytest.mark.parametrize("days", [7, 43])
def test_dates_in_digits_are_dates_and_no_quantities(tmp_path: Path, form: str, days: int) -> None:
    first = date(1985, 11, 28)
    values = [(first + timedelta(days * (row // 2))).strftime(form) for row in range(ROWS * 4)]
    path = with_column(tmp_path / "t.csv", RANDOM.permutation(values).tolist())
    assert found(path)["odd"].seen.startswith("dates in digits, such as ")
    years = with_column(tmp_path / "y.csv", RANDOM.integers(1990, 2030, ROWS).tolist())
    assert "odd" not in found(years)


def test_digits_with_leading_zeros_are_codes(tmp_path: Path) -> None:
    regions = found(with_column(tmp_path / "t.csv", ["01", "02", "13"] * (ROWS // 3)))["odd"]
    assert (regions.seen, regions.settled) == ("3 texts: '01', '02', '13'", "one_hot: 3 features")
    postal = [f"{501 + 977 * (row % 50):05}" for row in range(ROWS)]
    assert found(with_column(tmp_path / "p.csv", postal))["odd"].settled == "left out"
    for plain in ("{}", "{:.2f}", "0.{}"):
        numbers = [plain.format(row % 9) for row in range(ROWS)]
        assert "odd" not in found(with_column(tmp_path / "n.csv", numbers))


def test_words_for_missing_values_are_told_since_they_may_be_categories(tmp_path: Path) -> None:
    airbags = found(with_column(tmp_path / "t.csv", ["None", "Driver", "Both", "NA"] * (ROWS // 4)))["odd"]
    assert airbags.seen == "30 of 60 are missing (as 'NA', 'None'); else 2 texts: 'Both', 'Driver'"
    discount = found(with_column(tmp_path / "d.csv", ["None", "Student"] * (ROWS // 2)))["odd"]
    assert discount.seen.endswith("30 rows that have it; 30 of 60 are missing (as 'None')")
    with pytest.raises(DataError, match=r"'odd' has 30 missing values \(as 'None'\), in rows 1, 3, 5"):
        inspect(tmp_path / "d.csv", label="odd")


@pytest.mark.parametrize("words", [(True, False), ("true", "false"), ("TRUE", "")])
def test_truth_values_are_categories_as_yes_and_no_are(tmp_path: Path, words: tuple[Any, Any]) -> None:
    values = [*words, "False"] * (ROWS // 3)
    odd = found(with_column(tmp_path / "t.csv", values))["odd"]
    assert odd.seen.endswith("2 texts: 'false', 'true'")
    assert odd.settled == "one_hot: 2 features"
    pairs = found(with_column(tmp_path / "n.csv", [0, 1, 1] * (ROWS // 3)))["odd"]
    assert pairs.settled == "a number; put it in one_hot if 1 means yes"
    assert "odd" not in found(with_column(tmp_path / "y.csv", [2023, 2024, 2024] * (ROWS // 3)))


DATES = {
    "day.month.year": lambda day: f"{day + 1}.3.2024 {day % 24:02}:15",
    "twelve hours": lambda day: f"3/{day + 1}/2024 {day % 12 + 1}:05 PM",
    "month by name": lambda day: f"{day + 1:02}-Mar-2024",
    "month first": lambda day: f"March {day + 1}, 2024",
    "mail": lambda day: f"Mon, {day + 1:02} Mar 2024 10:00:00 GMT",
    "slashes": lambda day: f"2024/03/{day + 1:02}",
    "months": lambda day: f"2024-{day % 12 + 1:02}",
    "quarters": lambda day: f"2024-Q{day % 4 + 1}",
    "clock": lambda day: f"{day % 12 + 1}:30 p.m.",
}


@pytest.mark.parametrize("form", DATES)
@pytest.mark.parametrize("different", [1, 4, 28])
def test_dates_in_every_form_are_dates_and_no_categories(tmp_path: Path, form: str, different: int) -> None:
    path = with_column(tmp_path / "t.csv", [DATES[form](row % (different + 1)) for row in range(ROWS)])
    odd = found(path)["odd"]
    assert odd.seen.startswith("dates, such as"), odd
    assert odd.settled == "left out"
    assert "'odd' holds dates" in refusal("table", path)


@pytest.mark.parametrize("form", ["May {}", "Mar 3 type {}", "10.0.0.{}", "10-{}", "v1.2.{}", "T{}", "{}th"])
def test_texts_that_only_resemble_dates_or_numbers_are_categories(tmp_path: Path, form: str) -> None:
    path = with_column(tmp_path / "t.csv", [form.format("abc"[row % 3]) for row in range(ROWS)])
    assert found(path)["odd"].settled == "one_hot: 3 features"


MARKED = {
    "thousands": lambda value: f"{value * 1000:,.2f}",
    "apostrophes": lambda value: f"{value * 1000:,.2f}".replace(",", "'"),
    "dollars": lambda value: f"${value:.2f}",
    "euros": lambda value: f"{value:.2f} €".replace(".", ","),
    "codes": lambda value: f"EUR {value:.2f}",
    "percent": lambda value: f"{value:.2f} %",
    "kilograms": lambda value: f"{value:.2f} kg",
    "books": lambda value: f"({value:.2f})",
    "typographic minus": lambda value: f"\N{MINUS SIGN}{value:.2f}",
    "minus behind": lambda value: f"{value:.2f}-",
    "Fortran": lambda value: f"{value:.3E}".replace("E", "D"),
}


@pytest.mark.parametrize("form", MARKED)
def test_numbers_with_marks_are_told_as_such(tmp_path: Path, form: str) -> None:
    path = with_column(tmp_path / "t.csv", [MARKED[form](value) for value in RANDOM.gamma(2, 3, ROWS) + 1])
    odd = found(path)["odd"]
    assert "numbers with marks: " in odd.seen, odd
    assert "write them as plain numbers" in odd.seen
    assert odd.settled == "left out"
    assert "numbers with marks, e.g. " in refusal("table", path)


@pytest.mark.parametrize("large", ["1,234.5", "1.234,5", "$1200", "-", "3%"])
def test_a_few_numbers_with_marks_are_never_taken_for_missing_values(tmp_path: Path, large: str) -> None:
    numbers: list[Any] = RANDOM.random(ROWS).round(3).tolist()
    odd = found(with_column(tmp_path / "t.csv", [large, *numbers[1:]]))["odd"]
    if large == "-":
        assert "1 of 60 are missing (as '-')" in odd.seen
    else:
        assert f"numbers with marks: {large!r} in row 1" in odd.seen, odd


@pytest.mark.parametrize("text", ["<0.1", "c118", "12b", "1O.5"])
def test_texts_with_digits_among_numbers_are_no_marks_of_missing_values(tmp_path: Path, text: str) -> None:
    odd = found(with_column(tmp_path / "t.csv", [text, *RANDOM.random(ROWS - 1).tolist()]))["odd"]
    assert odd.seen == f"numbers, but 1 of 60 values are others, such as {text!r} in row 1; correct them"
    spreadsheet = found(with_column(tmp_path / "s.csv", ["#DIV/0!", *RANDOM.random(ROWS - 1).tolist()]))
    assert "1 of 60 are missing (as '#DIV/0!')" in spreadsheet["odd"].seen


@pytest.mark.parametrize("name", ["id", "ID", "customer_id", "Tuna.hid.id", "customerID", "PatientId"])
def test_identifiers_are_left_out_also_if_rows_share_them(tmp_path: Path, name: str) -> None:
    ids = [1_000_000 + 37 * (row // 2) for row in range(ROWS)]
    path = write_csv(tmp_path / "t.csv", {"plain": RANDOM.random(ROWS).tolist(), name: ids})
    assert found(path)[name] == Finding(f"  {name}", "30 numbers under the name of an identifier", "left out")
    few = write_csv(tmp_path / "few.csv", {"plain": RANDOM.random(ROWS).tolist(), name: [7, 3, 5, 9] * 15})
    assert found(few)[name].settled == "a number; put it in one_hot if these are codes"


@pytest.mark.parametrize("name", ["acid", "paid", "PAID", "idle", "id_count"])
def test_words_that_end_like_identifiers_are_none(tmp_path: Path, name: str) -> None:
    values = [row // 2 for row in RANDOM.permutation(ROWS).tolist()]
    path = write_csv(tmp_path / "t.csv", {"plain": RANDOM.random(ROWS).tolist(), name: values})
    assert name not in found(path)


def test_whole_numbers_are_told_with_all_their_digits(tmp_path: Path) -> None:
    days = [19_750_100 + row for row in sorted(RANDOM.integers(1, 800, ROWS).tolist())]
    days[0], days[-1] = 19_750_101, 19_750_899  # no day of a month
    assert "from 19750101 to 19750899" in found(with_column(tmp_path / "t.csv", days))["odd"].seen


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ('town,people\na,"1,234"\nb,"12,345"\nc,999\n', Dialect(",", ".")),
        ('town,people\na,"1,234,567"\nb,"12,345"\n', Dialect(",", ".")),
        ('town\tpeople\na\t"1,234"\nb\t"12,345"\n', Dialect("\t", ".")),
        ('town,people\na,"1,234"\nb,"12,34"\n', Dialect(",", ",")),
        ('town,people\na,"0,234"\nb,"12,345"\n', Dialect(",", ",")),
        ("town\tpeople\na\t1,5\nb\t12,345\n", Dialect("\t", ",")),
        ("town;people\na;1,234\nb;12,345\n", Dialect(";", ",")),
        ("people\tcars\n1,234\t2,250\n", Dialect("\t", ",")),
    ],
)
def test_groups_of_thousands_are_no_decimals(text: str, dialect: Dialect) -> None:
    assert find_dialect(text) == dialect


@pytest.mark.parametrize(
    ("name", "values", "is_class"),
    [
        ("label", [chr(97 + row % 26) for row in range(ROWS * 5)], True),
        ("target", [["1.0", "2.0"][row % 2] for row in range(ROWS)], True),
        ("y", [row % 2 for row in range(ROWS)], True),
        ("y", [row % 40 for row in range(ROWS * 5)], False),
        ("y", [row % 16 for row in range(ROWS)], False),
        ("target", [["1.5", "2.0"][row % 2] for row in range(ROWS)], False),
        ("label", [f"a text {row}" for row in range(ROWS)], False),
    ],
)
def test_classes_are_few_names_or_very_few_whole_numbers(
    tmp_path: Path, name: str, values: list[Any], is_class: bool
) -> None:
    path = write_csv(tmp_path / "t.csv", {"plain": RANDOM.random(len(values)).tolist(), name: values})
    assert (found(path)[name].settled == "label: not learned" if name in found(path) else False) == is_class


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_last_row_of_a_short_table_shows_its_decimals_as_well(rows: int) -> None:
    assert find_dialect("a;b\n" + "1;2\n" * (rows - 1) + "1,5;2\n") == Dialect(";", ",")
    assert find_dialect("a;b\n" + "1;2\n" * rows + "1,5;2", is_cut=True) == Dialect(";", ".")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_column_that_rises_or_falls_with_the_rows_is_told_of(tmp_path: Path, sign: int) -> None:
    times = 1_704_067_200 + sign * np.cumsum(RANDOM.integers(0, 5_000, ROWS))
    odd = found(with_column(tmp_path / "t.csv", times.tolist()))["odd"]
    assert odd.seen.endswith(", in order")
    assert odd.settled.startswith("a number; drop it if it goes on so")
    plain = found(with_column(tmp_path / "t.csv", RANDOM.permutation(times).tolist()))
    assert "odd" not in plain
    few = found(with_column(tmp_path / "t.csv", [row // 10 for row in range(ROWS)]))
    assert "odd" not in few


def copied(values: npt.NDArray[np.floating]) -> int:
    return duplicate_rows(values, [Column(name=str(place)) for place in range(values.shape[1])])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_copies_of_rows_are_counted(kind: type[np.floating]) -> None:
    values = RANDOM.normal(size=(1000, 3)).astype(kind)
    values[5, 1] = np.nan
    assert copied(values) == 0
    assert copied(np.concatenate([values, values[:40]])) == 0  # few
    assert copied(np.concatenate([values, values[:200]])) == 200
    assert copied(np.tile(values[:10], (30, 1))) == 290


def test_rows_of_few_values_agree_by_chance_and_are_no_copies() -> None:
    assert copied(RANDOM.integers(0, 4, (300, 3)).astype(float)) == 0
    assert copied(np.ones((300, 3))) == 0
    whole = np.stack([RANDOM.permutation(50_000) for _ in range(3)], 1)
    assert copied(whole.astype(float)) == 0
    assert copied(np.tile(whole[:2000].astype(float), (2, 1))) == 2000
    assert copied(RANDOM.normal(20, 5, (2000, 1)).round(1)) == 0
    grouped = np.stack([RANDOM.normal(20, 5, 600).round(1), RANDOM.integers(0, 3, 600)], 1)
    assert copied(grouped) == 0
    assert copied(np.concatenate([np.zeros((200, 2)), RANDOM.normal(size=(300, 2))])) == 0


def test_copies_of_rows_are_told_of_before_and_in_training(tmp_path: Path) -> None:
    names = ("depth", "flow")
    table = {name: RANDOM.normal(size=30).tolist() * 4 for name in names}
    path = write_csv(tmp_path / "t.csv", table)
    assert found(path)["copies"].seen == "90 of 120 rows repeat another one"
    assert any(note.startswith("90 of 120 rows repeat another one") for note in load("table", path).notes)
    plain = write_csv(tmp_path / "p.csv", {name: RANDOM.normal(size=120).tolist() for name in names})
    assert "copies" not in found(plain)
    assert load("table", plain).notes == ()


@pytest.mark.parametrize("day", ["March 95", "mar. 7", "Okt 12", "Sept 2024", "12 December 2024"])
def test_words_that_begin_like_months_are_no_dates(day: str) -> None:
    assert is_date(day)
    for text in ("octane 95", "Mark 1", "Marble 12", "Decoder 7", "Mariner-10", "deck 12", "Julia 1"):
        assert not is_date(text)
