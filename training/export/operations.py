"""The graphs of each kind of model: operations on its tensors, with their names and shapes.

Shapes: B rows (free, the axis "rows"), K draws (free, "draws"), D latent dimensions; items (B, *item).
"""

from __future__ import annotations

from torch import Tensor, nn

from service.format.manifest import TensorSpec
from training.anomaly.columns import ColumnSurprises
from training.anomaly.statistics import VaeStatistics, surprise_map
from training.export.graphs import Graph, GraphModule
from training.metrics.platt import Platt
from training.models.gan import STATISTICS, Gan
from training.models.likelihoods import nearest_levels
from training.models.vae import Vae, score_terms


def gan_graphs(gan: Gan, item_shape: tuple[int, ...], platt: Platt | None) -> list[Graph]:
    """Return a GAN's graphs; an encoder and a calibrated discriminator have graphs too."""
    inputs, samples = _spec("inputs", "rows", *item_shape), _spec("samples", "rows", *item_shape)
    latents = _spec("latents", "rows", gan.latent)
    graphs = [Graph("decode", GraphModule(gan, gan.decode), (latents,), (samples,))]
    if gan.encoder is not None:
        columns = _spec("statistics", "rows", len(STATISTICS))
        graphs += [
            Graph("encode", GraphModule(gan, gan.encode), (inputs,), (_spec("mean", "rows", gan.latent),)),
            Graph("statistics", GraphModule(gan, gan.statistics), (inputs,), (columns,)),
            Graph("map", GraphModule(gan, gan.residual_map), (inputs,), (_spec("map", "rows", *item_shape),)),
        ]
    if platt is not None:
        logit = _spec("logit", "rows")

        def judged(items: Tensor) -> Tensor:
            return platt(gan.discriminate(items))

        def generate_scored(latents: Tensor) -> tuple[Tensor, Tensor]:
            generated = gan.decode(latents)
            return generated, judged(generated)

        graphs += [
            Graph("discriminate", GraphModule(gan, judged), (inputs,), (logit,)),
            Graph("generate_scored", GraphModule(gan, generate_scored), (latents,), (samples, logit), judged),
        ]
    return graphs


def vae_graphs(
    vae: Vae, item_shape: tuple[int, ...], statistics: VaeStatistics, columns: ColumnSurprises | None = None
) -> list[Graph]:
    """Return the six graphs of a VAE, and for a table that of its columns."""
    items = ("rows", *item_shape)
    latents = _spec("latents", "rows", vae.latent)
    samples, inputs, per_draw = _spec("samples", *items), _spec("inputs", *items), ("rows", "draws")
    nearest = nearest_levels if vae.likelihood.support == "eight_bit" else nn.Identity()
    of_columns = []
    if columns is not None:
        output = _spec("columns", "rows", len(columns.centre))
        of_columns = [Graph("columns", GraphModule(vae, lambda x: columns(vae, x)), (inputs,), (output,))]
    return [
        *of_columns,
        Graph(
            "encode",
            GraphModule(vae, lambda x: vae.encode(nearest(x))),
            (inputs,),
            (_spec("mean", "rows", vae.latent), _spec("log_variance", "rows", vae.latent)),
        ),
        Graph(
            "decode", GraphModule(vae, lambda z: vae.likelihood.mean(vae.decode(z))), (latents,), (samples,)
        ),
        Graph(
            "draw",
            GraphModule(vae, lambda z, u: vae.likelihood.draw(vae.decode(z), u)),
            (latents, _spec("uniforms", *items)),
            (samples,),
        ),
        Graph(
            "score",
            GraphModule(vae, lambda x, eps: tuple(score_terms(vae, nearest(x), eps))),
            (inputs, _spec("eps", *per_draw, vae.latent)),
            (
                _spec("log_likelihood", *per_draw),
                _spec("log_prior", *per_draw),
                _spec("log_posterior", *per_draw),
                _spec("kl", "rows"),
            ),
        ),
        Graph(
            "statistics",
            GraphModule(vae, lambda x: statistics(vae, nearest(x))),
            (inputs,),
            (_spec("statistics", "rows", len(statistics.names)),),
        ),
        Graph(
            "map",
            GraphModule(vae, lambda x: surprise_map(vae, nearest(x))),
            (inputs,),
            (_spec("map", *items),),
        ),
    ]


def _spec(name: str, *shape: object) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "shape": shape})
