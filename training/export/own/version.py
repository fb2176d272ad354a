"""Publish a model that others trained as a version: checks, graphs, parity, calibration, card, one rename.

Shapes: N items, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np
import onnx
from pydantic import ValidationError

from service.format.manifest import Manifest, Support
from service.format.specs import (
    DiscriminatorSpec,
    GraphName,
    LatentPicture,
    Metric,
    Parity,
    Provenance,
    TensorSpec,
)
from service.format.statistics import Distance, NoiseFree, Statistic
from service.format.versions import publish
from service.numerics.calibration import least_level
from service.numerics.classes import one_hot
from service.numerics.noise import NOISE, Floats, Integers
from service.numerics.prior import GaussianMixturePrior, Prior, StandardNormalPrior
from training.anomaly.calibrate import ScoreError, version_scorer, write_calibration
from training.anomaly.choose import choose_statistic
from training.anomaly.heat import map_scale
from training.data import Dataset
from training.data.png import view_of
from training.export.card_parts import write_card_samples
from training.export.own import checks
from training.export.own.card import own_card
from training.export.own.networks import Export, OwnNetwork, UnfitModel, Units, reason_of
from training.export.own.onnx_source import opset_of, with_opset, without_sigmoid
from training.export.own.operations import Example, OwnGraph
from training.export.own.words import Words
from training.export.provenance import commit, library_versions
from training.export.rules import OPSET, GraphError
from training.export.sessions import (
    PARITY_BATCHES,
    PARITY_TOLERANCE,
    ParityError,
    open_session,
    relative_error,
    sizes_of,
)
from training.export.staging import graph_specs, staged, write_mixture, write_self_test
from training.metrics.platt import write_logits
from training.options import CalibrationOptions
from training.recipe import problem_text

Given = ParamSpec("Given")
Log = Callable[[str], None]
"""Takes a line of progress."""
_LEVELS = (0.01, 0.05)
"""The default alpha is the first of these that the calibration items resolve."""
StartLogits = tuple[Floats, float, Integers | None]
"""Calibrated logits of real items, the largest of generated ones, and the classes of the real items."""
ROWS = 250
"""Rows of a batch."""
_DRAWS = 3
"""Draws of the inputs that graphs are tried on."""
_SELF_TEST_ROWS = 2


@dataclass(frozen=True)
class Scoring:
    """The choice and calibration of scores."""

    statistic: Statistic | Literal["auto"] = "auto"
    draws: int = 16
    seed: int = 0
    alpha: float | None = None
    """The default level; None: 0.01, or 0.05 if there are fewer than 99 calibration items."""


@dataclass(frozen=True)
class Halves:
    """Items in two halves, drawn at random: to fit and choose on, and to calibrate on."""

    fit: Floats
    calibration: Floats
    fit_labels: Integers
    """The classes of the first half, numbers; all 0 without classes."""
    calibration_labels: Integers


@dataclass(frozen=True)
class Draft:
    """The parts of a version that is ready to be written."""

    name: str
    family: Literal["vae", "gan"]
    description: str
    words: Words
    support: Support
    graphs: dict[GraphName, OwnGraph]
    parity: dict[GraphName, Parity]
    example: Example
    origin: dict[str, object]
    statistics: tuple[NoiseFree | Distance, ...]
    likelihood: str | None = None
    discriminator: DiscriminatorSpec | None = None
    logits: StartLogits | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    latent_picture: LatentPicture | None = None


def write_version(
    draft: Draft,
    options: CalibrationOptions,
    halves: Halves | None,
    fitted_on: int,
    models: Path,
    log: Log,
) -> Path:
    """Write a version beside its place and publish it."""
    with staged(models, draft.name) as staging:
        for name, graph in draft.graphs.items():
            (staging / f"{name}.onnx").write_bytes(graph.model.SerializeToString())
        scores: dict[str, Any] = {"metrics": draft.metrics}
        if halves is not None and not draft.graphs.keys().isdisjoint(("score", "statistics")):
            log(f"choosing and calibrating scores on {len(halves.fit)} and {len(halves.calibration)} items")
            scores = _calibrated(draft, options, halves, staging)
        view = None if halves is None else view_of(halves.fit)
        manifest = _manifest(draft, options.seed, staging, view=view, **scores)
        write_card_samples(staging, manifest, draft.graphs["decode"].run)
        card = own_card(manifest, _score_text(manifest, halves, fitted_on))
        (staging / "README.md").write_text(card, encoding="utf-8")
        log("publishing")
        return publish(staging, manifest)


def _calibrated(draft: Draft, options: CalibrationOptions, halves: Halves, staging: Path) -> dict[str, Any]:
    """Choose and calibrate scores; returns the fields of the manifest that follow."""
    words, runs = draft.words, {name: graph.run for name, graph in draft.graphs.items()}
    dataset = Dataset(
        draft.name, "", words.item_shape, words.classes,
        {"validation": halves.fit}, {"validation": halves.fit_labels},
    )  # fmt: skip
    scorer = version_scorer(
        runs, options, words.latent_size, words.prior is None, draft.statistics, classes=len(words.classes)
    )
    choice = choose_statistic(options, scorer, draft.support, dataset)
    calibration, defaults, _ = write_calibration(
        scorer.of(halves.calibration_labels), choice.options, halves.calibration, staging
    )
    return {
        "calibration": calibration,
        "defaults": defaults,
        "map_scale": map_scale(runs, halves.calibration, halves.calibration_labels, len(words.classes)),
        "metrics": draft.metrics | choice.metrics,
    }


def _manifest(draft: Draft, seed: int, staging: Path, **fields: Any) -> Manifest:
    """Write the files that belong to no graph alone, and return the manifest."""
    words, mixture, spec = draft.words, draft.words.prior, draft.discriminator
    if spec is not None and draft.logits is not None:
        spec = spec.model_copy(update={"logits": write_logits(staging / "logits.npz", *draft.logits)})
    examples = {
        name: [draft.example(each, _SELF_TEST_ROWS, 1) for each in graph.inputs]
        for name, graph in draft.graphs.items()
    }
    self_test = write_self_test(
        staging,
        {name: (graph, examples[name], graph.run(examples[name])) for name, graph in draft.graphs.items()},
    )
    graphs, weights = graph_specs(draft.graphs, staging, self_test)
    networks = [each for each in draft.origin.values() if isinstance(each, dict)]
    torch_too = ["torch", "onnxscript"] if any("torch" in each for each in networks) else []
    return Manifest(
        name=draft.name,
        version=1,
        family=draft.family,
        description=draft.description,
        item_shape=words.item_shape,
        support=draft.support,
        value_range=None if draft.support == "real" else (0.0, 1.0),
        latent_size=words.latent_size,
        latent_picture=draft.latent_picture,
        class_names=words.classes,
        prior="standard_normal"
        if mixture is None
        else write_mixture(staging / "prior.npz", mixture.weights, mixture.means, mixture.log_variances),
        likelihood=draft.likelihood,
        noise=NOISE,
        graphs=graphs,
        weights=weights,
        statistics=draft.statistics,
        discriminator=spec,
        provenance=Provenance(
            origin=draft.origin,
            commit=commit(),
            seed=seed,
            libraries=library_versions(["onnx", "onnxruntime", "numpy", *torch_too]),
        ),
        parity=draft.parity,
        self_test=self_test,
        **fields,
    )


def refuse(name: str, flaws: list[str]) -> None:
    """Raise UnfitModel if there are flaws."""
    if flaws:
        raise UnfitModel(name, flaws)


def items_of(what: str, given: Any, units: Units, support: Support, flaws: list[str]) -> Floats | None:
    """Return given items as the service takes them, or None; what does not fit is added to the flaws."""
    if given is None:
        return None
    try:
        items = units.items_of(given)
    except ValueError as error:
        flaws.append(f"{what} came as {error}")
        return None
    flaws += checks.item_flaws(what, items, support)
    return items


def halves_of(items: Floats, labels: Integers | None) -> Halves:
    """Split items (N, *item) and their classes (N,), if they have any, at random, always alike."""
    order, middle = np.random.default_rng(0).permutation(len(items)), len(items) // 2
    first, second = order[:middle], order[middle:]
    classes = np.zeros(len(items), np.int64) if labels is None else labels
    return Halves(items[first], items[second], classes[first], classes[second])


def calibration_options(scoring: Scoring, halves: Halves | None) -> CalibrationOptions:
    """Return calibration options, with a level that the calibration items resolve if none was given."""
    n = 0 if halves is None else len(halves.calibration)
    alpha = scoring.alpha
    if alpha is None:
        alpha = next((level for level in _LEVELS if level * (n + 1) >= 1), _LEVELS[-1])
    elif halves is not None and alpha < 1 / (n + 1):
        flaw = f"alpha is {alpha:.9g}, but {n} calibration items resolve no level below {least_level(n)}"
        raise UnfitModel(
            "the calibration", [f"{flaw}; raise it, or give more items (half of them calibrate)"]
        )
    try:
        return CalibrationOptions(
            statistic=scoring.statistic, draws=scoring.draws, seed=scoring.seed, alpha=alpha
        )
    except ValidationError as error:
        raise UnfitModel("the calibration", [*map(problem_text, error.errors())]) from None


def require_statistic(name: str, options: CalibrationOptions, offered: Sequence[Statistic]) -> None:
    """Raise UnfitModel unless the default statistic is one that the version offers, or is to be chosen."""
    if options.statistic not in ("auto", *offered):
        flaw = f"statistic is {options.statistic!r}; this model has {', '.join(offered)}, or 'auto' to choose"
        raise UnfitModel(name, [flaw])


def exported(name: str, networks: Sequence[OwnNetwork], log: Log) -> tuple[list[OwnNetwork], int]:
    """Export networks as ONNX of one opset, the newest of theirs; all their flaws are raised at once."""
    models: list[onnx.ModelProto] = []
    flaws: list[str] = []
    for network in networks:
        log(f"reading {network.source.what} as ONNX")
        try:
            models.append(network.source.export(network.input_shape))
        except UnfitModel as error:
            flaws += error.flaws
    refuse(name, flaws)
    opset = max([OPSET, *map(opset_of, models)])
    brought = [with_opset(n.source.what, model, opset) for n, model in zip(networks, models, strict=True)]
    done: list[OwnNetwork] = []
    for network, model in zip(networks, brought, strict=True):
        try:
            done.append(replace(network, export=_export(network, model)))
        except Exception as error:
            # ONNX Runtime raises errors of many kinds
            flaws.append(f"{network.source.what} does not run in ONNX Runtime: {reason_of(error)}")
    refuse(name, flaws)
    flaws = [
        f"{each.source.what} gives other results in ONNX Runtime, by {each.error:.1e} (1 + |value|); at most "
        f"{PARITY_TOLERANCE:.0e} is allowed"
        for each in done
        if not each.error <= PARITY_TOLERANCE
    ]
    refuse(name, flaws)
    return done, opset


def _export(network: OwnNetwork, model: onnx.ModelProto) -> Export:
    """Open a session of a network's model, and compare it with the network at every batch size."""
    model, logits = without_sigmoid(model) if network.probabilities else (model, False)
    export, errors = Export(model, open_session(model.SerializeToString()), logits, 0.0), []
    for rows in PARITY_BATCHES:
        examples = network.examples[:rows].copy()
        for ours, theirs in zip(export.run(examples), network.source.run(examples), strict=True):
            got = (1 / (1 + np.exp(-ours.astype(np.float64)))).astype(np.float32) if logits else ours
            errors.append(relative_error("", got, theirs, like=theirs))
    return replace(export, error=max(errors))


