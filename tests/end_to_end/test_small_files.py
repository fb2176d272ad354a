"""No small file, compressed or not, takes much memory or time: tables, arrays, pictures, forms and zips.

The bodies of JSON are in `test_small_bodies`.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.conftest import REPOSITORY
from tests.damage import change_manifest
from tests.end_to_end.costly_documents import GROWING as JSON_GROWING
from tests.end_to_end.costly_documents import OPERATIONS
from tests.end_to_end.costly_documents import PLAIN as JSON_PLAIN
from tests.end_to_end.costs import MOST_CPU_SECONDS, MOST_MEMORY_BYTES, SMALL_BYTES, TRIES, costs, slowness
from tests.end_to_end.watched_service import HoldFile
from tests.serving import RunningService, as_npy
from tests.toy import publish_toy
from tests.toy_table import publish_table

pytestmark = pytest.mark.living  # runs alone, since it measures times

MOST_HELD_SECONDS = 0.05
"""The promised limit on how long the event loop is held."""
MOST_ANSWER_SECONDS = 10.0
"""The most CPU time in which 16 384 rows are computed and written."""
ROWS = 16_384
LONG, DIGITS = "a" * 60_000, "1" * 60_000 + "x"
MANY = 8 * 10**6
TEXT, FIXED = pa.string(), pa.binary(len(LONG))
FIELDS = b"('a','<f4',(9,9)),"
PARAMETERS = b"\r\nContent-Disposition: f" + b";a*0*=b" * 550
TABLE, PICTURE, FITTED = "toy-table", "fashion-vae", "fitted-vae"
CSV, PARQUET, JSON = "text/csv", "application/vnd.apache.parquet", "application/json"
NPY, FORM, ZIP = "application/x-npy", "multipart/form-data; boundary=b", "application/zip"
OPTIONS = ("use_dictionary", "column_encoding", "row_group_size")
"""The options of pyarrow's `write_table` among those of a case."""
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n\r\n'


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HoldFile:
    return HoldFile(tmp_path_factory.mktemp("watch") / "held")


@pytest.fixture(scope="module")
def files_service(tmp_path_factory: pytest.TempPathFactory, held: HoldFile) -> Iterator[RunningService]:
    """A service of a table, of pictures of one size and of any; every reader has been used once."""
    models = tmp_path_factory.mktemp("files")
    publish_table(models)
    (models / PICTURE).symlink_to(REPOSITORY / "models" / PICTURE)
    form = {"fit": "stretch", "background": [0, 0, 0], "binary": True}
    change_manifest(publish_toy(models, FITTED), lambda manifest: manifest.update(picture=form))
    service = RunningService(models, program=("-m", "tests.end_to_end.watched_service", str(held.path)))
    try:
        service.wait_until_ready()
        for model, kind, body in (
            (TABLE, CSV, b"height,colour\n170,red\n"),
            (TABLE, PARQUET, as_parquet(pa.table({"height": [170.0], "colour": ["red"]}))),
            *((FITTED, f"image/{kind.lower()}", saved(2, kind)) for kind in ("PNG", "JPEG", "WEBP", "TIFF")),
        ):
            answer = post(service, model, kind, body)
            assert answer.status_code == 200, answer.text
        yield service
    finally:
        service.stop()


def post(service: RunningService, model: str, kind: str, body: bytes, **headers: str) -> httpx.Response:
    path = f"/v1/models/{model}/encode"
    return service.client.post(path, content=body, headers={"content-type": kind} | headers)


