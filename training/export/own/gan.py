"""Publish a GAN that others trained.

Shapes: N items, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from service.format.manifest import Support
from service.format.specs import DiscriminatorSpec, GraphName, Metric, Objective
from service.format.statistics import Distance
from service.numerics.noise import Floats
from service.numerics.prior import Prior
from training.anomaly.calibrate import require_finite
from training.data.splits import lacking, named
from training.export.own import checks
from training.export.own.conditions import Check, Condition, labels_of, probes_of, tried
from training.export.own.formulas import OwnGan
from training.export.own.networks import Source
from training.export.own.operations import gan_graphs, measure_parity
from training.export.own.version import (
    ROWS,
    Draft,
    Halves,
    Log,
    Scoring,
    StartLogits,
    calibration_options,
    example_of,
    exported,
    halves_of,
    items_of,
    parities,
    refuse,
    refusing,
    sampler,
    write_version,
)
from training.export.own.words import Words, naming_flaws
from training.metrics.platt import calibration_metrics, fit_platt

_GENERATED = 10_000
"""The generated items whose largest logit bounds the density ratio."""


@dataclass(frozen=True, kw_only=True)
class GanWords(Words):
    """The publisher's words about a GAN."""

    discriminator_gives: Literal["logits", "probabilities"] = "logits"
    objective: Objective = "non-saturating"


@refusing
def publish_own_gan(
    name: str,
    generator: Source,
    words: GanWords,
    discriminator: Source | None,
    encoder: Source | None,
    real: Any,
    models: Path,
    description: str,
    scoring: Scoring,
    log: Log,
    labels: Any = None,
) -> Path:
    """Publish a GAN's networks as the next version of `name`; returns the version's folder.

    The arguments are those of `pushforward.publish_gan`; `labels` are the classes of the real items.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    support: Support = "real" if words.values == "real" else "unit_interval"
    _refuse_words(name, models, words)
    units, condition, flaws = words.units, words.condition, list[str]()
    items = items_of("real", real, units, support, flaws)
    spec = DiscriminatorSpec(objective=words.objective)
    if discriminator is not None and spec.flaw is not None:
        flaws.append(f"the discriminator cannot be published: {spec.flaw}; leave it out")
    elif discriminator is not None and real is None:
        flaws.append(
            "a discriminator came without real items, on which its logits are calibrated; give `real`, items "
            "that it was not trained on, or leave the discriminator out"
        )
    rows = None if items is None else len(items)
    of_real, found = labels_of("real", "real_labels", labels, rows, condition)
    flaws += found
    seen = checks.example_items(items, units, support)
    gan = _probed(name, generator, discriminator, encoder, words, seen, flaws)
    gan, opset = _exported_gan(name, gan, log)
    halves = None if items is None else halves_of(items, of_real)
    options = calibration_options(scoring, halves)
    logits: StartLogits | None = None
    metrics: dict[str, Metric] = {}
    if gan.discriminator is not None and halves is not None:
        log(f"calibrating the discriminator on {len(halves.fit)} items")
        gan, logits, metrics = _calibrated(gan, opset, halves, sampler(words), condition, log)
    log("building the graphs")
    networks = (gan.generator, gan.discriminator, gan.encoder)
    error = max(each.error for each in networks if each is not None)
    example, graphs = example_of(support, items), gan_graphs(gan, opset)
    if logits is None:
        graphs.pop("generate_scored", None)
    measure = partial(measure_parity, example=example, discrete=False, largest=error)
    parity = parities(name, graphs, measure, log, {})
    statistics: tuple[Distance, ...] = ("residual",) if gan.encoder is not None else ()
    sources = {"generator": generator, "discriminator": discriminator, "encoder": encoder}
    origin: dict[str, object] = {
        **{key: source.origin for key, source in sources.items() if source is not None},
        "values": words.values, "channels": words.channels,
        **({} if condition is None else {"labels_as": condition.labels_as}),
    }  # fmt: skip
    return write_version(
        Draft(
            name, "gan", description or "A generative adversarial network that was trained elsewhere.", words,
            support, graphs, parity, example, origin, statistics, logits=logits, metrics=metrics,
            discriminator=spec if discriminator is not None else None,
        ),
        options, halves, 0, models, log,
    )  # fmt: skip


def _refuse_words(name: str, models: Path, words: GanWords) -> None:
    """Raise UnfitModel if the publisher's words do not fit."""
    flaws = naming_flaws(name, models, words)
    if words.discriminator_gives not in ("logits", "probabilities"):
        flaws.append(
            f"discriminator_gives is {words.discriminator_gives!r}; wanted 'logits' or 'probabilities'"
        )
    if words.objective not in get_args(Objective):
        flaws.append(
            f"objective is {words.objective!r}; wanted one of {', '.join(map(repr, get_args(Objective)))}; "
            "leave it out for another by which the discriminator tells real items, as least squares"
        )
    refuse(name, flaws)


