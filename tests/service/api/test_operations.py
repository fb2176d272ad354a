"""The tables of operations agree: what graphs offer is what both protocols serve."""

from service.api.open_inference.signatures import SIGNATURES
from service.api.v1.handler import OPERATIONS
from service.api.v1.request import from_query
from service.api.v1.sample import SampleRequest
from service.format.manifest import OPERATIONS_BY_GRAPHS


def test_graphs_offer_the_operations_that_are_served_and_no_others() -> None:
    assert {name for name, _ in OPERATIONS_BY_GRAPHS} == OPERATIONS.keys()


def test_the_open_inference_protocol_serves_every_operation_but_paths_and_reading_alone() -> None:
    assert OPERATIONS.keys() - SIGNATURES.keys() == {"interpolate", "read"}
    assert SIGNATURES.keys() <= OPERATIONS.keys()


def test_a_class_in_a_query_is_named_as_it_stands_there() -> None:
    assert from_query(SampleRequest, b"label=1_0").label == "1_0"
    assert from_query(SampleRequest, b"labels=1_0,3,cat").labels == ["1_0", "3", "cat"]
