"""A VAE that was trained elsewhere answers, over HTTP, the ELBO that torch computes with the same draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, distributions

from pushforward.publishing import publish_vae
from service.format.versions import read_manifest
from service.numerics.noise import scoring_noise
from tests.networks import Decoder, Encoder, write_onnx
from tests.serving import as_npy, npy, running_service
from training.export.sessions import PARITY_TOLERANCE, verify_version

pytestmark = pytest.mark.exports

# torch's distributions have no types
of_torch: Any = distributions
Bernoulli, ContinuousBernoulli = of_torch.Bernoulli, of_torch.ContinuousBernoulli
Normal, Laplace = of_torch.Normal, of_torch.Laplace
LATENT, SHAPE, DRAWS, SEED = 3, (2, 3, 5), 8, 7
PIXELS = math.prod(SHAPE)
"""30 values, which fill no whole vector of a processor."""


@dataclass
class Case:
    """The options of a published VAE, and log p(x | z) of items by torch from the decoder's outputs."""

    log_prob: Callable[[Tensor, Any, float], Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    last: bool = False
    """True if the networks have channels last."""


def density(to_network: float, shift: float, kind: Any = Normal) -> Callable[[Tensor, Any, float], Tensor]:
    """The density of items x of the service; networks see to_network x + shift."""

    def log_prob(items: Tensor, given: Any, scale: float) -> Tensor:
        mean, deviation = given if isinstance(given, tuple) else (given, torch.tensor(scale))
        values: Tensor = kind(mean, deviation).log_prob(to_network * items + shift)
        return values + math.log(to_network)

    return log_prob


CASES = {
    "bernoulli": Case(lambda x, p, _: Bernoulli(probs=p).log_prob(x)),
    "bernoulli-logits": Case(
        lambda x, p, _: Bernoulli(logits=p).log_prob(x),
        {"decoder_gives": "logits", "encoder_gives": "scale"},
        {"gives": "scale"},
        {"last": "Identity"},
    ),
    "continuous-bernoulli": Case(
        lambda x, p, _: ContinuousBernoulli(probs=p).log_prob(x), {"likelihood": "continuous-bernoulli"}
    ),
    "gaussian-fixed": Case(
        density(2, -1),
        {"likelihood": "gaussian", "values": "-1..1", "scale": 0.3},
        decoder={"last": "Tanh"},
    ),
    "gaussian-fitted": Case(density(1, 0), {"likelihood": "gaussian"}),
    "gaussian-learned": Case(
        density(1, 0),
        {"likelihood": "gaussian", "decoder_gives": "mean_and_scale"},
        decoder={"scales": True},
    ),
    "laplace-fitted": Case(density(1, 0, Laplace), {"likelihood": "laplace"}),
    "laplace-learned": Case(
        density(1, 0, Laplace),
        {"likelihood": "laplace", "decoder_gives": "mean_and_scale"},
        decoder={"scales": True},
    ),
    "gaussian-channels-last": Case(
        density(255, 0),
        {"likelihood": "gaussian", "values": "0..255", "channels": "last", "scale": 40.0},
        decoder={"last": "Identity"},
        last=True,
    ),
}


@dataclass
class Published:
    case: Case
    encoder: Encoder
    decoder: Decoder
    folder: Path
    items: np.ndarray


def items_for(name: str) -> np.ndarray:
    """(200, *SHAPE) as the service takes them."""
    items = np.random.default_rng(3).random((200, *SHAPE), dtype=np.float32)
    return items.round() if name.startswith("bernoulli") else items


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    folder, made = tmp_path_factory.mktemp("own"), {}
    for name, case in CASES.items():
        torch.manual_seed(1)
        shape = (*SHAPE[1:], SHAPE[0]) if case.last else SHAPE
        encoder, decoder = Encoder(PIXELS, LATENT, **case.encoder), Decoder(LATENT, shape, **case.decoder)
        if case.last:
            torch.nn.init.constant_(decoder.out.bias, 100.0)
        files = (
            write_onnx(folder / f"{name}-encoder.onnx", encoder, shape),
            write_onnx(folder / f"{name}-decoder.onnx", decoder, (LATENT,)),
        )
        items = items_for(name)
        values = case.options.get("values", "0..1")
        given = {"0..1": items, "-1..1": 2 * items - 1, "0..255": 255 * items}[values]
        given = given.transpose(0, 2, 3, 1) if case.last else given
        version = publish_vae(
            name, *files, latent_size=LATENT, item_shape=SHAPE, normals=given, models=folder / "models",
            draws=4, **case.options,
        )  # fmt: skip
        made[name] = Published(case, encoder, decoder, version, items)
    return made


@pytest.fixture(scope="module")
def client(published: dict[str, Published]) -> Iterator[httpx.Client]:
    models = published["bernoulli"].folder.parents[1]
    with running_service(models) as service:
        yield service.client


def torch_elbo(one: Published, items: np.ndarray) -> np.ndarray:
    """The ELBO of items, (B,), with the service's draws."""
    x, eps = torch.from_numpy(items), torch.from_numpy(scoring_noise(SEED, DRAWS, LATENT))
    values = one.case.options.get("values", "0..1")
    seen = {"0..1": x, "-1..1": 2 * x - 1, "0..255": 255 * x}[values]
    seen = seen.permute(0, 2, 3, 1) if one.case.last else seen
    scale = one.case.options.get("scale", 1.0)
    if (origin := read_manifest(one.folder).provenance.origin) and "fitted" in str(origin.get("scale_from")):
        scale = float(str(origin["scale"]))
    with torch.no_grad():
        mean, second = one.encoder(seen)
        deviation = second if one.encoder.gives == "scale" else torch.exp(0.5 * second)
        total = torch.zeros(len(x))
        for k in range(DRAWS):
            given = one.decoder(mean + deviation * eps[k])
            if one.case.last:
                given = given.permute(0, 3, 1, 2)
            total += one.case.log_prob(x, given, scale).flatten(1).sum(1) / DRAWS
        kl = of_torch.kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1)
    return np.asarray(total - kl)


