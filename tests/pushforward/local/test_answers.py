"""Versions in this process answer as the service does, bit for bit, and refuse what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pyarrow import parquet

from pushforward.client import Client
from pushforward.local import LocalModels
from pushforward.local import model as local_model
from service.errors import (
    LimitExceeded,
    OperationNotOffered,
    ServiceError,
    Unfit,
    UnknownModel,
    UnknownVersion,
)
from tests import toy, toy_table
from tests.pushforward.client.equality import assert_equal
from tests.toy_conditional import CLASSES

Backend = Client | LocalModels
few = settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**53 - 1)
counts = st.integers(1, 40)
IMAGE = "digits-vae"


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 8, 8), np.float32)


def assert_same_answer(local: Backend, remote: Backend, operation: str, *given: Any, **options: Any) -> None:
    assert_equal(getattr(local, operation)(*given, **options), getattr(remote, operation)(*given, **options))


@few
@given(
    model=st.sampled_from([IMAGE, "toy-vae", "mixture-vae", "toy-table", "toy-gan"]),
    seed=seeds,
    count=counts,
    offset=st.integers(0, 2**40),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2]),
)
def test_samples_are_those_of_the_service(
    local: LocalModels, remote: Client, model: str, seed: int, count: int, offset: int, temperature: float
) -> None:
    options: dict[str, Any] = {"seed": seed, "count": count, "offset": offset, "temperature": temperature}
    assert_same_answer(local, remote, "sample", model, **options)


@few
@given(seed=seeds, count=counts, method=st.sampled_from(["rejection", "resample", "metropolis"]))
def test_samples_chosen_by_a_discriminator_are_those_of_the_service(
    local: LocalModels, remote: Client, seed: int, count: int, method: str
) -> None:
    options: dict[str, Any] = {"seed": seed, "count": count, "method": method, "budget": 5}
    assert_same_answer(local, remote, "sample", "toy-gan", **options)


@few
@given(seed=seeds, count=counts)
def test_draws_from_the_likelihood_are_those_of_the_service(
    local: LocalModels, remote: Client, seed: int, count: int
) -> None:
    options: dict[str, Any] = {"seed": seed, "count": count, "output": "draw"}
    assert_same_answer(local, remote, "sample", "toy-table", **options)


@few
@given(count=counts, seed=st.integers(0, 99))
def test_encodings_reconstructions_and_maps_are_those_of_the_service(
    local: LocalModels, remote: Client, count: int, seed: int
) -> None:
    inputs = images(count, seed)
    assert_same_answer(local, remote, "encode", IMAGE, inputs)
    assert_same_answer(local, remote, "reconstruct", IMAGE, inputs)
    assert_same_answer(local, remote, "surprise_map", IMAGE, inputs)
    latents = local.encode(IMAGE, inputs).mean
    assert_same_answer(local, remote, "decode", IMAGE, latents)


@few
@given(
    count=counts,
    seed=st.integers(0, 99),
    options=st.sampled_from(
        [
            {},
            {"statistic": "path"},
            {"statistic": "elbo", "draws": 3, "seed": 5},
            {"draws": 1},
            {"draws": 70, "statistic": "importance_bound"},
            {"alpha": 0.2, "correction": "benjamini-hochberg"},
        ]
    ),
)
def test_scores_are_those_of_the_service(
    local: LocalModels, remote: Client, count: int, seed: int, options: dict[str, Any]
) -> None:
    inputs = images(count, seed)
    assert_same_answer(local, remote, "score", IMAGE, inputs, **options)


@few
@given(count=counts, seed=st.integers(0, 99), model=st.sampled_from(["toy-gan", "packed-gan"]))
def test_judgements_are_those_of_the_service(
    local: LocalModels, remote: Client, count: int, seed: int, model: str
) -> None:
    inputs = local.sample(model, count=count, seed=seed)
    assert_same_answer(local, remote, "discriminate", model, inputs)


ends = st.one_of(
    st.tuples(seeds, st.integers(0, 99)),
    st.builds(lambda seed: {"seed": seed}, seeds),
    arrays(np.float32, (10,), elements=st.floats(-3, 3, width=32)),
    st.builds(lambda latent: {"latent": latent}, arrays(np.float64, (10,), elements=st.floats(-3, 3))),
    st.builds(lambda seed: images(1, seed)[0], st.integers(0, 99)),
)


@settings(few, max_examples=12)
@given(start=ends, end=ends, steps=st.integers(2, 9), path=st.sampled_from([None, "spherical", "linear"]))
def test_paths_are_those_of_the_service(
    local: LocalModels, remote: Client, start: Any, end: Any, steps: int, path: str | None
) -> None:
    assert_same_answer(local, remote, "interpolate", IMAGE, start, end, steps=steps, path=path)


def test_the_catalogue_and_the_manifests_are_those_of_the_service(local: LocalModels, remote: Client) -> None:
    assert_equal(local.models(), remote.models())
    for version in (None, 1, "1", 2, "champion", "challenger"):
        theirs = remote.model("toy-vae", version=version)
        for of_the_service in ("limits", "calibration_quantiles"):  # for requests, and for the page
            del theirs[of_the_service]
        assert_equal(local.model("toy-vae", version=version), theirs)


REFUSED: list[tuple[type[ServiceError], Callable[[Backend], Any]]] = [
    (UnknownModel, lambda backend: backend.sample("no-vae")),
    (UnknownVersion, lambda backend: backend.sample("toy-vae", version=3)),
    (UnknownVersion, lambda backend: backend.sample("toy-vae", version="loser")),
    (OperationNotOffered, lambda backend: backend.discriminate("toy-vae", toy.items(1))),
    (OperationNotOffered, lambda backend: backend.sample("toy-vae", method="rejection")),
    (OperationNotOffered, lambda backend: backend.sample("toy-gan", output="draw")),
    (Unfit, lambda backend: backend.score(IMAGE, images(2, 0) * 2)),
    (Unfit, lambda backend: backend.score("toy-table", np.ones((3, 4)))),
    (Unfit, lambda backend: backend.score(IMAGE, images(2, 0), statistic="f_anogan")),
    (Unfit, lambda backend: backend.decode(IMAGE, np.full((2, 10), np.nan))),
    (Unfit, lambda backend: backend.sample("toy-gan", method="rejection", temperature=0.5)),
    (Unfit, lambda backend: backend.sample("toy-vae", count=2, offset=2**53 - 1)),
    (LimitExceeded, lambda backend: backend.score(IMAGE, images(1, 0), alpha=1e-9)),
    (LimitExceeded, lambda backend: backend.interpolate(IMAGE, (1, 0), (2, 0), steps=5_000)),
]


@pytest.mark.parametrize(("kind", "ask"), REFUSED)
def test_what_the_service_refuses_is_refused_in_the_same_words(
    local: LocalModels, remote: Client, kind: type[ServiceError], ask: Callable[[Backend], Any]
) -> None:
    raised = []
    for backend in (local, remote):
        with pytest.raises(kind) as caught:
            ask(backend)
        raised.append((type(caught.value), caught.value.detail, caught.value.flaws))
    assert raised[0] == raised[1]


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0},
        {"seed": -1},
        {"seed": 2**53},
        {"offset": 0.5},
        {"temperature": 11.0},
        {"method": "guessing"},
        {"output": "median"},
    ],
)
def test_options_out_of_range_are_refused_by_name(local: LocalModels, options: dict[str, Any]) -> None:
    with pytest.raises(Unfit) as caught:
        local.iter_samples("toy-vae", **{"count": 1, **options})
    assert [flaw.pointer for flaw in caught.value.flaws] == [f"/{name}" for name in options]


record = st.fixed_dictionaries(
    {
        "height": st.floats(100, 250),
        "colour": st.sampled_from(["red", "green", "blue"]),
        "id": st.integers(0, 2**31),
    }
)
records = st.lists(record, min_size=1, max_size=20)
TABLES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "records": lambda rows: rows,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "an Arrow table": pyarrow.Table.from_pylist,
}


def csv_of(rows: Sequence[Any]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(str(row[name]) for name in rows[0]) for row in rows)]
    return "\n".join(lines).encode()


FILES: dict[str, Callable[[Path, Sequence[Any]], Any]] = {
    "rows.csv": lambda path, rows: path.write_bytes(csv_of(rows)),
    "rows.csv.gz": lambda path, rows: path.write_bytes(gzip.compress(csv_of(rows))),
    "rows.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "rows.parquet": lambda path, rows: parquet.write_table(pyarrow.Table.from_pylist(rows), path),
}


@few
@given(rows=records, form=st.sampled_from([*TABLES]), name=st.sampled_from(["id", None]))
def test_tables_and_their_ids_are_answered_as_by_the_service(
    local: LocalModels, remote: Client, rows: Sequence[Any], form: str, name: str | None
) -> None:
    table = TABLES[form](rows)
    assert_same_answer(local, remote, "score", "toy-table", table, id=name)
    assert_same_answer(local, remote, "encode", "toy-table", table, id=name)
    assert_same_answer(local, remote, "reconstruct", "toy-table", table)
    assert_same_answer(local, remote, "read", "toy-table", table)
    assert (name is None) == (remote.encode("toy-table", table, id=name).ids is None)


@few
@given(rows=records)
def test_files_of_a_table_are_read_by_the_service_as_in_this_process(
    local: LocalModels, remote: Client, tmp_path: Path, rows: Sequence[Any]
) -> None:
    expected = remote.read("toy-table", rows)
    for name, write in FILES.items():
        write(tmp_path / name, rows)
        for backend in (local, remote):
            assert_equal(backend.read("toy-table", tmp_path / name, id="id"), expected)


@few
@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(8), st.just(8))),
    form=st.sampled_from([".png", ".bmp", ".tiff", ".webp", "PIL", "npy", "array"]),
)
def test_pictures_are_answered_as_by_the_service(
    local: LocalModels, remote: Client, tmp_path: Path, pixels: np.ndarray, form: str
) -> None:
    pictures = [Image.fromarray(each) for each in pixels]
    np.save(tmp_path / "pixels.npy", pixels)
    inputs: Any = {"PIL": pictures, "npy": tmp_path / "pixels.npy", "array": pixels}.get(form)
    if inputs is None:
        inputs = [tmp_path / f"{number}{form}" for number in range(len(pixels))]
        for path, picture in zip(inputs, pictures, strict=True):
            picture.save(path, lossless=True)
        assert_same_answer(local, remote, "read", IMAGE, inputs[0])
    if form == "npy":
        assert_same_answer(local, remote, "read", IMAGE, inputs)
        return
    for operation in ("score", "encode", "reconstruct", "surprise_map", "read"):
        assert_same_answer(local, remote, operation, IMAGE, inputs)


@few
@given(data=st.data(), count=st.integers(1, 20), seed=seeds)
def test_answers_of_a_class_are_those_of_the_service(
    local: LocalModels, remote: Client, data: st.DataObject, count: int, seed: int
) -> None:
    one = st.sampled_from([*CLASSES, *range(len(CLASSES))])
    label = data.draw(one)
    labels = data.draw(st.one_of(one, st.lists(one, min_size=count, max_size=count)))
    options: dict[str, Any] = {"seed": seed, "count": count, "label": label}
    for model in ("classes-vae", "classes-gan"):
        assert_same_answer(local, remote, "sample", model, **options)
    path: Any = ((seed, 0), (seed, 1))
    assert_same_answer(local, remote, "interpolate", "classes-vae", *path, label=label)
    items, points = toy.items(count), local.sample("classes-gan", **options)
    for operation in ("score", "encode", "reconstruct"):
        assert_same_answer(local, remote, operation, "classes-vae", items, label=labels)
    for operation in ("decode", "discriminate"):
        assert_same_answer(local, remote, operation, "classes-gan", points, label=labels)


def test_many_rows_in_pieces_have_the_scores_of_one_piece(
    local: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = toy_table.items(50)
    whole = local.score("toy-table", inputs)
    monkeypatch.setattr(local_model, "_CHUNK_COST", 56)
    assert_equal(local.score("toy-table", inputs), whole)


@few
@given(count=st.integers(1, 30), rows=st.integers(1, 40), method=st.sampled_from(["direct", "rejection"]))
def test_chunks_of_samples_are_the_samples(local: LocalModels, count: int, rows: int, method: str) -> None:
    options: dict[str, Any] = {"seed": 3, "offset": 11, "method": method}
    chunks = list(local.iter_samples("toy-gan", count=count, chunk_rows=rows, **options))
    assert max(map(len, chunks)) <= rows
    assert_equal(np.concatenate(chunks), local.sample("toy-gan", count=count, **options))


def test_samples_without_a_seed_differ_from_call_to_call(local: LocalModels) -> None:
    assert not np.array_equal(local.sample("toy-vae"), local.sample("toy-vae"))
