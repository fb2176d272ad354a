"""An answer that is a problem becomes the error that the service raised, and a wrong address is named."""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pushforward import AsyncClient, Client
from pushforward.client.npy import from_npy, to_npy
from pushforward.client.operations import Operations
from pushforward.client.problems import problem_of
from pushforward.client.sending import DEFAULT_POLICY, RetryPolicy, Sender
from pushforward.client.wire import HttpAnswer, Script
from pushforward.local import LocalModels
from service import errors
from service.api.problems import problem
from service.errors import Flaw, ServiceError
from tests import toy
from tests.pushforward.client.conftest import KEY
from tests.serving import RunningService

URL = "http://somewhere:8000"


def every_kind(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every_kind(child)


MORE: dict[type[ServiceError], dict[str, Any]] = {
    errors.OperationNotOffered: {"offered": ("sample", "decode")},
    errors.MethodNotAllowed: {"allowed": ("POST", "PUT")},
    errors.Overloaded: {"retry_after_seconds": 7},
}


@pytest.mark.parametrize("kind", [*every_kind()], ids=lambda kind: kind.code)
def test_every_error_of_the_service_comes_back_as_what_it_was(kind: type[ServiceError]) -> None:
    raised = kind("it does not fit", **MORE.get(kind, {}))
    raised.flaws = (Flaw("/inputs/3/0", "too large", 3), Flaw("/seed", "too small"))
    status, headers, body = problem(raised, "an-id")
    names = {name.decode(): value.decode() for name, value in headers} | {"x-request-id": "an-id"}
    error = problem_of(HttpAnswer(status, names, body), URL)
    assert type(error) is kind
    assert (str(error), error.flaws) == (str(raised), raised.flaws)
    for name in (*MORE.get(kind, {}), *(["retry_after_seconds"] if status == 503 else [])):
        assert getattr(error, name) == getattr(raised, name)
    assert error.__notes__ == [f"request an-id to {URL}"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.KeyMissing),
        (404, errors.UnknownRoute),
        (429, errors.Overloaded),
        (502, errors.Unavailable),
        (503, errors.Unavailable),
        (504, errors.DeadlineExceeded),
        (418, ServiceError),
    ],
)
def test_an_answer_of_something_else_on_the_way_is_an_error_by_its_status(
    status: int, kind: type[ServiceError]
) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"code": "of another service"},
        {"code": {"of": "another"}, "errors": ["in words"]},
        {"errors": None},
        {"detail": [{"loc": ["body"], "msg": "as FastAPI has it"}]},
    )
    for body in (b"<html>", b"[]", *(json.dumps(each).encode() for each in others)):
        error = problem_of(HttpAnswer(status, {}, body), URL)
        assert type(error) is kind
        assert str(error).startswith(
            f"{URL} answered with status {status}, and not in the words of Pushforward"
        )


def test_a_redirect_names_its_address() -> None:
    with pytest.raises(ServiceError, match="status 301 and the address https://there"):
        raise problem_of(HttpAnswer(301, {"location": "https://there"}), URL)


@pytest.mark.parametrize(
    ("kind", "body", "came"),
    [
        ("text/html", b"<html>", "text/html"),
        ("application/json", b'{"object": "list", "data": []}', "JSON of another kind"),
        ("application/json", b"[]", "JSON of another kind"),
    ],
)
def test_an_answer_of_another_service_asks_whether_the_address_is_right(
    kind: str, body: bytes, came: str
) -> None:
    operations = Operations(Sender(URL, None, None, DEFAULT_POLICY, time.monotonic, random.Random()))
    scripts: list[Script[Any]] = [operations.models(), operations.model("digits-vae", None)]
    for script in scripts:
        next(script)
        script.send(HttpAnswer(200, {"content-type": kind}))
        script.send(body)
        with pytest.raises(errors.Malformed, match=f"is {came}, not one of Pushforward; does the address"):
            script.send(b"")  # the end


def test_a_mistake_has_the_words_and_flaws_of_the_service(client: Client) -> None:
    with pytest.raises(errors.UnknownModel, match=r"there are: .*toy-vae"):
        client.sample("nothing")
    with pytest.raises(errors.UnknownVersion, match="it has: 2, 1, "):
        client.sample("toy-vae", version=7)
    with pytest.raises(errors.OperationNotOffered) as raised:
        client.discriminate("toy-vae", [[[0, 1], [1, 0]]])
    assert "sample" in raised.value.offered
    with pytest.raises(errors.Unfit) as unfit:
        client.score("toy-vae", [[[[0, 1], [1, 0]]], [[[0, 1], [1, 0.5]]]])
    assert [flaw.row for flaw in unfit.value.flaws] == [1]
    with pytest.raises(errors.Unfit, match="count"):
        client.sample("toy-vae", count=0)


