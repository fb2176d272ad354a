"""A picture that a model was trained on scores as it is: by the command, the client, and as a body."""

import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from pushforward import Client
from pushforward.files import ItemLayout, read_inputs
from service.format.versions import read_manifest
from tests.serving import as_npy, as_picture, running_service
from tests.training.data.own_data import load
from tests.training.data.picture_files import FILES, write_files
from tests.training.publishing import publish_recipe
from training.data import SPLITS, Items, Split
from training.data.listing import list_pictures
from training.data.options import DataOptions
from training.recipe import parse_recipe

SIZE = [10, 12]
FORMS = [
    {"fit": "stretch", "channels": 3},
    {"fit": "crop"},
    {"fit": "stretch", "channels": 1, "binarise": "threshold"},
]


def options_of(folder: Path, form: dict[str, object]) -> dict[str, object]:
    return {"path": str(folder), "size": SIZE, "background": [255, 128, 0], **form}


def rows_of_files(options: DataOptions, items: Mapping[Split, Items]) -> dict[str, Items]:
    """The row that training read from each file, by its name."""
    listing = list_pictures(options.own_path)
    split, _ = listing.split(options)
    return {
        listing.names[number]: items[part][place]
        for part in SPLITS
        for place, number in enumerate(split.rows[part])
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_file_is_read_alike_in_training_and_by_the_command(
    tmp_path: Path, form: dict[str, object]
) -> None:
    folder = write_files(tmp_path / "pictures")
    given = options_of(folder, form)
    dataset = load("images", folder, **{name: given[name] for name in given if name != "path"})
    rows = rows_of_files(DataOptions.model_validate({"dataset": "images", **given}), dataset.items)
    assert dataset.picture is not None
    layout = ItemLayout(dataset.item_shape, picture=dataset.picture.model_dump())
    for name in FILES:
        read = read_inputs([str(folder / name)], layout).rows
        np.testing.assert_array_equal(read[0], rows[name], name)
    assert len({row.tobytes() for row in rows.values()}) == len(FILES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    recipe = {
        "name": "shapes",
        "data": {"dataset": "images", **options_of(write_files(folder / "pictures"), {"fit": "crop"})},
        "network": {"kind": "dense", "latent": 2, "hidden": [16]},
        "vae": {"likelihood": "discretised-logistic"},
        "loop": {"steps": 20, "batch_rows": 16, "validate_every": 20},
        "calibration": {"statistic": "elbo", "alpha": 0.2},
    }
    publish_recipe(folder, parse_recipe(recipe))
    return folder


@pytest.fixture(scope="module")
def client(trained: Path) -> Iterator[httpx.Client]:
    with running_service(trained / "models", "--max-picture-pixels", "2000") as service:
        yield service.client


def post(client: httpx.Client, operation: str, body: bytes, kind: str) -> httpx.Response:
    answer = client.post(f"/v1/models/shapes/{operation}", content=body, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.exports
def test_the_bytes_of_every_kind_of_file_score_as_the_row_that_training_read(
    client: httpx.Client, trained: Path
) -> None:
    recipe = read_manifest(trained / "models/shapes/1").provenance.recipe
    options = DataOptions.model_validate(recipe["data"])
    given = options.model_dump(exclude={"dataset", "path"}, exclude_defaults=True)
    dataset = load("images", options.own_path, **given)
    rows = rows_of_files(options, dataset.items)
    for name in FILES:
        body, (kind, _) = (options.own_path / name).read_bytes(), mimetypes.guess_type(name.lower())
        assert kind is not None
        npy = as_npy(rows[name][None])
        for operation in ("score", "encode", "reconstruct"):
            of_file = post(client, operation, body, kind).json()
            (done,) = of_file.pop("conversions")
            assert of_file == post(client, operation, npy, "application/x-npy").json(), name
            assert any("12 x 10 pixels" in phrase for phrase in done), name
    with Client(str(client.base_url)) as calling:
        with Image.open(options.own_path / "turned.jpg") as picture:
            scores = calling.score("shapes", picture)
        assert scores.surprise[0] == calling.score("shapes", rows["turned.jpg"]).surprise[0]


@pytest.mark.exports
def test_an_answer_tells_what_was_done_to_a_picture_and_the_version_describes_it(
    client: httpx.Client,
) -> None:
    described = client.get("/v1/models/shapes").json()["picture"]
    assert described == {"fit": "crop", "background": [255, 128, 0], "binary": False}
    picture = Image.new("RGBA", (12, 10), (1, 2, 3, 4))
    answer = post(client, "score", as_picture(picture), "image/png")
    assert answer.json()["conversions"] == [["put on a background of the colour [255, 128, 0]"]]
    assert answer.headers["x-pushforward-conversions"] == "put on a background of the colour [255, 128, 0]"


@pytest.mark.exports
def test_a_picture_of_too_many_pixels_is_refused_before_they_are_decoded(client: httpx.Client) -> None:
    body, headers = as_picture(Image.new("L", (50, 41))), {"content-type": "image/png"}
    answer = client.post("/v1/models/shapes/score", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "limit_exceeded")
    assert "2050 pixels, at most 2000" in answer.json()["detail"]
