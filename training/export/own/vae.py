"""Publish a VAE that others trained.

Shapes: N items, D latent dimensions; items (N, *item).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from service.format.manifest import Support
from service.format.specs import GraphName, LatentPicture, Parity
from service.numerics.noise import Floats
from training.anomaly.calibrate import require_finite
from training.anomaly.choose import split_validation
from training.anomaly.path import LEAST_VARIANCE, fit_whitening
from training.anomaly.running import batches_of
from training.export.own import checks
from training.export.own.algebra import NumpyAlgebra
from training.export.own.conditions import Check, Condition, labels_of, probes_of, tried
from training.export.own.doubts import doubts
from training.export.own.formulas import EncoderGives, OwnVae
from training.export.own.likelihoods import (
    BernoulliFormulas,
    ContinuousBernoulliFormulas,
    DecoderGives,
    GaussianFormulas,
    LaplaceFormulas,
    LikelihoodFormulas,
    LikelihoodName,
    LocationScaleFormulas,
    of_logits,
)
from training.export.own.networks import Source, Units, array_of
from training.export.own.operations import (
    OwnGraph,
    measure_parity,
    path_features,
    statistics_graph,
    vae_graphs,
)
from training.export.own.version import (
    Draft,
    Halves,
    Log,
    Scoring,
    calibration_options,
    example_of,
    exported,
    halves_of,
    items_of,
    parities,
    refuse,
    refusing,
    require_statistic,
    write_version,
)
from training.export.own.words import Words, likelihood_flaws, naming_flaws
from training.export.sessions import ParityError

_FEWEST_FITTED = 20
_SCALE_DRAWS = 4
_MOST_DOUBTED = 64
"""The most items on which the publisher's words are tried."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VaeWords(Words):
    """The publisher's words about a VAE."""

    likelihood: LikelihoodName = "bernoulli"
    decoder_gives: DecoderGives = "probabilities"
    encoder_gives: EncoderGives = "log_variance"
    scale: Any = None
    """The likelihood's scale in the decoder's units; None: the decoder's, or fitted on items."""
    latent_picture: LatentPicture | None = None
    """The form of a latent for the networks, if it is no row."""


