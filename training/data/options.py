"""The [data] table of a recipe."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from service.format.specs import Byte
from training.options import Options

_OWN = ("arrays", "images", "table")
MEMORY_MIB = 256
"""The default of `memory_mib`."""
_BELONGS_TO = {
    "path": _OWN,
    "keep": ("digits", "fashion-mnist", *_OWN),
    "validation_share": _OWN,
    "calibration_share": _OWN,
    "test_share": _OWN,
    "size": ("images",),
    "fit": ("images",),
    "channels": ("images",),
    "background": ("images",),
    "drop": ("table",),
    "label": ("table",),
    "one_hot": ("table",),
    "unseen": ("table",),
    "separator": ("table",),
    "decimal": ("table",),
    "missing_codes": ("table",),
    "memory_mib": _OWN,
    "missing": ("arrays", "table"),
    "binarise": ("digits", "fashion-mnist", "arrays", "images"),
}
"""The datasets that each option applies to; options that are not listed apply to all."""

ClassName = Annotated[
    str,
    Field(coerce_numbers_to_str=True),
    BeforeValidator(lambda value: str(value).lower() if isinstance(value, bool) else value),
]


def _written(code: float | str) -> float | str:
    """Return a code as JSON can hold it, which has no infinities: `inf` and `-inf` as texts."""
    if code != code:
        raise ValueError("NaN came as a code; it counts as missing without being named, so leave it out")
    return str(code) if isinstance(code, float) and math.isinf(code) else code


MissingCode = Annotated[Annotated[float, Field(allow_inf_nan=True)] | str, AfterValidator(_written)]
Share = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=4096)]


class DataOptions(Options):
    """The data to learn, and its form."""

    dataset: Literal["digits", "fashion-mnist", "ring", "grid", "arrays", "images", "table"]
    """The dataset. `digits`: scikit-learn's 8x8 digits; `fashion-mnist`: 28x28 garments; `ring` and `grid`:
    points of 8 and of 25 Gaussians in the plane. Your own data at `path`: `arrays` (.npy, .npz), `images` (a
    folder of PNG, JPEG, WebP, TIFF or BMP files), `table` (.csv, .tsv, .parquet)."""
    path: Path | None = None
    """Your own data: the file or folder, relative to the working directory."""
    binarise: Literal["none", "threshold", "dynamic"] = "none"
    """Pictures: how pixels become binary. `none`: values stay in [0, 1]; `threshold`: 1 from 0.5 on;
    `dynamic`: 1 with the pixel's value as probability, drawn for every training batch and once for other
    splits."""
    split_seed: int = Field(default=0, ge=0, lt=2**53)
    """Seed of the random permutation that makes the splits."""
    validation_share: Share = 0.1
    """Your own data: share of the rows in the validation split, which is watched in training and used for
    choices. An .npz that holds its own splits ignores the three shares."""
    calibration_share: Share = 0.2
    """Your own data: share of the rows in the calibration split, from which p-values are computed."""
    test_share: Share = 0.2
    """Your own data: share of the rows in the test split, on which the published figures are measured."""
    keep: tuple[ClassName, ...] = ()
    """Data with classes: the classes to train, calibrate and test on; items of the other classes become
    outliers, on which anomaly scores are tested. Empty: all classes."""
    size: tuple[Side, Side] | None = None
    """Images: the size [height, width] that every picture is given, in training and in requests. By default
    none is resized, and all must have one size."""
    fit: Literal["stretch", "crop"] = "stretch"
    """Images: how pictures get that size. `stretch`: the whole picture is resized, without keeping its
    proportions; `crop`: the largest part in its middle that has the proportions of `size`."""
    channels: Literal[1, 3] | None = None
    """Images: 1 for grey, 3 for RGB. By default 1 if every picture is grey, else 3."""
    background: tuple[Byte, Byte, Byte] | None = None
    """Images: the colour [red, green, blue], each 0 to 255, that fills transparent parts. By default pictures
    with transparent parts are refused."""
    drop: tuple[str, ...] = ()
    """Tables: columns to leave out."""
    label: str | None = None
    """Tables: the column that holds the class of each row; the model does not see it."""
    one_hot: tuple[str, ...] = ()
    """Tables: categorical columns; each becomes one feature per category."""
    missing: Literal["learn", "refuse"] = "learn"
    """Tables: rows that lack values (an empty cell, null, NaN). `learn`: they are learned from the values
    that they have, and if there are such rows, the version takes them as well. `refuse`: they are refused."""
    unseen: Literal["other", "missing", "refuse"] = "other"
    """Tables: categories in requests that the file does not have. `other`: each categorical column gets a
    category of that name for them, which is rare and so surprising, and is never drawn.
    `missing`: they count as missing values. `refuse`: rows that have one are refused."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Tables in text: the character between values; by default a comma, semicolon, tab or bar is found."""
    decimal: Literal[".", ","] | None = None
    """Tables in text: the decimal mark. By default it is found: a comma only where values are separated by
    something else, some numbers have one, and none a point."""
    missing_codes: dict[str, tuple[MissingCode, ...]] = Field(default_factory=dict)
    """Tables: values that stand for missing ones, by column, e.g. `{ flow = [999999999, "?"] }`."""

    memory_mib: int = Field(default=MEMORY_MIB, ge=1)
    """Your own data: the size in MiB above which rows are not held in memory: that of a table's or array's
    file, or of a folder's pixels. Tables and folders are copied once into files in `~/.cache/pushforward`;
    arrays (.npy) of pictures are read where they are. A large table's splits are chosen row by row."""

    @model_validator(mode="after")
    def _options_belong_to_the_dataset(self) -> DataOptions:
        for name, datasets in _BELONGS_TO.items():
            value = getattr(self, name)
            if self.dataset not in datasets and value != type(self).model_fields[name].get_default(
                call_default_factory=True
            ):
                raise ValueError(
                    f"{name} belongs to dataset {' and '.join(map(repr, datasets))}, "
                    f"but came with dataset {self.dataset!r}; leave it out"
                )
        if self.dataset in _OWN and self.path is None:
            raise ValueError(
                f"dataset {self.dataset!r} came without a path; say where it is, e.g. path = "
                + {"arrays": '"items.npz"', "images": '"folder"', "table": '"table.csv"'}[self.dataset]
            )
        return self

    @model_validator(mode="after")
    def _fits_to_a_size(self) -> DataOptions:
        if self.fit == "crop" and self.size is None:
            raise ValueError('fit = "crop" came without a size; give size = [height, width]')
        return self

    @model_validator(mode="after")
    def _shares_leave_rows_to_train_on(self) -> DataOptions:
        shares = (self.validation_share, self.calibration_share, self.test_share)
        if sum(shares) >= 1:
            raise ValueError(
                f"validation_share, calibration_share and test_share are {', '.join(map(str, shares))}, "
                f"in all {sum(shares):g}; what they leave of 1 is trained on, so lower them"
            )
        return self

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> DataOptions:
        for (first, columns), (second, others) in itertools.combinations(self.column_roles.items(), 2):
            for column in columns:
                if column in others:
                    raise ValueError(f"column {column!r} is in both {first} and {second}; choose one")
        if self.unseen == "missing" and self.missing == "refuse":
            raise ValueError(
                "unseen = 'missing' came with missing = 'refuse'; leave one out, or use unseen = 'other'"
            )
        if self.keep and self.dataset == "table" and self.label is None:
            raise ValueError(
                f"keep = {list(self.keep)} came without a label; name the column that holds the classes, "
                'e.g. label = "class"'
            )
        return self

    @property
    def column_roles(self) -> dict[str, tuple[str, ...]]:
        """The columns that each of `drop`, `one_hot` and `label` names."""
        label = () if self.label is None else (self.label,)
        return {"drop": self.drop, "one_hot": self.one_hot, "label": label}

    @property
    def own_path(self) -> Path:
        """The path of the user's own data, with `~` expanded."""
        assert self.path is not None
        return self.path.expanduser()
