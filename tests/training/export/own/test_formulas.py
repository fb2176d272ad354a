"""Formulas over an algebra are those of training's likelihoods and priors, in graphs and in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from service.format.specs import TensorSpec
from service.numerics.noise import Floats
from tests.networks import Decoder, Encoder, write_onnx
from training.anomaly.path import Whitening
from training.anomaly.statistics import PathDistance, VaeStatistics, surprise_map
from training.export.own.algebra import NumpyAlgebra
from training.export.own.formulas import OwnVae
from training.export.own.likelihoods import (
    BernoulliFormulas,
    ContinuousBernoulliFormulas,
    DecoderGives,
    GaussianFormulas,
    LaplaceFormulas,
    LikelihoodFormulas,
    LocationScaleFormulas,
)
from training.export.own.networks import Export, OwnNetwork, Units
from training.export.own.onnx_source import OnnxSource
from training.export.own.operations import build, vae_graphs
from training.export.own.priors import MixtureOfGaussians, prior_kl, prior_log_prob
from training.export.rules import OPSET
from training.export.sessions import open_session
from training.models import likelihoods, priors
from training.models.vae import Vae, score_terms

ROWS, SIZE = 40, 30
RANDOM = np.random.default_rng(5)
LOGITS = (RANDOM.standard_normal((ROWS, SIZE)) * 6).astype(np.float32)
LOGITS[0] = np.linspace(-0.3, 0.3, SIZE)
GREYS = RANDOM.random((ROWS, SIZE), dtype=np.float32)
UNIFORMS = RANDOM.random((ROWS, SIZE), dtype=np.float32).clip(1e-6, 1 - 1e-6)


def run_both(formula: Any, *arrays: Floats) -> tuple[list[Any], list[Any]]:
    """A formula's outputs from its graph in ONNX Runtime, and by numpy in float64."""
    inputs = tuple(TensorSpec(name=f"inputs{i}", shape=("rows", *a.shape[1:])) for i, a in enumerate(arrays))
    exact = list(formula(NumpyAlgebra(), *(array.astype(np.float64) for array in arrays)))
    outputs = tuple(TensorSpec(name=f"o{i}", shape=("rows", *a.shape[1:])) for i, a in enumerate(exact))
    return list(build("map", formula, inputs, outputs, OPSET).run(arrays)), exact


def everything(
    likelihood: LikelihoodFormulas, f: Any, given: Any, items: Any, uniforms: Any
) -> tuple[Any, ...]:
    parameters = likelihood.parameters(f, [given])
    best = likelihood.best(f, items)
    assert best is not None
    return (
        likelihood.log_prob(f, parameters, items), best, likelihood.mean(f, parameters),
        likelihood.residual(f, parameters, items), likelihood.draw(f, parameters, uniforms),
    )  # fmt: skip


