import numpy as np
import pytest
import torch
from torch import nn

from service.format.columns import Column
from tests.training.tiny import digits, tiny_recipe, tiny_table
from training.data import Dataset
from training.data.dataset import Scaling
from training.loop.gan import EncoderTask, GanTask
from training.loop.noise import Noise
from training.loop.task import Phase
from training.models.gan import STATISTICS, Discriminator, Gan, Generator, make_gan, make_gan_encoder
from training.models.likelihoods import SupportError
from training.models.priors import MixturePrior
from training.options import EncoderOptions, LoopOptions
from training.recipe import Recipe, parse_recipe


def ring_recipe(**gan: object) -> Recipe:
    table = tiny_table("gan")
    table["data"] = {"dataset": "ring"}
    table["network"] = {"kind": "dense", "latent": 2, "hidden": [16, 16], "fourier_features": 4}
    table["gan"] = gan
    return parse_recipe(table)


def all_terms(phase: Phase, items: torch.Tensor, at: int) -> dict[str, torch.Tensor]:
    terms = phase.objective(items, Noise(0, Noise.TRAINING, 0), at)
    return {"loss": terms.loss, **terms.report}


def test_generated_pictures_lie_in_the_unit_interval() -> None:
    generator = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)))
    gan = Gan(Generator(generator, None), Discriminator(nn.Flatten(), None), 2, "unit_interval")
    items = gan.decode(100 * torch.randn(50, 2))
    assert ((items >= 0) & (items <= 1)).all()


def test_a_gan_of_numbers_generates_them_in_their_own_units() -> None:
    scaling = Scaling(shift=np.array([100, -5], np.float32), scale=np.array([20, 0.1], np.float32))
    gan = Gan(Generator(nn.Identity(), scaling), Discriminator(nn.Identity(), scaling), 2, "real")
    items = gan.decode(torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)))
    assert items.mean(0).numpy() == pytest.approx([100, -5], abs=1.5)
    assert items.std(0).numpy() == pytest.approx([20, 0.1], rel=0.05)
    assert torch.allclose(gan.discriminator.standardise(items).std(0), torch.ones(2), rtol=0.05)


