import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from training.data import Dataset
from training.experiments.figure.methods import METHODS
from training.experiments.figure.pairs import AliTask, VeeganTask
from training.experiments.figure.unrolled import AdamState, UnrolledTask
from training.loop.gan import GanTask
from training.loop.noise import Noise
from training.losses.gan import LOSSES
from training.losses.terms import Terms
from training.recipe import Recipe, parse_recipe

SMALL = {"latent": 2, "hidden": [8, 8], "fourier_features": 3}


def small(method: str) -> Recipe:
    table = METHODS[method].recipe("ring", 0).model_dump(mode="json", exclude_none=True)
    return parse_recipe(table | {"network": table["network"] | SMALL})


def make_task(method: str, dataset: Dataset) -> GanTask:
    task = METHODS[method].make_task(small(method), dataset)
    task.model.double()
    return task


def noise(step: int = 0) -> Noise:
    return Noise(0, Noise.TRAINING, step)


def points(rows: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten().clone() for weight in network.parameters()])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", METHODS)
def test_every_phase_has_gradients_for_all_that_it_trains_and_for_nothing_else(
    method: str, ring: Dataset
) -> None:
    task = make_task(method, ring)
    phases = task.phases()
    trained: set[nn.Parameter] = set()
    for phase in phases:
        for other in phases:
            other.trains.requires_grad_(other is phase)
        task.model.zero_grad(set_to_none=True)
        phase.objective(points(20), noise(), 0).loss.mean().backward()  # type: ignore[no-untyped-call]
        moved = {each for each in task.model.parameters() if each.grad is not None}
        assert moved == set(phase.trains.parameters())
        assert all(each.grad is not None and each.grad.isfinite().all() for each in moved)
        trained |= moved
    assert trained == set(task.model.parameters())


def test_packing_judges_points_by_their_company(ring: Dataset) -> None:
    task = make_task("pacgan", ring)
    together, other = points(4, 1), points(4, 2)
    pairs = torch.cat([together, together], dim=1)
    logits = task.model.discriminate(pairs)
    assert logits.shape == (4,)
    assert not torch.isclose(logits, task.model.discriminate(torch.cat([together, other], dim=1))).any()


def test_the_critic_has_five_steps_with_a_fifth_of_the_batch_each(ring: Dataset) -> None:
    phases = make_task("wgan-gp", ring).phases()
    assert [phase.name for phase in phases] == ["discriminator"] * 5 + ["generator"]
    assert len({id(phase) for phase in phases}) == 2
    assert [phase.objective(points(20), noise(), 0).loss.shape for phase in phases[-2:]] == [(4,), (4,)]


def test_without_steps_ahead_the_unrolled_generator_plays_minimax(ring: Dataset) -> None:
    task = unrolled(ring, 0)
    real, latents = points(16), torch.randn(16, 2)
    loss, _ = task.unroll(real, task.model.decode(latents), 0)
    fake_logits = task.model.discriminate(task.model.decode(latents))
    plain = LOSSES["minimax"].generator(fake_logits, fake_logits).mean()
    assert torch.allclose(_gradient(loss.mean(), task), _gradient(plain, task))


def test_the_unrolled_gradient_depends_on_how_far_it_looks_ahead(ring: Dataset) -> None:
    gradients = []
    task = unrolled(ring, 0)
    real, latents = points(16), torch.randn(16, 2)
    for task.unrolled_steps in (0, 1, 5):
        loss, _ = task.unroll(real, task.model.decode(latents), 0)
        gradients.append(_gradient(loss.mean(), task))
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)
    assert not torch.allclose(gradients[1], gradients[2], rtol=1e-3)