def _probed(
    name: str,
    generator: Source,
    discriminator: Source | None,
    encoder: Source | None,
    words: GanWords,
    seen: Floats,
    flaws: list[str],
) -> OwnGan:
    """Try the networks, those of items on `seen`, and join them to a GAN.

    Raises:
        UnfitModel: They do not fit, or there were flaws before; it lists all of them.
    """
    probe, of_items = probes_of(words.condition)
    units, latent = words.units, words.latent_size
    probabilities = words.discriminator_gives == "probabilities"
    shapes, latents = checks.latent_shapes(latent), checks.example_latents(latent)
    check: Check = partial(checks.generator_flaws, units=units)
    first = tried(probe, generator, shapes, latents, check, flaws)
    judge = guide = None
    if discriminator is not None:
        check = partial(checks.discriminator_flaws, probabilities=probabilities)
        judge = tried(of_items, discriminator, units.forms, seen, check, flaws)
    if encoder is not None:
        check = partial(checks.latent_flaws, latent=latent)
        guide = tried(of_items, encoder, units.forms, seen, check, flaws)
    refuse(name, flaws)
    assert first is not None
    if judge is not None:
        judge = replace(judge, probabilities=probabilities)
    return OwnGan(first, units, latent, judge, guide, len(words.classes))


def _exported_gan(name: str, gan: OwnGan, log: Log) -> tuple[OwnGan, int]:
    given = [gan.generator, gan.discriminator, gan.encoder]
    networks, opset = exported(name, [each for each in given if each is not None], log)
    places = iter(networks)
    generator, discriminator, encoder = (None if each is None else next(places) for each in given)
    assert generator is not None
    return replace(gan, generator=generator, discriminator=discriminator, encoder=encoder), opset


def _calibrated(
    gan: OwnGan, opset: int, halves: Halves, prior: Prior, condition: Condition | None, log: Log
) -> tuple[OwnGan, StartLogits | None, dict[str, Metric]]:
    """Fit slope and intercept of a discriminator's logits on one half of the items; judge them on the other.

    The logits for filtered sampling are None if items to fit on lack a class.
    Source: Platt 1999; for GANs Turner et al. 2019, "MH-GAN", arXiv:1811.11357, section 3.1.
    """
    classes = None
    if condition is not None:
        classes = condition.one_hot(np.concatenate([halves.fit_labels, halves.calibration_labels]))
    graphs = gan_graphs(gan, opset)
    fit, judged = len(halves.fit), len(halves.calibration)

    def logits(name: GraphName, inputs: Floats, start: int) -> Floats:
        """Return the logits of inputs, whose classes are those of the real items numbered from `start`."""
        parts = []
        for rows in np.split(np.arange(len(inputs)), range(ROWS, len(inputs), ROWS)):
            labels = [] if classes is None else [classes[(start + rows) % len(classes)]]
            parts.append(graphs[name].run([inputs[rows], *labels])[-1])
        found = np.concatenate(parts)
        require_finite("the discriminator's logit", found, inputs)
        return found

    def generated(start: int, count: int) -> Floats:
        return logits("generate_scored", prior.latents(0, start, count, 1.0), start)

    real = logits("discriminate", halves.fit, 0)
    slope, intercept = fit_platt(real, generated(0, fit))
    held_out, made = (
        slope * each + intercept
        for each in (logits("discriminate", halves.calibration, fit), generated(fit, judged))
    )
    largest = slope * float(generated(fit + judged, _GENERATED).max()) + intercept
    note = (
        f"{judged} real items and as many generated ones; the logits are {slope:.4g} times the "
        f"discriminator's {intercept:+.4g}, fitted on {fit} others"
    )
    metrics = calibration_metrics(held_out, made, note)
    gan = replace(gan, calibration=(slope, intercept))
    starts = (slope * real + intercept).astype(np.float32)
    if condition is None:
        return gan, (starts, largest, None), metrics
    if unseen := lacking(halves.fit_labels, condition.names):
        log(f"without filtered sampling, since too few real items are of {named(unseen)}")
        return gan, None, metrics
    return gan, (starts, largest, halves.fit_labels), metrics