@pytest.mark.parametrize("objective", ["minimax", "non-saturating", "hinge", "wasserstein", "relativistic"])
@pytest.mark.parametrize("packing", [1, 2])
def test_each_player_learns_from_every_objective_and_the_other_stays(objective: str, packing: int) -> None:
    table = tiny_table("gan")
    table["gan"] = {"objective": objective, "packing": packing, "r2_weight": 0.5}
    recipe = parse_recipe(table)
    assert recipe.gan is not None
    dataset = digits(recipe)
    gan = make_gan(recipe, dataset)
    step = GanTask(gan, recipe.gan, steps=10)
    items = torch.from_numpy(dataset.items["train"][:9])  # as of a split that is smaller than a batch
    for phase in step.phases():
        for other in step.phases():
            other.trains.requires_grad_(other.name == phase.name)
        gan.zero_grad(set_to_none=True)
        terms = phase.objective(items, Noise(0, Noise.TRAINING, 0), 0)
        assert terms.loss.shape == (9 // packing,)
        torch.autograd.backward(terms.loss.mean())
        moved = {name for name, value in gan.named_parameters() if value.grad is not None}
        assert moved == {name for name, _ in gan.named_parameters() if name.startswith(phase.name)}


def test_the_penalties_fall_geometrically_and_are_skipped_in_between(ring: Dataset) -> None:
    recipe = ring_recipe(
        r1_weight=2.0, r2_weight=1.0, penalty_every=2, penalty_final_ratio=1e-2, penalty_settled=0.2
    )
    assert recipe.gan is not None
    step = GanTask(make_gan(recipe, ring), recipe.gan, steps=100)
    items = torch.from_numpy(ring.items["train"][:64])
    discriminator, _ = step.phases()

    def weight(at: int) -> float:
        terms = all_terms(discriminator, items, at)
        rest = terms["loss"] - terms["discriminator_loss"]
        return float((rest.mean() / (2 * terms["r1_penalty"] + terms["r2_penalty"]).mean()).detach())

    assert weight(0) == pytest.approx(2, rel=1e-4)
    assert weight(80) == pytest.approx(0.02, rel=1e-2)
    assert weight(40) == pytest.approx(0.2, rel=1e-3)
    assert weight(100) == pytest.approx(0.02, rel=1e-2)
    assert "r1_penalty" not in all_terms(discriminator, items, 51)


def test_a_penalty_on_one_kind_of_items_is_the_same_with_and_without_the_other(ring: Dataset) -> None:
    items, found = torch.from_numpy(ring.items["train"][:64]), []
    for weights in ({"r1_weight": 1.0}, {"r1_weight": 0.0, "r2_weight": 1.0}, {"r2_weight": 1.0}):
        torch.manual_seed(0)
        recipe = ring_recipe(**weights)
        assert recipe.gan is not None
        discriminator, _ = GanTask(make_gan(recipe, ring), recipe.gan, steps=10).phases()
        found.append(all_terms(discriminator, items, 0))
    first, second, both = found
    assert "r2_penalty" not in first
    assert "r1_penalty" not in second
    assert torch.allclose(first["r1_penalty"], both["r1_penalty"], rtol=1e-4)
    assert torch.allclose(second["r2_penalty"], both["r2_penalty"], rtol=1e-4)
    assert torch.allclose(first["loss"] + second["r2_penalty"], both["loss"], rtol=1e-4)


def test_a_table_with_categories_has_no_generator(ring: Dataset) -> None:
    columns = (Column(name="x", categories=("yes", "no")),)
    recipe = ring_recipe()
    table = Dataset("table", "", (2,), (), ring.items, ring.labels, columns=columns, scaling=ring.scaling)
    with pytest.raises(SupportError, match="categorical column 'x'"):
        make_gan(recipe, table)


@pytest.mark.slow
def test_an_encoder_learns_to_find_what_the_generator_makes_and_leaves_the_gan_alone() -> None:
    recipe = tiny_recipe("gan")
    dataset = digits(recipe)
    gan = make_gan(recipe, dataset).requires_grad_(False)
    for weights in gan.parameters():
        weights.mul_(2)  # an untrained generator makes almost the same item of every latent
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    gan.encoder = make_gan_encoder(recipe, dataset)
    step = EncoderTask(gan, EncoderOptions(latent_weight=0.01, loop=LoopOptions(steps=1)))
    (phase,) = step.phases()
    items = gan.decode(torch.randn(64, gan.latent))
    optimiser = torch.optim.Adam(phase.trains.parameters(), lr=3e-3)
    losses = []
    for n in range(200):
        loss = phase.objective(items, Noise(0, Noise.TRAINING, n), n).loss.mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(before[name], gan.state_dict()[name]) for name in before)


def test_the_anomaly_score_is_the_weighted_sum_of_both_distances() -> None:
    recipe = tiny_recipe("gan")
    dataset = digits(recipe)
    gan = make_gan(recipe, dataset)
    gan.encoder, gan.feature_weight = make_gan_encoder(recipe, dataset), 0.25
    items = torch.from_numpy(dataset.items["test"][:5])
    residual, feature_distance, score = gan.statistics(items).T
    nearest = gan.decode(gan.encode(items))
    assert STATISTICS == ("residual", "feature_distance", "f_anogan")
    assert torch.allclose(residual, (items - nearest).square().flatten(1).mean(1), atol=1e-7)
    assert torch.allclose(score, residual + 0.25 * feature_distance)
    assert (feature_distance > 0).all()