def refusing(publish: Callable[Concatenate[str, Given], Path]) -> Callable[Concatenate[str, Given], Path]:
    """Have a function that publishes a model raise UnfitModel also for graphs and scores that do not fit."""

    @functools.wraps(publish)
    def refused(name: str, /, *given: Given.args, **named: Given.kwargs) -> Path:
        try:
            return publish(name, *given, **named)
        except (GraphError, ScoreError) as error:
            raise UnfitModel(name, [str(error)]) from error

    return refused


def parities(
    name: str,
    graphs: Mapping[GraphName, OwnGraph],
    measure: Callable[[OwnGraph], Parity],
    log: Log,
    held: Mapping[GraphName, Parity],
) -> dict[GraphName, Parity]:
    """Measure the parity of every graph that is not `held`, as measured before; all that fail are named."""
    parity = dict(held)
    flaws = []
    for each, graph in graphs.items():
        if each in held:
            continue
        log(f"comparing {each} with the model's own networks")
        try:
            parity[each] = measure(graph)
        except ParityError as error:
            flaws.append(str(error))
    refuse(name, flaws)
    return parity


def example_of(support: Support, items: Floats | None) -> Example:
    """Return a maker of example inputs: items of the first seed are random, others are given ones."""

    def example(spec: TensorSpec, rows: int, seed: int) -> Floats:
        random = np.random.default_rng(seed)
        shape = sizes_of(spec, rows, _DRAWS)
        if spec.name == "inputs":
            if items is not None and (seed or support == "real"):
                return items[np.arange(seed * rows, (seed + 1) * rows) % len(items)]
            if support != "real":
                drawn = random.random(shape, dtype=np.float32)
                return drawn.round() if support == "binary" else drawn
        if spec.name == "labels":
            return one_hot(random.integers(shape[1], size=rows), rows, shape[1])
        if spec.name == "uniforms":
            return random.random(shape, dtype=np.float32).clip(1e-6, 1 - 1e-6)
        return random.standard_normal(shape, dtype=np.float32)

    return example


