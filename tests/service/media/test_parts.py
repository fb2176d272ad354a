"""Several files in one body."""

import contextlib
import io
import zipfile

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import LimitExceeded, Malformed, ServiceError, Unfit
from service.media.parts import files_of_form, files_of_zip

FILES = {"a.png": b"\r\n--x\r\n\0", 'b c;".png': b"", "tiles/é.png": b"-" * 1000, "d.png": b"\r\n"}


def as_form(files: dict[str, bytes]) -> tuple[bytes, str]:
    """A form as httpx, whose code is not ours, makes it."""
    sent = [("file", (name, data, "image/png")) for name, data in files.items()]
    request = httpx.Request("POST", "http://localhost", files=sent)
    return request.read(), request.headers["content-type"]


def as_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_the_files_of_a_form_come_back_in_its_order_and_byte_for_byte() -> None:
    body, content_type = as_form(FILES)
    assert dict(files_of_form(body, content_type, len(FILES))) == {
        name.replace('"', "%22"): data for name, data in FILES.items()
    }
    with pytest.raises(LimitExceeded, match="more than 3 files"):
        files_of_form(body, content_type, 3)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_form_that_is_cut_or_changed_is_read_or_refused_never_a_crash(noise: bytes, place: int) -> None:
    body, content_type = as_form(FILES)
    for other in (noise, body[:place], body[:place] + noise + body[place:]):
        with contextlib.suppress(ServiceError):
            assert files_of_form(other, content_type, 9)
    with pytest.raises(Malformed):
        files_of_form(body[:-10], content_type, 9)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"--x--\r\n", Unfit),
        (b'--x\r\ncontent-disposition: form-data; name="seed"\r\n\r\n7\r\n--x--\r\n', Unfit),
        (b'--x\r\ncontent-disposition: form-data; filename="\xff"\r\n\r\n7\r\n--x--\r\n', Malformed),
        (b'--x\r\ncontent-disposition: form-data; filename="a\x07b"\r\n\r\n7\r\n--x--\r\n', Unfit),
        (b"--x\r\ncontent-disposition: form-data; filename*=u\0tf8''a\r\n\r\n7\r\n--x--\r\n", Malformed),
        (b"--x\r\n" + b"a: b\r\n" * 1000 + b"\r\n7\r\n--x--\r\n", Malformed),
        (b"--y\r\n\r\n7\r\n--y--\r\n", Malformed),
    ],
)
def test_a_form_without_files_or_with_bad_headers_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        files_of_form(body, "multipart/form-data; boundary=x", 9)
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=" + "x" * 71):
        with pytest.raises(Malformed, match="boundary"):
            files_of_form(body, content_type, 9)


def test_the_files_of_a_zip_come_back_without_folders_and_what_macos_adds() -> None:
    added = {"tiles/": b"", "__MACOSX/._a.png": b"?", "tiles/.DS_Store": b"?"}
    body = as_zip({**added, **FILES})
    assert dict(files_of_zip(body, len(FILES), 2_000)) == FILES
    with pytest.raises(LimitExceeded, match="4 files came, at most 3"):
        files_of_zip(body, 3, 2_000)
    with pytest.raises(LimitExceeded, match="at most 1000"):
        files_of_zip(body, 9, 1_000)
    with pytest.raises(Unfit, match="no files"):
        files_of_zip(as_zip(added), 9, 2_000)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_zip_that_is_cut_or_changed_is_read_or_refused_never_a_crash(noise: bytes, place: int) -> None:
    body = as_zip(FILES)
    for other in (
        noise,
        body[:place],
        body[:place] + noise + body[place:],
        body[:place] + b"?" + body[place:],
    ):
        with contextlib.suppress(ServiceError):
            assert files_of_zip(other, 9, 10_000)


def test_zips_that_grow_or_have_endless_entries_or_another_method_are_refused_unread() -> None:
    bomb = as_zip({"bomb.png": bytes(10_000_000)})
    assert len(bomb) < 20_000
    with pytest.raises(LimitExceeded, match="10000000 bytes"):
        files_of_zip(bomb, 9, 1_000_000)
    liar = bomb.replace((10_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    with pytest.raises(Malformed):  # what it gives beyond its word is not read
        files_of_zip(liar, 9, 1_000_000)
    with pytest.raises(LimitExceeded, match="more than 9 files"):
        files_of_zip(as_zip({f"{number}.png": b"" for number in range(2_000)}), 9, 1_000_000)
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(Malformed, match="deflate"):
            files_of_zip(as_zip(FILES, method), 9, 1_000_000)


def test_an_entry_without_a_name_is_no_file() -> None:
    nameless = as_zip({"a": b"1", "b": b"2"}).replace(b"a", b"\0")  # the name ends there
    assert [file.name for file in files_of_zip(nameless, 9, 99)] == ["b"]


@pytest.mark.parametrize(
    ("disposition", "boundary"),
    [("filename*=a; filename*0=b", "boundary=x"), ("filename=b", "boundary*=x; boundary*0=x")],
)
def test_parameters_in_parts_that_do_not_fit_are_read_or_refused_never_a_crash(
    disposition: str, boundary: str
) -> None:
    """Python's parser of headers fails on them up to 3.13.0, and later takes the part that has a number."""
    body = f"--x\r\ncontent-disposition: form-data; {disposition}\r\n\r\n7\r\n--x--\r\n".encode()
    with contextlib.suppress(Malformed):
        assert files_of_form(body, f"multipart/form-data; {boundary}", 9) == [("b", b"7")]