def test_the_weights_of_a_mixture_learn_where_the_generator_has_to_go() -> None:
    prior = MixturePrior(5, latent=2, deviation=0.1, rate=3.0)
    losses, components = torch.tensor([-0.6, -0.2, 0.2, 0.6]), torch.tensor([0, 0, 2, 3])
    torch.autograd.backward(prior.surrogate(losses, components).mean())
    # the derivative of E[loss] under softmax weights, sampled: mean of loss * grad log w
    shares = torch.full((5,), 0.2)
    expected = sum(
        loss * (torch.eye(5)[component] - shares) for loss, component in zip(losses, components, strict=True)
    )
    assert prior.raw.grad is not None
    assert torch.allclose(prior.raw.grad, 3 * torch.as_tensor(expected) / 4, atol=1e-6)


def test_components_are_chosen_as_often_as_they_weigh() -> None:
    prior = MixturePrior(4, latent=2, deviation=0.1, rate=2.0)
    with torch.no_grad():
        prior.raw.copy_(torch.tensor([0.5, -20.0, 0.0, 1.0]))
    weights = prior.log_weights().detach().exp()
    assert float(weights.sum()) == pytest.approx(1)
    uniforms = (torch.arange(10_000) + 0.5) / 10_000
    chosen = prior.choose(uniforms)
    assert torch.allclose(torch.bincount(chosen, minlength=4) / 10_000, weights, atol=1e-3)
    normals = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    around = prior.latents(normals, chosen)[chosen == 3]
    assert torch.allclose(around.mean(0), prior.means[3], atol=0.01)
    assert torch.allclose(around.std(0), torch.tensor(0.1), rtol=0.05)


def test_a_component_that_nothing_is_drawn_from_gets_its_weight_back() -> None:
    prior = MixturePrior(4, latent=2, deviation=0.1, rate=2.0)
    assert float(prior.weight_kl().detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        prior.raw.copy_(torch.tensor([0.5, -20.0, 0.0, 1.0]))
    descent = torch.optim.Adam([prior.raw], lr=0.5)
    started = float(prior.weight_kl().detach())
    for _ in range(50):
        descent.zero_grad()
        torch.autograd.backward(prior.weight_kl())
        descent.step()
    assert float(prior.weight_kl().detach()) < 0.1 * started
    assert float(prior.log_weights().detach().exp().min()) > 0.05


def test_evenness_weighs_less_and_less_and_nothing_at_the_end(ring: Dataset) -> None:
    def loss(at: int, evenness: float) -> torch.Tensor:
        recipe = ring_recipe(objective="relativistic", prior="mixture", prior_evenness=evenness)
        assert recipe.gan is not None
        torch.manual_seed(0)
        gan = make_gan(recipe, ring)
        assert gan.generator.prior is not None
        with torch.no_grad():
            gan.generator.prior.raw[0] = -3
        items = torch.from_numpy(ring.items["train"][:8])
        return all_terms(GanTask(gan, recipe.gan, 100).phases()[1], items, at)["loss"].detach()

    added = [float((loss(at, 2.0) - loss(at, 0.0)).mean()) for at in (0, 50, 100)]
    assert added[0] > 0.01
    assert added[1] == pytest.approx(added[0] / 2, rel=1e-3)
    assert added[2] == 0


def test_gaussians_move_to_where_the_discriminator_sees_data() -> None:
    prior = MixturePrior(3, latent=2, deviation=0.1, rate=1.0)
    with torch.no_grad():
        prior.raw[2] = -50.0
    begun = prior.means.detach().clone()
    descent = torch.optim.Adam(prior.parameters(), lr=0.05)
    random = torch.Generator().manual_seed(0)
    target = torch.tensor([3.0, -1.0])
    for _ in range(300):
        components = prior.choose(torch.rand(64, generator=random))
        latents = prior.latents(torch.randn(64, 2, generator=random), components)
        descent.zero_grad()
        torch.autograd.backward((latents - target).square().sum(1).mean())
        descent.step()
    assert torch.allclose(prior.means[:2], target, atol=0.1)
    assert torch.equal(prior.means[2], begun[2])  # nothing of it was ever judged
