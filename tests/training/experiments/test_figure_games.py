import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.experiments.figure.games import Adversarial, descend
from training.experiments.figure.inference import Ali, Veegan
from training.experiments.figure.networks import draw_latents
from training.experiments.figure.options import METHODS, Options
from training.experiments.figure.training import GAMES
from training.experiments.figure.unrolled import Unrolled
from training.losses.gan import LOSSES, packed

SMALL = {"width": 8, "layers": 2, "frequencies": 3, "latent": 2, "batch_rows": 16}


def small(method: str, **changed: Any) -> Options:
    return dataclasses.replace(METHODS[method].options, **SMALL | changed)


def points(rows: int) -> Tensor:
    return torch.randn(rows, 2)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in network.parameters()])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_changes_the_weights_of_every_player(method: str) -> None:
    options = small(method)
    game = GAMES[options.kind](options)
    players = [game.generator, game.discriminator]
    if isinstance(game, Ali | Veegan):
        players.append(game.encoder)
    before = [weights(player) for player in players]
    game.set_learning_rates(0.0)
    game.step(points, 0.0)
    for player, old in zip(players, before, strict=True):
        assert not torch.equal(weights(player), old)
        assert weights(player).isfinite().all()


def test_descending_a_players_loss_leaves_the_other_as_it_was() -> None:
    game = Adversarial(small("relativistic"))
    discriminator, generator = weights(game.discriminator), weights(game.generator)
    descend(torch.optim.SGD(game.discriminator.parameters(), 0.1), game.discriminator_loss(points, 0.0))
    assert torch.equal(weights(game.generator), generator)
    assert not torch.equal(weights(game.discriminator), discriminator)
    discriminator = weights(game.discriminator)
    descend(torch.optim.SGD(game.generator.parameters(), 0.1), game.generator_loss(points, 0.0))
    assert torch.equal(weights(game.discriminator), discriminator)
    assert not torch.equal(weights(game.generator), generator)


def test_the_penalty_adds_both_mean_squared_slopes_halved_and_weighted() -> None:
    game = Adversarial(small("relativistic", penalty_weight=0.3))
    plain = Adversarial(small("relativistic", penalty_weight=0.0))
    plain.generator, plain.discriminator = game.generator, game.discriminator
    torch.manual_seed(1)
    loss = game.discriminator_loss(points, 0.0)
    torch.manual_seed(1)
    without = plain.discriminator_loss(points, 0.0)
    torch.manual_seed(1)
    fake, real = game.generate(16).detach(), points(16)
    slopes = [_slope(game.discriminator, half).square().sum(1).mean() for half in (real, fake)]
    assert float((loss - without).detach()) == pytest.approx(0.3 * 0.5 * float(sum(slopes)))


def test_the_penalty_falls_geometrically_and_settles() -> None:
    weights = {"penalty_weight": 1.0, "final_penalty_weight": 1e-2, "penalty_settled": 0.5}
    game = Adversarial(small("relativistic", **weights))
    losses = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        torch.manual_seed(1)
        losses.append(game.discriminator_loss(points, progress).item())
    assert losses[2] == losses[3]
    # of weights 1, 0.1 and 0.01
    assert (losses[1] - losses[2]) / (losses[0] - losses[2]) == pytest.approx(0.09 / 0.99, rel=1e-3)


def test_packing_judges_points_by_their_company() -> None:
    discriminator = Adversarial(small("pacgan")).discriminator
    together = packed(points(8), 2)
    other = torch.cat([together[:, :2], points(4)], dim=1)
    logits = discriminator(together)
    assert logits.shape == (4,)
    assert not torch.isclose(logits, discriminator(other)).any()


def test_without_steps_ahead_the_unrolled_generator_plays_minimax() -> None:
    game = Unrolled(small("unrolled", unrolled_steps=0))
    real, latents = points(16), torch.randn(16, 2)
    loss, _ = game.unroll(real, game.generator(latents))
    fake_logits = game.discriminator(game.generator(latents))
    plain = LOSSES["minimax"].generator(fake_logits, fake_logits).mean()
    assert torch.allclose(_gradient(loss, game), _gradient(plain, game))


