"""Checks of models that others trained, before anything is written.

Every check returns its flaws, a sentence each: what came, what was expected, and what to do.
Shapes: B rows, D latent dimensions, n values of an item; items (B, *item).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.format.manifest import Support
from service.format.specs import LatentPicture
from service.format.support import rows_in_support
from service.numerics.noise import Floats
from training.export.own.algebra import NumpyAlgebra
from training.export.own.formulas import EncoderGives
from training.export.own.halves import axis_of_forms, axis_of_latents, divided, half_shapes
from training.export.own.likelihoods import LOG_FURTHEST, LOG_SCALE_BOUND, LikelihoodFormulas
from training.export.own.networks import ONE_BATCH, OwnNetwork, Source, StrangeResult, Units, reason_of

FEWEST_ITEMS = 40
"""The fewest items to fit and calibrate on, half each: 19 resolve the level 0.05."""
_SAY_THE_RANGE = "say by `values` what range they have: 0..1, -1..1, 0..255, or real for any numbers"
EXAMPLES = 64
"""Rows that a network is tried on."""
_ROWS = 5
"""Rows that are also run alone."""
_ROW_TOLERANCE = 1e-4
"""Largest difference, over 1 + |value|, of a row computed alone and in a batch."""
_DISTRIBUTIONS = {
    "Bernoulli": ("bernoulli", "logits"),
    "ContinuousBernoulli": ("continuous-bernoulli", "logits"),
    "Normal": ("gaussian", "mean_and_scale"),
    "Laplace": ("laplace", "mean_and_scale"),
}
"""The likelihood of a decoder that gives a distribution of torch, and the word for the parameters taken."""
_WITHOUT_SPREAD = (
    "; publish_gan publishes an autoencoder without a spread: its decoder as the generator, and `encoder`"
)
_FIRST = "; leave the others out, as by `lambda rows: network(rows)[0]`"
_NO_ROWS = f"{_FIRST}, and say a constant spread of a decoder by `scale`"
_FEWER = (
    "; leave the others out, as by `lambda rows: network(rows)[1:]` of torch or by onnx.utils.extract_model"
)


class NotTaken(str):
    """The flaw of a network that does not take rows of the shapes tried, and the reason by itself."""

    reason: str

    def __new__(cls, flaw: str, reason: str = "") -> NotTaken:
        """Join the flaw and the reason; without a reason the flaw is it."""
        made = super().__new__(cls, f"{flaw}: {reason}" if reason else flaw)
        made.reason = reason or flaw
        return made


def item_flaws(what: str, items: Floats, support: Support) -> list[str]:
    """Check items (N, *item) that scores are fitted and calibrated on."""
    flaws = []
    if len(items) < FEWEST_ITEMS:
        flaws.append(f"{what} has {len(items)} items; wanted at least {FEWEST_ITEMS}, or leave it out")
    elif (items == items[:1]).all():
        flaws.append(
            f"{what} is one item {len(items)} times, which calibrates nothing; give items that differ"
        )
    fits = rows_in_support(items, support)
    if not fits.all():
        first = int(np.argmin(fits))
        low, high = float(items[first].min()), float(items[first].max())
        finite = np.isfinite(items[first]).all()
        came = f"has values from {low:g} to {high:g}" if finite else "has values that are no finite numbers"
        advice = {
            "binary": "the Bernoulli likelihood scores 0 and 1: binarise them, or, if the model was trained "
            "on grey values, publish it with likelihood='gaussian', whose reconstructions are what the "
            "decoder gives ('continuous-bernoulli' is for one that was trained on that density)",
            "unit_interval": _SAY_THE_RANGE,
            "eight_bit": _SAY_THE_RANGE,
            "real": "leave such items out",
        }[support if finite else "real"]
        flaws.append(
            f"{what}: {int(np.sum(~fits))} of {len(items)} items have values outside of the support "
            f"{support}; the first is item {first}, which {came}; {advice}"
        )
    return flaws


def probe(
    source: Source,
    expected: Sequence[tuple[int, ...]],
    examples: Floats,
    call: str = "one batch of rows, as `lambda rows: network(rows, ...)`",
) -> tuple[OwnNetwork | None, list[Floats], list[str]]:
    """Run a network on examples (B, n), and check that its rows are finite, repeatable and independent.

    `expected` are the shapes that a row of its input may have, the likeliest first, and `call` says what a
    function in its place would take.

    Returns:
        The network, its outputs for the examples, and its flaws; the network is None if it does not run.
    """
    if flaws := source.flaws():
        return None, [], flaws
    shapes = source.shapes(expected)
    wanted = " or ".join(map(_row, expected))
    if not shapes:
        declared = getattr(source, "declared", "others")
        flaw = f"{source.what} takes rows of shape {declared}; by the sizes given it would be {wanted}"
        return None, [], [NotTaken(flaw)]
    errors: list[tuple[tuple[int, ...], str]] = []
    for shape in shapes:
        rows = examples.reshape(-1, *shape)
        try:
            outputs = source.run(rows)
        except StrangeResult as error:
            return None, [], [f"{source.what} {error}"]
        except Exception as error:
            # a network of others may fail in any way
            errors.append((shape, reason_of(error)))
            continue
        if any(each.ndim == 0 or len(each) != len(rows) for each in outputs):
            came = [list(each.shape) for each in outputs]
            flaw = f"{source.what} gave {came} for {len(rows)} rows; wanted one row each{_NO_ROWS}"
            return None, [], [flaw]
        network = OwnNetwork(source, shape, tuple(each.shape[1:] for each in outputs), rows)
        return network, outputs, _row_flaws(source, rows, outputs)
    reasons = list(dict.fromkeys(reason for _, reason in errors))
    if any("positional argument" in reason for reason in reasons):
        reasons.append(f"give a function of {call}")
        if source.takes_class:
            reasons.append("if the second input is the class of each row, name the classes by `classes`")
    elif len(reasons) > 1:
        reasons = [f"of {_row(shape)}: {reason}" for shape, reason in errors]
    return None, [], [NotTaken(f"{source.what} does not take rows of shape {wanted}", "; ".join(reasons))]


def _row_flaws(source: Source, rows: Floats, outputs: Sequence[Floats]) -> list[str]:
    strange = [each for each in outputs if not np.isfinite(each).all()]
    if strange:
        count = sum(int((~np.isfinite(each)).sum()) for each in strange)
        return [f"{source.what} gave {count} values that are NaN or infinite; check its weights and inputs"]
    kinds = {str(each.dtype) for each in outputs} - {"float32"}
    if kinds:
        return [f"{source.what} gave {', '.join(sorted(kinds))}; wanted float32: call .float() on its result"]
    again = source.run(rows)
    if not all(map(np.array_equal, outputs, again)):
        way_out = (
            "give it with its noise fixed (as noise_mode='const' of StyleGAN); a model that draws one "
            "value after the other cannot be served"
            if source.what == "the generator"
            else "give the part without noise (a mean and log-variance rather than a draw)"
        )
        return [
            f"{source.what} gave two results for the same rows, so a random operation is inside; {way_out}, "
            "in evaluation mode (.eval())"
        ]
    first = [each[:_ROWS] for each in outputs]
    try:
        alone = [source.run(rows[i : i + 1]) for i in range(_ROWS)]
        pairs = zip([np.concatenate(part) for part in zip(*alone, strict=True)], first, strict=True)
        apart = max(float(np.max(np.abs(a - b) / (1 + np.abs(b)))) for a, b in pairs)
    except Exception as error:
        # it ran on 64 rows, and so fails for their number
        return [f"{source.what} {ONE_BATCH}: {reason_of(error)}"]
    if not apart <= _ROW_TOLERANCE:
        return [
            f"{source.what} gives a row other results alone than in a batch, apart by {apart:.1e} (1 + "
            "|value|): its rows depend on each other; use layers without batch statistics, or .eval()"
        ]
    return []


def encoder_flaws(
    network: OwnNetwork, outputs: Sequence[Floats], latent: int, gives: EncoderGives, channels: str
) -> list[str]:
    """Check what a VAE's encoder gave."""
    widths = [math.prod(shape) for shape in network.output_shapes]
    gave = getattr(network.source, "gave", None)
    if widths not in ([latent, latent], [2 * latent]):
        fewer = _FEWER if len(widths) > 2 else _WITHOUT_SPREAD if widths == [latent] else ""
        return [
            f"the encoder gave {_came(outputs)}; for latent_size {latent} wanted two tensors of {latent} "
            f"values a row (mean and {gives.replace('_', '-')}) or one of {2 * latent}{fewer}"
        ]
    row = network.output_shapes[0]
    if len(widths) == 1 and axis_of_latents(row, channels) is None:
        return [
            f"the encoder gave {_came(outputs)}, in which mean and {gives.replace('_', '-')} could lie along "
            "more than one axis; give them as two tensors, or flat, the mean first"
        ]
    if gave not in (None, "Normal"):
        return [f"the encoder gave a {gave} distribution; wanted a Normal, or a mean and its spread"]
    if (gave == "Normal") != (gives == "distribution"):
        came = "a torch distribution" if gave else f"tensors, {_came(outputs)}"
        fits = "say encoder_gives='distribution'" if gave else "say what they are by encoder_gives"
        return [f"encoder_gives is {gives!r}, but the encoder gave {came}; {fits}"]
    second = outputs[-1].reshape(len(outputs[-1]), -1)
    if len(widths) == 1:
        second = divided(NumpyAlgebra(), row, axis_of_latents(row, channels) or 0, second)[1]
    return _spread_flaws("encoder", gives, second, LOG_FURTHEST)


