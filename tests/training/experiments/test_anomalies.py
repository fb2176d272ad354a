"""The trials of anomaly scores, their records, and the page that tabulates them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.published import manifest_of
from training.data import load_dataset
from training.data.options import DataOptions
from training.experiments.anomalies.baselines import PEERS, write_tumours
from training.experiments.anomalies.table import markdown, mean_area
from training.experiments.anomalies.trials import (
    EXPERIMENTS,
    TrialResult,
    missing,
    perform,
    read_trials,
    write_trials,
)
from training.experiments.results import ResultError

RESULTS = REPOSITORY / "docs" / "anomalies"
TUMOURS = EXPERIMENTS["breast-cancer"]
_LABELS = (
    "`fashion-vae`: digits scaled up, nearest",
    "`fashion-vae`: digits scaled up, bilinear",
    "`fashion-vae`: uniform noise",
    "`fashion-vae`: constant greys, black to white",
    "`fashion-vae`: own patches shuffled",
    "`fashion-vae`: upside down",
    "`fashion-vae`: mirrored",
    "ten VAEs of one garment each: the other nine",
    "`breast-cancer-vae`, ten seeds: malignant",
)
"""Labels of the rows of docs/results.md, in the order of the card's kinds and of the experiments."""


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, TrialResult]]:
    return {name: read_trials(RESULTS / f"{name}.json", each) for name, each in EXPERIMENTS.items()}


def test_every_trial_has_a_result_of_todays_recipe_and_the_page_shows_them(
    published: dict[str, dict[str, TrialResult]],
) -> None:
    for name, experiment in EXPERIMENTS.items():
        assert missing(experiment, published[name]) == []
    assert (REPOSITORY / "docs" / "anomalies.md").read_text() == markdown(published)


def test_the_table_of_the_results_has_the_published_figures(
    published: dict[str, dict[str, TrialResult]],
) -> None:
    text = (
        (REPOSITORY / "docs" / "results.md").read_text().partition("## What the anomaly scores are worth")[2]
    )
    head, _, *rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][:11]
    statistics = [cell.strip(" `") for cell in head[1:5]]
    metrics = manifest_of("fashion-vae").metrics
    kinds = [name.removeprefix("auroc_elbo_") for name in metrics if name.startswith("auroc_elbo_")]
    labels = dict(zip([*kinds, *EXPERIMENTS], _LABELS, strict=True))
    shown = {row[0].strip(): [cell.strip() for cell in row[1:5]] for row in rows}
    for kind in kinds:
        found = [metrics[f"auroc_{name}_{kind}"] for name in statistics]
        wanted = [
            (name, f"{each.value:.3f}", " ({:.3f} to {:.3f})".format(*each.interval))
            for name, each in zip(statistics, found, strict=True)
            if each.interval
        ]
        assert shown[labels[kind]] == [bold(value, name == "path") + rest for name, value, rest in wanted]
    for experiment, default in (("one-class", "path"), ("breast-cancer", "elbo")):
        assert {result.default for result in published[experiment].values()} == {default}
        means = [(name, *mean_area(published[experiment], name)) for name in statistics]
        assert shown[labels[experiment]] == [
            "" if np.isnan(mean) else f"{bold(f'{mean:.3f}', name == default)} ± {error:.3f}"
            for name, mean, error in means
        ]


def bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def test_a_mean_is_that_of_all_trials_with_its_error(published: dict[str, dict[str, TrialResult]]) -> None:
    areas = np.array([result.auroc["elbo"] for result in published["breast-cancer"].values()])
    mean, error = mean_area(published["breast-cancer"], "elbo")
    assert mean == pytest.approx(areas.mean())
    assert error == pytest.approx(areas.std(ddof=1) / np.sqrt(10))
    assert np.isnan(mean_area(published["breast-cancer"], "no such column")[0])


def test_results_of_another_recipe_are_refused_and_so_is_what_is_none(
    published: dict[str, dict[str, TrialResult]], tmp_path: Path
) -> None:
    path, results = tmp_path / "results.json", published["breast-cancer"]
    assert read_trials(path, TUMOURS) == {}
    write_trials(path, results)
    assert read_trials(path, TUMOURS) == results
    write_trials(path, {**results, "3": replace(results["3"], recipe_sha256="0" * 64)})
    with pytest.raises(ResultError, match="seed '3' was trained by another recipe"):
        read_trials(path, TUMOURS)
    path.write_text(json.dumps({"0": {"auroc": 1}}))
    with pytest.raises(ResultError, match="holds no results"):
        read_trials(path, TUMOURS)


def test_the_forest_that_stands_beside_finds_the_tumours_too(tmp_path: Path) -> None:
    options = DataOptions(dataset="table", path=write_tumours(tmp_path), label="diagnosis", keep=("benign",))
    dataset = load_dataset(options)
    assert dataset.outliers is not None
    assert (len(dataset.outliers), sum(map(len, dataset.items.values()))) == (212, 357)
    surprise = PEERS[0].fit(dataset.items["train"], 0)
    assert surprise(dataset.outliers).mean() > surprise(dataset.items["test"]).mean()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trial_performed_again_has_the_result_that_is_published(
    published: dict[str, dict[str, TrialResult]],
) -> None:
    again, result = perform(TUMOURS, "0", PEERS[:1]), published["breast-cancer"]["0"]
    assert (again.default, again.recipe_sha256) == (result.default, result.recipe_sha256)
    both = again.auroc.keys() & result.auroc.keys()  # statistics are newer than results
    assert {"elbo", "path", PEERS[0].name} <= both
    for name in both:
        assert again.auroc[name] == pytest.approx(result.auroc[name], abs=0.005), name