@pytest.mark.parametrize("gives", ["logits", "probabilities"])
@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli"])
def test_likelihoods_of_logits_and_probabilities_are_those_of_training(name: str, gives: Any) -> None:
    own: LikelihoodFormulas = (
        BernoulliFormulas(gives, SIZE) if name == "bernoulli" else ContinuousBernoulliFormulas(gives, SIZE)
    )
    trained: Any = likelihoods.Bernoulli() if name == "bernoulli" else likelihoods.ContinuousBernoulli(50.0)
    items = GREYS.round() if name == "bernoulli" else GREYS
    given = LOGITS if gives == "logits" else torch.sigmoid(torch.from_numpy(LOGITS)).numpy()
    got, exact = run_both(lambda f, *tensors: everything(own, f, *tensors), given, items, UNIFORMS)
    logits = torch.from_numpy(LOGITS).double()
    if gives == "probabilities":
        logits = torch.logit(torch.from_numpy(given).double().clamp(1.1920929e-07, 1 - 1.1920929e-07))
    x, u = torch.from_numpy(items).double(), torch.from_numpy(UNIFORMS).double()
    wanted = [
        trained.value_log_prob(logits, x), trained.best_log_prob(x), trained.mean(logits),
        trained.residual(logits, x), trained.draw(logits, u),
    ]  # fmt: skip
    for ours, theirs, graph in zip(exact, wanted, got, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(graph, ours, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("scale", [0.2, None])
@pytest.mark.parametrize("kind", [GaussianFormulas, LaplaceFormulas])
def test_likelihoods_with_a_scale_are_those_of_torch(
    kind: type[LocationScaleFormulas], scale: float | None
) -> None:
    fixed, gaussian = None if scale is None else np.asarray(scale), kind is GaussianFormulas
    learned: DecoderGives = "mean_and_log_variance" if gaussian else "mean_and_log_scale"
    own = kind("mean" if scale else learned, SIZE, "real", 0.5, 0.5, fixed)
    second = RANDOM.standard_normal((ROWS, SIZE)).astype(np.float32)

    def formula(f: Any, mean: Any, second: Any, items: Any, uniforms: Any) -> tuple[Any, ...]:
        parameters = own.parameters(f, [mean, second])
        return own.log_prob(f, parameters, items), own.draw(f, parameters, uniforms)

    got, exact = run_both(formula, LOGITS, second, GREYS, UNIFORMS)
    scales = 0.2 if scale else 0.5 * np.exp((0.5 if gaussian else 1.0) * second.astype(np.float64))
    mean = torch.from_numpy(0.5 + 0.5 * LOGITS.astype(np.float64))
    of_torch: Any = torch.distributions.Normal if gaussian else torch.distributions.Laplace
    values = of_torch(mean, torch.as_tensor(scales))
    wanted = (
        values.log_prob(torch.from_numpy(GREYS).double()),
        values.icdf(torch.from_numpy(UNIFORMS).double()),
    )
    for ours, theirs, graph in zip(exact, wanted, got, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(graph, ours, rtol=2e-5, atol=2e-5)


def test_priors_are_those_of_training() -> None:
    latent, count = 3, 7
    means = RANDOM.standard_normal((count, latent)).astype(np.float32)
    log_variances = (RANDOM.standard_normal((count, latent)) - 2).astype(np.float32)
    even = MixtureOfGaussians(np.full(count, 1 / count), means, log_variances)
    latents = RANDOM.standard_normal((ROWS, 4, latent)).astype(np.float32)
    spread = RANDOM.standard_normal((ROWS, latent)).astype(np.float32)
    for mixture in (None, even):

        def formula(f: Any, z: Any, mean: Any, spread: Any, mixture: Any = mixture) -> tuple[Any, ...]:
            return prior_log_prob(f, z, latent, mixture), prior_kl(f, mean, spread, latent, mixture)

        got, exact = run_both(formula, latents, latents[:, 0].copy(), spread)
        gaussians = None
        if mixture is not None:
            parts = (torch.from_numpy(array).double() for array in (means, log_variances))
            gaussians = priors.Gaussians(*parts)
        z, s = torch.from_numpy(latents).double(), torch.from_numpy(spread).double()
        wanted = priors.prior_log_prob(z, gaussians), priors.prior_kl(z[:, 0], s, gaussians)
        for ours, theirs, graph in zip(exact, wanted, got, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(graph, ours, rtol=2e-5, atol=2e-5)


def test_a_mixture_with_other_weights_is_that_of_torch() -> None:
    weights = np.array([0.7, 0.2, 0.1])
    means = np.array([[0, 0], [3, 0], [0, -3]], np.float32)
    mixture = MixtureOfGaussians(weights, means, np.zeros((3, 2), np.float32))
    latents = RANDOM.standard_normal((ROWS, 1, 2)).astype(np.float32)
    got, _ = run_both(lambda f, z: (prior_log_prob(f, z, 2, mixture),), latents)
    of_torch: Any = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.from_numpy(weights)),
        torch.distributions.MultivariateNormal(torch.from_numpy(means).double(), torch.eye(2).double()),
    )
    np.testing.assert_allclose(got[0], of_torch.log_prob(torch.from_numpy(latents).double()), atol=1e-5)


def test_all_graphs_are_those_of_a_vae_of_training(tmp_path: Any) -> None:
    torch.manual_seed(3)
    shape, latent = (1, 6, 5), 4
    encoder, decoder = Encoder(SIZE, latent).eval(), Decoder(latent, shape, "Identity").eval()
    sources = (
        OnnxSource("the encoder", write_onnx(tmp_path / "e.onnx", encoder, shape)),
        OnnxSource("the decoder", write_onnx(tmp_path / "d.onnx", decoder, (latent,))),
    )
    shapes = ((shape, ((latent,), (latent,))), ((latent,), (shape,)))
    networks = []
    for source, (row, results) in zip(sources, shapes, strict=True):
        model = source.export(row)
        export = Export(model, open_session(model.SerializeToString()), False, 0.0)
        networks.append(OwnNetwork(source, row, results, np.zeros((1, *row), np.float32), export=export))
    whitening = Whitening(np.arange(5.0), np.tril(RANDOM.standard_normal((5, 5))))
    likelihood = BernoulliFormulas("logits", SIZE)
    own = OwnVae(
        networks[0], networks[1], Units(shape), likelihood, latent, "log_variance", whitening=whitening
    )

    class Joined(torch.nn.Module):
        """Training squashes log-variances within 10; here that is undone."""

        def forward(self, items: torch.Tensor) -> torch.Tensor:
            mean, log_variance = encoder(items)
            return torch.cat([mean, 10 * torch.atanh(log_variance / 10)], 1)

    vae = Vae(Joined(), decoder, likelihoods.Bernoulli(), latent)
    graphs = vae_graphs(own, OPSET)
    items = GREYS.round().reshape(ROWS, *shape)
    x, eps = torch.from_numpy(items), torch.randn(ROWS, 3, latent)
    path = PathDistance(*(torch.from_numpy(array.astype(np.float32)) for array in whitening))
    with torch.no_grad():
        wanted = {
            "encode": vae.encode(x),
            "decode": (vae.likelihood.mean(vae.decode(eps[:, 0])),),
            "score": score_terms(vae, x, eps),
            "statistics": (VaeStatistics(("corrected", "path"), path)(vae, x),),
            "map": (surprise_map(vae, x),),
        }
    inputs = {"decode": [eps[:, 0].numpy().copy()], "score": [items, eps.numpy()]}
    for name, tensors in wanted.items():
        outputs = graphs[name].run(inputs.get(name, [items]))  # type: ignore[index]
        for ours, theirs in zip(outputs, tensors, strict=True):
            error = np.abs(ours - theirs.numpy()) / (1 + np.abs(theirs.numpy()))
            assert error.max() <= 1e-5, name
