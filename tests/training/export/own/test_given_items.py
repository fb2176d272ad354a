"""Items, scales and priors that a publisher gives: tensors and arrays are taken, what is none is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.export.own.conditions import Condition, labels_of
from training.export.own.networks import Units
from training.export.own.words import likelihood_flaws, prior_flaws

SHAPE = (1, 4, 4)
ITEMS = np.random.default_rng(0).random((50, *SHAPE), dtype=np.float32)
TENSOR: Any = torch.from_numpy(ITEMS)


@pytest.mark.parametrize(
    "given",
    [
        ITEMS,
        ITEMS.astype(np.float64),
        list(ITEMS),
        TENSOR,
        list(TENSOR),
        TENSOR.clone().requires_grad_(),
        torch.nn.Parameter(TENSOR),
    ],
    ids=["array", "float64", "list", "tensor", "list of tensors", "tensor with a gradient", "parameter"],
)
def test_items_are_taken_from_arrays_and_tensors_alike(given: Any) -> None:
    np.testing.assert_array_equal(Units(SHAPE).items_of(given), ITEMS)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_items_of_half_precision_are_taken(kind: torch.dtype) -> None:
    np.testing.assert_allclose(Units(SHAPE).items_of(TENSOR.to(kind)), ITEMS, atol=5e-3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("normals.npy", r"text; wanted the numbers themselves, \(N, 1, 4, 4\), as np.load"),
        (Path("normals.npy"), "a .*Path, which is no array of numbers"),
        (torch.utils.data.DataLoader(TENSOR), "a DataLoader, which is no array of numbers"),
        ([ITEMS[0], ITEMS[0, :, 1:]], "a list, which is no array"),
        (None, "a NoneType, which is no array of numbers"),
    ],
)
def test_what_is_no_array_is_told(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Units(SHAPE).items_of(given)


@pytest.mark.parametrize(
    ("values", "given", "words"),
    [
        ("-1..1", ITEMS, r"values is '-1..1': give them as the networks take them \(2 \* items - 1\)"),
        ("0..255", ITEMS, r"values is '0..255': give them as the networks take them \(255 \* items\)"),
    ],
)
def test_items_in_another_range_than_the_networks_is_are_refused(values: Any, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Units(SHAPE, values).items_of(given)


@pytest.mark.parametrize("values", ["0..1", "-1..1", "0..255"])
def test_items_in_the_range_of_the_networks_and_bytes_are_taken(values: Any) -> None:
    units, as_bytes = Units(SHAPE, values), (ITEMS * 255).astype(np.uint8)
    given = {"0..1": ITEMS, "-1..1": 2 * ITEMS - 1, "0..255": 255 * ITEMS}[values]
    np.testing.assert_allclose(units.items_of(given), ITEMS, atol=1e-6)
    np.testing.assert_allclose(units.items_of(as_bytes), as_bytes / 255, atol=1e-6)
    blank = np.zeros((50, *SHAPE), np.float32)
    assert units.items_of(blank).shape == blank.shape


def test_a_scale_may_be_a_parameter_of_torch() -> None:
    words = ("gaussian", "mean", "log_variance")
    assert likelihood_flaws(*words, torch.nn.Parameter(torch.tensor(0.3)), Units(SHAPE)) == []
    assert likelihood_flaws(*words, torch.full((16,), 0.3), Units(SHAPE)) == []
    (flaw,) = likelihood_flaws(*words, "narrow", Units(SHAPE))
    assert flaw.startswith("scale is ")


def test_a_prior_of_another_kind_is_told() -> None:
    assert prior_flaws("vamp", 3) == [
        "prior is str; wanted a MixtureOfGaussians(weights, means, log_variances), or none: N(0, I)"
    ]


def test_labels_are_taken_from_tensors_and_names() -> None:
    condition = Condition(("a", "b"))
    one_hot = [[1, 0], [0, 1], [0, 1]]
    as_numbers = (torch.tensor([0, 1, 1]), [0, 1, 1], [0.0, 1.0, 1.0], [False, True, True], [[0], [1], [1]])
    objects = np.array(["a", "b", "b"], object)  # as in a column of pandas
    for given in (*as_numbers, ["a", "b", "b"], objects, one_hot, np.array(one_hot, np.float32)):
        labels, flaws = labels_of("real", "real_labels", given, 3, condition)
        assert flaws == []
        assert labels is not None
        assert labels.tolist() == [0, 1, 1]
    for given in ([0, 1, 2], [0.5, 1, 1], [0, 1, float("nan")], [[1, 1], [0, 1], [0, 1]], ["a", "b", "c"]):
        _, (flaw,) = labels_of("real", "real_labels", given, 3, condition)
        assert "wanted 3 numbers from 0 to 1, or names" in flaw