def as_parquet(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    whole = {"row_group_size": 2**30, "data_page_size": 2**30, "write_batch_size": 2**30}
    options = {"store_schema": False} | whole | options
    parquet.write_table(table, file, compression="zstd", **options)
    return file.getvalue()


def parquet_of(height: object = None, colour: object = None, **more: object) -> bytes:
    """A table of the model's columns, and of others."""
    columns = {
        "height": np.full(ROWS, 170.0) if height is None else height,
        "colour": pa.array(["red"] * ROWS) if colour is None else colour,
    }
    columns |= {name: values for name, values in more.items() if name not in OPTIONS}
    options = {name: value for name, value in more.items() if name in OPTIONS}
    return as_parquet(pa.table(columns), **options)


def long_texts(kind: pa.DataType) -> pa.Array:
    """The same long text in each row: a gigabyte."""
    return pa.array([LONG.encode()] * ROWS, kind)


def as_deltas(name: str) -> bytes:
    """A table with a long text in each row of a column, which has no length of its own."""
    columns = {"height": np.zeros(1_000), "colour": ["red"] * 1_000, name: [LONG] * 1_000}
    return parquet_of(**columns, use_dictionary=False, column_encoding={name: "DELTA_BYTE_ARRAY"})


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number >= 0x80 else bytes([number])


def deep_parquet(depth: int) -> bytes:
    """A Parquet of no rows whose only column lies in so many groups, in Thrift's compact protocol."""
    root, leaf = b"\x48\x01a\x15\x02\0", b"\x15\x0a\x25\0\x18\x01a\0"
    schema = root + b"\x35\0\x18\x01a\x15\x02\0" * depth + leaf
    footer = b"\x15\x02\x19\xfc" + varint(depth + 2) + schema + b"\x16\0\x19\x0c\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def with_pandas_metadata(text: bytes) -> bytes:
    table = pa.table({"height": [170.0], "colour": ["red"]})
    return as_parquet(table.replace_schema_metadata({b"pandas": text}), store_schema=True)


def saved(side: int, kind: str, mode: str = "L") -> bytes:
    file = io.BytesIO()
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    Image.new(mode, (side, side)).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(name: bytes, start: bytes, size: int, count: int) -> bytes:
    """A PNG with compressed chunks before its pixels."""
    plain = saved(28, "PNG")
    extra = chunk(name, start + zlib.compress(bytes(size), 9)) * count
    return plain[:33] + extra + plain[33:]


def zip_of(count: int, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", data)
    return file.getvalue()


def npy_header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


BODIES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "csv: many columns": (TABLE, CSV, lambda: b"," * 64_000 + b"\n"),
    "csv: many names": (TABLE, CSV, lambda: b",".join(b"%x" % number for number in range(12_000))),
    "csv: a long name": (TABLE, CSV, lambda: LONG.encode() + b",height\n1,2\n"),
    "csv: a long value": (TABLE, CSV, lambda: b"height,colour\n170," + LONG.encode()),
    "csv: a quote left open": (TABLE, CSV, lambda: b'height,colour\n170,"' + b"a\n" * 30_000),
    "csv: quotes": (TABLE, CSV, lambda: b"height,colour\n170," + b'"' * 60_000),
    "csv: digits before a letter": (TABLE, CSV, lambda: b"height,colour\n%b,red\n" % DIGITS.encode()),
    "csv: an exponent": (TABLE, CSV, lambda: b"height,colour\n1e" + b"9" * 60_000 + b",red\n"),
    "csv: empty lines": (TABLE, CSV, lambda: b"\n" * 64_000),
    "csv: bare returns": (TABLE, CSV, lambda: b"height,colour\r" + b"\r" * 60_000),
    "csv: one column": (TABLE, CSV, lambda: b"height\n" + b"1\n" * 30_000),
    "csv: rows without end": (TABLE, CSV, lambda: b"height,colour\n" + b"1,red\n" * 10_000),
    "csv: separators of all kinds": (TABLE, CSV, lambda: b",;\t|" * 16_000),
    "parquet: one large page": (
        TABLE, PARQUET, lambda: parquet_of(np.zeros(MANY), pa.nulls(MANY, TEXT), use_dictionary=False),
    ),
    "parquet: long text for all rows": (TABLE, PARQUET, lambda: parquet_of(colour=long_texts(TEXT))),
    "parquet: long text of an unread column": (TABLE, PARQUET, lambda: parquet_of(notes=long_texts(TEXT))),
    "parquet: long text as deltas": (TABLE, PARQUET, lambda: as_deltas("colour")),
    "parquet: long text as deltas, unread": (TABLE, PARQUET, lambda: as_deltas("notes")),
    "parquet: a long list": (TABLE, PARQUET, lambda: parquet_of(pa.array([np.zeros(MANY)]), ["red"])),
    "parquet: a long list, unread": (
        TABLE, PARQUET, lambda: parquet_of([170.0], ["red"], notes=pa.array([np.zeros(MANY)])),
    ),
    "parquet: values of fixed length": (TABLE, PARQUET, lambda: parquet_of(colour=long_texts(FIXED))),
    "parquet: values of fixed length, unread": (TABLE, PARQUET, lambda: parquet_of(notes=long_texts(FIXED))),
    "parquet: many columns": (
        TABLE, PARQUET, lambda: parquet_of([170.0], ["red"], **{f"{place:x}": [1.0] for place in range(200)}),
    ),
    "parquet: depth": (TABLE, PARQUET, lambda: deep_parquet(8_000)),
    "parquet: much about pandas": (
        TABLE, PARQUET, lambda: with_pandas_metadata(b"[" + b"[]," * 8_000 + b"1]"),
    ),
    "parquet: depth about pandas": (TABLE, PARQUET, lambda: with_pandas_metadata(b"[" * 24_000)),
    "records: other names in each": (
        TABLE,
        JSON,
        lambda: json.dumps(
            {"records": [{f"{row * 9 + place:x}": 1 for place in range(9)} for row in range(500)]}
        ).encode(),
    ),
    "records: a long name": (TABLE, JSON, lambda: json.dumps({"records": [{LONG: 1}]}).encode()),
    "records: digits before a letter": (
        TABLE, JSON, lambda: json.dumps({"records": [{"height": DIGITS, "colour": "red"}]}).encode(),
    ),
    "records: digits as a category": (
        TABLE, JSON, lambda: json.dumps({"records": [{"height": 1, "colour": DIGITS}]}).encode(),
    ),
    "records: short texts": (TABLE, JSON, lambda: b'{"records":[{' + b'"":"",' * 10_000 + b"}]}"),
    "npy: depth": (PICTURE, NPY, lambda: npy_header(b"{'descr': " + b"(" * 9_000)),
    "npy: signs": (PICTURE, NPY, lambda: npy_header(b"{'descr': " + b"-" * 9_000 + b"1}")),
    "npy: digits": (PICTURE, NPY, lambda: npy_header(b"{'shape': " + b"9" * 9_000 + b"}")),
    "npy: fields": (
        PICTURE,
        NPY,
        lambda: npy_header(b"{'descr':[" + FIELDS * 400 + b"],'fortran_order':False,'shape':()}"),
    ),
    "png: texts": (PICTURE, "image/png", lambda: png_with(b"zTXt", b"a\0\0", 10**6, 60)),
    "png: international texts": (PICTURE, "image/png", lambda: png_with(b"iTXt", b"a\0\1\0\0\0", 10**6, 60)),
    "png: profiles": (PICTURE, "image/png", lambda: png_with(b"iCCP", b"a\0\0", 10**6, 60)),
    "png: empty chunks": (PICTURE, "image/png", lambda: png_with(b"teXt", b"", 0, 3_000)),
    **{
        f"{kind.lower()}: pixels of mode {mode}": (
            FITTED, f"image/{kind.lower()}", partial(saved, 2_500, kind, mode)
        )
        for kind, mode in (("PNG", "P"), ("PNG", "LA"), ("TIFF", "I;16"), ("WEBP", "RGBA"))
    },
    "tiff: tags without end": (
        FITTED,
        "image/tiff",
        lambda: b"II*\0\x08\0\0\0\xff\xff" + b"".join(
            struct.pack("<HHII", number, 1, 2**31, 8) for number in range(5_000)
        ),
    ),
    "zip: files that grow": (FITTED, ZIP, lambda: zip_of(5, saved(3_000, "BMP"))),
    "zip: many files": (FITTED, ZIP, lambda: zip_of(500, b"a")),
    "form: many files": (FITTED, FORM, lambda: (FORM_HEAD + b"a\r\n") * 800 + b"--b--"),
    "form: delimiters": (FITTED, FORM, lambda: b"--b\r\n" * 12_000),
    "form: parameters": (
        FITTED, FORM, lambda: (b"--b" + PARAMETERS + b"\r\n\r\n") * 16 + b"--b--",
    ),
}  # fmt: skip
"""Small bodies: the model, the media type, and the maker of each."""
READ = {
    "csv: rows without end",
    "parquet: long text of an unread column",
    "parquet: long text as deltas, unread",
    "parquet: a long list, unread",
    "parquet: values of fixed length, unread",
    "parquet: much about pandas",
    "parquet: depth about pandas",
    "png: profiles",
    "png: empty chunks",
}
"""The files that are read; all others are refused."""
GROWING: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "csv: many columns": (TABLE, CSV, lambda: b"," * 2_400_000),
    "csv: many names": (TABLE, CSV, lambda: b"ab," * 800_000),
    "csv: a long value": (TABLE, CSV, lambda: b'height,colour\n170,"' + b"a" * 2_400_000 + b'"\n'),
    "csv: a wide value": (TABLE, CSV, lambda: 'height,colour\n170,"\U0001f600'.encode() + b"a" * 2_400_000),
    "csv: a quote left open": (TABLE, CSV, lambda: b'height,colour\n170,"' + b"a\n" * 1_200_000),
    "csv: empty lines": (TABLE, CSV, lambda: b"height,colour\n" + b"\n" * 2_400_000),
    "csv: UTF-16": (TABLE, CSV, lambda: ("height,colour\n" + "a" * 1_200_000).encode("utf-16")),
    "records: other names in each": (
        TABLE,
        JSON,
        lambda: json.dumps(
            {"records": [{f"{row * 20 + place:x}": 1 for place in range(20)} for row in range(1_000)]}
        ).encode(),
    ),
    "records: short texts": (TABLE, JSON, lambda: b'{"records":[{' + b'"":"",' * 50_000 + b"}]}"),
    "records: not closed": (PICTURE, JSON, lambda: b'{"records":[{' + b'"":"",' * 600_000),
    "parquet: row groups": (
        TABLE,
        PARQUET,
        lambda: parquet_of(np.zeros(2_000), ["red"] * 2_000, row_group_size=1),
    ),
    "parquet: depth": (TABLE, PARQUET, lambda: deep_parquet(400_000)),
    "parquet: much about pandas": (
        TABLE,
        PARQUET,
        lambda: with_pandas_metadata(b"[" + b"[]," * 500_000 + b"1]"),
    ),
}
"""Bodies that are small as gzip, and refused."""