def test_the_unrolled_gradient_is_that_of_the_loss_after_the_steps(ring: Dataset) -> None:
    task = unrolled(ring, 2)
    for step in range(3):  # so that Adam's moments are not zero
        terms(task, "generator", points(16, step), step)
    real, latents = points(16), torch.randn(16, 2)
    loss, _ = task.unroll(real, task.model.decode(latents), 0)
    direction = _gradient(loss.mean(), task)
    direction /= direction.norm()
    analytic, reach = float(_gradient(loss.mean(), task) @ direction), 1e-6
    ends = []
    for side in (-reach, reach):
        moved = copy.deepcopy(task.model.generator)
        nn.utils.vector_to_parameters(weights(moved) + side * direction, moved.parameters())
        ends.append(float(task.unroll(real, moved(latents), 0)[0].mean().detach()))
    assert (ends[1] - ends[0]) / (2 * reach) == pytest.approx(analytic, rel=1e-4)


def test_the_step_that_is_looked_ahead_is_the_one_that_adam_takes(ring: Dataset) -> None:
    task = unrolled(ring, 5)
    loop = small("unrolled").loop
    adam = torch.optim.Adam(task.model.discriminator.parameters(), loop.learning_rate, loop.betas)
    for step in range(3):
        items = points(16, step)
        terms(task, "generator", items, step)
        ahead = task.state
        adam.zero_grad()
        terms(task, "discriminator", items, step).loss.mean().backward()  # type: ignore[no-untyped-call]
        adam.step()
        for name, weight in task.model.discriminator.named_parameters():
            assert torch.allclose(weight, ahead.weights[name], atol=1e-6)


def test_veegan_teaches_its_encoder_by_reconstruction_alone(ring: Dataset) -> None:
    task = make_task("veegan", ring)
    assert isinstance(task, VeeganTask)
    loss = terms(task, "generator", points(16)).loss.mean()
    gradients = torch.autograd.grad(loss, [*task.encoder.parameters()])
    latents = noise().normal(16, 2)
    mean, log_variance = task.posterior(task.model.decode(latents))
    likelihood = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(latents)  # type: ignore[no-untyped-call]
    expected = torch.autograd.grad(-likelihood.sum(1).mean(), [*task.encoder.parameters()])
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, wanted)


def test_ali_passes_generated_pairs_off_as_real_ones_and_inferred_pairs_as_generated(ring: Dataset) -> None:
    task = make_task("ali", ring)
    assert isinstance(task, AliTask)
    generator, encoder = [*task.model.generator.parameters()], [*task.encoder.parameters()]
    loss = terms(task, "generator", points(16)).loss.mean()
    gradients = torch.autograd.grad(loss, [*generator, *encoder])
    inferred, generated = (logits.sigmoid() for logits in task.logits(points(16), noise()))
    expected = [
        *torch.autograd.grad(-generated.log().mean(), generator, retain_graph=True),
        *torch.autograd.grad(-(1 - inferred).log().mean(), encoder),
    ]
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, wanted)


def test_a_step_of_adam_is_that_of_torch() -> None:
    weight = torch.randn(3, requires_grad=True)
    twin = weight.detach().clone().requires_grad_()
    adam = torch.optim.Adam([twin], 0.01, (0.5, 0.99))
    state = AdamState({"w": weight}, {"w": torch.zeros(3)}, {"w": torch.zeros(3)}, steps=0)
    for _ in range(4):
        state = state.after(state.weights["w"].pow(4).sum(), 0.01, (0.5, 0.99)).detached()
        adam.zero_grad()
        twin.pow(4).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert torch.allclose(state.weights["w"], twin, atol=1e-6)


def unrolled(dataset: Dataset, steps: int) -> UnrolledTask:
    task = make_task("unrolled", dataset)
    assert isinstance(task, UnrolledTask)
    task.unrolled_steps = steps
    weights, firsts, seconds = (
        {name: value.double() for name, value in part.items()}
        for part in (task.state.weights, task.state.firsts, task.state.seconds)
    )
    task.state = AdamState(weights, firsts, seconds, steps=0)
    return task


def terms(task: GanTask, name: str, items: Tensor, step: int = 0) -> Terms:
    (phase,) = {phase.name: phase for phase in task.phases() if phase.name == name}.values()
    return phase.objective(items, noise(step), 0)


def _gradient(loss: Tensor, task: UnrolledTask) -> Tensor:
    gradients = torch.autograd.grad(loss, [*task.model.generator.parameters()], retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])
