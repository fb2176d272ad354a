"""Outputs are taken by their names where these tell the mean from the spread."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from training.export.own.networks import StrangeResult
from training.export.own.outputs import mean_and_spread
from training.export.own.torch_source import TorchSource

of_torch: Any = distributions  # which have no types
MEAN, SECOND = torch.zeros(4, 2), torch.full((4, 2), 0.5)
Reversed = namedtuple("Reversed", "log_var mean")


@dataclass
class Posterior:
    logvar: Tensor
    mu: Tensor


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["mu", "logvar"], (0, 1)),
        (["z_log_var", "z_mean"], (1, 0)),
        (["z_mean", "z_log_var", "z"], (0, 1)),
        (["enc/z_log_var/BiasAdd:0", "enc/z_mean/BiasAdd:0"], (1, 0)),
        (["zLogVar", "zMean"], (1, 0)),
        (["embedding", "log_covariance"], (0, 1)),
        (["sigma", "hidden"], (1, 0)),
        (["latent", "std"], (0, 1)),
        (["linear_1", "linear_2"], None),
        (["linear", "mean"], None),
        (["mean", "mean_1"], None),
        (["mean_scale", "log_scale"], None),
        (["mu", "var", "std"], None),
        (["58", "72"], None),
        (["rescaled", "variant"], None),
    ],
)
def test_names_tell_the_mean_from_the_spread_or_nothing(
    names: list[str], places: tuple[int, int] | None
) -> None:
    assert mean_and_spread(tuple(names)) == places


@pytest.mark.parametrize(
    "result",
    [
        {"logvar": SECOND, "mu": MEAN},
        OrderedDict(z=MEAN + 1, mean=MEAN, log_var=SECOND),
        {"mu": MEAN, "logvar": SECOND, "loss": None, "kind": "vae"},
        Reversed(SECOND, MEAN),
        Posterior(SECOND, MEAN),
        SimpleNamespace(logvar=SECOND, mean=MEAN),
        (MEAN, (SECOND, None)),
        [MEAN, SECOND],
        {"posterior": of_torch.Normal(MEAN, SECOND)},
        (of_torch.Independent(of_torch.Normal(MEAN, SECOND), 1),),
    ],
)
def test_the_mean_comes_first_whatever_holds_it(result: Any) -> None:
    first, second = TorchSource("the encoder", lambda _: result).run(MEAN.numpy())
    assert (first == MEAN.numpy()).all()
    assert (second == SECOND.numpy()).all()


def test_the_names_that_decided_are_told() -> None:
    source = TorchSource("the encoder", lambda _: {"logvar": SECOND, "mu": MEAN})
    source.run(MEAN.numpy())
    assert source.origin["outputs"] == ["mu", "logvar"]


@pytest.mark.parametrize("kind", ["Bernoulli", "ContinuousBernoulli"])
def test_a_bernoulli_of_torch_gives_its_logits(kind: str) -> None:
    source = TorchSource("the decoder", lambda _: getattr(of_torch, kind)(logits=SECOND))
    (logits,) = source.run(MEAN.numpy())
    assert (logits == SECOND.numpy()).all()
    assert source.gave == kind


def test_a_laplace_of_torch_gives_its_location_and_scale() -> None:
    source = TorchSource("the decoder", lambda _: of_torch.Laplace(MEAN, SECOND.exp()))
    first, second = source.run(MEAN.numpy())
    assert (first == MEAN.numpy()).all()
    assert (second == SECOND.exp().numpy()).all()
    assert source.gave == "Laplace"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (of_torch.Cauchy(MEAN, SECOND), "gives a Cauchy distribution; wanted a Normal"),
        ((), "gives tuple; wanted a tensor"),
        ((MEAN, 3), "gives tuple; wanted a tensor"),
        ("text", "gives str; wanted a tensor"),
    ],
)
def test_a_result_without_tensors_is_told(result: Any, words: str) -> None:
    with pytest.raises(StrangeResult, match=words):
        TorchSource("the encoder", lambda _: result).run(MEAN.numpy())
