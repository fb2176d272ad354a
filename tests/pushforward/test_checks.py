"""Checks of a call take values from whatever library holds them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pushforward.checks import label_options


@pytest.mark.parametrize("hold", [list, tuple, iter, np.array, pd.Series, torch.tensor])
def test_the_classes_of_rows_are_read_from_whatever_holds_them(hold: Any) -> None:
    assert label_options(hold([2, 0])) == {"label": None, "labels": [2, 0]}


@pytest.mark.parametrize("hold", [int, np.uint8, np.array, torch.tensor])
def test_a_single_class_is_read_from_whatever_holds_it(hold: Any) -> None:
    assert label_options(hold(3)) == {"label": 3, "labels": None}
