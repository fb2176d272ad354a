"""Write a report about a training run, as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from service.format.manifest import is_picture
from training.evaluation import read_evaluation
from training.loop.diagnostics import findings_of_run
from training.loop.run_log import SAMPLES
from training.recipe import Recipe, flattened
from training.report.columns import columns_section
from training.report.curves import curves_section
from training.report.gallery import reconstructions_section, samples_section
from training.report.latents import latents_section
from training.report.page import Page, Section, Table, render
from training.report.reading import ReportError, Trained, read_metrics, read_run_recipe, restore
from training.report.scores import histogram_section, scores_section

__all__ = ["ReportError", "write_report"]

_FILE = "report.html"
_FAMILIES = {"vae": "variational autoencoder", "gan": "generative adversarial network"}


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder from the files in it, and return its path.

    A run without a checkpoint has curves only; the recipe's data is loaded again.

    Raises:
        CheckpointError: The run's checkpoint cannot be read.
        DataError: The recipe's data cannot be loaded.
        RecipeError: The run's recipe is of another version of this program.
        ReportError: The folder is not a run.
        SupportError: The data no longer fits the model's likelihood.
    """
    recipe = read_run_recipe(folder)
    torch.set_num_threads(recipe.loop.threads)
    metrics = read_metrics(folder)
    with torch.no_grad():
        trained = restore(recipe, folder)
        sections = (*_model_sections(trained, recipe, folder), curves_section(metrics))
    steps = max((int(series.steps[-1]) for series in metrics.values()), default=0)
    page = Page(recipe.name, recipe.title, _facts(recipe, trained, steps), _recipe_table(recipe), sections)
    path = folder / _FILE
    path.write_text(render(page), encoding="utf-8")
    return path


def _model_sections(trained: Trained | None, recipe: Recipe, folder: Path) -> Iterator[Section]:
    """Make the sections about the model itself."""
    if trained is None:
        yield Section(
            "No checkpoint yet",
            ("Before its first checkpoint a run has no model, so this page has only its log.",),
        )
        if any((folder / SAMPLES).glob("*.png")):
            yield samples_section(None, folder)
        return
    metrics = read_evaluation(folder, trained.checkpoint, None)
    findings = findings_of_run(trained.task, folder, metrics or {})
    if findings:
        yield Section(
            "Troubles", tuple(f"{finding.trouble.capitalize()}. {finding.text}" for finding in findings)
        )
    yield scores_section(recipe, metrics, folder)
    vae, dataset = trained.vae, trained.dataset
    if not (vae and dataset.columns):
        yield samples_section(trained, folder)
    if vae is None:
        return
    if dataset.columns:
        yield columns_section(vae, trained)
    if is_picture(dataset.item_shape):
        yield reconstructions_section(vae, trained)
    yield latents_section(vae, trained)
    yield histogram_section(vae, trained)


def _facts(recipe: Recipe, trained: Trained | None, logged: int) -> tuple[tuple[str, str], ...]:
    steps = logged if trained is None else trained.steps
    facts = [
        ("Family", _FAMILIES[recipe.family]),
        ("Seed", str(recipe.seed)),
        ("Steps", f"{steps:,} of {recipe.loop.steps:,}"),
        ("Latent dimensions", str(recipe.network.latent)),
    ]
    if trained is not None:
        facts.append(("Data", trained.dataset.source))
    return tuple(facts)


def _recipe_table(recipe: Recipe) -> Table:
    rows = [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in flattened(recipe.model_dump(mode="json", exclude_none=True)).items()
    ]
    return Table(("setting", "value"), tuple(rows), align="ll")