def _spread_flaws(what: str, gives: str, spread: Floats, largest: float) -> list[str]:
    """Check the spreads that a network gives: positive ones, or logarithms, of scales at most `largest`."""
    kind, low, high = gives.removeprefix("mean_and_"), float(spread.min()), float(spread.max())
    if kind in ("scale", "variance", "distribution") and low <= 0:
        spreads = "variances" if kind == "variance" else "scales"
        logarithm = gives.removesuffix(kind) + "log"
        advice = f"; if these are logarithms, say '{logarithm}_variance' or '{logarithm}_scale'"
        return [
            f"{what}_gives is {gives!r}, but the {what} gave {spreads} down to {low:g}, and they are positive"
            + ("" if kind == "distribution" else advice)
        ]
    largest *= 2 if kind.endswith("variance") else 1
    if "log_" not in kind or (-largest <= low and high <= largest):
        return []
    return [
        f"the {what} gave {kind.replace('_', '-')}s from {low:g} to {high:g}, and float32 takes those within "
        f"±{largest:.0f}; say by `{what}_gives` what they are, and by `values` what range the items have"
    ]


def decoder_flaws(
    network: OwnNetwork, outputs: Sequence[Floats], likelihood: LikelihoodFormulas, units: Units
) -> list[str]:
    """Check what a VAE's decoder gave."""
    gave = getattr(network.source, "gave", None)
    if gave is not None and (likelihood.name, likelihood.gives) != _DISTRIBUTIONS[gave]:
        name, word = _DISTRIBUTIONS[gave]
        return [
            f"the decoder gave a {gave} distribution, whose parameters are taken; say likelihood={name!r} "
            f"and decoder_gives={word!r}"
        ]
    count, row = likelihood.outputs, network.output_shapes[0]
    whole = len(outputs) == count and _in_order(network, units)
    axis = axis_of_forms(row, units.forms) if count == 2 and len(outputs) == 1 else None
    if not whole and axis is None:
        what = "one tensor" if count == 1 else "two tensors, or one with twice the channels,"
        return [
            f"the decoder gave {_came(outputs)}; for item_shape {list(units.item_shape)}, channels "
            f"{units.channels}, and decoder_gives {likelihood.gives!r} wanted {what} of rows "
            f"{list(units.network_shape)}"
        ]
    flat: list[Any] = [each.reshape(len(each), -1) for each in outputs]
    parts = flat if axis is None else divided(NumpyAlgebra(), row, axis, flat[0])
    values = parts[0]
    gives: str = likelihood.gives
    if gives == "probabilities" and not (values.min() >= 0 and values.max() <= 1):
        return [
            f"decoder_gives is 'probabilities', but the decoder gave values from {values.min():g} to "
            f"{values.max():g}; say 'logits' if a sigmoid is to be applied"
        ]
    return _spread_flaws("decoder", gives, parts[-1], LOG_SCALE_BOUND)


