"""The graphs of each kind of model: operations on its tensors, with their names and shapes.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from service.format.specs import GraphName, TensorSpec
from training.anomaly.columns import ColumnSurprises
from training.anomaly.statistics import VaeStatistics, surprise_map
from training.export.graphs import Graph, GraphModule
from training.export.sessions import tensor
from training.metrics.platt import Platt
from training.models.conditions import Model
from training.models.gan import STATISTICS, Gan
from training.models.likelihoods import nearest_levels
from training.models.vae import Vae, score_terms


def gan_graphs(gan: Gan, item_shape: tuple[int, ...], platt: Platt | None) -> list[Graph]:
    """Return a GAN's graphs; an encoder and a calibrated discriminator have graphs too.

    With a class condition they take labels as well.
    """
    inputs, samples = tensor("inputs", "rows", *item_shape), tensor("samples", "rows", *item_shape)
    latents, labels = tensor("latents", "rows", gan.latent), _labels(gan.classes)

    def decode(latents: Tensor, *labels: Tensor) -> Tensor:
        return _given(gan, labels).decode(latents)

    graphs = [Graph("decode", GraphModule(gan, decode), (latents, *labels), (samples,))]
    if gan.encoder is not None:
        given = (inputs, *labels)
        of_items: list[tuple[GraphName, Callable[..., Tensor], TensorSpec]] = [
            ("encode", lambda x, *y: _given(gan, y).encode(x), tensor("mean", "rows", gan.latent)),
            (
                "statistics",
                lambda x, *y: _given(gan, y).statistics(x),
                tensor("statistics", "rows", len(STATISTICS)),
            ),
            ("map", lambda x, *y: _given(gan, y).residual_map(x), tensor("map", "rows", *item_shape)),
        ]
        graphs += [Graph(name, GraphModule(gan, each), given, (output,)) for name, each, output in of_items]
    if platt is not None:
        logit = tensor("logit", "rows")

        def judged(items: Tensor, *labels: Tensor) -> Tensor:
            return platt(_given(gan, labels).discriminate(items))

        def generate_scored(latents: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:
            generated = decode(latents, *labels)
            return generated, judged(generated, *labels)

        module = GraphModule(gan, generate_scored)
        graphs += [
            Graph("discriminate", GraphModule(gan, judged), (inputs, *labels), (logit,)),
            Graph("generate_scored", module, (latents, *labels), (samples, logit), judged),
        ]
    return graphs


def vae_graphs(
    vae: Vae, item_shape: tuple[int, ...], statistics: VaeStatistics, columns: ColumnSurprises | None = None
) -> list[Graph]:
    """Return the six graphs of a VAE, and for a table that of its columns.

    With a class condition all of them take labels as well, and compute p(x | class) in the place of p(x).
    """
    items, labels = ("rows", *item_shape), _labels(vae.classes)
    latents = tensor("latents", "rows", vae.latent)
    samples, inputs, per_draw = tensor("samples", *items), tensor("inputs", *items), ("rows", "draws")
    nearest = nearest_levels if vae.likelihood.support == "eight_bit" else nn.Identity()
    of_columns = []
    if columns is not None:
        output = tensor("columns", "rows", len(columns.centre))
        module = GraphModule(vae, lambda x, *y: columns(_given(vae, y), x))
        of_columns = [Graph("columns", module, (inputs, *labels), (output,))]
    return [
        *of_columns,
        Graph(
            "encode",
            GraphModule(vae, lambda x, *y: _given(vae, y).encode(nearest(x))),
            (inputs, *labels),
            (tensor("mean", "rows", vae.latent), tensor("log_variance", "rows", vae.latent)),
        ),
        Graph(
            "decode",
            GraphModule(vae, lambda z, *y: vae.likelihood.mean(_given(vae, y).decode(z))),
            (latents, *labels),
            (samples,),
        ),
        Graph(
            "draw",
            GraphModule(vae, lambda z, u, *y: vae.likelihood.draw(_given(vae, y).decode(z), u)),
            (latents, tensor("uniforms", *items), *labels),
            (samples,),
        ),
        Graph(
            "score",
            GraphModule(vae, lambda x, eps, *y: tuple(score_terms(_given(vae, y), nearest(x), eps))),
            (inputs, tensor("eps", *per_draw, vae.latent), *labels),
            (
                tensor("log_likelihood", *per_draw),
                tensor("log_prior", *per_draw),
                tensor("log_posterior", *per_draw),
                tensor("kl", "rows"),
            ),
        ),
        Graph(
            "statistics",
            GraphModule(vae, lambda x, *y: statistics(_given(vae, y), nearest(x))),
            (inputs, *labels),
            (tensor("statistics", "rows", len(statistics.names)),),
        ),
        Graph(
            "map",
            GraphModule(vae, lambda x, *y: surprise_map(_given(vae, y), nearest(x))),
            (inputs, *labels),
            (tensor("map", *items),),
        ),
    ]


def _given(model: Model, labels: tuple[Tensor, ...]) -> Model:
    """Return the model of rows of those classes, if the graph takes any."""
    return model.given(*labels) if labels else model


def _labels(classes: int) -> tuple[TensorSpec, ...]:
    return (tensor("labels", "rows", classes),) if classes else ()