def test_the_unrolled_gradient_depends_on_how_far_it_looks_ahead() -> None:
    gradients = []
    game = Unrolled(small("unrolled"))
    game.set_learning_rates(0.0)
    real, latents = points(16), torch.randn(16, 2)
    for steps in (0, 1, 5):
        game.options = small("unrolled", unrolled_steps=steps)
        loss, _ = game.unroll(real, game.generator(latents))
        gradients.append(_gradient(loss, game))
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)
    assert not torch.allclose(gradients[1], gradients[2], rtol=1e-3)


def test_the_unrolled_gradient_is_that_of_the_loss_after_the_steps() -> None:
    game = Unrolled(small("unrolled", unrolled_steps=2))
    game.set_learning_rates(0.0)
    for _ in range(3):  # so that Adam's moments are not zero
        game.step(points, 0.0)
    real, latents = points(16), torch.randn(16, 2)
    loss, _ = game.unroll(real, game.generator(latents))
    direction = _gradient(loss, game)
    direction /= direction.norm()
    analytic, reach = float(_gradient(loss, game) @ direction), 1e-6
    ends = []
    for side in (-reach, reach):
        moved = copy.deepcopy(game.generator)
        nn.utils.vector_to_parameters(weights(moved) + side * direction, moved.parameters())
        ends.append(float(game.unroll(real, moved(latents))[0].detach()))
    assert (ends[1] - ends[0]) / (2 * reach) == pytest.approx(analytic, rel=1e-4)


def test_the_discriminators_own_step_is_adams() -> None:
    game = Unrolled(small("unrolled"))
    game.set_learning_rates(0.0)
    twin = copy.deepcopy(game.discriminator)
    adam = torch.optim.Adam(twin.parameters(), lr=game.options.learning_rate, betas=game.options.betas)
    for _ in range(3):
        batch = points(16)
        torch.manual_seed(7)
        fake = game.generate(16).detach()
        logits = twin(torch.cat([batch, fake]))
        descend(adam, LOSSES["minimax"].discriminator(*logits.chunk(2)).mean())
        torch.manual_seed(7)
        game.step(lambda _rows, batch=batch: batch, 0.0)  # type: ignore[misc]
    assert torch.allclose(weights(game.discriminator), weights(twin), atol=1e-6)


def test_veegan_teaches_its_encoder_by_reconstruction_alone() -> None:
    game = Veegan(small("veegan"))
    torch.manual_seed(1)
    gradients = torch.autograd.grad(game.joint_loss(points), [*game.encoder.parameters()])
    torch.manual_seed(1)
    latents = torch.randn(16, 2)
    mean, log_variance = game.encoder(game.generator(latents))
    likelihood = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(latents)  # type: ignore[no-untyped-call]
    expected = torch.autograd.grad(-likelihood.sum(1).mean(), [*game.encoder.parameters()])
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, wanted)


def test_ali_passes_generated_pairs_off_as_real_ones_and_inferred_pairs_as_generated() -> None:
    game = Ali(small("ali"))
    torch.manual_seed(1)
    gradients = torch.autograd.grad(
        game.joint_loss(points), [*game.generator.parameters(), *game.encoder.parameters()]
    )
    torch.manual_seed(1)
    real, latents = points(16), torch.randn(16, 2)
    inferred = game.discriminator(real, draw_latents(*game.encoder(real))).sigmoid()
    generated = game.discriminator(game.generator(latents), latents).sigmoid()
    expected = [
        *torch.autograd.grad(-generated.log().mean(), [*game.generator.parameters()]),
        *torch.autograd.grad(-(1 - inferred).log().mean(), [*game.encoder.parameters()]),
    ]
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, wanted)


def test_learning_rates_fall_geometrically() -> None:
    options = small("non-saturating", learning_rate=1.0, final_learning_rate=0.01)
    steps = []
    for progress in (0.0, 0.5, 1.0):
        fresh = Adversarial(options)
        before = weights(fresh.generator)
        fresh.set_learning_rates(progress)
        fresh.step(points, progress)
        # Adam's first step is as long as its learning rate, whatever the gradient.
        steps.append(float((weights(fresh.generator) - before).abs().max()))
    assert steps == pytest.approx([1.0, 0.1, 0.01], rel=1e-3)


def _gradient(loss: Tensor, game: Unrolled) -> Tensor:
    gradients = torch.autograd.grad(loss, [*game.generator.parameters()], retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _slope(network: nn.Module, items: Tensor) -> Tensor:
    items = items.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(items).sum(), items)
    return slope