def generator_flaws(network: OwnNetwork, outputs: Sequence[Floats], units: Units) -> list[str]:
    """Check what a GAN's generator gave."""
    if [math.prod(shape) for shape in network.output_shapes] != [units.size] or not _in_order(network, units):
        return [
            f"the generator gave {_came(outputs)}; for item_shape {list(units.item_shape)} and channels "
            f"{units.channels} wanted one tensor of rows {list(units.network_shape)}"
        ]
    low, high = {"0..1": (0, 1), "-1..1": (-1, 1), "0..255": (0, 255), "real": (-math.inf, math.inf)}[
        units.values
    ]
    least, most = float(outputs[0].min()), float(outputs[0].max())
    room = 1e-3 * (high - low) if math.isfinite(high) else 0
    if least < low - room or most > high + room:
        return [
            f"values is {units.values!r}, but the generator gave values from {least:g} to {most:g}; "
            f"{_SAY_THE_RANGE}"
        ]
    return []


def discriminator_flaws(network: OwnNetwork, outputs: Sequence[Floats], probabilities: bool) -> list[str]:
    """Check what a GAN's discriminator gave."""
    if [math.prod(shape) for shape in network.output_shapes] != [1]:
        more = _FIRST if len(outputs) > 1 else ""
        return [f"the discriminator gave {_came(outputs)}; wanted one number a row{more}"]
    low, high = float(outputs[0].min()), float(outputs[0].max())
    if probabilities and (low < 0 or high > 1):
        return [
            f"discriminator_gives is 'probabilities', but it gave values from {low:g} to {high:g}; say "
            "'logits'"
        ]
    return []


