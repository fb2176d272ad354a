"""Several pictures in one request: as a form, as a zip, and by the client as paths of files."""

import io
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from pushforward import Client
from service.errors import Unfit
from tests.serving import as_npy, as_picture, npy

MODEL = "/v1/models/fashion-vae"
NAMES = ["left.png", "right.jpg", "same.png", "same.png"]


@pytest.fixture(scope="module")
def files() -> list[tuple[str, bytes]]:
    random = np.random.default_rng(3)
    made = []
    for name in NAMES:
        picture = Image.fromarray(random.integers(0, 256, (28, 28), np.uint8))
        made.append((name, as_picture(picture, "JPEG" if name.endswith("jpg") else "PNG")))
    return made


@pytest.fixture(scope="module")
def rows(files: list[tuple[str, bytes]]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(data)))[None] for _, data in files])


def zipped(files: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, (name, data) in enumerate(files):
            archive.writestr(f"{number}/{name}", data)
    return file.getvalue()


def post_form(
    client: httpx.Client, path: str, files: list[tuple[str, bytes]], **headers: str
) -> httpx.Response:
    return client.post(f"{MODEL}/{path}", files=[("file", file) for file in files], headers=headers)


def post_zip(client: httpx.Client, path: str, body: bytes) -> httpx.Response:
    return client.post(f"{MODEL}/{path}", content=body, headers={"content-type": "application/zip"})


def test_several_pictures_are_answered_as_their_array_is_with_the_names_of_their_files(
    client: httpx.Client, files: list[tuple[str, bytes]], rows: np.ndarray
) -> None:
    for path in ("score?seed=7", "encode", "reconstruct"):
        array = client.post(
            f"{MODEL}/{path}", content=as_npy(rows), headers={"content-type": "application/x-npy"}
        ).json()
        numbered = [f"{number}/{name}" for number, name in enumerate(NAMES)]
        answers = [(NAMES, post_form(client, path, files)), (numbered, post_zip(client, path, zipped(files)))]
        for names, answer in answers:
            assert answer.status_code == 200, answer.text
            document = answer.json()
            if "scores" in document:
                assert [score.pop("id") for score in document["scores"]] == names
            else:
                assert document.pop("ids") == names
            assert document == array


def test_csv_has_the_names_of_the_files_and_other_answers_are_those_of_an_array(
    client: httpx.Client, files: list[tuple[str, bytes]]
) -> None:
    lines = post_form(client, "score", files, accept="text/csv").text.splitlines()
    assert lines[0].startswith("file,p_value,anomaly")
    assert [line.partition(",")[0] for line in lines[1:]] == NAMES
    assert npy(post_form(client, "reconstruct", files, accept="application/x-npy")).shape == (4, 1, 28, 28)
    assert post_form(client, "reconstruct", files, accept="image/png").content.startswith(b"\x89PNG")


def test_all_files_that_are_not_taken_are_named_at_once(
    client: httpx.Client, files: list[tuple[str, bytes]]
) -> None:
    small = as_picture(Image.new("L", (5, 6)))
    bad = [*files, ("small.png", small), ("notes.txt", b"no picture")]
    answer = post_form(client, "score", bad)
    assert answer.status_code == 422
    flaws = answer.json()["errors"]
    assert [flaw["row"] for flaw in flaws] == [5]  # by its header; then the others
    answer = post_form(client, "score", [*bad[:-1], ("tall.png", small)])
    flaws = answer.json()["errors"]
    assert [(flaw["row"], flaw["message"].partition(":")[0]) for flaw in flaws] == [
        (4, "small.png"),
        (5, "tall.png"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/fashion-vae/score", b"PK\3\4", 400),
        ("/v1/models/fashion-vae/decode", b"PK\3\4", 415),
        ("/v1/models/breast-cancer-vae/score", b"PK\3\4", 415),
    ],
)
def test_what_is_no_zip_or_goes_to_a_model_of_no_pictures_is_refused(
    client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/zip"})
    assert answer.status_code == status, answer.text


def test_the_client_takes_paths_and_its_scores_have_them_as_ids(
    client: httpx.Client, tmp_path: Path, files: list[tuple[str, bytes]], rows: np.ndarray
) -> None:
    paths = [tmp_path / f"{number}-{name}" for number, (name, _) in enumerate(files)]
    for path, (_, data) in zip(paths, files, strict=True):
        path.write_bytes(data)
    with Client(str(client.base_url)) as calling:
        scores = calling.score("fashion-vae", paths, seed=7)
        np.testing.assert_array_equal(scores.surprise, calling.score("fashion-vae", rows, seed=7).surprise)
        assert scores.ids is not None
        assert scores.ids.tolist() == [str(path) for path in paths]
        one = calling.encode("fashion-vae", str(paths[1]))
        np.testing.assert_array_equal(one.mean, calling.encode("fashion-vae", rows[1]).mean)
        with pytest.raises(Unfit, match=r"2 of 3 files are not taken: absent\.png: .*; other\.png: "):
            calling.score("fashion-vae", [paths[0], "absent.png", "other.png"])
