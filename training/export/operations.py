"""The graphs of each kind of model: operations on its tensors, with their names and shapes.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from service.format.specs import GraphName, TensorSpec
from training.anomaly.columns import ColumnSurprises
from training.anomaly.statistics import VaeStatistics, surprise_map
from training.export.graphs import Graph, GraphModule
from training.export.sessions import tensor
from training.metrics.platt import Platt
from training.models.gan import STATISTICS, Gan
from training.models.likelihoods import nearest_levels
from training.models.vae import Vae, score_terms


def gan_graphs(gan: Gan, item_shape: tuple[int, ...], platt: Platt | None) -> list[Graph]:
    """Return a GAN's graphs; an encoder and a calibrated discriminator have graphs too.

    With a class condition they take labels as well.
    """
    inputs, samples = tensor("inputs", "rows", *item_shape), tensor("samples", "rows", *item_shape)
    latents, logit = tensor("latents", "rows", gan.latent), tensor("logit", "rows")
    graphs = [_graph("decode", gan, lambda g, z: g.decode(z), [latents], [samples])]
    if gan.encoder is not None:
        mean, pixels = tensor("mean", "rows", gan.latent), tensor("map", "rows", *item_shape)
        statistics = tensor("statistics", "rows", len(STATISTICS))
        graphs += [
            _graph("encode", gan, lambda g, x: g.encode(x), [inputs], [mean]),
            _graph("statistics", gan, lambda g, x: g.statistics(x), [inputs], [statistics]),
            _graph("map", gan, lambda g, x: g.residual_map(x), [inputs], [pixels]),
        ]
    if platt is not None:

        def judged(gan: Gan, items: Tensor) -> Tensor:
            return platt(gan.discriminate(items))

        def generate_scored(gan: Gan, latents: Tensor) -> tuple[Tensor, Tensor]:
            generated = gan.decode(latents)
            return generated, judged(gan, generated)

        discriminate = _graph("discriminate", gan, judged, [inputs], [logit])
        scored = _graph("generate_scored", gan, generate_scored, [latents], [samples, logit])
        graphs += [discriminate, replace(scored, judge=discriminate.module)]
    return graphs


def vae_graphs(
    vae: Vae, item_shape: tuple[int, ...], statistics: VaeStatistics, columns: ColumnSurprises | None = None
) -> list[Graph]:
    """Return the six graphs of a VAE, and for a table that of its columns.

    With a class condition all of them take labels as well, and compute p(x | class) in the place of p(x).
    """
    items, per_draw, likelihood = ("rows", *item_shape), ("rows", "draws"), vae.likelihood
    inputs, samples, uniforms = (tensor(name, *items) for name in ("inputs", "samples", "uniforms"))
    latents, eps = tensor("latents", "rows", vae.latent), tensor("eps", *per_draw, vae.latent)
    posterior = [tensor("mean", "rows", vae.latent), tensor("log_variance", "rows", vae.latent)]
    terms = [tensor(name, *per_draw) for name in ("log_likelihood", "log_prior", "log_posterior")]
    scores = tensor("statistics", "rows", len(statistics.names))
    nearest = nearest_levels if likelihood.support == "eight_bit" else nn.Identity()
    of_columns = []
    if columns is not None:
        output = tensor("columns", "rows", len(columns.centre))
        of_columns = [_graph("columns", vae, columns, [inputs], [output])]
    return [
        *of_columns,
        _graph("encode", vae, lambda v, x: v.encode(nearest(x)), [inputs], posterior),
        _graph("decode", vae, lambda v, z: likelihood.mean(v.decode(z)), [latents], [samples]),
        _graph("draw", vae, lambda v, z, u: likelihood.draw(v.decode(z), u), [latents, uniforms], [samples]),
        _graph(
            "score",
            vae,
            lambda v, x, eps: tuple(score_terms(v, nearest(x), eps)),
            [inputs, eps],
            [*terms, tensor("kl", "rows")],
        ),
        _graph("statistics", vae, lambda v, x: statistics(v, nearest(x)), [inputs], [scores]),
        _graph("map", vae, lambda v, x: surprise_map(v, nearest(x)), [inputs], [tensor("map", *items)]),
    ]


def _graph(
    name: GraphName,
    model: Vae | Gan,
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Graph:
    """Make the graph of a function of the model and of tensors; with a class condition, labels come last."""
    if not model.classes:
        return Graph(name, GraphModule(model, partial(function, model)), tuple(inputs), tuple(outputs))
    labels = tensor("labels", "rows", model.classes)

    def of_classes(*tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        *values, classes = tensors
        return function(model.given(classes), *values)

    return Graph(name, GraphModule(model, of_classes), (*inputs, labels), tuple(outputs))
