"""Publish a VAE or a GAN that was trained elsewhere, from modules of torch or from files.

What does not fit raises `UnfitModel`, which lists everything at once, before anything is written. Publishing
from ONNX files needs no torch.
"""

from __future__ import annotations

import math
import operator
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.format.specs import LatentPicture
from training.export.own.conditions import Condition, LabelsAs
from training.export.own.gan import GanWords, publish_own_gan
from training.export.own.likelihoods import WITH_SCALE, DecoderGives, LikelihoodName
from training.export.own.networks import Channels, Source, UnfitModel, Values
from training.export.own.onnx_source import OnnxSource
from training.export.own.priors import MixtureOfGaussians
from training.export.own.vae import VaeWords, publish_own_vae
from training.export.own.version import Scoring

if TYPE_CHECKING:
    from training.export.own.formulas import EncoderGives

__all__ = [
    "MixtureOfGaussians",
    "UnfitModel",
    "publish_autoencoder_kl",
    "publish_gan",
    "publish_pythae",
    "publish_vae",
]

Network = Callable[..., Any] | str | Path
"""A module or function of torch, or the path of a file of ONNX, of `torch.export` or of TorchScript."""


def publish_vae(
    name: str,
    encoder: Network,
    decoder: Network,
    *,
    likelihood: LikelihoodName = "bernoulli",
    latent_size: int,
    item_shape: Sequence[int],
    decoder_gives: DecoderGives | None = None,
    encoder_gives: EncoderGives = "log_variance",
    values: Values | None = None,
    channels: Channels = "first",
    scale: float | Sequence[float] | np.ndarray[Any, Any] | None = None,
    prior: MixtureOfGaussians | None = None,
    classes: Sequence[str] | int | None = None,
    labels_as: LabelsAs = "index",
    normals: Any = None,
    normal_labels: Any = None,
    models: str | Path = "models",
    description: str = "",
    statistic: str = "auto",
    draws: int = 16,
    seed: int = 0,
    alpha: float | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Publish a VAE as the next version of a model; returns the version's folder.

    Shapes: B rows, D = `latent_size`; items (B, *item_shape). Modules have to be in evaluation mode.

    Args:
        name: The model's name: lower-case letters, digits and hyphens.
        encoder: Maps items to the posterior's mean and spread: two tensors (B, D), one of (B, 2 D), or a
            Normal distribution of torch.
        decoder: Maps latents (B, D) to the likelihood's parameters: one tensor of items, or two, or one with
            twice the channels.
        likelihood: `bernoulli` for values 0 and 1, `continuous-bernoulli` for [0, 1], `gaussian` of a squared
            error, `laplace` of an absolute one.
        latent_size: D, the number of latent dimensions.
        item_shape: The shape of an item as the service takes it: (C, H, W) for pictures, (F,) for rows.
        decoder_gives: `probabilities` or `logits`; or `mean`, `mean_and_scale`, `mean_and_variance`,
            `mean_and_log_scale` or `mean_and_log_variance` of a Gaussian, the first, second and fourth of
            a Laplace distribution. By default `probabilities`, or `mean`.
        encoder_gives: What comes with the mean: `log_variance`, `variance`, `scale` (standard deviation),
            `log_scale`, or `distribution` if it is one of torch.
        values: The range that items have for the networks: `0..1`, `-1..1`, `0..255`, or `real` for any
            number. The service takes pictures in [0, 1] whatever it is. By default `0..1`; `real` for a
            Gaussian or Laplace distribution of items that are no pictures.
        channels: `first` or `last`, as the networks have the channels of pictures.
        scale: The scale of a Gaussian (its standard deviation) or Laplace distribution whose decoder gives
            the mean alone, in the decoder's units; by default it is fitted on `normals`.
        prior: A mixture of Gaussians; by default N(0, I).
        classes: The names of the classes in the order of their numbers, or how many there are, if the decoder
            takes the class of each row as a second input; the encoder may take it too. Requests then have a
            `label`.
        labels_as: How the networks take the class: `index`, whole numbers (B,) or (B, 1) from 0, or
            `one_hot`, (B, C).
        normals: Normal items (N, ...), at least 40, as the encoder takes them (uint8 is 0 to 255 of a
            picture), which the networks were not trained on. Half of them fit and choose scores, half
            calibrate p-values. Without them there are scores and no p-values.
        normal_labels: The class of each normal item, a number or a name, if there are `classes`.
        models: The folder of published models.
        description: A sentence for the catalogue and the card.
        statistic: The default anomaly statistic; `auto` chooses by how well each finds planted outliers.
        draws: Latent draws per item of the bounds.
        seed: The seed of those draws.
        alpha: The default level of anomalies; by default 0.01, or 0.05 with fewer than 99 calibration items.
        log: Receives lines of progress.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    latent_size, shape = _sizes(name, latent_size, item_shape)
    with_scale = likelihood in WITH_SCALE
    words = VaeWords(
        latent_size=latent_size,
        item_shape=shape,
        likelihood=likelihood,
        decoder_gives=decoder_gives or ("mean" if with_scale else "probabilities"),
        encoder_gives=encoder_gives,
        values=values or ("real" if with_scale and len(shape) != 3 else "0..1"),
        channels=channels,
        scale=scale,
        prior=prior,
        condition=_condition(name, classes, labels_as),
    )
    return publish_own_vae(
        name,
        _source("the encoder", encoder),
        _source("the decoder", decoder),
        words,
        normals,
        Path(models),
        description,
        Scoring(statistic, draws, seed, alpha),  # type: ignore[arg-type]
        log,
        normal_labels,
    )


def publish_gan(
    name: str,
    generator: Network,
    *,
    latent_size: int,
    item_shape: Sequence[int],
    discriminator: Network | None = None,
    discriminator_gives: Literal["logits", "probabilities"] = "logits",
    objective: str = "non-saturating",
    encoder: Network | None = None,
    values: Values = "0..1",
    channels: Channels = "first",
    prior: MixtureOfGaussians | None = None,
    classes: Sequence[str] | int | None = None,
    labels_as: LabelsAs = "index",
    real: Any = None,
    real_labels: Any = None,
    models: str | Path = "models",
    description: str = "",
    seed: int = 0,
    alpha: float | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Publish a GAN as the next version of a model; returns the version's folder.

    Shapes: B rows, D = `latent_size`; items (B, *item_shape). Modules have to be in evaluation mode.

    Args:
        name: The model's name: lower-case letters, digits and hyphens.
        generator: Maps latents (B, D), or (B, D, 1, 1), to items.
        latent_size: D, the number of latent dimensions.
        item_shape: The shape of an item as the service takes it: (C, H, W) for pictures, (F,) for rows.
        discriminator: Maps items to one number a row; it needs `real` items to be calibrated on.
        discriminator_gives: `logits`, or `probabilities` of being real.
        objective: The objective it was trained with, if it is `minimax`, `non-saturating`, `hinge`,
            `relativistic` or `wasserstein`, whose critic cannot be published.
        encoder: Maps items to the latents (B, D) of the generator's nearest items.
        values: The range that items have for the networks: `0..1`, `-1..1`, `0..255`, or `real` for any
            number. The service takes and gives pictures in [0, 1] whatever it is.
        channels: `first` or `last`, as the networks have the channels of pictures.
        prior: A mixture of Gaussians; by default N(0, I).
        classes: The names of the classes in the order of their numbers, or how many there are, if the
            networks take the class of each row as a second input; discriminator and encoder need not.
            Requests then have a `label`.
        labels_as: How the networks take the class: `index`, whole numbers (B,) or (B, 1) from 0, or
            `one_hot`, (B, C).
        real: Real items (N, ...), at least 40, as the networks take them (uint8 is 0 to 255 of a picture),
            which they were not trained on.
        real_labels: The class of each real item, a number or a name, if there are `classes`.
        models: The folder of published models.
        description: A sentence for the catalogue and the card.
        seed: The seed of the calibration.
        alpha: The default level of anomalies; by default 0.01, or 0.05 with fewer than 99 calibration items.
        log: Receives lines of progress.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    latent_size, shape = _sizes(name, latent_size, item_shape)
    words = GanWords(
        latent_size=latent_size,
        item_shape=shape,
        discriminator_gives=discriminator_gives,
        objective=objective,  # type: ignore[arg-type]
        values=values,
        channels=channels,
        prior=prior,
        condition=_condition(name, classes, labels_as),
    )
    return publish_own_gan(
        name,
        _source("the generator", generator),
        words,
        None if discriminator is None else _source("the discriminator", discriminator),
        None if encoder is None else _source("the encoder", encoder),
        real,
        Path(models),
        description,
        Scoring(seed=seed, alpha=alpha),
        log,
        real_labels,
    )


def publish_pythae(name: str, folder: str | Path, **options: Any) -> Path:
    """Publish a VAE from a folder of pythae with its default networks; neither pythae nor a pickle is needed.

    The reconstruction loss decides the likelihood: `bce` is `bernoulli` (give the likelihood `gaussian` if
    the pixels are grey), `mse` a `gaussian` of standard deviation 1 (give another `scale`, or None to have
    it fitted).

    Args:
        name: The model's name.
        folder: The folder that pythae's `model.save` wrote.
        options: More options of `publish_vae`, as `normals` and `models`.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    from training.export.own.pythae import read_pythae  # it needs torch

    model = read_pythae(Path(folder))
    fitting = "gaussian" if model.reconstruction_loss == "mse" else "bernoulli"
    found: dict[str, Any] = {
        "likelihood": fitting,
        "scale": 1.0 if options.get("likelihood", fitting) == fitting == "gaussian" else None,
        "values": "0..1",
        "latent_size": model.latent_size,
        "item_shape": model.item_shape,
        "description": f"A {model.kind.removesuffix('Config')} of pythae.",
    }
    return publish_vae(name, model.encoder, model.decoder, **(found | options))


def publish_autoencoder_kl(
    name: str,
    folder: str | Path,
    *,
    size: int | None = None,
    scale: float | None = None,
    normals: Any = None,
    models: str | Path = "models",
    description: str = "An AutoencoderKL of diffusers.",
    statistic: str = "auto",
    draws: int = 16,
    seed: int = 0,
    alpha: float | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Publish an `AutoencoderKL` from a folder of diffusers, which need not be installed.

    The service takes pictures (C, size, size) in [0, 1]. Latents are those before diffusers' scaling,
    flattened from (C, H, W); the manifest's `latent_picture` has that shape and the scaling. The likelihood
    is a Gaussian.

    Args:
        name: The model's name.
        folder: The folder that diffusers' `save_pretrained` wrote.
        size: The height and width of pictures; by default the folder's `sample_size`.
        scale: The Gaussian's standard deviation in the networks' units, [-1, 1]; by default it is fitted on
            `normals`.
        normals: Normal pictures (N, C, size, size) in [-1, 1], or uint8, as for `publish_vae`.
        models: The folder of published models.
        description: A sentence for the catalogue and the card.
        statistic: As for `publish_vae`.
        draws: As for `publish_vae`.
        seed: As for `publish_vae`.
        alpha: As for `publish_vae`.
        log: Receives lines of progress.

    Raises:
        UnfitModel: Something does not fit; nothing was written.
    """
    from training.export.own.autoencoder_kl import read_autoencoder_kl  # it needs torch

    model = read_autoencoder_kl(Path(folder))
    side = size or model.sample_size
    latent = LatentPicture(
        shape=(model.latent_channels, side // model.shrinks, side // model.shrinks),
        scaling_factor=model.scaling_factor,
        shift_factor=model.shift_factor,
    )
    words = VaeWords(
        latent_size=math.prod(latent.shape),
        item_shape=(model.channels, side, side),
        likelihood="gaussian",
        decoder_gives="mean",
        values="-1..1",
        scale=scale,
        latent_picture=latent,
    )
    encoder, decoder = _source("the encoder", model.encoder), _source("the decoder", model.decoder)
    scoring = Scoring(statistic, draws, seed, alpha)  # type: ignore[arg-type]
    return publish_own_vae(name, encoder, decoder, words, normals, Path(models), description, scoring, log)


def _sizes(name: str, latent_size: Any, item_shape: Any) -> tuple[int, tuple[int, ...]]:
    """Return the latent size and the shape of an item; raise UnfitModel unless they are whole numbers."""
    flaws, latent = [], 0
    shape: tuple[int, ...] = ()
    try:
        latent = operator.index(latent_size)
    except TypeError:
        came = f"latent_size is {latent_size!r} ({type(latent_size).__name__})"
        flaws.append(f"{came}; wanted a whole number")
    try:
        shape = tuple(operator.index(size) for size in item_shape)
    except TypeError:
        came = f"item_shape is {item_shape!r} ({type(item_shape).__name__})"
        flaws.append(f"{came}; wanted whole numbers in a tuple: (1, 28, 28) for pictures, (30,) for rows")
    if flaws:
        raise UnfitModel(name, flaws)
    return latent, shape


def _condition(name: str, classes: Any, labels_as: LabelsAs) -> Condition | None:
    """Return the class condition; raise UnfitModel if `classes` are neither names in order nor a number."""
    if classes is None:
        return None
    classes = classes.tolist() if hasattr(classes, "tolist") else classes
    try:
        in_order = isinstance(classes, Iterable) and not isinstance(classes, str | bytes | Set | Mapping)
        names = [*classes] if in_order else [*range(operator.index(classes))]
    except TypeError:
        came = f"classes is {classes!r} ({type(classes).__name__})"
        wanted = "wanted a list of the classes' names in the order of their numbers, or how many there are"
        raise UnfitModel(name, [f"{came}; {wanted}"]) from None
    return Condition(tuple(map(str, names)), labels_as)


def _source(what: str, network: Network) -> Source:
    if isinstance(network, str | Path):
        path = Path(network)
        if not zipfile.is_zipfile(path):
            return OnnxSource(what, path)
        from training.export.own.torch_files import read_torch_file  # torch is not needed for ONNX files

        return read_torch_file(what, path)
    given: Any = network
    if isinstance(given, type) or not callable(given):
        came = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        flaw = f"{what} is {came}; wanted a module or function of torch, or the path of a file"
        if isinstance(given, Mapping):
            flaw += "; load these weights into the module that they are of (load_state_dict), and give that"
        raise UnfitModel(what, [flaw])
    from training.export.own.torch_source import TorchSource

    return TorchSource(what, network)
