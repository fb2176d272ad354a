import dataclasses
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from tests.training.tiny import digits, tiny_recipe, tiny_table
from tests.waiting import wait_until
from training.loop.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from training.loop.loop import DivergenceError, TrainingOutcome, train
from training.loop.run_log import read_lines
from training.loop.runs import CHECKPOINTS, MODEL, make_stage, restore_published, stages
from training.loop.task import Phase, Rate
from training.loop.vae import VaeTask
from training.losses.terms import Terms
from training.models.likelihoods import SupportError
from training.options import EncoderOptions, LoopOptions
from training.recipe import Recipe, parse_recipe


def interrupt_after(steps: int, number: signal.Signals = signal.SIGINT) -> Callable[[int, str], None]:
    def watch(done: int, _terms: str) -> None:
        if done == steps:
            signal.raise_signal(number)

    return watch


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(folder / CHECKPOINTS).tensors)


@pytest.mark.parametrize("family", ["vae", "gan"])
@pytest.mark.parametrize("stop", [1, 5, 9])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    family: str, stop: int, tmp_path: Path
) -> None:
    recipe = tiny_recipe(family)
    dataset = digits(recipe)
    assert train(recipe, dataset, tmp_path / "whole") == TrainingOutcome(12)
    assert train(recipe, dataset, tmp_path / "parts", on_progress=interrupt_after(stop)) == TrainingOutcome(
        stop, exit_status=130
    )
    assert train(recipe, dataset, tmp_path / "parts", resume=True) == TrainingOutcome(12)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert any(name.startswith("optimiser.") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_parts(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    train(recipe, digits(recipe), tmp_path, on_progress=interrupt_after(5))
    first = read_checkpoint(tmp_path / CHECKPOINTS)
    assert 0 < first.state["seconds"] < 1_000
    longer = dataclasses.replace(first, state={**first.state, "seconds": 1e6})
    write_checkpoint(tmp_path / CHECKPOINTS, longer)
    train(recipe, digits(recipe), tmp_path, resume=True)
    assert 0 < read_checkpoint(tmp_path / CHECKPOINTS).state["seconds"] - 1e6 < 1_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_after_its_step_and_saves_that(number: signal.Signals, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    outcome = train(recipe, digits(recipe), tmp_path, on_progress=interrupt_after(5, number))
    assert outcome == TrainingOutcome(5, exit_status=128 + number)
    assert read_checkpoint(tmp_path / CHECKPOINTS).step == 5


def test_a_closed_terminal_does_not_end_a_run_by_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        recipe = tiny_recipe()
        outcome = train(recipe, digits(recipe), tmp_path, on_progress=interrupt_after(5, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome == TrainingOutcome(12)


def test_a_run_that_stops_before_its_schedule_is_the_beginning_of_the_whole_one(tmp_path: Path) -> None:
    whole, part = tiny_recipe("gan"), tiny_recipe("gan", stop_after=7)
    dataset = digits(whole)
    train(whole, dataset, tmp_path / "whole", on_progress=interrupt_after(7))
    stopped = train(part, dataset, tmp_path / "part")
    assert (stopped.steps, stopped.interrupted) == (7, False)
    wanted, found = tensors(tmp_path / "whole"), tensors(tmp_path / "part")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    # and a longer part goes on from it
    longer = tiny_recipe("gan", stop_after=9)
    assert train(longer, dataset, tmp_path / "part", resume=True).steps == 9


def test_resuming_with_dynamic_binarisation_is_exact_too(tmp_path: Path) -> None:
    table = tiny_recipe().model_dump(mode="json", exclude_none=True)
    table["data"]["binarise"], table["vae"]["likelihood"] = "dynamic", "bernoulli"
    recipe = Recipe.model_validate(table)
    dataset = digits(recipe)
    train(recipe, dataset, tmp_path / "whole")
    train(recipe, dataset, tmp_path / "parts", on_progress=interrupt_after(5))
    train(recipe, dataset, tmp_path / "parts", resume=True)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = tiny_recipe(), tiny_recipe().model_copy(update={"seed": 1})
    train(first, digits(first), tmp_path / "first")
    train(second, digits(second), tmp_path / "second")
    name = "model.encoder.layers.0.weight"
    assert not torch.equal(tensors(tmp_path / "first")[name], tensors(tmp_path / "second")[name])


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_run_in_bfloat16_learns_nearly_what_one_in_float32_learns_and_keeps_float32(
    family: str, tmp_path: Path
) -> None:
    exact, rounded = tiny_recipe(family), tiny_recipe(family, precision="bfloat16")
    train(exact, digits(exact), tmp_path / "exact")
    train(rounded, digits(rounded), tmp_path / "rounded")
    wanted, found = tensors(tmp_path / "exact"), tensors(tmp_path / "rounded")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        name: tensor.dtype for name, tensor in wanted.items()
    }
    assert any(not torch.equal(found[name], wanted[name]) for name in wanted)
    wanted_terms, found_terms = (read_lines(tmp_path / run)[-1] for run in ("exact", "rounded"))
    assert found_terms == pytest.approx(wanted_terms, rel=0.02, abs=0.02)


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_a_run_in_bfloat16_is_validated_in_float32(family: str, tmp_path: Path) -> None:
    validated = []
    for precision in ("float32", "bfloat16"):
        recipe = tiny_recipe(family, precision=precision, learning_rate=1e-30)  # which changes no product
        train(recipe, digits(recipe), tmp_path / precision)
        validated.append([line for line in read_lines(tmp_path / precision) if "learning_rate" not in line])
    assert len(validated[0]) == 2
    for exact, rounded in zip(*validated, strict=True):
        assert rounded == pytest.approx(exact, rel=1e-6)


@pytest.mark.slow
def test_a_signal_from_outside_saves_a_checkpoint_and_names_the_command_that_resumes(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "training", "train", "training/recipes/digits-vae.toml", "--quiet",
        "--runs", str(tmp_path), "--set", "loop.steps=1000000", "--set", "loop.log_every=1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "digits-vae" / "metrics.jsonl"
    wait_until(lambda: process.poll() is not None or (metrics.exists() and metrics.stat().st_size))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "pushforward-train train training/recipes/digits-vae.toml --set loop.steps=1000000" in errors
    assert errors.rstrip().endswith("--resume")
    assert read_checkpoint(tmp_path / "digits-vae" / CHECKPOINTS).step >= 1


def test_the_log_has_the_terms_the_gradient_norms_and_the_validation(tmp_path: Path) -> None:
    recipe = tiny_recipe("gan")
    train(recipe, digits(recipe), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "generator_loss" in line] == [3, 6, 9, 12]
    assert [line["step"] for line in lines if "validation_jsd_bound" in line] == [6, 12]
    expected = {
        "discriminator_loss",
        "generator_loss",
        "discriminator_gradient_norm",
        "generator_gradient_norm",
    }
    assert expected <= lines[0].keys()


def test_a_resumed_run_logs_no_step_twice(tmp_path: Path) -> None:
    recipe = tiny_recipe(log_every=1, checkpoint_every=100)
    train(recipe, digits(recipe), tmp_path, on_progress=interrupt_after(5))
    train(recipe, digits(recipe), tmp_path, resume=True)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 13))
    assert len(steps) == 12 + 2


def test_sample_grids_are_pictures_of_64_items(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    train(recipe, digits(recipe), tmp_path)
    grids = sorted((tmp_path / "samples").iterdir())
    assert [grid.name for grid in grids] == ["step-00000006.png", "step-00000012.png"]
    with Image.open(grids[0]) as picture:
        assert picture.size == (8 * 58 - 2, 8 * 58 - 2)


def test_divergence_stops_the_run_and_names_step_and_phase(tmp_path: Path) -> None:
    recipe = tiny_recipe(learning_rate=1e30, warmup_steps=0)
    with pytest.raises(DivergenceError, match=r"step \d+, phase vae"):
        train(recipe, digits(recipe), tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_changes_a_weight(tmp_path: Path) -> None:
    class Steep(VaeTask):
        """A loss of 0, the root of a weight less itself, which is infinitely steep."""

        def phases(self) -> list[Phase]:
            (weight, *_) = self.model.parameters()
            loss = (weight - weight.detach()).sum().sqrt()
            return [Phase("steep", self.model, lambda *_: Terms(loss[None], {}))]

    recipe = tiny_recipe()
    made = make_stage(recipe, digits(recipe), tmp_path, MODEL)
    assert isinstance(made.task, VaeTask)
    assert recipe.vae is not None
    task = Steep(made.task.model, recipe.vae, 12)
    before = {name: weight.clone() for name, weight in task.model.state_dict().items()}
    with pytest.raises(
        DivergenceError, match=r"step 0, phase steep: the loss is 0\.0 and its gradient norm inf"
    ):
        train(recipe, digits(recipe), tmp_path, stage=dataclasses.replace(made, task=task))
    assert all(torch.equal(weight, before[name]) for name, weight in task.model.state_dict().items())


def test_items_outside_of_the_support_are_refused_unless_they_are_binarised_in_every_step(
    tmp_path: Path,
) -> None:
    table = tiny_table(steps=1) | {"vae": {"likelihood": "bernoulli"}}
    once, often = (
        parse_recipe(table | {"data": {"dataset": "digits", "binarise": how}})
        for how in ("threshold", "dynamic")
    )
    with pytest.raises(SupportError):
        train(once, digits(often), tmp_path / "once")  # which has grey pixels to train on
    assert train(often, digits(often), tmp_path / "often").steps == 1


def test_gradients_are_cut_to_their_limit_and_left_alone_below_it(tmp_path: Path) -> None:
    found = []
    for limit in (1e-3, 1e6, 1e9):
        recipe = tiny_recipe(steps=3, gradient_clip=limit)
        train(recipe, digits(recipe), tmp_path / str(limit))
        found.append(tensors(tmp_path / str(limit)))
    cut, low, high = found
    names = [name for name in low if name.startswith("model.")]
    assert all(torch.equal(low[name], high[name]) for name in names)
    assert not any(torch.equal(cut[name], high[name]) for name in names)


def test_validations_of_the_same_weights_are_the_same(tmp_path: Path) -> None:
    recipe = tiny_recipe(learning_rate=1e-30, warmup_steps=0)
    train(recipe, digits(recipe), tmp_path)
    first, second = (line for line in read_lines(tmp_path) if "validation_elbo" in line)
    assert {**first, "step": 12} == second


def test_a_folder_with_a_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    train(recipe, digits(recipe), tmp_path)
    with pytest.raises(CheckpointError, match="pass --resume"):
        train(recipe, digits(recipe), tmp_path)


def test_a_folder_in_which_a_training_is_at_work_is_refused_to_another(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    dataset, refused = digits(recipe), []

    def train_beside(_done: int, _terms: str) -> None:
        with pytest.raises(CheckpointError, match="another training is at work in") as refusal:
            train(recipe, dataset, tmp_path, resume=True)
        refused.append(refusal)

    assert train(recipe, dataset, tmp_path, on_progress=train_beside).steps == len(refused) == 12
    assert train(recipe, dataset, tmp_path, resume=True).steps == 12


def test_a_checkpoint_of_another_recipe_is_refused_with_what_differs(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    train(recipe, digits(recipe), tmp_path)
    with pytest.raises(CheckpointError, match=r"loop\.steps was 12, now 13"):
        train(tiny_recipe(steps=13), digits(recipe), tmp_path, resume=True)


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_what_does_not_change_the_weights_may_change_after_training(family: str, tmp_path: Path) -> None:
    recipe = with_encoder() if family == "gan" else tiny_recipe()
    dataset = digits(recipe)
    for stage in stages(recipe):
        train(recipe, dataset, tmp_path, stage=stage)
    loop = {"checkpoint_every": 3, "log_every": 1, "threads": 2, "device": "cpu"}
    changed: dict[str, object] = {
        "evaluation": recipe.evaluation.model_copy(update={"draws": 2}),
        "loop": recipe.loop.model_copy(update=loop),
    }
    if recipe.encoder is not None:
        of_encoder = recipe.encoder.loop.model_copy(update=loop)
        changed["encoder"] = recipe.encoder.model_copy(update={"loop": of_encoder})
    assert restore_published(recipe.model_copy(update=changed), dataset, tmp_path)[1].step == 12


def test_the_learning_rate_warms_up_and_falls_to_its_final_ratio() -> None:
    options = LoopOptions(steps=1000, learning_rate=0.1, warmup_steps=10, final_learning_rate_ratio=0.05)
    rates = [options.learning_rate_at(n) for n in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert all(after <= before for before, after in itertools.pairwise(rates[10:]))
    assert math.isclose(rates[-1], 0.005, rel_tol=1e-3)


def with_encoder() -> Recipe:
    recipe = tiny_recipe("gan")
    return recipe.model_copy(update={"encoder": EncoderOptions(loop=recipe.loop)})


def test_an_encoder_resumes_exactly_and_leaves_the_gan_as_it_was(tmp_path: Path) -> None:
    recipe = with_encoder()
    dataset = digits(recipe)
    train(recipe, dataset, tmp_path)
    gan = tensors(tmp_path)
    train(recipe, dataset, tmp_path, stage="encoder", on_progress=interrupt_after(5))
    assert train(recipe, dataset, tmp_path, stage="encoder", resume=True) == TrainingOutcome(12)
    parts = tensors(tmp_path / "encoder")
    shutil.rmtree(tmp_path / "encoder")
    train(recipe, dataset, tmp_path, stage="encoder")
    whole = tensors(tmp_path / "encoder")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert all(torch.equal(gan[name], now) for name, now in tensors(tmp_path).items())


def test_an_encoder_of_other_weights_is_refused(tmp_path: Path) -> None:
    recipe = with_encoder()
    dataset = digits(recipe)
    train(recipe, dataset, tmp_path)
    train(recipe, dataset, tmp_path, stage="encoder")
    _, checkpoint = restore_published(recipe, dataset, tmp_path)
    plain = recipe.model_copy(update={"encoder": None})
    assert restore_published(plain, dataset, tmp_path)[1].fingerprint != checkpoint.fingerprint
    shutil.rmtree(tmp_path / CHECKPOINTS)
    longer = recipe.loop.model_copy(update={"steps": 13})
    train(recipe.model_copy(update={"loop": longer}), dataset, tmp_path)
    with pytest.raises(CheckpointError, match="other"):
        restore_published(recipe.model_copy(update={"loop": longer}), dataset, tmp_path)


def test_an_encoder_may_be_added_to_a_gan_that_is_trained(tmp_path: Path) -> None:
    recipe = with_encoder()
    dataset = digits(recipe)
    train(recipe.model_copy(update={"encoder": None}), dataset, tmp_path)
    assert train(recipe, dataset, tmp_path, resume=True) == TrainingOutcome(12)
    train(recipe, dataset, tmp_path, stage="encoder")
    restore_published(recipe, dataset, tmp_path)


def test_a_gan_without_its_encoder_says_to_train_it(tmp_path: Path) -> None:
    recipe = with_encoder()
    dataset = digits(recipe)
    train(recipe, dataset, tmp_path)
    with pytest.raises(CheckpointError, match="train first"):
        restore_published(recipe, dataset, tmp_path)


def test_a_geometric_schedule_falls_by_equal_factors_to_its_end() -> None:
    options = LoopOptions(
        steps=100, warmup_steps=0, learning_rate=0.1, final_learning_rate_ratio=1e-4, schedule="geometric"
    )
    rates = [options.learning_rate_at(n) for n in (0, 25, 50, 75, 100)]
    assert rates == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])


def test_a_phase_may_slow_down_less_than_the_others() -> None:
    rates = [Rate(2.0, growth=100.0).at(0.1 * 0.01**share, share) for share in (0, 0.5, 1)]
    assert rates == pytest.approx([0.2, 0.2, 0.2])


def test_a_part_of_a_network_may_have_a_learning_rate_of_its_own() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3, bias=False))
    phase = Phase("both", network, lambda *_: Terms(torch.zeros(1), {}), apart=((network[1], Rate(5.0)),))
    rest, apart = phase.parameter_groups()
    assert [tuple(weight.shape) for weight in rest["params"]] == [(2, 2), (2,)]
    assert [tuple(weight.shape) for weight in apart["params"]] == [(3, 2)]
    assert (rest["rate"].at(0.1, 0.5), apart["rate"].at(0.1, 0.5)) == (0.1, 0.5)


def test_weights_decay_and_biases_do_not() -> None:
    network = nn.Linear(2, 2)
    phase = Phase("all", network, lambda *_: Terms(torch.zeros(1), {}))
    decays = {group["params"][0].ndim: group["weight_decay"] for group in phase.parameter_groups(0.1)}
    assert decays == {2: 0.1, 1: 0.0}