@pytest.mark.parametrize(("bypassed", "is_told"), [("", True), ("127.0.0.1", False)])
def test_a_proxy_that_does_not_answer_is_told_of(
    monkeypatch: pytest.MonkeyPatch, bypassed: str, is_told: bool
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", bypassed)
    with (
        Client("http://127.0.0.1:9", timeout_seconds=1) as client,
        pytest.raises(errors.Unreachable) as raised,
    ):
        client.models()
    assert ("proxy of the environment, which NO_PROXY=127.0.0.1 leaves out" in str(raised.value)) is is_told
    assert "secret" not in str(raised.value)


WRONG_TYPES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda models: models.sample(""), "the model is '' (str); wanted its name"),
    (lambda models: models.encode(None, []), "the model is None (NoneType)"),
    (lambda models: models.score([], []), "the model is [] (list)"),
    (lambda models: models.model("toy-vae", version=[]), "the version is [] (list)"),
    (lambda models: models.sample("toy-vae", version=""), "the version is '' (str)"),
    (lambda models: models.sample("toy-vae", count="3"), "count"),
    (lambda models: models.sample("toy-vae", count=2.0), "count"),
    (lambda models: models.sample("toy-gan", method="rejection", budget="8"), "budget"),
    (lambda models: models.sample("toy-vae", seed=1, temperature="hot"), "temperature"),
    (lambda models: list(models.iter_samples("toy-vae", count=3, chunk_rows="2")), "chunk_rows"),
    (lambda models: list(models.iter_samples("toy-vae", count=3, chunk_rows=0)), "chunk_rows"),
    (lambda models: models.score("toy-vae", toy.items(1), draws="9", alpha="x"), "draws"),
    (lambda models: models.score("toy-vae", toy.items(1), correction=None), "correction"),
    (lambda models: models.score("toy-vae", toy.items(2), label={0, 1}), "{0, 1} (set); wanted a class"),
    (lambda models: models.interpolate("toy-vae", (1, 2), (2, 3), steps="x"), "steps"),
    (lambda models: models.interpolate("toy-vae", (1, 2), {"seed": object()}), ""),
]


@pytest.mark.parametrize("call", WRONG_TYPES, ids=lambda call: call[1])
def test_an_option_of_another_type_is_unfit_and_named_before_a_request_as_in_a_folder(
    call: tuple[Callable[[Any], Any], str], client: Client, few_models: Path
) -> None:
    with LocalModels(few_models) as local:
        for models in (client, local):
            with pytest.raises(errors.Unfit) as raised:
                call[0](models)
            assert call[1] in str(raised.value)


def test_every_option_of_another_type_is_named_with_what_came(client: Client) -> None:
    with pytest.raises(errors.Unfit) as raised:
        client.sample("toy-vae", count="3", seed=1.5, output=True)  # type: ignore[arg-type]
    assert str(raised.value) == (
        "the call: `count`: '3' (str) came; wanted a whole number; `seed`: 1.5 (float) came; wanted a whole "
        "number; `output`: True (bool) came; wanted text"
    )


def test_a_key_is_sent_that_is_given_or_in_the_environment(
    limited_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = limited_service.url
    with Client(url) as client, pytest.raises(errors.KeyMissing):
        client.models()
    with Client(url, key="wrong") as client, pytest.raises(errors.KeyUnknown):
        client.models()
    monkeypatch.setenv("PUSHFORWARD_KEY", KEY)
    monkeypatch.setenv("PUSHFORWARD_URL", url.removeprefix("http://") + "/")
    with Client() as client:
        assert client.url == url
        assert client.models()


def test_the_default_address_is_that_of_a_service_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUSHFORWARD_URL", raising=False)
    with Client() as client:
        assert client.url == "http://localhost:8000"


@pytest.mark.parametrize("url", ["ftp://there", "http://", "http://there?x=1"])
def test_an_address_that_is_none_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wanted one like http://localhost:8000"):
        Client(url)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e7])
def test_a_deadline_is_more_than_nothing_and_no_more_than_a_socket_takes(seconds: float) -> None:
    with pytest.raises(ValueError, match="wanted more than 0 and at most 1,000,000, or None"):
        Client(timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSL_CERT_FILE", "/nowhere.pem"), ("HTTP_PROXY", "ftp://there"), ("NO_PROXY", "[::1]")],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_variable_that_names_no_proxy_or_certificate_is_refused_as_one(
    name: str, value: str, kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="; this is of the environment: put right what HTTP_PROXY"):
        kind("http://localhost:8000")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_password_in_the_address_is_shown_nowhere(kind: type[Client | AsyncClient]) -> None:
    address = "http://anna:s3@cret@localhost:9"  # the port that discards, where nothing listens
    with pytest.raises(ValueError, match="wanted one like") as refused:
        kind(f"{address}?x=1")
    assert repr(kind(address)) == f"<{kind.__name__} of http://anna:...@localhost:9>"
    with (
        Client(address, policy=RetryPolicy(first_contact_retries=0)) as client,
        pytest.raises(errors.Unreachable) as unreached,
    ):
        client.models()
    assert "cret" not in f"{refused.value} {unreached.value}"


def test_the_longest_deadline_is_taken(service: RunningService) -> None:
    with Client(service.url, timeout_seconds=1e6) as client:
        assert client.models()


def test_a_key_is_taken_with_the_line_end_of_its_file_and_refused_where_no_header_holds_it(
    limited_service: RunningService,
) -> None:
    with Client(limited_service.url, key=f"{KEY}\n") as client:
        assert client.models()
    for key in ("schlüssel", "two\nlines"):
        with pytest.raises(ValueError, match="copy it anew") as raised:
            Client(limited_service.url, key=key)
        assert key not in str(raised.value)


@pytest.mark.parametrize("missing", [1, 16, 47, 48, 100, 170])
def test_an_npy_answer_without_its_last_bytes_is_an_error(missing: int) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(from_npy(to_npy(rows)), rows)
    with pytest.raises(errors.Malformed, match="cut short"):
        from_npy(to_npy(rows)[:-missing])