@pytest.mark.parametrize("name", CASES)
def test_the_elbo_over_http_is_that_of_torch(
    name: str, published: dict[str, Published], client: httpx.Client
) -> None:
    one = published[name]
    items = one.items[:9]
    body = {"inputs": items.tolist(), "draws": DRAWS, "seed": SEED, "statistic": "elbo"}
    answer = client.post(f"/v1/models/{name}/score", json=body)
    assert answer.status_code == 200, answer.text
    got = np.array([score["elbo"] for score in answer.json()["scores"]])
    wanted = torch_elbo(one, items)
    assert (np.abs(got - wanted) <= 1e-4 * (1 + np.abs(wanted))).all()
    by_default = client.post(f"/v1/models/{name}/score", json={"inputs": items.tolist()}).json()
    assert all(0 < score["p_value"] <= 1 for score in by_default["scores"])


@pytest.mark.parametrize("name", CASES)
def test_every_graph_agrees_with_the_networks_and_the_version_verifies(
    name: str, published: dict[str, Published]
) -> None:
    manifest = verify_version(published[name].folder)
    assert set(manifest.graphs) == {"encode", "decode", "draw", "score", "statistics", "map"}
    assert all(parity.largest_error <= PARITY_TOLERANCE for parity in manifest.parity.values())
    # that decoder's own softplus of 30 values fills no whole vector of a processor
    assert manifest.bit_equal_rows == (not name.endswith("learned"))
    assert manifest.provenance.recipe == {}
    assert manifest.provenance.origin is not None


@pytest.mark.parametrize("name", CASES)
def test_samples_and_reconstructions_are_items_of_the_service(
    name: str, published: dict[str, Published], client: httpx.Client
) -> None:
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    samples = npy(client.get(f"/v1/models/{name}/sample?count=5&seed=1&output=draw", headers=headers))
    assert samples.shape == (5, *SHAPE)
    assert samples.min() >= 0
    assert samples.max() <= 1
    one = published[name]
    body = as_npy(one.items[:4])
    again = npy(client.post(f"/v1/models/{name}/reconstruct", content=body, headers=headers))
    with torch.no_grad():
        x = torch.from_numpy(one.items[:4])
        seen = {"-1..1": 2 * x - 1, "0..255": 255 * x}.get(one.case.options.get("values", "0..1"), x)
        given = one.decoder(one.encoder(seen.permute(0, 2, 3, 1) if one.case.last else seen)[0])
    mean = given[0] if isinstance(given, tuple) else given
    if name == "continuous-bernoulli":
        mean = ContinuousBernoulli(probs=mean.double()).mean  # float32 cancels near one half
    if name == "bernoulli-logits":
        mean = torch.sigmoid(mean)
    if one.case.last:
        mean = mean.permute(0, 3, 1, 2) / 255
    if name == "gaussian-fixed":
        mean = (mean + 1) / 2
    np.testing.assert_allclose(again, mean.clamp(0, 1).numpy(), atol=1e-5)


def test_samples_are_addressed_within_the_measured_tolerance(
    published: dict[str, Published], client: httpx.Client
) -> None:
    headers = {"accept": "application/x-npy"}
    for name in ("bernoulli", "gaussian-learned"):
        tolerance = read_manifest(published[name].folder).largest_row_error
        whole = npy(client.get(f"/v1/models/{name}/sample?count=64&seed=1", headers=headers))
        for offset, count in ((0, 1), (3, 7), (20, 33), (63, 1)):
            path = f"/v1/models/{name}/sample?seed=1&offset={offset}&count={count}"
            part = npy(client.get(path, headers=headers))
            apart = np.abs(part - whole[offset : offset + count])
            assert (apart <= tolerance * (1 + np.abs(part))).all(), name
        assert (tolerance == 0) == (name == "bernoulli")


def test_etags_are_weak_where_the_last_digits_of_a_row_depend_on_its_batch(client: httpx.Client) -> None:
    for name, weak in (("bernoulli", False), ("gaussian-learned", True)):
        answer = client.get(f"/v1/models/{name}/sample?count=2&seed=1")
        assert answer.headers["etag"].startswith("W/") == weak


def test_probabilities_that_float32_rounds_to_one_keep_their_logits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder, decoder = Encoder(PIXELS, LATENT), Decoder(LATENT, SHAPE)
    with torch.no_grad():
        decoder.out.weight *= 30
    files = (
        write_onnx(tmp_path / "encoder.onnx", encoder, SHAPE),
        write_onnx(tmp_path / "decoder.onnx", decoder, (LATENT,)),
    )
    for likelihood in ("bernoulli", "continuous-bernoulli"):
        options: dict[str, Any] = {"likelihood": likelihood, "normals": items_for(likelihood), "draws": 2}
        version = publish_vae(
            likelihood, *files, latent_size=LATENT, item_shape=SHAPE, models=tmp_path / "models", **options
        )
        assert verify_version(version).parity["score"].largest_error <= PARITY_TOLERANCE