@refusing
def publish_own_vae(
    name: str,
    encoder: Source,
    decoder: Source,
    words: VaeWords,
    normals: Any,
    models: Path,
    description: str,
    scoring: Scoring,
    log: Log,
    labels: Any = None,
) -> Path:
    """Publish a VAE's encoder and decoder as the next version of `name`; returns the version's folder.

    The arguments are those of `pushforward.publish_vae`; `labels` are the classes of the normal items.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    units, condition, flaws = words.units, words.condition, naming_flaws(name, models, words)
    flaws += likelihood_flaws(words.likelihood, words.decoder_gives, words.encoder_gives, words.scale, units)
    refuse(name, flaws)
    likelihood = _likelihood(words, units)
    items = items_of("normals", normals, units, likelihood.support, flaws)
    if normals is None and _needs_scale(likelihood):
        flaws.append(
            "the decoder gives a mean, and neither scale nor normals came; give `scale`, that of the "
            f"{likelihood.name} it was trained with (in the units of the decoder), or `normals` to fit it on"
        )
    rows = None if items is None else len(items)
    of_items, found = labels_of("normals", "normal_labels", labels, rows, condition)
    flaws += found
    vae = _probed(name, encoder, decoder, words, likelihood, items, flaws)
    vae, opset = _exported_vae(name, vae, log)
    halves = None if items is None else halves_of(items, of_items)
    vae, scale_note = _with_scale(vae, words, halves, log)
    options = calibration_options(scoring, halves)
    doubted = {} if halves is None else _doubted(name, vae, halves, condition)
    log("building the graphs")
    example = example_of(likelihood.support, items)
    measure = partial(
        measure_parity,
        example=example,
        discrete=likelihood.support == "binary",
        largest=max(vae.encoder.error, vae.decoder.error),
    )
    fitted_on = 0 if halves is None else len(split_validation(options, halves.fit)[1])
    held: dict[GraphName, Parity] = {}
    if halves is not None and fitted_on >= _FEWEST_FITTED:
        vae, held = _with_path(vae, _fit_batches(halves, condition, fitted_on), opset, measure, log)
    require_statistic(name, options, ("elbo", "importance_bound", *vae.statistics))
    graphs = vae_graphs(vae, opset)
    parity = parities(name, graphs, measure, log, held)
    origin: dict[str, object] = {
        "encoder": encoder.origin, "decoder": decoder.origin, "encoder_gives": words.encoder_gives,
        "decoder_gives": words.decoder_gives, "values": words.values, "channels": words.channels,
        **scale_note, **({} if condition is None else {"labels_as": condition.labels_as}), **doubted,
    }  # fmt: skip
    return write_version(
        Draft(
            name, "vae", description or "A variational autoencoder that was trained elsewhere.", words,
            likelihood.support, graphs, parity, example, origin, vae.statistics, words.likelihood,
            latent_picture=words.latent_picture,
        ),
        options, halves, fitted_on, models, log,
    )  # fmt: skip


def _probed(
    name: str,
    encoder: Source,
    decoder: Source,
    words: VaeWords,
    likelihood: LikelihoodFormulas,
    items: Floats | None,
    flaws: list[str],
) -> OwnVae:
    """Try both networks, and join them to a VAE.

    Raises:
        UnfitModel: They do not fit, or there were flaws before; it lists all of them.
    """
    units, latent, given = words.units, words.latent_size, words.encoder_gives
    seen = checks.example_items(items, units, likelihood.support)
    probe, of_items = probes_of(words.condition)
    check: Check = partial(checks.encoder_flaws, latent=latent, gives=given, channels=words.channels)
    first = tried(of_items, encoder, units.forms, seen, check, flaws)
    shapes = checks.latent_shapes(latent, words.latent_picture, first, words.channels)
    check = partial(checks.decoder_flaws, likelihood=likelihood, units=units)
    second = tried(probe, decoder, shapes, checks.example_latents(latent), check, flaws)
    refuse(name, flaws)
    assert first is not None
    assert second is not None
    if words.decoder_gives == "probabilities":
        second = replace(second, probabilities=True)
    return OwnVae(first, second, units, likelihood, latent, given, words.prior, len(words.classes))


def _needs_scale(likelihood: LikelihoodFormulas) -> bool:
    """Return True for a likelihood whose scale neither the decoder nor the publisher gives."""
    if not isinstance(likelihood, LocationScaleFormulas):
        return False
    return likelihood.outputs == 1 and likelihood.scale is None


def _with_scale(
    vae: OwnVae, words: VaeWords, halves: Halves | None, log: Log
) -> tuple[OwnVae, dict[str, object]]:
    """Fit the scale of a likelihood that needs one; returns the VAE, and what to say of its origin."""
    if words.scale is not None:
        given = np.asarray(array_of(words.scale), np.float64)
        return vae, {"scale": given.tolist(), "scale_from": "given, in the decoder's units"}
    if halves is None or not _needs_scale(vae.likelihood):
        return vae, {}
    log(f"fitting the scale of the {words.likelihood} on {len(halves.fit)} items")
    fitted, scale = _fitted(vae, _fit_batches(halves, words.condition, len(halves.fit)))
    note = f"fitted on {len(halves.fit)} items, in their units"
    return replace(vae, likelihood=fitted), {"scale": scale, "scale_from": note}


def _doubted(name: str, vae: OwnVae, halves: Halves, condition: Condition | None) -> dict[str, object]:
    """Warn of what looks like a mistake in the publisher's words; returns what to say of it in the origin."""
    found = doubts(vae, _fit_batches(halves, condition, min(_MOST_DOUBTED, len(halves.fit))))
    for doubt in found:
        _logger.warning("%s is published, but %s", name, doubt)
    return {"doubts": "; ".join(found)} if found else {}


