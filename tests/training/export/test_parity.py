"""A graph that computes something else than its model, if only in some place of a batch, is refused."""

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.onnx_pb import NodeProto

from tests.training.models.likelihood_cases import dataset_for, tiny_vae
from training.export.graphs import Graph, GraphModule
from training.export.parity import Exported, measure_parity
from training.export.sessions import PARITY_TOLERANCE, ParityError, open_session, tensor

LATENT = 3
CONSTANTS = {"much": 3e-5, "little": 3e-7, "one": 1.0, "late": 60.0}
SMALL = [helper.make_node("Mul", ["change", "little"], ["more"])]
PLACES = [
    helper.make_node("ReduceMean", ["latents"], ["column"], axes=[1], keepdims=1),
    helper.make_node("Mul", ["column", "zero"], ["nothing"]),
    helper.make_node("Add", ["nothing", "one"], ["ones"]),
    helper.make_node("CumSum", ["ones", "axis"], ["place"]),
    helper.make_node("Greater", ["place", "late"], ["is_late"]),
    helper.make_node("Cast", ["is_late"], ["change"], to=TensorProto.FLOAT),
]


def exported(*nodes: NodeProto) -> Exported:
    """The hyperbolic tangent of latents, to which the graph, and not the model, adds what nodes make."""
    vae = tiny_vae("bernoulli", "standard-normal")
    inputs, outputs = (tensor("latents", "rows", LATENT),), (tensor("samples", "rows", LATENT),)
    constants = [
        numpy_helper.from_array(torch.tensor(value).numpy(), name)
        for name, value in (CONSTANTS | {"zero": 0.0}).items()
    ]
    made = helper.make_graph(
        [
            helper.make_node("Tanh", ["latents"], ["tangent"]),
            *nodes,
            helper.make_node("Add", ["tangent", "more"], ["samples"]),
        ],
        "decode",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["rows", LATENT])],
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["rows", LATENT])],
        [*constants, numpy_helper.from_array(torch.tensor(0).numpy(), "axis")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    graph = Graph("decode", GraphModule(vae, torch.tanh), inputs, outputs)
    return Exported(graph, open_session(model.SerializeToString()))


def test_a_graph_that_computes_what_its_model_does_is_taken() -> None:
    agreeing = exported(helper.make_node("Identity", ["zero"], ["more"]))
    parity = measure_parity(agreeing, dataset_for("bernoulli"))
    assert parity.largest_error <= parity.tolerance == PARITY_TOLERANCE


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Identity", ["much"], ["more"])], "ONNX Runtime and torch differ by [23]"),
        (
            [helper.make_node("ReduceMax", ["latents"], ["change"], axes=[0]), *SMALL],
            "depends on how many rows stand beside it",
        ),
        ([*PLACES, *SMALL], "depends on its place in the batch"),
    ],
    ids=["values", "rows", "places"],
)
def test_a_graph_is_refused_with_what_is_wrong(nodes: list[NodeProto], message: str) -> None:
    with pytest.raises(ParityError, match=message):
        measure_parity(exported(*nodes), dataset_for("bernoulli"))
