"""The page about a run: it shows the run's figures, needs no other file, and trusts no text."""

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.training.data.own_data import ALL, a_table, write_csv
from tests.training.report.page import Page
from tests.training.tiny import tiny_table
from training.__main__ import app
from training.data import load_dataset
from training.evaluation import evaluate, write_evaluation
from training.loop.loop import train
from training.loop.runs import restore_published
from training.models.vae import reconstruct
from training.recipe import Recipe, parse_recipe
from training.report import ReportError, write_report
from training.report.columns import columns_section, draw_rows
from training.report.latents import SWEEP, traverse
from training.report.reading import Trained, read_metrics, restore

FAMILIES = ("vae", "binary", "table", "gan")
HOSTILE = """<script>alert("1")</script> & '{{ 7 * 7 }}' $x_{"""


def a_recipe(family: str, folder: Path) -> Recipe:
    """A tiny GAN, VAE of pictures, VAE of dynamically binarised ones, or VAE of a table with outliers."""
    table = tiny_table("gan" if family == "gan" else "vae")
    if family == "binary":
        table["data"]["binarise"], table["vae"] = "dynamic", {"likelihood": "bernoulli", "prior": "vamp"}
        table["vae"]["prior_components"] = 7
    if family == "table":
        path = write_csv(folder / "table.csv", a_table())
        table["data"] = {"dataset": "table", "path": str(path), "keep": ["good"], **ALL}
        table["network"] = {"kind": "dense", "latent": 3, "hidden": [8]}
        table["vae"] = {"likelihood": "gaussian", "prior": "mixture", "prior_components": 5}
        table["loop"]["batch_rows"] = 10
    return parse_recipe(table)


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a finished run of each family, for tests that leave it unchanged."""
    runs = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        recipe = a_recipe(family, folder)
        train(recipe, load_dataset(recipe.data), folder)
        runs[family] = folder
    return runs


@pytest.fixture(scope="module")
def pages(trained_runs: dict[str, Path]) -> dict[str, Page]:
    """The report of each of these runs."""
    return {family: Page(write_report(folder)) for family, folder in trained_runs.items()}


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target, dirs_exist_ok=True))


def restored(folder: Path) -> Trained:
    trained = restore(parse_recipe(json.loads((folder / "recipe.json").read_text())), folder)
    assert trained is not None
    return trained


@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_of_every_family_is_one_file_that_asks_for_no_other(
    family: str, pages: dict[str, Page]
) -> None:
    page = pages[family]
    assert page.plots
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"url\(|@import", page.source)
    for plot in page.plots:
        assert "<!DOCTYPE" not in plot
        assert all(
            target.startswith("#") for target in re.findall(r"""(?:href=|url\()["']?([^"')]+)""", plot)
        )
    assert page.pictures_without_words == 0
    assert "12 of 12" in page.text


@pytest.mark.parametrize(
    ("family", "shown", "hidden"),
    [
        (
            "vae",
            ["Samples", "Reconstructions", "Latent dimensions", "N(0, I)", "Bound on log p(x)"],
            "Losses",
        ),
        ("binary", ["Reconstructions", "a mixture of 7 Gaussians"], "Columns"),
        ("table", ["Columns", "length", "green", "a mixture of 5 Gaussians", "Outliers"], "Reconstructions"),
        ("gan", ["Samples", "Losses", "logits", "Gradient norms"], "Latent dimensions are"),
    ],
)
def test_a_report_shows_what_its_family_has(
    family: str, shown: list[str], hidden: str, pages: dict[str, Page]
) -> None:
    text = pages[family].text
    assert [words for words in shown if words not in text] == []
    assert hidden not in text


@pytest.mark.parametrize("family", ["vae", "gan"])
def test_the_report_has_every_figure_of_the_evaluation(
    family: str, trained_runs: dict[str, Path], pages: dict[str, Page], tmp_path: Path
) -> None:
    folder = copied(trained_runs[family], tmp_path)
    assert "pushforward train evaluate RECIPE" in pages[family].text
    trained = restored(folder)
    metrics = evaluate(trained.task, trained.recipe, trained.dataset, lambda _: None)
    write_evaluation(folder, trained.checkpoint, trained.recipe.evaluation, metrics)
    page = Page(write_report(folder))
    assert metrics
    for name, metric in metrics.items():
        assert name.replace("_", " ") in page.text
        assert metric.note in page.text
        assert metric.unit in page.text
        exact = metric.value.is_integer()
        assert (f"{metric.value:,.0f}" if exact else f"{metric.value:.6g}") in page.text
    assert "evaluate RECIPE" not in page.text


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    columns = a_table()
    columns[HOSTILE] = columns.pop("length")
    path = write_csv(tmp_path / "hostile.csv", columns)
    table = a_recipe("table", tmp_path).model_dump(mode="json", exclude_none=True)
    recipe = parse_recipe(table | {"title": HOSTILE, "data": table["data"] | {"path": str(path)}})
    train(recipe, load_dataset(recipe.data), tmp_path)
    page = Page(write_report(tmp_path))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) == 3  # the title, its place in the recipe, and the column


def test_a_column_that_never_varies_has_an_error_but_no_share_of_its_deviation(tmp_path: Path) -> None:
    recipe = a_recipe("table", tmp_path)
    write_csv(tmp_path / "table.csv", a_table() | {"count": [7] * 60})
    train(recipe, load_dataset(recipe.data), tmp_path)
    row = re.search(r"<tr><td[^>]*>count</td>.*</tr>", Page(write_report(tmp_path)).source)
    assert row
    assert re.findall(r">([^<>]*)</td>", row[0])[1::5] == ["7", ""]


