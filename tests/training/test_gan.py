import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from service.columns import Column
from tests.training.tiny import digits, tiny_recipe, tiny_table
from training.data import Dataset, load_dataset
from training.data.dataset import Scaling
from training.data.options import DataOptions
from training.gan import STATISTICS, Discriminator, Gan, Generator, make_gan, make_gan_encoder
from training.gan_step import EncoderStep, GanStep
from training.likelihoods import SupportError
from training.options import EncoderOptions, GanOptions, LoopOptions
from training.priors import Islands
from training.recipe import Recipe, parse_recipe
from training.step import Noise, Phase


def ring_recipe(**gan: object) -> Recipe:
    table = tiny_table("gan")
    table["data"] = {"dataset": "ring"}
    table["network"] = {"kind": "dense", "latent": 2, "hidden": [16, 16], "fourier_features": 4}
    table["gan"] = gan
    return parse_recipe(table)


@pytest.fixture(scope="module")
def ring() -> Dataset:
    return load_dataset(DataOptions(dataset="ring"))


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
    step = GanStep(gan, recipe.gan, steps=10)
    items = torch.from_numpy(dataset.items["train"][:8])
    for phase in step.phases():
        for other in step.phases():
            other.trains.requires_grad_(other.name == phase.name)
        gan.zero_grad(set_to_none=True)
        terms = phase.objective(items, Noise(0, Noise.TRAINING, 0), 0)
        assert terms.loss.shape == (8 // packing,)
        torch.autograd.backward(terms.loss.mean())
        moved = {name for name, value in gan.named_parameters() if value.grad is not None}
        assert moved == {name for name, _ in gan.named_parameters() if name.startswith(phase.name)}


def test_the_penalties_fall_geometrically_and_are_skipped_in_between(ring: Dataset) -> None:
    recipe = ring_recipe(
        r1_weight=2.0, r2_weight=1.0, penalty_every=2, penalty_final_ratio=1e-2, penalty_settled=0.2
    )
    assert recipe.gan is not None
    step = GanStep(make_gan(recipe, ring), recipe.gan, steps=100)
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


def test_a_table_with_categories_has_no_generator(ring: Dataset) -> None:
    columns = (Column(name="x", categories=("yes", "no")),)
    recipe = ring_recipe()
    table = Dataset("table", "", (2,), (), ring.items, ring.labels, columns=columns, scaling=ring.scaling)
    with pytest.raises(SupportError, match="categorical column 'x'"):
        make_gan(recipe, table)


def test_an_encoder_learns_to_find_what_the_generator_makes_and_leaves_the_gan_alone() -> None:
    torch.manual_seed(0)
    recipe = tiny_recipe("gan")
    dataset = digits(recipe)
    gan = make_gan(recipe, dataset).requires_grad_(False)
    for weights in gan.parameters():
        weights.mul_(2)  # an untrained generator makes almost the same item of every latent
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    gan.encoder = make_gan_encoder(recipe, dataset)
    step = EncoderStep(gan, EncoderOptions(latent_weight=0.01, loop=LoopOptions(steps=1)))
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
    prior = Islands(5, latent=2, deviation=0.1, rate=3.0)
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
    prior = Islands(4, latent=2, deviation=0.1, rate=2.0)
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
    prior = Islands(4, latent=2, deviation=0.1, rate=2.0)
    assert float(prior.unevenness().detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        prior.raw.copy_(torch.tensor([0.5, -20.0, 0.0, 1.0]))
    descent = torch.optim.Adam([prior.raw], lr=0.5)
    started = float(prior.unevenness().detach())
    for _ in range(50):
        descent.zero_grad()
        torch.autograd.backward(prior.unevenness())
        descent.step()
    assert float(prior.unevenness().detach()) < 0.1 * started
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
        return all_terms(GanStep(gan, recipe.gan, 100).phases()[1], items, at)["loss"].detach()

    added = [float((loss(at, 2.0) - loss(at, 0.0)).mean()) for at in (0, 50, 100)]
    assert added[0] > 0.01
    assert added[1] == pytest.approx(added[0] / 2, rel=1e-3)
    assert added[2] == 0


def test_components_without_weight_learn_only_where_the_generator_explores(ring: Dataset) -> None:
    def gradient(exploration: float) -> torch.Tensor:
        recipe = ring_recipe(
            objective="relativistic", prior="mixture", prior_components=2, prior_exploration=exploration
        )
        assert recipe.gan is not None
        torch.manual_seed(0)
        gan = make_gan(recipe, ring)
        prior = gan.generator.prior
        assert prior is not None
        with torch.no_grad():
            prior.means[:] = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
            prior.raw[:] = torch.tensor([0.0, -50.0])
        decoded: list[torch.Tensor] = []
        gan.generator.network.register_forward_pre_hook(lambda _, given: decoded.append(given[0]))
        items = torch.from_numpy(ring.items["train"][:64])
        torch.autograd.backward(all_terms(GanStep(gan, recipe.gan, 100).phases()[1], items, 0)["loss"].mean())
        share = float((decoded[0][:, 1] > 25).float().mean())
        assert share == 0 if exploration == 0 else 0.1 < share < 0.5
        assert prior.raw.grad is not None
        return prior.raw.grad

    # all that the prior itself drew is of the first component, whose weight is 1 and cannot learn
    assert torch.allclose(gradient(0.0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(gradient(0.5), torch.zeros(2), atol=1e-6)


def test_a_component_that_wins_regains_its_weight_however_little_is_left() -> None:
    prior = Islands(2, latent=2, deviation=0.1, rate=1.0)
    with torch.no_grad():
        prior.raw[:] = torch.tensor([0.0, -20.0])
    losses, components = torch.tensor([0.4, -0.4]), torch.tensor([0, 1])

    def moved(terms: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(terms.sum(), [prior.raw])
        return -gradient

    assert moved(prior.revival(losses, components)).tolist() == pytest.approx([-0.4, 0.4])
    # but items that the prior itself draws are all of the first, and teach nothing
    drawn = prior.choose(torch.rand(1000))
    assert moved(prior.surrogate(torch.full((1000,), 0.4), drawn)).abs().max() < 1e-3


def test_losing_by_much_counts_no_more_for_weights_than_losing_for_sure(ring: Dataset) -> None:
    recipe = ring_recipe(
        objective="relativistic",
        prior="mixture",
        prior_components=2,
        prior_exploration=0.5,
        prior_revival=1.0,
    )
    assert recipe.gan is not None
    torch.manual_seed(0)
    gan = make_gan(recipe, ring)
    prior = gan.generator.prior
    assert prior is not None
    with torch.no_grad():  # everything generated is far out, where the discriminator is sure and loud
        gan.discriminator.requires_grad_(False)
        for parameter in gan.discriminator.parameters():
            parameter.mul_(10)
    items = torch.from_numpy(ring.items["train"][:64])
    terms = all_terms(GanStep(gan, recipe.gan, 100).phases()[1], items, 0)
    (gradient,) = torch.autograd.grad(terms["loss"].mean(), [prior.raw])
    assert float(terms["generator_loss"].detach().max()) > 10
    assert float(gradient.abs().max()) < recipe.gan.prior_learning_rate_ratio


@pytest.mark.parametrize(
    ("options", "flaw"),
    [
        ({"prior_revival": 1.0}, "without exploration"),
        ({"prior_revival": 1.0, "prior_exploration": 0.3, "objective": "hinge"}, "tell no chances"),
    ],
)
def test_a_revival_that_cannot_be_is_refused(options: dict[str, object], flaw: str) -> None:
    with pytest.raises(ValidationError, match=flaw):
        GanOptions.model_validate({"prior": "mixture", **options})
