"""Every likelihood and every prior as graphs: they keep the rules, and compute what torch computes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from service.format.specs import TensorSpec
from tests.training.models.likelihood_cases import NAMES, dataset_for, tiny_vae
from training.anomaly.kernel import fit_kernel_density
from training.anomaly.statistics import fit_statistics
from training.data import Dataset
from training.export.graphs import Graph, GraphModule, export_graph
from training.export.operations import vae_graphs
from training.export.parity import Exported, measure_parity
from training.export.sessions import PARITY_TOLERANCE, open_session
from training.models.vae import Vae

PRIORS = {"bernoulli": "standard-normal", "continuous-bernoulli": "mixture"}
ENDS = (2.0**-24, 0.5, 1 - 2.0**-24)
"""Uniforms where a logarithm is at its largest, and in the middle."""


def joined(vae: Vae, dataset: Dataset) -> Graph:
    """All graphs but `encode` as one: the exporter takes seconds for each."""
    kernel = None if dataset.scaling is None else fit_kernel_density(dataset, 0)
    statistics = fit_statistics(vae, torch.from_numpy(dataset.items["validation"]), kernel)
    graphs = {graph.name: graph for graph in vae_graphs(vae, dataset.item_shape, statistics)}
    decode, draw, score = graphs["decode"], graphs["draw"], graphs["score"]
    of_items = (graphs["statistics"], graphs["map"])

    def everything(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        latents, uniforms, items, eps = tensors
        scores = (graph.module(items) for graph in of_items)
        return (decode.module(latents), draw.module(latents, uniforms), *score.module(items, eps), *scores)

    means = TensorSpec(name="means", shape=decode.outputs[0].shape)
    outputs = (means, *draw.outputs, *score.outputs, *(spec for graph in of_items for spec in graph.outputs))
    return Graph("draw", GraphModule(vae, everything), (*draw.inputs, *score.inputs), outputs)


def run_at(
    one: Exported, uniform: float, items: npt.NDArray[np.float32], size: float
) -> dict[str, npt.NDArray[np.float32]]:
    """Return outputs by name at latents that are `size` standard deviations out in every direction."""
    corners = np.stack(np.meshgrid(*[(-size, 0.0, size)] * 3), -1).reshape(-1, 3).astype(np.float32)
    rows = items[: len(corners)]
    outputs = one.run([corners, np.full(rows.shape, uniform, np.float32), rows, corners[:, None]])
    return {spec.name: array for spec, array in zip(one.graph.outputs, outputs, strict=True)}


@pytest.mark.exports
@pytest.mark.parametrize(("likelihood", "prior"), [(name, PRIORS.get(name, "vamp")) for name in NAMES])
def test_likelihoods_and_priors_export_and_stay_finite_far_out(
    likelihood: str, prior: str, tmp_path: Path
) -> None:
    dataset = dataset_for(likelihood)
    vae = tiny_vae(likelihood, prior)
    graph = joined(vae, dataset)
    # refuses a graph that breaks a rule, and a row whose result depends on the others
    export_graph(graph, tmp_path / "joined.onnx")
    one = Exported(graph, open_session(tmp_path / "joined.onnx"))
    assert measure_parity(one, dataset).largest_error <= PARITY_TOLERANCE
    for uniform in ENDS:
        for size in (1.0, 30.0, 1000.0):
            outputs = run_at(one, uniform, dataset.items["test"], size)
            assert all(np.isfinite(array).all() for array in outputs.values())
            vae.likelihood.check_support(torch.from_numpy(outputs["samples"]))
            means = outputs["means"]
            assert likelihood == "gaussian" or (means.min() >= 0 and means.max() <= 1)