def test_columns_that_no_test_row_has_are_shown_without_errors(tmp_path: Path) -> None:
    recipe = a_recipe("table", tmp_path)
    train(recipe, load_dataset(recipe.data), tmp_path)
    trained = restored(tmp_path)
    assert trained.vae
    items = trained.dataset.items
    nowhere = {**items, "test": np.full_like(items["test"], np.nan)}
    dataset = dataclasses.replace(trained.dataset, items=nowhere)
    tables = columns_section(trained.vae, dataclasses.replace(trained, dataset=dataset)).tables
    assert [table.caption for table in tables] == ["Numbers", "colour"]
    assert not any("nan" in text for table in tables for row in table.rows for text in row)


def test_an_interrupted_run_is_reported_as_far_as_it_went(tmp_path: Path) -> None:
    recipe = a_recipe("vae", tmp_path)

    def interrupt(done: int, _terms: str) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    train(recipe, load_dataset(recipe.data), tmp_path, on_progress=interrupt)
    text = Page(write_report(tmp_path)).text
    assert "5 of 12" in text
    assert "After 5 steps" in text
    train(recipe, load_dataset(recipe.data), tmp_path, resume=True)
    assert "12 of 12" in Page(write_report(tmp_path)).text


def test_a_run_without_a_checkpoint_has_its_curves_and_says_so(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(trained_runs["vae"], tmp_path)
    shutil.rmtree(folder / "checkpoints")
    page = Page(write_report(folder))
    assert "No checkpoint yet" in page.text
    assert "Bound on log p(x)" in page.text
    assert "Reconstructions" not in page.text
    (folder / "metrics.jsonl").unlink()
    shutil.rmtree(folder / "samples")
    page = Page(write_report(folder))
    assert "Nothing has been logged yet" in page.text
    assert not page.references


def test_a_half_written_last_line_is_left_out_and_any_other_broken_line_is_named(tmp_path: Path) -> None:
    log, whole = tmp_path / "metrics.jsonl", '{"step": 1, "elbo": 2.0}\n'
    log.write_text(whole + '{"step": 2, "el')
    assert read_metrics(tmp_path)["elbo"].values.tolist() == [2]
    log.write_text('{"step": 1, "el\n' + whole)
    with pytest.raises(ReportError, match="line 1 is not JSON"):
        read_metrics(tmp_path)


def test_a_folder_that_is_no_run_is_refused_with_the_runs_inside_it(
    trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ReportError, match="is no folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(ReportError, match=r"holds no recipe\.json, so it is no run"):
        write_report(tmp_path)
    copied(trained_runs["gan"], tmp_path / "some-gan")
    with pytest.raises(ReportError, match=r"runs inside it: .*some-gan"):
        write_report(tmp_path)


def test_the_command_writes_the_report_and_says_where(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(trained_runs["gan"], tmp_path)
    (folder / "report.html").unlink(missing_ok=True)
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0
    assert "report.html" in result.output
    assert (folder / "report.html").is_file()


def test_reports_of_equal_runs_are_equal(
    trained_runs: dict[str, Path], pages: dict[str, Page], tmp_path: Path
) -> None:
    source = Page(write_report(copied(trained_runs["gan"], tmp_path / "again"))).source
    # but for the folder of runs, which the command that measures the model names
    assert source.replace(str(tmp_path), str(trained_runs["gan"].parent)) == pages["gan"].source


@pytest.mark.parametrize("dimension", [0, 2])
def test_the_middle_of_a_traversal_is_the_reconstruction(
    dimension: int, trained_runs: dict[str, Path]
) -> None:
    trained = restored(trained_runs["vae"])
    vae, (item, _) = trained.vae, trained.first("test", 1)
    assert vae is not None
    with torch.no_grad():
        swept = traverse(vae, item, dimension, 0.7)
        torch.testing.assert_close(swept[len(SWEEP) // 2], reconstruct(vae, item)[0])
    assert len(swept) == len(SWEEP)


def test_rows_drawn_from_a_table_model_are_rows_of_such_a_table(trained_runs: dict[str, Path]) -> None:
    trained = restored(trained_runs["table"])
    assert trained.vae is not None
    with torch.no_grad():
        rows = draw_rows(trained.vae, trained.noise(), 200)
    trained.vae.likelihood.check_support(rows)
    assert rows.shape == (200, *trained.dataset.item_shape)
    assert len(set(rows[:, 0].tolist())) > 190


def test_training_items_of_dynamic_binarisation_are_scored_as_the_model_sees_them(
    trained_runs: dict[str, Path],
) -> None:
    trained = restored(trained_runs["binary"])
    assert set(trained.first("train", 100)[0].flatten().tolist()) == {0, 1}
    assert len(np.unique(trained.dataset.items["train"])) > 2


def test_the_model_that_is_shown_has_the_averaged_weights(trained_runs: dict[str, Path]) -> None:
    trained = restored(trained_runs["gan"])
    averaged, _ = restore_published(trained.recipe, trained.dataset, trained_runs["gan"])
    for name, weights in averaged.model.state_dict().items():
        assert torch.equal(weights, trained.task.model.state_dict()[name])