def sampler(words: Words) -> Prior:
    """Return the prior from which the service draws latents."""
    mixture = words.prior
    if mixture is None:
        return StandardNormalPrior(words.latent_size)
    return GaussianMixturePrior(mixture.weights, mixture.means, mixture.log_variances)


def _score_text(manifest: Manifest, halves: Halves | None, fitted_on: int) -> str:
    """Return what the card says about scores and p-values."""
    if not manifest.offered_statistics and manifest.conditional:
        return f"It generates items of {len(manifest.class_names)} classes, and does not score any."
    if not manifest.offered_statistics:
        return "It has no encoder, so it does not score items."
    names = ", ".join(f"`{name}`" for name in manifest.offered_statistics)
    if manifest.conditional:
        names += f", each item as one of its class, of {len(manifest.class_names)}"
    if halves is None:
        return (
            f"It scores items by {names}. **There are no p-values**: no normal items came to calibrate on. "
            "Calibrate the version with\nsome that it was not trained on, or publish it with `normals`."
        )
    fitted = f", {fitted_on} of them to fit `path`" if "path" in manifest.statistics else ""
    return (
        f"It scores items by {names}. Of {len(halves.fit) + len(halves.calibration)} items that came,\n"
        f"{len(halves.fit)} were used to fit and choose scores{fitted}, and {len(halves.calibration)} others "
        "for p-values: at level alpha\nat most that share of normal items is flagged, in expectation, if the "
        "model was not trained on them."
    )