ROWS_OF_ZEROS = as_npy(np.zeros((ROWS, 1, 2, 2), np.uint8))
LARGE: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "scores": ("score", "application/json", lambda: ROWS_OF_ZEROS),
    "scores as csv": ("score", CSV, lambda: ROWS_OF_ZEROS),
    "codes as csv": ("encode", CSV, lambda: ROWS_OF_ZEROS),
    "samples": ("sample", "application/json", lambda: b'{"count":4096,"seed":1}'),
    "samples as csv": ("sample", CSV, lambda: b'{"count":4096,"seed":1}'),
    "samples as png": ("sample", "image/png", lambda: b'{"count":4096,"seed":1}'),
}
"""Small bodies with large answers: the operation, the media type of the answer, and the maker of each."""


def costs_little(
    service: RunningService,
    held: HoldFile,
    send: Callable[[], httpx.Response],
    most_cpu_seconds: float = MOST_CPU_SECONDS,
) -> httpx.Response:
    """Return the answer to a request that took little memory and time, and did not hold the loop."""
    answers: list[httpx.Response] = []
    for _ in range(TRIES):
        held.seconds = 0
        memory, seconds = costs(service, lambda: answers.append(send()))
        assert service.client.get("/healthz").status_code == 200  # the loop has had its turn since
        assert memory < MOST_MEMORY_BYTES
        slow = slowness()
        if seconds < most_cpu_seconds * slow and held.seconds < MOST_HELD_SECONDS * slow:
            break
    assert seconds < most_cpu_seconds * slow
    assert held.seconds < MOST_HELD_SECONDS * slow
    return answers[0]


