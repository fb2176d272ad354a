"""Publish a run's checkpoint as a version: graphs, parity, calibration, manifest, card, one rename."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from service.format.manifest import Manifest
from service.format.specs import (
    CalibrationSpec,
    DiscriminatorSpec,
    GraphName,
    Metric,
    MixturePriorSpec,
    Parity,
    Provenance,
    ScoreDefaults,
)
from service.format.statistics import Distance, NoiseFree
from service.format.versions import publish
from service.numerics.noise import NOISE
from training.anomaly.auroc import judge
from training.anomaly.calibrate import calibrate, version_scorer
from training.anomaly.choose import choose_statistic, split_validation
from training.anomaly.columns import fit_columns
from training.anomaly.heat import map_scale
from training.anomaly.kernel import fit_kernel_density
from training.anomaly.statistics import fit_statistics
from training.data import Dataset
from training.data.png import view_of
from training.data.splits import lacking, named
from training.evaluation.discriminator import calibrate_discriminator
from training.export.beside import measure_beside
from training.export.card import write_card
from training.export.card_parts import write_card_samples
from training.export.graphs import Graph, export_graph
from training.export.operations import gan_graphs, vae_graphs
from training.export.parity import Exported, example_of, measure_parity
from training.export.provenance import commit, library_versions
from training.export.sessions import open_session
from training.export.staging import graph_specs, staged, write_mixture, write_self_test
from training.loop.diagnostics import Diagnosis
from training.loop.runs import ModelTask
from training.loop.vae import VaeTask
from training.metrics.measure import quality_names
from training.metrics.names import MetricName, figure_texts
from training.metrics.platt import ReliabilityRow
from training.models.conditions import given_labels
from training.models.gan import STATISTICS, Gan
from training.models.priors import MixturePrior
from training.models.vae import Vae, with_fixed_prior
from training.recipe import Recipe

Log = Callable[[str], None]
"""Takes a line of progress."""


def export(
    task: ModelTask,
    recipe: Recipe,
    dataset: Dataset,
    metrics: dict[str, Metric],
    models: Path,
    log: Log,
    findings: Sequence[Diagnosis] = (),
) -> Path:
    """Export, check, calibrate and publish a trained model as the next version; returns the version's folder.

    Args:
        task: The model with its averaged weights, in evaluation mode.
        recipe: The recipe it was trained by.
        dataset: The recipe's data; the calibration split is used here for the first and only time.
        metrics: Figures measured on the test split.
        models: The folder of published models.
        log: Receives a line of progress.
        findings: Troubles of the run, for the card.

    Raises:
        GraphError: A graph breaks a rule of the contract.
        ParityError: A graph does not compute what the model computes.
    """
    model = with_fixed_prior(task.model) if isinstance(task, VaeTask) else task.model
    with staged(models, recipe.name) as staging:
        parts = _Parts(metrics=dict(metrics))
        for graph in _graphs(model, recipe, dataset, staging, parts, log):
            log(f"exporting {graph.name}")
            path = staging / f"{graph.name}.onnx"
            export_graph(graph, path)
            parts.exported[graph.name] = Exported(graph, open_session(path))
            parts.parity[graph.name] = measure_parity(parts.exported[graph.name], dataset)
        runs = {name: one.run for name, one in parts.exported.items()}
        if parts.statistics:
            scorer = version_scorer(
                runs,
                recipe.calibration,
                model.latent,
                isinstance(model, Vae) and model.components() is None,
                parts.statistics,
                dataset.columns,
                model.classes,
            )
            choice = choose_statistic(recipe.calibration, scorer, model.support, dataset)
            log(f"calibrating on {len(dataset.items['calibration'])} items")
            ordinary = scorer.of(dataset.labels["test"]).surprises(dataset.items["test"])
            parts.calibration, parts.defaults, rates = calibrate(
                scorer, model.support, choice.options, dataset, ordinary, staging
            )
            log("judging the scores by unseen outliers")
            areas = judge(scorer, model.support, dataset, ordinary)
            parts.metrics |= choice.metrics | rates | areas
            for name, metric in (rates | areas).items():
                parsed = MetricName.parse(name)
                if parsed.group == "flagged" or parsed.statistic == choice.options.statistic:
                    log(f"  {name} {' ± '.join(filter(None, figure_texts(metric)))}: {metric.note}")
        items, labels = dataset.items["calibration"], dataset.labels["calibration"]
        parts.map_scale = map_scale(runs, items, labels, model.classes)
        manifest = _manifest(recipe, dataset, model, parts, staging)
        write_card_samples(staging, manifest, parts.exported["decode"].run)
        beside = {}
        if quality_names(manifest.metrics):
            beside = measure_beside(models, recipe.name, recipe.data, dataset, recipe.evaluation.seed)
        write_card(staging / "README.md", manifest, dataset, beside, parts.reliability, findings)
        log("publishing")
        return publish(staging, manifest)


@dataclass
class _Parts:
    """The parts of a version, collected during its export."""

    metrics: dict[str, Metric]
    exported: dict[GraphName, Exported] = field(default_factory=dict)
    parity: dict[GraphName, Parity] = field(default_factory=dict)
    statistics: tuple[NoiseFree | Distance, ...] = ()
    discriminator: DiscriminatorSpec | None = None
    reliability: list[ReliabilityRow] = field(default_factory=list)
    calibration: CalibrationSpec | None = None
    defaults: ScoreDefaults | None = None
    map_scale: float | None = None


def _manifest(recipe: Recipe, dataset: Dataset, model: Vae | Gan, parts: _Parts, staging: Path) -> Manifest:
    self_test = write_self_test(
        staging, {name: example_of(one, dataset) for name, one in parts.exported.items()}
    )
    graphs, weights = graph_specs(
        {name: one.graph for name, one in parts.exported.items()}, staging, self_test
    )
    return Manifest(
        name=recipe.name,
        version=1,
        family=recipe.family,
        description=recipe.title,
        item_shape=dataset.item_shape,
        support=model.support,
        value_range=None if model.support == "real" else (0.0, 1.0),
        picture=dataset.picture,
        columns=dataset.columns,
        takes_missing=dataset.scaling is not None and dataset.scaling.takes_missing,
        left_out=dataset.left_out,
        class_names=dataset.class_names,
        label_column=recipe.data.label if model.classes and dataset.columns else None,
        latent_size=model.latent,
        prior=_write_prior(model, staging / "prior.npz"),
        likelihood=model.likelihood.name if isinstance(model, Vae) else None,
        noise=NOISE,
        graphs=graphs,
        weights=weights,
        statistics=parts.statistics,
        discriminator=parts.discriminator,
        view=view_of(dataset.items["train"]),
        calibration=parts.calibration,
        defaults=parts.defaults,
        map_scale=parts.map_scale,
        metrics=parts.metrics,
        provenance=Provenance(
            recipe=recipe.model_dump(mode="json", exclude_none=True),
            commit=commit(),
            seed=recipe.seed,
            libraries=library_versions(),
        ),
        parity=parts.parity,
        self_test=self_test,
    )


def _graphs(
    model: Vae | Gan, recipe: Recipe, dataset: Dataset, staging: Path, parts: _Parts, log: Log
) -> list[Graph]:
    """Make the model's graphs; a discriminator whose logits are density ratios is calibrated first."""
    if isinstance(model, Vae):
        _, items = split_validation(recipe.calibration, dataset.items["validation"])
        log(f"fitting anomaly scores on {len(items)} items")
        labels = dataset.labels["validation"][-len(items) :]
        # whose stored rows would be of any class
        has_kernel = dataset.scaling is not None and not model.classes
        kernel = fit_kernel_density(dataset, recipe.seed) if has_kernel else None
        statistics = fit_statistics(model, torch.from_numpy(items), kernel, labels)
        parts.statistics = statistics.names
        columns = fit_columns(given_labels(model, labels), dataset, torch.from_numpy(items))
        return vae_graphs(model, dataset.item_shape, statistics, columns)
    assert recipe.gan is not None
    parts.statistics = () if model.encoder is None else STATISTICS
    spec = DiscriminatorSpec(objective=recipe.gan.objective, packing=recipe.gan.packing)
    platt = None
    if spec.flaw is None:
        log(f"calibrating the discriminator on {len(dataset.items['validation'])} items")
        found = calibrate_discriminator(model, dataset, recipe.evaluation.seed)
        platt, parts.reliability = found.platt, found.reliability()
        of_real = dataset.labels["validation"] if model.classes else None
        unseen = [] if of_real is None else lacking(of_real, dataset.class_names)
        if not unseen:
            spec = spec.model_copy(update={"logits": found.write(staging / "logits.npz", of_real)})
        else:
            log(f"without filtered sampling, since no item of the validation split is of {named(unseen)}")
    parts.discriminator = spec
    graphs = gan_graphs(model, dataset.item_shape, platt)
    return [graph for graph in graphs if spec.logits is not None or graph.name != "generate_scored"]


def _write_prior(model: Vae | Gan, path: Path) -> Literal["standard_normal"] | MixturePriorSpec:
    """Return the prior as the manifest names it; the Gaussians of a mixture are written to `path`."""
    prior = model.generator.prior if isinstance(model, Gan) else model.components()
    if prior is None:
        return "standard_normal"
    means, count = prior.means, len(prior.means)
    if isinstance(prior, MixturePrior):
        weights = torch.softmax(prior.log_weights().double(), 0)
        log_variances = torch.full_like(means, 2 * math.log(prior.deviation))
    else:
        weights, log_variances = torch.full((count,), 1 / count, dtype=torch.float64), prior.log_variances
    return write_mixture(path, weights.numpy(), means.numpy(), log_variances.numpy())