def latent_flaws(network: OwnNetwork, outputs: Sequence[Floats], latent: int) -> list[str]:
    """Check what a GAN's encoder gave."""
    if [math.prod(shape) for shape in network.output_shapes] == [latent]:
        return []
    return [
        f"the encoder gave {_came(outputs)}; for latent_size {latent} wanted one tensor of {latent} values a "
        "row"
    ]


def latent_shapes(
    latent: int,
    picture: LatentPicture | None = None,
    encoder: OwnNetwork | None = None,
    channels: str = "first",
) -> list[tuple[int, ...]]:
    """Return the shapes that a decoder may take latents in: those that the encoder gives, rows, or pixels."""
    if picture is not None:
        return [picture.shape]
    given: list[tuple[int, ...]] = []
    if encoder is not None:
        row = encoder.output_shapes[0]
        axis = axis_of_latents(row, channels) if len(encoder.output_shapes) == 1 else None
        given = [row] if axis is None else half_shapes(row, axis)
    fitting = [shape for shape in given if math.prod(shape) == latent]
    return list(dict.fromkeys([*fitting, (latent,), (latent, 1, 1)]))


def example_items(items: Floats | None, units: Units, support: Support) -> Floats:
    """Return 64 items as the networks take them: given ones if there are, else random ones of a support."""
    if items is not None and len(items):
        chosen = items[np.arange(EXAMPLES) % len(items)]
    else:
        random = np.random.default_rng(0)
        shape = (EXAMPLES, *units.item_shape)
        drawn = random.random(shape, dtype=np.float32)
        chosen = drawn.round() if support == "binary" else drawn
        if support == "real":
            chosen = random.standard_normal(shape, dtype=np.float32)
    return np.ascontiguousarray(units.to_network(NumpyAlgebra(), chosen), np.float32)


def example_latents(latent: int) -> Floats:
    """Return 64 latents of N(0, I)."""
    return np.random.default_rng(0).standard_normal((EXAMPLES, latent), dtype=np.float32)


def _in_order(network: OwnNetwork, units: Units) -> bool:
    """Return True if the outputs' axes are those of items: a transposed picture has other numbers of rows."""
    return all(shape in units.forms for shape in network.output_shapes)


def _came(outputs: Sequence[Floats]) -> str:
    return " and ".join(_row(each.shape[1:]) for each in outputs)


def _row(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, ('B', *shape)))}]"