def _fit_batches(halves: Halves, condition: Condition | None, count: int) -> list[list[Floats]]:
    """Return the last of the items to fit on, in batches, each with its classes if they have any."""
    labels = None if condition is None else condition.one_hot(halves.fit_labels[-count:])
    return [*batches_of(halves.fit[-count:], labels)]


def _with_path(
    vae: OwnVae,
    batches: Sequence[list[Floats]],
    opset: int,
    measure: Callable[[OwnGraph], Parity],
    log: Log,
) -> tuple[OwnVae, dict[GraphName, Parity]]:
    """Return the VAE with `path` fitted on batches of items, and the parity of its `statistics`.

    Where features nearly follow from each other, the distance magnifies their last digits: it is fitted more
    coarsely until they hold in float32, and left out if they never do.
    """
    graph = path_features(vae, opset)
    features = np.concatenate([graph.run(batch)[0] for batch in batches]).astype(np.float64)
    coarser = (LEAST_VARIANCE, 10 * LEAST_VARIANCE, 100 * LEAST_VARIANCE)
    for least in coarser if np.isfinite(features).all() else ():
        fitted = replace(vae, whitening=fit_whitening(features, least))
        try:
            return fitted, {"statistics": measure(statistics_graph(fitted, opset))}
        except ParityError:
            continue
    log("leaving out the statistic `path`, whose digits do not hold in float32")
    return vae, {}


def _likelihood(words: VaeWords, units: Units) -> LikelihoodFormulas:
    if words.likelihood == "bernoulli":
        return BernoulliFormulas(words.decoder_gives, units.size)
    if words.likelihood == "continuous-bernoulli":
        return ContinuousBernoulliFormulas(words.decoder_gives, units.size)
    scale = None
    if words.scale is not None:
        given = np.asarray(array_of(words.scale), np.float64)
        if given.size > 1:  # as the network has its values
            given = np.asarray(units.in_order(NumpyAlgebra(), given.reshape(1, -1)))[0]
        scale = units.factor * given.reshape(-1 if given.size > 1 else ())
    support: Support = "real" if words.values == "real" else "unit_interval"
    kind = GaussianFormulas if words.likelihood == "gaussian" else LaplaceFormulas
    return kind(words.decoder_gives, units.size, support, units.shift, units.factor, scale)


def _exported_vae(name: str, vae: OwnVae, log: Log) -> tuple[OwnVae, int]:
    networks, opset = exported(name, [vae.encoder, vae.decoder], log)
    given, taken = networks
    assert taken.export is not None
    if taken.export.logits and not isinstance(vae.likelihood, LocationScaleFormulas):
        vae = replace(vae, likelihood=of_logits(vae.likelihood))
    return replace(vae, encoder=given, decoder=taken), opset


def _fitted(vae: OwnVae, batches: Sequence[list[Floats]]) -> tuple[LocationScaleFormulas, float]:
    """Return the likelihood with the scale of the largest ELBO on items, see its `power`.

    Source: Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders",
    arXiv:2006.13202, section 3.2, for a Gaussian.
    """
    assert isinstance(vae.likelihood, LocationScaleFormulas)
    trial, f = replace(vae, likelihood=replace(vae.likelihood, scale=np.asarray(1.0))), NumpyAlgebra()
    random, power, errors = np.random.default_rng(0), vae.likelihood.power, []
    for items, *labels in batches:
        mean, log_variance = trial.posterior(f, items.astype(np.float64), *labels)
        gaps = []
        for _ in range(_SCALE_DRAWS):
            latents = mean + np.exp(0.5 * log_variance) * random.standard_normal(mean.shape)
            gaps.append(items.reshape(len(items), -1) - trial.parameters(f, latents, *labels)[0])
        errors.append((np.abs(gaps) ** power).mean(2))
    given = np.concatenate([items for items, *_ in batches])
    require_finite("the reconstruction", np.concatenate(errors, axis=1).T, given)
    mean_error = np.concatenate([each.ravel() for each in errors]).mean()
    scale = max(float(mean_error ** (1 / power)), 1e-6)
    return replace(vae.likelihood, scale=np.asarray(scale)), scale