@pytest.mark.parametrize("name", BODIES)
def test_a_small_file_is_read_or_refused_for_little(
    files_service: RunningService, held: HoldFile, name: str
) -> None:
    model, kind, make = BODIES[name]
    body = make()
    assert len(body) <= SMALL_BYTES
    send = partial(post, files_service, model, kind, body)
    answer = costs_little(files_service, held, send)
    assert answer.status_code == 200 if name in READ else 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("name", GROWING)
def test_a_small_file_that_grows_is_refused_for_little(
    files_service: RunningService, held: HoldFile, name: str
) -> None:
    model, kind, make = GROWING[name]
    body = gzip.compress(make(), 9)
    assert len(body) <= SMALL_BYTES
    send = partial(post, files_service, model, kind, body, **{"content-encoding": "gzip"})
    answer = costs_little(files_service, held, send)
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("name", JSON_GROWING)
def test_a_small_document_of_v2_that_grows_does_not_hold_the_loop(
    files_service: RunningService, held: HoldFile, name: str
) -> None:
    body, headers = gzip.compress(JSON_GROWING[name], 6), {"content-encoding": "gzip"}
    path = f"/v2/models/{PICTURE}.encode/infer"
    send = partial(files_service.client.post, path, content=body, headers=headers)
    assert 400 <= costs_little(files_service, held, send).status_code < 500


