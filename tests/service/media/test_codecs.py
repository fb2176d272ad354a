import io
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from service.errors import NotAcceptable, ServiceError, Unfit
from service.format.columns import Column
from service.format.manifest import Support
from service.media import codecs, pictures
from service.media.items import rows_of
from tests.serving import as_npy


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)))
def test_npy_is_what_numpy_writes_and_comes_back(array: np.ndarray) -> None:
    document = b"".join(codecs.npy_in_pieces(array))
    np.testing.assert_array_equal(np.load(io.BytesIO(document)), array)
    back = codecs.from_npy(document, array.shape[1:], 10, "inputs")
    np.testing.assert_array_equal(back, array)


@given(st.binary(max_size=300))
def test_any_bytes_as_npy_are_read_or_refused_never_a_crash(body: bytes) -> None:
    for prefix in (b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"):
        with pytest.raises(ServiceError):
            codecs.from_npy(prefix + body, (2,), 10, "inputs")


def test_every_integer_type_is_read_as_numbers() -> None:
    for dtype in ("u1", "i2", ">i4", "<u8", "f2", ">f8"):
        body = as_npy(np.array([[0, 1]], dtype=dtype))
        np.testing.assert_array_equal(codecs.from_npy(body, (2,), 1, "inputs"), [[0, 1]])


def test_a_single_item_is_one_row() -> None:
    body = as_npy(np.zeros((1, 2, 3), np.float32))
    assert codecs.from_npy(body, (1, 2, 3), 1, "inputs").shape == (1, 1, 2, 3)


def test_colour_grids_keep_their_colours() -> None:
    samples = np.zeros((2, 3, 2, 2), np.float32)
    samples[0, 0], samples[1, 2] = 1, 1
    grid = np.asarray(Image.open(io.BytesIO(pictures.png_grid(samples))))
    assert grid[2, 2].tolist() == [255, 0, 0]
    assert grid[2, 6].tolist() == [0, 0, 255]


def test_tables_are_no_pictures() -> None:
    with pytest.raises(NotAcceptable):
        pictures.png_grid(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize(
    ("support", "value"),
    [
        *(("unit_interval", value) for value in (np.nan, np.inf, -0.001, 1.001)),
        *(("eight_bit", value) for value in (np.nan, np.inf, -0.001, 1.001, 255)),
        *(("binary", value) for value in (np.nan, np.inf, 0.5, -1)),
        *(("real", value) for value in (np.nan, np.inf, -np.inf)),
        *(("latent", value) for value in (np.nan, np.inf, 2e6)),
    ],
)
def test_values_outside_the_support_are_refused(support: Support | Literal["latent"], value: float) -> None:
    array = np.array([[1], [value]], np.float32)
    with pytest.raises(Unfit) as caught:
        codecs.check_support(array, support, "inputs")
    assert [flaw.row for flaw in caught.value.flaws] == [1]


@pytest.mark.parametrize(
    ("support", "values"),
    [
        ("unit_interval", [0, 0.3, 1]),
        ("eight_bit", [0, 0.3, 1]),
        ("binary", [0, 1, 1]),
        ("real", [-3.4e38, 1e30, 1e-30]),
        ("latent", [-1e6, 0, 1e6]),
    ],
)
def test_values_of_the_support_are_taken(support: Support | Literal["latent"], values: list[float]) -> None:
    codecs.check_support(np.array([values], np.float32), support, "inputs")


COLUMNS = (
    Column(name="colour", categories=("red", "green", "blue")),
    Column(name="height"),
    Column(name="sex", categories=("female", "male")),
)


@given(hnp.arrays(np.float32, (5, 6), elements=st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0])))
def test_a_row_is_taken_exactly_if_each_of_its_categorical_columns_is_one_hot(array: np.ndarray) -> None:
    array[0] = [0, 1, 0, 7, 0, 1]
    one_hot = [
        sorted(row[:3]) == [0, 0, 1] and sorted(row[4:]) == [0, 1] for row in array.astype(float).tolist()
    ]
    if all(one_hot):
        codecs.check_support(array, "real", "inputs", COLUMNS)
        return
    with pytest.raises(Unfit) as caught:
        codecs.check_support(array, "real", "inputs", COLUMNS)
    rows = [flaw.row for flaw in caught.value.flaws if flaw.row is not None]
    assert sorted(set(rows)) == [row for row, fits in enumerate(one_hot) if not fits]
    assert rows == sorted(rows)


def test_the_column_that_is_not_one_hot_is_named_with_what_fits() -> None:
    array = np.array([[1, 0, 0, 180, 0, 1], [1, 0, 0, 175, 1, 1]], np.float32)
    with pytest.raises(Unfit, match="not one-hot in `sex`:") as caught:
        codecs.check_support(array, "real", "inputs", COLUMNS)
    (flaw,) = caught.value.flaws
    assert (flaw.pointer, flaw.row) == ("/inputs/1/4", 1)
    assert flaw.message == "the column `sex` takes a 1 and else zeros at its features 4 to 5"


@pytest.mark.parametrize("rows", [(), (4,)])
def test_pictures_with_channels_last_are_told_how_to_be_transposed(rows: tuple[int, ...]) -> None:
    items = np.zeros((*rows, 5, 6, 3), np.float32)
    with pytest.raises(Unfit, match=r"channels first: pictures?\.transpose") as caught:
        rows_of(items, (3, 5, 6))
    axes = str(caught.value).split("(")[-1].removesuffix(")").split(", ")
    assert rows_of(items.transpose([int(axis) for axis in axes]), (3, 5, 6)).shape[1:] == (3, 5, 6)


def test_no_more_than_16_flaws_are_told() -> None:
    with pytest.raises(Unfit) as caught:
        codecs.check_support(np.zeros((40, 6), np.float32), "real", "inputs", COLUMNS)
    assert [flaw.row for flaw in caught.value.flaws] == [row for row in range(8) for _ in range(2)]


def test_a_missing_value_is_said_with_its_row_and_its_column() -> None:
    rows = np.ones((4, 2), np.float32)
    rows[2:, 1] = np.nan
    columns = [Column(name="depth"), Column(name="rock")]
    with pytest.raises(Unfit, match=r"^2 of 4 rows of .*; in row 2 column `rock` is missing; .* fill"):
        codecs.check_support(rows, "real", "inputs", columns)
    with pytest.raises(Unfit, match=r"^2 of 4 rows of `inputs` are not numbers that are finite in float32$"):
        codecs.check_support(np.where(np.isnan(rows), np.inf, rows), "real", "inputs", columns)
