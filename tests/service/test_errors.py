from collections.abc import Iterator

import orjson

from service import errors
from service.api.problems import problem, status_of
from service.errors import Flaw, ServiceError


def _tree(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def test_every_error_owns_its_code() -> None:
    codes = [kind.code for kind in _tree()]
    assert len(codes) == len(set(codes))


def test_every_error_is_in_the_drawing_at_the_top_of_its_module() -> None:
    assert errors.__doc__
    for kind in _tree():
        assert kind.__name__ in errors.__doc__


def test_every_error_has_a_status_of_its_kind() -> None:
    statuses = {kind: status_of(kind.__new__(kind)) for kind in _tree()}
    assert statuses[errors.OperationNotOffered] == statuses[errors.UnknownModel] == 404
    assert statuses[errors.LimitExceeded] == 422
    assert statuses[errors.Draining] == statuses[errors.Loading] == 503
    assert set(statuses.values()) <= {400, 401, 403, 404, 405, 406, 413, 415, 422, 429, 500, 503, 504}


def test_an_unforeseen_error_tells_the_client_nothing_of_itself() -> None:
    status, _, body = problem(RuntimeError("/secret/path"), "abc")
    assert status == 500
    assert b"secret" not in body
    assert orjson.loads(body)["request_id"] == "abc"


def test_a_problem_names_each_flaw_and_its_row() -> None:
    _, headers, body = problem(errors.Unfit("no", flaws=(Flaw("/inputs/3", "too large", 3),)), "abc")
    assert (b"content-type", b"application/problem+json") in headers
    assert orjson.loads(body)["errors"] == [{"pointer": "/inputs/3", "row": 3, "message": "too large"}]


def test_waiting_errors_say_when_to_come_back() -> None:
    for error in (errors.Overloaded("full"), errors.Draining("bye"), errors.Loading("soon")):
        assert (b"retry-after", b"1") in problem(error, "abc")[1]