@pytest.mark.parametrize("name", JSON_PLAIN)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_small_document_of_v1_does_not_hold_the_loop(
    files_service: RunningService, held: HoldFile, operation: str, name: str
) -> None:
    path = f"/v1/models/{PICTURE}/{operation}"
    send = partial(files_service.client.post, path, content=JSON_PLAIN[name])
    assert 400 <= costs_little(files_service, held, send).status_code < 500


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/v1/models", "/metrics", "/v2"])
def test_no_page_holds_the_loop(files_service: RunningService, held: HoldFile, path: str) -> None:
    answer = costs_little(files_service, held, partial(files_service.client.get, path))
    assert answer.status_code == 200


@pytest.mark.parametrize("accept", [JSON, NPY, CSV, "image/png"])
@pytest.mark.parametrize("count", [64, 4096])
def test_pictures_of_many_values_do_not_hold_the_loop(
    files_service: RunningService, held: HoldFile, accept: str, count: int
) -> None:
    request, headers = {"count": count, "seed": 1}, {"accept": accept}
    path = f"/v1/models/{PICTURE}/sample"
    for _ in range(TRIES):
        held.seconds = 0
        assert files_service.client.post(path, json=request, headers=headers).status_code == 200
        assert files_service.client.get("/healthz").status_code == 200
        most_seconds = MOST_HELD_SECONDS * slowness()
        if held.seconds < most_seconds:
            break
    assert held.seconds < most_seconds


@pytest.mark.parametrize("name", LARGE)
def test_a_large_answer_to_a_small_body_is_written_in_pieces(
    files_service: RunningService, held: HoldFile, name: str
) -> None:
    operation, accept, make = LARGE[name]
    body = make()
    headers = {"accept": accept, "content-type": NPY if body is ROWS_OF_ZEROS else JSON}
    if body is ROWS_OF_ZEROS:
        body, headers = gzip.compress(body), headers | {"content-encoding": "gzip"}
    path = f"/v1/models/{FITTED}/{operation}"
    send = partial(files_service.client.post, path, content=body, headers=headers)
    assert costs_little(files_service, held, send, MOST_ANSWER_SECONDS).status_code == 200
